"""Delivery: whatever a stream does with what it is handed, each event is stored, or told of in a gap."""

import json

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from polybus_actors.publishing.delivery import ASK_INTERVAL_S, MOST_ASKED, Sampled
from polybus_actors.publishing.lane import SAME_S, Acked, Shipment
from polybus_actors.publishing.losses import Losses
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.events import LastTradePrice
from polybus_protocol.stream import Publication, Stream

TIMEOUT_S = 2.0

type Place = tuple[int, int]


def stream_of(number: int = 1) -> Stream:
    stream = Stream("market", "market", (f"0x{number}", str(number)))
    stream.begin(trade(), 1_000_000_000, None)
    return stream


def trade(size: int = 1) -> LastTradePrice:
    return LastTradePrice(market="0x1", asset="1", price="0.5", size=str(size), side="BUY")


def publications(stream: Stream, count: int, size: int = 0) -> list[Publication]:
    """Events of a stream, each of other content unless they have a size."""
    return [stream.publish(trade(size or stream.seq + 1), 1_000_000_000, "c#1") for _ in range(count)]


def ack(seq: int, **more: object) -> bytes:
    return json.dumps({"stream": "S", "seq": seq, **more}).encode()


NO_STREAM = b""
FULL = b'{"error": {"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}, "stream": "S", "seq": 0}'


def told(losses: Losses | None) -> list[tuple[Place, Place]]:
    """First and last place of what is announced."""
    return [] if losses is None else [(loss.first, loss.last) for _, loss in losses]


class Sampling:
    """A sampled family, and the stream that takes in what it is handed, or not."""

    def __init__(self, every: int = 3) -> None:
        self.recording = Sampled("market", TIMEOUT_S, every)
        self.recording.appear()
        self.stream = stream_of()
        self.stored = 0
        self.now = 0.0
        self._acks: dict[int, bytes] = {}

    def hands(self, count: int, *, is_stored: bool = True) -> list[int]:
        """Hand over so many events at once; the numbers of the acks that are asked for."""
        asked = []
        for publication in publications(self.stream, count):
            self.stored += is_stored
            if number := self.recording.hand(publication, self.now):
                asked.append(number)
                self._acks[number] = ack(self.stored)
        return asked

    def hears(self, number: int) -> None:
        self.recording.hear(number, self._acks[number])

    def reckons(self) -> list[tuple[Place, Place]]:
        return told(self.recording.reckon())


@pytest.fixture
def sampling() -> Sampling:
    return Sampling()


def test_one_in_n_asks(sampling: Sampling) -> None:
    """The first does, then every third; and after a quarter of a second the next one, so quiet streams always do."""
    assert len(sampling.hands(1)) == 1
    assert len(sampling.hands(6)) == 2
    assert len(sampling.hands(2)) == 0
    sampling.now += ASK_INTERVAL_S
    assert len(sampling.hands(1)) == 1
    assert sampling.recording.missed == 0


def test_acks_in_order_vouch_for_all(sampling: Sampling) -> None:
    """Nothing is in doubt where the stream grows by what it was handed, or by more."""
    for number in sampling.hands(10):
        sampling.hears(number)
    sampling.stored += 5  # somebody else's
    sampling.hears(sampling.hands(3)[-1])
    assert sampling.reckons() == []
    assert sampling.recording.acks == 5


def test_a_stream_that_grew_too_little(sampling: Sampling) -> None:
    """It acknowledges, but has left some out: all since the ack before are in doubt."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(2, is_stored=False)
    sampling.hears(sampling.hands(1)[0])
    assert [(first[1], last[1]) for first, last in sampling.reckons()] == [(2, 4)]


def test_an_ack_that_was_left_out(sampling: Sampling) -> None:
    """Where the stream has not grown by all since the ack before, any of that may be missing."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(3, is_stored=False)
    sampling.hears(sampling.hands(3)[0])
    assert [(first[1], last[1]) for first, last in sampling.reckons()] == [(2, 7)]


def test_an_ack_that_was_lost_on_its_way(sampling: Sampling) -> None:
    """Where the stream has grown by all that was handed over, nothing is in doubt."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(3)
    sampling.hears(sampling.hands(3)[0])
    assert sampling.reckons() == []


def test_a_batch_that_an_earlier_one_makes_up_for(sampling: Sampling) -> None:
    """What is stored of a batch whose ack is missing does not vouch for what is not stored of the next."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(2)
    sampling.hands(2, is_stored=False)
    sampling.hears(sampling.hands(2)[0])
    assert [(first[1], last[1]) for first, last in sampling.reckons()] == [(2, 7)]


def test_what_was_handed_over_in_silence_vouches_for_nothing(sampling: Sampling) -> None:
    """The first ack after a silence may be followed by what makes the stream grow, and is told of already."""
    sampling.hears(sampling.hands(1)[0])
    sampling.recording.nap(0)
    sampling.hands(3)
    sampling.recording.nap(TIMEOUT_S + 1)
    asked = sampling.hands(12)
    for number in asked[:1]:
        sampling.hears(number)
    told = sampling.reckons()
    # The next one asks at once, and vouches for itself.
    fresh = sampling.hands(1)
    assert len(fresh) == 1
    for number in asked[1:]:
        sampling.hears(number)
    sampling.hears(fresh[0])
    sampling.hands(2, is_stored=False)
    sampling.hears(sampling.hands(1)[0])
    assert [(first[1], last[1]) for first, last in told] == [(2, 16)]
    assert [(first[1], last[1]) for first, last in sampling.reckons()] == [(18, 20)]


@pytest.mark.parametrize("how", ["silence", "refusal", "no stream", "deleted"])
def test_a_stream_that_stops_storing(sampling: Sampling, how: str) -> None:
    """What it lacks is one range, told once it stores again, not before; someone is called to look at it."""
    doubts = []
    sampling.recording.on_doubt = lambda: doubts.append(1)
    sampling.hears(sampling.hands(1)[0])
    (number,) = sampling.hands(3, is_stored=False)
    match how:
        case "silence":
            sampling.recording.nap(TIMEOUT_S / 2)
            assert sampling.recording.reason is None
            sampling.recording.nap(TIMEOUT_S)
            assert sampling.recording.reason == "no ack for 2 s"
        case "refusal":
            sampling.recording.hear(number, FULL)
            assert sampling.recording.reason == "maximum bytes exceeded"
        case "no stream":
            sampling.recording.hear(number, NO_STREAM)
        case _:
            sampling.recording.vanish("it does not exist")
    assert doubts == ([] if how == "deleted" else [1])
    sampling.hands(100, is_stored=False)
    assert sampling.recording.missed == 103
    assert sampling.reckons() == []

    sampling.recording.appear()
    sampling.now += ASK_INTERVAL_S
    for number in sampling.hands(1):
        sampling.hears(number)
    ((first, last),) = sampling.reckons()
    assert (first[1], last[1]) in {(2, 104), (2, 105)}
    assert sampling.reckons() == []


def test_a_stream_that_lags_is_not_waited_for_without_end(sampling: Sampling) -> None:
    """What acks are owed for is bounded: beyond that the stream counts as silent, and only ranges are remembered."""
    sampling.hands(3 * (MOST_ASKED + 2))
    assert sampling.recording.reason == "it lags behind"
    assert sampling.recording.missed >= 3 * MOST_ASKED


def test_a_break_loses_what_no_ack_has_vouched_for(sampling: Sampling) -> None:
    """The bus tells of it as of all that it lost; afterwards the numbers of the stream are not compared."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(3, is_stored=False)
    assert [publication.seq for publication in sampling.recording.break_off()] == [2, 3, 4]
    sampling.hears(sampling.hands(3)[0])
    assert sampling.reckons() == []


def test_a_break_loses_what_nobody_has_asked_for_lately(sampling: Sampling) -> None:
    """The server may have taken it in and not stored it; the last words of a stream that is quiet by now are stored."""
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(2, is_stored=False)
    sampling.recording.nap(TIMEOUT_S)
    assert [publication.seq for publication in sampling.recording.break_off()] == [2, 3]
    sampling.hears(sampling.hands(1)[0])
    sampling.hands(2)
    sampling.recording.nap(ASK_INTERVAL_S)
    sampling.recording.nap(TIMEOUT_S + 0.1)
    assert sampling.recording.break_off() == []


# --- acked -----------------------------------------------------------------------------------------


def lane() -> Acked:
    made = Acked("market", TIMEOUT_S)
    made.appear()
    return made


def test_ids_are_of_the_content() -> None:
    """The same words of the venue have the same id on any replica, be it the second time; others have another."""
    ours, theirs, again = lane(), lane(), lane()
    for which, stream in ((ours, stream_of()), (theirs, stream_of())):
        publications(stream, which is theirs, size=9)  # the other replica counts from elsewhere
        for publication in publications(stream, 2, size=5) + publications(stream, 1, size=6):
            which.put(publication)
    ids = [shipment.id for shipment in ours.due()]
    assert ids == [shipment.id for shipment in theirs.due()]
    assert len(set(ids)) == 3
    again.put(publications(stream_of(), 1, size=5)[0])
    again.nap(SAME_S + 1)
    again.put(publications(stream_of(), 1, size=5)[0])
    assert [shipment.id for shipment in again.due()] == [ids[0]] * 2


def test_silence_repeats_one_only() -> None:
    """While the stream says nothing, new events go out once and one is repeated; when it answers, all the rest."""
    one, stream = lane(), stream_of()
    for publication in publications(stream, 3):
        one.put(publication)
    first = one.due()
    one.nap(TIMEOUT_S + 1)
    assert one.reason is not None
    one.put(publications(stream, 1)[0])
    assert [shipment.publication.seq for shipment in one.due()] == [1, 4]
    assert one.due() == []
    one.hear(first[0].number, ack(1, duplicate=True))
    assert [shipment.publication.seq for shipment in one.due()] == [2, 3]
    assert (one.duplicates, one.repeated) == (1, 3)


def test_user_events_are_never_given_up() -> None:
    """A full outbox lets go of all others; of these it keeps what it has, and the brake is on until half is free."""
    one = lane()
    outbox = Outbox(5, 10**9, lanes={"user": one})
    kept, others = Stream("user", "user", ("a", "0x1")), stream_of()
    outbox.put([kept.publish(trade(n), 1, None) for n in range(3)])
    outbox.put(publications(others, 20))
    assert (len(one), outbox.dropped) == (3, 18)
    assert [stream.family for stream in outbox.losers()] == ["market"]
    assert outbox.brake.times == 0
    outbox.put([kept.publish(trade(n), 1, None) for n in range(3, 10)])
    assert (len(one), outbox.dropped, outbox.brake.times) == (10, 20, 1)
    assert [stream.family for stream in outbox.losers()] == ["market"]
    outbox.take(10)
    for place, shipment in enumerate(one.due(), 1):
        assert (shipment.publication.seq, outbox.brake.is_on) == (place, place <= 8)
        one.hear(shipment.number, ack(place))
        outbox.take(10)
    assert outbox.brake.times == 1


def test_what_belongs_in_a_lane_is_not_passed_on() -> None:
    """Even where the bus would take it at once: it stays until it is stored."""
    one = lane()
    outbox = Outbox(5, 10**9, lanes={"user": one})
    outbox.pass_on = lambda _publications: True
    outbox.put(
        [*publications(stream_of(), 2), Stream("user", "user", ("a", "0x1")).publish(trade(1), 1, None)]
    )
    assert (len(one), len(outbox.take(10))) == (1, 2)


class Lane(RuleBasedStateMachine):
    """Any order of putting, shipping, storing, acknowledging, silence and breaks."""

    @initialize()
    def begin(self) -> None:
        self.lane = lane()
        self.streams = [stream_of(number) for number in range(2)]
        self.put: list[tuple[Stream, Place]] = []
        self.handed: list[tuple[Stream, Place]] = []
        """What went out without a stream."""
        self.stored: dict[str, Publication] = {}
        self.acks: list[tuple[int, bytes]] = []
        self.covered: list[tuple[Stream, Place, Place]] = []
        self.is_up = True

    @rule(number=st.integers(0, 1), count=st.integers(1, 3))
    def puts(self, number: int, count: int) -> None:
        """Events come."""
        for publication in publications(self.streams[number], count):
            self.put.append((publication.stream, (publication.epoch, publication.seq)))
            self.lane.put(publication)

    @rule()
    def ships(self) -> None:
        """The bus turns over."""
        self._reckon()
        if self.lane.is_there:
            for shipment in self.lane.due():
                self._arrive(shipment)
        else:
            for publication in self.lane.drain():
                self.lane.hand(publication, 0.0)

    @rule(count=st.integers(1, 5))
    def acknowledges(self, count: int) -> None:
        """Acks arrive."""
        for number, data in self.acks[:count]:
            self.lane.hear(number, data)
        del self.acks[:count]

    @rule()
    def loses_acks(self) -> None:
        """They never do."""
        self.acks.clear()

    @rule(up=st.booleans())
    def turns(self, up: bool) -> None:
        """The stream stops storing, or goes on."""
        self.is_up = up

    @rule()
    def naps(self) -> None:
        """Time passes."""
        self.lane.nap(TIMEOUT_S * 0.6)

    @rule()
    def breaks(self) -> None:
        """The connection is lost."""
        self.acks.clear()
        assert self.lane.break_off() == []

    @rule(there=st.booleans())
    def is_looked_at(self, there: bool) -> None:
        """The stream is found, or not."""
        if there:
            self.lane.appear()
        else:
            self.is_up = False
            self.lane.vanish("it does not exist")

    def _arrive(self, shipment: Shipment) -> None:
        if self.is_up:
            duplicate = shipment.id in self.stored
            self.stored.setdefault(shipment.id, shipment.publication)
            # Of a duplicate the server tells where the first copy is.
            place = list(self.stored).index(shipment.id) + 1
            self.acks.append((shipment.number, ack(place, duplicate=duplicate)))

    def _reckon(self) -> None:
        for stream, loss in self.lane.reckon() or ():
            self.covered.append((stream, loss.first, loss.last))

    def teardown(self) -> None:
        """In the end each is stored or covered, and what was stored out of its order is covered."""
        if not hasattr(self, "lane"):
            return
        self.is_up = True
        self.lane.appear()
        for _ in range(12):
            self.ships()
            self.acknowledges(10**6)
            self.naps()
        self._reckon()
        assert len(self.lane) == 0
        assert self.lane.bytes == 0
        seen: dict[Stream, Place] = {}
        stored = set()
        for publication in self.stored.values():
            place = publication.epoch, publication.seq
            stored.add((publication.stream, place))
            if place < seen.get(publication.stream, (0, 0)):
                assert self._covers(publication.stream, place)
            seen[publication.stream] = max(place, seen.get(publication.stream, (0, 0)))
        for stream, place in self.put:
            assert (stream, place) in stored or self._covers(stream, place)

    def _covers(self, stream: Stream, place: Place) -> bool:
        return any(stream is other and first <= place <= last for other, first, last in self.covered)


TestLane = Lane.TestCase
TestLane.settings = hypothesis_settings(max_examples=50, stateful_step_count=40, deadline=None)
