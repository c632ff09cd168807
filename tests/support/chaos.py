"""Trouble with NATS, one fault at a time, and an account of every event: stored, received, or covered by a gap.

The simulator says what happens through a real gateway, whose streams are a real server's.  Whatever happens meanwhile,
in the end all that the venue's ledger has as sent has its place in a stream key, and each place must be in the record,
or in a gap of it; a core consumer must have it, too; and what comes twice must show as such.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from polybus_actors.publishing.bus import ID_HEADER_BYTES
from polybus_actors.publishing.delivery import UNRECORDED, DeliverySettings, Recording
from polybus_actors.publishing.login import NatsSettings
from polybus_actors.publishing.outbox import OVERFLOW, TOO_LARGE, UNCERTAIN
from polybus_actors.publishing.streams import StreamsSettings
from polybus_protocol.stream import Publication
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.replay import NotRecorded, first, replay
from polybus_services.simulator import CrowdOptions, SimulatorOptions, running_simulator

from .chaos_servers import MAX_PAYLOAD, configure, free_ports, new_key, until_elected
from .consumer import PREFIX, Place, consuming
from .five import follow
from .proxy import Proxy, proxy_to
from .rig import QUICK_FEEDS, Rig, accounts_of, running_gateway
from .told import Account, Heard, missing
from .until import a_moment

FAMILIES = ("market", "user")
"""Of the events that are accounted for; each has a stream of its own."""

VENUE = SimulatorOptions(
    markets=2,
    seed=5,
    rate=100,
    paused=True,
    account_share=0.5,
    crowd=CrowdOptions(new_market_share=0.0, resolve_share=0.0),
)
"""Few streams and busy ones, half of what happens an account's; and always the same streams."""

WELL_WITHIN_S = 60.0
"""Seconds in which all must be well again: the slowest fault, a leader's loss, takes a tenth of that."""

STORED_WITHIN_S = 10.0
"""Seconds in which what is handed over is stored, or in a gap: without trouble it takes milliseconds."""


class Chaos:
    """See the module."""

    def __init__(self, folder: Path, servers: Sequence[NatsServer], key: str, proxy: Proxy, rig: Rig) -> None:
        self.folder = folder
        self.servers = servers
        self.server = servers[0]
        self.proxy = proxy
        self.rig = rig
        self.gateway = rig.gateway
        self.bus = rig.gateway.bus
        self.client = rig.consumer.client
        """Somebody else's, beside the line that is cut."""
        self.live = Heard()
        """What a core subscriber was told."""
        self.before = Heard()
        """What the record held before it was lost."""
        self.said: dict[str, dict[Place, Publication]] = defaultdict(dict)
        """All that the gateway has given a place to, by stream key."""
        self._put: list[Publication] = []
        """The same and all else, in order."""
        self._key = key
        self._least_payload = MAX_PAYLOAD
        self.hand_on = rig.gateway.outbox.put
        rig.gateway.outbox.put = self._note  # type: ignore[method-assign]

    def _note(self, publications: list[Publication]) -> None:
        self._put += publications
        for one in publications:
            if one.stream.family in FAMILIES:
                self.said[one.subject.rpartition(".")[0]][one.epoch, one.seq] = one
        self.hand_on(publications)

    # --- the producer ------------------------------------------------------------------------------

    async def says(self, times: int) -> None:
        """So many things happen on the venue at once; each is an event of two assets, or of an account, or of both."""
        await self.rig.admin.step(times)

    async def goes_on(self) -> None:
        """From now on something happens all the time."""
        await self.rig.admin.ask("POST", "/resume")

    async def stands_still(self) -> None:
        """Until further notice nothing happens, and all that has is the gateway's to tell."""
        assert (await self.rig.admin.ask("POST", "/pause"))["unflushed"] == []
        while not self.rig.has_read_all():
            await a_moment()

    # --- faults ------------------------------------------------------------------------------------

    def write(self, **changes: Any) -> None:
        """Write the server's configuration anew, to be read at its next start or reload; see `configure`."""
        configure(self.folder, 0, **{"gateway": self._key, **changes})
        self._least_payload = min(self._least_payload, changes.get("max_payload", MAX_PAYLOAD))

    async def set_aside(self) -> None:
        """Let nothing be under way, and note what the record holds, as it is about to be lost."""
        await self.stands_still()
        self.before = await self.read_until_accounted()

    async def leader_of(self, stream: str) -> NatsServer:
        """The server of the cluster that leads a stream."""
        info = await self.client.jetstream().stream_info(stream)
        assert info.cluster is not None
        assert info.cluster.leader is not None
        return self.servers[int(info.cluster.leader.removeprefix("n"))]

    # --- the account -------------------------------------------------------------------------------

    def ailing(self) -> list[str]:
        """What is not well; nothing once everything is out, every asset is live, and every stream stores."""
        ailing = [] if self.bus.is_connected else ["NATS is away"]
        if waiting := len(self.gateway.outbox):
            ailing.append(f"{waiting} events wait")
        ailing += [
            f"{one.family} lacks {one.missed} events: {one.reason}"
            for one in self.recordings
            if one.reason is not None or one.missed
        ]
        for pool in self.gateway.pools:
            ailing += [f"{s.asset} is {s.trust.value}" for s in pool.asset_streams() if not s.live]
        return ailing

    @property
    def recordings(self) -> list[Recording]:
        """How each family gets into its stream."""
        return [self.gateway.recordings[family] for family in FAMILIES]

    async def until_well(self, times: int = 1) -> None:
        """Wait until nothing ails, and each stream has acknowledged so many times from now on; the venue goes on.

        Raises:
            TimeoutError: something ails for long; the text says what.
        """
        await self.goes_on()
        least = [(one, one.acks + times) for one in self.recordings]
        end = anyio.current_time() + WELL_WITHIN_S
        while (ailing := self.ailing()) or any(one.acks < acks for one, acks in least):
            if anyio.current_time() > end:
                acks = [f"{one.family} has {one.acks} acks of {acks}" for one, acks in least]
                raise TimeoutError(f"not well within {WELL_WITHIN_S:g} s: {'; '.join(ailing + acks)}")
            await a_moment()

    async def read_record(self) -> Heard:
        """All that the streams hold."""
        heard = Heard()
        for family in FAMILIES:
            async with replay(self.client, f"{PREFIX}.{family}.>", start=first()) as events:
                if events.waiting:
                    async for recorded in events:
                        await heard.take(recorded.message)
                        if not recorded.pending:
                            break
        return heard

    async def read_until_accounted(self) -> Heard:
        """The record, once it accounts for everything, or has had time to."""
        assert await self.bus.flush(15)
        end = anyio.current_time() + STORED_WITHIN_S
        while True:
            is_late = anyio.current_time() > end
            try:
                record = await self.read_record()
            except NotRecorded:
                # A cluster that has just elected a leader may be slow to make a consumer: readers ask again.
                if is_late:
                    raise
            else:
                if is_late or not self._missing(record):
                    return record

    def _missing(self, record: Heard) -> list[str]:
        """What is neither stored nor in a gap of the record, and what of accounts is not stored."""
        faults: list[str] = []
        for key, said in self.said.items():
            now, earlier = record.streams[key], self.before.streams[key]
            absent = said.keys() - now.events.keys() - earlier.events.keys()
            faults += missing(
                key, "stored, nor in a gap", [p for p in absent if not (now.covers(p) or earlier.covers(p))]
            )
            if ".user." in key:
                # Nothing here is the venue's doing, nor a reason to hang up on it.
                gaps = [place for place, one in said.items() if one.subject.endswith(".gap")]
                faults += missing(key, "said in one stretch", gaps)
                refused = {p for p in absent if len(said[p].payload) + ID_HEADER_BYTES > self._least_payload}
                faults += missing(key, "stored, and are an account's", absent - refused)
        return faults

    async def account(self, recovered_s: float) -> Account:
        """Stop, and lay what the venue sent beside what was said, and that beside what was stored and received."""
        # The first ack may have been under way; the second one vouches for what was said before now.
        await self.until_well(times=2)
        await self.stands_still()
        record = await self.read_until_accounted()
        await self.rig.consumer.flush()
        account = Account(
            recovered_s=recovered_s, faults=await self._told_otherwise() + self._missing(record)
        )
        for key, said in self.said.items():
            everybody = [heard.streams[key] for heard in (record, self.before, self.live)]
            stored = everybody[0].events.keys() | everybody[1].events.keys()
            live = everybody[2]
            account.events += len(said)
            account.in_gaps += len(said.keys() - stored)
            counted = {place: one.lost_by for place, one in said.items() if one.lost_by is not None}
            given_up = {place for place, why in counted.items() if why in (OVERFLOW, TOO_LARGE)}
            doubted = counted.keys() - given_up
            account.given_up += len(given_up)
            account.doubted += len(doubted)
            account.doubted_stored += len(doubted & stored)
            account.faults += missing(
                key, "where they are counted: given up, and there", given_up & (stored | live.events.keys())
            )
            account.faults += missing(key, "stored, nor counted", said.keys() - stored - counted.keys())
            if not self.rig.consumer.has_been_away:
                absent = said.keys() - live.events.keys()
                account.faults += missing(key, "received, nor counted", absent - counted.keys())
                account.faults += missing(
                    key, "received, nor in a gap", [place for place in absent if not live.covers(place)]
                )
            account.faults += missing(key, "what was said", (stored | live.events.keys()) - said.keys())
            for told in everybody:
                account.twice += told.twice
                account.faults += [f"{key}: {fault}" for fault in told.faults()]
        account.faults += self._counted_otherwise()
        return account

    def _counted_otherwise(self) -> list[str]:
        """Where `status` tells of other numbers than there are events that were lost, each counted once."""
        outbox, lost = self.gateway.outbox, Counter(one.lost_by for one in self._put)
        told = {
            OVERFLOW: outbox.dropped,
            TOO_LARGE: outbox.too_large,
            UNCERTAIN: outbox.uncertain,
            UNRECORDED: outbox.unrecorded,
        }
        return [
            f"{lost[why]} events are lost by {why}, and {number} are told of"
            for why, number in told.items()
            if lost[why] != number
        ]

    async def _told_otherwise(self) -> list[str]:
        """Where the venue's ledger has other events as sent than the gateway has said."""
        faults: list[str] = []
        for feed in FAMILIES:
            said = Counter[tuple[str, str]]()
            for key, publications in self.said.items():
                for one in publications.values():
                    kind = one.subject.rpartition(".")[2]
                    if (
                        one.stream.family == feed
                        and kind != "gap"
                        and b'"origin":"witness"' not in one.payload
                    ):
                        said[self.rig.consumer.stream_of(key), kind] += 1
            ledger = await self.rig.ledger(feed)
            sent, mirrored = ledger["sent"], ledger.get("mirrored", {})
            faults += [
                f"{place}: the venue sent {sent.get(place, 0)} (and {mirrored.get(place, 0)}), and {said[place]} were said"
                for place in said.keys() | sent.keys()
                if not sent.get(place, 0) <= said[place] <= sent.get(place, 0) + mirrored.get(place, 0)
            ]
        return faults


@asynccontextmanager
async def chaos(
    folder: Path, *, nodes: int = 1, proxied: bool = False, ack_timeout_s: float = 1.0, **settings: Any
) -> AsyncIterator[Chaos]:
    """Servers, the venue, a gateway that follows it, and a consumer, for the length of a block.

    Args:
        folder: for the servers' configurations, their stores and the gateway's key.
        nodes: servers; three make a cluster, and three copies of each stream.
        proxied: whether there is a line between gateway and server that can be cut.
        ack_timeout_s: of the delivery.
        settings: of the gateway.
    """
    async with AsyncExitStack() as stack:
        ports, servers, key = free_ports(2 * nodes), list[NatsServer](), new_key(folder)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[:nodes])
        for number in range(nodes):
            cluster = f"server_name: n{number}\ncluster {{ name: c, listen: 127.0.0.1:{ports[number]}, routes: [{routes}] }}"
            config, store = configure(folder, number, gateway=key, cluster=cluster if nodes > 1 else "")
            server = nats_server(config=config, jetstream=False, store_dir=store, port=ports[nodes + number])
            servers.append(await stack.enter_async_context(server))
        proxy = await stack.enter_async_context(proxy_to(servers[0].port))
        simulator = await stack.enter_async_context(running_simulator(VENUE))
        urls = [f"nats://other:x@127.0.0.1:{server.port}" for server in servers]
        consumer = await stack.enter_async_context(consuming(*urls))
        if nodes > 1:
            await until_elected(consumer.client, nodes)
        gateway, ended = await stack.enter_async_context(
            running_gateway(
                NatsSettings(
                    url=proxy.url if proxied else ",".join(server.url for server in servers),
                    nkey=str(folder / "gateway.nk"),
                ),
                {feed: simulator.feeds[feed] for feed in FAMILIES},
                QUICK_FEEDS,
                accounts_of(simulator),
                streams=StreamsSettings(replicas=3 if nodes > 1 else 1),
                delivery=DeliverySettings(ack_timeout_s=ack_timeout_s),
                # They are counted where they are lost, and no gap tells of them: the next one is whole.
                last_books_per_s=0,
                **settings,
            )
        )
        rig = Rig(servers[0], proxy, simulator, gateway, ended, consumer)
        subject = Chaos(folder, servers, key, proxy, rig)
        for family in FAMILIES:
            await consumer.client.subscribe(f"{PREFIX}.{family}.>", cb=subject.live.take)
        await follow(rig, *FAMILIES)
        yield subject
