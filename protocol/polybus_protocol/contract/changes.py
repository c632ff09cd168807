"""What changed between two contracts in a way that breaks somebody who relied on the old one.

Who reads what we send must find what was there, in no more types than it was; who asks may go on asking as before.
So a type that widens breaks readers of what is sent, and one that narrows breaks those who ask.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

type Json = Mapping[str, Any]

_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda old, new: new > old,
    "exclusiveMinimum": lambda old, new: new > old,
    "minLength": lambda old, new: new > old,
    "minItems": lambda old, new: new > old,
    "maximum": lambda old, new: new < old,
    "exclusiveMaximum": lambda old, new: new < old,
    "maxLength": lambda old, new: new < old,
    "maxItems": lambda old, new: new < old,
}
"""Limit of a value -> whether the new one leaves less."""


def breaking_changes(old: Json, new: Json) -> list[str]:
    """What the new AsyncAPI document takes from those who rely on the old one, one sentence each; none as a rule."""
    return [*_channels(old, new), *_operations(old, new), *_messages(old, new)]


def _channels(old: Json, new: Json) -> Iterator[str]:
    for name, before in old["channels"].items():
        after = new["channels"].get(name)
        if after is None:
            yield f"channel {name}: removed ({before['address']})"
            continue
        for what in ("address", "x-nats-wildcard", "x-nats-stream"):
            if before.get(what) != after.get(what):
                yield f"channel {name}: its {what} was {before.get(what)} and is {after.get(what)}"
        for gone in sorted(before["messages"].keys() - after["messages"].keys()):
            yield f"channel {name}: the message {gone} was removed"
        for id_, parameter in before.get("parameters", {}).items():
            place = after.get("parameters", {}).get(id_, {}).get("location")
            if place != parameter["location"]:
                yield f"channel {name}: the parameter {id_} was at {parameter['location']} and is at {place}"


def _operations(old: Json, new: Json) -> Iterator[str]:
    for name, before in old["operations"].items():
        after = new["operations"].get(name)
        if after is None:
            yield f"operation {name}: removed"
            continue
        for what in ("action", "channel", "bindings"):
            if before.get(what) != after.get(what):
                yield f"operation {name}: its {what} was {before.get(what)} and is {after.get(what)}"


def _messages(old: Json, new: Json) -> Iterator[str]:
    taken = {
        message["$ref"].rpartition("/")[2]
        for operation in old["operations"].values()
        if operation["action"] == "receive"
        for message in operation["messages"]
    }
    before, after = old["components"]["messages"], new["components"]["messages"]
    for name in before.keys() & after.keys():
        compare = _Comparison(old, new, is_taken=name in taken)
        for part in ("headers", "payload"):
            if part in before[name]:
                yield from compare.schemas(name, before[name][part], after[name].get(part, {}))
    for name in sorted(before.keys() - after.keys()):
        yield f"message {name}: removed"


class _Comparison:
    """Two documents, and whether what is compared is taken from others or sent to them."""

    def __init__(self, old: Json, new: Json, *, is_taken: bool) -> None:
        self._old = old
        self._new = new
        self._is_taken = is_taken

    def schemas(self, path: str, old: Json, new: Json) -> Iterator[str]:
        """What breaks below a path of field names."""
        before, after = _kinds(old, self._old), _kinds(new, self._new)
        yield from self._types(path, set(before), set(after))
        yield from self._values(path, old, new)
        if self._is_taken and old.get("default") != new.get("default"):
            yield f"{path}: its default was {old.get('default')} and is {new.get('default')}"
        for kind in sorted(before.keys() & after.keys()):
            one, other = before[kind], after[kind]
            if self._is_taken and kind != "null":
                yield from _narrowed(path, one, other)
            if kind == "object":
                yield from self._fields(path, one, other)
            for inner in ("items", "additionalProperties"):
                if isinstance(one.get(inner), Mapping):
                    yield from self.schemas(f"{path}[]", one[inner], other.get(inner, {}))

    def _types(self, path: str, before: set[str], after: set[str]) -> Iterator[str]:
        if not before or not after:  # one of them is anything
            lost, gained = set[str](), set[str]()
        else:
            lost, gained = before - after, after - before
        # Each integer is a number.
        if "number" in after:
            lost.discard("integer")
        if "number" in before:
            gained.discard("integer")
        for kind in sorted(lost if self._is_taken else gained):
            yield f"{path}: {'can no longer be' if self._is_taken else 'can now be'} {kind}"
        if before and not after and not self._is_taken:
            yield f"{path}: can now be anything"
        if after and not before and self._is_taken:
            yield f"{path}: can no longer be anything but {', '.join(sorted(after))}"

    def _values(self, path: str, old: Json, new: Json) -> Iterator[str]:
        for gone in sorted(map(str, set(old.get("x-values", ())) - set(new.get("x-values", ())))):
            yield f"{path}: the value {gone} was removed"
        before, after = old.get("enum"), new.get("enum")
        if self._is_taken and after is not None:
            for gone in [value for value in before or ["any other"] if value not in after]:
                yield f"{path}: the value {gone} is no longer taken"
        elif before is not None and not self._is_taken:
            for came in [value for value in after or ["any"] if value not in before]:
                yield f"{path}: the value {came} is new, and the list was closed"

    def _fields(self, path: str, old: Json, new: Json) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            if name not in after:
                yield f"{path}.{name}: removed"
            else:
                yield from self.schemas(f"{path}.{name}", before[name], after[name])
        if self._is_taken:
            for name in sorted(needed_after - needed_before):
                yield f"{path}.{name}: is now required"
        else:
            for name in sorted((needed_before - needed_after) & after.keys()):
                yield f"{path}.{name}: may now be absent"


def _narrowed(path: str, old: Json, new: Json) -> Iterator[str]:
    for limit, leaves_less in _LIMITS.items():
        if limit in new and (limit not in old or leaves_less(old[limit], new[limit])):
            yield f"{path}: {limit} was {old.get(limit, 'not set')} and is {new[limit]}"


def _kinds(schema: Json, document: Json) -> dict[str, Json]:
    """What a value can be: JSON type -> the schema of that type, references followed."""
    if "$ref" in schema:
        target: Any = document
        for step in schema["$ref"].split("/")[1:]:
            target = target[step]
        return _kinds(target, document)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return {kind: each for option in schema[union] for kind, each in _kinds(option, document).items()}
    if "type" in schema:
        named = schema["type"]
        return dict.fromkeys([named] if isinstance(named, str) else named, schema)
    return {"string": schema} if "enum" in schema else {}
