"""The contract: what people in any language rely on, made from the code and never written by hand.

`asyncapi` makes an AsyncAPI 3 document of the subjects, events and control verbs; `event_schema`, `request_schema`
and `reply_schema` make one JSON Schema each; `pages` is the document for people; `breaking_changes` compares two.  What may change within
`v1` stands in `docs/contract.md`.

The structs say which fields there are and of which type; the docstrings of classes and fields say what they mean.
"""

import msgspec

from ..control.replies import REPLIES
from ..control.requests import REQUESTS
from ..subjects import PREFIX
from .changes import breaking_changes
from .document import VERSION, asyncapi
from .pages import pages
from .schemas import EVENTS, error_schema, event_schema, reply_schema, request_schema

__all__ = [
    "VERSION",
    "asyncapi",
    "breaking_changes",
    "error_schema",
    "event_schema",
    "files",
    "pages",
    "reply_schema",
    "request_schema",
]


def files(prefix: str = PREFIX) -> dict[str, bytes]:
    """All of it as files: path within the contract's folder -> content, JSON laid out for people."""
    documents = {
        "asyncapi.json": asyncapi(prefix),
        **{f"schemas/events/{type_}.json": event_schema(type_) for type_ in EVENTS},
        **{f"schemas/requests/{verb}.json": request_schema(verb) for verb in REQUESTS},
        **{f"schemas/replies/{verb}.json": reply_schema(verb) for verb in REPLIES},
        "schemas/error.json": error_schema(),
    }
    return {
        path: msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        for path, document in documents.items()
    }
