"""The venue's own sequence numbers, where it has any: what it left out, per connection and channel."""


class ChannelSequence:
    """Counts the frames that never came; for one connection, since the numbers start anew with each."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def missing(self, channel: str, seq: int, dropped: int = 0) -> int:
        """How many frames of a channel are missing before this one.

        What the venue says it dropped has no number of its own, or leaves a hole: the larger of the two
        counts, so that neither is told twice.  The first number of a connection is taken as it is.

        Args:
            channel: the channel's name.
            seq: this frame's number.
            dropped: how many the venue says it left out before this frame.
        """
        last = self._last.get(channel)
        self._last[channel] = seq if last is None else max(seq, last)
        hole = 0 if last is None else max(seq - last - 1, 0)
        return max(hole, dropped)
