"""The door for those who only want to parse."""

from .events import Event
from .feeds.market import MarketDialect
from .feeds.reading import Word, stray_word, unknown

DIALECTS = {"market": MarketDialect}
"""The language of each feed."""


def decode(feed: str, frame: str | bytes) -> list[Event]:
    """Turn one text frame from the venue into canonical events, in order.

    Nothing the venue may send raises: an element that cannot be read becomes an `Unknown` beside its
    neighbours.  Keepalive words, the empty frame and the empty array hold no event.  The events carry no
    stamps (`received_time`, `connection`, `epoch`, `seq`), since they belong to no stream yet.

    Args:
        feed: `market`.
        frame: the text, or its UTF-8 bytes.

    Raises:
        ValueError: there is no such feed.
    """
    if feed not in DIALECTS:
        raise ValueError(f"there is no feed {feed!r}: expected one of {', '.join(DIALECTS)}")
    dialect = DIALECTS[feed]()
    data = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    text = data.strip()
    if text.startswith((b"{", b"[")):
        return [event for _, event in dialect.read(text)]
    meaning = dialect.words.get(text)
    if meaning is Word.REFUSAL:
        return [unknown(feed, "refused", "the venue refused our last message", data)]
    if meaning is not None:
        return []
    return [unknown(feed, *stray_word(text), data)]
