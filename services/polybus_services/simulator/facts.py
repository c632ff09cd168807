"""What happens on the simulated exchange, as values.

The exchange emits facts; each feed says them in its own frames.  A fact speaks of the market as it is right
after it, so a feed must translate a fact before the exchange does the next thing.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from polybus_services.simulator.comments import Comment, Reaction
    from polybus_services.simulator.exchange import Market
    from polybus_services.simulator.games import Game
    from polybus_services.simulator.ladder import Order
    from polybus_services.simulator.prices import PriceSeries


class Side(enum.StrEnum):
    """A side of the book, or what a taker did; the venue's own words."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The other one."""
        return Side.SELL if self is Side.BUY else Side.BUY


class LevelChanged(msgspec.Struct, frozen=True):
    """An order began to rest, or was withdrawn."""

    market: Market
    now_ms: int
    order_id: int
    outcome: int
    """0 or 1: the token the order is for.  `side` and `price` are as that token sees them."""
    side: Side
    price: int
    order_size: int
    """What was placed or withdrawn."""
    level_size: int
    """What rests at that price now; 0 when the level is gone."""
    top_moved: bool
    """Whether the best bid or ask is another price than before."""
    order: Order
    """The order itself, as it is now."""


class Placed(LevelChanged, frozen=True):
    """An order began to rest on the book."""


class Cancelled(LevelChanged, frozen=True):
    """A resting order was withdrawn."""


class Fill(msgspec.Struct, frozen=True, gc=False):
    """What one resting order gave to a trade."""

    order_id: int
    price: int
    """As the first token sees it."""
    size: int
    order: Order
    """The resting order itself, as it is now."""


class Traded(msgspec.Struct, frozen=True):
    """An order crossed the book and met resting ones.  What was left of it rests; the new book shows it."""

    market: Market
    now_ms: int
    order_id: int
    outcome: int
    """The taker's token; `side` and `price` are as that token sees them."""
    side: Side
    price: int
    """Of the last level touched."""
    size: int
    """Shares that changed hands."""
    rested: int
    """Shares of the taker's order that found nobody and rest now."""
    fills: tuple[Fill, ...]
    transaction_hash: str
    top_moved: bool
    order: Order
    """The taker's order itself, as it is now."""


class TickChanged(msgspec.Struct, frozen=True):
    """The smallest price step of a market is another one."""

    market: Market
    now_ms: int
    old_tick: int
    new_tick: int


class MarketCreated(msgspec.Struct, frozen=True):
    """A market opened, with its first orders on the book."""

    market: Market
    now_ms: int


class MarketResolved(msgspec.Struct, frozen=True):
    """A market is decided; it trades no more."""

    market: Market
    now_ms: int
    winner: int
    """0 or 1: the outcome that pays."""


Fact = Placed | Cancelled | Traded | TickChanged | MarketCreated | MarketResolved
"""What happens on the exchange itself."""


class TradeStatus(enum.StrEnum):
    """How far a trade's settlement on the chain has got; the venue's own words."""

    MATCHED = "MATCHED"
    RETRYING = "RETRYING"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"


class Settled(msgspec.Struct, frozen=True):
    """A trade's settlement got further.  Each trade is MINED at most once, however often it is retried."""

    trade: Traded
    now_ms: int
    status: TradeStatus


class Price(msgspec.Struct, frozen=True, gc=False):
    """What something cost at a moment."""

    time_ms: int
    """Of the price.  No two prices of a symbol have the same, and they rise."""
    value: int
    """In 1e-8 dollars."""


class PriceMoved(msgspec.Struct, frozen=True):
    """A reference price is another one, or an exchange opened or closed."""

    series: PriceSeries
    now_ms: int
    carried_forward: bool = False
    """The price is the old one: only whether the exchange is open is new."""


class Commented(msgspec.Struct, frozen=True):
    """Somebody commented or reacted, or took it back."""

    kind: str
    """`comment_created`, `comment_removed`, `reaction_created` or `reaction_removed`."""
    comment: Comment
    now_ms: int
    reaction: Reaction | None = None


class GameChanged(msgspec.Struct, frozen=True):
    """A game's score or state is another one."""

    game: Game
    now_ms: int


Happening = Fact | Settled | PriceMoved | Commented | GameChanged
"""Everything that happens, on the exchange and around it."""
