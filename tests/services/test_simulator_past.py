"""The books that were: a consumer who knows the time and hash of the last thing he heard finds his book."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polybus_services.simulator import market_frames as frames
from polybus_services.simulator import past
from polybus_services.simulator.exchange import Exchange, Listing, Market
from polybus_services.simulator.facts import Cancelled, Fact, Placed, Side
from polybus_services.simulator.feeds import Frame
from polybus_services.simulator.ladder import SIZE_ONE

LISTING = Listing("1", f"0x{'ab' * 32}", ("11", "22"), ("Yes", "No"), "?", "q", "2")

ORDERS = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from(list(Side)),
    st.integers(48, 52).map(lambda cents: cents * 100),
    st.integers(1, 5).map(lambda shares: shares * SIZE_ONE),
)
STEPS = st.lists(
    st.tuples(st.one_of(ORDERS, st.integers(0, 100), st.none()), st.integers(0, 1)), min_size=1, max_size=40
)
"""An order, one to withdraw, or a finer tick; and how many milliseconds later."""


def play(exchange: Exchange, market: Market, step: Any, now_ms: int) -> Frame | None:
    """Do something and say what the market feed says of it, about the second token."""
    if step is None:
        if market.tick == 100:
            exchange.change_tick(market, 10, now_ms)
            return frames.book(market, 1, now_ms)
        return None
    fact: Fact
    if isinstance(step, tuple):
        outcome, side, price, size = step
        fact = exchange.place(market, outcome, side, price, size, now_ms)
    else:
        orders = market.resting()
        if not orders:
            return None
        order = orders[step % len(orders)]
        bids = (order.side is Side.BUY) == (order.outcome == 0)
        fact = exchange.cancel(market, market.bids if bids else market.asks, order, step % 2, now_ms)
    if isinstance(fact, Placed | Cancelled):
        return frames.price_change(fact)
    return frames.book(market, 1, now_ms)


def told(frame: Frame) -> tuple[str, str]:
    """Time and hash, as a reader of asset 22 has them."""
    decoded = json.loads(frame.text)
    (event,) = decoded if isinstance(decoded, list) else [decoded]
    (said,) = [each for each in event.get("price_changes", [event]) if each["asset_id"] == "22"]
    return event["timestamp"], said["hash"]


def sides(market: Market) -> dict[str, Any]:
    """Asset 22 as it is."""
    return {
        "bids": json.loads(f"[{market.levels_json(1, Side.BUY)}]"),
        "asks": json.loads(f"[{market.levels_json(1, Side.SELL)}]"),
    }


@given(STEPS)
def test_each_book_that_was_told_of_is_found(steps: list[tuple[Any, int]]) -> None:
    """By time and hash, level by level, however many share a millisecond; a snapshot by its own time."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100, 5)
    now_ms, kept = 10, list[tuple[tuple[str, str], dict[str, Any]]]()
    for step, pause_ms in steps:
        now_ms += pause_ms
        frame = play(exchange, market, step, now_ms)
        if frame is not None:
            kept.append((told(frame), sides(market)))
        now_ms += pause_ms
        kept.append((told(frames.snapshot([(market, 1)], now_ms)), sides(market)))
    for (timestamp, claimed), book in kept:
        found = past.find(market, 1, timestamp, claimed)
        assert found is not None
        assert {side: found[side] for side in ("bids", "asks")} == book
        assert (found["timestamp"], found["hash"]) == (timestamp, claimed)
        assert past.find(market, 1, timestamp, "0" * 40) is None
    # Without a hash the last book of the millisecond is meant, which is that of now.
    assert past.find(market, 1, str(now_ms), None) == past.now(market).show(market, 1, str(now_ms))


def test_the_past_is_bounded() -> None:
    """What is older than the remembered changes is not made up; who asks for how it was then gets the oldest."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100, 1)
    seen: list[tuple[str, str]] = []
    for now_ms in range(2, past.REMEMBERED_CHANGES + 12):
        fact = exchange.place(market, 1, Side.BUY, 5000, SIZE_ONE, now_ms)
        assert isinstance(fact, Placed)
        seen.append(told(frames.price_change(fact)))
    found = [past.find(market, 1, *each) is not None for each in seen]
    assert found == [False] * 10 + [True] * past.REMEMBERED_CHANGES
    assert past.after(market, 15).levels(1, Side.BUY) == [("0.5", "15")]
    assert past.after(market, 3).levels(1, Side.BUY) == [("0.5", "11")]
