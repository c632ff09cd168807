"""The venue's own Python client, and nats-py.

The client has no setting for its URLs: they are replaced in its private description of the environment.
"""

# pyright: reportMissingImports=false
# What it imports is in .bench.

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import nats
from polymarket import AsyncPublicClient
from polymarket._internal.environment import PRODUCTION_CONFIG, create_environment
from polymarket.streams import MarketSpec

from bench.rivals import manners


async def serve(url: str, nats_url: str, assets: list[str], ready: Callable[[], None]) -> None:
    """Serve until cancelled."""
    config = dataclasses.replace(PRODUCTION_CONFIG, clob_market_ws_url=url)
    client = AsyncPublicClient(environment=create_environment(name="bench", config=config))
    broker = await nats.connect(nats_url)
    handle: Any = await client.subscribe(MarketSpec(asset_ids=assets, custom_feature_enabled=True))
    ready()
    try:
        async for event in handle:
            received_time = time.time_ns()
            payload = event.payload
            kind = event.type
            if kind != "price_change":
                subject = manners.subject(payload.market, payload.asset_id, kind)
                await broker.publish(subject, stamped(payload.model_dump_json(), received_time))
                manners.published += 1
                continue
            by_asset: dict[str, list[Any]] = {}
            for change in payload.price_changes:
                by_asset.setdefault(change.asset_id, []).append(change)
            for asset, changes in by_asset.items():
                part = payload.model_copy(update={"price_changes": tuple(changes)})
                subject = manners.subject(payload.market, asset, kind)
                await broker.publish(subject, stamped(part.model_dump_json(), received_time))
                manners.published += 1
    finally:
        if handle.dropped:
            print(f"the client dropped {handle.dropped} events", file=sys.stderr)


def stamped(text: str, received_time: int) -> bytes:
    """A JSON object with one field more."""
    return f'{text[:-1]},"received_time":{received_time}}}'.encode()


if __name__ == "__main__":
    manners.main(serve)
