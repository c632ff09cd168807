"""Following streams as a consumer: what is a jump and what is not; and one line per event."""

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
from polybus_services.order import LOST_ON_THE_WAY, Follower, Jump
from polybus_services.present_events import event_line, jump_line

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


def test_a_jump_has_a_line_that_is_seen() -> None:
    """It names the stream by its ids, and the places."""
    (jump,) = seen(trade(1, 1), trade(1, 3))

    assert jump_line(jump).plain == "!! 1 event missing on 0xababab…ababab.777777…777777: after 1/1 came 1/3"
