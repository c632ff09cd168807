"""Comments and reactions to them (RTDS topic `comments`, which the venue is retiring)."""

from typing import ClassVar

import msgspec

from .base import Event


class CommentsEvent(Event):
    """What happened under a parent.  `source_time` is when the venue sent the frame."""

    family: ClassVar[str] = "comments"

    parent_type: str | None
    """`Event` or `Series`; None for a reaction, which names only its comment."""
    parent_id: str | None
    """Numeric id of the parent, as text."""
    id: str
    """Of the comment, or of the reaction."""


class Profile(msgspec.Struct, frozen=True, gc=False):
    """Who wrote a comment."""

    name: str | None = None
    """As the writer chose it."""
    pseudonym: str | None = None
    """The name the venue made up."""
    base_address: str | None = None
    """The writer's own address."""
    proxy_wallet: str | None = None
    """Address of the wallet that trades for the writer."""
    display_username_public: bool | None = None
    """Whether the writer shows the name."""


class CommentEvent(CommentsEvent):
    """A comment, as it stands in its creation and in its removal."""

    body: str | None
    """The text."""
    user_address: str | None = None
    """The author's address."""
    parent_comment_id: str | None = None
    """The comment it answers."""
    reply_address: str | None = None
    """The author of that."""
    reaction_count: int | None = None
    """Reactions so far."""
    report_count: int | None = None
    """How often it was reported."""
    profile: Profile | None = None
    """The author's."""
    created_time: int | None = None
    """Milliseconds since the epoch."""
    updated_time: int | None = None
    """Milliseconds since the epoch."""


class CommentCreated(CommentEvent, tag="comment_created"):
    """A comment was written."""


class CommentRemoved(CommentEvent, tag="comment_removed"):
    """A comment was taken away."""


class ReactionEvent(CommentsEvent):
    """A reaction to a comment."""

    comment_id: str | None
    """The comment reacted to: a numeric id, as text."""
    reaction_type: str | None = None
    """Such as `HEART`."""
    icon: str | None = None
    """The venue's picture of the reaction."""
    user_address: str | None = None
    """Who reacted."""
    created_time: int | None = None
    """Milliseconds since the epoch."""


class ReactionCreated(ReactionEvent, tag="reaction_created"):
    """Somebody reacted to a comment."""


class ReactionRemoved(ReactionEvent, tag="reaction_removed"):
    """Somebody took a reaction back."""


COMMENTS_EVENTS = (CommentCreated, CommentRemoved, ReactionCreated, ReactionRemoved)
"""The events of the topic `comments`."""
