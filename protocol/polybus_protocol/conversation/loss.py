"""Whom a loss concerns: the keys that a text nobody could read may have been about."""

import re
from collections.abc import Collection, Mapping

from ..events import Unknown
from ..stream import Stream

_ID = re.compile(r"0x[0-9a-fA-F]{40,}|[0-9]{20,}")
"""Condition ids and token ids in a text that may be no JSON."""


def concerned(
    lost: Unknown, streams: Mapping[str, Stream], waiting: Collection[str], quiet: Collection[str]
) -> list[str]:
    """The carried keys that must be doubted: those the text names, by asset or by market, else all.

    A well-formed element that names only others concerns nobody here, except who listens to the whole
    venue.  A broken frame proves nothing by the names it still has: it may have been the snapshot that a
    waiting key, whose market is not known yet, was to get.

    Args:
        lost: an `unknown` event of one of the `LOSSY_KINDS`.
        streams: what the connection carries, by key.
        waiting: the keys among them that have asked for a snapshot.
        quiet: the keys among them that may be silent for ever, such as the whole venue.
    """
    names = set(_ID.findall(lost.raw))
    named = [key for key, stream in streams.items() if key in names or stream.id("market") in names]
    if lost.kind == "malformed" and names:
        return named or [key for key in streams if key in quiet]
    return [*named, *waiting] if named else list(streams)
