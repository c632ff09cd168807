"""The door for those who only want to parse."""

import pytest

import polybus_protocol
from polybus_protocol import Book, Unknown, decode

from .conversation import M1, book, written


def test_an_unknown_feed_is_the_callers_mistake() -> None:
    """It raises, and says which feeds there are."""
    with pytest.raises(ValueError, match="no feed 'weather': expected one of market"):
        decode("weather", "{}")


def test_text_and_bytes_are_the_same() -> None:
    """Whichever the caller has, blanks around it included."""
    frame = written(book(M1))
    assert (
        decode("market", frame) == decode("market", frame.decode()) == decode("market", b"\n" + frame + b" ")
    )


def test_events_carry_no_stamps() -> None:
    """They belong to no stream yet."""
    (event,) = decode("market", written(book(M1)))
    assert isinstance(event, Book)
    assert (event.received_time, event.connection, event.epoch, event.seq) == (0, None, 0, 0)


def test_each_call_stands_alone() -> None:
    """A new field is told at each call, since nothing is remembered from one to the next."""
    frame = written(book(M1) | {"shiny": 1})
    for _ in range(2):
        assert [type(event) for event in decode("market", frame)] == [Book, Unknown]


def test_the_package_exports_what_it_promises() -> None:
    """Every name in `__all__` is there, and the four functions are among them."""
    names = polybus_protocol.__all__
    assert all(hasattr(polybus_protocol, name) for name in names)
    assert {"decode", "decode_event", "subject_for", "parse_subject"} <= set(names)
