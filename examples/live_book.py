# ruff: noqa: INP001 - a script to copy from, no package
"""Keep live books with the consumer kit, and act on none that may be wrong.

    python examples/live_book.py TOKEN_ID [TOKEN_ID ...]

It needs polybus and a gateway (`polybus run`).  NATS is at $NATS_URL, else on this machine.  One line per event: `ok` or
`??`, whether the book can be trusted; the top of the book; what happened.
"""

import asyncio
import contextlib
import os
import sys

from polybus_services.client import ClientError
from polybus_services.consumer import connect
from polybus_services.local_book import TrustChanged


async def main(assets: list[str]) -> None:
    """Follow until Ctrl-C."""
    async with connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), name="live_book.py") as polybus:
        async for event in polybus.follow(assets):
            match event:
                case TrustChanged():
                    asset, happened = event.asset, "trusted" if event.trusted else f"not trusted: {event.why}"
                case _:
                    asset, happened = getattr(event, "asset", ""), type(event).__name__
            book = polybus.book(asset)
            bid, ask = (level.price if level else None for level in (book.best_bid, book.best_ask))
            print("ok" if book.trusted else "??", asset[:6], bid, ask, happened, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("which assets? python examples/live_book.py TOKEN_ID [TOKEN_ID ...]")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1:]))
    except ClientError as error:
        sys.exit(str(error))
