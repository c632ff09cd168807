"""The careful way through a frame: element by element, where a bad one does not harm its neighbours."""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from .reading import UNREADABLE, Keyed, unknown, wire_fields

type Element = bytes | msgspec.Raw
"""One JSON value of a frame."""

type Nested = Mapping[str, type[msgspec.Struct]]
"""Which fields hold an object, or a list of objects, of a form of their own."""

_NONE: Nested = MappingProxyType({})

_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_frame[H](feed: str, frame: bytes, read: Callable[[Element], list[H]]) -> list[H | Keyed]:
    """Read a frame, which is one element or an array of them; what fails becomes an `unknown`.

    Args:
        feed: its name.
        frame: JSON text.
        read: what to make of one element; may raise what msgspec raises.
    """
    try:
        elements: list[Element] = [*_read_array(frame)] if frame.lstrip().startswith(b"[") else [frame]
    except UNREADABLE as error:
        return [(None, unknown(feed, "not_json", f"the frame is no JSON: {error}", frame))]
    heard: list[H | Keyed] = []
    for element in elements:
        try:
            heard += read(element)
        except msgspec.ValidationError as error:
            heard.append((None, unknown(feed, "malformed", f"the element cannot be read: {error}", element)))
        except UNREADABLE as error:
            heard.append((None, unknown(feed, "not_json", f"the frame is no JSON: {error}", element)))
    return heard


class Drift:
    """Counts the fields that the venue has come to send and this version does not know.

    Args:
        feed: its name.
    """

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self.fields: Counter[str] = Counter()
        """How often each was met, by `event.field`."""

    def look(
        self, event: str, element: Element, form: type[msgspec.Struct], nested: Nested = _NONE
    ) -> list[Keyed]:
        """Count the unknown fields of an element; the first of each name is passed on raw as well.

        Args:
            event: what the element is, for the name.
            element: a JSON object that could be read as `form`.
            form: the wire struct.
            nested: see `Nested`.
        """
        keyed: list[Keyed] = []
        for label in self._labels(event, element, form, nested):
            if not self.fields[label]:
                keyed.append((None, unknown(self._feed, "field", f"the unknown field {label!r}", element)))
            self.fields[label] += 1
        return keyed

    def _labels(
        self, event: str, element: Element, form: type[msgspec.Struct], nested: Nested
    ) -> dict[str, None]:
        known = wire_fields(form)
        labels: dict[str, None] = {}
        for field, value in _read_object(element).items():
            label = f"{event}.{field}"[:120]
            if field not in known:
                labels[label] = None
            elif inner := nested.get(field):
                text = bytes(value)
                if text.startswith(b"{"):
                    labels |= self._labels(label, value, inner, _NONE)
                elif text.startswith(b"["):
                    for item in _read_array(value):
                        labels |= self._labels(label, item, inner, _NONE)
        return labels
