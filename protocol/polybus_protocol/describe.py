"""An event in one line, for a log and for people."""

from .events import (
    BestBidAsk,
    Book,
    Event,
    Gap,
    LastTradePrice,
    MarketEvent,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
    type_of,
)
from .subjects import ids_of

SHOWN_CHANGES = 3
"""Changes of one event that a line names; the rest is counted."""


def describe(event: Event) -> str:
    """Say what happened, say `Price change: 0x5f65…d8f1 7132…2563 -> 200 @ 0.5 (bid 0.5, ask 1)`."""
    match event:
        case PriceChange(changes=changes):
            shown = ", ".join(f"{c.side} {c.size} @ {c.price}" for c in changes[:SHOWN_CHANGES])
            more = f" and {len(changes) - SHOWN_CHANGES} more" if len(changes) > SHOWN_CHANGES else ""
            top = (
                f" (bid {changes[-1].best_bid or '-'}, ask {changes[-1].best_ask or '-'})" if changes else ""
            )
            return f"Price change: {_about(event)} -> {shown}{more}{top}"
        case Book(bids=bids, asks=asks):
            best_bid, best_ask = bids[0].price if bids else "-", asks[0].price if asks else "-"
            return (
                f"Book: {_about(event)} -> bid {best_bid}, ask {best_ask} "
                f"({len(bids)} bid and {len(asks)} ask levels)"
            )
        case LastTradePrice(price=price, size=size, side=side):
            return f"Last trade price: {_about(event)} -> {side} {size} @ {price}"
        case TickSizeChange(old_tick_size=old, new_tick_size=new):
            return f"Tick size change: {_about(event)} -> {old or '?'} to {new}"
        case BestBidAsk(best_bid=bid, best_ask=ask):
            return f"Best bid and ask: {_about(event)} -> bid {bid or '-'}, ask {ask or '-'}"
        case NewMarket(market=market, question=question):
            return f"New market: {short(market)} -> {question or '(no question)'}"
        case MarketResolved(market=market, winning_outcome=outcome):
            return f"Market resolved: {short(market)} -> {outcome or '(no outcome)'}"
        case Gap(reason=reason):
            return f"Gap: {' '.join(map(short, ids_of(event)))} -> {reason}"
        case _:
            return type_of(event)


def short(id_: str | None) -> str:
    """An id that a person can tell from another: its beginning and its end."""
    if id_ is None:
        return "-"
    return id_ if len(id_) <= 12 else f"{id_[:6]}…{id_[-4:]}"


def _about(event: MarketEvent) -> str:
    return f"{short(event.market)} {short(event.asset)}"
