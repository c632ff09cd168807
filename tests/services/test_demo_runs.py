"""The demo as somebody runs it: that its numbers agree, and that it leaves nothing behind."""

import contextlib
import http.client
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
import pytest

from polybus_services.simulator.people import People

from ..support.five import FEEDS
from .terminal import Running, is_gone, polybus, running


@pytest.mark.anyio
async def test_two_seconds_of_everything() -> None:
    """Snapshots once a second with all feeds live, then a summary whose numbers agree; status 0, no noise."""
    outcome = await polybus("demo", "--seconds", "2.5", "--markets", "4", "--speed", "20", "--json")

    assert (outcome.status, outcome.err) == (0, "")
    *snapshots, summary = map(msgspec.json.decode, outcome.out.splitlines())
    assert [snapshot["type"] for snapshot in snapshots] == ["snapshot"] * len(snapshots)
    assert len(snapshots) >= 1
    last = snapshots[-1]
    assert [row["trust"] for row in last["markets"]] == ["live"] * 4
    assert all(row["best_bid"] or row["best_ask"] for row in last["markets"])
    assert {"nats-server", "simulator", "gateway"} <= set(last["processes"])
    assert [row["feed"] for row in last["feeds"]] == list(FEEDS)
    assert summary["type"] == "summary"
    assert summary["agree"]
    assert summary["events_sent"] - summary["repeated"] == summary["events_published"] > 0
    assert summary["events_published"] == summary["events_received"]
    assert summary["frames_sent"] == summary["frames_received"] > 0
    assert summary["jumps"] == 0
    assert [row["feed"] for row in summary["feeds"]] == list(FEEDS)
    assert all(is_gone(process["pid"]) for process in last["processes"].values())


def secrets_in(text: str) -> list[str]:
    """Which credentials of the simulator's accounts stand in it."""
    accounts = People(seed=1).accounts.values()
    return [
        secret
        for account in accounts
        for secret in (account.api_key, account.secret, account.passphrase)
        if secret in text
    ]


LET_IN = dict.fromkeys(FEEDS) | {"user": True, "polybolt": True}
"""Who is to be let in, by feed; None where nobody asks who we are."""


def logins(shown: dict[str, Any]) -> dict[str, bool | None]:
    """Whether each feed has let us in, by the status shown; nothing as long as none is."""
    connections = (shown["status"] or {"connections": []})["connections"]
    return {one["feed"]: one["authenticated"] for one in connections}


@pytest.mark.anyio
async def test_every_feed_has_its_part() -> None:
    """Each shows something, is let in where it must be, and has a row in the summary whose numbers agree.

    Credentials are on no command line, nor in what is shown: the gateway has them from its environment.
    """
    async with running(["demo", "--markets", "8", "--speed", "20", "--json"]) as demo:
        shown = await demo.json()
        with anyio.fail_after(60):
            # The status shown may be a little older than the events are.
            while not all(row["events"] for row in shown["feeds"]) or logins(shown) != LET_IN:
                assert not secrets_in(json.dumps(shown))
                shown = await demo.json()
        for process in shown["processes"].values() if sys.platform == "linux" else ():
            assert not secrets_in(await anyio.Path(f"/proc/{process['pid']}/cmdline").read_text())
        demo.process.send_signal(signal.SIGINT)
        summary = shown
        while summary["type"] != "summary":
            summary = await demo.json()
        assert await demo.end() == (0, "")

    around = shown["around"]
    assert {row["class"] for row in around["prices"]} == {"crypto", "equity"}
    assert {row["feed"] for row in around["prices"] if row["symbol"] == "btcusd"} == {"rtds", "polybolt"}
    assert {line["about"].split()[0] for line in around["user"]} == {"alice"}
    assert around["games"]
    assert [row["feed"] for row in summary["feeds"]] == list(FEEDS)
    for row in summary["feeds"]:
        assert row["frames_sent"] == row["frames_received"] > 0, row
        assert row["events_published"] == row["events_received"] > 0, row


@pytest.mark.anyio
async def test_a_broken_connection_is_marked_and_the_numbers_still_agree() -> None:
    """With a fault switched on meanwhile, what is missing shows as gaps; Ctrl-C is the ordinary end."""
    async with running(["demo", "--markets", "4", "--json"]) as demo:
        snapshot = await demo.json()
        switch_on(snapshot["processes"]["simulator"]["admin"], "drop")
        while snapshot["gaps"] < 8:
            snapshot = await demo.json()
        demo.process.send_signal(signal.SIGINT)
        while snapshot["type"] != "summary":
            snapshot = await demo.json()
        assert await demo.end() == (0, "")

    assert snapshot["agree"]
    assert "connection_lost" in snapshot["verdict"]


@pytest.mark.anyio
async def test_plain_lines_where_there_is_no_terminal() -> None:
    """Progress and the summary as text; SIGTERM ends it like Ctrl-C."""
    async with running(["demo", "--markets", "2"]) as demo:
        lines = [await demo.line()]
        while "events received" not in lines[-1]:
            lines.append(await demo.line())
        demo.process.send_signal(signal.SIGTERM)
        while "The numbers agree" not in lines[-1]:
            lines.append(await demo.line())
        assert await demo.end() == (0, "")
    assert lines[0].startswith("starting nats-server")


@pytest.mark.anyio
async def test_a_gateway_that_dies_ends_the_demo() -> None:
    """With a sentence and status 1; the other processes end too."""
    async with running(["demo", "--markets", "2", "--json"]) as demo:
        processes = (await demo.json())["processes"]
        os.kill(processes["gateway"]["pid"], signal.SIGKILL)
        with contextlib.suppress(anyio.IncompleteRead):  # a snapshot may still come
            await demo.json()
        status_, err = await demo.end()

    assert status_ == 1
    assert "the gateway ended by itself (killed by SIGKILL)" in msgspec.json.decode(err)["error"]["message"]
    assert all(is_gone(process["pid"]) for process in processes.values())


async def impatient(demo: Running) -> None:
    """Ctrl-C twice."""
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGTERM)
    await demo.end()


async def crash(demo: Running) -> None:
    """End without a chance to tidy up."""
    demo.process.kill()
    await demo.process.wait()


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
@pytest.mark.parametrize("end", [impatient, crash])
async def test_no_process_is_left_behind(end: Callable[[Running], object]) -> None:
    """However the demo ends."""
    async with running(["demo", "--markets", "2", "--json"]) as demo:
        processes = (await demo.json())["processes"]
        handles = [os.pidfd_open(processes[name]["pid"]) for name in ("nats-server", "simulator", "gateway")]
        await end(demo)  # type: ignore[misc]
        for handle in handles:
            await anyio.wait_readable(handle)  # until the process has ended
            os.close(handle)


@pytest.mark.anyio
async def test_without_a_nats_server_one_sentence_says_so() -> None:
    """Status 3: something needed is not there."""
    outcome = await polybus("demo", "--json", NATS_SERVER_BIN="/nowhere")

    assert (outcome.status, outcome.out) == (3, "")
    assert "NATS_SERVER_BIN=/nowhere" in msgspec.json.decode(outcome.err)["error"]["message"]


def switch_on(admin: str, fault: str) -> None:
    parts = urlsplit(admin)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("PUT", f"{parts.path}/faults/{fault}")
    assert connection.getresponse().status == 200
    connection.close()
