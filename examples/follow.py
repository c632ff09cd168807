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
        self._last = self._begun = (0, 0)
        self._time = 0
        """The venue's time of what was applied last, in milliseconds."""

    def begin(self, answer: dict[str, Any]) -> None:
        """Begin with what the gateway answered to `book`, if that may be believed; otherwise the next book will do."""
        if answer.get("trust") in ("live", "quiet"):
            self.take(answer | {"type": "book"})
            self._begun = self._last

    def take(self, event: dict[str, Any]) -> None:
        """Take in the next event of the asset."""
        (epoch, seq), place = self._last, (event["epoch"], event["seq"])
        if place <= self._begun:
            return  # the book we began with holds it already
        match event["type"]:
            case "gap":
                # Events may be missing, on the way from the venue to NATS: trust ends.
                self.trusted = False
            case "book":
                # A whole book: whatever went wrong before does not matter any more.
                self.sides = {"BUY": levels(event["bids"]), "SELL": levels(event["asks"])}
                self.trusted = True
                self._time = event.get("source_time") or 0
            case _ if place != (epoch, seq + 1):
                # No gap says so, hence it was between NATS and us: we were too slow, or reconnected.
                self.trusted = False
            case "price_change" if (
                self.trusted and (time := event.get("source_time") or self._time) >= self._time
            ):
                self._time = time
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

    async def ask(verb: str, request: dict[str, Any]) -> dict[str, Any]:
        reply = await nc.request(f"{PREFIX}.control.{verb}", json.dumps(request).encode(), timeout=15)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    def show(asset: str, what: str) -> None:
        book = books[asset]
        print("ok" if book.trusted else "??", asset[:6], *book.top(), what, flush=True)

    async def follow(asset: str, events: Any) -> None:
        # Whoever is not the first to ask sees no book come: the gateway has one.
        books[asset].begin(await ask("book", {"asset": asset}))
        show(asset, "begins")
        async for message in events.messages:
            event = json.loads(message.data)
            books[asset].take(event)
            show(asset, f"{event['type']} {event.get('reason') or ''}")

    # First listen, then ask: what comes meanwhile waits in the subscriptions.
    events = {asset: await nc.subscribe(f"{PREFIX}.market.*.{asset}.>") for asset in assets}
    # With an id, asking again adds nothing, and with one of its own no other program's subscription is meant.
    request = {
        "assets": assets,
        "owner": "examples/follow.py",
        "id": f"follow-py-{os.getpid()}",
        "wait": "data",
    }
    answer = await ask("subscribe", request)
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    for missing in answer["missing"]:
        print("--", missing["asset"][:6], missing["reason"], flush=True)
    try:
        await asyncio.gather(*(follow(asset, events[asset]) for asset in assets))
    finally:
        await ask("unsubscribe", {"id": answer["id"]})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("which assets? python examples/follow.py TOKEN_ID [TOKEN_ID ...]")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
