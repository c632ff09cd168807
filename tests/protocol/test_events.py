"""Canonical events: what a consumer reads is what was published."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import decode_event, encode_event
from polybus_protocol.events import (
    GAP_REASONS,
    LOSSY_KINDS,
    MARKET_EVENTS,
    UNKNOWN_KINDS,
    AnyEvent,
    Event,
    Gap,
    type_of,
)
from polybus_protocol.feeds.reading import Aside
from polybus_protocol.subjects import FAMILIES, attribute_of

EVENTS: tuple[type[Event], ...] = get_args(AnyEvent)


def of_type(type_: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, as the struct declares it."""
    match type_:
        case msgspec.inspect.StrType():
            return st.text()
        case msgspec.inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case msgspec.inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.UnionType(types):
            return st.one_of([of_type(each) for each in types])
        case msgspec.inspect.ListType(item_type):
            return st.lists(of_type(item_type), max_size=3)
        case msgspec.inspect.DictType(key_type, value_type):
            return st.dictionaries(of_type(key_type), of_type(value_type), max_size=3)
        case msgspec.inspect.StructType(cls, fields):
            return st.builds(cls, **{field.name: of_type(field.type) for field in fields})
        case _:
            raise AssertionError(f"an event has a field of {type_}, which no consumer was told of")


@pytest.mark.parametrize("kind", EVENTS, ids=type_of)
def test_a_payload_reads_back(kind: type[Event]) -> None:
    """Encoding and decoding are each other's inverse, field for field."""

    @given(of_type(msgspec.inspect.type_info(kind)))
    def check(event: Event) -> None:
        payload = encode_event(event)
        assert decode_event(payload) == decode_event(payload.decode()) == event
        assert json.loads(payload)["type"] == type_of(kind)

    check()


def test_types_are_told_apart() -> None:
    """No two events share a type, and every subclass that is published is among those that can be decoded."""
    assert len({type_of(kind) for kind in EVENTS}) == len(EVENTS)
    concrete = {kind for kind in subclasses(Event) if kind.__struct_config__.tag != kind.__name__}
    assert concrete - subclasses(Aside) == set(EVENTS)
    assert set(MARKET_EVENTS) < set(EVENTS)


def subclasses(kind: type[Event]) -> set[type[Event]]:
    return {deeper for direct in kind.__subclasses__() for deeper in {direct, *subclasses(direct)}}


@pytest.mark.parametrize("kind", EVENTS, ids=type_of)
def test_no_number_is_a_float(kind: type[Event]) -> None:
    """Of what the venue says; how long until we dial again is ours to say."""
    floats = [field.name for field in msgspec.structs.fields(kind) if "float" in str(field.type)]
    assert floats in ([], ["retry_in_s"])


@pytest.mark.parametrize("kind", EVENTS, ids=type_of)
def test_the_ids_of_the_subject_stand_in_the_payload(kind: type[Event]) -> None:
    """A consumer of JetStream need not look at the subject; an id that does not apply has no field.

    A gap is of all families that lose something; a market's own events have no asset.
    """
    fields = set(kind.__struct_fields__)
    families = [family for family in FAMILIES if kind is Gap and family != "system"] or [kind.family]
    for family in families:
        assert fields >= {attribute_of(name) for name in FAMILIES[family]} - (
            {"asset"} if "assets_ids" in fields else set()
        )


def test_a_gap_holds_the_ids_of_its_subject_and_no_other() -> None:
    """Also in the payload: those that do not belong to the family are absent, one not known is null."""
    gap = Gap("rtds", "resync", class_="crypto", symbol="btcusd")
    payload = json.loads(encode_event(gap))
    ids = {name for names in FAMILIES.values() for name in names} - {"replica"}
    assert {name: payload[name] for name in ids & set(payload)} == {"class": "crypto", "symbol": "btcusd"}


def test_unknown_fields_are_ignored() -> None:
    """A consumer of this version reads what a later one publishes."""
    event = decode_event('{"type":"notice","replica":"gw0","level":"info","text":"x","shiny":[1]}')
    assert type_of(event) == "notice"


@pytest.mark.parametrize("payload", ["", "7", "{}", '{"type":"weather"}', '{"type":"book"}', b"\xff"])
def test_what_is_no_event_raises(payload: str | bytes) -> None:
    """A single kind of error for the consumer to catch."""
    with pytest.raises(msgspec.DecodeError):
        decode_event(payload)


def test_lists_of_words_are_consistent() -> None:
    """The lossy kinds are kinds; every reason and kind has its sentence."""
    assert set(UNKNOWN_KINDS) > LOSSY_KINDS
    assert all(GAP_REASONS.values())
    assert all(UNKNOWN_KINDS.values())
