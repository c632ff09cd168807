"""The login: how a NATS client is opened, and as whom."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from nats.aio.client import Client


class NatsSettings(msgspec.Struct, frozen=True):
    """Where NATS is, and who we are there."""

    url: str = "nats://127.0.0.1:4222"
    """One URL, or several with commas between."""
    name: str = "polybus"
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    """Path of a credentials file."""
    connect_timeout_s: float = 5.0
    """Seconds until the first connection must stand."""

    def __repr__(self) -> str:
        # Secrets never reach a log: a dataclass-like repr would show the password.
        return f"NatsSettings(url={safe_url(self.url)!r}, name={self.name!r})"


class NatsUnreachable(Exception):
    """NATS cannot be reached, or does not let us in; the text says where and why."""


def new_client(_settings: NatsSettings) -> Client:
    """A client that is not connected yet: to be connected with `options`."""
    return Client()


def options(settings: NatsSettings) -> dict[str, Any]:
    """What `Client.connect` is told of where to go and as whom.

    Raises:
        NatsUnreachable: there are no such credentials; the text is fit for a person.
    """
    login = {
        "user": settings.user,
        "password": settings.password,
        "token": settings.token,
        "user_credentials": None if settings.creds is None else _checked_creds(settings.creds),
    }
    return {
        "servers": settings.url.split(","),
        "name": settings.name,
        # Absent settings are left out, since nats-py takes None for a value in places.
        **{key: value for key, value in login.items() if value is not None},
    }


def words(error: BaseException) -> str:
    """What an error says; its name where it says nothing, as many of nats-py's do."""
    return str(error) or type(error).__name__


def _checked_creds(path: str) -> str:
    """A credentials file without its two blocks makes nats-py spin for ever."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise NatsUnreachable(f"the NATS credentials file {path} cannot be read: {error.strerror}") from None
    if "-----BEGIN NATS USER JWT-----" not in text or "-----BEGIN USER NKEY SEED-----" not in text:
        raise NatsUnreachable(f"the NATS credentials file {path} does not hold a user JWT and an nkey seed")
    return path


def safe_url(urls: str) -> str:
    """URLs without user, password or token, fit for a log."""
    return ",".join(
        url if "@" not in url else f"{urlsplit(url).scheme}://{url.rpartition('@')[2]}"
        for url in urls.split(",")
    )
