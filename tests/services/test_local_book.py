"""The consumer's book: whatever gets lost on the way, it is the gateway's while it says that it may be believed."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.book import OrderBook
from polybus_protocol.books.liveness import Budgets
from polybus_protocol.control.replies import BookReply
from polybus_protocol.events import AnyEvent, Book, Change, Gap, LastBook, Level, PriceChange, decode_event
from polybus_protocol.stream import Publication
from polybus_services.local_book import HELD, LocalBook, Told
from polybus_services.order import Place

MARKET, ASSET = "0xab", "7"

PRICES = [f"0.{number}" for number in range(40, 50)]

type Levels = tuple[list[Level], list[Level]]


def levels(book: OrderBook | BookReply) -> Levels:
    """Both sides, best first."""
    if isinstance(book, BookReply):
        return book.bids, book.asks
    return book.bids(), book.asks()


class Gateway:
    """The gateway's own stream of the asset, and what it was at each place."""

    def __init__(self) -> None:
        self.stream = AssetStream(MARKET, ASSET, Budgets(), Counter())
        self.events: list[AnyEvent] = []
        self.was: dict[Place, Levels] = {}
        self._now = 1_000_000_000_000

    def says(self, event: AnyEvent) -> None:
        """What the venue said goes out."""
        self._now += 1_000_000
        event.source_time = self._now // 1_000_000
        announced = (
            self.stream.begin(event, self._now, "gw0-market-1#1", "snapshot")
            if isinstance(event, Book) and not self.stream.live
            else self.stream.ready(event, self._now, "gw0-market-1#1")
        )
        published = self.stream.publish(event, self._now, "gw0-market-1#1")
        self._published(announced)
        self.stream.absorb(event)
        self._published([published])

    def breaks(self) -> None:
        """The connection is lost."""
        self._now += 1_000_000
        self._published(self.stream.interrupt("connection_lost", self._now))

    def loses(self, count: int) -> None:
        """The last events are lost on the way to NATS: a gap takes the place of the last."""
        lost = self.events[-count:]
        if not lost or any(event.epoch != lost[0].epoch or isinstance(event, Gap) for event in lost):
            return
        del self.events[-count:]
        places = [(event.epoch, event.seq) for event in lost]
        gap = self.stream.mark_lost(places[0], places[-1], count, "nats_connection_lost", self._now)
        self.events.append(decode_event(gap.payload))

    def told(self) -> BookReply:
        """What `book` answers now."""
        book, stream = self.stream.book, self.stream
        return BookReply(
            "gw0", ASSET, MARKET, stream.trust.value, None, "unknown", stream.epoch, stream.seq, book.source_time,
            book.hash, None, book.bids(), book.asks(), None,
        )  # fmt: skip

    def _published(self, publications: list[Publication]) -> None:
        for publication in publications:
            event = decode_event(publication.payload)
            self.events.append(event)
            self.was[event.epoch, event.seq] = levels(self.stream.book)


def snapshot(*prices: str, origin: str | None = None) -> Book:
    return Book(MARKET, ASSET, [Level(price, "5") for price in prices], [], "h", origin=origin)


def change(price: str, size: str = "7") -> PriceChange:
    return PriceChange(MARKET, ASSET, [Change(price, size, "BUY", None, None, None)])


FATES = st.sampled_from(["heard", "heard", "late", "missed"])
"""What becomes of all that was published and has not come yet."""

STEPS = st.lists(
    st.one_of(
        st.tuples(FATES, st.just("change"), st.sampled_from(PRICES), st.sampled_from(["0", "3", "8"])),
        st.tuples(FATES, st.just("book"), st.sampled_from(PRICES)),
        st.tuples(FATES, st.sampled_from(["break", "ask", "answer", "settled answer", "away"])),
        st.tuples(FATES, st.just("lose"), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(STEPS)
def test_while_it_is_trusted_it_is_the_gateways(steps: list[tuple[object, ...]]) -> None:
    """Events late, missed or lost, answers early or late: a trusted book is the gateway's at its place.

    And whatever has happened: once all has come and the gateway has said where it stands, both say the same of it.
    """
    gateway, local, answers, heard = Gateway(), LocalBook(ASSET), list[BookReply](), 0
    gateway.says(snapshot("0.40"))
    for fate, *step in [("heard", "nothing"), *steps, ("heard", "nothing")]:
        match step:
            case ["change", str(price), str(size)]:
                gateway.says(change(price, size))
            case ["book", str(price)]:
                gateway.says(snapshot(price))
            case ["break"]:
                gateway.breaks()
            case ["lose", int(count)] if len(gateway.events) - count >= heard:
                gateway.loses(count)
            case ["ask"]:
                answers.append(gateway.told())
            case ["answer" | "settled answer" as kind] if answers:
                local.align(answers.pop(0), settled=kind == "settled answer")
            case ["away"]:
                local.stray("NATS is away", must_be_told=True)
                answers.clear()
            case _:
                pass
        agrees(local, gateway)
        for event in gateway.events[heard:] if fate == "heard" else []:
            local.hear(event)
            agrees(local, gateway)
        heard = heard if fate == "late" else len(gateway.events)
    for _ in range(3):
        local.align(gateway.told(), settled=True)
        agrees(local, gateway)
    assert local.trusted == (gateway.stream.trust.value == "live")
    assert not local.trusted or levels(local) == levels(gateway.stream.book)


def agrees(local: LocalBook, gateway: Gateway) -> None:
    """The property."""
    if local.trusted:
        assert local.place is not None
        assert local.why is None
        assert levels(local) == gateway.was[local.place]
    else:
        assert local.why


def followed() -> tuple[Gateway, LocalBook]:
    """A book in line, three events into its stream."""
    gateway, local = Gateway(), LocalBook(ASSET)
    gateway.says(snapshot("0.40"))
    gateway.says(change("0.41"))
    gateway.says(change("0.42"))
    for event in gateway.events:
        local.hear(event)
    assert local.trusted
    return gateway, local


def test_a_doubt_of_the_gateway_ends_trust_until_it_ends_the_doubt() -> None:
    """The word comes with a last book or an answer; the next event of the stream does not undo it."""
    gateway, local = followed()
    told = gateway.told()
    local.align(msgspec.structs.replace(told, trust="suspect", why="its hash is not the venue's"))
    assert (local.trusted, local.why) == (False, "its hash is not the venue's")

    gateway.says(snapshot("0.43"))
    local.hear(gateway.events[-1])
    assert not local.trusted
    local.align(gateway.told())
    assert local.trusted


def test_a_book_read_over_rest_is_suspect() -> None:
    """Until the gateway says that the stream has spoken."""
    gateway, local = followed()
    gateway.breaks()
    gateway.says(snapshot("0.43", origin="witness"))
    for event in gateway.events[3:]:
        local.hear(event)
    assert (local.is_live, local.trust, local.trusted) == (True, "suspect", False)
    local.align(gateway.told())
    assert local.trusted


def test_another_book_at_the_same_place_is_found_out() -> None:
    """The gateway's is taken over."""
    gateway, local = followed()
    local.bid_side.add("0.30", "1")
    local.align(gateway.told())
    assert levels(local) == levels(gateway.stream.book)


def test_a_lost_end_is_found_out() -> None:
    """Who is still behind the place he was told of before, with nothing on its way, has lost what was there."""
    gateway, local = followed()
    gateway.says(change("0.43"))
    local.align(gateway.told(), settled=True)
    assert local.place == (gateway.stream.epoch, gateway.stream.seq - 1)

    local.align(gateway.told(), settled=True)
    assert local.place == (gateway.stream.epoch, gateway.stream.seq)
    assert local.trusted
    assert levels(local) == levels(gateway.stream.book)


def test_an_answer_older_than_what_was_heard_is_passed_over() -> None:
    """It would take the book back to where it was."""
    gateway, local = followed()
    early = gateway.told()
    gateway.says(change("0.43"))
    local.hear(gateway.events[-1])
    local.stray("for a reason")
    local.align(early)
    assert not local.trusted
    assert local.place == (gateway.stream.epoch, gateway.stream.seq)


def test_what_was_lost_on_the_way_to_nats_is_not_passed_over() -> None:
    """The gap stands in the place of what was lost, so that no number is missing; the gateway's book has it."""
    gateway, local = followed()
    gateway.says(change("0.43"))
    gateway.loses(1)
    gateway.says(change("0.44"))
    for event in gateway.events[3:]:
        local.hear(event)
    assert (local.trusted, local.why) == (False, "events were lost on the way to NATS")
    local.align(gateway.told())
    assert local.trusted
    assert levels(local) == levels(gateway.stream.book)


def test_what_is_held_is_bounded() -> None:
    """Beyond it an early answer helps no more, and a later one does."""
    gateway, local = Gateway(), LocalBook(ASSET)
    gateway.says(snapshot("0.40"))
    early = gateway.told()
    for number in range(HELD + 2):
        gateway.says(change(PRICES[number % 9]))
    for event in gateway.events[1:]:
        local.hear(event)
    local.align(early)
    assert not local.trusted
    local.align(gateway.told())
    assert local.trusted


@pytest.mark.parametrize("must_be_told", [False, True])
def test_a_whole_book_helps_unless_it_may_be_of_the_time_before(must_be_told: bool) -> None:
    """After a jump the next snapshot is all it takes; after an outage of NATS it may have waited in a queue."""
    gateway, local = followed()
    local.stray("for a reason", must_be_told=must_be_told)
    gateway.says(snapshot("0.44"))
    local.hear(gateway.events[-1])
    assert local.trusted is not must_be_told
    local.align(gateway.told())
    assert local.trusted


def test_a_last_book_aligns_as_an_answer_does() -> None:
    """For those who may not ask; but not after an outage, as it may have waited in a queue."""
    gateway, local = followed()
    told: Told = gateway.told()
    last = LastBook(
        MARKET,
        ASSET,
        "live",
        told.bids,
        told.asks,
        source_time=told.source_time,
        epoch=told.epoch,
        seq=told.seq,
    )
    local.stray("for a reason")
    local.hear(last)
    assert local.trusted

    local.stray("NATS is away", must_be_told=True)
    local.hear(last)
    assert not local.trusted
