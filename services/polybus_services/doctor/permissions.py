"""What a gateway needs to be let do on NATS, held against what the server says it is."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from polybus_actors.publishing.streams import PLANS, stream_name
from polybus_protocol.subjects import FAMILIES
from polybus_services.config import Config


class Rules(msgspec.Struct):
    """What a user may publish, or listen to: all but what is denied, or only what is allowed."""

    allow: list[str] = []
    deny: list[str] = []

    def permit(self, wanted: str) -> bool:
        """Whether all that a pattern stands for is permitted, by one rule."""
        # An entry about a queue has its name behind the subject.
        allowed = not self.allow or any(covers(rule.split()[0], wanted) for rule in self.allow)
        return allowed and not any(overlap(rule.split()[0], wanted) for rule in self.deny)


class Permissions(msgspec.Struct):
    """As the server tells them of a user; what is absent is permitted."""

    publish: Rules = msgspec.field(default_factory=Rules)
    subscribe: Rules = msgspec.field(default_factory=Rules)
    responses: dict[str, object] | None = None
    """Whether it may answer requests, wherever the answer goes."""


class Need(NamedTuple):
    """Something a gateway does."""

    act: str
    """`publish` or `subscribe`."""
    subject: str
    vital: bool
    """False for what only the record and the durability of subscriptions need."""


def needs(config: Config) -> Iterator[Need]:
    """What a gateway of this configuration does."""
    prefix, inbox = config.gateway.prefix, config.nats.inbox_prefix
    bucket = f"KV_{config.gateway.bucket}"
    for family in FAMILIES:
        if family != "control":
            yield Need("publish", f"{prefix}.{family}.>", vital=True)
    yield Need("publish", f"{inbox}.>", vital=True)
    for subject in (f"{inbox}.>", f"{prefix}.control.>", "$SRV.>"):
        yield Need("subscribe", subject, vital=True)
    streams = [bucket, *(stream_name(config.streams.name, plan) for plan in PLANS)]
    yield Need("publish", "$JS.API.INFO", vital=False)
    yield Need("publish", f"$KV.{config.gateway.bucket}.>", vital=False)
    for stream in streams:
        yield Need("publish", f"$JS.API.STREAM.INFO.{stream}", vital=False)


def lacking(permissions: Permissions, wanted: Iterable[Need]) -> list[Need]:
    """What of it is not permitted."""
    return [
        need
        for need in wanted
        if not (permissions.publish if need.act == "publish" else permissions.subscribe).permit(need.subject)
    ]


def may_answer(permissions: Permissions) -> bool:
    """Whether commands can be answered, on inboxes that others choose."""
    return permissions.responses is not None or permissions.publish.permit("_INBOX.>")


def covers(rule: str, wanted: str) -> bool:
    """Whether a pattern stands for all that another stands for.

    >>> covers("a.>", "a.*.b"), covers("a.*", "a.>"), covers("a.b", "a.b")
    (True, False, True)
    """
    rules, tokens = rule.split("."), wanted.split(".")
    for place, own in enumerate(rules):
        if own == ">":
            return place < len(tokens)
        if place >= len(tokens) or tokens[place] == ">" or own not in ("*", tokens[place]):
            return False
    return len(rules) == len(tokens)


def overlap(one: str, other: str) -> bool:
    """Whether some subject is meant by both patterns.

    >>> overlap("a.*.c", "a.b.>"), overlap("a.b", "a.c"), overlap("a", "a.>")
    (True, False, False)
    """
    first, second = one.split("."), other.split(".")
    for mine, theirs in zip(first, second, strict=False):
        if ">" in (mine, theirs):
            return True
        if "*" not in (mine, theirs) and mine != theirs:
            return False
    return len(first) == len(second)
