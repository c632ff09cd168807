"""Chaos: whatever happens to NATS, each event is stored and received, or lies in a gap; those of accounts are all there.

`make chaos SECONDS=600 SEED=7` does it again and again, with the deadlines of production, and prints a table.
"""

import os
import random
import signal
import statistics
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import anyio
import pytest
from nats.js.api import DiscardPolicy

from polybus_actors.publishing.brake import HELD_BACK
from polybus_protocol.stream import Publication
from polybus_services.nats_server import find_nats_server

from ..support.chaos import Chaos, chaos
from ..support.chaos_servers import can_mount, mute_subscriber, new_key, small_disk, version_of
from ..support.lives import Lives, lives
from ..support.rig import QUICK, market_of
from ..support.told import Account
from ..support.until import a_moment

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

SECONDS = float(os.environ.get("POLYBUS_CHAOS_SECONDS") or 0)
SEED = int(os.environ.get("POLYBUS_CHAOS_SEED") or 1)

COUNTS = ("events", "in_gaps", "given_up", "doubted", "doubted_stored", "twice")
"""What the table tells of."""

WITHIN_S = 120.0
"""Seconds in which a run is over: nothing may hang."""

SMALL = 1_400
"""Bytes that no book of the simulator fits in, and nearly all else does."""

NAMES = ("POLYBUS_MARKET", "POLYBUS_USER")


async def until_away(chaos: Chaos) -> None:
    while chaos.bus.is_connected:
        await a_moment()


async def killed(chaos: Chaos) -> None:
    """SIGKILL, and a restart at once."""
    chaos.server.kill()
    await chaos.server.restart()


async def killed_and_away(chaos: Chaos) -> None:
    """SIGKILL, and a backlog until the server is back."""
    chaos.server.kill()
    await until_away(chaos)
    await chaos.says(300)
    await chaos.server.restart()


async def held_back(chaos: Chaos) -> None:
    """SIGKILL, and events of accounts fill the whole backlog: they are not read any more until the server is back."""
    outbox = chaos.gateway.outbox
    chaos.server.kill()
    while any(one.reason != HELD_BACK for one in chaos.rig.connections if one.feed == "user"):
        await chaos.says(50)
    kept = outbox.kept
    await chaos.says(500)
    assert outbox.kept == kept
    await chaos.server.restart()


async def restarted(chaos: Chaos) -> None:
    """SIGTERM and a restart."""
    await chaos.server.restart()


async def frozen(chaos: Chaos) -> None:
    """SIGSTOP until the bus has given the peer up, then SIGCONT."""
    chaos.server.freeze()
    while chaos.bus.client is not None:
        await a_moment()
    chaos.server.thaw()


async def paused(chaos: Chaos) -> None:
    """SIGSTOP for a moment that nobody needs to notice."""
    chaos.server.freeze()
    await anyio.sleep(0.3)
    chaos.server.thaw()


async def wiped(chaos: Chaos) -> None:
    """The server comes back without its store."""
    await chaos.set_aside()
    await chaos.server.terminate()
    await until_away(chaos)
    chaos.server.wipe()
    await chaos.says(80)
    await chaos.server.start()


async def cut(chaos: Chaos) -> None:
    """The line swallows what it is given, and is then cut."""
    handed = chaos.bus.published
    chaos.proxy.hold()
    while chaos.bus.published < handed + 100:
        await a_moment()
    chaos.proxy.cut()


async def slow(chaos: Chaos) -> None:
    """Somebody subscribes and reads nothing: the server cuts them off, and nobody else is harmed."""
    with mute_subscriber(chaos.server.port):
        while "Slow Consumer" not in chaos.server.log.read_text():
            await chaos.says(50)
            await chaos.bus.flush(5)


async def deleted(chaos: Chaos) -> None:
    """The streams are deleted under our hands, and made anew."""
    await chaos.set_aside()
    for name in NAMES:
        await chaos.client.jetstream().delete_stream(name)
    await chaos.says(80)


async def smaller(chaos: Chaos) -> None:
    """`max_payload` is lowered by a reload: books are larger, and lost alone, with a gap; until a start with the old one."""
    chaos.write(max_payload=SMALL)
    chaos.server.reload()
    while chaos.bus.client is None or chaos.bus.client.max_payload != SMALL:
        # Who has published what is too large is cut off, and knows better from then on; a trade has books say anew.
        await chaos.rig.admin.happen("trade", market_of(chaos.rig, chaos.rig.assets[0]))
    lost = chaos.gateway.outbox.too_large
    while chaos.gateway.outbox.too_large < lost + 4:
        await a_moment()
    chaos.write()
    await chaos.server.restart()


async def revoked(chaos: Chaos) -> None:
    """The permission to publish events is taken away by a reload, and given back."""
    chaos.write(deny='"polymarket.v1.market.>", "polymarket.v1.user.>"')
    chaos.server.reload()
    while chaos.bus.denied < 100:
        await a_moment()
    chaos.write()
    chaos.server.reload()


async def rotated(chaos: Chaos) -> None:
    """The server knows us by another key, since a reload, and our file has that key only later."""
    public = new_key(chaos.folder, "next.nk")
    chaos.write(gateway=public)
    chaos.server.reload()
    await until_away(chaos)
    await chaos.says(80)
    (chaos.folder / "next.nk").replace(chaos.folder / "gateway.nk")


async def full(chaos: Chaos) -> None:
    """Streams that take no more (`discard: new`), until there is room."""
    js = chaos.client.jetstream()
    # Beyond its limit a stream would delete what it holds: nothing may come between the look and the limit.
    await chaos.set_aside()
    infos = [await js.stream_info(name) for name in NAMES]
    for info in infos:
        await js.update_stream(
            info.config.evolve(max_bytes=max(info.state.bytes, 1), discard=DiscardPolicy.NEW)
        )
    await chaos.goes_on()
    while any(one.reason is None for one in chaos.recordings):
        await a_moment()
    await chaos.says(80)
    for info in infos:
        await js.update_stream(info.config)


async def leader_killed(chaos: Chaos) -> None:
    """SIGKILL for the leader of a stream, in a cluster of three; it comes back while the others elect another."""
    leader = await chaos.leader_of("POLYBUS_USER")
    leader.kill()
    await leader.restart()


async def disk_full(chaos: Chaos) -> None:
    """Somebody fills the server's disk; then there is room, and the server is started anew: else it stores no more."""
    junk = chaos.folder / "0" / "junk"
    with junk.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    while all(one.reason is None for one in chaos.recordings):
        await a_moment()
    await chaos.says(80)
    junk.unlink()
    await chaos.server.restart()


FAULTS: dict[str, Callable[[Chaos], Awaitable[None]]] = {
    "killed": killed,
    "killed, and a backlog": killed_and_away,
    "backlog full": held_back,
    "restarted": restarted,
    "frozen": frozen,
    "paused": paused,
    "store wiped": wiped,
    "line cut": cut,
    "slow subscriber": slow,
    "streams deleted": deleted,
    "max_payload lowered": smaller,
    "permission revoked": revoked,
    "key rotated": rotated,
    "streams full": full,
    "disk full": disk_full,
    "leader killed": leader_killed,
}

ONLY_LONG = {"disk full", "leader killed"}
"""The one needs root, for a disk of its own, the other a cluster."""


async def gateway_killed(gateway: Lives) -> None:
    """SIGKILL; the next one is started half a second later."""
    gateway.signal(signal.SIGKILL)
    await gateway.process.wait()
    await anyio.sleep(0.5)


async def gateway_ended(gateway: Lives) -> None:
    """SIGTERM, and the next one is started when it has ended."""
    gateway.signal(signal.SIGTERM)
    with anyio.fail_after(10):
        assert await gateway.process.wait() == 0


async def gateway_stopped(gateway: Lives) -> None:
    """SIGSTOP for longer than it takes a silent socket for alive, then SIGCONT."""
    gateway.signal(signal.SIGSTOP)
    await anyio.sleep(QUICK.silence_timeout_s + 1)
    gateway.signal(signal.SIGCONT)


async def gateway_paused(gateway: Lives) -> None:
    """SIGSTOP for a moment."""
    gateway.signal(signal.SIGSTOP)
    await anyio.sleep(0.5)
    gateway.signal(signal.SIGCONT)


OF_THE_GATEWAY: dict[str, Callable[[Lives], Awaitable[None]]] = {
    "gateway killed": gateway_killed,
    "gateway ended": gateway_ended,
    "gateway stopped": gateway_stopped,
    "gateway paused": gateway_paused,
}


async def run_gateway(folder: Path, *names: str) -> Account:
    """Faults of the gateway one after another, from a healthy start to a healthy end."""
    over_at = 0.0
    with anyio.fail_after(WITHIN_S):
        async with lives(folder) as subject:
            await subject.until_well()
            await subject.consumer.until(lambda: subject.consumer.received > 150, WITHIN_S)
            for name in names:
                await OF_THE_GATEWAY[name](subject)
                over_at = anyio.current_time()
                if subject.process.returncode is not None:
                    await subject.begin()
                await subject.until_well()
            return await subject.account(anyio.current_time() - over_at)


async def run(name: str, folder: Path) -> Account:
    """One fault, from a healthy start to a healthy end."""
    settings = {"backlog_messages": 200} if name == "backlog full" else {}
    if name in OF_THE_GATEWAY:
        return await run_gateway(folder, name)
    nodes = 3 if name == "leader killed" else 1
    with small_disk(folder / "0") if name == "disk full" else nullcontext(), anyio.fail_after(WITHIN_S):
        async with chaos(folder, nodes=nodes, proxied=name == "line cut", **settings) as subject:
            await subject.until_well()
            await FAULTS[name](subject)
            over_at = anyio.current_time()
            # Something must come through after the fault, or nothing was there to recover from.
            await subject.until_well()
            return await subject.account(anyio.current_time() - over_at)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ONLY_LONG])
async def test_each_event_is_accounted_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored, or in a gap of the record; received by whoever was there; and all of those of accounts."""
    monkeypatch.setattr("polybus_actors.publishing.bus.MARKER_TIMEOUT_S", 1.0)
    monkeypatch.setattr("polybus_actors.publishing.bus.CLOSE_TIMEOUT_S", 0.2)
    account = await run(name, tmp_path)
    assert account.faults == []
    assert account.events > 100


async def test_a_gateway_that_is_stopped_and_killed(tmp_path: Path) -> None:
    """What the venue says meanwhile lies in a gap or is received, and what was received is recorded."""
    account = await run_gateway(tmp_path, "gateway paused", "gateway killed")
    assert account.faults == []
    assert account.in_gaps > 0


async def test_the_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that disappears is found: on its way to NATS by the account, and before it has a place by the ledger."""
    monkeypatch.setattr("tests.support.chaos.STORED_WITHIN_S", 0.2)
    with anyio.fail_after(WITHIN_S):
        async with chaos(tmp_path) as subject:
            await subject.until_well()
            await subject.stands_still()
            stolen = list[Publication]()

            def without_last(publications: list[Publication]) -> None:
                stolen.extend(publications[-1:])
                put(publications[:-1])

            # The account notes what is put, and what it hands on is on its way.
            put, subject.hand_on = subject.hand_on, without_last
            await subject.says(1)
            await subject.stands_still()
            subject.hand_on = put
            assert stolen
            faults = "\n".join((await subject.account(0.0)).faults)
            for one in stolen:
                assert f"({one.epoch}, {one.seq})" in faults
            assert "are not stored, nor in a gap" in faults
            assert "are not received, nor in a gap" in faults
            subject.said[max(subject.said)].popitem()
            assert "the venue sent" in "\n".join((await subject.account(0.0)).faults)


# What nats-py has opened and a killed server has not answered, it leaves to the garbage collector.
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
LONG = pytest.mark.skipif(not SECONDS, reason="`make chaos` runs it")


@LONG
@UNCLOSED
async def test_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One fault after another, with the deadlines of production; a table of what became of it."""
    dice, accounts = random.Random(SEED), dict[str, list[Account]]()
    end, names = anyio.current_time() + SECONDS, [*FAULTS, *OF_THE_GATEWAY]
    notes = list[str]()
    if not can_mount():
        names.remove("disk full")
        notes.append("without a full disk: only root can mount a small one")
    if not (version := version_of(find_nats_server())).startswith("2.9."):
        notes.append(
            f"with nats-server {version} only: name one of 2.9 in NATS_SERVER_BIN to have that tried, too"
        )
    while anyio.current_time() < end or len(accounts) < len(names):
        for name in dice.sample(names, len(names)):
            folder = tmp_path / str(sum(map(len, accounts.values())))
            folder.mkdir()
            try:
                account = await run(name, folder)
            except TimeoutError as error:
                account = Account(faults=[f"it hangs: {str(error) or f'not over within {WITHIN_S:g} s'}"])
            accounts.setdefault(name, []).append(account)
    with capsys.disabled():
        print("", f"{find_nats_server()}, seed {SEED}", *table(accounts), *notes, sep="\n")
    assert [
        f"{name}: {fault}" for name, found in accounts.items() for one in found for fault in one.faults
    ] == []


def table(accounts: dict[str, list[Account]]) -> list[str]:
    """A row for each fault, as Markdown."""
    rows = [
        "| fault | runs | events | in gaps | given up | in doubt | of them stored | twice | recovered after s: median | worst |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in (name for name in [*FAULTS, *OF_THE_GATEWAY] if name in accounts):
        found = accounts[name]
        times = [one.recovered_s for one in found]
        numbers = [
            len(found),
            *(sum(getattr(one, what) for one in found) for what in COUNTS),
        ]
        told = [
            *(f"{number:,}" for number in numbers),
            f"{statistics.median(times):.2f}",
            f"{max(times):.2f}",
        ]
        rows.append(f"| {name} | {' | '.join(told)} |")
    return rows
