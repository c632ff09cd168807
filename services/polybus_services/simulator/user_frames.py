"""The user feed's events as the venue writes them, moods included.

The venue is not of one mind about times and empty values: most samples have milliseconds in `timestamp`, the
documents' own have seconds; the match's time comes under two spellings.  Which mood an event is in hangs on
its ids, so a seed repeats it.
"""

import json
import zlib
from collections.abc import Mapping

from polybus_services.simulator.exchange import Market
from polybus_services.simulator.facts import Traded, TradeStatus
from polybus_services.simulator.feeds import Entry, Frame
from polybus_services.simulator.ladder import Order, price_text, size_text
from polybus_services.simulator.people import Account, People, trade_id

REASON = "CANCELED_not enough balance / allowance"
"""A status may go on with a sentence (nautilus_trader #3987)."""

ODD_IN = 16
"""Each odd mood comes once in so many events."""


def order(
    people: People,
    account: Account,
    market: Market,
    order: Order,
    kind: str,
    now_ms: int,
    trades: list[str],
    matched: int,
) -> Frame:
    """What became of an account's order.

    Args:
        people: who knows the ids.
        account: whose order it is.
        market: where it was placed.
        order: as it is now.
        kind: `PLACEMENT`, `UPDATE` or `CANCELLATION`.
        now_ms: the venue's clock.
        trades: ids of the trades it took part in.
        matched: how much of it, in 1e-6 shares; of a cancelled order the order itself does not tell.
    """
    order_hash = people.order_hash(order.id)
    odd = _mood(order_hash, kind)
    status = "MATCHED" if matched == order.size else "LIVE"
    size_matched = size_text(matched)
    if kind == "CANCELLATION":
        status = "CANCELED"
        if market.resolved:
            status = "CANCELED_MARKET_RESOLVED"
        elif odd == 1:
            status = REASON
            size_matched = size_matched if matched else ""
    event = {
        "event_type": "order",
        "id": order_hash,
        "owner": account.api_key,
        "market": market.listing.market,
        "asset_id": market.listing.assets[order.outcome],
        "side": order.side.value,
        "order_owner": account.api_key,
        "original_size": size_text(order.size),
        "size_matched": size_matched,
        "price": price_text(order.sees(order.price)),
        "associate_trades": trades or (None if kind == "PLACEMENT" else []),
        "outcome": market.listing.outcomes[order.outcome],
        "type": kind,
        "created_at": {2: str(order.placed_ms), 3: ""}.get(odd, str(order.placed_ms // 1_000)),
        "expiration": "0",
        "order_type": "GTC",
        "status": status,
        "maker_address": account.wallet,
        "timestamp": str(now_ms // 1_000 if odd == 4 else now_ms),
    }
    return _frame(account, market, "order", event)


def trade(people: People, account: Account, trade: Traded, status: TradeStatus, now_ms: int) -> Frame:
    """How far a trade has got that an account took part in."""
    market, identity = trade.market, trade_id(trade)
    taker = people.owner(trade.order_id)
    odd = _mood(identity, status)
    fee = "" if odd == 1 else "0"
    matched_s = str(trade.now_ms // 1_000)
    makers = [
        {
            "order_id": people.order_hash(fill.order_id),
            "owner": people.owner(fill.order_id).api_key,
            "maker_address": people.owner(fill.order_id).wallet,
            "matched_amount": size_text(fill.size),
            "price": price_text(fill.order.sees(fill.price)),
            "fee_rate_bps": fee,
            "asset_id": market.listing.assets[fill.order.outcome],
            "outcome": market.listing.outcomes[fill.order.outcome],
            "side": fill.order.side.value,
            **({"outcome_index": fill.order.outcome} if odd == 1 else {}),
        }
        for fill in trade.fills
    ]
    event = {
        "event_type": "trade",
        "type": "TRADE",
        "id": identity,
        "taker_order_id": people.order_hash(trade.order_id),
        "market": market.listing.market,
        "asset_id": market.listing.assets[trade.outcome],
        "side": trade.side.value,
        "size": size_text(trade.size),
        "price": price_text(trade.price),
        "fee_rate_bps": fee,
        "status": status.value,
        **({"matchtime": matched_s} if odd == 2 else {}),
        "last_update": str(now_ms // 1_000),
        "outcome": market.listing.outcomes[trade.outcome],
        "owner": account.api_key,
        "trade_owner": account.api_key,
        "maker_address": taker.wallet,
        "transaction_hash": (None if odd == 1 else "")
        if status is TradeStatus.MATCHED
        else trade.transaction_hash,
        "bucket_index": 0,
        "maker_orders": makers,
        "trader_side": "TAKER" if taker is account else "MAKER",
        "timestamp": str(now_ms // 1_000 if odd == 2 else now_ms),
        **({} if odd == 2 else {"match_time": matched_s}),
    }
    return _frame(account, market, "trade", event)


def _mood(identity: str, of: str) -> int:
    """1 to 4 for the odd ones, each once in `ODD_IN` events; the rest are as usual."""
    return zlib.crc32(f"{identity} {of}".encode()) % ODD_IN


def _frame(account: Account, market: Market, kind: str, event: Mapping[str, object]) -> Frame:
    text = json.dumps(event, separators=(",", ":"))
    return Frame((Entry(f"{account.label}/{market.listing.market}", kind, text),))
