"""The contract in `contract/`: it is what the code does, described in full, and takes back nothing it said."""

import copy
import json
import re
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest

from polybus_protocol import PREFIX, ControlError, Gap, decode, encode_event, subject_for, type_of
from polybus_protocol.contract import VERSION, asyncapi, breaking_changes, files, pages, words
from polybus_protocol.contract.schemas import reachable
from polybus_protocol.control.asking import ASKING
from polybus_protocol.control.replies import REPLIES, ErrorReply
from polybus_protocol.control.requests import REQUESTS, VERBS, parse_request
from polybus_protocol.door import DIALECTS
from polybus_protocol.events import AnyEvent

from ..support.contract import CONTRACT, document, fault, fault_of_event, schema
from .samples import FRAMES, wire

type Json = dict[str, Any]

RELEASED = sorted((CONTRACT / "released").iterdir(), key=lambda file: [*map(int, file.stem.split("."))])
SCHEMAS = sorted(
    str(path.relative_to(CONTRACT / "schemas").with_suffix("")) for path in CONTRACT.glob("schemas/**/*.json")
)
STRUCTS = sorted(
    reachable([*get_args(AnyEvent), *REQUESTS.values(), *REPLIES.values(), ErrorReply]),
    key=lambda kind: kind.__name__,
)


# --- what lies there ---------------------------------------------------------------------------------


def test_it_is_made_from_the_code() -> None:
    """What is committed is what the code makes, file by file."""
    made = {path: content.decode() for path, content in files().items()}
    there = {
        str(path.relative_to(CONTRACT)): path.read_text(encoding="utf-8")
        for path in CONTRACT.glob("**/*.json")
        if "released" not in path.parts
    }
    differ = sorted(path for path in made.keys() | there.keys() if made.get(path) != there.get(path))
    assert not differ, f"run `make contract`, and remove what it no longer writes: {differ}"


@pytest.mark.parametrize("name", ["events.md", "verbs.md"])
def test_its_pages_are_made_from_the_code(name: str) -> None:
    """What is committed for people is what the code makes."""
    there = (CONTRACT.parent / "docs" / name).read_text(encoding="utf-8")
    assert pages(asyncapi())[name] == there, "run `make contract`"


def test_its_pages_name_everything() -> None:
    """Each event, verb and struct has a heading, each subject and field a row, and what can be pasted is understood."""
    made = pages(asyncapi())
    text = "\n".join(made.values())
    for channel in document()["channels"].values():
        assert channel["address"] is None or channel["address"] in text
    for name, struct in document()["components"]["schemas"].items():
        assert all(f"| `{field}` |" in text for field in struct.get("properties", {})), name
    pasted = re.findall(r"^nats req polymarket\.v1\.control\.(\w+) '(.+)'$", made["verbs.md"], re.MULTILINE)
    assert sorted(verb for verb, _ in pasted) == sorted(VERBS)
    for verb, request in pasted:
        msgspec.json.decode(request, type=REQUESTS[verb])


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_everything_is_described(kind: type[msgspec.Struct]) -> None:
    """Each struct and each field has a docstring, the one place where its meaning is written."""
    said = words.of_fields(kind)
    assert words.of_class(kind)
    assert not [name for name in kind.__struct_fields__ if not said.get(name)], "these have no docstring"


def test_descriptions_are_for_readers_of_json() -> None:
    """No word of Python, and no name of a list in our code, is left in them."""
    text = json.dumps(document(), ensure_ascii=False)
    assert not [
        word for word in ("None", "True", "False", *words.VALUES, *words.NUMBERS) if f"`{word}`" in text
    ]


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_one(name: str) -> None:
    """It is valid JSON Schema, alone and, in the terms of the draft that AsyncAPI builds on, within the document."""
    assert jsonschema_rs.meta.is_valid(schema(name))
    within = document()["components"]["schemas"][schema(name)["title"]]
    assert jsonschema_rs.meta.is_valid({"$schema": "http://json-schema.org/draft-07/schema#", **within})


# --- what it describes -------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", DIALECTS)
def test_the_samples_of_a_feed_become_what_it_says(feed: str) -> None:
    """Every sample frame becomes events on subjects that it has, with payloads that it allows."""
    judged = set()
    for file in sorted((FRAMES / feed).glob("*.json")):
        for event in decode(feed, wire(json.loads(file.read_text()))):
            assert fault_of_event(subject_for(event), PREFIX, json.loads(encode_event(event))) is None
            judged.add(type_of(event))
    assert judged >= set(ASKING[feed].types) - {"snapshot"}


def test_what_it_does_not_say_is_noticed() -> None:
    """The judge of all other tests finds what is wrong with a subject, a type, a field or a value."""
    good = json.loads(encode_event(Gap("rtds", "resync", class_="crypto", symbol="btc/usd")))
    subject = f"{PREFIX}.price.crypto.btc%2Fusd.gap"
    assert fault_of_event(subject, PREFIX, good) is None
    for elsewhere in (
        "price.crypto.ethusd.gap",
        "price.crypto.gap",
        "price._.btc%2Fusd.gap",
        "weather.x.y.gap",
    ):
        assert fault_of_event(f"{PREFIX}.{elsewhere}", PREFIX, good)
    for wrong in (
        {"type": "book"},
        {"shiny": 1},
        {"reason": None},
        {"seq": "1"},
        {"epoch": 1.5},
        {"symbol": 7},
    ):
        assert fault_of_event(subject, PREFIX, good | wrong), wrong
    for name in good:
        lacks = {key: value for key, value in good.items() if key != name}
        assert fault_of_event(subject, PREFIX, lacks), name


@pytest.mark.parametrize("verb", REQUESTS)
def test_what_it_says_of_requests_is_so(verb: str) -> None:
    """A request with every field at its default is understood and allowed; one with a field too many is neither."""
    usuals: dict[str, dict[str, Any]] = {
        "unsubscribe": {"id": "x"},
        "renew": {"id": "x"},
        "subscribe": {"assets": ["1"]},
        "book": {"asset": "1"},
        "explain": {"asset": "1"},
    }
    usual = usuals.get(verb, {})
    defaults = {
        name: field["default"]
        for name, field in schema(f"requests/{verb}")["properties"].items()
        if name not in usual
    }
    assert parse_request(verb, msgspec.json.encode(usual)) == parse_request(
        verb, msgspec.json.encode(usual | defaults)
    )
    assert fault(f"requests/{verb}", usual) is fault(f"requests/{verb}", usual | defaults) is None
    with pytest.raises(ControlError):
        parse_request(verb, b'{"shiny":1}')
    assert "additionalProperties" in schema(f"requests/{verb}")


def test_a_prefix_is_the_operators() -> None:
    """Under another prefix only the addresses are others."""
    here, there = asyncapi(), asyncapi("desk.pm")
    addresses = [channel["address"] for channel in there["channels"].values() if channel["address"]]
    assert all(address.startswith("desk.pm.") for address in addresses)
    assert json.loads(msgspec.json.encode(there).replace(b"desk.pm", PREFIX.encode())) == json.loads(
        msgspec.json.encode(here)
    )


# --- what it said before -----------------------------------------------------------------------------


def test_nothing_is_taken_back() -> None:
    """What the last release promised holds; see docs/contract.md for what to do where it cannot."""
    released = json.loads(RELEASED[-1].read_text(encoding="utf-8"))
    assert breaking_changes(released, json.loads(msgspec.json.encode(asyncapi()))) == []
    assert released["info"]["version"] == RELEASED[-1].stem
    assert [*map(int, VERSION.split("."))] > [*map(int, RELEASED[-1].stem.split("."))]


GONE = object()
"""Stands for a value that is there no more."""


def changed(path: str, value: Any) -> Json:
    """The contract with another value at a path of keys."""
    document_ = copy.deepcopy(document())
    *folder, name = [int(step) if step.isdigit() else step for step in path.split("/")]
    inside: Any = document_
    for key in folder:
        inside = inside[key]
    if value is GONE:
        del inside[name]
    else:
        inside[name] = value
    return document_


GAP = "components/schemas/Gap"
ASK = "components/schemas/SubscribeRequest"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("channels/user_trade", GONE, "channel user_trade: removed"),
        ("channels/unknown/address", "x", "channel unknown: its address was polymarket.v1.unknown.{feed}"),
        ("channels/market_book/parameters/asset", GONE, "channel market_book: the parameter asset"),
        ("channels/market_book/messages/book", GONE, "channel market_book: the message book was removed"),
        ("operations/renew", GONE, "operation renew: removed"),
        ("operations/renew/action", "send", "operation renew: its action was receive and is send"),
        ("components/messages/notice", GONE, "message notice: removed"),
        (f"{GAP}/properties/lost", GONE, "gap.lost: removed"),
        (f"{GAP}/properties/lost/type", "string", "gap.lost: can now be string"),
        (f"{GAP}/properties/feed/type", ["string", "null"], "gap.feed: can now be null"),
        (f"{GAP}/properties/reason/x-values/silent", GONE, "gap.reason: the value silent was removed"),
        (f"{GAP}/required", ["type"], "gap.reason: may now be absent"),
        ("components/schemas/Level/properties/price/type", "number", "book.bids[].price: can now be number"),
        ("components/schemas/NatsInfo/properties/backlog", GONE, "status_reply.nats.backlog: removed"),
        (
            "components/messages/refusal/headers/properties/Nats-Service-Error",
            GONE,
            "refusal.Nats-Service-Error:",
        ),
        (f"{ASK}/properties/owner", GONE, "subscribe_request.owner: removed"),
        (f"{ASK}/required", ["owner"], "subscribe_request.owner: is now required"),
        (
            f"{ASK}/properties/wait/enum",
            ["data"],
            "subscribe_request.wait: the value sent is no longer taken",
        ),
        (f"{ASK}/properties/id/enum", ["a"], "subscribe_request.id: the value any other is no longer taken"),
        (f"{ASK}/properties/id/type", "string", "subscribe_request.id: can no longer be null"),
        (f"{ASK}/properties/wait_timeout_s/type", "integer", "wait_timeout_s: can no longer be number"),
        (f"{ASK}/properties/wait_timeout_s/maximum", 5, "wait_timeout_s: maximum was 60 and is 5"),
        (
            f"{ASK}/properties/ttl_s/anyOf/0/maximum",
            60,
            "subscribe_request.ttl_s: maximum was 31536000 and is 60",
        ),
        (f"{ASK}/properties/symbols/items/maxLength", 9, "symbols[]: maxLength was not set and is 9"),
        (
            "components/schemas/StatusReply/properties/unknown/additionalProperties/type",
            "null",
            "unknown[]: can now be null",
        ),
        (f"{GAP}/properties/feed", {}, "gap.feed: can now be anything"),
        (f"{ASK}/properties/owner/default", "me", "its default was anonymous and is me"),
        (f"{ASK}/properties/types/items/enum/0", GONE, "types[]: the value book is no longer taken"),
    ],
)
def test_what_breaks_somebody_is_named(path: str, value: Any, named: str) -> None:
    """Each kind of change that takes something from who relied on it has its sentence."""
    assert any(named in sentence for sentence in breaking_changes(document(), changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("channels/new", {"address": "polymarket.v1.books", "messages": {}}),
        ("operations/shiny", {"action": "receive", "channel": {}, "messages": []}),
        ("components/messages/new", {"payload": {"type": "object"}}),
        (f"{GAP}/properties/shiny", {"type": "integer"}),
        (f"{GAP}/properties/lost/type", "integer"),
        (f"{GAP}/properties/reason/x-values/new", "for a new reason"),
        (f"{GAP}/description", "In other words."),
        (f"{ASK}/properties/shiny", {"type": "integer"}),
        (f"{ASK}/properties/owner/type", ["string", "null"]),
        (f"{ASK}/properties/wait/enum", ["accepted", "sent", "data", "book"]),
        (f"{ASK}/properties/wait_timeout_s/maximum", 600),
        (f"{ASK}/properties/owner/minLength", GONE),
    ],
)
def test_additions_break_nobody(path: str, value: Any) -> None:
    """What may come within `v1` is no breaking change."""
    assert breaking_changes(document(), changed(path, value)) == []
