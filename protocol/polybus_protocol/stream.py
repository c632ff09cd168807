"""One stream: the owner of `epoch` and `seq`, and the place where trust begins and ends.

A stream outlives the connections that carry it.  Each break of trust opens a new epoch, whose first
event is the gap; the epoch is *live* only from its first data, before which the gap is closed.
"""

from collections import Counter
from collections.abc import Collection

import msgspec

from .events import Event, Gap, Unknown, encode_event, type_of
from .subjects import (
    FAMILIES,
    PREFIX,
    WITHOUT_GAPS,
    attribute_of,
    encode_token,
    ids_of,
    last_token,
    stream_key,
)
from .twins.pair import Pair

NS_PER_MS = 1_000_000

ENDINGS = frozenset({"unsubscribed", "shutdown"})
"""Reasons of gaps that end a stream: nobody waits for them to be closed."""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """An event ready for NATS."""

    encoded_subject: bytes
    """As it goes over the wire: to encode it anew for each event would take as long as a tenth of decoding does."""
    payload: bytes
    stream: "Stream"
    epoch: int
    seq: int
    lost_by: str | None = None
    """Why it counts as lost already, and is not to be counted again; None as a rule."""

    @property
    def subject(self) -> str:
        """Where it goes."""
        return self.encoded_subject.decode()


class Doubt(msgspec.Struct, frozen=True):
    """A reason not to believe a stream any more, and to ask for a fresh start."""

    reason: str
    """A key of `GAP_REASONS`."""
    detail: str | None = None


class GapLedger:
    """The gaps of a gateway's streams, counted: what the roll-up tells."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        """By reason."""
        self.closed: Counter[str] = Counter()
        """By what closed them."""
        self.open = 0
        """Streams whose gap is open now."""
        self.last_ended_epoch = 0
        """The highest epoch in which a stream ended: it may come back before the clock has passed that."""


class Total:
    """How many events of one type some streams have published together."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Totals:
    """The same by type, counted as they come: to add twenty thousand streams up takes 30 ms, in which no event goes out."""

    def __init__(self) -> None:
        self._by_type: dict[str, Total] = {}

    def of(self, type_: str) -> Total:
        """Those of one type."""
        return self._by_type.setdefault(type_, Total())

    def counts(self) -> Counter[str]:
        """All of them; gaps when they open."""
        return Counter({type_: total.count for type_, total in self._by_type.items()})


type Kind = type[Event] | str
"""What a stream has a channel for: a type of event, or a feed, where all feeds share the stream of unknown ones."""


class Channel:
    """One event type of a stream: the subject it is published on, how often it was, and when last."""

    __slots__ = ("count", "encoded_subject", "kind", "last_time", "total", "type")

    def __init__(self, kind: Kind | None, subject: str, type_: str, total: Total) -> None:
        self.kind = kind
        self.encoded_subject = subject.encode()
        self.type = type_
        self.total = total
        self.count = 0
        self.last_time = 0


_NOTHING_YET = Channel(None, "", "", Total())
"""Stands where a stream has not published anything."""


class Stream:
    """The sequence and the liveness of one stream key.

    Args:
        feed: the feed that brings the stream.
        family: the family of its subjects.
        ids: the family's ids, None where one does not apply or is not known yet.
        remembered: the stream existed before this process, so it begins with a gap.
        prefix: of all subjects.
        ledger: counts the gaps.
        totals: counts what this and other streams publish.
    """

    __slots__ = (
        "_channel",
        "_channels",
        "_gap_seq",
        "_ledger",
        "_opened",
        "_prefix",
        "_totals",
        "epoch",
        "family",
        "feed",
        "ids",
        "live",
        "owed",
        "pair",
        "seq",
    )

    def __init__(
        self,
        feed: str,
        family: str,
        ids: tuple[str | None, ...] = (),
        *,
        remembered: bool = False,
        prefix: str = PREFIX,
        ledger: GapLedger | None = None,
        totals: Totals | None = None,
    ) -> None:
        self.feed = feed
        self.family = family
        self.ids = ids
        self.epoch = 0
        self.seq = 0
        self.live = False
        """Whether data has arrived in this epoch; the hot path looks at nothing else."""
        self.owed: str | None = "restart" if remembered else None
        """The reason of a gap that has not been announced on the proper subject yet."""
        self.pair: Pair | None = None
        """Of the two connections that carry the stream at once; None as a rule, as it has one carrier."""
        self._opened: Gap | None = None
        """The gap that is open."""
        self._gap_seq = 0
        """The `seq` of the epoch's last gap: what came after it is lost trust if another gap opens."""
        self._ledger = ledger or GapLedger()
        self._totals = totals
        self._prefix = prefix
        self._channels: dict[Kind, Channel] = {}
        self._channel = _NOTHING_YET
        """That of the last event from the venue: nearly always that of the next one, too."""

    def id(self, name: str) -> str | None:
        """The id of that name in the stream's family; None if it has none."""
        names = FAMILIES[self.family]
        return self.ids[names.index(name)] if name in names else None

    @property
    def key(self) -> str:
        """The subject of the stream's events without the last token; `_` for an id not known yet."""
        return stream_key(self.family, *self.ids, prefix=self._prefix)

    @property
    def announces_gaps(self) -> bool:
        """Whether a loss shows as a gap; on the others, which carry no data, only as a jump of `seq`."""
        return self.family not in WITHOUT_GAPS

    def counts(self) -> Counter[str]:
        """How many events of each type were published; gaps when they open."""
        counts: Counter[str] = Counter()
        for channel in self._channels.values():
            counts[channel.type] += channel.count
        return counts

    @property
    def last_data_time(self) -> int | None:
        """When the last event from the venue arrived, in nanoseconds since the epoch; None if none did."""
        return self._channel.last_time or None

    def last_time_of(self, types: Collection[str]) -> int:
        """When the last event of these types arrived, of all if none is named; 0 if none did."""
        return max(
            (
                channel.last_time
                for kind, channel in self._channels.items()
                if not types or (isinstance(kind, type) and type_of(kind) in types)
            ),
            default=0,
        )

    def publish(self, event: Event, received_time: int, connection: str | None) -> Publication:
        """Stamp an event from the venue and make it ready for NATS."""
        event.received_time = received_time
        event.connection = connection
        event.epoch = epoch = self.epoch
        self.seq = event.seq = seq = self.seq + 1
        channel = self._channel
        if channel.kind is not event.__class__:
            channel = self._channel = self._channels.get(event.__class__) or self._open_channel(event)
        channel.count += 1
        channel.total.count += 1
        channel.last_time = received_time
        return Publication(channel.encoded_subject, encode_event(event), self, epoch, seq)

    def absorb(self, event: Event) -> Doubt | None:  # noqa: ARG002  for those who remember
        """Let what is remembered of the stream follow an event that was published.

        Returns:
            Why the stream cannot be believed from here on; None as a rule.
        """
        return None

    def begin(
        self, event: Event | None, received_time: int, connection: str | None, closed_by: str = "data"
    ) -> list[Publication]:
        """Data that may be believed is here: the stream is live from now on.

        Args:
            event: that data, to be published next; None where the stream may be silent for ever, and being
                asked for is all there is to it.
            received_time: nanoseconds since the epoch.
            connection: that brought it.
            closed_by: what closes the gap, if one is open: a key of `CLOSED_BY`.

        Returns:
            What still has to be announced before the data: that the gap is closed, if one was open.
        """
        announcements = [] if event is None else self.ready(event, received_time, connection)
        self.live = True
        if self._opened is not None:
            self._gap_seq = self.seq = self.seq + 1
            gap = msgspec.structs.replace(self._opened, closed_by=closed_by)
            announcements.append(self._gap(gap, self.epoch, self.seq, received_time, connection))
            self._settle(closed_by)
        return announcements

    def ready(self, event: Event, received_time: int, connection: str | None) -> list[Publication]:
        """Make the stream ready to publish an event, whether or not it may be believed.

        Returns:
            The gap that still has to be announced before it; none as a rule.
        """
        if self._is_incomplete:
            self._learn(ids_of(event))
        if self.owed is not None:
            return self._break(self.owed, received_time, None, connection)
        if self.epoch == 0:
            self.epoch = self._next_epoch(received_time)
        return []

    def interrupt(
        self, reason: str, now: int, *, detail: str | None = None, connection: str | None = None
    ) -> list[Publication]:
        """Trust ends: open a new epoch, which the gap is the first event of.

        A stream that is already waiting has been interrupted before, and nothing is announced again;
        one that never had data has nothing to lose.  While an id is unknown, as it is for an asset
        after a restart, the gap goes out on `_` at once and again on the proper subject with the data.

        Args:
            reason: a key of `GAP_REASONS`.
            now: nanoseconds since the epoch.
            detail: a sentence for people.
            connection: the connection that is to blame.
        """
        has_spoken = self.live or self.seq > self._gap_seq
        if not has_spoken and (self.owed is None or self.seq):
            if reason in ENDINGS and self._opened is not None:
                self._settle(reason)
            return []
        return self._break(reason, now, detail, connection)

    def mark_lost(
        self, first: tuple[int, int], last: tuple[int, int], lost: int, reason: str, now: int
    ) -> Publication:
        """The gap for events that may have reached nobody: it takes the place of the last of them.

        Args:
            first: epoch and `seq` of the first event affected.
            last: epoch and `seq` of the last one.
            lost: how many events are affected.
            reason: `backlog_overflow` or `nats_connection_lost`.
            now: nanoseconds since the epoch.
        """
        # What came before the first event of an epoch is not remembered here.
        epoch, seq = (first[0], first[1] - 1) if first[1] > 1 else (None, None)
        gap = self._new_gap(reason, None, (epoch, seq, None))
        gap.lost = lost
        return self._gap(gap, *last, now, None)

    def _break(self, reason: str, now: int, detail: str | None, connection: str | None) -> list[Publication]:
        last = (self.epoch or None, self.seq or None, self.last_data_time)
        gap = self._new_gap(reason, detail, last)
        self.epoch = self._next_epoch(now)
        self.seq = self._gap_seq = 1
        self.live = False
        self.owed = reason if self._is_incomplete else None
        if self._opened is None:
            self._ledger.open += 1
        self._opened = gap
        self._ledger.opened[reason] += 1
        publication = self._gap(gap, self.epoch, 1, now, connection)
        if reason in ENDINGS:
            self._settle(reason)
        return [publication]

    def _next_epoch(self, now: int) -> int:
        # Milliseconds make a number that rises over restarts with nothing to remember.
        return max((self.epoch or self._ledger.last_ended_epoch) + 1, now // NS_PER_MS)

    def _settle(self, by: str) -> None:
        if by in ENDINGS:
            self._ledger.last_ended_epoch = max(self._ledger.last_ended_epoch, self.epoch)
        self._opened = None
        self._ledger.open -= 1
        self._ledger.closed[by] += 1

    def _new_gap(
        self, reason: str, detail: str | None, last: tuple[int | None, int | None, int | None]
    ) -> Gap:
        gap = Gap(self.feed, reason, detail, *last)
        for name, value in zip(FAMILIES[self.family], self.ids, strict=True):
            setattr(gap, attribute_of(name), value)
        return gap

    @property
    def _is_incomplete(self) -> bool:
        return self.id("asset") is not None and self.id("market") is None

    def _learn(self, ids: tuple[str | None, ...]) -> None:
        """The ids are known now: from here on the gaps go out under them."""
        self.ids = ids
        if gap := self._channels.get(Gap):
            gap.encoded_subject = f"{self.key}.{type_of(Gap)}".encode()

    def _gap(self, gap: Gap, epoch: int, seq: int, now: int, connection: str | None) -> Publication:
        gap.epoch, gap.seq, gap.received_time, gap.connection = epoch, seq, now, connection
        channel = self._channels.get(Gap) or self._open_channel(gap)
        if gap.closed_by is None:
            channel.count += 1
            channel.total.count += 1
        return Publication(channel.encoded_subject, encode_event(gap), self, epoch, seq)

    def _open_channel(self, event: Event) -> Channel:
        # All feeds share the stream of unknown events, and there the last token is the feed.
        token = last_token(event)
        kind = token if isinstance(event, Unknown) else type(event)
        subject = f"{self.key}.{encode_token(token)}"
        total = Total() if self._totals is None else self._totals.of(type_of(event))
        return self._channels.setdefault(kind, Channel(kind, subject, type_of(event), total))
