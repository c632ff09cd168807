"""Subjects, both ways."""

import contextlib
import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polybus_protocol import (
    PREFIX,
    Subject,
    SubjectError,
    asset_pattern,
    decode_event,
    encode_event,
    market_pattern,
    parse_subject,
    subject_for,
)
from polybus_protocol.events import Book, ConnectionState, Gap, NewMarket, Notice, Unknown
from polybus_protocol.stream import Stream
from polybus_protocol.subjects import (
    FAMILIES,
    WITHOUT_GAPS,
    control_subject,
    decode_token,
    encode_token,
    family_of,
    ids_of,
    stream_key,
)

IDS = st.one_of(
    st.text(),
    st.text("_.*>% $/\t\r\n\0\\%5F2Eaz~-\u00e9\U0001f600", max_size=8),
    st.sampled_from(["_", "%5F", "%", "*", ">", ".", " ", "btc/usd", "0x" + "ab" * 32, "7" * 78]),
)
SAFE = re.compile(r"[A-Za-z0-9_~%-]+")
"""What NATS takes anywhere in a subject: no separator, no wildcard, no blank, nothing beyond ASCII."""


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    ids = tuple(draw(st.none() | IDS.filter(bool)) for _ in FAMILIES[family])
    prefix = draw(st.sampled_from([PREFIX, "a", "a.b.c"]))
    return Subject(family, ids, draw(IDS.filter(bool)), prefix)


@given(IDS)
def test_a_token_is_safe_and_stands_for_its_id(value: str) -> None:
    """Whatever the id, its token is of the safe alphabet, and decodes to it; only nothing is `_`."""
    token = encode_token(value)
    assert SAFE.fullmatch(token)
    assert decode_token(token) == (value or None)
    assert (token == "_") == (value == "")


@given(subjects())
def test_a_subject_parses_to_what_it_was_made_of(subject: Subject) -> None:
    """Its own text gives its parts back, and the stream key is all but the last token."""
    text = str(subject)
    assert parse_subject(text, subject.prefix) == subject
    assert (
        text.rpartition(".")[0]
        == subject.stream
        == stream_key(subject.family, *subject.ids, prefix=subject.prefix)
    )


@given(st.one_of(st.text(), st.lists(st.text("_.*>% %41%5Fa", max_size=4), max_size=5).map(".".join)))
@example("market.%5f.1.book")
@example("market.%41.1.book")
@example("market.*.1.book")
@example("market.m.1.>")
@example("market.m.%.book")
@example("market.m.%FF.book")
@example("market.m.1.\u00e9")
def test_no_two_subjects_parse_to_the_same(rest: str) -> None:
    """A text that parses is the one its parts are written as; NATS compares subjects to the letter."""
    text = f"{PREFIX}.{rest}"
    with contextlib.suppress(SubjectError):
        assert str(parse_subject(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not start with 'polymarket.v1'"),
        ("polymarket.v2.market.m.a.book", "does not start with"),
        ("polymarket.v1", "does not start with"),
        ("polymarket.v1.weather.m.a.book", "no known family: expected one of .*'market'"),
        ("polymarket.v1.market.m.book", r"not of the form polymarket.v1.market.<market>.<asset>.<type>"),
        ("polymarket.v1.market.m.a.book.x", "not of the form"),
        ("polymarket.v1.market..a.book", "empty token"),
        ("polymarket.v1.market.m.a.", "empty token"),
        ("polymarket.v1.market.m.a._", "has no type"),
        ("polymarket.v1.market.m.%zz.book", "the token '%zz' is not what an id is escaped to"),
    ],
)
def test_what_is_no_subject_is_refused_by_name(text: str, complaint: str) -> None:
    """The error names the subject and what is wrong with it."""
    with pytest.raises(SubjectError, match=complaint) as caught:
        parse_subject(text)
    assert repr(text) in str(caught.value)


def test_a_lone_surrogate_is_no_id() -> None:
    """It has no UTF-8, so it has no token; the error names it."""
    with pytest.raises(SubjectError, match=r"'\\ud800'"):
        encode_token("\ud800")


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (Book(market="0xm", asset="7", bids=[], asks=[], hash=None), "market.0xm.7.book"),
        (NewMarket(market="0xm", assets_ids=["7"]), "market.0xm._.new_market"),
        (Gap(feed="market", market="0xm", asset="7", reason="resync"), "market.0xm.7.gap"),
        (Gap(feed="market", market=None, asset="7", reason="restart"), "market._.7.gap"),
        (Gap(feed="market", market=None, asset=None, reason="resync"), "market._._.gap"),
        (Unknown(feed="market", kind="word", reason="?", raw="x"), "unknown.market"),
        (Notice(replica="gw 0", level="info", text="x"), "system.gw%200.notice"),
        (
            ConnectionState(
                replica="gw0", id="gw0-market-1", incarnation=1, feed="market", url="ws://x", state="open"
            ),
            "system.gw0.connection",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_subject_of_an_event(event: Book, subject: str) -> None:
    """Ids first, type last; `_` where an id does not apply; and back again."""
    text = subject_for(event)
    assert text == f"{PREFIX}.{subject}"
    parsed = parse_subject(text)
    assert parsed.family == family_of(event)
    assert all(parsed[name] == getattr(event, name, None) for name in FAMILIES[parsed.family])


def gap_with(ids: dict[str, str | None]) -> Gap:
    return msgspec.convert({"type": "gap", "feed": "feed", "reason": "resync"} | ids, Gap)


LOSING = sorted(set(FAMILIES) - WITHOUT_GAPS)
"""The families whose streams announce a loss."""


@pytest.mark.parametrize("family", LOSING)
@given(st.data())
def test_the_subject_of_a_gap(family: str, data: st.DataObject) -> None:
    """Of whatever family: its ids say which, both ways, also through the payload; no other id is in it."""
    names = FAMILIES[family]
    ids = tuple(data.draw(st.none() | IDS.filter(bool)) for _ in names)
    gap = gap_with(dict(zip(names, ids, strict=True)))
    assert (family_of(gap), ids_of(gap)) == (family, ids)
    subject = subject_for(gap)
    assert parse_subject(subject) == Subject(family, ids, "gap")

    payload = encode_event(gap)
    assert decode_event(payload) == gap
    assert subject_for(decode_event(payload)) == subject
    every = {name for family_names in FAMILIES.values() for name in family_names}
    assert every & set(json.loads(payload)) == set(names)


@pytest.mark.parametrize("family", LOSING)
def test_the_gap_of_a_stream(family: str) -> None:
    """A stream of any family announces its loss on its own subject."""
    ids = tuple(f"{name}.1" for name in FAMILIES[family])
    stream = Stream("feed", family, ids)
    stream.live = True
    (publication,) = stream.interrupt("resync", 10**18)
    assert publication.subject == f"{stream.key}.gap" == f"{stream_key(family, *ids)}.gap"
    assert subject_for(decode_event(publication.payload)) == publication.subject


def test_an_id_is_found_by_name() -> None:
    """And a name that the family lacks is an error."""
    subject = parse_subject(f"{PREFIX}.market.0xm.7.book")
    assert (subject["market"], subject["asset"], subject.type) == ("0xm", "7", "book")
    with pytest.raises(KeyError):
        subject["account"]


def test_patterns() -> None:
    """What to subscribe to, for an asset and for a market, for all types and for one."""
    assert asset_pattern("7") == "polymarket.v1.market.*.7.>"
    assert asset_pattern("7", "book") == "polymarket.v1.market.*.7.book"
    assert market_pattern("0xm") == "polymarket.v1.market.0xm.>"
    assert market_pattern("0xm", "book", "p") == "p.market.0xm.*.book"
    assert asset_pattern("*") == "polymarket.v1.market.*.%2A.>"
    assert control_subject("subscribe") == "polymarket.v1.control.subscribe"
