"""The venue's own sequence numbers, where it has any: what it left out, per channel of one connection."""

from ..feeds.reading import Upstream


class ChannelSequence:
    """What is missing of the channels of one connection, by the venue's own numbering.

    A connection starts with none seen.  The first frame of a channel only sets the number to go on from:
    what came before it belongs to no stream that was live.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def missing(self, upstream: Upstream) -> int:
        """Take in the number of a frame; how many frames before it never arrived.

        Whether frames that the venue dropped have numbers is not documented, so of the hole and its own
        count the larger one is believed.  A number that does not rise tells of no loss.
        """
        last = self._last.get(upstream.channel, upstream.count - 1)
        self._last[upstream.channel] = max(last, upstream.count)
        return max(upstream.count - last - 1, upstream.dropped)
