"""The sample frames of one feed, and what becomes of them.

`frames/<feed>/index.json` has one entry per file: where it comes from, and for a frame from the venue what it
`becomes`: events (with their key and their subject, without stamps and without what is null), answers, the
venue's numbering, or the meaning of a word.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from polybus_protocol import PREFIX, Unknown, decode, decode_event, encode_event, parse_subject, subject_for
from polybus_protocol.events import UNKNOWN_KINDS
from polybus_protocol.feeds.dialect import Dialect
from polybus_protocol.feeds.reading import Aside, Keyed
from polybus_protocol.subjects import family_of, ids_of

from ..support.contract import fault_of_event

FRAMES = Path(__file__).parent / "frames"
STAMPS = ("received_time", "connection", "epoch", "seq")


class Samples:
    """The samples of one feed.

    Args:
        feed: its name.
    """

    def __init__(self, feed: str) -> None:
        self.feed = feed
        self.folder = FRAMES / feed
        self.index: list[dict[str, Any]] = json.loads((self.folder / "index.json").read_text())["frames"]
        self.frames: dict[str, Any] = {
            entry["file"]: json.loads((self.folder / entry["file"]).read_text()) for entry in self.index
        }
        """The content of each file; a string is a frame that is no JSON."""
        self.becomes: dict[str, list[Any]] = {
            entry["file"]: entry["becomes"] for entry in self.index if "becomes" in entry
        }

    @property
    def inbound(self) -> set[str]:
        """The files that the venue says."""
        return {entry["file"] for entry in self.index if entry["direction"] == "server_to_client"}

    @property
    def outbound(self) -> set[str]:
        """The files that a client says."""
        return {entry["file"] for entry in self.index if entry["direction"] == "client_to_server"}

    @property
    def json_frames(self) -> dict[str, bytes]:
        """The frames from the venue that are JSON, as they are on the wire."""
        return {
            file: wire(self.frames[file])
            for file in sorted(self.inbound)
            if not isinstance(self.frames[file], str)
        }


def wire(frame: Any) -> bytes:
    """A frame as it is on the wire: words bare, JSON without blanks."""
    return (frame if isinstance(frame, str) else json.dumps(frame, separators=(",", ":"))).encode()


def heard(dialect: Dialect, frame: Any) -> list[Any]:
    """What a frame becomes, in the words of the index."""
    text = wire(frame)
    if isinstance(frame, str):
        return [dialect.words[text].name]
    return described(dialect.read(text))


def described(items: Sequence[Keyed]) -> list[Any]:
    """What was heard, in the words of the index."""
    rows: list[Any] = []
    for key, item in items:
        fields = msgspec.to_builtins(item)
        fields = {name: bare(value) for name, value in fields.items() if value is not None}
        for stamp in STAMPS:
            fields.pop(stamp, None)
        if isinstance(item, Aside):
            assert key is None
            rows.append({fields.pop("type"): fields})
        else:
            rows.append({"key": key, "subject": subject_for(item), "event": fields})
    return rows


def bare(value: Any) -> Any:
    """A value without what is null in it."""
    if isinstance(value, dict):
        return {name: bare(inner) for name, inner in value.items() if inner is not None}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


ODD_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "0", "1e999", "1e-7", "-1", "NaN", "9" * 40, 10**30, "2026-07-25T11:20:41Z", ".5", "*"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)
"""Values that the venue has no business to send."""


@st.composite
def mutated(draw: st.DrawFn, frames: Mapping[str, bytes]) -> bytes:
    """A frame from the venue in which something is other than it was: a value, a key, or a stretch of bytes."""
    text = frames[draw(st.sampled_from(sorted(frames)))]
    if draw(st.booleans()):
        start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        return text[:start] + draw(st.binary(max_size=6)) + text[start + length :]
    frame = json.loads(text)
    objects = [frame]
    for each in objects:
        objects += [inner for inner in (each.values() if isinstance(each, dict) else each) if nests(inner)]
    target = draw(st.sampled_from([each for each in objects if each]))
    place = draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
    match draw(st.sampled_from(["replace", "remove", "rename"])):
        case "replace":
            target[place] = draw(ODD_VALUES)
        case "remove":
            del target[place]
        case _ if isinstance(target, dict):
            target[draw(st.text(max_size=6))] = target.pop(place)
        case _:
            target.append(target[place])
    return wire([frame] if draw(st.booleans()) else frame)


def nests(value: Any) -> bool:
    """Whether there is something in a value to mutate."""
    return isinstance(value, dict | list)


def survives(feed: str, frame: bytes) -> None:
    """Reading raises nothing, and whatever comes of it can be published and read back."""
    for event in decode(feed, frame):
        payload = encode_event(event)
        assert decode_event(payload) == event
        assert fault_of_event(subject_for(event), PREFIX, json.loads(payload)) is None
        subject = parse_subject(subject_for(event))
        assert (subject.family, subject.ids) == (family_of(event), ids_of(event))
        if isinstance(event, Unknown):
            assert event.feed == feed
            assert event.kind in UNKNOWN_KINDS
            assert event.reason
