"""NATS subjects, both ways: from an event to its subject, and from a subject to its parts.

A subject reads `<prefix>.<family>.<ids>.<type>`: ids first, type last, so that one wildcard
subscription yields one ordered stream.  A *stream key* is a subject without its last token; order,
`epoch` and `seq` belong to it.  `_` stands where an id does not apply.

Nothing that came from the venue becomes a token unescaped: NATS would accept a space, a `*` or a
letter beyond ASCII in a published subject and misroute or drop it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote

import msgspec
from msgspec import UNSET

from .errors import SubjectError
from .events import Event, Gap, GapRollup, Unknown, type_of

PREFIX = "polymarket.v1"
"""The default prefix; the version is an early token, so that two can run side by side."""

ABSENT = "_"
"""The token of an id that does not apply."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "market": ("market", "asset"),
        "books": ("market", "asset"),
        "user": ("account", "market"),
        "activity": ("event_slug", "market"),
        "price": ("class", "symbol"),
        "comments": ("parent_type", "parent_id"),
        "sports": ("league", "game"),
        "system": ("replica",),
        "control": (),
        "unknown": (),
    }
)
"""The ids between a family's name and the last token, in order.

The last token is the event's type; for `control` it is the verb, for `unknown` the feed, and the roll-up of gaps
is said on `gap`.
"""

BRINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "market": ("market",),
        "user": ("user",),
        "rtds": ("activity", "comments", "price"),
        "polybolt": ("price",),
        "sports": ("sports",),
    }
)
"""The families of a feed's events."""


WITHOUT_GAPS = frozenset({"books", "control", "system", "unknown"})
"""The families whose streams announce no gap: they carry no data of the venue's, or repeat what others carry."""

_ATTRIBUTES = {"class": "class_"}
"""Where an event's attribute cannot have the id's name, because Python keeps the word for itself."""


def encode_token(value: str | None) -> str:
    """Make one subject token of an id; `None` and the empty string become `_`.

    >>> encode_token("btc/usd"), encode_token(None)
    ('btc%2Fusd', '_')

    Raises:
        SubjectError: a lone surrogate, which is no text that UTF-8 could carry.
    """
    if not value:
        return ABSENT
    if value == ABSENT:
        return "%5F"
    if value.isascii() and value.replace("_", "0").isalnum():
        return value
    # `quote` leaves `.` alone, which separates tokens.
    try:
        return quote(value, safe="").replace(".", "%2E")
    except UnicodeEncodeError:
        raise SubjectError(f"the id {value!r} is no text that UTF-8 could carry") from None


def decode_token(token: str) -> str | None:
    """Turn a subject token back into the id it stands for; `_` becomes None.

    Raises:
        SubjectError: the token is not what `encode_token` makes of any id.  NATS compares subjects to the
            letter, so an id has one token only: `%41` or a bare `*` is none.
    """
    if token == ABSENT:
        return None
    if token.isascii() and token.isalnum():
        return token
    try:
        value = unquote(token, errors="strict")
    except ValueError:
        value = ""
    if encode_token(value) != token:
        raise SubjectError(f"the token {token!r} is not what an id is escaped to")
    return value


class Subject(msgspec.Struct, frozen=True):
    """A subject, taken apart.  `str()` puts it together again."""

    family: str
    ids: tuple[str | None, ...]
    """The family's ids in the order of `FAMILIES`; None where one does not apply."""
    type: str
    """The last token: the event's type, the verb (`control`) or the feed (`unknown`)."""
    prefix: str = PREFIX

    @property
    def stream(self) -> str:
        """The stream key: the subject without its last token."""
        return ".".join((self.prefix, self.family, *map(encode_token, self.ids)))

    def __str__(self) -> str:
        return f"{self.stream}.{encode_token(self.type)}"

    def __getitem__(self, name: str) -> str | None:
        """The id of that name, say `subject["asset"]`.

        Raises:
            KeyError: the family has no such id.
        """
        try:
            return self.ids[FAMILIES[self.family].index(name)]
        except ValueError:
            raise KeyError(name) from None


def parse_subject(subject: str, prefix: str = PREFIX) -> Subject:
    """Take a subject apart; the inverse of `str()` on the result.

    Raises:
        SubjectError: it does not start with the prefix, the family is none of ours, or a token is
            missing, too many, empty or not escaped as `encode_token` does.
    """
    if not subject.startswith(f"{prefix}."):
        raise SubjectError(f"the subject {subject!r} does not start with {prefix!r}")
    family, *tokens = subject[len(prefix) + 1 :].split(".")
    if family not in FAMILIES:
        raise SubjectError(
            f"the subject {subject!r} is of no known family: expected one of {sorted(FAMILIES)}"
        )
    names = FAMILIES[family]
    if len(tokens) != len(names) + 1:
        expected = ".".join((prefix, family, *(f"<{name}>" for name in names), "<type>"))
        raise SubjectError(f"the subject {subject!r} is not of the form {expected}")
    if "" in tokens:
        raise SubjectError(f"the subject {subject!r} has an empty token")
    try:
        *ids, last = map(decode_token, tokens)
    except SubjectError as error:
        raise SubjectError(f"in the subject {subject!r}: {error}") from None
    if last is None:
        raise SubjectError(f"the subject {subject!r} has no type")
    return Subject(family, tuple(ids), last, prefix)


def subject_for(event: Event, prefix: str = PREFIX) -> str:
    """The subject an event is published on.

    `parse_subject(subject_for(event))` gives the event's family, ids and type back.
    """
    return str(Subject(family_of(event), ids_of(event), last_token(event), prefix))


def last_token(event: Event) -> str:
    """The last token of an event's subject, before it is encoded."""
    if isinstance(event, Unknown):
        return event.feed
    return type_of(Gap) if isinstance(event, GapRollup) else type_of(event)


def family_of(event: Event) -> str:
    """The family of an event's subject; a gap belongs to the one whose ids it has."""
    if not isinstance(event, Gap):
        return event.family
    return next(
        family
        for family, names in FAMILIES.items()
        if names and all(getattr(event, attribute_of(name), UNSET) is not UNSET for name in names)
    )


def ids_of(event: Event) -> tuple[str | None, ...]:
    """The ids of an event's subject, in the order of `FAMILIES`; None where one does not apply."""
    return _values(event, FAMILIES[family_of(event)])


def _values(event: Event, names: tuple[str, ...]) -> tuple[str | None, ...]:
    return tuple(getattr(event, attribute_of(name), None) for name in names)


def attribute_of(name: str) -> str:
    """The attribute of an event that holds the id of that name."""
    return _ATTRIBUTES.get(name, name)


def stream_key(family: str, *ids: str | None, prefix: str = PREFIX) -> str:
    """The stream key of a family's ids: what `epoch` and `seq` belong to."""
    return ".".join((prefix, family, *map(encode_token, ids)))


def asset_pattern(asset: str, type_: str | None = None, prefix: str = PREFIX) -> str:
    """The subject pattern of everything, or of one type, about an asset, whatever its market."""
    return f"{prefix}.market.*.{encode_token(asset)}.{type_ or '>'}"


def market_pattern(market: str, type_: str | None = None, prefix: str = PREFIX) -> str:
    """The subject pattern of everything, or of one type, about a market and both its assets."""
    return f"{prefix}.market.{encode_token(market)}.{f'*.{type_}' if type_ else '>'}"


def control_subject(verb: str, prefix: str = PREFIX) -> str:
    """The subject a control request goes to."""
    return f"{prefix}.control.{verb}"
