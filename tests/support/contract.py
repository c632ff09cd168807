"""Reads the contract as it lies in `contract/`, and judges what is published by it.

It knows nothing but those files, so what passes here is what a stranger could rely on.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema_rs import Draft202012Validator, ValidationError

CONTRACT = Path(__file__).parents[2] / "contract"
RENEW = "if that is meant to be, run `make contract`"

type Json = dict[str, Any]


@cache
def document() -> Json:
    """The AsyncAPI document."""
    return json.loads((CONTRACT / "asyncapi.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def schema(name: str) -> Json:
    """A JSON Schema, by its path in `contract/schemas` without the suffix."""
    file = CONTRACT / "schemas" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def fault(name: str, payload: Any) -> str | None:
    """What is wrong with a payload by a schema; None if nothing is.

    A field that the schema does not name is a fault as well: strangers may meet new ones, we must know ours.
    """
    if unnamed := set(payload) - set(schema(name)["properties"]):
        return f"{name}: the contract has no field {', '.join(sorted(unnamed))}: {RENEW}"
    try:
        _validator(name).validate(payload)
    except ValidationError as error:
        place = "".join(f"[{step!r}]" for step in error.instance_path)
        return f"{name}{place}: {error.message}: {RENEW}"
    return None


@cache
def _addresses() -> dict[tuple[str, int, str | None], tuple[str, list[str], Json]]:
    """Family, tokens after the prefix, last token (None where it is a parameter) -> type, tokens, parameters."""
    prefix = document()["info"]["x-nats"]["prefix"]
    found: dict[tuple[str, int, str | None], tuple[str, list[str], Json]] = {}
    for channel in document()["channels"].values():
        if channel["address"] is not None:
            tokens = channel["address"].removeprefix(f"{prefix}.").split(".")
            last = None if tokens[-1].startswith("{") else tokens[-1]
            (type_,) = channel["messages"]
            found[tokens[0], len(tokens), last] = type_, tokens, channel.get("parameters", {})
    return found


def fault_of_event(subject: str, prefix: str, event: Json) -> str | None:
    """What is wrong with an event on a subject by the contract; None if nothing is."""
    tokens = subject.removeprefix(f"{prefix}.").split(".")
    family, count = tokens[0], len(tokens)
    place = _addresses().get((family, count, tokens[-1])) or _addresses().get((family, count, None))
    if place is None:
        return f"{subject}: the contract has no such channel: {RENEW}"
    type_, pattern, parameters = place
    if event.get("type") != type_:
        return f"{subject}: carries {event.get('type')}, where the contract has {type_}"
    for token, form in zip(tokens, pattern, strict=True):
        if form.startswith("{"):
            field = parameters[form[1:-1]]["location"].removeprefix("$message.payload#/")
            if event.get(field) != (None if token == "_" else unquote(token)):
                return f"{subject}: {token} stands for {field}, which is {event.get(field)!r}"
        elif form != token:
            return f"{subject}: {token} stands where the contract has {form}"
    return fault(f"events/{type_}", event)
