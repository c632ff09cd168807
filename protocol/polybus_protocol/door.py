"""The door for those who only want to parse."""

from collections.abc import Mapping
from types import MappingProxyType

from .events import Event
from .feeds.dialect import Dialect
from .feeds.market import MarketDialect
from .feeds.polybolt import PolyboltDialect
from .feeds.reading import Aside, Word, stray_word, unknown
from .feeds.rtds import RtdsDialect
from .feeds.sports import SportsDialect
from .feeds.user import UserDialect

DIALECTS: Mapping[str, type[Dialect]] = MappingProxyType(
    {
        "market": MarketDialect,
        "user": UserDialect,
        "rtds": RtdsDialect,
        "polybolt": PolyboltDialect,
        "sports": SportsDialect,
    }
)
"""The language of each feed."""


def decode(feed: str, frame: str | bytes) -> list[Event]:
    """Turn one text frame from the venue into canonical events, in order.

    Nothing the venue may send raises: an element that cannot be read becomes an `Unknown` beside its
    neighbours.  Keepalive words, the empty frame, the empty array and an answer that grants what was asked
    hold no event.  The events carry no stamps (`received_time`, `connection`, `epoch`, `seq`), since they
    belong to no stream yet, and those of the user feed no `account`.

    Args:
        feed: `market`, `user`, `rtds`, `polybolt` or `sports`.
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
        return [heard for _, heard in dialect.read(text) if not isinstance(heard, Aside)]
    meaning = dialect.words.get(text)
    if meaning is Word.REFUSAL:
        return [unknown(feed, "refused", "the venue refused our last message", data)]
    if meaning is not None:
        return []
    return [unknown(feed, *stray_word(text), data)]
