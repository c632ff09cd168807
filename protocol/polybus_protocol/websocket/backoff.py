"""When to dial again: what a refusal or a close means, and how long to wait before the next attempt.

Nothing here waits or draws a random number by itself: the caller sleeps, and brings the random source.
"""

import enum
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec


class Verdict(enum.Enum):
    """What the end of an attempt or of a connection says about the next one."""

    RETRY = enum.auto()
    """An accident: dial again after the usual backoff."""
    RETRY_LATER = enum.auto()
    """Likely to happen again if nothing changes: dial again, but not before a decent wait."""
    RETRY_SPREAD = enum.auto()
    """The server is about to go and asks everybody to come back, spread over `spread_s`: no failure."""
    NEVER = enum.auto()
    """Certain to happen again: a person has to change something first."""


class BackoffPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How patient to be; all in seconds.

    Raises:
        ValueError: a value that makes no sense, naming the field.
    """

    first_s: float = 0.25
    """Ceiling of the first delay.  The venue's own SDKs start at 0.25 to 0.5; a dropped socket is usually
    accepted again at once, and every second away is a gap."""
    longest_s: float = 30.0
    """Ceiling of every later delay.  30 is the most that the venue's own clients wait: long enough to spare a
    venue in trouble, short enough that its return is noticed within the minute."""
    later_s: float = 30.0
    """Least delay after `RETRY_LATER`.  A restart of the matching engine was announced as about 90 seconds, a
    block by Cloudflare lasts longer: a few attempts in that time suffice, and more would prolong a block."""

    spread_s: float = 10.0
    """Most delay after `RETRY_SPREAD`: PolyBolt asks for a random part of 10 s after its close code 4003."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s < math.inf:
            raise ValueError(f"first_s must be above 0, not {self.first_s}")
        if not self.first_s <= self.longest_s < math.inf:
            raise ValueError(f"longest_s must be at least first_s ({self.first_s}), not {self.longest_s}")
        if not 0 <= self.spread_s < math.inf:
            raise ValueError(f"spread_s must be 0 or more, not {self.spread_s}")
        if not 0 <= self.later_s < math.inf:
            raise ValueError(f"later_s must be 0 or more, not {self.later_s}")


class Backoff:
    """The delays of one connection: full jitter under a ceiling that doubles until data has been seen.

    A delay is drawn evenly from zero to the ceiling, so that thousands of clients which lost the same server at
    the same moment come back spread out.

    Args:
        policy: the bounds.
        random: a source of numbers from 0.0 up to, but not including, 1.0, like `random.random`.
    """

    def __init__(self, policy: BackoffPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._ceiling_s = policy.first_s
        self.failures = 0
        """Ends of attempts and connections since data was last seen."""

    def next_delay(self, verdict: Verdict = Verdict.RETRY, retry_after_s: float | None = None) -> float:
        """Count one failure; return how many seconds to wait before dialling again.

        `retry_after_s` and, for `RETRY_LATER`, the policy's `later_s` are minima to which the jitter is added:
        a crowd that was told the same number would otherwise come back as a crowd.  After `NEVER` the delay
        is infinite: who merely sleeps it waits until cancelled, which is right.
        """
        if verdict is Verdict.RETRY_SPREAD:
            return self._random() * self._policy.spread_s
        self.failures += 1
        jitter_s = self._random() * self._ceiling_s
        self._ceiling_s = min(self._ceiling_s * 2, self._policy.longest_s)
        match verdict:
            case Verdict.NEVER:
                return math.inf
            case Verdict.RETRY_LATER:
                return max(retry_after_s or 0.0, self._policy.later_s) + jitter_s
            case Verdict.RETRY:
                return max(retry_after_s or 0.0, 0.0) + jitter_s

    def data_seen(self) -> None:
        """Start again from the first delay.

        To be called for data only, never for an upgrade or a pong: a server that accepts and then drops every
        connection would be dialled four times a second for ever.
        """
        self.failures = 0
        self._ceiling_s = self._policy.first_s


_CLOSE_CODES: Final[dict[int, tuple[Verdict, str]]] = {
    1000: (Verdict.RETRY, "closed in the normal way"),
    1001: (Verdict.RETRY, "the server is going away, for a restart or a move"),
    1002: (Verdict.RETRY_LATER, "one side broke the WebSocket protocol"),
    1003: (Verdict.RETRY_LATER, "the server takes no data of the kind we sent"),
    1005: (Verdict.RETRY, "closed without a code"),
    1006: (Verdict.RETRY, "the connection broke without a close frame"),
    1007: (Verdict.RETRY_LATER, "text that is not UTF-8"),
    1008: (
        Verdict.RETRY_LATER,
        "the server says we broke its rules: on this feed, a malformed subscription or a PING before the first one",
    ),
    1009: (
        Verdict.RETRY_LATER,
        "a message was too big: ours named too many assets, or theirs exceeds our limit",
    ),
    1010: (Verdict.RETRY_LATER, "an extension that one side insists on was not agreed on"),
    1011: (Verdict.RETRY, "the server met an internal error"),
    1012: (Verdict.RETRY, "the service is restarting"),
    1013: (
        Verdict.RETRY,
        "the server dropped us as a slow reader (its send buffer was full): this process or its network lags",
    ),
    4001: (Verdict.NEVER, "the server does not accept the credentials"),
    4002: (Verdict.RETRY, "we read too slowly, or did not answer two of the server's pings"),
    4003: (Verdict.RETRY_SPREAD, "the server is about to go, and wants us to come back in a moment"),
    4008: (Verdict.NEVER, "the server says we broke its policy, which dialling again would repeat"),
}
"""RFC 6455, section 7.4, and the IANA registry, with what was seen on the CLOB feeds: 1006 for wrong credentials and
for accidents alike, 1008 for an early PING, 1013 "slow consumer".  1006 comes from no wire: it is the name for a
stream that ended without a close frame."""

CLOSE_VERDICTS: Final[Mapping[int, Verdict]] = MappingProxyType(
    {code: verdict for code, (verdict, _) in _CLOSE_CODES.items()}
)
"""Close-code policy of all feeds; the codes from 4001 are PolyBolt's."""


def close_verdict(code: int, table: Mapping[int, Verdict] = CLOSE_VERDICTS) -> Verdict:
    """What a close code says about dialling again.

    A code that is not in the table is worth a retry, but not a quick one: it may well be a rule we do not know.
    """
    return table.get(code, Verdict.RETRY_LATER)


def close_reason(code: int) -> str:
    """A close code in words, for a person; the peer's own reason, if any, belongs beside it."""
    if code in _CLOSE_CODES:
        return _CLOSE_CODES[code][1]
    if 3000 <= code <= 3999:
        return "a library's or framework's own code"
    if 4000 <= code <= 4999:
        return "the server's own code, unknown to this feed"
    return "an unassigned code"
