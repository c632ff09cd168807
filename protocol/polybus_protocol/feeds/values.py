"""Reading the values of feeds that are not of one mind how to write them.

RTDS and PolyBolt write decimals as JSON numbers, the user feed as strings; the same id is a number here
and a string there; times are seconds, milliseconds or ISO 8601.  A wire struct takes such a field as
`Loose`, the raw JSON, and the functions here make one thing of it, with no digit lost on the way.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation

import msgspec

from .reading import LATEST_MS

type Loose = msgspec.Raw
"""A value as the venue wrote it; empty where the field is absent."""

ABSENT = msgspec.Raw()
"""The default of a `Loose` field."""

_DECIMAL = re.compile(r"-?(?:[0-9]{1,80}(?:\.[0-9]{0,80})?|\.[0-9]{1,80})(?:[eE][+-]?[0-9]{1,3})?")
"""A decimal of a length that can mean something: the bounds keep exact arithmetic on it cheap."""

_WHOLE = re.compile(r"(-?[0-9]{1,15})(?:\.0*)?")

_EXACT = Context(prec=3000, traps=[Inexact, InvalidOperation])
"""Room for the difference of any two decimals of the pattern above."""

_SECONDS_BELOW = 10**11
"""A smaller time is in seconds: as milliseconds it would lie before March 1973, as seconds in the year 5138.

The user feed uses both units for the same fields, and the official Python SDK tells them apart like this.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

_read_text = msgspec.json.Decoder(str).decode


def text(value: Loose) -> str | None:
    """A string, or a number as it is written; None for the empty string, `null` and an absent field.

    Raises:
        msgspec.ValidationError: it is neither.
    """
    written = bytes(value)
    if not written or written == b"null":
        return None
    if written.startswith(b'"'):
        return _read_text(written) or None
    if written[0] in b"-0123456789":
        return written.decode("ascii")
    raise msgspec.ValidationError(f"`{written[:20]!r}` is neither a string nor a number")


def required(value: str | None, field: str) -> str:
    """What an event means nothing without.

    Raises:
        msgspec.ValidationError: there is no value.
    """
    if value is None:
        raise msgspec.ValidationError(f"Object missing required field `{field}`")
    return value


def decimal(value: Loose) -> str | None:
    """A decimal, to the letter; None for no value.

    Raises:
        msgspec.ValidationError: it is no decimal.
    """
    written = text(value)
    if written is not None and not _DECIMAL.fullmatch(written):
        raise msgspec.ValidationError(f"{written[:20]!r} is no decimal")
    return written


def scaled(value: str, digits: int) -> str:
    """An integer that stands for a decimal with so many digits after the point, as that decimal.

    A text that is no integer is one already, and is left alone.

    >>> scaled("3456780000000000000000", 18), scaled("65001" + "0" * 18, 18), scaled("198.45", 18)
    ('3456.78', '65001', '198.45')
    """
    sign, number = ("-", value[1:]) if value.startswith("-") else ("", value)
    if not number.isdigit():
        return value
    padded = number.zfill(digits + 1)
    whole_part, fraction = padded[:-digits].lstrip("0") or "0", padded[-digits:].rstrip("0")
    return f"{sign}{whole_part}.{fraction}" if fraction else f"{sign}{whole_part}"


def difference(whole: str | None, part: str | None) -> str | None:
    """`whole` less `part`, exactly; None unless both are known decimals of `decimal`."""
    if whole is None or part is None:
        return None
    return format(_EXACT.subtract(Decimal(whole), Decimal(part)), "f")


def number(value: Loose) -> int | None:
    """A whole number of up to 15 digits; None for anything else that is a string or a number."""
    written = _WHOLE.fullmatch(text(value) or "")
    return int(written[1]) if written else None


def moment(value: Loose) -> int | None:
    """A time in milliseconds since the epoch; None for none, or for what cannot be one.

    Seconds or milliseconds, told apart by their size, or ISO 8601, whose finer digits are cut.
    """
    written = text(value)
    if written is None:
        return None
    if not _DECIMAL.fullmatch(written):
        return iso_moment(written)
    time = Decimal(written)
    milliseconds = int(time * 1000 if time < _SECONDS_BELOW else time)
    return milliseconds if 0 < milliseconds < LATEST_MS else None


def iso_moment(written: str | None) -> int | None:
    """An ISO 8601 time in milliseconds since the epoch, in UTC unless it says otherwise; None for no such."""
    try:
        time = datetime.fromisoformat(written or "")
        return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MS
    except (ValueError, OverflowError):
        return None
