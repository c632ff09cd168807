"""The contract for people: an AsyncAPI document of ours as Markdown, one page of events and one of control verbs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from ..subjects import FAMILIES

type Json = Mapping[str, Any]

ASSET = "46136776167738351593308243041418673399305258023130903036556404279818964289046"
"""An outcome token of the simulator as it is started by itself."""

REQUESTS_TO_PASTE: Mapping[str, Json] = {
    "subscribe": {"assets": [ASSET], "id": "pasted", "owner": "desk", "ttl_s": 600, "wait": "data"},
    "renew": {"owner": "desk", "ttl_s": 900},
    "subscriptions": {"id": "pasted"},
    "status": {},
    "book": {"asset": ASSET, "depth": 2},
    "explain": {"asset": ASSET},
    "contract": {},
    "unsubscribe": {"id": "pasted"},
}
"""Verb -> a request, in the order in which one after another is answered."""

MADE = "<!-- Made by `make contract` from the docstrings of the code: do not edit. -->"


def pages(document: Json) -> dict[str, str]:
    """File name -> page."""
    return {"events.md": _page(_events(document)), "verbs.md": _page(_verbs(document))}


def _page(paragraphs: Iterator[str]) -> str:
    return "\n\n".join((MADE, *paragraphs)) + "\n"


def _events(document: Json) -> Iterator[str]:
    yield "# Events, field by field"
    yield (
        "What the gateway publishes: for each subject its events, for each event its fields. "
        "[Subjects and payloads](subjects.md) is the introduction, and has an example of most."
    )
    shown = list[str]()
    for family in FAMILIES:
        channels = {
            name: channel
            for name, channel in document["channels"].items()
            if {"name": family} in channel["tags"] and not name.startswith("control_")
        }
        if not channels:
            continue
        yield f"## {family}"
        yield _table(
            ("subject", "stream", "carries"),
            (
                (_code(channel["address"]), _code(channel["x-nats-stream"]), _links(channel["messages"]))
                for channel in channels.values()
            ),
        )
        yield from _record(next(iter(channels.values())).get("x-nats-record"))
        for channel in channels.values():
            for type_ in channel["messages"]:
                if type_ not in shown:
                    shown.append(type_)
                    yield from _struct(f"### {type_}", document, type_)
    yield "## What is inside"
    yield from _parts(document, shown)


def _record(kept: Json | None) -> Iterator[str]:
    """Where the events of a family are kept."""
    if kept is not None:
        every = "the last of each subject" if "max_msgs_per_subject" in kept else "all of it"
        days, mib = kept["max_age_s"] // 86_400, kept["max_bytes"] // 1024 // 1024
        yield (
            f"The JetStream stream `{kept['stream']}` keeps {every} for {days} day{'s' if days > 1 else ''}, up to {mib} MiB, "
            f"unless it is set otherwise. Delivery to it is `{kept['delivery']}`."
        )


def _verbs(document: Json) -> Iterator[str]:
    yield "# Control verbs, field by field"
    yield (
        "What the gateway can be asked, by request-reply on NATS. [Control](control.md) is the introduction. "
        "The requests can be pasted, one after another, while the simulator runs."
    )
    shown = list[str]()
    for verb, example in REQUESTS_TO_PASTE.items():
        subject = document["channels"][f"control_{verb}"]["address"]
        yield f"## {verb}"
        yield f"```sh\nnats req {subject} '{_json(example)}'\n```"
        yield from _struct(f"### Request of {verb}", document, f"{verb}_request", asked=True)
        yield from _struct(f"### Reply of {verb}", document, f"{verb}_reply")
        shown += [f"{verb}_request", f"{verb}_reply"]
    yield from _struct("## Refusals", document, "refusal")
    codes = document["components"]["messages"]["refusal"]["headers"]["properties"]["Nats-Service-Error-Code"]
    yield _table(("code", "meaning"), ((_code(code), meaning) for code, meaning in codes["x-values"].items()))
    yield "## What is inside"
    yield from _parts(document, [*shown, "refusal"])


def _struct(heading: str, document: Json, message: str, *, asked: bool = False) -> Iterator[str]:
    """What a message is, and a table of its fields."""
    schema = _schema_of(document, message)
    yield heading
    yield schema["description"]
    if schema.get("properties"):
        yield _fields(schema, asked=asked)


def _parts(document: Json, messages: Sequence[str]) -> Iterator[str]:
    """The structs in the fields of messages, each once."""
    seen = set[str]()
    todo = [_schema_of(document, message) for message in messages]
    while todo:
        for name in _referred(todo.pop(0)):
            if name not in seen:
                seen.add(name)
                part = document["components"]["schemas"][name]
                todo.append(part)
                yield f"### {name}"
                yield part["description"]
                yield _fields(part, asked=False)


def _schema_of(document: Json, message: str) -> Json:
    payload = document["components"]["messages"][message]["payload"]
    schema: Json = document["components"]["schemas"][payload["$ref"].rpartition("/")[2]]
    return schema


def _referred(schema: Json) -> Iterator[str]:
    """The names of the schemas that one refers to, in order."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    parts: list[Any] = [
        *schema.get("properties", {}).values(),
        *map(schema.get, ("items", "additionalProperties")),
    ]
    for union in ("anyOf", "oneOf", "allOf"):
        parts += schema.get(union, ())
    for part in parts:
        if isinstance(part, Mapping):
            yield from _referred(cast("Json", part))


def _fields(schema: Json, *, asked: bool) -> str:
    required = schema.get("required", ())
    header = ("field", "type", "default", "what it is") if asked else ("field", "type", "what it is")
    rows = list[tuple[str, ...]]()
    for name, field in schema["properties"].items():
        said = field.get("description", "").replace("\n\n", " ")
        if asked:
            default = "required" if name in required else _code(_json(field.get("default")))
            rows.append((_code(name), _type(field), default, said))
        else:
            rows.append((_code(name), _type(field) + ("" if name in required else ", or absent"), said))
    return _table(header, rows)


def _type(field: Json) -> str:
    """A field's type in a few words, with a link where it is a struct of its own."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            return " or ".join(_type(option) for option in field[union])
    named = field.get("type", "string" if "enum" in field else "any")
    kinds = [named] if isinstance(named, str) else named
    return " or ".join(
        f"array of {_type(field['items'])}" if kind == "array" and "items" in field else kind
        for kind in kinds
    )


def _links(types: Iterable[str]) -> str:
    return ", ".join(f"[{type_}](#{type_})" for type_ in types)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _code(text: str) -> str:
    return f"`{text}`"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
