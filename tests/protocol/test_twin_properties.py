"""What holds for two sources of one asset, in whatever order their events come.

The venue tells one true sequence of events of a small book.  Each source tells what follows its snapshot, at its
own pace; the snapshot may be older or newer than where the leader is.  Each copy carries its place in the truth
as `received_time`, at which the machine does not look.
"""

import pickle
from collections.abc import Collection

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from polybus_protocol.events import (
    BestBidAsk,
    Book,
    Change,
    LastTradePrice,
    Level,
    MarketEvent,
    PriceChange,
)
from polybus_protocol.twins.identity import identity_of
from polybus_protocol.twins.twin import Twin, Verdict

A, B = 1, 2
IDS = ("0xa", "7")
PRICES, SIZES = ("0.4", "0.5", "0.6"), ("0", "1", "2")
Levels = dict[str, str]

WORDS = st.lists(
    st.one_of(
        *[st.tuples(st.just("level"), st.sampled_from(PRICES), st.sampled_from(SIZES))] * 4,
        st.tuples(st.sampled_from(["book", "trade", "top"]), st.sampled_from(PRICES), st.just("1")),
    ),
    min_size=4,
    max_size=24,
)
STEPS = st.lists(
    st.sampled_from([("tell", A), ("tell", A), ("tell", B), ("tell", B), ("compare", B)]), max_size=60
)


class Truth:
    """What the venue tells, from the first event on.

    Args:
        words: what happens.
        per_ms: how many events share a millisecond: more than one, and events can be alike to the letter.
    """

    def __init__(self, words: list[tuple[str, str, str]], per_ms: int) -> None:
        self.books: list[Levels] = [{}]
        """The book before each event, and after the last one."""
        self._per_ms = per_ms
        self._words = words
        for kind, price, size in words:
            book = dict(self.books[-1])
            if kind == "level":
                book[price] = size
            self.books.append({each: book[each] for each in PRICES if book.get(each, "0") != "0"})

    def __len__(self) -> int:
        return len(self._words)

    def event(self, place: int) -> MarketEvent:
        """A fresh copy of the event at a place."""
        kind, price, size = self._words[place]
        time, book = place // self._per_ms, self.books[place + 1]
        hash_ = f"{time} {book}"
        match kind:
            case "level":
                change = Change(price, size, "BUY", hash_, None, None)
                return PriceChange(*IDS, [change], source_time=time, received_time=place)
            case "book":
                return Book(*IDS, levels(book), [], hash_, source_time=time, received_time=place)
            case "trade":
                return LastTradePrice(*IDS, price, size, "BUY", source_time=time, received_time=place)
            case _:
                return BestBidAsk(*IDS, max(book, default=None), None, source_time=time, received_time=place)

    def snapshot(self, place: int) -> Book:
        """The answer to a subscription, before the event at a place is told."""
        return Book(*IDS, levels(self.books[place]), [], None, tick_size="0.01", received_time=place - 1)


def levels(book: Levels) -> list[Level]:
    """A book as a snapshot has it."""
    return [Level(*each) for each in book.items()]


class Scene:
    """A gateway with one asset, and two sources of it.

    Args:
        truth: what there is to tell.
        start: where the leader is when the newcomer is asked.
        lag: how much earlier the newcomer's snapshot is than that; negative if later.
        lost: the places that each source leaves out, until the first doubt.
        memory: of the machine.
    """

    def __init__(
        self, truth: Truth, start: int, lag: int, *, lost: dict[int, Collection[int]], memory: int = 64
    ) -> None:
        self.truth = truth
        self.lost = lost
        self.next = {A: start, B: min(max(start - lag, 0), len(truth))}
        """The place that each source tells next."""
        self.start = start
        self.said: list[str] = []
        self.epochs: list[list[int]] = [list(range(start))]
        """The places that were published, by epoch; each but the first begins with that before its snapshot."""
        self.doubted: set[int] = set()
        """The epochs that a doubt has ended."""
        self.book: Levels = dict(truth.books[start])
        self.told = {A: set(range(start)), B: set[int]()}
        self.asking = {B}
        self.twin = Twin(A, truth.event(start - 1), memory=memory)
        self.twin.join(B)

    def __repr__(self) -> str:
        return "\n".join([f"from {self.start}, losing {self.lost}", *self.said, f"epochs {self.epochs}"])

    def plays(self, what: str, source: int) -> None:
        """One step; what cannot be done is left out."""
        if what == "die":
            self.dies(source)
        elif what == "compare":
            snapshot = self.twin.snapshot_of(source)
            # That the leader has said what it had to say is the caller's to see to: `agree` tells how.
            is_quiet = not self.doubted and self.start <= self.next.get(source, -1) <= self.next.get(A, -1)
            if snapshot is not None and is_quiet and snapshot.bids == levels(self.book):
                self.twin.agree(source)
        elif source in self.asking:
            self.asking.remove(source)
            self.admits(source, self.truth.snapshot(self.next[source]))
        elif source in self.next and self.next[source] < len(self.truth):
            place = self.next[source]
            self.next[source] += 1
            if place not in self.lost[source]:
                self.told[source].add(place)
                self.admits(source, self.truth.event(place))

    def admits(self, source: int, told: MarketEvent) -> None:
        """The machine takes an event in."""
        ruling = self.twin.admit(source, told)
        self.said.append(
            f"{source}: {told.received_time} {identity_of(told)} -> {ruling.verdict.value} {[e.received_time for e in ruling.events]}"
        )
        self.obeys(ruling.verdict, list(ruling.events))
        if ruling.verdict is Verdict.GIVE_UP:
            del self.next[source]

    def dies(self, source: int) -> None:
        """A source is gone."""
        if not self.twin.is_ready(source):
            self.told[source].clear()
        self.next.pop(source, None)
        self.asking.discard(source)
        ruling = self.twin.leave(source)
        self.obeys(ruling.verdict, list(ruling.events))

    def obeys(self, verdict: Verdict, events: list[MarketEvent]) -> None:
        """Do what a caller does."""
        event(verdict.value)
        if verdict in (Verdict.DOUBT, Verdict.GIVE_UP):
            assert not events
        if verdict is Verdict.DOUBT:
            self.doubted.add(len(self.epochs) - 1)
            self.lost = {A: (), B: ()}
            self.asking = set(self.next)
        if verdict is Verdict.BEGIN:
            assert isinstance(events[0], Book)
            self.epochs.append([])
        for each in events:
            self.epochs[-1].append(each.received_time)
            self.apply(each)

    def apply(self, each: MarketEvent) -> None:
        """What a consumer does to its book."""
        if isinstance(each, Book):
            self.book = {level.price: level.size for level in each.bids}
        elif isinstance(each, PriceChange):
            for change in each.changes:
                self.book[change.price] = change.size
            self.book = {p: self.book[p] for p in PRICES if self.book.get(p, "0") != "0"}

    def ends(self) -> None:
        """Everybody tells all that is left, by turns."""
        while self.asking or any(place < len(self.truth) for place in self.next.values()):
            for source in list(self.next):
                self.plays("tell", source)
            if self.is_told and self.twin.is_split:
                self.twin.restart()
                self.obeys(Verdict.DOUBT, [])

    @property
    def is_told(self) -> bool:
        """Whether nobody has anything left to tell."""
        return not self.asking and all(place == len(self.truth) for place in self.next.values())

    # --- the invariants ----------------------------------------------------------------------------

    def no_event_twice_and_order_kept(self) -> None:
        """Within an epoch the content is that of the truth, in its order; copies alike to the letter are one."""
        truth = [identity_of(self.truth.event(place)) for place in range(len(self.truth))]
        for number, epoch in enumerate(self.epochs):
            rest = iter(truth[min(epoch, default=0) + bool(number) :])
            for place in epoch[bool(number) :]:
                assert truth[place] in rest

    def every_loss_is_doubted(self) -> None:
        """What a source told is missing in no epoch but one that a doubt has ended, and not in the book.

        What an epoch lacks that began with the survivor's snapshot, nobody but the survivor could have told.
        """
        published = set[int]()
        for number, epoch in enumerate(self.epochs):
            holes = set(range(epoch[0], epoch[-1])) - set(epoch) - published if epoch else set()
            published |= set(epoch)
            if number < len(self.epochs) - 1 or number in self.doubted:
                continue
            # Of what a newcomer holds that has not met the stream nobody can say yet where it belongs.
            if all(self.twin.is_ready(source) for source in self.next):
                assert not holes & (self.told[A] | self.told[B]), holes
        self.ends_with_the_truth()

    def ends_with_the_truth(self) -> None:
        """Where nothing is left out any more, the stream comes to the end, with the right book."""
        if self.next and not any(self.lost.values()):
            assert self.epochs[-1][-1] == len(self.truth) - 1
            assert self.book == self.truth.books[-1]

    def every_miss_is_counted(self) -> None:
        """What was published and a source left out, from where it was aligned to what it told last."""
        published = self.epochs[-1]
        for source in (A, B):
            told = sorted(place for place in self.told[source] if place >= self.start - 1)
            missed = [
                place for place in published if told and told[0] < place < told[-1] and place not in told
            ]
            assert self.twin.missed[source] == len(missed)


@st.composite
def scenes(
    draw: st.DrawFn,
    *,
    per_ms: int = 1,
    oldest: int = 4,
    loses: bool = False,
    memory: int = 64,
    dies: bool = False,
) -> Scene:
    """A scene played to its end.

    Args:
        draw: see Hypothesis.
        per_ms: see `Truth`.
        oldest: how many events the newcomer's snapshot may be older than the stream when it is asked for.
        loses: whether sources leave something out.
        memory: see `Twin`.
        dies: whether a source goes away at any moment.
    """
    truth = Truth(draw(WORDS), per_ms)
    some = st.sets(st.integers(0, len(truth) - 1), max_size=4) if loses else st.just(set[int]())
    start = draw(st.integers(1, len(truth)))
    scene = Scene(
        truth, start, draw(st.integers(-4, oldest)), lost={A: draw(some), B: draw(some)}, memory=memory
    )
    steps: list[tuple[str, int]] = draw(STEPS)
    if dies:
        steps.insert(draw(st.integers(0, len(steps))), ("die", draw(st.sampled_from([A, B]))))
    for step in steps:
        scene.plays(*step)
    scene.ends()
    return scene


@given(scenes() | scenes(memory=3))
def test_two_complete_sources_make_one_complete_stream(scene: Scene) -> None:
    """No event twice, order kept, nothing lost, however far apart they are."""
    scene.no_event_twice_and_order_kept()
    assert scene.epochs == [list(range(len(scene.truth)))]
    assert scene.book == scene.truth.books[-1]
    assert scene.twin.doubts == 0


@given(scenes())
def test_what_both_tell_is_removed_once_and_missed_by_nobody(scene: Scene) -> None:
    """Each event that the newcomer tells from its snapshot on is told by the leader too, now or before."""
    assert scene.twin.missed == {A: 0, B: 0}
    assert scene.twin.removed == len(scene.told[B])


@given(scenes(dies=True))
def test_a_death_costs_an_epoch_at_most(scene: Scene) -> None:
    """Where the survivor is aligned the stream goes on; else its own snapshot begins a new one.  No hole in any."""
    scene.no_event_twice_and_order_kept()
    for epoch in scene.epochs:
        assert epoch == list(range(epoch[0], epoch[-1] + 1))
    scene.every_loss_is_doubted()
    assert len(scene.epochs) <= 2
    assert scene.twin.is_over or scene.twin.is_ready(next(iter(scene.next)))


@given(scenes(per_ms=6, oldest=0))
def test_events_alike_to_the_letter_are_told_apart_by_their_order(scene: Scene) -> None:
    """A newcomer may be aligned at the wrong one of them; what comes of it is right, or it is found out."""
    del scene.epochs[1:]
    scene.no_event_twice_and_order_kept()
    if not scene.doubted:
        assert len(scene.epochs[0]) == len(scene.truth)
        scene.ends_with_the_truth()


@given(scenes(loses=True) | scenes(loses=True, dies=True) | scenes(dies=True))
def test_every_loss_is_a_doubt(scene: Scene) -> None:
    """What one source leaves out the other brings, or trust ends; what neither told nobody can know."""
    scene.no_event_twice_and_order_kept()
    scene.every_loss_is_doubted()


@given(scenes(loses=True))
def test_every_miss_is_counted(scene: Scene) -> None:
    """To the event, as long as nothing was doubted."""
    if not scene.doubted:
        scene.every_miss_is_counted()


@given(scenes(loses=True, dies=True, memory=3))
def test_a_short_memory_keeps_the_order(scene: Scene) -> None:
    """Sources that are further apart than is remembered are aligned again, doubted or given up."""
    scene.no_event_twice_and_order_kept()


@pytest.mark.parametrize("speakers", [(A,), (B,), (A, B), (A, A, A, B)])
@pytest.mark.parametrize("same", [True, False])
def test_memory_is_bounded(speakers: tuple[int, ...], *, same: bool) -> None:
    """However much is told, by one or both, and whether or not they agree: what is kept does not grow."""
    twin, sizes = Twin(A, memory=10), list[int]()
    twin.join(B)
    twin.admit(B, Book(*IDS, [], [], "h"))
    told = {A: 0, B: 0}
    for turn in range(600):
        source = speakers[turn % len(speakers)]
        told[source] += 1
        number = f"{10_000 + told[source]}{'' if same else source}"
        twin.admit(source, BestBidAsk(*IDS, number, None))
        sizes.append(len(pickle.dumps(twin)))
    assert max(sizes[200:]) <= max(sizes[:200]) + 100
