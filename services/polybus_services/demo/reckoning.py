"""The closing summary: what was sent, received, published and received again, and whether the numbers agree."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from polybus_protocol.control.replies import StatusReply
from polybus_services.demo.picture import Picture
from polybus_services.demo.venue import Sent

ANSWERING = frozenset({"polybolt"})
"""Feeds that acknowledge what they are asked, in JSON too, which the simulator does not count as data."""


class FeedCounts(msgspec.Struct):
    """All counts of one feed."""

    feed: str
    frames_sent: int
    """Data frames that the simulator wrote to sockets."""
    frames_received: int
    """Data frames that the gateway received."""
    answers: int
    """Acknowledgements that it received besides."""
    events_sent: int
    """Events in the simulator's frames that were asked for."""
    events_published: int
    """Events that the gateway published, gaps apart."""
    events_received: int
    """Events that the consumer received, gaps apart."""
    gaps: int
    """Gap events that the consumer received."""


class Summary(msgspec.Struct, tag="summary"):
    """All counts of one demo; those of all feeds together are the sums."""

    seconds: float
    feeds: list[FeedCounts]
    frames_sent: int
    frames_received: int
    answers: int
    events_sent: int
    repeated: int
    """How many of them were the same again: what concerns the whole venue comes over each connection, and is
    published once."""
    events_published: int
    events_received: int
    gaps_published: int
    gaps: int
    unknown: int
    """What the gateway could not read and passed on as it was."""
    jumps: int
    """Places where the consumer missed something that no gap explains."""
    agree: bool
    """Whether every event arrived, or a gap marks where it may not have."""
    verdict: str
    """The same in words."""


def reckon(
    sent: Sent, status: StatusReply, published: Mapping[str, int], picture: Picture, seconds: float
) -> Summary:
    """Compare the counts of all who took part.

    Args:
        sent: by the simulator.
        status: of the gateway.
        published: by the gateway, for what was subscribed to, by feed; all else is the market feed's.
        picture: of the consumer.
        seconds: how long it took.
    """
    frames = Counter[str]()
    for connection in status.connections:
        frames[connection.feed] += connection.frames
    by_feed = {**published, "market": status.total_events - sum(published.values())}
    rows: list[FeedCounts] = []
    for feed, row in picture.feeds.items():
        by_simulator = sent.feeds.get(feed) or Sent(0, {"sent": 0})
        answers = max(frames[feed] - by_simulator.frames, 0) if feed in ANSWERING else 0
        rows.append(
            FeedCounts(
                feed,
                frames_sent=by_simulator.frames,
                frames_received=frames[feed] - answers,
                answers=answers,
                events_sent=by_simulator.totals["sent"],
                events_published=by_feed.get(feed, 0),
                events_received=row.events,
                gaps=row.gaps,
            )
        )
    lossy = {row.feed: picture.lossy_gaps(row.feed) > 0 for row in rows}
    arrived_whole = sum(row.events_sent for row in rows) == status.total_events + status.duplicates and all(
        row.frames_sent == row.frames_received for row in rows
    )
    problems = [problem for row in rows for problem in _problems(row, lossy=lossy[row.feed])]
    if not problems and not arrived_whole and not any(lossy.values()):
        problems.append(
            f"the simulator sent {sent.totals['sent']:,} events, the gateway published {status.total_events:,} and "
            f"left out {status.duplicates:,} as repeated, and no gap says why"
        )
    gaps = sum(row.gaps for row in rows)
    if gaps != status.gaps:
        problems.append(f"the gateway published {status.gaps:,} gaps and the consumer received {gaps:,}")
    if picture.follower.jumps:
        problems.append(f"{picture.follower.jumps:,} jumps in the order that no gap explains")
    return Summary(
        seconds=round(seconds, 1),
        feeds=rows,
        frames_sent=sum(row.frames_sent for row in rows),
        frames_received=sum(row.frames_received for row in rows),
        answers=sum(row.answers for row in rows),
        events_sent=sum(row.events_sent for row in rows),
        repeated=status.duplicates,
        events_published=status.total_events,
        events_received=picture.events,
        gaps_published=status.gaps,
        gaps=gaps,
        unknown=picture.unknown,
        jumps=picture.follower.jumps,
        agree=not problems,
        verdict=_verdict(problems, picture, arrived_whole=arrived_whole),
    )


def _problems(row: FeedCounts, *, lossy: bool) -> list[str]:
    """What does not agree on one feed."""
    problems = []
    if row.events_received != row.events_published:
        problems.append(
            f"of the {row.feed} feed the gateway published {row.events_published:,} events and the consumer "
            f"received {row.events_received:,}"
        )
    if row.frames_sent != row.frames_received and not lossy:
        problems.append(
            f"of the {row.feed} feed the simulator sent {row.frames_sent:,} frames and the gateway received "
            f"{row.frames_received:,}, and no gap says why"
        )
    return problems


def _verdict(problems: list[str], picture: Picture, *, arrived_whole: bool) -> str:
    if problems:
        return f"The numbers do not agree: {'; '.join(problems)}."
    by_reason = Counter[str]()
    for (_, reason), count in picture.gaps.items():
        by_reason[reason] += count
    reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason.items())
    if not arrived_whole:
        return f"The numbers agree: what did not reach the consumer is marked by gaps ({reasons})."
    between = f"; gaps mark where it could send nothing ({reasons})" if picture.lossy_gaps() else ""
    return f"The numbers agree: every event that the simulator sent reached the consumer, in order{between}."
