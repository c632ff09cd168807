"""Two sources of one asset, case by case; what holds for all orders is in `test_twin_properties`.

An event is written as a letter, a snapshot as `[abc]`: the book after a, b and c.
"""

import pytest

from polybus_protocol.errors import LocalProtocolError
from polybus_protocol.events import Book, Change, Level, MarketEvent, PriceChange
from polybus_protocol.twins.twin import NOTHING, Ruling, Twin, Verdict

A, B = 1, 2
DOUBT = "doubt"


class Talk:
    """A stream made of what two sources say, from the leader's `last` event on, in words."""

    def __init__(self, last: str | None = "0", memory: int = 8) -> None:
        self.twin = Twin(A, event(last) if last else None, memory=memory)

    def joins(self, snapshot: str | None = None) -> None:
        """B is asked for the asset, and answers with a snapshot if one is named."""
        self.twin.join(B)
        if snapshot:
            assert self.says(B, f"[{snapshot}]") == ""

    def says(self, source: int, *words: str) -> str:
        """What comes of some events; a snapshot in brackets is one word."""
        return "".join(written(self.twin.admit(source, event(word))) for word in words)

    def leaves(self, source: int) -> str:
        """What comes of it that a source is gone."""
        return written(self.twin.leave(source))

    def is_split(self) -> bool:
        """Whether they disagree for now."""
        return self.twin.is_split

    def is_over(self) -> bool:
        """Whether the machine has done its work."""
        return self.twin.is_over

    @property
    def counts(self) -> tuple[int, dict[int, int], int]:
        """Twins removed, what each source missed, doubts."""
        return self.twin.removed, self.twin.missed, self.twin.doubts


def event(word: str) -> MarketEvent:
    """The event a word stands for."""
    if word.startswith("["):
        return Book("0xa", "7", [Level("0.5", word)], [], f"hash of {word}", tick_size="0.01")
    return PriceChange("0xa", "7", [Change("0.5", word, "BUY", f"hash of {word}", None, None)])


def written(ruling: Ruling) -> str:
    """A ruling in words: what is published; a beginning with an arrow before it."""
    words = "".join(
        each.changes[0].size if isinstance(each, PriceChange) else each.bids[0].size
        for each in ruling.events
        if isinstance(each, PriceChange | Book)
    )
    assert (ruling.reason is None) == (ruling.verdict is Verdict.PUBLISH)
    match ruling.verdict:
        case Verdict.PUBLISH:
            return words
        case Verdict.BEGIN:
            return f"->{words}"
        case other:
            assert not words
            return str(other.value)


def together(memory: int = 8) -> Talk:
    """Both are aligned at `a`."""
    talk = Talk(memory=memory)
    talk.joins("0")
    assert (talk.says(A, "a"), talk.says(B, "a")) == ("a", "")
    assert talk.twin.is_ready(A)
    assert talk.twin.is_ready(B)
    return talk


# --- alignment ---------------------------------------------------------------------------------------


def test_a_newcomer_behind_is_aligned_by_what_the_leader_has_said() -> None:
    """What it tells again is a twin each time; then the first to speak is heard."""
    talk = Talk()
    assert talk.says(A, "a") == "a"
    talk.joins("0a")
    assert talk.says(A, "b", "c") == "bc"
    assert not talk.twin.is_ready(B)
    assert talk.says(B, "b") == ""
    assert talk.twin.is_ready(B)
    assert talk.says(B, "c", "d") == "d"
    assert talk.says(A, "d", "e") == "e"
    assert talk.counts == (3, {A: 0, B: 0}, 0)


def test_a_newcomer_far_behind_holds_older_events_than_we_remember() -> None:
    """They are twins as soon as it comes to the oldest that we do remember."""
    talk = Talk(last="c")
    talk.joins("a")
    assert talk.says(B, "b") == ""
    assert not talk.twin.is_ready(B)
    assert talk.says(B, "c", "d") == "d"
    assert talk.counts == (2, {A: 0, B: 0}, 0)


def test_a_newcomer_ahead_is_aligned_by_what_the_leader_comes_to_say() -> None:
    """Nothing of it goes out before the leader has come to where it began; then what it holds follows at once."""
    talk = Talk()
    talk.joins("0abc")
    assert talk.says(B, "d", "e", "f") == ""
    assert talk.says(A, "a", "b", "c") == "abc"
    assert not talk.twin.is_ready(B)
    assert talk.says(A, "d") == "def"
    assert talk.twin.is_ready(B)
    assert talk.says(A, "e", "f", "g") == "g"
    assert talk.counts == (3, {A: 0, B: 0}, 0)


def test_a_newcomer_to_a_leader_of_whom_nothing_is_remembered() -> None:
    """What it held before they meet was said before our time."""
    talk = Talk(last=None)
    talk.joins("a")
    assert talk.says(B, "b", "c", "d") == ""
    assert talk.says(A, "c") == "cd"
    assert talk.counts == (2, {A: 0, B: 0}, 0)


def test_a_newcomer_to_a_quiet_asset_is_aligned_by_its_book() -> None:
    """The caller compares; from then on the first to speak is heard, and the leader may leave."""
    talk = Talk()
    talk.joins("0")
    assert talk.twin.snapshot_of(B) == event("[0]")
    talk.twin.agree(B)
    assert talk.twin.is_ready(B)
    assert talk.says(B, "a") == "a"
    assert talk.says(A, "a", "b") == "b"
    assert talk.counts == (1, {A: 0, B: 0}, 0)


def test_a_book_that_happens_to_be_ours_says_nothing_where_events_were_told() -> None:
    """The newcomer may be behind, and the same book may have come again: its events tell."""
    talk = Talk()
    talk.joins("0")
    assert talk.says(A, "a", "b") == "ab"
    assert talk.twin.snapshot_of(B) is None
    talk.twin.agree(B)
    assert not talk.twin.is_ready(B)
    assert talk.says(B, "a", "b", "c") == "c"
    assert talk.counts == (2, {A: 0, B: 0}, 0)


def test_equal_books_say_nothing_once_the_leader_has_gone_on() -> None:
    """It is aligned by what they say, as if nobody had compared."""
    talk = Talk()
    talk.joins("0")
    talk.twin.agree(B)
    assert talk.says(A, "a") == "a"
    assert not talk.twin.is_ready(B)
    assert talk.leaves(A) == "->[0]"


@pytest.mark.parametrize("unfit", ["not here", "the leader", "holds", "awaits"])
def test_who_cannot_be_aligned_by_a_book(unfit: str) -> None:
    """Who has no snapshot, and who has said something since."""
    talk = Talk()
    talk.joins(None if unfit == "awaits" else "0")
    talk.says(B, *("a" if unfit == "holds" else ""))
    source = {"not here": 3, "the leader": A}.get(unfit, B)
    assert talk.twin.snapshot_of(source) is None
    talk.twin.agree(source)
    assert talk.twin.is_ready(source) == (source == A)


def test_a_newcomer_that_never_meets_the_stream_is_given_up() -> None:
    """When it holds as much as it may; the stream goes on, and what it says later is ignored."""
    talk = Talk(memory=3)
    talk.joins("0")
    assert talk.says(B, "w", "x", "y") == ""
    assert talk.says(B, "z") == "give up"
    assert talk.says(B, "a", "[0]") == ""
    assert talk.says(A, "a") == "a"
    assert talk.is_over()


def test_what_comes_before_the_answer_to_a_subscription_is_of_no_use() -> None:
    """It may be in the snapshot, or not."""
    talk = Talk()
    talk.joins()
    assert talk.says(B, "x", "[0a]", "b") == ""
    assert talk.says(A, "a", "b") == "ab"
    assert talk.counts == (1, {A: 0, B: 0}, 0)


def test_the_leader_misses_something_while_the_newcomer_is_being_aligned() -> None:
    """The two meet, but the newcomer holds what the stream lacks, whoever comes first to where they meet."""
    for first, second in [(A, B), (B, A)]:
        talk = Talk()
        talk.joins("0")
        assert talk.says(B, "a") == ""
        assert talk.says(first, "b") == ("b" if first == A else "")
        assert talk.says(second, "b") == DOUBT


# --- two that are aligned ----------------------------------------------------------------------------


def test_the_first_to_speak_is_heard() -> None:
    """By turns; every event goes out once."""
    talk = together()
    assert talk.says(A, "b", "c") == "bc"
    assert talk.says(B, "b", "c", "d", "e") == "de"
    assert talk.says(A, "d", "e", "f") == "f"
    assert talk.counts == (5, {A: 0, B: 0}, 0)


def test_the_same_content_twice_is_two_events() -> None:
    """Whoever is ahead: only what lies ahead of a source can be its twin."""
    talk = together()
    assert talk.says(A, "x", "y", "x") == "xyx"
    assert talk.says(B, "x", "y", "x", "x") == "x"
    assert talk.says(A, "x", "x") == "x"
    assert talk.counts == (5, {A: 0, B: 0}, 0)


def test_what_the_slower_source_misses_is_counted() -> None:
    """Nothing else comes of it."""
    talk = together()
    assert talk.says(A, "b", "c", "d") == "bcd"
    assert talk.says(B, "d", "e") == "e"
    assert talk.counts == (2, {A: 0, B: 2}, 0)


def test_what_one_source_misses_and_the_other_told_first_is_counted() -> None:
    """What comes after it is held until the other has said it too, which tells who missed what."""
    talk = together()
    assert talk.says(A, "b") == "b"
    assert talk.says(B, "c", "d") == ""
    assert talk.is_split()
    assert not talk.twin.is_ready(B)
    assert talk.says(A, "c") == "cd"
    assert not talk.is_split()
    assert talk.says(A, "d", "e") == "e"
    assert talk.counts == (3, {A: 0, B: 1}, 0)


def test_what_the_faster_source_misses_is_a_doubt() -> None:
    """The other one told it before an event that both told: it is missing in the stream."""
    talk = together()
    assert talk.says(A, "c") == "c"
    assert talk.says(B, "b") == ""
    assert talk.says(B, "c") == DOUBT
    assert talk.counts == (1, {A: 0, B: 0}, 1)


def test_what_the_faster_source_misses_and_goes_on() -> None:
    """The same when it is the first to tell what comes next."""
    talk = together()
    assert talk.says(A, "c") == "c"
    assert talk.says(B, "b", "d") == ""
    assert talk.says(A, "d") == DOUBT


def test_another_order_is_a_doubt() -> None:
    """Nobody can tell which one is right."""
    talk = together()
    assert talk.says(A, "c", "b") == "cb"
    assert talk.says(B, "b") == ""
    assert talk.says(B, "c") == DOUBT


@pytest.mark.parametrize(("source", "words"), [(B, "xyz"), (A, "def")])
def test_sources_that_do_not_meet_again_are_a_doubt(source: int, words: str) -> None:
    """As soon as one holds more than it may, or the stream has gone on for more than we remember."""
    talk = together(memory=3)
    assert talk.says(A, "c") == "c"
    assert talk.says(B, "w") == ""
    assert talk.says(source, *words[:-1]) == (words[:-1] if source == A else "")
    assert talk.says(source, words[-1]) == DOUBT


def test_a_source_that_stops_does_not_stop_the_other() -> None:
    """It is not aligned any more once it is further behind than we remember, and what it did not say is counted."""
    talk = together(memory=3)
    assert talk.says(A, *"bcd") == "bcd"
    assert talk.twin.is_ready(B)
    assert talk.says(A, "e") == "e"
    assert not talk.twin.is_ready(B)
    assert talk.says(A, "f") == "f"
    assert talk.says(B, "e", "f", "g") == "g"
    assert talk.counts == (3, {A: 0, B: 4}, 0)


# --- one goes ----------------------------------------------------------------------------------------


def test_the_old_one_leaves_the_new_one_goes_on() -> None:
    """What the newcomer has yet to tell again is removed, and then nothing is left to do."""
    talk = together()
    assert talk.says(A, "b", "c") == "bc"
    assert talk.leaves(A) == ""
    assert not talk.is_over()
    assert talk.says(A, "d") == ""
    assert talk.says(B, "b", "c") == ""
    assert talk.is_over()
    assert talk.says(B, "d") == "d"
    assert talk.is_over()


def test_the_old_one_leaves_after_the_books_were_equal() -> None:
    """The newcomer's first event goes out, unless the old one has said it."""
    talk = Talk()
    talk.joins("0")
    talk.twin.agree(B)
    assert talk.leaves(A) == ""
    assert not talk.is_over()
    assert talk.says(B, "a") == "a"
    assert talk.is_over()


def test_the_newcomer_leaves_before_it_was_of_use() -> None:
    """Nobody notices."""
    talk = Talk()
    talk.joins("0")
    assert talk.says(B, "a") == ""
    assert talk.leaves(B) == ""
    assert talk.is_over()
    assert talk.says(A, "a") == "a"


def test_the_leader_dies_before_the_newcomer_is_aligned() -> None:
    """A new epoch begins with the newcomer's snapshot and all it said since."""
    talk = Talk()
    talk.joins("0ab")
    assert talk.says(A, "a") == "a"
    assert talk.says(B, "c", "d") == ""
    assert talk.leaves(A) == "->[0ab]cd"
    assert talk.is_over()
    assert talk.says(B, "e") == "e"
    talk.twin.join(A)
    assert talk.says(A, "[0abc]", "d", "e", "f") == "f"


def test_the_leader_dies_before_the_newcomer_has_a_snapshot() -> None:
    """There is nothing to begin with; its snapshot, when it comes, is the beginning."""
    talk = Talk()
    talk.joins()
    assert talk.leaves(A) == DOUBT
    assert talk.says(B, "x", "[0a]", "b") == "->[0a]b"


def test_one_dies_while_they_are_split() -> None:
    """Who missed what will never be known."""
    talk = together()
    assert talk.says(A, "c") == "c"
    assert talk.says(B, "b") == ""
    assert talk.leaves(A) == DOUBT


def test_one_dies_and_the_other_turns_out_to_have_missed_something() -> None:
    """Or the dead one had: nobody can tell any more."""
    talk = together()
    assert talk.says(A, "b", "c") == "bc"
    assert talk.leaves(A) == ""
    assert talk.says(B, "b") == ""
    assert talk.says(B, "d") == DOUBT


def test_the_last_one_leaves() -> None:
    """Of the stream nothing is said here: its gap is the caller's."""
    talk = Talk()
    assert talk.leaves(A) == ""
    assert talk.leaves(A) == ""
    assert talk.is_over()


# --- beginnings --------------------------------------------------------------------------------------


def test_after_a_doubt_the_first_snapshot_begins() -> None:
    """Until then nothing goes out; the other source is aligned with it like a newcomer."""
    talk = together()
    talk.says(A, "c")
    assert talk.says(B, "b", "c") == DOUBT
    assert talk.says(A, "d") == ""
    assert talk.says(B, "d", "[0abcd]") == "->[0abcd]"
    assert talk.says(A, "e") == ""
    assert talk.says(B, "e") == "e"
    assert talk.says(A, "f") == "f"


def test_the_answer_to_the_second_question_is_kept() -> None:
    """If both were asked, the slower answer is a newcomer's."""
    talk = together()
    talk.twin.restart()
    assert talk.says(B, "[0a]", "b") == "->[0a]b"
    assert talk.says(A, "[0]", "a") == ""
    assert talk.says(A, "b", "c") == "c"


def test_an_aligned_source_that_is_asked_again_floats() -> None:
    """Its snapshot has no place in the order, so it has to meet the stream once more."""
    talk = together()
    assert talk.says(B, "[0ab]") == ""
    assert talk.says(B, "c") == ""
    assert talk.says(A, "b", "c") == "bc"
    assert talk.twin.is_ready(B)


def test_a_snapshot_of_the_only_one_that_stands_begins() -> None:
    """Also while the other one is being aligned, or holds what cannot be settled any more."""
    talk = Talk()
    talk.joins("0")
    assert talk.says(A, "[0a]", "b") == "->[0a]b"
    talk = together()
    assert talk.says(A, "c") == "c"
    assert talk.says(B, "b") == ""
    assert talk.says(A, "[0abcd]") == "->[0abcd]"
    assert talk.says(B, "c", "d", "e") == ""
    assert talk.says(A, "e") == "e"
    assert talk.twin.is_ready(B)


def test_two_from_the_start() -> None:
    """The first book of either begins the stream, also one that answers no subscription."""
    twin = Twin()
    twin.join(A)
    twin.join(B)
    assert not twin.is_over
    book = Book("0xa", "7", [], [], "h")
    assert twin.admit(A, event("a")) is NOTHING
    assert twin.admit(B, book).verdict is Verdict.BEGIN
    assert written(twin.admit(B, event("b"))) == "b"
    assert written(twin.admit(A, event("[ab]"))) == ""


def test_two_make_a_pair() -> None:
    """Neither a third one nor the same one twice."""
    talk = Talk()
    with pytest.raises(LocalProtocolError, match="two sources"):
        talk.twin.join(A)
    talk.joins()
    with pytest.raises(LocalProtocolError, match="two sources"):
        talk.twin.join(3)
