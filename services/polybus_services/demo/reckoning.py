"""The closing summary: what was sent, received, published and received again, and whether the numbers agree."""

import msgspec

from polybus_protocol.replies import StatusReply
from polybus_services.demo.picture import Picture
from polybus_services.demo.venue import Sent


class Summary(msgspec.Struct, tag="summary"):
    """All counts of one demo."""

    seconds: float
    frames_sent: int
    """Data frames that the simulator wrote to sockets."""
    frames_received: int
    """Text frames that the gateway received: data, and words such as PONG."""
    words: int
    """How many more were received than data frames sent."""
    events_sent: int
    """Events in the simulator's frames, for subscribed assets."""
    repeated: int
    """How many of them were the same again: what concerns the whole venue comes over each connection, and is
    published once."""
    events_published: int
    """Events that the gateway published, gaps apart."""
    events_received: int
    """Events that the consumer received, gaps apart."""
    gaps_published: int
    gaps: int
    """Gap events that the consumer received."""
    jumps: int
    """Places where the consumer missed something that no gap explains."""
    agree: bool
    """Whether every event arrived, or a gap marks where it may not have."""
    verdict: str
    """The same in words."""


def reckon(sent: Sent, status: StatusReply, picture: Picture, seconds: float) -> Summary:
    """Compare the counts of all who took part."""
    follower = picture.follower
    events_sent = sent.totals["sent"]
    words = max(status.frames - sent.frames, 0)
    problems = []
    if follower.events != status.total_events:
        problems.append(
            f"the gateway published {status.total_events:,} events and the consumer received {follower.events:,}"
        )
    if follower.gaps != status.gaps:
        problems.append(
            f"the gateway published {status.gaps:,} gaps and the consumer received {follower.gaps:,}"
        )
    if follower.jumps:
        problems.append(f"{follower.jumps:,} jumps in the order that no gap explains")
    arrived_whole = events_sent == status.total_events + status.duplicates and sent.frames <= status.frames
    if not arrived_whole and not picture.lossy_gaps:
        problems.append(
            f"the simulator sent {events_sent:,} events in {sent.frames:,} frames, the gateway received "
            f"{status.frames:,} frames and published {status.total_events:,} events, and no gap says why"
        )
    return Summary(
        seconds=round(seconds, 1),
        frames_sent=sent.frames,
        frames_received=status.frames,
        words=words,
        events_sent=events_sent,
        repeated=status.duplicates,
        events_published=status.total_events,
        events_received=follower.events,
        gaps_published=status.gaps,
        gaps=follower.gaps,
        jumps=follower.jumps,
        agree=not problems,
        verdict=_verdict(problems, picture, arrived_whole=arrived_whole),
    )


def _verdict(problems: list[str], picture: Picture, *, arrived_whole: bool) -> str:
    if problems:
        return f"The numbers do not agree: {'; '.join(problems)}."
    reasons = ", ".join(f"{count} {reason}" for reason, count in picture.gaps.items())
    if not arrived_whole:
        return f"The numbers agree: what did not reach the consumer is marked by gaps ({reasons})."
    between = f"; gaps mark where it could send nothing ({reasons})" if picture.lossy_gaps else ""
    return f"The numbers agree: every event that the simulator sent reached the consumer, in order{between}."
