"""What a consumer knows of everything but the order books: orders, prices, trades of others, comments, games."""

from collections import deque

import msgspec

from polybus_protocol.events import (
    ActivityTrade,
    AnyEvent,
    CommentCreated,
    CommentRemoved,
    Gap,
    Order,
    OrdersMatched,
    PriceSnapshot,
    PriceUpdate,
    SportResult,
    Trade,
    Unknown,
    type_of,
)
from polybus_protocol.subjects import family_of
from polybus_services.present import short_id
from polybus_services.present.events import summary

REMEMBERED_ORDERS = 5
"""Orders and trades that a snapshot has."""

_FEED_OF_FAMILY = {"activity": "rtds", "comments": "rtds"}


class FeedRow(msgspec.Struct):
    """What came of one feed."""

    feed: str
    events: int = 0
    """Events received, gaps apart."""
    events_per_s: float = 0.0
    gaps: int = 0


class Line(msgspec.Struct):
    """One event, in words; long ids are cut."""

    type: str
    about: str
    """The account, the market, the event's slug."""
    text: str


class PriceRow(msgspec.Struct):
    """The last price of one symbol by one feed."""

    class_: str = msgspec.field(name="class")
    symbol: str
    feed: str
    value: str | None = None
    source: str | None = None
    updates: int = 0


class GameRow(msgspec.Struct):
    """How one game stands."""

    league: str
    game: str
    text: str


class Around(msgspec.Struct):
    """The newest of each kind."""

    user: list[Line]
    """Orders and trades of the account, the newest last."""
    prices: list[PriceRow]
    activity: int
    """Trades of the whole venue so far; a trade shows once for each who took part."""
    activity_per_s: float
    last_activity: Line | None
    comment: Line | None
    games: list[GameRow]
    """The one that changed last comes last."""


def feed_of(event: AnyEvent) -> str | None:
    """The feed that brought an event; None for what the gateway says of itself."""
    if isinstance(event, Gap | Unknown | PriceUpdate | PriceSnapshot):
        return event.feed
    family = family_of(event)
    return None if family in ("system", "books") else _FEED_OF_FAMILY.get(family, family)


class Watcher:
    """Takes in events of all feeds but the market's."""

    def __init__(self) -> None:
        self._user: deque[Line] = deque(maxlen=REMEMBERED_ORDERS)
        self._prices: dict[tuple[str, str, str], PriceRow] = {}
        self._games: dict[tuple[str | None, str | None], GameRow] = {}
        self._last_activity: Line | None = None
        self._comment: Line | None = None
        self._counted = 0
        self._activity_per_s = 0.0
        self.activity = 0

    def see(self, event: AnyEvent) -> None:
        """Take in the next event."""
        match event:
            case Order() | Trade():
                about = f"{event.account} {short_id(event.market)}"
                self._user.append(Line(type_of(event), about, summary(event)))
            case PriceUpdate() | PriceSnapshot():
                self._see_price(event)
            case ActivityTrade() | OrdersMatched():
                self.activity += 1
                self._last_activity = Line(type_of(event), short_id(event.market), summary(event))
            case CommentCreated() | CommentRemoved():
                about = f"{event.parent_type} {event.parent_id}"
                self._comment = Line(type_of(event), about, summary(event))
            case SportResult(league=league, game=game):
                self._games.pop((league, game), None)
                self._games[league, game] = GameRow(league or "-", game or "-", summary(event))
            case _:
                pass

    def _see_price(self, event: PriceUpdate | PriceSnapshot) -> None:
        key = (event.class_, event.symbol, event.feed)
        row = self._prices.setdefault(key, PriceRow(*key))
        row.source = event.source or row.source
        row.updates += 1
        if isinstance(event, PriceUpdate):
            row.value = event.value
        elif event.points:
            row.value = event.points[-1].value

    def count(self, passed_s: float) -> None:
        """Work out the rate over the last so many seconds."""
        self._activity_per_s = round((self.activity - self._counted) / passed_s, 1)
        self._counted = self.activity

    def now(self) -> Around:
        """How things stand."""
        return Around(
            user=list(self._user),
            prices=[self._prices[key] for key in sorted(self._prices)],
            activity=self.activity,
            activity_per_s=self._activity_per_s,
            last_activity=self._last_activity,
            comment=self._comment,
            games=list(self._games.values()),
        )
