"""The JetStream streams that record the events: created if absent, verified, and watched over.

A stream that is there already is never changed, since that can delete what it holds: each difference from the
configuration is told, with what to do about it.  What the server makes of a new stream is compared in the same way,
because an old one ignores what it does not know without a word.

All of it happens beside the gateway's work: until a stream is there, events are delivered without it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import anyio
import msgspec
import nats.errors
import nats.js.errors
from msgspec import Meta
from nats.aio.client import Client
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamInfo,
)

from .delivery import DeliverySettings, Recording, Sampled
from .lane import Acked
from .login import words

logger = logging.getLogger("polybus.streams")

API_TIMEOUT_S = 2.0
"""Seconds JetStream may take to answer about a stream; it takes a millisecond."""

FIRST_RETRY_S = 0.5
"""Seconds until what failed is tried again; each further time doubles it, up to the interval of the checks."""

CHECK_S = 15.0
"""Seconds between two looks at streams that are as they should be: somebody may delete one, and `status` tells sizes."""

LESS_THAN_STORED = (2, 10)
"""The server's version since which streams can be compressed; an older one ignores the wish."""

Bytes = Annotated[int, Meta(ge=1024 * 1024)]
Age = Annotated[float, Meta(ge=60, le=10 * 365 * 86_400)]

MIB = 1024 * 1024
DAY_S = 86_400.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one stream keeps; beyond either limit the oldest goes."""

    max_age_s: Age
    max_bytes: Bytes


class StreamsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[streams]`: the record."""

    manage: bool = True
    """Create what is absent.  If false, streams are left to others, and only verified."""
    name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_-]{1,32}$",
            extra_json_schema={"description": "1 to 32 letters, digits, `-` or `_`"},
        ),
    ] = "POLYBUS"
    """What the names of the streams begin with: `POLYBUS_MARKET` and so on."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Copies of each stream in a cluster: 3 survive the loss of a server."""
    storage: Literal["file", "memory"] = "file"
    duplicate_window_s: Annotated[float, Meta(ge=1, le=30)] = 25.0
    """Seconds for which a stream knows a message again: longer than an outage that is bridged by repeating, and no
    longer, since each id costs the server about 280 bytes of memory."""
    market: Limits = Limits(max_age_s=DAY_S, max_bytes=1024 * MIB)
    user: Limits = Limits(max_age_s=30 * DAY_S, max_bytes=128 * MIB)
    public: Limits = Limits(max_age_s=DAY_S, max_bytes=256 * MIB)
    """Activity, comments, prices and sports."""
    books: Limits = Limits(max_age_s=7 * DAY_S, max_bytes=256 * MIB)
    """The last book of each asset."""


class Plan(msgspec.Struct, frozen=True):
    """One stream as it should be."""

    key: str
    """Its section in `StreamsSettings`, and in upper case the end of its name."""
    families: tuple[str, ...]
    per_subject: int = -1
    """Messages kept of one subject; -1 for all."""


PLANS = (
    Plan("market", ("market",)),
    Plan("user", ("user",)),
    Plan("public", ("activity", "comments", "price", "sports")),
    Plan("books", ("books",), per_subject=1),
)
"""All streams.  Accounts have one of their own, so that only who may read it does."""


class StreamState(msgspec.Struct):
    """What is known of one stream."""

    name: str
    families: tuple[str, ...]
    state: str = "unknown"
    """`ready`; `differs`: there, but not as configured; `absent`; `unavailable`: JetStream does not say."""
    problems: list[str] = []
    takes_all: bool = False
    """Whether our events get into it, as its subjects are."""
    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class Streams:
    """See the module.

    Args:
        settings: what is wanted.
        prefix: of all subjects.
        recordings: by family, who wants to know whether its stream is there.
    """

    def __init__(self, settings: StreamsSettings, prefix: str, recordings: Mapping[str, Recording]) -> None:
        self.states = {
            plan.key: StreamState(stream_name(settings.name, plan), plan.families) for plan in PLANS
        }
        self._settings = settings
        self._prefix = prefix
        self._recordings = recordings
        self._doubt = anyio.Event()
        self._said: str | None = None
        for recording in recordings.values():
            recording.on_doubt = self.look

    def recordings_of(self, state: StreamState) -> list[tuple[str, Recording | None]]:
        """The families of a stream, and what is known of their acks; None for those that ask for none."""
        return [(family, self._recordings.get(family)) for family in state.families]

    def look(self) -> None:
        """Look at the streams now: one of them does not acknowledge."""
        self._doubt.set()

    async def run(self, client: Client) -> None:
        """Keep the streams in order until cancelled."""
        retry_s = FIRST_RETRY_S
        while True:
            self._doubt = anyio.Event()
            if await self.check(client):
                retry_s = FIRST_RETRY_S
                wait_s = CHECK_S
            else:
                wait_s, retry_s = retry_s, min(retry_s * 2, CHECK_S)
            with anyio.move_on_after(wait_s):
                await self._doubt.wait()
                # Whoever doubts does so again at once, if it was right to: not more often than this.
                await anyio.sleep(min(wait_s, FIRST_RETRY_S))

    async def check(self, client: Client) -> bool:
        """Look at each stream once, and create what is absent.

        Returns:
            Whether all of them are there.
        """
        unavailable = None
        for plan in PLANS:
            state = self.states[plan.key]
            before = state.state, state.problems
            try:
                self._judge(plan, state, await self._find(client, plan))
            except nats.js.errors.NotFoundError:
                state.state, state.problems = "absent", ["it does not exist"]
            except nats.js.errors.BadRequestError as error:
                state.state, state.problems = "absent", [_why(error)]
            except (nats.errors.Error, TimeoutError) as error:
                unavailable = _why(error)
                if not (
                    is_gone := isinstance(error, nats.js.errors.ServiceUnavailableError) and not error.code
                ):
                    # It may be there all the same: a cluster that elects its leader does not answer either.
                    unavailable = unavailable or "no answer"
                state.state, state.problems = "unavailable", [unavailable]
                if not is_gone:
                    continue
            self._tell_recordings(plan, state)
            if (state.state, state.problems) != before:
                self._report(state)
        self._report_jetstream(unavailable)
        return all(state.state in ("ready", "differs") for state in self.states.values())

    async def _find(self, client: Client, plan: Plan) -> StreamInfo:
        js = client.jetstream(timeout=API_TIMEOUT_S)
        with anyio.fail_after(2 * API_TIMEOUT_S):
            try:
                return await js.stream_info(self.states[plan.key].name)
            except nats.js.errors.NotFoundError:
                if not self._settings.manage:
                    raise
            info = await js.add_stream(self._config(plan, client))
            logger.info("the stream %s is created", self.states[plan.key].name)
            for _, recording in self.recordings_of(self.states[plan.key]):
                if recording is not None:
                    recording.doubt()
            return info

    def _judge(self, plan: Plan, state: StreamState, info: StreamInfo) -> None:
        state.messages, state.bytes = info.state.messages, info.state.bytes
        state.first_seq, state.last_seq = info.state.first_seq, info.state.last_seq
        state.takes_all = not _left_out(self._config(plan, None), info.config)
        state.problems = list(_differences(self._config(plan, None), info.config))
        state.state = "differs" if state.problems else "ready"

    def _tell_recordings(self, plan: Plan, state: StreamState) -> None:
        for family in plan.families:
            recording = self._recordings.get(family)
            if recording is None:
                continue
            if state.state in ("ready", "differs") and state.takes_all:
                recording.appear()
            else:
                recording.vanish(state.problems[0])

    def _report(self, state: StreamState) -> None:
        if state.state == "differs":
            for problem in state.problems:
                logger.warning(
                    "the stream %s is not as in [streams]: %s; change the one (nats stream edit %s) or the other",
                    state.name,
                    problem,
                    state.name,
                )
        elif state.state == "absent":
            logger.warning(
                "there is no stream %s (%s): its events are delivered without a record%s",
                state.name,
                state.problems[0],
                "" if self._settings.manage else "; create it, or let polybus do it (streams.manage = true)",
            )

    def _report_jetstream(self, unavailable: str | None) -> None:
        if unavailable is not None and self._said is None:
            logger.warning(
                "JetStream is not available (%s): nothing can be replayed of what is delivered now",
                unavailable,
            )
        elif unavailable is None and self._said is not None:
            logger.warning("JetStream is available: events are recorded from here on")
        self._said = unavailable

    def _config(self, plan: Plan, client: Client | None) -> StreamConfig:
        """The stream as it should be; for a client, with what its server has to offer beyond 2.9."""
        limits: Limits = getattr(self._settings, plan.key)
        config = StreamConfig(
            name=self.states[plan.key].name,
            description="polybus",
            subjects=[f"{self._prefix}.{family}.>" for family in plan.families],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType(self._settings.storage),
            discard=DiscardPolicy.OLD,
            max_age=limits.max_age_s,
            max_bytes=limits.max_bytes,
            max_msgs_per_subject=plan.per_subject,
            duplicate_window=self._settings.duplicate_window_s,
            num_replicas=self._settings.replicas,
            allow_direct=True,
        )
        if client is not None and _version(client) >= LESS_THAN_STORED and self._settings.storage == "file":
            config.compression = StoreCompression.S2
        return config


COMPARED = (
    "retention",
    "storage",
    "discard",
    "max_age",
    "max_bytes",
    "max_msgs_per_subject",
    "duplicate_window",
    "num_replicas",
    "allow_direct",
)
"""What of a stream must be as configured; more than that, such as a compression or a placement, is the operator's."""


def stream_name(prefix: str, plan: Plan) -> str:
    """The name of a stream: `POLYBUS_MARKET`."""
    return f"{prefix}_{plan.key.upper()}"


def plan_of(family: str) -> Plan | None:
    """The stream that records a family; None if none does."""
    return next((plan for plan in PLANS if family in plan.families), None)


def recordings(settings: DeliverySettings) -> dict[str, Recording]:
    """The families whose streams are asked for acks, by name; the others are delivered `core`."""
    made: dict[str, Recording] = {}
    for plan in PLANS:
        for family in plan.families:
            mode = getattr(settings, family)
            if mode == "sampled":
                made[family] = Sampled(family, settings.ack_timeout_s, settings.every)
            elif mode == "acked":
                made[family] = Acked(family, settings.ack_timeout_s)
    return made


def _differences(wanted: StreamConfig, found: StreamConfig) -> Iterator[str]:
    if missing := _left_out(wanted, found):
        yield f"it does not take in {', '.join(missing)}, but {', '.join(found.subjects or ['nothing'])}"
    for name in COMPARED:
        is_, should = getattr(found, name), getattr(wanted, name)
        if _plain(is_) != _plain(should):
            yield f"its {name} is {_plain(is_)}, and should be {_plain(should)}"


def _left_out(wanted: StreamConfig, found: StreamConfig) -> list[str]:
    return [subject for subject in wanted.subjects or [] if not _covers(found.subjects or [], subject)]


def _covers(subjects: Iterable[str], wanted: str) -> bool:
    """Whether one of the subjects takes in all that another, which ends with `>`, stands for."""
    tokens = wanted.split(".")
    for subject in subjects:
        *own, last = subject.split(".")
        fits = all(token in ("*", other) for token, other in zip(own, tokens, strict=False))
        if fits and last == ">" and len(own) < len(tokens):
            return True
    return False


def _plain(value: Any) -> Any:
    """A value as people write it: an enumeration's as its word, a whole number without its fraction."""
    value = getattr(value, "value", value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _version(client: Client) -> tuple[int, int]:
    version = client.connected_server_version
    return version.major, version.minor


def _why(error: BaseException) -> str:
    if isinstance(error, nats.js.errors.APIError):
        return error.description or "JetStream is not enabled"
    return "no answer" if isinstance(error, TimeoutError) else words(error)
