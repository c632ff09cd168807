"""The demo: what it knows, what it shows, and what it concludes."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from polybus_protocol import (
    BestBidAsk,
    Book,
    Change,
    Event,
    Gap,
    LastTradePrice,
    Level,
    MarketResolved,
    PriceChange,
    Unknown,
    subject_for,
)
from polybus_protocol.control.replies import ConnectionInfo, NatsInfo, StatusReply, SubscriptionTotals
from polybus_services.demo.around import feed_of
from polybus_services.demo.picture import MarketRow, Picture, Snapshot
from polybus_services.demo.reckoning import reckon
from polybus_services.demo.screen import live_view, summary_view
from polybus_services.demo.venue import Sent

from ..support.five import FEEDS
from .events_of_all_feeds import (
    ACTIVITY,
    COMMENT,
    GAME,
    ORDER,
    PRICE,
    REACTION,
    SNAPSHOT,
    TRADE,
    gaps_of_all_families,
)

MARKET, YES, NO = "0x" + "1" * 64, "1", "2"


def book(asset: str = YES, last: str | None = None) -> Event:
    levels = [Level("0.4", "1")], [Level("0.5", "1")]
    return Book(market=MARKET, asset=asset, bids=levels[0], asks=levels[1], hash=None, last_trade_price=last)


def gap(asset: str, reason: str = "connection_lost") -> Event:
    return Gap(feed="market", market=MARKET, asset=asset, reason=reason)


def looking_at(*events: Event) -> tuple[Picture, MarketRow]:
    """The picture after these events, each on a stream that goes on."""
    picture = Picture({MARKET: [YES, NO]}, now=0.0)
    for event in events:
        picture.see(subject_for(event), event)  # type: ignore[arg-type]
    picture.count(now=2.0)
    return picture, picture.rows[MARKET]


@pytest.mark.parametrize(
    ("event", "best_bid", "best_ask", "last"),
    [
        (book(last="0.45"), "0.4", "0.5", "0.45"),
        (
            PriceChange(
                market=MARKET,
                asset=YES,
                changes=[
                    Change("0.1", "5", "BUY", None, "0.41", "0.5"),
                    Change("0.2", "5", "BUY", None, "0.42", "0.5"),
                ],
            ),
            "0.42",
            "0.5",
            "0.3",
        ),
        (BestBidAsk(market=MARKET, asset=YES, best_bid=None, best_ask="0.6"), None, "0.6", "0.3"),
        (LastTradePrice(market=MARKET, asset=YES, price="0.44", size="1", side="BUY"), "0.4", "0.5", "0.44"),
        (LastTradePrice(market=MARKET, asset=NO, price="0.56", size="1", side="BUY"), "0.4", "0.5", "0.3"),
    ],
    ids=["book", "price change", "best", "trade", "the other outcome"],
)
def test_a_row_shows_the_first_outcome(
    event: Event, best_bid: str | None, best_ask: str | None, last: str
) -> None:
    """Its top of the book and last trade, as the newest event says; both outcomes are counted."""
    _, row = looking_at(book(last="0.3"), event)

    assert (row.best_bid, row.best_ask, row.last_trade) == (best_bid, best_ask, last)
    assert (row.events, row.events_per_s) == (2, 1.0)


@pytest.mark.parametrize(
    ("events", "trust"),
    [
        ((), "waiting"),
        ((book(YES),), "waiting"),
        ((book(YES), book(NO)), "live"),
        ((book(YES), book(NO), gap(NO)), "gap"),
        ((book(YES), book(NO), gap(NO), book(NO)), "live"),
        ((book(YES), book(NO), MarketResolved(market=MARKET, assets_ids=[YES, NO]), gap(NO)), "resolved"),
    ],
)
def test_trust_is_that_of_the_worse_outcome(events: tuple[Event, ...], trust: str) -> None:
    """Live from a book on, until a gap; back at the next book."""
    assert looking_at(*events)[1].trust == trust


@pytest.mark.parametrize(
    ("event", "feed"),
    [
        (book(), "market"),
        (ORDER, "user"),
        (TRADE, "user"),
        (ACTIVITY, "rtds"),
        (COMMENT, "rtds"),
        (REACTION, "rtds"),
        (PRICE, "polybolt"),
        (SNAPSHOT, "rtds"),
        (GAME, "sports"),
        *((gap, gap.feed) for gap in gaps_of_all_families()),
    ],
)
def test_every_event_counts_for_the_feed_that_brought_it(event: Event, feed: str) -> None:
    """Prices too, which two feeds bring on one subject; gaps apart from events."""
    picture = looking_at(event)[0]

    assert feed_of(event) == feed  # type: ignore[arg-type]
    row = picture.feeds[feed]
    assert (row.events, row.gaps) == ((0, 1) if isinstance(event, Gap) else (1, 0))
    assert picture.events == row.events


def test_what_nobody_could_read_is_counted_apart() -> None:
    """It is no event of the feed, and the numbers of the gateway leave it out as well."""
    picture = looking_at(Unknown(feed="rtds", kind="event", reason="new to us", raw="{}"))[0]

    assert (picture.events, picture.unknown) == (0, 1)


def test_the_newest_of_everything_is_remembered() -> None:
    """Orders in order, prices by symbol and feed, the last trade, comment and state of each game; ids are cut."""
    later = msgspec.structs.replace(PRICE, value="65000.5")
    around = looking_at(ORDER, TRADE, PRICE, later, SNAPSHOT, ACTIVITY, COMMENT, REACTION, GAME, GAME)[
        0
    ].around.now()

    assert [line.type for line in around.user] == ["order", "trade"]
    assert ORDER.id not in msgspec.json.encode(around).decode()
    told = [(row.symbol, row.feed, row.value, row.updates) for row in around.prices]
    assert told == [("btcusd", "polybolt", "65000.5", 2), ("btcusd", "rtds", "64000.1", 1)]
    assert around.activity == 1
    assert around.last_activity is not None
    assert around.comment is not None
    assert COMMENT.body is not None
    assert COMMENT.body in around.comment.text
    assert [(game.league, game.game) for game in around.games] == [("nfl", "19439")]


def snapshot(picture: Picture) -> Snapshot:
    """A whole view of it."""
    return Snapshot(
        seconds=1.0,
        processes={name: {"pid": 1, "url": "u" * 90, "admin": "a"} for name in ("nats-server", "simulator")},
        feeds=list(picture.feeds.values()),
        markets=[MarketRow("0x" + f"{number:064x}", "1") for number in range(50)],
        around=picture.around.now(),
        events_received=picture.events,
        events_per_s=1.0,
        gaps=0,
        jumps=0,
        status=status(frames=1, user=5),
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("height", [20, 24, 30, 44, 60])
def test_the_view_fits_the_terminal(width: int, height: int) -> None:
    """No line is folded and none is too many, or the view would flicker; on the usual 24 lines all feeds show."""
    picture = looking_at(book(), ORDER, TRADE, PRICE, SNAPSHOT, ACTIVITY, COMMENT, GAME)[0]
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(live_view(snapshot(picture), height))
    lines = console.export_text().splitlines()

    assert len(lines) < height
    assert max(map(len, lines)) <= width
    if height >= 24:
        text = "\n".join(lines)
        assert all(part in text for part in ("0x0000", "placement", "btcusd", "nice", "nfl"))


def test_the_summary_has_a_row_per_feed_within_80_columns() -> None:
    """With its counts, and the verdict below."""
    picture = looking_at(book(), ORDER, PRICE)[0]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(summary_view(reckon(sent(1, 1), status(frames=1, total_events=3), {}, picture, 2.0)))
    text = console.export_text()

    assert all(f"│  {feed}  " in text for feed in ("market", "user", "polybolt"))
    assert "The numbers do not agree" in text


def status(*, frames: int = 0, **counts: int) -> StatusReply:
    """A gateway's status with these counts, frames by feed among them (plain `frames` are the market's)."""
    by_feed = {"market": frames, **{feed: counts.pop(feed) for feed in FEEDS if feed in counts}}
    values: dict[str, Any] = {"total_events": 0, "gaps": 0, "duplicates": 0, **counts}
    return StatusReply(
        replica="demo",
        version="0",
        started=0,
        state="running",
        running=True,
        durable=True,
        connections=[
            ConnectionInfo(
                id=f"demo-{feed}-1",
                feed=feed,
                url="ws://x",
                state="live",
                connected=True,
                authenticated=None,
                incarnation=1,
                assets=1,
                live_assets=1,
                frames=count,
                errors=0,
                last_frame_time=None,
                last_data_time=None,
                reason=None,
            )
            for feed, count in by_feed.items()
        ],
        subscriptions=SubscriptionTotals(1, {}),
        events_by_type={},
        frames=sum(by_feed.values()),
        unwanted=0,
        unknown={},
        unknown_fields={},
        connection_errors=0,
        reconnects=0,
        last_reconnect_time=None,
        restarts=0,
        trust={},
        checks={},
        nats=NatsInfo(
            connected=True,
            url="",
            server=None,
            published=0,
            backlog=0,
            dropped=0,
            uncertain=0,
            unrecorded=0,
            reconnects=0,
        ),
        streams=[],
        **values,
    )


def sent(frames: int, events: int, **others: tuple[int, int]) -> Sent:
    """What the simulator says it sent: frames and events of the market feed, and of others."""
    by_feed = {"market": (frames, events), **others}
    feeds = {feed: Sent(frames, {"sent": events}) for feed, (frames, events) in by_feed.items()}
    return Sent(
        sum(one.frames for one in feeds.values()), {"sent": sum(e for _, e in by_feed.values())}, feeds
    )


TWO_BOOKS = (book(YES), book(NO))


@pytest.mark.parametrize(
    ("by_simulator", "said", "events", "verdict"),
    [
        (sent(1, 2), status(frames=1, total_events=2), TWO_BOOKS, "every event"),
        (sent(1, 2), status(frames=3, total_events=2), TWO_BOOKS, "sent 1 frames and the gateway received 3"),
        (sent(2, 3), status(frames=2, total_events=2, duplicates=1), TWO_BOOKS, "every event"),
        (
            sent(9, 9),
            status(frames=1, total_events=2, gaps=1),
            (*TWO_BOOKS, gap(YES)),
            "marked by gaps (1 connection_lost)",
        ),
        (
            sent(9, 9),
            status(frames=1, total_events=2, gaps=1),
            (*TWO_BOOKS, gap(YES, "tick_size_change")),
            "no gap says why",
        ),
        (
            sent(1, 2),
            status(frames=1, total_events=3),
            TWO_BOOKS,
            "of the market feed the gateway published 3 events and the consumer",
        ),
        (sent(1, 2), status(frames=1, total_events=2, gaps=1), TWO_BOOKS, "published 1 gaps"),
        (sent(2, 2), status(frames=1, total_events=2), TWO_BOOKS, "no gap says why"),
        (sent(1, 3), status(frames=1, total_events=2), TWO_BOOKS, "no gap says why"),
        (
            sent(1, 2, user=(2, 2)),
            status(frames=1, user=2, total_events=4),
            (*TWO_BOOKS, ORDER, TRADE),
            "every event",
        ),
        (
            sent(1, 2, user=(2, 2)),
            status(frames=1, user=2, total_events=4),
            (*TWO_BOOKS, ORDER),
            "of the user feed the gateway published 2 events and the consumer received 1",
        ),
        (
            sent(1, 2, user=(3, 3)),
            status(frames=1, user=2, total_events=4, gaps=1),
            (*TWO_BOOKS, ORDER, TRADE, gap(YES)),
            "of the user feed the simulator sent 3 frames and the gateway received 2",
        ),
        (
            sent(1, 2, polybolt=(1, 1)),
            status(frames=1, polybolt=3, total_events=3),
            (*TWO_BOOKS, PRICE),
            "every event",
        ),
        (
            sent(1, 2, polybolt=(4, 4)),
            status(frames=1, polybolt=3, total_events=3),
            (*TWO_BOOKS, PRICE),
            "of the polybolt feed the simulator sent 4 frames and the gateway received 3",
        ),
    ],
    ids=[
        *[
            "all",
            "more than all",
            "twice",
            "gaps",
            "tick",
            "lost to nats",
            "gap lost",
            "frame lost",
            "event lost",
        ],
        *["two feeds", "another lost to nats", "the gap of another", "acknowledged", "another lost"],
    ],
)
def test_the_verdict(by_simulator: Sent, said: StatusReply, events: tuple[Event, ...], verdict: str) -> None:
    """Numbers agree if everything arrived, feed by feed, or gaps of that feed say why not; in words either way."""
    published = {feed: count for feed, count in (("user", 2), ("polybolt", 1)) if feed in by_simulator.feeds}
    summary = reckon(by_simulator, said, published, looking_at(*events)[0], seconds=1.0)

    assert verdict in summary.verdict
    assert summary.agree is summary.verdict.startswith("The numbers agree: ")
