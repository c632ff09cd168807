"""Looking at the books of one connection, beside the hot path: do they agree with what the venue says of them?

The hot path only keeps the books and compares the best prices.  Every check that costs more is made here, on
books that have changed: the hash, the mirror image of the market's other outcome, a book that stays crossed.  A book
proved by its hash is right, whatever else speaks against it.

Books against which something speaks already are checked at each look.  The others take turns, so that checking
costs no more than a share of what the frames cost: whoever waits longest comes first, and nobody waits for
longer than `LONGEST_TURN` looks at him.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from operator import itemgetter

import msgspec

from ..conversation.directory import MarketDirectory
from ..events import Book
from ..stream import Stream
from .asset_stream import AssetStream
from .liveness import Rung
from .proof import Verdict

RESYNCS_PER_LOOK = 5
"""Books asked for again at most after one look at a connection: should all of them fail at once, the reason is
hardly theirs, and a storm of requests would help nobody."""


CHECKS_PER_FRAME = 0.25
"""Books checked for each frame that has come: a check takes about as long as a frame does."""

LEAST_CHECKS = 1
"""Books that a look may check however few frames have come: what that costs shows nowhere."""

MOST_CHECKS = 6
"""Books checked in one look at most, or every event would wait: a quarter of a millisecond.  At eight looks a second all 200
assets of a connection have their turn in four seconds."""

LONGEST_TURN = 30
"""Looks at an asset after which a change of its book is checked whatever it costs: at the default pace, half a minute."""


class Findings(msgspec.Struct):
    """What a look has found."""

    resync: list[tuple[str, str, str]]
    """Assets to ask for again, each with the reason, a key of `GAP_REASONS`, and a sentence for people."""
    doubtful: list[str]
    """Assets to have a second look at."""


class Inspector:
    """Looks at the assets of one connection.

    Args:
        directory: knows which assets are of one market.
        checks: counts what was found.
    """

    def __init__(self, directory: MarketDirectory, checks: Counter[str]) -> None:
        self._directory = directory
        self._checks = checks
        self.confirmations = 0
        """Second looks in a row that found our book."""
        self._frames = 0

    def look(
        self, keys: Iterable[str], streams: Mapping[str, Stream], frames: int, now: float, time: int
    ) -> Findings:
        """Look at some assets.

        Args:
            keys: of the assets.
            streams: all of the connection's.
            frames: that have come on the connection since it opened.
            now: the session's clock, in seconds.
            time: nanoseconds since the epoch.
        """
        findings = Findings([], [])
        waiting: list[tuple[int, str, AssetStream]] = []
        for key in keys:
            stream = streams.get(key)
            if not isinstance(stream, AssetStream) or not stream.live:
                continue
            liveness, book = stream.liveness, stream.book
            place = stream.epoch, stream.seq
            if place != stream.inspected_seq:
                stream.inspected_seq = place
                liveness.heard(now)
                self.confirmations = 0
            elif now >= liveness.odd_at:
                self._look_at_silence(key, stream, findings, now, time)
            if not book.is_live or not (book.is_unchecked or liveness.is_failing):
                continue
            if liveness.is_failing or book.top_misses or book.is_crossed:
                self._look_at_book(key, stream, streams, findings, now, time)
            else:
                stream.unchecked_looks += 1
                waiting.append((stream.unchecked_looks, key, stream))
        most = min(max(LEAST_CHECKS, int((frames - self._frames) * CHECKS_PER_FRAME)), MOST_CHECKS)
        self._frames = frames
        if len(waiting) > most:
            waiting.sort(key=itemgetter(0), reverse=True)
        for place_in_turn, (looks, key, stream) in enumerate(waiting):
            if place_in_turn < most or looks >= LONGEST_TURN:
                self._look_at_book(key, stream, streams, findings, now, time)
        return findings

    def second_look(self, stream: AssetStream, book: Book, now: float, time: int) -> bool:
        """Compare a live stream's book with what REST says.

        REST has been stale (py-clob-client issue 180), so an older book of it means nothing, nor does one whose
        own hash is wrong; and a newer one may only be ahead of what is on its way to us.

        Returns:
            Whether the stream is frozen.
        """
        stream.facts.learn(msgspec.structs.replace(book, last_trade_price=None, tick_size=None))
        ours, theirs = stream.book, book.source_time
        if ours.equals(book):
            self._checks["witness_same"] += 1
            self.confirmations += 1
            stream.liveness.confirmed()
            return False
        if theirs is None or (ours.source_time is not None and theirs <= ours.source_time):
            self._checks["witness_stale"] += 1
            return False
        self._checks["witness_differs"] += 1
        self.confirmations = 0
        stream.remember(f"REST has a later book, of {theirs}", time)
        return stream.liveness.refuted(now)

    def _look_at_book(
        self,
        key: str,
        stream: AssetStream,
        streams: Mapping[str, Stream],
        findings: Findings,
        now: float,
        time: int,
    ) -> None:
        book, liveness = stream.book, stream.liveness
        book.is_unchecked, stream.unchecked_looks = False, 0
        verdict = stream.prove()
        self._checks[f"hash_{verdict.value}"] += 1
        if verdict is Verdict.PROVED:
            # That a snapshot by itself is right says nothing of whether asking for one has helped.
            (liveness.proved if book.has_changed else liveness.passed)()
            return
        why = self._what_is_wrong(stream, streams, verdict)
        if why is None:
            liveness.passed()
            return
        if not liveness.is_failing:
            stream.remember(why, time)
        # However many there are, each is told: none may pass for live because others came before it.
        if liveness.failed(why, now) and len(findings.resync) < RESYNCS_PER_LOOK:
            liveness.retried(now)
            liveness.climb_to(Rung.RESUBSCRIBED)
            findings.resync.append((key, "book_mismatch", why))

    def _what_is_wrong(
        self, stream: AssetStream, streams: Mapping[str, Stream], verdict: Verdict
    ) -> str | None:
        book, checks = stream.book, self._checks
        if book.top_misses:
            checks["top_mismatch"] += 1
            return f"our best prices were not the venue's, {book.top_misses} times in a row"
        if verdict is Verdict.MISMATCH:
            return "the book's hash is not the venue's"
        if book.is_crossed:
            checks["crossed"] += 1
            return "the book is crossed"
        for asset in self._directory.assets_of(stream.ids[0] or ""):
            other = streams.get(asset)
            if (
                other is not stream
                and isinstance(other, AssetStream)
                and other.book.is_live
                # Only what the same frame has changed can be held together.
                and other.book.source_time == book.source_time
                and not book.mirrors(other.book)
            ):
                checks["complement_mismatch"] += 1
                return "the books of the market's two outcomes do not mirror each other"
        return None

    def _look_at_silence(
        self, key: str, stream: AssetStream, findings: Findings, now: float, time: int
    ) -> None:
        liveness = stream.liveness
        if liveness.is_overdue(now):
            self._checks["second_looks"] += 1
            stream.remember(f"silent for {liveness.silence_s(now):.0f} s: a second look is due", time)
            findings.doubtful.append(key)
        if liveness.is_out_of_patience(now) and len(findings.resync) < RESYNCS_PER_LOOK:
            liveness.climb_to(Rung.RESUBSCRIBED)
            findings.resync.append(
                (key, "silent", f"it has said nothing for {liveness.silence_s(now):.0f} s")
            )
