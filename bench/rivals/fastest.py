"""The fastest WebSocket library for Python, msgspec and nats-py: picows hands out frames in a callback."""

# pyright: reportMissingImports=false
# What it imports is in .bench.

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec
import nats
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.rivals import manners


class Change(msgspec.Struct, gc=False):
    """One changed level."""

    asset_id: str
    price: str
    size: str
    side: str
    hash: str | None = None
    best_bid: str | None = None
    best_ask: str | None = None


class Level(msgspec.Struct, gc=False):
    """One level of a book."""

    price: str
    size: str


class Element(msgspec.Struct, gc=False, omit_defaults=True):
    """Any event of the feed: a struct for each kind would need two passes, the kind is not the first field."""

    market: str
    event_type: str = "book"
    asset_id: str | None = None
    timestamp: str | None = None
    hash: str | None = None
    price_changes: list[Change] | None = None
    bids: list[Level] | None = None
    asks: list[Level] | None = None
    tick_size: str | None = None
    price: str | None = None
    size: str | None = None
    side: str | None = None
    fee_rate_bps: str | None = None
    transaction_hash: str | None = None
    last_trade_price: str | None = None
    best_bid: str | None = None
    best_ask: str | None = None
    spread: str | None = None
    received_time: int = 0


read = msgspec.json.Decoder(Element | list[Element]).decode
write = msgspec.json.Encoder().encode


class Listener(WSListener):  # type: ignore[misc]  # picows is compiled: nothing is known of its types
    """Puts what each frame becomes into a queue; a callback cannot wait for nats-py."""

    def __init__(self, assets: list[str]) -> None:
        super().__init__()
        self.ready: deque[tuple[str, bytes]] = deque()
        self.wake = asyncio.Event()
        self._assets = assets

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Subscribe."""
        transport.send(WSMsgType.TEXT, manners.opening(self._assets).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002  the interface is picows'
        """A frame arrived."""
        if frame.msg_type != WSMsgType.TEXT:
            return
        received_time = time.time_ns()
        content = read(frame.get_payload_as_memoryview())
        for element in content if isinstance(content, list) else (content,):
            element.received_time = received_time
            if element.price_changes is None:
                assert element.asset_id is not None
                subject = manners.subject(element.market, element.asset_id, element.event_type)
                self.ready.append((subject, write(element)))
                continue
            by_asset: dict[str, list[Change]] = {}
            for change in element.price_changes:
                by_asset.setdefault(change.asset_id, []).append(change)
            for asset, changes in by_asset.items():
                element.asset_id, element.price_changes = asset, changes
                subject = manners.subject(element.market, asset, element.event_type)
                self.ready.append((subject, write(element)))
        self.wake.set()


async def serve(url: str, nats_url: str, assets: list[str], ready: Callable[[], None]) -> None:
    """Serve until cancelled."""
    client = await nats.connect(nats_url)
    listeners: list[Listener] = []

    def listener() -> Listener:
        listeners.append(Listener(assets))
        return listeners[0]

    await ws_connect(listener, url)
    ready()
    queue, wake = listeners[0].ready, listeners[0].wake
    while True:
        await wake.wait()
        wake.clear()
        while queue:
            subject, payload = queue.popleft()
            await client.publish(subject, payload)
            manners.published += 1


if __name__ == "__main__":
    manners.main(serve)
