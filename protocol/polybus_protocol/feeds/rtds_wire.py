"""What the venue says on RTDS, and what it is told: one struct per form, with the venue's names.

Field tables: docs.polymarket.com rtds page, README of Polymarket/real-time-data-client.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from .market_wire import Text
from .values import ABSENT, Loose


class WireEnvelope(msgspec.Struct, gc=False):
    """What is around every payload; an error frame has no `topic`."""

    topic: str | None = None
    type: str | None = None
    timestamp: Loose = ABSENT
    payload: msgspec.Raw = msgspec.Raw(b"null")
    connection_id: msgspec.Raw = ABSENT
    """A label that says nothing to us."""


class WireError(msgspec.Struct, gc=False):
    """A refusal.  The captured one has a `statusCode` and its words in `body`."""

    status_code: Loose = msgspec.field(name="statusCode", default=ABSENT)
    message: Any = None
    body: Any = None
    error: Any = None


class WireActivity(msgspec.Struct, rename="camel", gc=False):
    """The payload of `trades` and of `orders_matched`."""

    asset: Text
    condition_id: Text
    side: Text
    price: Loose = ABSENT
    size: Loose = ABSENT
    event_slug: str | None = None
    proxy_wallet: str | None = None
    transaction_hash: str | None = None
    fee: Loose = ABSENT
    outcome: str | None = None
    outcome_index: Loose = ABSENT
    slug: str | None = None
    title: str | None = None
    name: str | None = None
    pseudonym: str | None = None
    bio: str | None = None
    profile_image: str | None = None
    icon: str | None = None
    timestamp: Loose = ABSENT
    """Seconds."""


class WireProfile(msgspec.Struct, rename="camel", gc=False):
    """Who wrote a comment."""

    name: str | None = None
    pseudonym: str | None = None
    base_address: str | None = None
    proxy_wallet: str | None = None
    display_username_public: bool | None = None


class WireComment(msgspec.Struct, rename="camel", gc=False):
    """The payload of `comment_created` and `comment_removed`."""

    id: Loose
    body: str | None = None
    user_address: str | None = None
    parent_entity_type: str | None = None
    parent_entity_id: Loose = msgspec.field(name="parentEntityID", default=ABSENT)
    parent_comment_id: Loose = msgspec.field(name="parentCommentID", default=ABSENT)
    reply_address: str | None = None
    reaction_count: Loose = ABSENT
    report_count: Loose = ABSENT
    profile: WireProfile | None = None
    created_at: Loose = ABSENT
    updated_at: Loose = ABSENT


class WireReaction(msgspec.Struct, rename="camel", gc=False):
    """The payload of `reaction_created` and `reaction_removed`."""

    id: Loose
    comment_id: Loose = msgspec.field(name="commentID", default=ABSENT)
    reaction_type: str | None = None
    icon: str | None = None
    user_address: str | None = None
    created_at: Loose = ABSENT


class WireSubscription(msgspec.Struct, omit_defaults=True):
    """One entry of a request."""

    topic: str
    type: str
    filters: str | UnsetType = UNSET
    """A JSON document, or a comma list, as text; compared almost to the letter: no blanks."""
    gamma_auth: dict[str, str] | UnsetType = UNSET
    """`{address}`: a wallet."""
    clob_auth: dict[str, str] | UnsetType = UNSET
    """`{key, secret, passphrase}`: for a retired topic only, so we never say it."""


class WireRequest(msgspec.Struct):
    """What the venue is told."""

    action: str
    """`subscribe` or `unsubscribe`."""
    subscriptions: list[WireSubscription]
