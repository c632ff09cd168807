# ruff: noqa: INP001 - a script to copy from, no package
"""Read the venue's own frames with the protocol package alone: no NATS, no gateway, no I/O in it.

    python examples/parse.py [FEED] < frames.txt

Each line is one text frame as the venue's feed sends it, `market` if none is named; out come the canonical events, one
JSON object a line, each after the subject that a gateway would publish it on.
"""

import sys

from polybus_protocol import decode, encode_event, subject_for


def main(feed: str = "market") -> None:
    """Read frames until there are no more."""
    for frame in sys.stdin:
        for event in decode(feed, frame):
            print(subject_for(event), encode_event(event).decode())


if __name__ == "__main__":
    main(*sys.argv[1:2])
