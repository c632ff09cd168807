"""Stands in for the NATS command line where a script of ours calls it, with the few of its words that we use.

Flags and output are those of `req_command.go` and `sub_command.go` in nats-io/natscli, 2026, as far as we use them: any
other flag is an error.  The command itself was not on the machine where this was written.
"""

import argparse
import asyncio
import os

import nats


def arguments() -> argparse.Namespace:
    """What it was called with."""
    parser = argparse.ArgumentParser(prog="nats", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, other in (("subscribe", "sub"), ("request", "req")):
        command = commands.add_parser(name, aliases=[other], allow_abbrev=False)
        command.add_argument("subject")
        command.add_argument("--raw", action="store_true", required=True)
        if name == "subscribe":
            command.add_argument("--count", type=int, default=0)
        else:
            command.add_argument("body")
            command.add_argument("--timeout", type=lambda text: float(text.removesuffix("s")), default=5.0)
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> None:
    """Do it."""
    client = await nats.connect(os.environ["NATS_URL"])
    if "body" in asked:
        reply = await client.request(asked.subject, asked.body.encode(), timeout=asked.timeout)
        print(reply.data.decode(), flush=True)
    else:
        subscription = await client.subscribe(asked.subject, max_msgs=asked.count)
        heard = 0
        async for message in subscription.messages:
            print(message.data.decode(), flush=True)
            heard += 1
            if heard == asked.count:
                break
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
