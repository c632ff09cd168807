"""Trouble with NATS, one fault at a time, and an account of every event: stored, received, or covered by a gap.

A producer says events of known places without a pause, into the outbox of a bus whose streams are a real server's.
Whatever happens meanwhile, in the end each place of each stream key must be in the record, or in a gap of it; a core
consumer that was connected all the time must have it, too; and what comes twice must show as such.
"""

import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.delivery import DeliverySettings, Recording
from polybus_actors.publishing.lane import Acked
from polybus_actors.publishing.login import NatsSettings
from polybus_actors.publishing.outbox import Outbox
from polybus_actors.publishing.streams import Streams, StreamsSettings, recordings
from polybus_protocol.events import LastTradePrice
from polybus_protocol.stream import Stream
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.replay import first, replay

from .proxy import Proxy, proxy_to

PREFIX = "polymarket.v1"

TICK_S = 0.02
"""Seconds between two handfuls of events: fifty of each kind a second and more."""

LOOK_S = 0.0013
"""Seconds between two looks whether all is well: it is so only between two ticks."""

MAX_PAYLOAD = 1_048_576
"""Bytes that a message may have, as is the default."""

CONFIG = """
max_payload: {max_payload}
max_pending: 2097152
write_deadline: "1s"
{extra}
jetstream: {{ store_dir: "{store}" }}
authorization {{ users: [
  {{ user: gateway, password: x, permissions: {{ publish: {{ allow: ">", deny: [{deny}] }}, subscribe: ">" }} }}
  {{ user: other, password: x }}
] }}
"""
"""Of a server: whoever reads slowly is soon cut off; and what a reload is to change.  JetStream is named here because
nats-server 2.9.10 switches it off at a reload where its command line asks for it."""


class Account(msgspec.Struct):
    """What became of the events of one run."""

    events: int = 0
    in_gaps: int = 0
    """Not stored, and covered by a gap of the record."""
    twice: int = 0
    """Stored or received once more, in the same words and under the same place."""
    recovered_s: float = 0.0
    """Seconds from the end of the fault until all is published and every stream stores again."""
    faults: list[str] = []
    """What is missing without a gap, and what else breaks a promise."""


class Told:
    """What somebody was told of one stream key."""

    def __init__(self) -> None:
        self.events: dict[int, dict[str, Any]] = {}
        """By place."""
        self.covered: set[int] = set()
        """The places that gaps cover."""
        self.twice = 0
        self._late: list[int] = []
        self._odd: list[str] = []

    def take(self, event: dict[str, Any], *, has_id: bool) -> None:
        """Take one event in."""
        seq = event["seq"]
        if event["type"] == "gap":
            self.covered.update(range((event["last_seq"] or 0) + 1, seq + 1))
        elif seq not in self.events:
            if self.events and seq < max(self.events):
                self._late.append(seq)
            self.events[seq] = event
        elif self.events[seq] == event and has_id:
            self.twice += 1
        else:
            self._odd.append(f"{seq} came twice, and nobody could know")

    def faults(self) -> list[str]:
        """What breaks a promise: out of order without a gap that says so, twice without an id."""
        return self._odd + [
            f"{seq} came late, and is in no gap" for seq in self._late if seq not in self.covered
        ]


class Heard:
    """What somebody has received, by stream key."""

    def __init__(self) -> None:
        self.streams: defaultdict[str, Told] = defaultdict(Told)
        self.was_away = False

    async def take(self, message: Msg) -> None:
        """Take one message in."""
        key = message.subject.rpartition(".")[0]
        self.streams[key].take(json.loads(message.data), has_id="Nats-Msg-Id" in (message.headers or {}))

    async def cut_off(self) -> None:
        """The connection is lost, and with it what is published meanwhile."""
        self.was_away = True


class Chaos:
    """See the module."""

    def __init__(self, servers: Sequence[NatsServer], config: Path, proxy: Proxy, client: Client) -> None:
        self.servers = servers
        self.server = servers[0]
        self.proxy = proxy
        self.client = client
        """Somebody else's, beside the line that is cut."""
        self.core = Heard()
        self.before = Heard()
        """What the record held before it was lost."""
        self.large = 0
        """Bytes that every tenth event is as large as."""
        self.is_saying = True
        self._max_payload = MAX_PAYLOAD
        self._config = config
        self.streams: Streams
        self.bus: Bus
        self.outbox: Outbox
        self.keys = [Stream("market", "market", ("0x1", str(number))) for number in range(4)]
        self.keys += [Stream("user", "user", (label, "0x1")) for label in ("alice", "bob")]
        for key in self.keys:
            key.begin(_event("0"), 1_000_000_000, None)

    # --- the producer ------------------------------------------------------------------------------

    def says(self, times: int = 1) -> None:
        """So many events of each stream come."""
        for key in self.keys:
            self.outbox.put(
                [key.publish(_event(self._size_of(key)), 1_000_000_000, None) for _ in range(times)]
            )

    def _size_of(self, key: Stream) -> str:
        # Each event has other words than the one before; some are large.
        return str(key.seq + 1) + "0" * (0 if key.seq % 10 else self.large)

    async def say(self) -> None:
        """Go on without end."""
        while True:
            if self.is_saying:
                self.says()
            await anyio.sleep(TICK_S)

    # --- faults ------------------------------------------------------------------------------------

    def configure(self, *, max_payload: int = MAX_PAYLOAD, deny: str = "") -> None:
        """Write the server's configuration anew, and have it read."""
        self._max_payload = max_payload
        self._config.write_text(
            CONFIG.format(max_payload=max_payload, deny=deny, extra="", store=self._config.with_suffix(""))
        )
        self.server.reload()

    async def set_aside(self) -> None:
        """Let nothing be under way, and note what the record holds, as it is about to be lost."""
        self.is_saying = False
        await self.until_stored()
        self.before = await self.read_record()

    async def leader_of(self, stream: str) -> NatsServer:
        """The server of the cluster that leads a stream."""
        info = await self.client.jetstream().stream_info(stream)
        assert info.cluster is not None
        assert info.cluster.leader is not None
        return self.servers[int(info.cluster.leader.removeprefix("n"))]

    # --- the account -------------------------------------------------------------------------------

    def is_well(self) -> bool:
        """Whether everything is out, and every stream stores."""
        asks = [self.recording(family) for family in ("market", "user")]
        return (
            self.bus.is_connected
            and not len(self.outbox)
            and all(one.reason is None and not one.missed for one in asks)
        )

    def recording(self, family: str) -> Recording:
        """How one family gets into its stream."""
        recording = dict(self.streams.recordings_of(self.streams.states[family]))[family]
        assert recording is not None
        return recording

    async def until_well(self, times: int = 1) -> None:
        """Wait until `is_well`, and each stream has acknowledged so many times from now on; the producer goes on."""
        self.is_saying = True
        asks = [self.recording(family) for family in ("market", "user")]
        least = [(one, one.acks + times) for one in asks]
        while not self.is_well() or any(one.acks < acks for one, acks in least):
            await _a_moment()

    async def until_stored(self) -> None:
        """Wait until the last event of each stream is stored."""
        js = self.client.jetstream(timeout=2)
        for key in self.keys:
            subject = f"{key.key}.{LAST}"
            while True:
                try:
                    message = await js.get_last_msg(f"POLYBUS_{key.family.upper()}", subject)
                except NatsError:
                    await anyio.sleep(TICK_S)
                    continue
                if json.loads(message.data or b"{}")["seq"] >= key.seq:
                    break
                await anyio.sleep(TICK_S)

    async def read_record(self) -> Heard:
        """All that the streams hold."""
        heard = Heard()
        for family in ("market", "user"):
            async with replay(self.client, f"{PREFIX}.{family}.>", start=first()) as events:
                if events.waiting:
                    async for recorded in events:
                        await heard.take(recorded.message)
                        if not recorded.pending:
                            break
        return heard

    async def account(self, recovered_s: float) -> Account:
        """Stop, and lay what was said beside what was stored and received."""
        # The first ack may have been under way; the second one vouches for what was said before now.
        await self.until_well(times=2)
        self.is_saying = False
        assert await self.bus.flush(15)
        # What was repeated may be stored after what is younger, and then the last one stored is not the last.
        self.says()
        assert await self.bus.flush(15)
        await self.until_stored()
        await self.client.flush()
        record, account = await self.read_record(), Account(recovered_s=recovered_s)
        for key in self.keys:
            said, now, earlier = (
                set(range(1, key.seq + 1)),
                record.streams[key.key],
                self.before.streams[key.key],
            )
            stored = now.events.keys() | earlier.events.keys()
            account.events += len(said)
            account.in_gaps += len(said - stored)
            account.faults += _missing(
                key.key, "stored, nor in a gap", said - stored - now.covered - earlier.covered
            )
            if key.family == "user":
                account.faults += _missing(
                    key.key, "stored, and are an account's", said - stored - self._too_large(key)
                )
            if not self.core.was_away:
                core = self.core.streams[key.key]
                missing = said - core.events.keys() - core.covered
                account.faults += _missing(key.key, "received, nor in a gap", missing)
            if unsaid := stored - said:
                account.faults.append(f"{key.key}: {sorted(unsaid)[:5]} were never said")
        for heard in (record, self.before, self.core):
            account.twice += sum(told.twice for told in heard.streams.values())
            account.faults += [
                f"{key}: {fault}" for key, told in heard.streams.items() for fault in told.faults()
            ]
        return account

    def _too_large(self, key: Stream) -> set[int]:
        """The places that the server would not take at all."""
        is_too_large = self.large > self._max_payload
        return {seq for seq in range(1, key.seq + 1) if (seq - 1) % 10 == 0} if is_too_large else set()


LAST = "last_trade_price"


def _event(size: str) -> LastTradePrice:
    return LastTradePrice(market="0x1", asset="1", price="0.5", size=size, side="BUY")


def _missing(key: str, what: str, seqs: set[int]) -> list[str]:
    return [f"{key}: {len(seqs)} are not {what}: {sorted(seqs)[:9]}"] if seqs else []


async def _no_loss(_streams: list[Stream]) -> None:
    pass


def mute_subscriber(port: int) -> socket.socket:
    """A subscriber that reads nothing, with as little room in its kernel as can be."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    raw.sendall(b'CONNECT {"user": "other", "pass": "x", "verbose": false}\r\nSUB polymarket.> 1\r\nPING\r\n')
    return raw


@asynccontextmanager
async def chaos(
    folder: Path, *, nodes: int = 1, proxied: bool = False, ack_timeout_s: float = 1.0
) -> AsyncIterator[Chaos]:
    """Servers, a bus, streams and a producer for the length of a block.

    Args:
        folder: for the servers' configurations.
        nodes: servers; three make a cluster, and three copies of each stream.
        proxied: whether there is a line between bus and server that can be cut.
        ack_timeout_s: of the delivery.
    """
    async with AsyncExitStack() as stack:
        ports, servers = free_ports(2 * nodes), list[NatsServer]()
        for number in range(nodes):
            config = folder / f"{number}.conf"
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[:nodes])
            cluster = f"server_name: n{number}\ncluster {{ name: c, listen: 127.0.0.1:{ports[number]}, routes: [{routes}] }}"
            store = config.with_suffix("")
            config.write_text(
                CONFIG.format(
                    store=store, max_payload=MAX_PAYLOAD, deny="", extra=cluster if nodes > 1 else ""
                )
            )
            servers.append(
                await stack.enter_async_context(
                    nats_server(config=config, jetstream=False, store_dir=store, port=ports[nodes + number])
                )
            )
        proxy = await stack.enter_async_context(proxy_to(servers[0].port))
        addresses = [f"127.0.0.1:{proxy.port if proxied else server.port}" for server in servers]
        client = Client()
        subject = Chaos(servers, folder / "0.conf", proxy, client)
        await client.connect(
            [f"nats://other:x@127.0.0.1:{server.port}" for server in servers],
            reconnect_time_wait=0.02,  # type: ignore[arg-type]  # a float works
            max_reconnect_attempts=-1,
            error_cb=_ignore,
            disconnected_cb=subject.core.cut_off,
        )
        stack.push_async_callback(client.close)
        for key in subject.keys:
            await client.subscribe(f"{key.key}.>", cb=subject.core.take)
        asks = recordings(DeliverySettings(ack_timeout_s=ack_timeout_s))
        lanes = {family: one for family, one in asks.items() if isinstance(one, Acked)}
        subject.outbox = Outbox(100_000, 10**8, lanes=lanes)
        subject.streams = Streams(StreamsSettings(replicas=3 if nodes > 1 else 1), PREFIX, asks)
        url = ",".join(f"nats://gateway:x@{address}" for address in addresses)
        subject.bus = Bus(NatsSettings(url=url), subject.outbox, _no_loss, asks)
        await subject.bus.connect()
        assert subject.bus.client is not None
        while not await subject.streams.check(subject.bus.client):
            await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(subject.bus.run, subject.streams.run)
            tasks.start_soon(subject.say)
            yield subject
            tasks.cancel_scope.cancel()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def _a_moment() -> None:
    await anyio.sleep(LOOK_S)


async def _ignore(_error: Exception) -> None:
    pass
