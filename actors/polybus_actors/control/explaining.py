"""Why an asset is, or is not, live: the words of the verb `explain`."""

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.liveness import Trust
from polybus_protocol.books.proof import Verdict
from polybus_protocol.control.interest import Subscription

from ..venue.connection import Connection


def explain(
    stream: AssetStream,
    carrier: Connection | None,
    subscriptions: list[Subscription],
    why_not: str | None,
    now: int,
) -> list[str]:
    """An asset's state in sentences, the gist first.

    Args:
        stream: the asset's.
        carrier: the connection that carries it.
        subscriptions: those that want it.
        why_not: why it is not live, if it is not.
        now: nanoseconds since the epoch.
    """
    liveness, book, words = stream.liveness, stream.book, [TRUST_IN_WORDS[stream.trust]]
    words += [f"{why[0].upper()}{why[1:]}." for why in (why_not, liveness.why) if why]
    owners = ", ".join(sorted({s.owner for s in subscriptions}))
    words.append(f"{_many(len(subscriptions), 'subscription')} of {owners} want it.")
    if carrier is not None:
        words.append(f"The connection {carrier.id} carries it, on its socket number {carrier.incarnation}.")
    if stream.last_data_time is not None:
        ago_s = max(now - stream.last_data_time, 0) / 1e9
        words.append(
            f"Its last event came {ago_s:.1f} s ago, as number {stream.seq} of epoch {stream.epoch}."
        )
    if liveness.usual_s is not None:
        words.append(f"A pause of up to {liveness.usual_s:.0f} s is usual for it.")
    if not stream.keeps_book:
        words.append("No books are kept here, so only its silence is watched.")
    if book.is_live:
        sides = f"{_many(len(book.bids()), 'bid')} and {_many(len(book.asks()), 'ask')}"
        words.append(f"Its book has {sides}; by the venue's hash it is {_PROOFS[stream.prove()]}.")
    return words


TRUST_IN_WORDS = {
    Trust.WAITING: "No snapshot has come in its current epoch: nothing may be believed.",
    Trust.LIVE: "It is live: data has come in its current epoch, and nothing speaks against it.",
    Trust.QUIET: "It is quiet: silent for longer than usual, and REST has shown the same book.",
    Trust.SUSPECT: "It is suspect: something speaks against it, and nothing has settled that yet.",
    Trust.FROZEN: "It is frozen: the venue goes on without it, or everything was tried in vain.",
}

_PROOFS = {
    Verdict.PROVED: "proved right",
    Verdict.UNKNOWN: "neither proved nor disproved",
    Verdict.MISMATCH: "wrong",
}


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
