# ruff: noqa: INP001 - a script to copy from, no package
"""Keep the books of some assets with a bare NATS client, and know when not to trust them.

    python examples/follow.py TOKEN_ID [TOKEN_ID ...]

It needs nats-py and a gateway (`polybus run`), nothing of polybus itself.  NATS is at $NATS_URL, else on this machine.
One line per event: `ok` or `??`, whether the book can be trusted; the top of the book; what happened.
"""

import asyncio
import contextlib
import json
import os
import sys
from decimal import Decimal
from typing import Any

import nats

PREFIX = "polymarket.v1"


class Book:
    """One asset's book, and whether it can be trusted."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"BUY": {}, "SELL": {}}
        """Price to size.  Decimals, because `.5`, `0.5` and `0.50` are one price and no digit may get lost."""
        self.trusted = False
        self._last = (0, 0)

    def take(self, event: dict[str, Any]) -> None:
        """Take in the next event of the asset."""
        (epoch, seq), place = self._last, (event["epoch"], event["seq"])
        match event["type"]:
            case "gap":
                # Events may be missing, on the way from the venue to NATS: trust ends.
                self.trusted = False
            case "book":
                # A whole book: whatever went wrong before does not matter any more.
                self.sides = {"BUY": levels(event["bids"]), "SELL": levels(event["asks"])}
                self.trusted = True
            case _ if place != (epoch, seq + 1):
                # No gap says so, hence it was between NATS and us: we were too slow, or reconnected.
                self.trusted = False
            case "price_change" if self.trusted:
                for change in event["changes"]:
                    side, price, size = self.sides[change["side"]], change["price"], Decimal(change["size"])
                    side[Decimal(price)] = size
                    if not size:
                        del side[Decimal(price)]
        # A gap for events that NATS never confirmed may stand where we have been already.
        self._last = max(self._last, place)

    def top(self) -> tuple[Decimal | None, Decimal | None]:
        """Best bid and best ask; None where nobody bids or asks."""
        return max(self.sides["BUY"], default=None), min(self.sides["SELL"], default=None)


def levels(listed: list[dict[str, str]]) -> dict[Decimal, Decimal]:
    """One side of a `book` event."""
    return {Decimal(level["price"]): Decimal(level["size"]) for level in listed}


async def main(assets: list[str]) -> None:
    """Follow until Ctrl-C."""
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    books = {asset: Book() for asset in assets}

    async def show(message: Any) -> None:
        event = json.loads(message.data)
        book = books[event["asset"]]
        book.take(event)
        bid, ask = book.top()
        why = event.get("reason") or ""
        print("ok" if book.trusted else "??", event["asset"][:6], bid, ask, event["type"], why, flush=True)

    # First listen, then ask: the first book comes as soon as the venue was asked.
    for asset in assets:
        await nc.subscribe(f"{PREFIX}.market.*.{asset}.>", cb=show)
    request = {"assets": assets, "owner": "examples/follow.py", "wait": "data"}
    reply = await nc.request(f"{PREFIX}.control.subscribe", json.dumps(request).encode(), timeout=15)
    answer = json.loads(reply.data)
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    for missing in answer["missing"]:
        print("--", missing["asset"][:6], missing["reason"], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("which assets? python examples/follow.py TOKEN_ID [TOKEN_ID ...]")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
