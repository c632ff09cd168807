"""The record: streams that are created, verified and watched over, on a real server; and what is replayed of them."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.delivery import DeliverySettings, Recording
from polybus_actors.publishing.lane import Acked
from polybus_actors.publishing.login import NatsSettings
from polybus_actors.publishing.outbox import Outbox
from polybus_actors.publishing.streams import Limits, Streams, StreamsSettings, recordings
from polybus_protocol.events import Gap, LastTradePrice, decode_event
from polybus_protocol.stream import Stream
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.replay import (
    NotRecorded,
    Recorded,
    ago,
    at,
    first,
    last_of_each,
    live,
    replay,
    stream_of,
)

from ..support.consumer import StreamRecord
from ..support.until import a_moment, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

PREFIX = "polymarket.v1"


class Record:
    """A bus with its streams, and a client that looks at them."""

    def __init__(self, nats: NatsServer, bus: Bus, outbox: Outbox, streams: Streams, client: Client) -> None:
        self.nats = nats
        self.bus = bus
        self.outbox = outbox
        self.streams = streams
        self.client = client
        self.trades = self._stream("market", "0x1", "1")
        self.orders = self._stream("user", "alice", "0x1")

    def _stream(self, family: str, *ids: str) -> Stream:
        stream = Stream(family, family, ids)
        stream.begin(of_market_1(0), 1_000_000_000, None)
        return stream

    def says(self, stream: Stream, count: int = 1) -> None:
        """Events of a stream come."""
        self.outbox.put(
            [stream.publish(of_market_1(stream.seq + 1), 1_000_000_000, None) for _ in range(count)]
        )

    def recording(self, family: str) -> Recording:
        """How one family gets into its stream."""
        recording = dict(self.streams.recordings_of(self.streams.states[family]))[family]
        assert recording is not None
        return recording

    async def stored(self, count: int) -> None:
        """Wait until so many events are in the record, which is later than when NATS has taken them in."""
        with anyio.fail_after(60):
            while (await self.client.jetstream().stream_info("POLYBUS_MARKET")).state.messages < count:
                pass

    async def read(self, subject: str, until_seq: int) -> list[dict[str, Any]]:
        """All that is recorded of one stream, up to the event of that place."""
        found = []
        with anyio.fail_after(60):
            async with replay(self.client, subject, start=first()) as events:
                async for recorded in events:
                    found.append(json.loads(recorded.message.data))
                    if found[-1]["seq"] == until_seq and found[-1]["type"] != "gap":
                        return found
        return found


def of_market_1(size: int) -> LastTradePrice:
    return LastTradePrice(market="0x1", asset="1", price="0.5", size=str(size), side="BUY")


async def no_loss(_streams: list[Stream]) -> None:
    pass


@asynccontextmanager
async def recording(nats: NatsServer, **settings: Any) -> AsyncIterator[Record]:
    """A bus and its streams for the length of a block."""
    asks = recordings(DeliverySettings(ack_timeout_s=0.5, **settings.pop("delivery", {})))
    lanes = {family: one for family, one in asks.items() if isinstance(one, Acked)}
    outbox = Outbox(100_000, 10**8, lanes=lanes)
    streams = Streams(StreamsSettings(**settings), PREFIX, asks)
    bus = Bus(NatsSettings(url=nats.url), outbox, no_loss, asks)
    await bus.connect()
    assert bus.client is not None
    await streams.check(bus.client)
    client = await nats_py.connect(nats.url, reconnect_time_wait=0.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bus.run, streams.run)
        yield Record(nats, bus, outbox, streams, client)
        tasks.cancel_scope.cancel()
    await client.close()


async def test_created_as_configured_and_found_again(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What the server made of each stream is what was asked for; a second gateway finds nothing to complain about."""
    limits = Limits(max_age_s=3600, max_bytes=2_000_000)
    with anyio.fail_after(60):
        for _ in range(2):
            async with recording(nats, market=limits, duplicate_window_s=20) as record:
                assert {state.state for state in record.streams.states.values()} == {"ready"}
                js = record.client.jetstream()
                market = (await js.stream_info("POLYBUS_MARKET")).config
                assert (market.max_age, market.max_bytes, market.duplicate_window) == (3600, 2_000_000, 20)
                assert market.subjects == [f"{PREFIX}.market.>"]
                assert (await js.stream_info("POLYBUS_BOOKS")).config.max_msgs_per_subject == 1
                public = (await js.stream_info("POLYBUS_PUBLIC")).config.subjects or []
                assert sorted(public) == [
                    f"{PREFIX}.{family}.>" for family in ("activity", "comments", "price", "sports")
                ]
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_each_difference_is_told(nats: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that is there is left as it is; what differs is a sentence, in the log and in the status."""
    with anyio.fail_after(60):
        client = await nats_py.connect(nats.url)
        await client.jetstream().add_stream(
            StreamConfig(name="POLYBUS_MARKET", subjects=[f"{PREFIX}.market.*.*.book"], max_age=60)
        )
        await client.close()
        async with recording(nats) as record:
            state = record.streams.states["market"]
            assert state.state == "differs"
            told = " | ".join(state.problems)
            assert f"does not take in {PREFIX}.market.>, but {PREFIX}.market.*.*.book" in told
            assert "its max_age is 60, and should be 86400" in told
            assert "its duplicate_window is 60, and should be 25" in told
            assert not record.recording("market").is_there
            warnings = [one.message for one in caplog.records if one.levelno == logging.WARNING]
            assert len(warnings) == len(state.problems)
            assert all("nats stream edit POLYBUS_MARKET" in warning for warning in warnings)


async def test_left_to_others(nats: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """With `manage = false` nothing is created; events go out `core`, and what was missed is told once a stream is there."""
    with anyio.fail_after(60):
        async with recording(nats, manage=False) as record:
            assert {state.state for state in record.streams.states.values()} == {"absent"}
            assert "let polybus do it (streams.manage = true)" in caplog.text
            record.says(record.trades, 3)
            record.says(record.orders, 2)
            assert await record.bus.flush(5)
            assert (record.recording("market").missed, record.recording("user").missed) == (3, 2)
            js = record.client.jetstream()
            for family in ("market", "user"):
                await js.add_stream(
                    StreamConfig(name=f"POLYBUS_{family.upper()}", subjects=[f"{PREFIX}.{family}.>"])
                )
            record.streams.look()
            await until(lambda: record.outbox.unrecorded == 5)
            record.says(record.trades)
            record.says(record.orders)
            for key, last in ((record.trades.key, 4), (record.orders.key, 3)):
                gap, event = await record.read(f"{key}.>", last)
                assert (gap["type"], gap["reason"], gap["lost"]) == ("gap", "not_recorded", last - 1)
                assert event["seq"] == last


async def test_without_jetstream(caplog: pytest.LogCaptureFixture) -> None:
    """One warning; events are delivered all the same, and whoever wants to replay is told why not."""
    with anyio.fail_after(60):
        async with nats_server(jetstream=False) as nats, recording(nats) as record:
            assert {state.state for state in record.streams.states.values()} == {"unavailable"}
            record.says(record.trades, 3)
            record.says(record.orders, 3)
            assert await record.bus.flush(5)
            assert record.bus.published == 6
            with pytest.raises(NotRecorded, match="no JetStream"):
                async with replay(record.client, f"{PREFIX}.market.>", start=first()):
                    pass
    warnings = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert warnings == [
        "JetStream is not available (JetStream is not enabled): nothing can be replayed of what is delivered now"
    ]


async def test_a_stream_that_is_deleted_comes_back(nats: NatsServer) -> None:
    """It is made anew, with a gap for what the old one should have stored; user events are repeated into it."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            js = record.client.jetstream()
            record.says(record.trades)
            record.says(record.orders)
            assert await record.bus.flush(5)
            await until(lambda: record.recording("market").acks == 1)
            for name in ("POLYBUS_MARKET", "POLYBUS_USER"):
                await js.delete_stream(name)
            record.says(record.trades, 5)
            record.says(record.orders, 5)
            record.streams.look()
            await until(lambda: len(record.outbox) == 0)
            while record.outbox.unrecorded < 5:
                if not len(record.outbox):
                    record.says(record.trades)
                await a_moment()
            record.says(record.trades)
            last = record.trades.seq
            events = await record.read(f"{record.trades.key}.>", last)
            lost = [(event["last_seq"], event["seq"]) for event in events if event["type"] == "gap"]
            assert lost[0][0] == 1
            # From the gap on, everything is there.
            covered = {seq for after, up_to in lost for seq in range(after + 1, up_to + 1)}
            stored = {event["seq"] for event in events if event["type"] != "gap"}
            assert covered | stored | {1} == set(range(1, last + 1))
            orders = await record.read(f"{record.orders.key}.>", 6)
            assert [event["seq"] for event in orders if event["type"] != "gap"] == [2, 3, 4, 5, 6]


async def test_user_events_outlive_the_server(nats: NatsServer) -> None:
    """SIGKILL while events are under way: each is in the record, once and in order; core subscribers ignore repetitions."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            record.says(record.orders, 50)
            assert await record.bus.flush(5)
            record.says(record.orders, 200)
            nats.kill()
            record.says(record.orders, 50)
            await nats.restart()
            assert await record.bus.flush(15)
            events = await record.read(f"{record.orders.key}.>", 300)
            judge = StreamRecord("orders")
            for event in events:
                judge.take(event)
            assert judge.faults == []
            assert [event["seq"] for event in events] == list(range(1, 301))
            assert record.outbox.uncertain == 0


async def test_a_user_event_that_is_too_large(nats: NatsServer) -> None:
    """It is lost alone: its gap stands in the record where it would have stood, before what follows it."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            sizes = ("1", "2", "3" * 2_000_000, "4", "5")
            events = [msgspec.structs.replace(of_market_1(0), size=size) for size in sizes]
            record.outbox.put([record.orders.publish(event, 1_000_000_000, None) for event in events])
            assert await record.bus.flush(5)
            stored = await record.read(f"{record.orders.key}.>", 5)
            told = [(event["type"] == "gap", event["seq"]) for event in stored]
            assert told == [(seq == 3, seq) for seq in range(1, 6)]


@pytest.mark.parametrize(
    ("start", "seqs"),
    [(first(), range(1, 21)), (at(15), range(15, 21)), (ago(3600), range(1, 21)), (live(), range(21, 22))],
    ids=["first", "sequence", "time", "live"],
)
async def test_replay_goes_on_live(nats: NatsServer, start: Any, seqs: range) -> None:
    """From the place that was asked for, then what comes next, without a seam."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            record.says(record.trades, 20)
            await record.stored(20)
            found: list[int] = []
            async with replay(record.client, f"{PREFIX}.market.*.1.>", start=start) as events:
                assert events.waiting == len(seqs) - (start == live())
                record.says(record.trades)
                async for recorded in events:
                    found.append(recorded.event.seq)
                    assert recorded.sequence == found[-1]
                    assert recorded.stream == stream_of(recorded.subject) == "POLYBUS_MARKET"
                    if found[-1] == 21:
                        break
            assert found == [*(seq for seq in seqs if seq < 21), 21]


async def test_an_ordered_consumer_begins_anew_where_it_was(nats: NatsServer) -> None:
    """After a restart of the server it goes on after the last event, and if there was none, with the next one."""
    with anyio.fail_after(60):
        # Each asks for an ack, or the last ones would be in doubt, and told of.
        async with recording(nats, delivery={"every": 1}) as record:
            record.says(record.trades, 20)
            await record.stored(20)
            await until(lambda: record.recording("market").acks == 20)
            async with (
                replay(record.client, f"{PREFIX}.market.>", start=live()) as fresh,
                replay(record.client, f"{PREFIX}.market.>", start=at(19)) as old,
            ):
                assert [(await anext(old)).sequence for _ in range(2)] == [19, 20]
                await nats.restart()
                await until(lambda: record.bus.reconnects == 1)
                record.says(record.trades)
                events = [await anext(old), await anext(fresh)]
                assert [recorded.event.seq for recorded in events] == [21, 21]


async def test_a_durable_consumer_goes_on_where_it_was(nats: NatsServer) -> None:
    """What was asked for next counts as done; what was not comes again to whoever has the name."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            record.says(record.trades, 10)
            await record.stored(10)
            found: list[set[int]] = []
            for wanted in (4, 7):
                found.append(set())
                async with replay(
                    record.client, f"{PREFIX}.market.>", start=first(), durable="desk"
                ) as events:
                    # A server of 2.9 may deliver twice what was given back.
                    while len(found[-1]) < wanted:
                        found[-1].add((await anext(events)).sequence)
                    await record.client.flush()
            # What was fetched and not done is given back at once; the server keeps no order in what it delivers again.
            assert found == [{1, 2, 3, 4}, {4, 5, 6, 7, 8, 9, 10}]


async def test_the_last_of_each(nats: NatsServer) -> None:
    """One event of each subject, the newest; none where there are none."""
    with anyio.fail_after(60):
        async with recording(nats) as record:
            record.says(record.trades, 10)
            record.says(record.trades)
            await record.stored(11)
            (last,) = await last_of_each(record.client, f"{PREFIX}.market.>")
            assert isinstance(last, Recorded)
            assert last.event.seq == 11
            assert await last_of_each(record.client, f"{PREFIX}.books.>") == []


async def test_what_is_not_recorded(nats: NatsServer) -> None:
    """A subject that no stream takes in, and a stream that is not there, are named."""
    client = await nats_py.connect(nats.url)
    for subject in (f"{PREFIX}.system.>", f"{PREFIX}.>", "others.market.>"):
        with pytest.raises(ValueError, match="is not recorded"):
            async with replay(client, subject, start=first()):
                pass
    with pytest.raises(NotRecorded, match="no stream POLYBUS_MARKET"):
        async with replay(client, f"{PREFIX}.market.>", start=first()):
            pass
    await client.close()


def test_gap_of_what_is_not_recorded_is_decoded() -> None:
    """It is a gap as the others."""
    stream = Stream("market", "market", ("0x1", "1"))
    gap = decode_event(stream.mark_lost((1, 2), (1, 4), 3, "not_recorded", 5).payload)
    assert isinstance(gap, Gap)
    assert (gap.last_seq, gap.seq, gap.lost) == (1, 4, 3)
