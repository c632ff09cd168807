"""Our own parts put together as barely as can be: splitter, msgspec structs, nats-py.

No books, no sequence, no counters, no actors, no care for a lost NATS: what the gateway costs beyond this is what it
does beyond this.
"""

import asyncio
import time
from collections.abc import Callable

import nats

from bench.rivals import manners
from polybus_actors.venue.wire import CHUNK_BYTES
from polybus_protocol.events import Event, MarketEvent, encode_event, type_of
from polybus_protocol.feeds.market import MarketDialect
from polybus_protocol.websocket.framing import FrameStream
from polybus_protocol.websocket.handshake import Accepted, Handshake


async def serve(url: str, nats_url: str, assets: list[str], ready: Callable[[], None]) -> None:
    """Serve until cancelled."""
    client = await nats.connect(nats_url)
    handshake, dialect, frames = Handshake(url), MarketDialect(), FrameStream()
    reader, writer = await asyncio.open_connection(
        handshake.endpoint.host, handshake.endpoint.port, limit=CHUNK_BYTES
    )
    writer.write(handshake.request())
    accepted = None
    while accepted is None:
        accepted = handshake.receive(await reader.read(CHUNK_BYTES), time.time())
    assert isinstance(accepted, Accepted)
    writer.write(frames.text(manners.opening(assets)))
    ready()
    subjects: dict[tuple[str, type[Event]], str] = {}
    chunk = accepted.trailing
    while True:
        received_time = time.time_ns()
        for frame in frames.receive(chunk):
            if frame == b"PONG":
                continue
            for asset, event in dialect.read(frame):
                if asset is None or not isinstance(event, MarketEvent):
                    continue
                event.received_time = received_time
                kind = event.__class__
                subject = subjects.get((asset, kind))
                if subject is None:
                    subject = subjects[asset, kind] = manners.subject(event.market, asset, type_of(event))
                await client.publish(subject, encode_event(event))
                manners.published += 1
        chunk = await reader.read(CHUNK_BYTES)


if __name__ == "__main__":
    manners.main(serve)
