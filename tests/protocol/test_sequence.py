"""The venue's own numbering: what it left out."""

import pytest

from polybus_protocol.conversation.sequence import ChannelSequence
from polybus_protocol.feeds.reading import Upstream


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([(1, 0), (2, 0), (3, 0)], [0, 0, 0]),
        ([(0, 0), (1, 0)], [0, 0]),
        ([(7, 0), (8, 0)], [0, 0]),
        ([(7, 2), (8, 0)], [2, 0]),
        ([(1, 0), (4, 0), (5, 0)], [0, 2, 0]),
        ([(1, 0), (4, 2), (5, 3)], [0, 2, 3]),
        ([(1, 0), (3, 5)], [0, 5]),
        ([(1, 0), (2, 0), (2, 0), (1, 0), (3, 0)], [0, 0, 0, 0, 0]),
    ],
)
def test_what_is_missing(numbers: list[tuple[int, int]], missing: list[int]) -> None:
    """By the holes in the numbers or by the venue's own count, whichever is more; never less than none."""
    sequence = ChannelSequence()
    assert [sequence.missing(Upstream("price.crypto", *each)) for each in numbers] == missing


def test_channels_are_numbered_apart() -> None:
    """A hole on one says nothing about another."""
    sequence = ChannelSequence()
    for channel in ("price.crypto", "price.equity"):
        assert sequence.missing(Upstream(channel, 1)) == 0
    assert sequence.missing(Upstream("price.crypto", 5)) == 3
    assert sequence.missing(Upstream("price.equity", 2)) == 0


def test_a_new_socket_starts_anew() -> None:
    """The venue counts per connection, so the numbers of the socket before say nothing."""
    assert ChannelSequence().missing(Upstream("price.crypto", 900)) == 0
    assert ChannelSequence().missing(Upstream("price.crypto", 1)) == 0
