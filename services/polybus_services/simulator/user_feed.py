"""The manners of `/ws/user`: what an account hears of its orders and trades, and what silence can mean there.

| state | text | answer |
| --- | --- | --- |
| FRESH | `PING` | close 1008 |
| FRESH | the opening message with the right `auth` | nothing; LIVE |
| FRESH | the opening message with any other | nothing; REFUSED |
| FRESH | anything else | `INVALID OPERATION` |
| LIVE, REFUSED | `PING` | `PONG` |
| LIVE | `{"operation": "subscribe" or "unsubscribe", "markets": [...]}` | nothing |
| REFUSED | anything else | nothing; after a moment the connection is cut, or never |
| LIVE | anything else | `INVALID OPERATION` |

There is no snapshot, no acknowledgement and no error for wrong credentials: that they are right shows in the
first event, which may be hours away.  That the words for a bad message and an early PING are the market
channel's is an assumption; both channels are one program.
"""

import enum
from collections.abc import Iterator
from typing import Literal

import msgspec

from polybus_services.simulator import user_frames as frames
from polybus_services.simulator.exchange import Market
from polybus_services.simulator.facts import (
    Cancelled,
    Happening,
    MarketResolved,
    Placed,
    Settled,
    Traded,
    TradeStatus,
)
from polybus_services.simulator.feeds import (
    Answer,
    Close,
    Cut,
    Gate,
    Manners,
    Publication,
    admit_all,
)
from polybus_services.simulator.ladder import Order
from polybus_services.simulator.market_feed import EARLY_PING, INVALID_OPERATION, PONG
from polybus_services.simulator.people import Account, People, trade_id

CREDENTIAL_REFUSED = Close(4001, "credential refused")


class UserChoices(msgspec.Struct, frozen=True):
    """Where the reports differ."""

    wrong_credentials: Literal["cut", "silent"] = "cut"
    """Most report a lost connection without a reason (py-clob-client #204, #206); "silent" is PONGs and nothing
    else, for ever.  Builder credentials are wrong ones."""
    cut_after_s: float = 1.0


class _Auth(msgspec.Struct):
    api_key: str = msgspec.field(name="apiKey")
    secret: str
    passphrase: str


class _Opening(msgspec.Struct):
    """Old clients also send `assets_ids`, which this channel ignores."""

    type: str
    auth: _Auth
    markets: list[str] | None = None


class _Operation(msgspec.Struct):
    operation: Literal["subscribe", "unsubscribe"]
    markets: list[str]


class State(enum.Enum):
    """How far a client has got."""

    FRESH = enum.auto()
    """Connected; the opening message has not come yet."""
    LIVE = enum.auto()
    """Let in."""
    REFUSED = enum.auto()
    """Not let in, and not told so."""


class UserManners(Manners):
    """The venue's side of one connection."""

    def __init__(self, feed: "UserFeed", connection: str) -> None:
        self.state = State.FRESH
        self.account: Account | None = None
        self._feed = feed
        self._connection = connection
        self._everything = False
        self._markets: dict[str, None] = {}
        self._cut_at_ms: float | None = None

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame; see the table above."""
        if text == "PING":
            return [EARLY_PING] if self.state is State.FRESH else [PONG]
        try:
            match self.state:
                case State.FRESH:
                    return self._open(msgspec.json.decode(text, type=_Opening), now_ms)
                case State.LIVE:
                    self._change(msgspec.json.decode(text, type=_Operation))
                case State.REFUSED:
                    pass
        except msgspec.DecodeError:
            return [INVALID_OPERATION]
        return []

    def tick(self, now_ms: int) -> list[Answer]:
        """Cut the connection of a client that was refused a moment ago."""
        if self._cut_at_ms is None or now_ms < self._cut_at_ms:
            return []
        self._cut_at_ms = None
        return [Cut("wrong credentials")]

    def wants(self, market: str) -> bool:
        """Whether events of that market are meant for it."""
        return self._everything or market in self._markets

    def leave(self) -> None:
        """The connection is over."""
        self._feed.leave(self)

    def _open(self, opening: _Opening, now_ms: int) -> list[Answer]:
        if opening.type.lower() != "user":
            return [INVALID_OPERATION]
        self.state = State.REFUSED
        fate = self._feed.gate(self._connection)
        if fate == "4001":
            return [CREDENTIAL_REFUSED]
        auth = opening.auth
        account = self._feed.people.admits(auth.api_key, auth.secret, auth.passphrase)
        choices = self._feed.choices
        if fate == "admit" and account is not None:
            self.state, self.account = State.LIVE, account
            # No key and an empty list are said to mean the same: every market of the account.
            self._everything = not opening.markets
            self._markets = dict.fromkeys(opening.markets or [])
            self._feed.join(self)
        elif fate == "admit" and choices.wrong_credentials == "cut":
            self._cut_at_ms = now_ms + choices.cut_after_s * 1_000
        return []

    def _change(self, operation: _Operation) -> None:
        for market in operation.markets:
            if operation.operation == "subscribe":
                self._markets[market] = None
            else:
                self._markets.pop(market, None)


class UserFeed:
    """Facts of the exchange as the accounts concerned hear of them.

    Args:
        people: who owns which order.
        choices: where reports differ.
        gate: what the faults make of an attempt to authenticate.
    """

    name = "user"
    paths: tuple[str, ...] = ("/ws/user",)
    arrays = False

    def __init__(self, people: People, choices: UserChoices, gate: Gate = admit_all) -> None:
        self.people = people
        self.choices = choices
        self.gate = gate
        self._readers: dict[str, dict[UserManners, None]] = {label: {} for label in people.accounts}
        self._trades: dict[int, list[str]] = {}
        # Of each order of an account that still rests, the trades it took part in.

    def greet(self, connection: str = "", now_ms: int = 0) -> UserManners:  # noqa: ARG002 - it is not needed here
        """A client connected."""
        return UserManners(self, connection)

    def join(self, manners: UserManners) -> None:
        """Publish to this client what its account does."""
        if manners.account is not None:
            self._readers[manners.account.label][manners] = None

    def leave(self, manners: UserManners) -> None:
        """Publish no more to it."""
        if manners.account is not None:
            self._readers[manners.account.label].pop(manners, None)

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say what concerns an account."""
        match happening:
            case Placed(market=market, order=order, now_ms=now_ms):
                yield from self._order(market, order, "PLACEMENT", now_ms, 0)
            case Cancelled(market=market, order=order, now_ms=now_ms, order_size=withdrawn):
                yield from self._order(market, order, "CANCELLATION", now_ms, order.size - withdrawn)
                self._trades.pop(order.id, None)
            case Traded():
                yield from self._traded(happening)
            case Settled(trade=trade, status=status, now_ms=now_ms):
                yield from self._trade(trade, status, now_ms)
            case MarketResolved(market=market, now_ms=now_ms):
                for order in market.resting():
                    matched = order.size - order.remaining
                    yield from self._order(market, order, "CANCELLATION", now_ms, matched)
                    self._trades.pop(order.id, None)
            case _:
                pass

    def _traded(self, trade: Traded) -> Iterator[Publication]:
        """The orders first, then the trade; an order that trades at once is placed and matched in one breath."""
        yield from self._order(trade.market, trade.order, "PLACEMENT", trade.now_ms, 0)
        for order in (trade.order, *(fill.order for fill in trade.fills)):
            if self.people.account(order.id) is None:
                continue
            self._trades.setdefault(order.id, []).append(trade_id(trade))
            yield from self._order(trade.market, order, "UPDATE", trade.now_ms, order.size - order.remaining)
            if not order.remaining:
                del self._trades[order.id]
        yield from self._trade(trade, TradeStatus.MATCHED, trade.now_ms)

    def _order(
        self, market: Market, order: Order, kind: str, now_ms: int, matched: int
    ) -> Iterator[Publication]:
        account = self.people.account(order.id)
        if account is not None and (readers := self._of(account, market)):
            trades = list(self._trades.get(order.id, ()))
            yield (
                frames.order(self.people, account, market, order, kind, now_ms, trades, matched),
                readers,
            )

    def _trade(self, trade: Traded, status: TradeStatus, now_ms: int) -> Iterator[Publication]:
        """Once for each account in it: who trades with himself hears of it as the taker."""
        concerned = {
            account.label: account
            for order_id in (trade.order_id, *(fill.order_id for fill in trade.fills))
            if (account := self.people.account(order_id))
        }
        for account in concerned.values():
            if readers := self._of(account, trade.market):
                yield frames.trade(self.people, account, trade, status, now_ms), readers

    def _of(self, account: Account, market: Market) -> list[UserManners]:
        readers = self._readers[account.label]
        return [manners for manners in readers if manners.wants(market.listing.market)]
