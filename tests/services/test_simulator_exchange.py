"""The simulated exchange: whatever people do, its books hold together."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.books.book_hash import book_hash
from polybus_services.simulator import market_frames as frames
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange, Listing, Market
from polybus_services.simulator.facts import (
    Cancelled,
    Fact,
    MarketResolved,
    Placed,
    Side,
    TickChanged,
    Traded,
)
from polybus_services.simulator.ladder import PRICE_ONE, SIZE_ONE, decimal_text, price_text, size_text

LISTING = Listing("1", f"0x{'ab' * 32}", ("11", "22"), ("Yes", "No"), "?", "q", "2")

ORDERS = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from(list(Side)),
    st.integers(40, 60).map(lambda cents: cents * 100),
    st.integers(1, 50 * SIZE_ONE),
)
CANCELS = st.integers(0, 1_000)
STEPS = st.lists(st.one_of(ORDERS, ORDERS, CANCELS), max_size=60)

Level = tuple[str, str]


def resting(market: Market) -> int:
    return sum(market.bids.sizes) + sum(market.asks.sizes)


def levels(market: Market, outcome: int, side: Side) -> list[Level]:
    return [(x["price"], x["size"]) for x in json.loads(f"[{market.levels_json(outcome, side)}]")]


def play(exchange: Exchange, market: Market, step: Any) -> Fact | None:
    """Place an order, or withdraw the `step`-th of those that rest."""
    if isinstance(step, tuple):
        outcome, side, price, size = step
        return exchange.place(market, outcome, side, price, size, 1)
    ladders = (market.bids, market.asks)
    orders = [(x, order) for x in ladders for price in x.prices() for order in x.orders_at(price)]
    if not orders:
        return None
    ladder, order = orders[step % len(orders)]
    return exchange.cancel(market, ladder, order, step % 2, 1)


def mirrored(side: list[Level]) -> list[tuple[int, str]]:
    return [(PRICE_ONE - scaled(price), size) for price, size in side]


def scaled(price: str) -> int:
    whole, _, fraction = price.partition(".")
    return int(whole) * PRICE_ONE + int(fraction.ljust(4, "0") or 0)


@given(STEPS)
def test_whatever_order_comes_the_book_is_sound(steps: list[Any]) -> None:
    """Never crossed, sorted worst to best, each token the mirror of the other, no share made or lost."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100)
    for step in steps:
        before = resting(market)
        fact = play(exchange, market, step)
        match fact:
            case Placed():
                assert resting(market) == before + fact.order_size
            case Cancelled():
                assert resting(market) == before - fact.order_size
            case Traded():
                assert sum(fill.size for fill in fact.fills) == fact.size
                assert fact.size + fact.rested == step[3]
                assert resting(market) == before - fact.size + fact.rested
            case _:
                assert fact is None
        bid, ask = market.top()
        assert bid is None or ask is None or bid < ask
        for ladder in (market.bids, market.asks):
            prices = ladder.prices()
            assert prices == sorted(prices, reverse=ladder.direction < 0)
            assert [sum(o.remaining for o in ladder.orders_at(p)) for p in prices] == ladder.sizes
            assert 0 not in ladder.sizes
        for side in Side:
            own = [(scaled(price), size) for price, size in levels(market, 0, side)]
            assert own == mirrored(levels(market, 1, side.opposite))


@given(STEPS)
def test_frames_tell_the_book_and_its_hash(steps: list[Any]) -> None:
    """Deltas and books, applied in order, give the exchange's book; each hash is that of the book then."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100)
    kept: dict[str, dict[Side, dict[str, str]]] = {
        asset: {side: {} for side in Side} for asset in LISTING.assets
    }

    def check_hash(asset: str, timestamp: str, claimed: str) -> None:
        sides = {
            side: sorted(
                kept[asset][side].items(), key=lambda level: scaled(level[0]), reverse=side is Side.SELL
            )
            for side in Side
        }
        assert claimed == book_hash(
            LISTING.market,
            asset,
            timestamp,
            sides[Side.BUY],
            sides[Side.SELL],
            min_order_size="5",
            tick_size="0.01",
            neg_risk=False,
            last_trade_price=market.last_trade_price,
        )

    for step in steps:
        match play(exchange, market, step):
            case (Placed() | Cancelled()) as fact:
                frame = json.loads(frames.price_change(fact).text)
                assert [change["asset_id"] for change in frame["price_changes"]] == [
                    LISTING.assets[fact.outcome],
                    LISTING.assets[1 - fact.outcome],
                ]
                for change in frame["price_changes"]:
                    side = kept[change["asset_id"]][Side(change["side"])]
                    side[change["price"]] = change["size"]
                    if change["size"] == "0":
                        del side[change["price"]]
                    check_hash(change["asset_id"], frame["timestamp"], change["hash"])
                    best = {
                        Side.BUY: max(kept[change["asset_id"]][Side.BUY], key=scaled, default="0"),
                        Side.SELL: min(kept[change["asset_id"]][Side.SELL], key=scaled, default="1"),
                    }
                    assert (change["best_bid"], change["best_ask"]) == (best[Side.BUY], best[Side.SELL])
            case Traded() as fact:
                for outcome, asset in enumerate(LISTING.assets):
                    frame = json.loads(frames.book(market, outcome, fact.now_ms).text)
                    kept[asset] = {
                        Side.BUY: {x["price"]: x["size"] for x in frame["bids"]},
                        Side.SELL: {x["price"]: x["size"] for x in frame["asks"]},
                    }
                    check_hash(asset, frame["timestamp"], frame["hash"])
            case _:
                pass
    for outcome, asset in enumerate(LISTING.assets):
        assert {side: dict(levels(market, outcome, side)) for side in Side} == kept[asset]


def test_older_orders_are_filled_first() -> None:
    """At one price, who came first trades first; a better price goes before any."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100)
    placed = [exchange.place(market, 0, Side.SELL, price, SIZE_ONE, 1) for price in (5100, 5200, 5100)]
    fact = exchange.place(market, 0, Side.BUY, 5200, 5 * SIZE_ONE // 2, 1)
    assert isinstance(fact, Traded)
    assert [fill.order_id for fill in fact.fills] == [
        placed[0].order_id,
        placed[2].order_id,
        placed[1].order_id,
    ]
    assert (fact.price, fact.rested, market.asks.sizes) == (5200, 0, [SIZE_ONE // 2])
    assert market.last_trade_price == "0.520"


def test_a_bid_on_one_token_meets_a_bid_on_the_other() -> None:
    """Two who buy opposite outcomes for a dollar together trade with each other."""
    exchange = Exchange()
    market = exchange.open_market(LISTING, 100)
    exchange.place(market, 0, Side.BUY, 6000, SIZE_ONE, 1)
    fact = exchange.place(market, 1, Side.BUY, 4000, SIZE_ONE, 1)
    assert isinstance(fact, Traded)
    assert (fact.price, fact.size, market.top()) == (4000, SIZE_ONE, (None, None))


@pytest.mark.parametrize("price", [0, 50, 4150, 10_000])
def test_no_order_off_the_grid(price: int) -> None:
    """A price between two ticks, or at the very ends, is refused."""
    exchange = Exchange()
    with pytest.raises(ValueError, match="tick"):
        exchange.place(exchange.open_market(LISTING, 100), 0, Side.BUY, price, SIZE_ONE, 1)


def acts(seed: int, count: int, options: CrowdOptions, markets: int = 8) -> tuple[Exchange, list[Fact]]:
    exchange = Exchange()
    crowd = Crowd(exchange, seed, options)
    for _ in range(markets):
        crowd.open_market(0)
    return exchange, [crowd.act(now) for now in range(count)]


def told(fact: Fact) -> tuple[object, ...]:
    names = [name for name in fact.__struct_fields__ if name != "market"]
    return (type(fact), fact.market.listing, *(getattr(fact, name) for name in names))


def test_same_seed_same_facts() -> None:
    """One seed gives one history, ids and all; another seed another."""
    often = CrowdOptions(new_market_share=0.01, resolve_share=0.01)
    first, second, other = (acts(seed, 2_000, often) for seed in (5, 5, 6))
    assert [told(fact) for fact in first[1]] == [told(fact) for fact in second[1]]
    assert set(first[0].assets).isdisjoint(other[0].assets)


def test_the_mix_is_that_of_the_venue() -> None:
    """About 98 % deltas, two books and one trade event per trade; books of tens of levels, never more than 40."""
    exchange, facts = acts(1, 30_000, CrowdOptions())
    kinds = Counter(type(fact) for fact in facts)
    share = kinds[Traded] / len(facts)
    assert 0.005 < share < 0.010
    for market in exchange.markets.values():
        for ladder in (market.bids, market.asks):
            assert len(ladder) <= 40
    first = next(iter(exchange.markets.values()))
    assert len(first.bids) + len(first.asks) > 20


def test_past_the_edge_the_tick_becomes_fine() -> None:
    """A market whose middle is above 0.96 or below 0.04 changes its tick once, and prices get finer."""
    _, facts = acts(2, 20_000, CrowdOptions(), markets=12)
    changed = [fact for fact in facts if isinstance(fact, TickChanged)]
    assert changed
    assert len(changed) == len({fact.market.listing.market for fact in changed})
    for fact in changed:
        assert (fact.old_tick, fact.new_tick, fact.market.tick) == (100, 10, 10)
    assert any(
        fact.market.tick == 10 and price % 100 for fact in changed for price in fact.market.bids.prices()
    )


def test_markets_of_the_start_are_not_decided_by_chance() -> None:
    """Only what opened on the way is decided, and then nothing happens there any more."""
    exchange, facts = acts(4, 5_000, CrowdOptions(new_market_share=0.02, resolve_share=0.02))
    decided = [fact.market for fact in facts if isinstance(fact, MarketResolved)]
    assert decided
    assert not any(market.resolved for market in list(exchange.markets.values())[:8])
    for market in decided:
        last = [fact for fact in facts if fact.market is market][-1]
        assert isinstance(last, MarketResolved)


def test_ids_look_like_the_venues() -> None:
    """Condition ids are 0x and 64 hex digits; token ids 76 to 78 decimal digits; all different."""
    exchange, _ = acts(1, 0, CrowdOptions(), markets=200)
    assert len(exchange.assets) == 400
    assert all(len(market) == 66 and int(market, 16) for market in exchange.markets)
    assert {len(asset) for asset in exchange.assets} <= {76, 77, 78}


@given(st.integers(0, 10**12))
def test_decimals_are_written_plainly(value: int) -> None:
    """No exponent, no trailing zero, no digit lost."""
    text = size_text(value)
    whole, _, fraction = text.partition(".")
    assert int(whole) * SIZE_ONE + int(fraction.ljust(6, "0") or 0) == value
    assert not text.endswith((".", "0")) or fraction == ""


@pytest.mark.parametrize(
    ("price", "text"), [(0, "0"), (5000, "0.5"), (10, "0.001"), (9_999, "0.9999"), (10_000, "1")]
)
def test_prices_as_text(price: int, text: str) -> None:
    """Prices are trimmed, as on the venue."""
    assert price_text(price) == decimal_text(price, 4) == text
