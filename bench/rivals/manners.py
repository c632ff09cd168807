"""What all rivals do alike, and what is not measured: arguments, the first line, the end."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

type Serve = Callable[[str, str, list[str], Callable[[], None]], Coroutine[Any, Any, None]]
"""Given the feed's URL, NATS', the assets and what to call once subscribed: serve until cancelled."""

published = 0
"""Messages handed to NATS; counted by each rival, as anybody would."""


def subject(market: str, asset: str, kind: str) -> str:
    """Where all of them publish."""
    return f"polymarket.v1.market.{market}.{asset}.{kind}"


def opening(assets: list[str]) -> str:
    """The message that opens the subscription."""
    return json.dumps(
        {"type": "market", "assets_ids": assets, "initial_dump": True, "custom_feature_enabled": True}
    )


def main(serve: Serve) -> None:
    """Run a rival until standard input ends."""
    url, nats_url, file = sys.argv[1:]
    asyncio.run(_run(serve(url, nats_url, json.loads(Path(file).read_text(encoding="utf-8")), _ready)))


async def _run(serving: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serving)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        task.cancel()
    print(json.dumps({"published": published}), flush=True)


def _ready() -> None:
    print(json.dumps({"ready": True}), flush=True)
