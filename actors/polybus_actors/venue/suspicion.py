"""Whether the venue accepts our credentials, where it never says so: it hangs up, and that is all."""

from polybus_protocol.websocket.backoff import Verdict

MUTE_ENDS = 3
"""Sockets in a row that ended without an event, on a feed that says nothing of credentials, before they are
doubted and dialled seldom: one or two are accidents (py-clob-client issues 204 and 206)."""

LONG_HELD_S = 60.0
"""Seconds after which a quiet socket is no accident: what refuses credentials hangs up at once."""


class Suspicion:
    """A feed that says nothing of credentials, and hangs up again and again, has said it all the same."""

    def __init__(self) -> None:
        self._mute_ends = 0

    def judge(self, reason: str, verdict: Verdict, *, is_mute: bool) -> tuple[str, Verdict]:
        """What to make of the end of a socket.

        Args:
            reason: why it ended.
            verdict: whether to dial again, by that.
            is_mute: it has brought nothing, on a feed that does not say whether it knows us.
        """
        if not is_mute:
            self._mute_ends = 0
            return reason, verdict
        self._mute_ends += 1
        if self._mute_ends < MUTE_ENDS or verdict is Verdict.NEVER:
            return reason, verdict
        advice = (
            f"{reason}; that is {self._mute_ends} times in a row without a single event, so the venue may not "
            "accept the credentials (wrong key, secret or passphrase, or builder credentials)"
        )
        return advice, Verdict.RETRY_LATER
