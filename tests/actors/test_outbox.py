"""The outbox: whatever happens on the way to NATS, each publication goes out once or lies in a gap."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polybus_actors.publishing.losses import Losses
from polybus_actors.publishing.outbox import OVERFLOW, UNCERTAIN, Outbox
from polybus_protocol.events import Book, Gap, decode_event
from polybus_protocol.stream import Publication, Stream

MOST = 6


def stream_of(number: int) -> Stream:
    return Stream("market", "market", (f"0x{number:064x}", str(number)))


def event(number: int) -> Book:
    return Book(market=f"0x{number:064x}", asset=str(number), bids=[], asks=[], hash=None)


class Received:
    """What a consumer of one stream knows."""

    def __init__(self) -> None:
        self.last = (0, 0)
        self.seen: list[tuple[int, int]] = []
        self.covered: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def take(self, publication: Publication) -> None:
        """Take one publication that arrived: order holds, and a gap covers every hole before it."""
        place = (publication.epoch, publication.seq)
        decoded = decode_event(publication.payload)
        if isinstance(decoded, Gap) and decoded.lost is not None:
            after = (decoded.last_epoch or 0, decoded.last_seq or 0)
            assert after <= self.last, "a hole before the gap that nothing covers"
            assert place >= self.last, "a gap after what is younger"
            self.covered.append((after, place))
        else:
            assert place > self.last, "out of order"
            if place[0] == self.last[0]:
                assert place[1] == self.last[1] + 1, "a hole without a gap"
            else:
                assert place[1] == 1, "an epoch without its beginning"
            self.seen.append(place)
        self.last = place

    def has(self, place: tuple[int, int]) -> bool:
        return place in self.seen or any(after < place <= up_to for after, up_to in self.covered)


class Deliveries(RuleBasedStateMachine):
    """Any order of putting, taking, confirming, failing and breaking, as the bus does them."""

    @initialize()
    def begin(self) -> None:
        self.outbox = Outbox(MOST, 10**9, clock=lambda: 5_000_000_000)
        self.outbox.pass_on = self._hand_over
        self.is_idle = False
        """Whether the bus takes what comes at once."""
        self.streams = [stream_of(number) for number in range(3)]
        self.put: dict[Stream, list[tuple[int, int]]] = {stream: [] for stream in self.streams}
        self.everything: list[Publication] = []
        self.batch: list[Publication] = []
        """Taken, and not handed over yet."""
        self.unconfirmed: list[Publication] = []
        self.received = {stream: Received() for stream in self.streams}
        self.time = 1_000_000_000

    @rule(which=st.lists(st.integers(0, 2), min_size=1, max_size=8))
    def puts(self, which: list[int]) -> None:
        """Events arrive, more than there is room for at times."""
        publications = []
        for number in which:
            stream = self.streams[number]
            self.time += 1
            if not stream.live:
                publications += stream.begin(event(number), self.time, None)
            publications.append(stream.publish(event(number), self.time, None))
        self._put(publications)

    @rule(number=st.integers(0, 2))
    def breaks_the_epoch(self, number: int) -> None:
        """The venue's side breaks: a new epoch."""
        self.time += 1
        self._put(self.streams[number].interrupt("resync", self.time))

    def _put(self, publications: list[Publication]) -> None:
        for publication in publications:
            self.put[publication.stream].append((publication.epoch, publication.seq))
        self.everything += publications
        self.outbox.put(publications)

    @rule(is_idle=st.booleans())
    def has_time(self, is_idle: bool) -> None:
        """The bus becomes idle, or busy."""
        self.is_idle = is_idle

    def _hand_over(self, publications: list[Publication]) -> bool:
        can = self.is_idle and not self.batch
        if can:
            self.unconfirmed += publications
        return can

    @rule(limit=st.integers(1, 5))
    def takes(self, limit: int) -> None:
        """The bus takes a batch, once it is done with the one before."""
        if not self.batch:
            self.batch = self.outbox.take(limit)

    @rule(count=st.integers(1, 5))
    def hands_over(self, count: int) -> None:
        """Some of the batch goes to NATS."""
        self.unconfirmed += self.batch[:count]
        del self.batch[:count]

    @rule()
    def fails(self) -> None:
        """The client refuses the rest of the batch."""
        self.outbox.put_back(self.batch)
        self.batch = []

    @rule()
    def confirms(self) -> None:
        """NATS has taken in what it was handed."""
        self._arrive(len(self.unconfirmed))

    @rule(arrived=st.integers(0, 5))
    def loses(self, arrived: int) -> None:
        """The connection breaks, after some of what was on its way has arrived, which we don't know."""
        lost = list(self.unconfirmed)
        self._arrive(arrived)
        self.unconfirmed.clear()
        self.outbox.lose(lost)
        self.fails()

    def _arrive(self, count: int) -> None:
        for publication in self.unconfirmed[:count]:
            self.received[publication.stream].take(publication)
        del self.unconfirmed[:count]

    @invariant()
    def bounds_hold(self) -> None:
        """What waits is bounded: by the limit, and a batch that was put back."""
        if hasattr(self, "outbox"):
            assert len(self.outbox._queue) <= MOST + 8
            assert self.outbox._bytes == sum(len(p.payload) for p in self.outbox._queue)

    def teardown(self) -> None:
        """In the end everything was received, or lies in what a gap covers, and is counted once."""
        if not hasattr(self, "outbox"):
            return
        self.fails()
        while batch := self.outbox.take(3):
            self.unconfirmed += batch
        self.confirms()
        assert len(self.outbox) == 0
        for stream, places in self.put.items():
            assert [place for place in places if not self.received[stream].has(place)] == []
        lost = [one.lost_by for one in self.everything]
        assert (lost.count(OVERFLOW), lost.count(UNCERTAIN)) == (self.outbox.dropped, self.outbox.uncertain)
        for one in self.everything:
            is_there = (one.epoch, one.seq) in self.received[one.stream].seen
            assert is_there or one.lost_by is not None
            assert not (is_there and one.lost_by == OVERFLOW)


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)


def filled(outbox: Outbox, count: int) -> list[Publication]:
    stream = stream_of(1)
    stream.begin(event(1), 1_000_000_000, None)
    publications = [stream.publish(event(1), 1_000_000_000 + n, None) for n in range(count)]
    outbox.put(publications)
    return publications


def test_only_what_nothing_waits_before_is_passed_on() -> None:
    """Neither events that wait nor a loss that is not told yet may be overtaken."""
    outbox = Outbox(3, 10**9)
    passed: list[Publication] = []

    def pass_on(publications: list[Publication]) -> bool:
        passed.extend(publications)
        return True

    outbox.pass_on = pass_on
    first = filled(outbox, 2)
    assert (passed, len(outbox)) == (first, 0)
    outbox.put_back(first[1:])
    second = filled(outbox, 1)
    assert outbox.take(100) == [first[1], *second]
    outbox.lose(first[:1])
    third = filled(outbox, 1)
    gap, *rest = outbox.take(100)
    assert (type(decode_event(gap.payload)), rest, passed) == (Gap, third, first)


def test_overflow_gives_up_the_oldest_and_says_so_first() -> None:
    """The gap stands before what is left, in the place of the last event it covers, and counts them."""
    outbox = Outbox(3, 10**9)
    publications = filled(outbox, 10)
    gap, *rest = outbox.take(100)
    decoded = decode_event(gap.payload)
    assert isinstance(decoded, Gap)
    assert (decoded.reason, decoded.lost, decoded.seq) == ("backlog_overflow", 7, 7)
    assert rest == publications[7:]
    assert outbox.dropped == 7


def test_bytes_bound_it_too() -> None:
    """Few large events fill it as well as many small ones."""
    outbox = Outbox(10**6, 1_000)
    publications = filled(outbox, 50)
    kept = outbox.take(100)[1:]
    assert sum(len(p.payload) for p in kept) <= 1_000
    assert kept == publications[-len(kept) :]


def test_a_lost_gap_keeps_what_it_covered() -> None:
    """If the gap itself is lost on the way, the next one covers what it covered, and itself once."""
    outbox = Outbox(3, 10**9)
    filled(outbox, 10)
    (gap, *rest) = outbox.take(100)
    outbox.lose([gap, *rest])
    assert (outbox.dropped, outbox.uncertain) == (7, 3)
    (again,) = outbox.take(100)
    decoded = decode_event(again.payload)
    assert isinstance(decoded, Gap)
    assert (decoded.last_epoch, decoded.last_seq, decoded.seq, decoded.lost) == (None, None, 10, 10)


def test_streams_without_gaps_only_jump() -> None:
    """Connection states and the unknown carry no gaps: their loss shows in their numbers alone."""
    outbox = Outbox(1, 10**9)
    system = Stream("market", "system", ("gw0",))
    system.begin(event(1), 1_000_000_000, None)
    outbox.put([system.publish(event(1), 1_000_000_000, None) for _ in range(3)])
    assert [publication.seq for publication in outbox.take(10)] == [3]


def test_an_event_is_counted_once() -> None:
    """What the record may lack and what may have reached nobody can be the same: one loss, whoever tells of it first."""
    outbox, missed = Outbox(100, 10**9), Losses()
    publications = filled(outbox, 10)
    outbox.take(100)
    for publication in publications[2:6]:
        missed.add(publication, "not_recorded")
    outbox.lose(publications[4:])
    outbox.announce(missed)
    assert (outbox.uncertain, outbox.unrecorded) == (4, 4)
    (gap,) = outbox.take(100)
    decoded = decode_event(gap.payload)
    assert isinstance(decoded, Gap)
    assert (decoded.last_seq, decoded.seq, decoded.lost) == (2, 10, 8)


def test_what_is_too_large_is_counted_apart() -> None:
    """It has reached nobody for certain; its gap is that of what was lost on the way."""
    outbox = Outbox(100, 10**9)
    large, *_ = filled(outbox, 2)
    outbox.take(100)
    outbox.refuse(large)
    assert (outbox.too_large, outbox.uncertain, outbox.losers()) == (1, 0, [large.stream])
    (gap,) = outbox.take(100)
    decoded = decode_event(gap.payload)
    assert isinstance(decoded, Gap)
    assert (decoded.reason, decoded.lost, decoded.seq) == ("nats_connection_lost", 1, 1)
    outbox.lose([gap])
    assert (outbox.too_large, outbox.uncertain) == (1, 0)
