"""A gateway that is killed, ended or stopped while the venue goes on, and an account of what happened meanwhile.

It is a process, so what it had read and not said nobody can know: an outsider at the venue tells what there was.
Each event must have been received, and be in the record, or lie between a gap and the event that closes it.
"""

import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import msgspec

from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.replay import first, replay
from polybus_services.simulator import Simulator, running_simulator
from polybus_services.simulator.probe import AdminClient

from .chaos import FAMILIES, STORED_WITHIN_S, VENUE
from .consumer import PREFIX, Consumer, StreamRecord, consuming
from .laid import judge, received_of, witnesses
from .process import gateway_process
from .told import Account, missing
from .witness import Witness


class Lives:
    """See the module."""

    def __init__(
        self,
        stack: AsyncExitStack,
        folder: Path,
        server: NatsServer,
        simulator: Simulator,
        consumer: Consumer,
    ) -> None:
        self.admin = AdminClient(simulator.admin)
        self.consumer = consumer
        self.watched: dict[str, Witness] = {}
        self.process: anyio.abc.Process
        self._stack = stack
        self._folder = folder
        self._server = server
        self._simulator = simulator

    async def begin(self) -> None:
        """Start a gateway, which takes up what the one before it was asked for."""
        running = gateway_process(
            self._server.url,
            {feed: self._simulator.feeds[feed] for feed in FAMILIES},
            self._folder,
            self._simulator.accounts,
        )
        self.process = (await self._stack.enter_async_context(running)).process

    def signal(self, number: signal.Signals) -> None:
        """Send the gateway a signal."""
        self.process.send_signal(number)

    async def until_well(self) -> None:
        """Wait until each asset, and some account, has said something that is younger than this and may be believed."""
        since = time.time_ns()

        def is_well() -> bool:
            streams = self.consumer.streams.items()
            return all(_is_heard(self.consumer.of(asset), since) for asset in self._simulator.assets) and any(
                _is_heard(record, since) for key, record in streams if ".user." in key
            )

        await self.consumer.until(is_well, within_s=40)

    async def account(self, recovered_s: float) -> Account:
        """Let the venue stand still, and lay what there was beside what was received, and what is recorded."""
        assert (await self.admin.ask("POST", "/pause"))["unflushed"] == []
        # What happened to an account meanwhile is told of with the next event of the same market.
        for account in self._simulator.accounts:
            for market in self._simulator.markets:
                await self.admin.happen("order", str(market["market"]), account["label"])
        await self.admin.step(0)
        heard = {name: await witness.facts() for name, witness in self.watched.items()}
        end = anyio.current_time() + STORED_WITHIN_S
        while True:
            await self.consumer.flush()
            record = await self._record()
            (tallies, faults), (_, missed) = (
                judge(received_of(one), heard) for one in (record, self.consumer)
            )
            streams = [*record.streams.values(), *self.consumer.streams.values()]
            faults += missed + _not_recorded(self.consumer, record)
            faults += [fault for stream in streams for fault in stream.faults]
            if not faults or anyio.current_time() > end:
                break
        covered = sum(tally["covered"] for tally in tallies.values())
        received = sum(tally["received"] for tally in tallies.values())
        twice = sum(stream.repeated for stream in streams)
        return Account(
            events=covered + received, in_gaps=covered, twice=twice, recovered_s=recovered_s, faults=faults
        )

    async def _record(self) -> Consumer:
        """What somebody is told who reads the record from its beginning."""
        reader = Consumer(self.consumer.client, PREFIX)
        for family in FAMILIES:
            async with replay(reader.client, f"{PREFIX}.{family}.>", start=first()) as events:
                async for recorded in events:
                    await reader.take(recorded.message)
                    if not recorded.pending:
                        break
        return reader


def _is_heard(record: StreamRecord, since: int) -> bool:
    return record.is_trusted and record.events[-1]["received_time"] > since


def _not_recorded(live: Consumer, record: Consumer) -> list[str]:
    """What was received live, and can be neither replayed nor is in a gap."""
    faults: list[str] = []
    for key, received in live.streams.items():
        stored = (
            {json.dumps(event) for event in record.streams[key].events} if key in record.streams else set()
        )
        faults += missing(
            key,
            "in the record",
            [(event["epoch"], event["seq"]) for event in received.events if json.dumps(event) not in stored],
        )
    return faults


@asynccontextmanager
async def lives(folder: Path) -> AsyncIterator[Lives]:
    """A server, the venue, a gateway that follows it, a consumer and an outsider, for the length of a block."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server())
        simulator = await stack.enter_async_context(
            running_simulator(msgspec.structs.replace(VENUE, rate=60))
        )
        consumer = await stack.enter_async_context(consuming(server.url))
        subject = Lives(stack, folder, server, simulator, consumer)
        await subject.begin()
        await consumer.ask("subscribe", assets=simulator.assets, wait="data")
        for account in simulator.accounts:
            await consumer.ask("subscribe", feed="user", account=account["label"], wait="sent")
        subject.watched = await stack.enter_async_context(witnesses(simulator, FAMILIES))
        await subject.admin.ask("POST", "/resume")
        yield subject
