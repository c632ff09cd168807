"""The script that a competent user would write: websockets, json, nats-py."""

# pyright: reportMissingImports=false
# What it imports is in .bench.

import json
import time
from collections.abc import Callable
from typing import Any

import nats
import websockets

from bench.rivals import manners


def messages(element: dict[str, Any], received_time: int) -> list[tuple[str, bytes]]:
    """What one element of a frame becomes: a subject and a payload for each asset."""
    market, kind = element["market"], element.get("event_type", "book")
    if kind != "price_change":
        element["received_time"] = received_time
        return [(manners.subject(market, element["asset_id"], kind), json.dumps(element).encode())]
    by_asset: dict[str, list[dict[str, Any]]] = {}
    for change in element["price_changes"]:
        by_asset.setdefault(change.pop("asset_id"), []).append(change)
    return [
        (
            manners.subject(market, asset, kind),
            json.dumps(
                {
                    "event_type": kind,
                    "market": market,
                    "asset_id": asset,
                    "changes": changes,
                    "timestamp": element["timestamp"],
                    "received_time": received_time,
                }
            ).encode(),
        )
        for asset, changes in by_asset.items()
    ]


async def serve(url: str, nats_url: str, assets: list[str], ready: Callable[[], None]) -> None:
    """Serve until cancelled."""
    client = await nats.connect(nats_url)
    async with websockets.connect(url, max_size=None) as socket:
        await socket.send(manners.opening(assets))
        ready()
        async for text in socket:
            if text == "PONG":
                continue
            received_time = time.time_ns()
            content = json.loads(text)
            for element in content if isinstance(content, list) else [content]:
                for subject, payload in messages(element, received_time):
                    await client.publish(subject, payload)
                    manners.published += 1


if __name__ == "__main__":
    manners.main(serve)
