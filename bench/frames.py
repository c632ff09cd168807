"""The frames that are replayed: made by the simulator's crowd, or captured ones from a file.

A file of frames has one JSON text a line, as they came off the socket.  The first `book` of each asset is what a
subscription is answered with; all that follows is replayed in order.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from polybus_services.simulator import market_frames
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange, Market
from polybus_services.simulator.facts import Cancelled, Fact, Placed, Traded
from polybus_services.simulator.feeds import Frame

BEGUN_MS = 1_790_000_000_000
"""When the replayed day began, in milliseconds since the epoch: a day in September 2026."""

FRAMES_PER_MS = 5
"""How fast time goes on in the frames: 5,000 frames a second, a busy venue."""

MIDDLE = range(2_000, 8_000)
"""Best prices a market may begin with, in 1e-4 dollars: far enough from the edges that no tick size changes on the
way, for which a gateway would have to ask for a fresh book."""

MIXES = {"changes": 0.0, "venue": 0.0072, "trades": 0.1}
"""Trades per action: none, so that all is two-asset `price_change`; as measured on the venue; a storm of trades, each
of which brings two books and the tops."""


class BenchCrowd(Crowd):
    """A crowd that trades as often as it is told."""

    trade_share = 0.0

    def next(self, market: Market, now_ms: int) -> Fact:
        """Do the next thing on a market."""
        if self._random.random() < self.trade_share:
            return super().trade(market, now_ms)
        return self.act_on(market, now_ms)

    def trade(self, market: Market, now_ms: int) -> Fact:  # type: ignore[override]
        """What the crowd does now and then by itself is done by `next` as often as it should."""
        return self.join_best(market, now_ms)


def make(mix: str, count: int, assets: int, seed: int = 7) -> Iterator[str]:
    """The texts of frames: first a pair of books for each market, then `count` others.

    Args:
        mix: a key of `MIXES`.
        count: of frames after the first books.
        assets: two for each market.
        seed: the same one gives the same frames.
    """
    exchange = Exchange()
    crowd = BenchCrowd(exchange, seed, CrowdOptions())
    crowd.trade_share = MIXES[mix]
    markets: list[Market] = []
    while len(markets) < assets // 2:
        market = crowd.open_market(BEGUN_MS)
        bid, ask = market.top()
        if bid is not None and ask is not None and (bid + ask) // 2 in MIDDLE:
            markets.append(market)
            yield market_frames.snapshot([(market, 0), (market, 1)], BEGUN_MS).text
    made = 0
    while made < count:
        # A multiplier that shares no factor with the number of markets would repeat their order: draw instead.
        market = crowd._random.choice(markets)  # noqa: SLF001  one source of chance makes a seed repeatable
        now_ms = BEGUN_MS + 1 + made // FRAMES_PER_MS
        for frame in _said(crowd.next(market, now_ms), now_ms):
            if made < count:
                yield frame.text
                made += 1


def _said(fact: Fact, now_ms: int) -> Iterator[Frame]:
    """What the venue says of a fact to somebody with custom features."""
    assert isinstance(fact, Placed | Cancelled | Traded), "a market came too close to the edge"
    market = fact.market
    if isinstance(fact, Traded):
        for outcome in (0, 1):
            yield market_frames.book(market, outcome, now_ms)
        yield market_frames.last_trade_price(fact)
    else:
        yield market_frames.price_change(fact)
    if fact.top_moved and isinstance(fact, Traded):
        for outcome in (0, 1):
            yield market_frames.best_bid_ask(market, outcome, now_ms)


class _Entry(msgspec.Struct, gc=False):
    asset_id: str


class _Element(msgspec.Struct, gc=False):
    """Just enough of an element to tell whom it concerns."""

    market: str = ""
    asset_id: str | None = None
    event_type: str = "book"
    price_changes: list[_Entry] = []


class Replayed(msgspec.Struct, gc=False):
    """One frame, and whom it concerns."""

    text: bytes
    assets: tuple[str, ...]
    """Those it tells something of, each once."""
    messages: int
    """What a gateway makes of it: one message for each asset and element."""


class Replay:
    """A file of frames, read.

    Args:
        lines: its lines.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.markets: dict[str, str] = {}
        """The market of each asset, in the order of their first books."""
        self.books: dict[str, bytes] = {}
        """The first book of each asset."""
        self.frames: list[Replayed] = []
        """All else."""
        for line in lines:
            self._add(line.strip())

    def of(self, assets: Collection[str]) -> Iterator[tuple[int, Replayed]]:
        """The frames that concern these assets, each with its number."""
        wanted = set(assets)
        return ((n, frame) for n, frame in enumerate(self.frames) if not wanted.isdisjoint(frame.assets))

    def _add(self, text: bytes) -> None:
        if not text.startswith((b"{", b"[")):
            return  # a PONG in a capture
        raw = _read_array(text) if text.startswith(b"[") else [msgspec.Raw(text)]
        elements = [_read_element(one) for one in raw]
        concerned: dict[str, None] = {}
        messages, is_first_book = 0, True
        for one, element in zip(raw, elements, strict=True):
            own = dict.fromkeys(entry.asset_id for entry in element.price_changes)
            if element.asset_id is not None:
                own[element.asset_id] = None
            concerned |= own
            messages += len(own)
            for asset in own:
                self.markets.setdefault(asset, element.market)
            if element.event_type == "book" and element.asset_id not in self.books:
                assert element.asset_id is not None
                self.books[element.asset_id] = bytes(one)
            else:
                is_first_book = False
        if elements and not is_first_book:
            self.frames.append(Replayed(text, tuple(concerned), messages))


def read(path: Path) -> Replay:
    """Read a file of frames."""
    with path.open("rb") as lines:
        return Replay(lines)


_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_element = msgspec.json.Decoder(_Element).decode
