"""Whom a loss concerns (its use is shown in the session's tests)."""

from polybus_protocol.conversation.loss import concerned
from polybus_protocol.events import Unknown
from polybus_protocol.stream import Stream

from .conversation import M1, M2, N1, M, N

STREAMS = {
    M1: Stream("market", "market", (M, M1)),
    N1: Stream("market", "market", (None, N1)),
    "*": Stream("market", "market", (None, None)),
}


def hit(kind: str, raw: str) -> list[str]:
    lost = Unknown(feed="market", kind=kind, reason="?", raw=raw)
    return concerned(lost, STREAMS, [N1], ["*"])


def test_a_broken_frame_also_concerns_who_waits() -> None:
    """The market of a waiting key is not known, so its snapshot cannot be told by that."""
    assert hit("not_json", f'"{M1}"') == [M1, N1]
    assert hit("not_json", f'"{N}"') == list(STREAMS)


def test_a_whole_element_concerns_only_whom_it_names() -> None:
    """If it names others only, then those who listen to the whole venue."""
    assert hit("malformed", f'"{M}"') == [M1]
    assert hit("malformed", f'"{M2}"') == ["*"]
    assert hit("malformed", '"no id at all"') == list(STREAMS)
