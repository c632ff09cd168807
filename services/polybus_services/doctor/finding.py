"""What a check finds, and how checks are run."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import anyio
import msgspec

DEADLINE_S = 10.0
"""For each check: what has not answered by then would not serve the gateway either, which dials for ten seconds."""

WRONG_SETTING, UNREACHABLE, FAILED = 2, 3, 1
"""Exit statuses, as of all commands."""


class Verdict(msgspec.Struct, frozen=True):
    """How one thing is."""

    verdict: Literal["ok", "warn", "fail", "skipped"]
    words: str
    """What was seen, on one line."""
    remedy: str | None = None
    """What to do, where something is to be done."""
    status: int = 0
    """The exit status that a failure asks for."""


class Finding(msgspec.Struct, frozen=True):
    """A line of the report."""

    check: str
    """What was looked at: `DNS`, `TLS`, `feed` and so on."""
    about: str
    """Of what: a host, a feed, an account."""
    verdict: str
    """`ok`; `warn`: it works, but not as it should; `fail`; `skipped`: there was nothing to look at."""
    words: str
    remedy: str | None
    took_s: float
    status: int


class Check(NamedTuple):
    """One question."""

    check: str
    about: str
    look: Callable[[], Awaitable[Verdict]]


def ok(words: str) -> Verdict:
    """It is as it should be."""
    return Verdict("ok", words)


def warn(words: str, remedy: str) -> Verdict:
    """It works, but not as it should."""
    return Verdict("warn", words, remedy)


def fail(words: str, remedy: str, status: int = FAILED) -> Verdict:
    """It does not work."""
    return Verdict("fail", words, remedy, status)


def skipped(why: str) -> Verdict:
    """There was nothing to look at."""
    return Verdict("skipped", why)


def finding(check: str, about: str, verdict: Verdict, took_s: float = 0.0) -> Finding:
    """A verdict as a line of the report."""
    return Finding(check, about, verdict.verdict, verdict.words, verdict.remedy, took_s, verdict.status)


async def side_by_side(checks: Sequence[Check], deadline_s: float = DEADLINE_S) -> list[Finding]:
    """Make all checks at once; their findings in the order of the checks."""
    findings: dict[int, Finding] = {}

    async def make(number: int, check: Check) -> None:
        begun = time.perf_counter()
        verdict = fail(
            f"no answer within {deadline_s:g} s",
            "see whether a firewall or a NetworkPolicy swallows it",
            UNREACHABLE,
        )
        with anyio.move_on_after(deadline_s):
            verdict = await check.look()
        findings[number] = finding(check.check, check.about, verdict, time.perf_counter() - begun)

    async with anyio.create_task_group() as tasks:
        for number, check in enumerate(checks):
            tasks.start_soon(make, number, check)
    return [findings[number] for number in range(len(checks))]


def exit_status(findings: Iterable[Finding]) -> int:
    """What the first failure asks for; 0 where nothing failed."""
    return next((each.status for each in findings if each.verdict == "fail"), 0)
