"""The AsyncAPI 3 document: subjects as channels, what the gateway sends on them, and what it can be asked.

It describes the gateway, as AsyncAPI has it: the gateway *sends* events and *receives* requests; whoever consumes
does the opposite.  What AsyncAPI has no word for stands in extensions: `x-nats-wildcard` of a channel is what to
subscribe to, `x-nats-stream` what order and `seq` belong to, `x-nats-record` which JetStream stream keeps it, `x-values` of a field the words it can hold so far, `x-old-names`
of a request what it is understood by as well: old name -> today's.
"""

from typing import Any

import msgspec

from ..control.replies import REPLIES, ErrorReply
from ..control.requests import REQUESTS, SERVICE, VERBS
from ..errors import CODES
from ..events import Event, Gap, GapRollup, Unknown
from ..legacy import CHANNELS, DELIVERY, FIELDS, TYPES
from ..subjects import ABSENT, FAMILIES, PREFIX, WITHOUT_GAPS, attribute_of, control_subject
from . import words
from .record import KEPT
from .schemas import EVENTS, components

type Json = dict[str, Any]

VERSION = "1.1"
"""Of the contract that is being made: one past the newest in `contract/released`.  The `1` is that of the subjects'
`v1`; the other number rises with each release that added something."""

ASYNCAPI = "3.0.0"

QUEUE = "q"
"""The queue group of NATS micro services: of several gateways, one takes a request."""

JSON = "application/json"

ABOUT = f"""\
Polymarket's real-time feeds on NATS: ordered, gap-marked events, and a service to ask for them.

**Subjects.** Ids first, type last: one wildcard subscription yields one ordered stream. An id that does not apply is
`{ABSENT}`. In an id, every byte of its UTF-8 but ASCII letters, digits, `-`, `_` and `~` is percent-encoded, and the id
`{ABSENT}` is `%5F`.

**Payloads.** One JSON object. Decimals are strings and keep the venue's digits. Each field is there, null where there is
no value, unless its schema does not require it. `source_time` and other times are milliseconds since the epoch, but
`received_time`, `last_received_time` and the times of control replies are nanoseconds, which need 64 bits.

**Order.** A *stream* is a subject without its last token. Within one `epoch` of a stream `seq` rises by one; a new
epoch begins with a `gap`; a jump that no gap explains was lost between NATS and you.

**Changes.** Within `v1` there may come new fields, types, subjects, verbs and words in `x-values`: ignore what you do
not know. Nothing is taken away.
"""


def asyncapi(prefix: str = PREFIX) -> Json:
    """The document of a gateway that publishes under a prefix."""
    places = [place for event in EVENTS.values() for place in _places(event, prefix)]
    return {
        "asyncapi": ASYNCAPI,
        "id": "urn:polybus:v1",
        "info": {
            "title": SERVICE,
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": family} for family in FAMILIES],
            "x-nats": {
                "prefix": prefix,
                "service": SERVICE,
                "delivery": "core NATS, at most once; with JetStream from the streams of `x-nats-record`, too",
            },
        },
        "servers": {
            "nats": {
                "host": "{host}:{port}",
                "protocol": "nats",
                "description": "Core NATS, 2.9 or newer; subscriptions survive a restart where it has JetStream.",
                "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "4222"}},
            }
        },
        "channels": {
            **{name: channel for name, channel, _ in places},
            **{name: channel for verb in VERBS for name, channel in _control_channels(verb, prefix).items()},
        },
        "operations": {
            **{f"publish_{name}": _publishing(name, channel, type_) for name, channel, type_ in places},
            **{verb: _answering(verb) for verb in VERBS},
        },
        "components": {
            "messages": {
                **{type_: _message(event) for type_, event in EVENTS.items()},
                **{_request_name(verb): _request(verb) for verb in VERBS},
                **{_reply_name(verb): _message(REPLIES[verb]) for verb in VERBS},
                "refusal": _refusal(),
            },
            "schemas": {
                **components([*EVENTS.values(), *REPLIES.values(), ErrorReply], sent=True),
                **components(REQUESTS.values(), sent=False),
            },
        },
    }


def _ref(*path: str) -> Json:
    return {"$ref": "/".join(("#", *path))}


def _publishing(name: str, channel: Json, type_: str) -> Json:
    return {
        "action": "send",
        "channel": _ref("channels", name),
        "summary": channel["summary"],
        "messages": [_ref("channels", name, "messages", type_)],
    }


def _places(event: type[Event], prefix: str) -> list[tuple[str, Json, str]]:
    """Where an event is published: name of the channel, the channel, type of the event."""
    type_ = str(event.__struct_config__.tag)
    if event is Unknown:
        return [("unknown", _channel(event, "unknown", "{feed}", prefix), type_)]
    families = (
        [family for family in FAMILIES if family not in WITHOUT_GAPS] if event is Gap else [event.family]
    )
    last = str(Gap.__struct_config__.tag) if event is GapRollup else type_
    return [(f"{family}_{type_}", _channel(event, family, last, prefix), type_) for family in families]


def _has(event: type[Event], id_: str) -> bool:
    return attribute_of(id_) in event.__struct_fields__


def _channel(event: type[Event], family: str, last: str, prefix: str) -> Json:
    ids = [f"{{{id_}}}" if _has(event, id_) else ABSENT for id_ in FAMILIES[family]]
    stream = ".".join((prefix, family, *ids))
    address = f"{stream}.{last}"
    parameters = [token[1:-1] for token in (*ids, last) if token.startswith("{")]
    type_ = str(event.__struct_config__.tag)
    said = words.of_fields(event)
    return {
        "address": address,
        "summary": words.of_class(event).partition("\n\n")[0],
        "messages": {type_: _ref("components", "messages", type_)},
        **(
            {
                "parameters": {
                    name: {
                        "description": words.for_json(said.get(attribute_of(name), "")),
                        "location": f"$message.payload#/{name}",
                    }
                    for name in parameters
                }
            }
            if parameters
            else {}
        ),
        "tags": [{"name": family}],
        "x-nats-wildcard": ".".join("*" if token.startswith("{") else token for token in address.split(".")),
        "x-nats-stream": stream,
        **({"x-nats-record": msgspec.to_builtins(KEPT[family])} if family in KEPT else {}),
    }


def _control_channels(verb: str, prefix: str) -> Json:
    subject = control_subject(verb, prefix)
    return {
        f"control_{verb}": {
            "address": subject,
            "summary": words.of_class(REQUESTS[verb]).partition("\n\n")[0],
            "messages": {_request_name(verb): _ref("components", "messages", _request_name(verb))},
            "tags": [{"name": "control"}],
        },
        f"control_{verb}_reply": {
            "address": None,
            "summary": "The reply subject that the NATS client makes for its request.",
            "messages": {
                name: _ref("components", "messages", name) for name in (_reply_name(verb), "refusal")
            },
            "tags": [{"name": "control"}],
        },
    }


def _answering(verb: str) -> Json:
    channel, reply = f"control_{verb}", f"control_{verb}_reply"
    return {
        "action": "receive",
        "channel": _ref("channels", channel),
        "summary": words.of_class(REQUESTS[verb]).partition("\n\n")[0],
        "messages": [_ref("channels", channel, "messages", _request_name(verb))],
        "bindings": {"nats": {"queue": QUEUE, "bindingVersion": "0.1.0"}},
        "reply": {
            "channel": _ref("channels", reply),
            "messages": [
                _ref("channels", reply, "messages", name) for name in (_reply_name(verb), "refusal")
            ],
        },
    }


def _request_name(verb: str) -> str:
    return f"{verb}_request"


def _reply_name(verb: str) -> str:
    return f"{verb}_reply"


def _message(kind: type) -> Json:
    summary, _, more = words.of_class(kind).partition("\n\n")
    return {
        "name": kind.__name__,
        "title": kind.__name__,
        "summary": summary,
        **({"description": more} if more else {}),
        "contentType": JSON,
        "payload": _ref("components", "schemas", kind.__name__),
    }


def _request(verb: str) -> Json:
    """A request; `subscribe` also understands what its schema does not show."""
    old = {"fields": FIELDS, "types": TYPES, "feeds": CHANNELS, "deliver": DELIVERY}
    return _message(REQUESTS[verb]) | ({"x-old-names": old} if verb == "subscribe" else {})


def _refusal() -> Json:
    return _message(ErrorReply) | {
        "headers": {
            "type": "object",
            "required": ["Nats-Service-Error", "Nats-Service-Error-Code"],
            "properties": {
                "Nats-Service-Error": {
                    "type": "string",
                    "description": "The message in ASCII; the body has it as it is.",
                },
                "Nats-Service-Error-Code": {
                    "type": "string",
                    "description": "The code, with the meaning HTTP gives it.",
                    "x-values": {str(code): meaning for code, meaning in CODES.items()},
                },
            },
        }
    }
