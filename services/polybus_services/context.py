"""Contexts of the NATS command line, read and never written: who has one need not say it all again.

A context is a JSON file of the folder `nats/context` below `$XDG_CONFIG_HOME`, or `~/.config` (NATS' ADR-21).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

LOGIN = ("user", "password", "token", "creds", "nkey")
"""What says who we are: it is taken from one place as a whole."""

KEYS = ("url", *LOGIN, "ca", "cert", "key", "inbox_prefix")
"""What a context and `[nats]` call by the same name."""

PATHS = ("creds", "nkey", "ca", "cert", "key")

UNSUPPORTED = ("nsc", "user_jwt", "socks_proxy", "jetstream_domain", "jetstream_api_prefix")
"""What changes where a client goes, or as whom, and is not known here: better refused than passed over."""


class ContextError(Exception):
    """The context cannot be used; the text says why, and shows no secret."""


def context_path(name: str, environ: Mapping[str, str]) -> Path:
    """The file of a context.

    Raises:
        ContextError: the name is none that a context can have.
    """
    if not name or "/" in name or "\\" in name or ".." in name:
        raise ContextError("the name of a context has neither `..` nor `/` nor `\\` in it")
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "nats" / "context" / f"{name}.json"


def read_context(name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What a context says, by the keys of `[nats]`; what is empty there is left out.

    Raises:
        ContextError: there is no such context, or something in it cannot be used.
    """
    path = context_path(name, environ)
    try:
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ContextError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ContextError(f"{path} is not a JSON object") from None
    if beyond := [key for key in UNSUPPORTED if told.get(key)]:
        raise ContextError(f"{path} has {', '.join(beyond)}, which polybus cannot do")
    if wrong := [key for key in KEYS if not isinstance(told.get(key, ""), str)]:
        raise ContextError(f"{path}: {wrong[0]} is not text")
    found: dict[str, Any] = {key: told[key] for key in KEYS if told.get(key)}
    for key in found.keys() & set(PATHS):
        # As the command line does; what is relative stays so, to where we are started.
        found[key] = str(Path(found[key]).expanduser())
    if told.get("tls_first") is True:
        found["tls_first"] = True
    return found
