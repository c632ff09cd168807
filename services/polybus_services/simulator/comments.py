"""Comments and reactions under the simulated events."""

import random
from collections.abc import Iterator

import msgspec

from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Commented
from polybus_services.simulator.people import People, Person

REMEMBERED = 200
"""Comments that can still be answered, removed or reacted to."""

BODIES = (
    "That's a good point about the definition.",
    "Who is selling here?",
    'Read the rules: it says "by the end of the day", not "during".',
    "No way. ¯\\_(ツ)_/¯",
    "Market is slow today 🐢",
)

REACTIONS = (("HEART", "❤️"), ("FIRE", "🔥"), ("LAUGH", "😂"))


class Comment(msgspec.Struct, frozen=True):
    """A comment under an event."""

    id: int
    body: str
    author: Person
    parent_id: int
    """The event's number."""
    created_ms: int
    answers: "Comment | None" = None


class Reaction(msgspec.Struct, frozen=True):
    """What somebody thinks of a comment."""

    id: int
    comment: Comment
    author: Person
    type: str
    icon: str
    created_ms: int


class Comments:
    """Everything said so far that can still be taken back."""

    def __init__(self, seed: int, exchange: Exchange, people: People) -> None:
        self._random = random.Random(f"comments {seed}")
        self._exchange = exchange
        self._people = people
        self._comments: list[Comment] = []
        self._reactions: list[Reaction] = []
        self._next_id = 1_763_325

    def tick(self, now_ms: int) -> Iterator[Commented]:
        """Let somebody say or take back something.  Without a market there is nothing to talk about."""
        pick = self._random
        chance = pick.random()
        if self._comments and chance < 0.25:
            yield self._react(now_ms)
        elif self._reactions and chance < 0.30:
            gone = self._reactions.pop(pick.randrange(len(self._reactions)))
            yield Commented("reaction_removed", gone.comment, now_ms, gone)
        elif self._comments and chance < 0.40:
            yield self._remove(now_ms)
        elif self._exchange.markets:
            yield self._write(now_ms)

    def _write(self, now_ms: int) -> Commented:
        pick = self._random
        answers = pick.choice(self._comments) if self._comments and pick.random() < 0.3 else None
        markets = list(self._exchange.markets.values())
        parent = answers.parent_id if answers else int(pick.choice(markets).listing.event_id)
        author = pick.choice([*self._people.accounts.values(), *self._people.strangers])
        comment = Comment(self._id(), pick.choice(BODIES), author, parent, now_ms, answers)
        self._comments = [*self._comments[1 - REMEMBERED :], comment]
        return Commented("comment_created", comment, now_ms)

    def _react(self, now_ms: int) -> Commented:
        pick = self._random
        kind, icon = pick.choice(REACTIONS)
        comment = pick.choice(self._comments)
        reaction = Reaction(self._id(), comment, pick.choice(self._people.strangers), kind, icon, now_ms)
        self._reactions = [*self._reactions[1 - REMEMBERED :], reaction]
        return Commented("reaction_created", comment, now_ms, reaction)

    def _remove(self, now_ms: int) -> Commented:
        gone = self._comments.pop(self._random.randrange(len(self._comments)))
        self._reactions = [reaction for reaction in self._reactions if reaction.comment is not gone]
        return Commented("comment_removed", gone, now_ms)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id
