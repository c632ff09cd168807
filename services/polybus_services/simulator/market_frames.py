"""The market feed's events as the venue writes them, to the order of the keys.

Key orders are those of captures of August 2026; levels go worst to best on both sides.  Pure translation:
who gets a frame is `market_feed.py`.
"""

import json

from polybus_services.simulator.exchange import Market
from polybus_services.simulator.facts import (
    Cancelled,
    MarketCreated,
    MarketResolved,
    Placed,
    Side,
    TickChanged,
    Traded,
)
from polybus_services.simulator.feeds import Entry, Frame
from polybus_services.simulator.ladder import PRICE_ONE, decimal_text, price_text, size_text


def snapshot(books: list[tuple[Market, int]], now_ms: int) -> Frame:
    """The first books after subscribing: one array of all of them."""
    return Frame(
        tuple(Entry(m.listing.assets[o], "book", _initial_book(m, o, now_ms)) for m, o in books), "[", "]"
    )


def _initial_book(market: Market, outcome: int, now_ms: int) -> str:
    return (
        f'{{"market":"{market.listing.market}","asset_id":"{market.listing.assets[outcome]}",'
        f'"timestamp":"{now_ms}","hash":"{market.book_hash(outcome, str(now_ms))}",{_levels(market, outcome)},'
        f'"tick_size":"{price_text(market.tick)}","event_type":"book",'
        f'"last_trade_price":"{market.last_trade_price}"}}'
    )


def book(market: Market, outcome: int, now_ms: int) -> Frame:
    """A book after a trade or a new tick size: other keys, in another order, than the first."""
    asset = market.listing.assets[outcome]
    text = (
        f'{{"market":"{market.listing.market}","asset_id":"{asset}",{_levels(market, outcome)},'
        f'"hash":"{market.book_hash(outcome, str(now_ms))}","timestamp":"{now_ms}","event_type":"book"}}'
    )
    return Frame((Entry(asset, "book", text),))


def price_change(fact: Placed | Cancelled) -> Frame:
    """A level's new size, said for both tokens: the order's own first, then its mirror image."""
    market, outcome, side, price = fact.market, fact.outcome, fact.side, fact.price
    timestamp, size = str(fact.now_ms), size_text(fact.level_size)

    def entry(outcome: int, side: Side, price: int) -> Entry:
        asset = market.listing.assets[outcome]
        bid, ask = _top(market, outcome, no_bid="0", no_ask="1")
        text = (
            f'{{"asset_id":"{asset}","price":"{price_text(price)}","size":"{size}","side":"{side.value}",'
            f'"hash":"{market.book_hash(outcome, timestamp)}","best_bid":"{bid}","best_ask":"{ask}"}}'
        )
        return Entry(asset, "price_change", text)

    return Frame(
        (entry(outcome, side, price), entry(1 - outcome, side.opposite, PRICE_ONE - price)),
        f'{{"market":"{market.listing.market}","price_changes":[',
        f'],"timestamp":"{timestamp}","event_type":"price_change"}}',
    )


def last_trade_price(fact: Traded) -> Frame:
    """A trade, told of the taker's token only."""
    asset = fact.market.listing.assets[fact.outcome]
    text = (
        f'{{"market":"{fact.market.listing.market}","asset_id":"{asset}","price":"{price_text(fact.price)}",'
        f'"size":"{size_text(fact.size)}","fee_rate_bps":"0","side":"{fact.side.value}","timestamp":"{fact.now_ms}",'
        f'"event_type":"last_trade_price","transaction_hash":"{fact.transaction_hash}"}}'
    )
    return Frame((Entry(asset, "last_trade_price", text),))


def tick_size_change(fact: TickChanged, outcome: int) -> Frame:
    """A new price step, told of one token."""
    asset = fact.market.listing.assets[outcome]
    text = (
        f'{{"market":"{fact.market.listing.market}","asset_id":"{asset}",'
        f'"old_tick_size":"{price_text(fact.old_tick)}","new_tick_size":"{price_text(fact.new_tick)}",'
        f'"timestamp":"{fact.now_ms}","event_type":"tick_size_change"}}'
    )
    return Frame((Entry(asset, "tick_size_change", text),))


def best_bid_ask(market: Market, outcome: int, now_ms: int) -> Frame:
    """The top of one token's book; a side that is empty is an empty string here."""
    asset = market.listing.assets[outcome]
    bid, ask = _top(market, outcome, no_bid="", no_ask="")
    best_bid, best_ask = market.best(outcome, Side.BUY), market.best(outcome, Side.SELL)
    spread = "" if best_bid is None or best_ask is None else decimal_text(best_ask - best_bid, 4)
    text = (
        f'{{"market":"{market.listing.market}","asset_id":"{asset}","best_bid":"{bid}","best_ask":"{ask}",'
        f'"spread":"{spread}","timestamp":"{now_ms}","event_type":"best_bid_ask"}}'
    )
    return Frame((Entry(asset, "best_bid_ask", text),))


def new_market(fact: MarketCreated) -> Frame:
    """A market opened."""
    listing = fact.market.listing
    return _about_market(
        listing.market,
        {
            "id": listing.id,
            "question": listing.question,
            "market": listing.market,
            "slug": listing.slug,
            "description": "",
            "assets_ids": listing.assets,
            "outcomes": listing.outcomes,
            "event_message": _event_message(fact.market),
            "timestamp": str(fact.now_ms),
            "event_type": "new_market",
            "tags": listing.tags,
            "condition_id": listing.market,
            "active": True,
            "clob_token_ids": listing.assets,
            "sports_market_type": "",
            "line": "",
            "game_start_time": "",
            "order_price_min_tick_size": price_text(fact.market.tick),
            "group_item_title": "",
        },
    )


def market_resolved(fact: MarketResolved) -> Frame:
    """A market is decided."""
    listing = fact.market.listing
    return _about_market(
        listing.market,
        {
            "id": listing.id,
            "market": listing.market,
            "assets_ids": listing.assets,
            "winning_asset_id": listing.assets[fact.winner],
            "winning_outcome": listing.outcomes[fact.winner],
            "event_message": _event_message(fact.market),
            "timestamp": str(fact.now_ms),
            "event_type": "market_resolved",
            "tags": listing.tags,
        },
    )


def _about_market(market: str, event: dict[str, object]) -> Frame:
    return Frame((Entry(market, str(event["event_type"]), json.dumps(event, separators=(",", ":"))),))


def _event_message(market: Market) -> dict[str, str]:
    listing = market.listing
    return {
        "id": listing.event_id,
        "ticker": listing.slug,
        "slug": listing.slug,
        "title": listing.question,
        "description": "",
    }


def _levels(market: Market, outcome: int) -> str:
    return (
        f'"bids":[{market.levels_json(outcome, Side.BUY)}],"asks":[{market.levels_json(outcome, Side.SELL)}]'
    )


def _top(market: Market, outcome: int, *, no_bid: str, no_ask: str) -> tuple[str, str]:
    bid, ask = market.best(outcome, Side.BUY), market.best(outcome, Side.SELL)
    return no_bid if bid is None else price_text(bid), no_ask if ask is None else price_text(ask)
