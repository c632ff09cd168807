"""The demo from the first process to the last: start, subscribe, show, stop the flow, compare, end."""

import contextlib
import math
import os
import signal
import tempfile
from collections.abc import AsyncIterable
from pathlib import Path
from typing import cast

import anyio
import anyio.abc
import msgspec
from nats.aio.msg import Msg

from polybus_protocol.events import decode_event
from polybus_protocol.replies import StatusReply
from polybus_protocol.subjects import PREFIX
from polybus_services.client import ClientError, ControlClient
from polybus_services.demo import venue
from polybus_services.demo.picture import Picture, Snapshot
from polybus_services.demo.processes import Child, ChildFailed, child
from polybus_services.demo.reckoning import Summary, reckon
from polybus_services.demo.screen import Output
from polybus_services.nats_server import NatsServer, nats_server

SETTLE_WITHIN_S = 5.0
"""How long the last events may be on their way once the simulator is paused; it takes milliseconds."""

SETTLE_POLL_S = 0.05

POLL_STATUS_S = 1.0
"""How often the gateway is asked for its status."""

OWNER = "polybus-demo"

CONSUMED = f"{PREFIX}.market.>"
"""What the consumer subscribes to: all market data."""


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
        settings.write_text(
            f'[gateway]\nreplica = "demo"\n[nats]\nurl = "{nats.url}"\n'
            f'[feeds.market]\nurl = "{simulator.ready["feeds"]["market"]}"\n'
        )
        async with child(
            "gateway", ["run", "--json", "--config", str(settings)], folder / "gateway.log"
        ) as gateway:
            stop.children.append(gateway)
            summary = await _Show(options, output, stop, nats, simulator, gateway).run()
    if gateway.status != 0:
        raise ChildFailed(f"the gateway did not end in good order: {gateway.end}")
    return summary


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
        self._picture = Picture(self._markets, anyio.current_time())
        self._status: StatusReply | None = None
        self._processes: dict[str, dict[str, object]] = {
            "nats-server": {"pid": nats.pid, "url": nats.url},
            "simulator": {
                "pid": simulator.pid,
                "url": simulator.ready["feeds"]["market"],
                "admin": self._admin,
            },
            "gateway": {"pid": gateway.pid, "url": f"{nats.url} {gateway.ready['control']}.*"},
            "consumer": {"pid": os.getpid(), "url": f"{nats.url} {CONSUMED}"},
        }

    async def run(self) -> Summary:
        """Subscribe, show, compare."""
        summary: Summary | None = None
        async with (
            ControlClient.connect(self._nats.url, name="polybus-demo") as control,
            ControlClient.connect(self._nats.url, name="polybus-demo-consumer") as consumer,
            # Before anything is subscribed to, so that not one event is missed.
            consumer.listen(CONSUMED) as messages,
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
        assets = [asset for both in self._markets.values() for asset in both]
        self._output.progress(f"subscribing to {len(assets)} assets ...")
        reply = await control.subscribe(assets=assets, owner=OWNER, wait="data")
        if reply.missing:
            self._output.progress(f"{len(reply.missing)} assets have no data yet: {reply.missing[0].reason}")

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
            markets=list(picture.rows.values()),
            events_received=picture.follower.events,
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
            summary = reckon(await venue.sent(self._admin), await control.status(), self._picture, seconds)
            if (summary.agree and summary == before) or anyio.current_time() > deadline:
                return summary
            before = summary
            await anyio.sleep(SETTLE_POLL_S)
