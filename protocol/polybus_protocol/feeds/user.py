"""The user feed (`/ws/user`): an account's orders and trades, and how to ask for them.

Facts: docs.polymarket.com user-channel page, nautilus_trader issues 3403 and 3987.  Interest is counted in
condition ids, or in `ACCOUNT` for all markets of the account.  An event's key is its condition id,
which answers both.  The venue says nothing about credentials, neither when they are right
nor when they are wrong.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Self

import msgspec
from msgspec import UNSET

from ..errors import LocalProtocolError
from ..events import Event, MakerOrder, Order, Trade
from ..profile import FeedProfile
from .careful import Drift, Element, read_frame
from .credentials import Credentials
from .dialect import EVERYTHING, Manners, Proof
from .reading import Keyed, Word, present, unknown, write
from .user_wire import WireMakerOrder, WireOpening, WireOperation, WireOrder, WireTrade
from .values import decimal, difference, moment, number

FEED = "user"

ACCOUNT = EVERYTHING
"""The key of interest in all markets of the account."""

CANCELED = "CANCELED"
"""The one status that the venue appends a reason to, after a `_`."""

STATUS_PREFIXES = ("TRADE_STATUS_", "ORDER_STATUS_")
"""What the venue's enums put before a status, elsewhere than on this feed."""


def asset_key(asset: str) -> str:
    """The key of interest in one asset, whatever its market; the venue knows no such filter."""
    return f"asset={asset}"


def duplicate_key(event: Order | Trade) -> tuple[str | None, ...]:
    """What two reports of the same thing have in common, whichever connection brought them.

    A trade is reported once per status.  An order keeps its status from one partial fill to the next, so
    the size matched belongs to what it says.
    """
    if isinstance(event, Trade):
        return ("trade", event.account, event.id, event.status)
    detail = (event.action, event.status, event.status_detail, event.size_matched)
    return ("order", event.account, event.id, *detail)


class _Kind(msgspec.Struct, gc=False):
    """Just enough of an element to tell what it is."""

    event_type: str | None = None


_read_kind = msgspec.json.Decoder(_Kind).decode
_read_order = msgspec.json.Decoder(WireOrder).decode
_read_trade = msgspec.json.Decoder(WireTrade).decode


REMEMBERED_EVENTS = 10_000
"""Orders and trades whose repetition is recognised; a repetition follows within seconds."""


class UserDialect(Manners):
    """The language of the user feed, as one connection speaks it for one account.

    Args:
        account: the operator's label, which stands in subjects and events.
        credentials: the account's; without them one can read, but not say the opening.
        narrow: ask the venue for the wanted markets only.  Otherwise all of the account is asked for, and what
            nobody wants is left out here: own trades were missed behind a filter (py-sdk issue 102), and a
            connection that was opened for some markets cannot be widened to all.
    """

    feed: str = FEED
    ping: str = "PING"
    proof: Proof = Proof.SILENT
    words: Mapping[bytes, Word] = MappingProxyType(
        {
            b"PONG": Word.KEEPALIVE,
            b"": Word.KEEPALIVE,
            b"NO NEW ASSETS": Word.IDLE,
            b"INVALID OPERATION": Word.REFUSAL,
        }
    )

    def __init__(
        self, account: str | None = None, credentials: Credentials | None = None, *, narrow: bool = True
    ) -> None:
        self._narrow = narrow
        self._account = account
        self._credentials = credentials
        self._drift = Drift(FEED)
        self._seen: OrderedDict[tuple[str | None, ...], None] = OrderedDict()
        self.repeated = 0
        """Events that said again what an earlier one had said."""

    @property
    def unknown_fields(self) -> Counter[str]:
        """How often a field was met that this version does not know, by `event_type.field`."""
        return self._drift.fields

    @classmethod
    def spoken(cls, profile: FeedProfile, account: str | None, credentials: Credentials | None) -> Self:  # noqa: ARG003
        """See `Manners`."""
        return cls(account, credentials, narrow=False)

    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:
        """An event answers its market, its asset, and the wish for all of the account."""
        answered = super().answers(key, event, keys)
        if isinstance(event, Order | Trade) and (asset := asset_key(event.asset)) in keys:
            answered.append(asset)
        return answered

    def is_quiet(self, key: str) -> bool:  # noqa: ARG002
        """All are: an account may do nothing for days."""
        return True

    def opening(self, keys: Collection[str]) -> str:
        """The message that opens the subscription.  It holds the secret: it must not be logged.

        Raises:
            LocalProtocolError: there are no credentials.
        """
        if self._credentials is None:
            account = f"the account {self._account!r}" if self._account else "the account"
            raise LocalProtocolError(
                f"{account} has no credentials, and the user feed answers nobody without"
            )
        # An empty list means all markets to some servers and none to others (py-sdk 0.1.0-b8): name or omit.
        markets = UNSET if ACCOUNT in keys or not keys or not self._narrow else list(keys)
        return write(WireOpening(self._credentials, markets, type="user"))

    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds markets to an open subscription; None if the keys need none."""
        return _operation("subscribe", keys) if self._narrow else None

    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes markets from an open subscription; None if the keys need none."""
        return _operation("unsubscribe", keys) if self._narrow else None

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame: its events in order, with `unknown` ones for what cannot be read.

        Never raises for anything the venue may send.
        """
        return [keyed for keyed in read_frame(FEED, frame, self._read_element) if self._is_new(keyed[1])]

    def _is_new(self, event: Event) -> bool:
        """Overlapping subscriptions deliver each event twice (nautilus_trader issue 3403)."""
        if not isinstance(event, Order | Trade):
            return True
        key = duplicate_key(event)
        if key in self._seen:
            self.repeated += 1
            return False
        self._seen[key] = None
        if len(self._seen) > REMEMBERED_EVENTS:
            self._seen.popitem(last=False)
        return True

    def _read_element(self, element: Element) -> list[Keyed]:
        match _read_kind(element).event_type:
            case "order":
                order = self._order(_read_order(element))
                return [(order.market, order), *self._drift.look("order", element, WireOrder)]
            case "trade":
                trade = self._trade(_read_trade(element))
                drift = self._drift.look("trade", element, WireTrade, {"maker_orders": WireMakerOrder})
                return [(trade.market, trade), *drift]
            case name:
                what = "no event_type" if name is None else f"the unknown event_type {name[:80]!r}"
                return [(None, unknown(FEED, "event", f"the element has {what}", element))]

    def _order(self, wire: WireOrder) -> Order:
        status, detail = _status(wire.status)
        original, matched = decimal(wire.original_size), decimal(wire.size_matched)
        return Order(
            self._account,
            wire.market,
            wire.asset_id,
            wire.id,
            wire.type,
            status,
            detail,
            wire.side,
            decimal(wire.price),
            original,
            matched,
            difference(original, matched),
            present(wire.outcome),
            present(wire.order_type),
            moment(wire.created_at),
            moment(wire.expiration),
            wire.associate_trades or [],
            present(wire.maker_address),
            source_time=moment(wire.timestamp),
        )

    def _trade(self, wire: WireTrade) -> Trade:
        ours = {wire.trade_owner, self._credentials and self._credentials.api_key} - {None, ""}
        return Trade(
            self._account,
            wire.market,
            wire.asset_id,
            wire.id,
            _status(wire.status)[0],
            wire.side,
            decimal(wire.price),
            decimal(wire.size),
            present(wire.trader_side),
            present(wire.outcome),
            decimal(wire.fee_rate_bps),
            present(wire.taker_order_id),
            [
                MakerOrder(
                    maker.order_id,
                    present(maker.asset_id),
                    decimal(maker.matched_amount),
                    decimal(maker.price),
                    present(maker.side),
                    present(maker.outcome),
                    number(maker.outcome_index),
                    decimal(maker.fee_rate_bps),
                    present(maker.maker_address),
                    maker.owner in ours if ours and maker.owner else None,
                )
                for maker in wire.maker_orders or ()
            ],
            present(wire.maker_address),
            present(wire.transaction_hash),
            number(wire.bucket_index),
            moment(wire.match_time) or moment(wire.matchtime),
            moment(wire.last_update),
            source_time=moment(wire.timestamp),
        )


def _status(written: str) -> tuple[str, str | None]:
    """A status without its prefix, and what stands after `CANCELED_`."""
    for prefix in STATUS_PREFIXES:
        written = written.removeprefix(prefix)
    if written.startswith(f"{CANCELED}_"):
        return CANCELED, present(written.removeprefix(f"{CANCELED}_"))
    return written, None


def _operation(operation: str, keys: Collection[str]) -> str | None:
    markets = [key for key in keys if key != ACCOUNT]
    return write(WireOperation(operation, markets)) if markets else None
