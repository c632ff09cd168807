"""What is remembered of markets and their assets."""

import pytest

from polybus_protocol.conversation import directory
from polybus_protocol.conversation.directory import MarketDirectory


def test_pairs_are_learned_in_the_order_in_which_they_pass_by() -> None:
    """Bit by bit, and each once."""
    known = MarketDirectory()
    known.learn("m", "2")
    known.learn("m", "1", "2", "1")
    known.learn("m")
    assert known.assets_of("m") == ("2", "1")
    assert known.market_of("1") == known.market_of("2") == "m"
    assert (known.assets_of("n"), known.market_of("3"), len(known)) == ((), None, 1)


def test_the_oldest_market_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its assets, unless another market has claimed them since."""
    monkeypatch.setattr(directory, "REMEMBERED_MARKETS", 2)
    known = MarketDirectory()
    known.learn("old", "1", "2")
    known.learn("new", "2", "3")
    known.learn("newest", "4")
    assert len(known) == 2
    assert (known.assets_of("old"), known.market_of("1")) == ((), None)
    assert known.market_of("2") == "new"
