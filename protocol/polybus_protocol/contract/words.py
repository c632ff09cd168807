"""What the code says about itself: the docstrings of structs and, below each field, of the fields.

Python keeps no docstring of a field, so they are read from the source, once.  Where there is no source, as in a
bundle of compiled modules alone, the contract has the types and no words.
"""

import ast
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec

from ..control.asking import ASKING, EVENT_TYPES
from ..control.requests import DELIVERIES, WAITS
from ..errors import CODES
from ..events import CLOSED_BY, GAP_REASONS, MAX_RAW_CHARS, UNKNOWN_KINDS

type Values = Mapping[str, str] | Sequence[str]
"""The words a field can hold, with their meanings where they have some."""

VALUES: Mapping[str, Values] = {
    "CLOSED_BY": CLOSED_BY,
    "CODES": {str(code): meaning for code, meaning in CODES.items()},
    "DELIVERIES": DELIVERIES,
    "EVENT_TYPES": EVENT_TYPES,
    "FEEDS": tuple(ASKING),
    "GAP_REASONS": GAP_REASONS,
    "UNKNOWN_KINDS": UNKNOWN_KINDS,
    "WAITS": WAITS,
}
"""Names that a docstring can use for the words a field can hold: `One of GAP_REASONS`, the name in back quotes."""

NUMBERS = {"MAX_RAW_CHARS": MAX_RAW_CHARS}
"""Names that stand for a number."""

_OURS = __name__.partition(".")[0] + "."
_NAME = re.compile(r"`([A-Z]+(?:_[A-Z]+)*)`")
_JSON = {"None": "null", "True": "true", "False": "false"}


def of_class(kind: type) -> str:
    """What a struct is, for a reader of JSON: paragraphs of CommonMark."""
    return for_json(inspect.cleandoc(kind.__doc__ or ""))


@cache
def of_fields(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What each attribute of a struct is, as its docstring has it; those without one are left out."""
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith(_OURS):
            said |= _of_module(each.__module__).get(each.__name__, {})
    return said


def values_of(text: str) -> Values | None:
    """The words that a docstring says the field can hold; None where it names no such list."""
    return next((VALUES[name] for name in _NAME.findall(text) if name in VALUES), None)


def for_json(text: str) -> str:
    """A docstring in the terms of JSON, with the names of lists replaced by what is in them."""

    def spelled(match: re.Match[str]) -> str:
        if (name := match[1]) in NUMBERS:
            return str(NUMBERS[name])
        return ", ".join(f"`{value}`" for value in VALUES[name]) if name in VALUES else match[0]

    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    plain = re.sub(r"\b(None|True|False)\b", lambda match: _JSON[match[1]], "\n\n".join(paragraphs))
    return _NAME.sub(spelled, plain)


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Class -> attribute -> docstring."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except OSError:
        return {}
    return {node.name: dict(_documented(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(node: ast.ClassDef) -> list[tuple[str, str]]:
    return [
        (field.target.id, inspect.cleandoc(below.value.value))
        for field, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    ]
