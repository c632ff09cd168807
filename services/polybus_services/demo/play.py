"""The demo from the first process to the last: start, subscribe, show, stop the flow, compare, end."""

import contextlib
import math
import os
import signal
import tempfile
from collections.abc import AsyncIterable
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import anyio
import anyio.abc
import msgspec
from nats.aio.msg import Msg

from polybus_protocol.control.replies import StatusReply
from polybus_protocol.events import decode_event
from polybus_protocol.subjects import FAMILIES, PREFIX
from polybus_services.client import ClientError, ControlClient
from polybus_services.demo import venue
from polybus_services.demo.picture import Picture, Snapshot
from polybus_services.demo.processes import Child, ChildFailed, child
from polybus_services.demo.reckoning import Summary, reckon
from polybus_services.demo.screen import Output
from polybus_services.demo.wishes import WAIT_S, wishes
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.present import THINGS, counted
from polybus_services.settings import variable_of

SETTLE_WITHIN_S = 5.0
"""How long the last events may be on their way once the simulator is paused; it takes milliseconds."""

SETTLE_POLL_S = 0.05

POLL_STATUS_S = 1.0
"""How often the gateway is asked for its status."""

OWNER = "polybus-demo"

CONSUMED = [f"{PREFIX}.{family}.>" for family in FAMILIES if family not in ("control", "system")]
"""What the consumer subscribes to: everything that the venue sends."""

CREDENTIALS = ("api_key", "secret", "passphrase")


class Interrupted(Exception):
    """The demo was stopped before there was anything to compare."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a demo can be told."""

    seconds: float | None = None
    """How long to show; None until Ctrl-C."""
    markets: int = 8
    speed: float = 5.0
    seed: int = 1


class _Stop:
    """What signals do: the first ends the show, the next ends everything at once."""

    def __init__(self) -> None:
        self.show: anyio.CancelScope | None = None
        self.everything = anyio.CancelScope()
        self.children: list[Child] = []

    async def listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Obey signals until cancelled."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if self.show is not None and not self.show.cancel_called:
                    self.show.cancel()
                    continue
                self.everything.cancel()
                if self.show is not None:
                    for one in self.children:
                        one.kill()


async def play(options: DemoOptions, output: Output) -> Summary:
    """Run a demo.

    Raises:
        ChildFailed: a process did not start, ended by itself, or did not end in good order.
        Interrupted: a signal came before the show began, or a second one before its summary.
        NatsServerNotFound: there is no nats-server on this machine.
        NatsServerFailed: it does not come to serve.
    """
    stop, summary = _Stop(), None
    async with anyio.create_task_group() as tasks:
        await tasks.start(stop.listen)
        with stop.everything, tempfile.TemporaryDirectory(prefix="polybus-demo-") as folder:
            try:
                summary = await _run(options, output, stop, Path(folder))
            finally:
                output.finish(None)
        tasks.cancel_scope.cancel()
    if summary is None:
        raise Interrupted
    return summary


async def _run(options: DemoOptions, output: Output, stop: _Stop, folder: Path) -> Summary:
    """Everything between the first process and the last.  They end in the reverse order of their start."""
    simulate = ["simulate", "--json", "--markets", str(options.markets), "--speed", str(options.speed)]
    output.progress("starting nats-server, the simulator and the gateway ...")
    async with (
        nats_server() as nats,
        child("simulator", [*simulate, "--seed", str(options.seed)], folder / "simulator.log") as simulator,
    ):
        stop.children.append(simulator)
        settings = folder / "demo.toml"
        settings.write_text(_settings(nats.url, simulator))
        async with child(
            "gateway",
            ["run", "--json", "--config", str(settings)],
            folder / "gateway.log",
            secrets=_credentials(simulator),
        ) as gateway:
            stop.children.append(gateway)
            summary = await _Show(options, output, stop, nats, simulator, gateway).run()
    if gateway.status != 0:
        raise ChildFailed(f"the gateway did not end in good order: {gateway.end}")
    return summary


def _settings(nats_url: str, simulator: Child) -> str:
    """The gateway's configuration file, without credentials."""
    rest = {"market": f'rest_url = "{simulator.ready["rest"]}"\n'}
    feeds = "".join(
        f'[feeds.{feed}]\nurl = "{url}"\n{rest.get(feed, "")}'
        for feed, url in simulator.ready["feeds"].items()
    )
    label = _account(simulator)
    prices = f'[prices]\naccount = "{label}"\n' if label is not None else ""
    return f'[gateway]\nreplica = "demo"\n[nats]\nurl = "{nats_url}"\n{feeds}{prices}'


def _credentials(simulator: Child) -> dict[str, str]:
    """The variables with the credentials of the simulator's accounts."""
    return {
        variable_of(f"accounts.{account['label']}.{name}"): account[name]
        for account in simulator.ready.get("accounts", [])
        for name in CREDENTIALS
    }


def _account(simulator: Child) -> str | None:
    """The label of the account that the demo follows: the simulator's first."""
    accounts = simulator.ready.get("accounts", [])
    return str(accounts[0]["label"]) if accounts else None


class _Show:
    """What happens while all the processes run."""

    def __init__(
        self,
        options: DemoOptions,
        output: Output,
        stop: _Stop,
        nats: NatsServer,
        simulator: Child,
        gateway: Child,
    ) -> None:
        self._options = options
        self._output = output
        self._stop = stop
        self._nats = nats
        self._children = [simulator, gateway]
        self._admin = str(simulator.ready["admin"])
        markets = cast("list[dict[str, object]]", simulator.ready["markets"])
        self._markets = {str(one["market"]): cast("list[str]", one["assets"]) for one in markets}
        assets = [asset for both in self._markets.values() for asset in both]
        self._wishes = wishes(simulator.ready["feeds"], assets, _account(simulator))
        self._picture = Picture(self._markets, anyio.current_time(), self._wishes)
        self._status: StatusReply | None = None
        self._processes: dict[str, dict[str, object]] = {
            "nats-server": {"pid": nats.pid, "url": nats.url},
            "simulator": {
                "pid": simulator.pid,
                "url": urlsplit(self._admin)._replace(path="").geturl(),
                "admin": self._admin,
            },
            "gateway": {"pid": gateway.pid, "url": f"{nats.url} {gateway.ready['control']}.*"},
            "consumer": {"pid": os.getpid(), "url": f"{nats.url} {PREFIX}.>"},
        }

    async def run(self) -> Summary:
        """Subscribe, show, compare."""
        summary: Summary | None = None
        async with (
            ControlClient.connect(self._nats.url, name="polybus-demo") as control,
            ControlClient.connect(self._nats.url, name="polybus-demo-consumer") as consumer,
            # Before anything is subscribed to, so that not one event is missed.
            consumer.listen(*CONSUMED) as messages,
            anyio.create_task_group() as crew,
        ):
            crew.start_soon(self._consume, messages)
            for one in self._children:
                crew.start_soon(one.watch)
            began = anyio.current_time()
            with anyio.move_on_after(self._options.seconds or math.inf) as self._stop.show:
                await self._subscribe(control)
                crew.start_soon(self._ask_status, control)
                await self._paint(began)
            seconds = anyio.current_time() - began
            self._output.progress("stopping the flow, waiting for the last events ...")
            summary = await self._compare(control, seconds)
            self._output.finish(summary)
            crew.cancel_scope.cancel()
        assert summary is not None, "the crew ends only by an error or with a summary"
        return summary

    async def _consume(self, messages: AsyncIterable[Msg]) -> None:
        async for message in messages:
            self._picture.see(message.subject, decode_event(message.data))

    async def _subscribe(self, control: ControlClient) -> None:
        """Ask for everything at once, and say what has not come."""

        async def ask(feed: str, number: int, wish: dict[str, object]) -> None:
            id_ = f"{OWNER}-{feed}-{number}"
            reply = await control.subscribe(feed=feed, id=id_, owner=OWNER, wait_timeout_s=WAIT_S, **wish)
            if reply.missing:
                things = counted(len(reply.missing), THINGS[feed])
                self._output.progress(f"{feed}: {things} not there yet: {reply.missing[0].reason}")

        self._output.progress(
            f"subscribing to {counted(len(self._markets), 'market')} and the feeds {', '.join(self._wishes)} ..."
        )
        async with anyio.create_task_group() as asking:
            for feed, some in self._wishes.items():
                for number, wish in enumerate(some, 1):
                    asking.start_soon(ask, feed, number, wish)

    async def _published(self, control: ControlClient) -> dict[str, int]:
        """Events published for what was subscribed to, by feed; the market feed has more than is asked for by asset."""
        published = dict.fromkeys(self._wishes, 0)
        for one in (await control.subscriptions(owner=OWNER, assets=False)).subscriptions:
            published[one.feed] += one.events_received
        published.pop("market", None)
        return published

    async def _ask_status(self, control: ControlClient) -> None:
        while True:
            # A gateway that does not answer shows in the view; one that has ended is noticed by its watcher.
            with contextlib.suppress(ClientError):
                self._status = await control.status()
            await anyio.sleep(POLL_STATUS_S)

    async def _paint(self, began: float) -> None:
        while True:
            await anyio.sleep(self._output.every_s)
            now = anyio.current_time()
            self._picture.count(now)
            self._output.show(self._snapshot(now - began))

    def _snapshot(self, seconds: float) -> Snapshot:
        picture = self._picture
        return Snapshot(
            seconds=round(seconds, 1),
            processes=self._processes,
            feeds=list(picture.feeds.values()),
            markets=list(picture.rows.values()),
            around=picture.around.now(),
            events_received=picture.events,
            events_per_s=picture.events_per_s,
            gaps=picture.follower.gaps,
            jumps=picture.follower.jumps,
            status=self._status,
        )

    async def _compare(self, control: ControlClient, seconds: float) -> Summary:
        """Stop the flow, and compare once the counts stand still and agree, or after `SETTLE_WITHIN_S`."""
        unflushed = await venue.pause(self._admin)
        if unflushed:
            self._output.progress(f"the gateway does not read: {', '.join(unflushed)}")
        deadline, before = anyio.current_time() + SETTLE_WITHIN_S, None
        while True:
            sent, status = await venue.sent(self._admin), await control.status()
            summary = reckon(sent, status, await self._published(control), self._picture, seconds)
            if (summary.agree and summary == before) or anyio.current_time() > deadline:
                return summary
            before = summary
            await anyio.sleep(SETTLE_POLL_S)
