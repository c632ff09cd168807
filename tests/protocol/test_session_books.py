"""A session and its books: what is looked at, what is doubted, what is asked for again, and what REST may say."""

from typing import Any

import msgspec

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.book_hash import book_hash
from polybus_protocol.books.inspection import LONGEST_TURN
from polybus_protocol.books.liveness import Trust
from polybus_protocol.conversation.signals import Doubtful
from polybus_protocol.conversation.states import State
from polybus_protocol.conversation.watch import LOOKS
from polybus_protocol.events import AnyEvent, Book, Gap, type_of

from .conversation import M1, M2, N1, START, Conversation, M, book, live, opened, price_change, trade, written


def outline(events: list[AnyEvent]) -> list[str]:
    """The kinds of events, gaps with their reasons."""
    return [f"gap: {event.reason}" if isinstance(event, Gap) else type_of(event) for event in events]


def stream(talk: Conversation, asset: str) -> AssetStream:
    """The stream of an asset."""
    found = talk.streams[asset]
    assert isinstance(found, AssetStream)
    return found


def trust(talk: Conversation, asset: str) -> Trust:
    """What may be believed of an asset."""
    return stream(talk, asset).trust


def crossing(at: int) -> dict[str, Any]:
    """A change after which the first asset's book is crossed."""
    entry = {"asset_id": M1, "price": "0.3", "size": "1", "side": "SELL", "hash": f"{at:040x}"}
    stamp = str(START * 1000 + at)
    return {"market": M, "price_changes": [entry], "timestamp": stamp, "event_type": "price_change"}


def test_an_epoch_is_live_with_its_first_book() -> None:
    """What comes before is passed on, in the same epoch, and touches no book; the gap is closed right before it."""
    talk = live(M1)
    talk.ends()
    talk.reconnects()
    talk.wants(M1)
    early = talk.hears(price_change(M1)) + talk.hears(trade(M1))
    assert outline(early) == ["price_change", "last_trade_price"]
    assert [event.seq for event in early] == [2, 3]
    assert (trust(talk, M1), talk.closings) == (Trust.WAITING, [])
    assert stream(talk, M1).book.bids() == []

    (snapshot,) = talk.hears(book(M1))
    (closing,) = talk.closings
    assert isinstance(closing, Gap)
    assert (closing.reason, closing.closed_by, closing.seq, snapshot.seq) == (
        "connection_lost",
        "snapshot",
        4,
        5,
    )
    assert trust(talk, M1) is Trust.LIVE
    assert len(stream(talk, M1).book.bids()) == 1


def test_what_came_before_the_first_book_is_lost_trust_all_the_same() -> None:
    """A break after events that were published opens a gap, though no book was there yet."""
    talk = opened(M1)
    talk.hears(trade(M1))
    assert outline(talk.ends()) == ["gap: connection_lost"]


def test_a_crossed_book_is_looked_at_twice() -> None:
    """Once is suspect, and normal between the messages of a trade; a second later it is asked for again."""
    talk = live(M1)
    talk.hears(crossing(2))
    assert trust(talk, M1) is Trust.LIVE, "the hot path looks at nothing but the best prices"
    assert talk.waits(1.0) == []
    assert trust(talk, M1) is Trust.SUSPECT
    talk.says()
    gaps = talk.waits(1.1)
    assert outline(gaps) == ["gap: book_mismatch"]
    assert isinstance(gaps[0], Gap)
    assert gaps[0].detail == "the book is crossed"
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    assert talk.checks["crossed"] == 2


def test_a_book_that_uncrosses_in_time_is_live_again() -> None:
    """Nobody was told of a gap."""
    talk = live(M1)
    talk.hears(crossing(2))
    talk.waits(1.0)
    assert trust(talk, M1) is Trust.SUSPECT
    talk.hears(book(M1, at=3))
    assert "gap: book_mismatch" not in outline(talk.waits(3))
    assert trust(talk, M1) is Trust.LIVE


def test_the_best_prices_of_the_venue_against_ours() -> None:
    """They are compared with each change, and a miss is suspect at the next look."""
    talk = live(M1)
    wrong = price_change(M1, at=2)
    wrong["price_changes"][0] |= {"best_bid": "0.45"}
    talk.hears(wrong)
    talk.waits(1.0)
    assert trust(talk, M1) is Trust.SUSPECT
    right = price_change(M1, at=3)
    right["price_changes"][0] |= {"best_bid": "0.4"}
    talk.hears(right)
    talk.waits(1.0)
    assert trust(talk, M1) is Trust.LIVE


def test_two_outcomes_that_do_not_mirror_each_other() -> None:
    """Held together only where the same frame has changed both."""
    talk = live(M1, M2)
    talk.hears(price_change(M1, at=2))
    talk.waits(1.5)
    assert (trust(talk, M1), trust(talk, M2)) == (Trust.LIVE, Trust.LIVE)
    broken = price_change(M1, M2, at=3)
    broken["price_changes"][1] |= {"price": "0.7"}
    talk.hears(broken)
    talk.waits(1.0)
    assert talk.checks["complement_mismatch"] >= 1
    assert Trust.SUSPECT in (trust(talk, M1), trust(talk, M2))


def test_a_level_nobody_can_read_is_a_gap_for_its_asset() -> None:
    """The event is passed on, and a fresh book is asked for."""
    talk = live(M1, N1)
    talk.says()
    talk.waits(2)
    talk.says()
    bad = price_change(M1, at=2)
    bad["price_changes"][0] |= {"price": "x"}
    assert outline(talk.hears(bad)) == ["price_change", "gap: undecodable_frame"]
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]


def test_a_storm_of_mismatches_is_no_storm_of_requests() -> None:
    """However many books fail at once, they are asked for a few at a time."""
    assets = [f"{number:030d}" for number in range(100)]
    talk = Conversation()
    talk.wants(*assets)
    talk.says()
    crossed = [
        {**book(M1), "asset_id": asset, "market": f"0x{asset}", "asks": [{"price": "0.3", "size": "1"}]}
        for asset in assets
    ]
    talk.hears(crossed)
    asked = []
    for _ in range(40):
        talk.waits(0.25)
        asked.append(sum(len(ids) for operation, ids in talk.asks() if operation == "subscribe"))
    assert max(asked) <= 10
    assert sum(asked) >= 100


def test_silence_is_looked_at_by_somebody_else() -> None:
    """An asset that usually speaks and stops is doubtful; the same book over REST makes it quiet, a word live."""
    talk = live(M1, N1)
    for second in range(10):
        talk.hears(price_change(M1, at=10 + second))
        talk.waits(1, hearing=written(trade(N1)))
    talk.tells()
    talk.waits(20, hearing=written(trade(N1)))
    assert [signal.keys for signal in talk.tells() if isinstance(signal, Doubtful)] == [(M1,)]
    assert trust(talk, M1) is Trust.SUSPECT

    assert talk.witnesses(M1, at=20_000, bids=[{"price": "0.40", "size": "7.0"}]) == []
    assert trust(talk, M1) is Trust.QUIET
    talk.hears(price_change(M1, at=30_000))
    talk.waits(1.5)
    assert trust(talk, M1) is Trust.LIVE
    assert talk.checks["witness_same"] == 1


def test_rest_that_is_behind_means_nothing() -> None:
    """It has been stale for hours: what is older than our book neither confirms nor refutes."""
    talk = live(M1, N1)
    talk.hears(price_change(M1, at=1000))
    talk.waits(35, hearing=written(trade(N1)))
    assert trust(talk, M1) is Trust.SUSPECT
    assert talk.witnesses(M1, at=500, bids=[{"price": "0.01", "size": "1"}]) == []
    assert (trust(talk, M1), talk.checks["witness_stale"]) == (Trust.SUSPECT, 1)


def test_a_book_that_moved_on_without_us_is_frozen() -> None:
    """Twice a later book, and not a word from the stream between: a gap; it is asked for again, and REST stands in."""
    talk = live(M1, N1)
    talk.waits(35, hearing=written(trade(N1)))
    talk.says()
    later = {"bids": [{"price": "0.5", "size": "1"}]}
    assert talk.witnesses(M1, at=9_000, **later) == []
    talk.tells()
    talk.waits(4, hearing=written(trade(N1)))
    assert Doubtful((M1,)) in talk.tells()
    gap, stand_in = talk.witnesses(M1, at=9_000, **later)
    assert isinstance(gap, Gap)
    assert gap.reason == "frozen"
    assert isinstance(stand_in, Book)
    assert (stand_in.origin, trust(talk, M1)) == ("witness", Trust.SUSPECT)
    assert ("subscribe", [M1]) in talk.asks()
    assert (talk.checks["resubscribed"], talk.checks["resubscribed_helped"]) == (1, 0)
    talk.hears(book(M1, at=9_001))
    talk.waits(1.5)
    assert (trust(talk, M1), talk.checks["resubscribed_helped"]) == (Trust.LIVE, 1)


def test_a_missing_snapshot_can_come_from_rest() -> None:
    """Marked as what it is, suspect until the stream speaks; older changes do not undo it."""
    talk = opened(M1, N1)
    talk.hears(book(N1))
    (event,) = talk.witnesses(M1, at=50)
    assert isinstance(event, Book)
    assert (event.origin, event.seq) == ("witness", 1)
    assert trust(talk, M1) is Trust.SUSPECT
    talk.hears(price_change(M1, at=49))
    assert stream(talk, M1).book.bids()[0].size == "10"
    talk.hears(price_change(M1, at=51))
    assert stream(talk, M1).book.bids()[0].size == "7"
    talk.waits(2.5)
    assert trust(talk, M1) is Trust.LIVE


def test_a_silence_that_is_confirmed_is_no_stall() -> None:
    """A socket of idle assets is kept as long as REST shows the same books; else it is given up after a minute."""
    kept, given_up = live(M1), live(M1)
    pong = b"PONG"
    for _ in range(120):
        kept.waits(5, hearing=pong)
        for signal in kept.tells():
            if isinstance(signal, Doubtful):
                kept.witnesses(M1, at=1)
    assert kept.session.state is State.OPEN
    assert outline(given_up.waits(62, hearing=pong)) == ["gap: connection_lost"]
    assert given_up.session.state is State.CLOSED


def test_the_last_book_is_told_when_it_has_changed() -> None:
    """With the place in the stream up to which it holds everything; and that there is none, after a gap."""
    talk = live(M1)
    carrier = talk.streams[M1]
    first = stream(talk, M1).last_book(carrier)
    assert first is not None
    assert first.subject == f"polymarket.v1.books.{M}.{M1}.last_book"
    told = msgspec.json.decode(first.payload)
    assert (told["trust"], told["seq"], told["bids"]) == ("live", 1, [{"price": "0.4", "size": "10"}])
    assert stream(talk, M1).last_book(carrier) is None
    talk.hears(price_change(M1, at=2))
    changed = stream(talk, M1).last_book(carrier)
    assert changed is not None
    assert msgspec.json.decode(changed.payload)["seq"] == 2
    talk.ends()
    gone = stream(talk, M1).last_book(carrier)
    assert gone is not None
    told = msgspec.json.decode(gone.payload)
    assert (told["trust"], told["bids"], told["seq"]) == ("waiting", [], 1)


def test_the_history_tells_what_happened() -> None:
    """In sentences, the oldest first."""
    talk = live(M1)
    talk.ends("the venue hung up")
    talk.reconnects()
    talk.wants(M1)
    talk.hears(book(M1))
    told = [moment.what for moment in stream(talk, M1).history]
    assert [("live by a snapshot" in what, "the venue hung up" in what) for what in told] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def proved_hash(asset: str, at: int, size: str) -> str:
    """What the venue says of a book with one bid."""
    return book_hash(
        f"0x{asset}",
        asset,
        str(START * 1000 + at),
        [("0.4", size)],
        [],
        min_order_size="5",
        tick_size="0.01",
        neg_risk=False,
        last_trade_price="",
    )


def test_every_book_is_proved_in_its_turn() -> None:
    """A few at a look, so that it costs little, and each within a stated time: so a lost frame shows by then."""
    assets = [f"{number:030d}" for number in range(100)]
    talk = Conversation(data_timeout_s=600, silence_timeout_s=600)
    talk.wants(*assets)
    talk.hears(
        [
            {
                "event_type": "book",
                "market": f"0x{asset}",
                "asset_id": asset,
                "timestamp": str(START * 1000),
                "hash": proved_hash(asset, 0, "10"),
                "bids": [{"price": "0.4", "size": "10"}],
                "asks": [],
                "tick_size": "0.01",
                "last_trade_price": "",
            }
            for asset in assets
        ]
    )
    talk.waits(LONGEST_TURN + 1)
    assert talk.checks["hash_proved"] == len(assets)

    *heard, missed = assets
    changes = []
    for asset in assets:
        # The missed one's hash is that of a book in which there is another size.
        entry = {"asset_id": asset, "price": "0.4", "size": "7", "side": "BUY"}
        entry |= {"hash": proved_hash(asset, 1, "8" if asset is missed else "7"), "best_bid": "0.4"}
        changes.append(price_change(M1, at=1) | {"market": f"0x{asset}", "price_changes": [entry]})
    talk.hears(changes)
    at_once = []
    for _ in range(LONGEST_TURN * LOOKS):
        before = talk.checks["hash_proved"]
        talk.waits(1 / LOOKS)
        at_once.append(talk.checks["hash_proved"] - before)
    assert max(at_once) <= 2
    assert talk.checks["hash_proved"] == len(assets) + len(heard)
    talk.waits(1)
    assert all(trust(talk, asset) is Trust.LIVE for asset in heard)
    assert [gap.reason for gap in talk.everything if isinstance(gap, Gap)] == ["book_mismatch"]
    assert not stream(talk, missed).live
