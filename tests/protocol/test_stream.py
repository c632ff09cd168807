"""One stream: the order of its events, and the beginning and end of trust in it."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.events import AnyEvent, Book, Gap, LastTradePrice, Unknown, decode_event
from polybus_protocol.stream import GapLedger, Publication, Stream

from .conversation import M1, START, M

NOW = START * 1_000_000_000
MS = 1_000_000


def snapshot() -> Book:
    return Book(market=M, asset=M1, bids=[], asks=[], hash=None)


def trade() -> LastTradePrice:
    return LastTradePrice(market=M, asset=M1, price="0.5", size="1", side="BUY")


def read(publication: Publication) -> AnyEvent:
    return decode_event(publication.payload)


def heard(stream: Stream, now: int = NOW) -> list[Publication]:
    """One snapshot arrives: what is published for it, the way a session does it."""
    event = snapshot()
    begun = [] if stream.live else stream.begin(event, now, "c#1")
    return [*begun, stream.publish(event, now, "c#1")]


def test_first_data_begins_an_epoch_without_a_gap() -> None:
    """A stream that never had data has nothing to lose; its epoch is the time in milliseconds."""
    stream = Stream("market", "market", (None, M1))
    assert stream.interrupt("connection_lost", NOW) == []
    assert not stream.live

    (first,) = heard(stream, NOW + 5 * MS)
    assert first.subject == f"polymarket.v1.market.{M}.{M1}.book"
    event = read(first)
    assert (event.epoch, event.seq) == (NOW // MS + 5, 1)
    assert (event.received_time, event.connection) == (NOW + 5 * MS, "c#1")


@given(
    st.lists(
        st.tuples(st.sampled_from(["hear", "interrupt"]), st.integers(-5_000_000, 5_000_000)), max_size=40
    )
)
def test_order_whatever_the_clock_does(steps: list[tuple[str, int]]) -> None:
    """`seq` rises by one within an epoch, epochs rise, and each but the first begins with a gap at 1."""
    stream, now = Stream("market", "market", (None, M1)), NOW
    published: list[AnyEvent] = []
    for step, ms in steps:
        now += ms * MS
        publications = heard(stream, now) if step == "hear" else stream.interrupt("resync", now)
        published += map(read, publications)

    assert [event.seq for event in published[:1]] in ([], [1])
    for before, after in pairwise(published):
        if after.epoch == before.epoch:
            assert after.seq == before.seq + 1
            closes = isinstance(before, Gap) and before.closed_by is None
            assert closes == (isinstance(after, Gap) and after.closed_by == "data")
        else:
            assert after.epoch > before.epoch
            assert after.seq == 1
            assert isinstance(after, Gap)
            assert (after.last_epoch, after.last_seq) == (before.epoch, before.seq)
            assert after.last_received_time == before.received_time
    closings = [event for event in published if isinstance(event, Gap) and event.closed_by]
    assert sum(stream.counts().values()) == len(published) - len(closings)


def test_a_gap_is_told_once() -> None:
    """An interrupted stream waits for data; what interrupts it meanwhile is no news."""
    stream = Stream("market", "market", (None, M1))
    heard(stream)
    (gap,) = stream.interrupt("connection_lost", NOW + MS, detail="closed", connection="c#1")
    event = read(gap)
    assert isinstance(event, Gap)
    assert (event.market, event.asset, event.reason, event.detail) == (M, M1, "connection_lost", "closed")
    assert not stream.live
    assert stream.interrupt("resync", NOW + 2 * MS) == []
    closing, data = heard(stream, NOW + 3 * MS)
    assert read(closing) == msgspec.structs.replace(
        event, closed_by="data", seq=2, received_time=NOW + 3 * MS
    )
    assert (data.epoch, data.seq) == (gap.epoch, 3)


def test_after_a_restart_the_gap_is_told_twice() -> None:
    """At once where the market is not known yet, and again under the market, right before the first data."""
    stream = Stream("market", "market", (None, M1), remembered=True)
    (early,) = stream.interrupt("restart", NOW)
    assert early.subject == f"polymarket.v1.market._.{M1}.gap"

    for later in (1, 2, 3):
        assert stream.interrupt("connection_lost", NOW + later * MS) == []

    proper, closing, data = heard(stream, NOW + 9 * MS)
    assert [
        each.subject.rpartition(f"polymarket.v1.market.{M}.{M1}.")[2] for each in (proper, closing, data)
    ] == [
        "gap",
        "gap",
        "book",
    ]
    gap = read(proper)
    assert isinstance(gap, Gap)
    assert (gap.market, gap.reason, gap.seq) == (M, "restart", 1)
    assert (gap.last_epoch, gap.last_seq) == (early.epoch, early.seq)
    assert (data.epoch, data.seq) == (proper.epoch, 3)
    assert proper.epoch > early.epoch

    (broken,) = stream.interrupt("connection_lost", NOW + 10 * MS)
    assert broken.subject == proper.subject


@pytest.mark.parametrize("market", [None, M], ids=["market unknown", "market known"])
def test_a_remembered_stream_never_begins_without_its_gap(market: str | None) -> None:
    """Also if nobody announced the restart before the data came, or if its market is known all along."""
    stream = Stream("market", "market", (market, M1), remembered=True)
    gap, closing, data = heard(stream)
    assert gap.subject == closing.subject == f"polymarket.v1.market.{M}.{M1}.gap"
    assert (data.epoch, data.seq) == (gap.epoch, 3)

    known = Stream("market", "market", (M, M1), remembered=True)
    assert [publication.subject for publication in known.interrupt("restart", NOW)] == [gap.subject]
    assert len(heard(known, NOW + MS)) == 2


@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("later_ms", [0, 1, -3_600_000])
def test_a_stream_that_comes_back_begins_in_a_later_epoch(later_ms: int, remembered: bool) -> None:
    """However soon that is, and wherever the clock was set meanwhile."""
    ledger = GapLedger()
    before = Stream("market", "market", (None, M1), ledger=ledger)
    for reason in ("resync", "frozen", "unsubscribed"):
        heard(before)
        before.interrupt(reason, NOW)

    after = Stream("market", "market", (None, M1), remembered=remembered, ledger=ledger)
    first, *_ = heard(after, NOW + later_ms * MS)
    assert first.epoch > before.epoch
    assert first.seq == 1


def test_the_prefix_is_that_of_all_subjects() -> None:
    """Events and gaps alike."""
    stream = Stream("market", "market", (M, M1), prefix="pm")
    heard(stream)
    (gap,) = stream.interrupt("resync", NOW)
    assert (stream.key, gap.subject) == (f"pm.market.{M}.{M1}", f"pm.market.{M}.{M1}.gap")


@pytest.mark.parametrize(
    ("first", "before"),
    [((7, 3), (7, 2)), ((7, 1), (None, None))],
    ids=["within an epoch", "from its beginning"],
)
def test_what_may_be_lost_on_the_way_to_nats(
    first: tuple[int, int], before: tuple[int | None, int | None]
) -> None:
    """The gap takes the place of the last event affected, names what came before, and moves nothing."""
    stream = Stream("market", "market", (None, M1))
    heard(stream)
    epoch, seq = stream.epoch, stream.seq
    lost = stream.mark_lost(first, (8, 5), 9, "backlog_overflow", NOW)
    gap = read(lost)
    assert isinstance(gap, Gap)
    assert (lost.epoch, lost.seq, gap.epoch, gap.seq) == (8, 5, 8, 5)
    assert ((gap.last_epoch, gap.last_seq), gap.lost, gap.reason) == (before, 9, "backlog_overflow")
    assert (stream.epoch, stream.seq, stream.live) == (epoch, seq, True)


def test_counts_are_by_type() -> None:
    """Gaps included; and the time of the last event can be asked for by type."""
    assert Stream("market", "market", (None, M1)).last_data_time is None
    stream = Stream("market", "market", (None, M1))
    heard(stream, NOW)
    stream.publish(trade(), NOW + 1, "c#1")
    stream.publish(trade(), NOW + 2, "c#1")
    stream.interrupt("resync", NOW + 3)
    assert stream.counts() == {"book": 1, "last_trade_price": 2, "gap": 1}
    assert stream.last_data_time == NOW + 2
    assert stream.last_time_of(["book"]) == NOW
    assert stream.last_time_of(["book", "last_trade_price"]) == NOW + 2
    assert stream.last_time_of(["best_bid_ask"]) == 0


def test_unknown_events_of_all_feeds_share_a_stream() -> None:
    """There the last token is the feed, and they are counted as what they are."""
    stream = Stream("market", "unknown")
    for feed in ("market", "sports", "market"):
        event = Unknown(feed=feed, kind="word", reason="?", raw="x")
        stream.begin(event, NOW, None)
        assert stream.publish(event, NOW, None).subject == f"polymarket.v1.unknown.{feed}"
    assert stream.seq == 3
    assert stream.counts() == {"unknown": 3}
