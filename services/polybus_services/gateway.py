"""`polybus run`: one gateway as a process, from its configuration to SIGTERM."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec

from polybus_actors.gateway import Gateway, GatewaySettings
from polybus_actors.publishing.login import NatsUnreachable
from polybus_actors.venue.accounts import Accounts
from polybus_actors.venue.pools import ACCOUNT_FEEDS
from polybus_actors.venue.transport import DialFailed, dial
from polybus_actors.watcher import Watcher
from polybus_protocol.profile import FeedProfile

from .collector import put_aside
from .config import Config, ConfigError
from .health import Health
from .pulse import Pulse
from .telemetry.environment import wanted

logger = logging.getLogger("polybus.run")

REACHABLE = "reachable"


class Unreachable(Exception):
    """Something the gateway needs cannot be reached; the text is fit for a person."""


class Watched(msgspec.Struct):
    """A gateway, and those who are told of it."""

    gateway: Gateway
    http: str | None = None
    """Where probes and metrics are."""
    on_started: Callable[[], None] = lambda: None
    """To be called once commands are answered."""


async def run_gateway(config: Config, *, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain.

    A venue that cannot be reached is reported and dialled again for ever, since that is what the gateway
    is for; NATS must be there at the start.

    Args:
        config: the effective configuration.
        on_ready: given the facts of the ready line, once commands are answered.

    Raises:
        Unreachable: NATS cannot be reached.
        ConfigError: an `OTEL_*` variable makes no sense to the OpenTelemetry SDK.
        CannotListen: there is something else where probes and metrics were to be.
    """
    try:
        async with _watched(config) as watched, anyio.create_task_group() as tasks:

            def ready(restored: int) -> None:
                watched.on_started()
                on_ready(
                    {
                        "replica": config.gateway.replica,
                        "nats": config.nats.shown_url,
                        "control": f"{config.gateway.prefix}.control",
                        "feeds": {feed: profile.url for feed, profile in config.feeds.items()},
                        "accounts": list(config.accounts),
                        "restored": restored,
                        "venue": venue,
                        "http": watched.http,
                    }
                )

            venue = await probe_all(config) if config.gateway.probe else {}
            for feed, answer in venue.items():
                if answer != REACHABLE:
                    logger.warning(
                        "the %s feed cannot be reached (it will be dialled again and again): %s", feed, answer
                    )
            tasks.start_soon(_stop_on_signal, watched.gateway)
            tasks.start_soon(put_aside, lambda: sum(len(pool.streams) for pool in watched.gateway.pools))
            await watched.gateway.run(ready)
            tasks.cancel_scope.cancel()
    except* NatsUnreachable as group:
        raise Unreachable(str(_first(group))) from None


@asynccontextmanager
async def _watched(config: Config) -> AsyncIterator[Watched]:
    """Make a gateway, with the telemetry that is asked for, which runs for the length of the block."""
    asked = wanted(os.environ)
    for remark in asked.remarks:
        logger.warning("%s", remark)
    if config.http.port is None and not asked.signals:
        yield Watched(_make_gateway(config))
        return
    # They take long to import, which nobody has to wait for who does not want them; and the SDK reads some variables
    # while it is imported.
    try:
        from .telemetry.metrics import snapshot
        from .telemetry.process import Telemetry

        telemetry = Telemetry(config.gateway.replica, asked.signals)
    except ValueError as error:
        raise ConfigError(f"an OTEL_ variable: {error}") from None
    gateway, pulse = _make_gateway(config, telemetry.watcher), Pulse()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(pulse.beat)
        stack.callback(tasks.cancel_scope.cancel)
        share = config.http.ready_share
        await stack.enter_async_context(
            telemetry.watching(lambda: snapshot(gateway, pulse, share, telemetry.failures))
        )
        watched = Watched(gateway)
        if config.http.port is not None:
            health = Health(config.http, gateway, pulse, telemetry.scrape)
            watched.http = await stack.enter_async_context(health.serving())
            watched.on_started = health.startup_done
        yield watched


def _make_gateway(config: Config, watcher: Watcher | None = None) -> Gateway:
    settings = msgspec.convert(msgspec.to_builtins(config.gateway), GatewaySettings, strict=False)
    accounts = Accounts(config.accounts, config.prices.account)
    return Gateway(settings, config.nats, config.feeds, accounts, watcher, config.streams, config.delivery)


async def probe_all(config: Config) -> dict[str, str]:
    """Probe every feed that this configuration can serve, all at once; see `probe`."""
    answers: dict[str, str] = {}

    async def ask(feed: str) -> None:
        answers[feed] = await probe(config.feeds[feed])

    async with anyio.create_task_group() as tasks:
        for feed in config.feeds:
            if config.accounts or feed not in ACCOUNT_FEEDS:
                tasks.start_soon(ask, feed)
    return {feed: answers[feed] for feed in config.feeds if feed in answers}


async def probe(profile: FeedProfile) -> str:
    """Open a socket to the feed and let go of it: `reachable`, or a sentence that says what failed."""
    try:
        wire = await dial(
            profile.url, timeout_s=profile.dial_timeout_s, max_message_bytes=profile.max_message_bytes
        )
    except DialFailed as failure:
        return str(failure)
    await anyio.aclose_forcefully(wire.stream)
    return REACHABLE


async def _stop_on_signal(gateway: Gateway) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for received in signals:
            logger.info("%s: draining", received.name)
            gateway.stop()


def _first(group: BaseExceptionGroup[NatsUnreachable]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
