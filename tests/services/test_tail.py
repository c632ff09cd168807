"""Following streams as a consumer: what is a jump and what is not; and one line per event."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import (
    AnyEvent,
    BestBidAsk,
    Book,
    Change,
    ConnectionState,
    Event,
    Gap,
    LastTradePrice,
    Level,
    MarketResolved,
    NewMarket,
    Notice,
    PriceChange,
    TickSizeChange,
    Unknown,
    subject_for,
    type_of,
)
from polybus_protocol.events import CommentCreated
from polybus_services.cli.sights import subjects_seen
from polybus_services.cli.tail_command import books_of
from polybus_services.order import LOST_ON_THE_WAY, Follower, Jump
from polybus_services.present.events import event_line, jump_line

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

replace = msgspec.structs.replace

MARKET, ASSET = "0x" + "ab" * 32, "7" * 77


def trade(epoch: int, seq: int, asset: str = ASSET) -> Event:
    return LastTradePrice(market=MARKET, asset=asset, price="0.5", size="1", side="BUY", epoch=epoch, seq=seq)


def gap(
    epoch: int,
    seq: int,
    reason: str = "connection_lost",
    last: tuple[int | None, int | None] = (None, None),
) -> Event:
    return Gap(
        feed="market",
        market=MARKET,
        asset=ASSET,
        reason=reason,
        last_epoch=last[0],
        last_seq=last[1],
        lost=1 if reason in LOST_ON_THE_WAY else None,
        epoch=epoch,
        seq=seq,
    )


def lost(epoch: int, seq: int, last: tuple[int | None, int | None] = (None, None)) -> Event:
    """A gap in the place of the last event lost on the way to NATS."""
    return gap(epoch, seq, "nats_connection_lost", last)


def notice(epoch: int, seq: int) -> Event:
    return Notice(replica="gw0", level="info", text="x", epoch=epoch, seq=seq)


def seen(*events: Event) -> list[Jump]:
    """The jumps that a follower finds."""
    follower = Follower()
    found = [jump for event in events if (jump := follower.see(subject_for(event), event)) is not None]
    assert follower.jumps == len(found)
    return found


@pytest.mark.parametrize(
    "events",
    [
        (trade(1, 1), trade(1, 2)),
        (trade(5, 7), trade(5, 8)),
        (trade(1, 3), gap(2, 1), trade(2, 2)),
        (trade(1, 3), gap(2, 1), gap(3, 1)),
        (trade(1, 1), trade(1, 1, asset="8"), trade(1, 2), trade(1, 2, asset="8")),
        (trade(1, 1), gap(1, 9, "backlog_overflow"), trade(1, 10)),
        (trade(1, 1), lost(1, 9, (1, 1)), trade(1, 10)),
        (trade(1, 3), lost(1, 3, (1, 1)), trade(1, 4)),
        (trade(1, 3), lost(1, 2, (1, 1)), lost(1, 3, (1, 1)), trade(1, 4)),
        (trade(1, 3), lost(1, 6, (1, 3)), trade(1, 5), trade(1, 6), trade(1, 7)),
        (trade(1, 3), lost(2, 4, (1, 3)), trade(2, 5)),
        (trade(1, 3), lost(2, 4), gap(2, 1), trade(2, 5)),
        (lost(1, 5, (1, 2)), trade(1, 4), trade(1, 6)),
        (trade(1, 3), gap(2, 1, last=(1, 3)), trade(2, 2)),
        (trade(1, 3), gap(2, 1, "restart", (1, 2)), trade(2, 2)),
        (trade(1, 3), gap(2, 1, "unsubscribed", (1, 3)), trade(3, 1)),
        (trade(1, 3), gap(2, 1, "shutdown", (1, 3)), trade(3, 1)),
        (notice(1, 1), notice(2, 1)),
        (notice(0, 0), notice(0, 0)),
    ],
    ids=[
        *["next", "joined late", "epoch", "two epochs", "two streams", "lost on the way"],
        *["after a loss", "had it already", "repeated", "came after all", "lost into a later epoch"],
        *["lost with its beginning", "joined at a loss", "names the last", "names less after a restart"],
        *["given up", "shut down", "started again", "unnumbered"],
    ],
)
def test_what_the_contract_allows_is_no_jump(events: tuple[Event, ...]) -> None:
    """A consumer that follows the rules is not alarmed."""
    assert seen(*events) == []


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((trade(1, 1), trade(1, 3)), "1 event missing"),
        ((trade(1, 1), trade(1, 5)), "3 events missing"),
        ((trade(1, 1), trade(2, 1)), "a new epoch did not begin with a gap"),
        ((trade(1, 1), gap(2, 2)), "a new epoch did not begin with a gap"),
        ((trade(1, 1), gap(1, 3)), "1 event missing"),
        ((trade(1, 2), trade(1, 2)), "an event came twice or out of order"),
        ((gap(2, 1), trade(1, 9)), "an event came twice or out of order"),
        ((trade(1, 1), lost(1, 5, (1, 3))), "2 events missing"),
        ((trade(1, 1), lost(3, 5, (2, 3))), "the events before the gap are missing"),
        ((trade(1, 1), gap(2, 1, last=(1, 2))), "1 event missing"),
        ((trade(1, 1), gap(3, 1, last=(2, 2))), "the events before the gap are missing"),
        ((notice(1, 1), notice(1, 3)), "1 event missing"),
    ],
)
def test_what_the_contract_forbids_is_one_jump(events: tuple[Event, ...], reason: str) -> None:
    """Each is told once, with the places before and after it."""
    (jump,) = seen(*events)

    before, after = events
    assert jump.reason == reason
    assert (jump.after, jump.seen) == ((before.epoch, before.seq), (after.epoch, after.seq))


def test_only_what_a_loss_covers_may_come_late() -> None:
    """Neither what came before the loss, nor what came after it; nor the same once the stream was given up."""
    (before, after) = seen(
        trade(1, 3), lost(1, 6, (1, 3)), trade(1, 7), trade(1, 3), trade(1, 5), trade(1, 7)
    )

    assert (before.seen, after.seen) == ((1, 3), (1, 7))
    (jump,) = seen(trade(1, 3), gap(2, 1, "unsubscribed"), gap(3, 1), trade(4, 1))
    assert jump.reason == "a new epoch did not begin with a gap"


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.data())
def test_no_loss_goes_unseen(breaks: list[bool], data: st.DataObject) -> None:
    """Of a stream with gaps where they belong, leave any one event out but the first and the last: one jump.

    The end of an epoch is missed too, since the gap that follows names it.
    """
    epoch, seq, stream = 1, 1, [trade(1, 1)]
    for breaks_here in breaks:
        last = epoch, seq
        epoch, seq = (epoch + 1, 1) if breaks_here else (epoch, seq + 1)
        stream.append(gap(epoch, seq, last=last) if breaks_here else trade(epoch, seq))
    stream.append(trade(epoch, seq + 1))
    assert seen(*stream) == []

    left_out = data.draw(st.integers(1, len(stream) - 2))
    rest = stream[:left_out] + stream[left_out + 1 :]
    assert len(seen(*rest)) == 1


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            Book(market=MARKET, asset=ASSET, bids=[Level("0.4", "10")], asks=[], hash=None),
            "bid 0.4 x 10  ask -  (1 + 0 levels)",
        ),
        (
            PriceChange(
                market=MARKET, asset=ASSET, changes=[Change("0.4", "0", "BUY", None, "0.39", "0.41")] * 5
            ),
            "BUY 0.4 = 0, BUY 0.4 = 0, BUY 0.4 = 0, 2 more  bid 0.39  ask 0.41",
        ),
        (trade(1, 1), "BUY 1 at 0.5"),
        (TickSizeChange(market=MARKET, asset=ASSET, old_tick_size=None, new_tick_size="0.001"), "? -> 0.001"),
        (BestBidAsk(market=MARKET, asset=ASSET, best_bid=None, best_ask="0.4"), "bid -  ask 0.4"),
        (NewMarket(market=MARKET, assets_ids=[], question="Will it?"), "Will it?"),
        (
            MarketResolved(market=MARKET, assets_ids=[], question="Did it?", winning_outcome="Yes"),
            "Did it? -> Yes",
        ),
        (gap(2, 1), "connection_lost"),
        (ORDER, "placement BUY 12 at 0.45  LIVE  0xcdcdcd…cdcdcd"),
        (
            replace(ORDER, status="CANCELED", status_detail="MARKET_RESOLVED", size_matched="5"),
            "placement BUY 12 at 0.45, 5 matched  CANCELED: MARKET_RESOLVED  0xcdcdcd…cdcdcd",
        ),
        (TRADE, "BUY 10 at 0.45 as maker  MATCHED  94d7ea…c6d8fa"),
        (replace(TRADE, trader_side="TAKER"), "SELL 40 at 0.55 as taker  MATCHED  94d7ea…c6d8fa"),
        (ACTIVITY, "BUY 619.8 at 0.9 by trader.3  Yes, Will the Fed cut?"),
        (PRICE, "crypto btcusd  64027.87927712  (from pyth, by polybolt)"),
        (
            replace(PRICE, window_s=30, carried_forward=True, market_status="closed"),
            "64027.87927712  (from pyth, by polybolt, mean of 30 s, carried forward, market closed)",
        ),
        (SNAPSHOT, "2 prices, the last 64000.1  (by rtds)"),
        (replace(SNAPSHOT, points=[]), "0 prices  (by rtds)"),
        (COMMENT, "Event 503925  trader.78: nice"),
        (REACTION, "FIRE on comment 1763327 by 0xc61f15…0ffbcc"),
        (GAME, "nfl 19439  LAC - BUF  3-16  Q4  5:18  InProgress"),
        *((gap, "  connection_lost") for gap in gaps_of_all_families()),
        (Unknown(feed="market", kind="event", reason="new to us", raw="{}"), "event: new to us"),
        (
            ConnectionState(replica="gw0", id="c1", incarnation=2, feed="market", url="ws://x", state="live"),
            "c1 #2 live",
        ),
        (Notice(replica="gw0", level="warning", text="look"), "warning: look"),
    ],
)
def test_every_event_has_a_line(event: AnyEvent, says: str) -> None:
    """Its type, and what a person wants to know of it; `[` in it is no markup."""
    line = event_line(event).plain

    assert type_of(event) in line
    assert line.endswith(says)


@given(st.text())
def test_what_people_write_stays_on_its_line(body: str) -> None:
    """A comment can neither turn the line nor move the cursor, whatever is in it."""
    line = event_line(replace(COMMENT, body=body)).plain

    assert line.isprintable()
    assert event_line(CommentCreated("Event", "1", "2", "\x1b[2J\n\u202e")).plain.isprintable()


PREFIX = "polymarket.v1"


@pytest.mark.parametrize(
    ("feeds", "narrowing", "subjects"),
    [
        ([], {}, []),
        (["market"], {}, ["market.>"]),
        (["rtds"], {}, ["activity.>", "comments.>", "price.>"]),
        (["polybolt", "price"], {}, ["price.>"]),
        (["unknown", "system"], {}, ["unknown.>", "system.>"]),
        ([], {"asset": ["7", "8"]}, ["market.*.7.>", "market.*.8.>"]),
        ([], {"market": ["0xa"]}, ["market.0xa.>"]),
        ([], {"asset": ["7"], "market": ["0xa"]}, ["market.*.7.>", "market.0xa.>"]),
        ([], {"account": ["alice", "bob"]}, ["user.alice.>", "user.bob.>"]),
        ([], {"account": ["alice"], "market": ["0xa"]}, ["user.alice.0xa.>"]),
        (["user"], {"market": ["0xa"]}, ["user.*.0xa.>"]),
        (["rtds"], {"market": ["0xa"]}, ["activity.*.0xa.>", "comments.>", "price.>"]),
        ([], {"slug": ["a.b"]}, ["activity.a%2Eb.>"]),
        ([], {"symbol": ["btcusd"]}, ["price.*.btcusd.>"]),
        ([], {"symbol": ["AAPL"]}, ["price.*.aapl.>"]),
        ([], {"symbol": ["BTC/USD"]}, ["price.*.btcusd.>", "price.*.btc%2Fusd.>"]),
        ([], {"symbol": ["BRK-B"]}, ["price.*.brkb.>", "price.*.brk-b.>"]),
        ([], {"league": ["NFL"]}, ["sports.nfl.>"]),
        (["sports", "user"], {"league": ["nfl"]}, ["sports.nfl.>", "user.>"]),
    ],
)
def test_options_become_subjects(
    feeds: list[str], narrowing: dict[str, list[str]], subjects: list[str]
) -> None:
    """Each narrows the families that have its id; a feed stands for the families it brings."""
    assert list(subjects_seen(feeds, narrowing, PREFIX)) == [f"{PREFIX}.{subject}" for subject in subjects]


@pytest.mark.parametrize(
    ("subject", "books"),
    [
        ("market.>", "books.>"),
        ("market.0xa.>", "books.0xa.>"),
        ("market.*.7.>", "books.*.7.>"),
        ("market.0xa.7.price_change", "books.0xa.7.>"),
    ],
)
def test_where_the_last_books_are(subject: str, books: str) -> None:
    """Under the same ids, in a family of their own."""
    assert books_of([f"{PREFIX}.{subject}"], PREFIX) == [f"{PREFIX}.{books}"]


@pytest.mark.parametrize(
    ("event", "narrowing"),
    [
        (ORDER, {"account": ["alice"]}),
        (TRADE, {"account": ["alice"], "market": [MARKET]}),
        (ACTIVITY, {"slug": ["fed-decision"]}),
        (PRICE, {"symbol": ["BTCUSDT"]}),
        (SNAPSHOT, {"symbol": ["btc/usd"]}),
        (GAME, {"league": ["NFL"]}),
        (trade(1, 1), {"asset": [ASSET]}),
    ],
)
def test_what_options_mean_is_where_events_are(event: Event, narrowing: dict[str, list[str]]) -> None:
    """One of the subjects, `*` standing for any token, is that of the event."""
    tokens = subject_for(event).split(".")

    assert any(
        all(own in ("*", ">", token) for own, token in zip(subject.split("."), tokens, strict=False))
        for subject in subjects_seen([], narrowing, PREFIX)
    )


def test_a_jump_has_a_line_that_is_seen() -> None:
    """It names the stream by its ids, and the places."""
    (jump,) = seen(trade(1, 1), trade(1, 3))

    assert jump_line(jump).plain == "!! 1 event missing on 0xababab…ababab.777777…777777: after 1/1 came 1/3"
