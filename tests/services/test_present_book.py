"""How one asset looks to a person: its ladder, and why it is, or is not, live."""

import msgspec
import pytest
from rich.console import Console, RenderableType

from polybus_protocol.control.replies import ExplainReply, Moment
from polybus_protocol.events import Book, Gap, Level
from polybus_services import present
from polybus_services.local_book import LocalBook
from polybus_services.present.book import BAR_CELLS, Sight, explanation, ladder, sight
from polybus_services.present.events import event_line

SEEN = Sight(
    asset="7" * 77,
    market="0x" + "ab" * 32,
    trusted=True,
    trust="live",
    why=None,
    proof="proved",
    epoch=1_700_000_000_000,
    seq=12,
    source_time=1_700_000_001_000,
    hash=None,
    tick_size="0.01",
    bids=[Level("0.33", "100"), Level("0.32", "50")],
    asks=[Level("0.35", "200"), Level("0.36", "0.5")],
)


def printed(what: RenderableType) -> str:
    """What a terminal shows, without colours."""
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_the_ladder_stands_as_the_market_does() -> None:
    """Asks from the worst down to the best, the spread, bids from the best down; bars as long as sizes are large."""
    text = printed(ladder(SEEN, now_ns=1_700_000_003_000_000_000))

    rows = [line.split() for line in text.splitlines()[-5:]]
    assert [row[0] for row in rows] == ["0.36", "0.35", "spread", "0.33", "0.32"]
    assert [row[1] for row in rows] == ["0.5", "200", "0.02", "100", "50"]
    bars = [len(row[2]) if len(row) > 2 else 0 for row in rows]
    assert bars == [0, BAR_CELLS, 0, BAR_CELLS // 2, BAR_CELLS // 4 + 1]
    assert "2.0 s ago" in text
    assert "proved" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"trusted": False, "trust": "waiting", "why": "NATS is away"},
            "not to be believed: waiting: NATS is away",
        ),
        ({"trusted": False, "trust": "suspect", "why": "it is silent"}, "suspect: it is silent"),
        ({"bids": [], "asks": []}, "spread  -"),
        ({"source_time": None}, "never"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], says: str) -> None:
    """In words, above the ladder; an empty book is drawn, too."""
    assert says in printed(ladder(msgspec.structs.replace(SEEN, **change)))


def test_a_book_is_cut_to_what_is_seen() -> None:
    """The best levels of both sides."""
    book = LocalBook("7")
    levels = [Level("0.33", "1"), Level("0.32", "2")]
    book.hear(Book("0xab", "7", levels, levels[::-1], None, epoch=3, seq=1))

    seen = sight(book, 1)
    assert (seen.trusted, seen.epoch, seen.seq) == (True, 3, 1)
    assert (seen.bids, seen.asks) == ([Level("0.33", "1")], [Level("0.32", "2")])


def test_an_explanation_begins_with_the_gist() -> None:
    """Then the sentences, then what happened, oldest first; `[` in a reason is no markup."""
    moments = [Moment(1, "a gap"), Moment(2, "a [book]")]
    reply = ExplainReply("gw0", "7", None, "live", ["It is live."], [], None, 1, 2, None, None, moments)
    lines = [line.strip() for line in printed(explanation(reply)).splitlines() if line.strip()]

    assert lines[:2] == ["asset 7 is live", "It is live."]
    assert lines[-2].endswith("a gap")
    assert lines[-1].endswith("a [book]")


def test_what_may_be_believed_is_counted_in_colours() -> None:
    """Of all assets; and a gap that closes does not look like one that opens."""
    counts = present.trust({"live": 1200, "frozen": 2})
    assert counts.plain == "1,200 live, 2 frozen"
    assert {str(span.style) for span in counts.spans} == {"green", "red"}
    assert present.trust({}).plain == "none"

    gap = Gap("market", "connection_lost", market="0xab", asset="7")
    styles = [
        {str(span.style) for span in event_line(msgspec.structs.replace(gap, closed_by=by)).spans}
        for by in (None, "snapshot")
    ]
    assert "bold red" in styles[0]
    assert "bold green" in styles[1]
    assert "bold red" not in styles[1]
