"""JSON Schemas of events, requests and replies, from their structs.

What leaves the service and what comes in are different promises.  Of what we send, each field is there (those apart
that a struct leaves out by itself), whatever its default in Python; more fields and words may come, so nothing is
closed.  Of what we take, fields with a default may be left out, and no other is understood.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import UNSET

from ..control.replies import REPLIES, ErrorReply
from ..control.requests import REQUESTS
from ..events import AnyEvent, Event, type_of
from . import words

type Schema = dict[str, Any]

EVENTS: Mapping[str, type[Event]] = {type_of(event): event for event in get_args(AnyEvent)}
"""Every event that is published, by type."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""What the schemas that stand alone are written in; the AsyncAPI document reads them as its own superset of draft 7,
so nothing is used that the two do not share."""

_SCALARS = {"string", "integer", "number", "boolean", "null"}


def event_schema(type_: str) -> Schema:
    """The JSON Schema of an event."""
    return _alone(f"event:{type_}", EVENTS[type_], sent=True)


def request_schema(verb: str) -> Schema:
    """The JSON Schema of what a control verb takes."""
    return _alone(f"request:{verb}", REQUESTS[verb], sent=False)


def reply_schema(verb: str) -> Schema:
    """The JSON Schema of what a control verb answers, unless it refuses."""
    return _alone(f"reply:{verb}", REPLIES[verb], sent=True)


def error_schema() -> Schema:
    """The JSON Schema of the body of a refusal."""
    return _alone("error", ErrorReply, sent=True)


def components(
    kinds: Iterable[type[msgspec.Struct]], where: str = "#/components/schemas/{name}", *, sent: bool
) -> dict[str, Schema]:
    """The schemas of structs and of all structs in their fields, by name.

    Args:
        kinds: the structs.
        where: what a reference to one looks like.
        sent: whether we send them; else we take them.
    """
    wanted = list(kinds)
    _, found = msgspec.json.schema_components(wanted, ref_template=where)
    structs = {kind.__name__: kind for kind in reachable(wanted)}
    return {name: _told(schema, structs[name], sent=sent) for name, schema in found.items()}


def _alone(name: str, kind: type[msgspec.Struct], *, sent: bool) -> Schema:
    """One schema with all it refers to."""
    found = components([kind], "#/$defs/{name}", sent=sent)
    schema = {"$schema": DIALECT, "$id": f"urn:polybus:v1:{name}", **found.pop(kind.__name__)}
    return schema | ({"$defs": found} if found else {})


def reachable(kinds: Iterable[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """The structs, and those in their fields."""
    found: set[type[msgspec.Struct]] = set()

    def look(type_: msgspec.inspect.Type) -> None:
        match type_:
            case msgspec.inspect.StructType(cls=cls, fields=fields):
                if cls not in found:
                    found.add(cls)
                    for field in fields:
                        look(field.type)
            case msgspec.inspect.UnionType(types=types):
                for each in types:
                    look(each)
            case msgspec.inspect.ListType(item_type=item_type):
                look(item_type)
            case msgspec.inspect.DictType(value_type=value_type):
                look(value_type)
            case _:
                pass

    for type_ in msgspec.inspect.multi_type_info(kinds):
        look(type_)
    return found


def _told(schema: Schema, kind: type[msgspec.Struct], *, sent: bool) -> Schema:
    """A struct's schema with what its docstrings say, as a promise about what is sent or taken."""
    said, fields = words.of_fields(kind), _fields(kind)
    told = {**schema, "description": words.of_class(kind)}
    told["properties"] = {
        field.encode_name: _field(
            schema["properties"][field.encode_name], said.get(field.name, ""), sent=sent
        )
        for field in fields
    }
    config = kind.__struct_config__
    if config.tag_field is not None:
        tag = {"description": f"Always `{config.tag}`.", **schema["properties"][config.tag_field]}
        told["properties"] = {config.tag_field: tag, **told["properties"]}
    if sent:
        told["required"] = [
            *([config.tag_field] if config.tag_field is not None else []),
            *(
                field.encode_name
                for field in fields
                if field.default is not UNSET and (field.required or not config.omit_defaults)
            ),
        ]
    return told


# Resolving annotations is most of the work, and events share their bases with those looked at before.
_fields = cache(msgspec.structs.fields)


def _field(schema: Schema, docstring: str, *, sent: bool) -> Schema:
    """A field's schema with its docstring, and with the words it can hold where the docstring names them."""
    plain: Schema = _plain(schema)
    if sent:
        plain.pop("default", None)
    # In draft 7, what stands beside a reference does not count.
    if "$ref" in plain and docstring:
        plain = {"allOf": [{"$ref": plain.pop("$ref")}], **plain}
    if values := words.values_of(docstring):
        # What we send may come to hold more words, which an `enum` would forbid.
        (plain if sent else plain.get("items", plain)).update({"x-values" if sent else "enum": values})
    return {"description": words.for_json(docstring), **plain} if docstring else plain


def _plain(schema: Schema) -> Schema:
    """The same with alternatives of scalars in one `type`, and integers as wide as they are."""
    if (options := schema.get("anyOf")) and all(
        option.keys() == {"type"} and option["type"] in _SCALARS for option in options
    ):
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return _plain({"type": [option["type"] for option in options], **rest})
    plain = dict(schema)
    if "integer" in _types(plain):
        plain["format"] = "int64"
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = _plain(plain[key])
    return plain


def _types(schema: Schema) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else named
