"""The feeds that want to know who asks: two accounts, missing and wrong credentials, and what is never shown."""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import msgspec
import pytest

from polybus_actors.venue.accounts import Account, Accounts
from polybus_actors.venue.suspicion import MUTE_ENDS
from polybus_services.simulator import Simulator

from ..support.consumer import Refused
from ..support.five import VENUE, follow, is_served
from ..support.rig import ASKS_FOR_PRICES, QUICK_FEEDS, Rig, accounts_of, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

FIELDS = ("api_key", "secret", "passphrase")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue is paused: a test lets things happen by hand."""
    with anyio.fail_after(60):
        async with rigged(VENUE) as running:
            yield running


def with_wrong(field: str, value: str = "d0bb1e00-0000-4000-8000-00000000beef") -> Any:
    """The simulator's accounts, one field of Alice's replaced."""

    def accounts(simulator: Simulator) -> Accounts:
        given = {
            told["label"]: Account(told["api_key"], told["secret"], told["passphrase"])
            for told in simulator.accounts
        }
        given["alice"] = msgspec.structs.replace(given["alice"], **{field: value})
        return Accounts(given, ASKS_FOR_PRICES)

    return accounts


# --- the user feed -----------------------------------------------------------------------------------


async def test_two_accounts(rig: Rig) -> None:
    """Each account has a connection and subjects of its own, and leaves without disturbing the other."""
    await rig.consumer.ask("subscribe", feed="user", account="alice", id="a", wait="sent")
    await rig.consumer.ask("subscribe", feed="user", account="bob", id="b", wait="sent")
    await is_served(rig, "user")
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 20})
    await rig.received_all("user")
    by_account = {
        label: [e for key, r in rig.consumer.streams.items() if f".user.{label}." in key for e in r.events]
        for label in ("alice", "bob")
    }
    for label, events in by_account.items():
        assert len(events) > 20
        assert {event["account"] for event in events} == {label}
    await rig.consumer.ask("unsubscribe", id="a")
    count = len(by_account["bob"])
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 20})
    await rig.settle()
    for key, record in rig.consumer.streams.items():
        is_gone = ".user.alice." in key
        assert record.reasons == (["unsubscribed"] if is_gone else [])
        assert (record.events[-1]["type"] == "gap") == is_gone
    assert sum(len(r.events) for k, r in rig.consumer.streams.items() if ".user.bob." in k) > count


async def test_only_some_markets(rig: Rig) -> None:
    """Wanted markets are published, and no others, though the venue is asked for all of the account."""
    market = str(rig.simulator.markets[0]["market"])
    request: dict[str, Any] = {"feed": "user", "account": "alice", "markets": [market], "wait": "sent"}
    reply = await rig.consumer.ask("subscribe", **request)
    assert reply["subjects"] == [f"polymarket.v1.user.alice.{market}.>"]
    await rig.consumer.ask("subscribe", feed="user", account="bob", wait="sent")
    await is_served(rig, "user")
    await rig.admin.ask("POST", "/step", {"events": 700, "seconds": 20})
    _, ledger = await rig.settle("user")
    received = rig.consumer.counts("user")
    mine = {place: n for place, n in received.items() if place[0].startswith("alice")}
    assert mine == {place: n for place, n in ledger["sent"].items() if place[0] == f"alice/{market}"}
    others = sum(n for (stream, _), n in ledger["sent"].items() if stream.startswith("alice")) - sum(
        mine.values()
    )
    assert (await rig.consumer.ask("status"))["unwanted"] == others > 0


async def test_duplicates_are_left_out_and_counted(rig: Rig) -> None:
    """What the venue says twice about an order or a trade is published once."""
    await follow(rig, "user")
    await rig.admin.fault_on("duplicate", feed="user")
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 20})
    await rig.received_all("user")
    duplicated = sum((await rig.ledger("user"))["duplicated"].values())
    assert duplicated > 50
    assert (await rig.consumer.ask("status"))["duplicates"] == duplicated


@pytest.mark.parametrize("fault", ["drop", "close-1013"])
async def test_a_lost_socket_is_a_gap_on_every_stream(rig: Rig, fault: str) -> None:
    """There is no snapshot here: after the gap, what comes is new, and what came meanwhile is not told."""
    await follow(rig, "user")
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 20})
    await rig.settle()
    before = {key: record.last for key, record in rig.consumer.streams.items()}
    await rig.admin.fault_on(fault, feed="user")
    await rig.consumer.until(
        lambda: all(r.reasons == ["connection_lost"] for r in rig.consumer.streams.values())
    )
    for key, record in rig.consumer.streams.items():
        assert (record.gaps[0]["last_epoch"], record.gaps[0]["last_seq"]) == before[key]
        assert "account" in record.gaps[0]
    await is_served(rig, "user")
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 20})
    await rig.received_all("user")


# --- credentials that are not there ------------------------------------------------------------------


def missing(**credentials: str) -> Any:
    """One account with these credentials only."""
    return lambda _simulator: Accounts({"main": Account(**credentials)} if credentials else {})


@pytest.mark.parametrize("feed", ["user", "polybolt"])
@pytest.mark.parametrize(
    ("accounts", "variables"),
    [
        (missing(), ["POLYBUS_ACCOUNTS__<LABEL>__API_KEY", "__SECRET", "__PASSPHRASE"]),
        (missing(api_key="k", secret="s"), ["POLYBUS_ACCOUNTS__MAIN__PASSPHRASE"]),
        (missing(passphrase="p"), ["POLYBUS_ACCOUNTS__MAIN__API_KEY", "POLYBUS_ACCOUNTS__MAIN__SECRET"]),
    ],
)
async def test_missing_credentials(feed: str, accounts: Any, variables: list[str]) -> None:
    """401 at once, and the answer names the variables to set; the other feeds are served."""
    with anyio.fail_after(60):
        async with rigged(VENUE, accounts=accounts) as rig:
            wish: dict[str, Any] = {"feed": feed} | ({"symbols": ["btcusd"]} if feed == "polybolt" else {})
            with pytest.raises(Refused) as refused:
                await rig.consumer.ask("subscribe", **wish, wait="data")
            assert (refused.value.code, refused.value.error["field"]) == (401, "account")
            for variable in variables:
                assert variable in refused.value.error["message"]
            await rig.subscribe(rig.assets[0])
            status = await rig.consumer.ask("status")
            assert [connection["feed"] for connection in status["connections"]] == ["market"]


async def test_an_unknown_account(rig: Rig) -> None:
    """401 for a label that nobody configured, 400 where the request leaves it open which is meant."""
    for account, code, words in (
        ("carol", 401, "POLYBUS_ACCOUNTS__CAROL__SECRET"),
        (None, 400, "alice, bob"),
    ):
        with pytest.raises(Refused, match=words) as refused:
            await rig.consumer.ask("subscribe", feed="user", account=account)
        assert (refused.value.code, refused.value.error["field"]) == (code, "account")


# --- credentials that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("field", FIELDS)
async def test_wrong_credentials_of_the_user_feed(field: str) -> None:
    """The venue only hangs up: after some times the reason says what that may mean, and dialling slows down."""
    with anyio.fail_after(60):
        async with rigged(VENUE, accounts=with_wrong(field)) as rig:
            request: dict[str, Any] = {
                "feed": "user",
                "account": "alice",
                "wait": "data",
                "wait_timeout_s": 1.5,
            }
            reply = await rig.consumer.ask("subscribe", **request)
            (lacking,) = reply["missing"]
            assert "credentials" in lacking["reason"]
            await rig.consumer.until(
                lambda: sum(event["state"] == "waiting" for event in rig.consumer.system) > MUTE_ENDS
            )
            waits = [event for event in rig.consumer.system if event["state"] == "waiting"]
            least = QUICK_FEEDS["user"].backoff.later_s
            for number, event in enumerate(waits, 1):
                assert ("may not accept the credentials" in event["reason"]) == (number >= MUTE_ENDS)
                assert (event["retry_in_s"] >= least) == (number >= MUTE_ENDS)
            # The other account is none the worse for it.
            await rig.consumer.ask("subscribe", feed="user", account="bob", wait="sent")
            status = await rig.consumer.until_status(lambda s: len(s["connections"]) == 2)
            states = {connection["id"]: connection["state"] for connection in status["connections"]}
            assert states["gw0-user-bob-1"] == "open"


async def test_wrong_credentials_that_are_met_with_silence() -> None:
    """Where the venue neither answers nor hangs up, waiting for data says what the silence may mean."""
    with anyio.fail_after(60):
        async with rigged(VENUE, accounts=with_wrong("secret")) as rig:
            await rig.admin.fault_on("auth-silent", feed="user")
            request: dict[str, Any] = {
                "feed": "user",
                "account": "alice",
                "wait": "data",
                "wait_timeout_s": 0.5,
            }
            (lacking,) = (await rig.consumer.ask("subscribe", **request))["missing"]
            assert "never says whether credentials are accepted" in lacking["reason"]
            (told,) = (await rig.consumer.ask("status"))["connections"]
            assert (told["state"], told["authenticated"]) == ("open", None)


@pytest.mark.parametrize(("feed", "account"), [("user", "alice"), ("polybolt", None)])
async def test_auth_4001_stops(rig: Rig, feed: str, account: str | None) -> None:
    """A close that says so ends the dialling, until a person changes something."""
    await rig.admin.fault_on("auth-4001")
    wish: dict[str, Any] = {"feed": feed, "account": account}
    wish |= {"symbols": ["btcusd"]} if feed == "polybolt" else {}
    (lacking,) = (await rig.consumer.ask("subscribe", **wish, wait="data", wait_timeout_s=1))["missing"]
    assert "4001" in lacking["reason"]
    assert "credential" in lacking["reason"]
    (told,) = (await rig.consumer.ask("status"))["connections"]
    assert (told["state"], told["incarnation"], told["connected"]) == ("refused", 1, False)


@pytest.mark.parametrize("field", FIELDS)
async def test_wrong_credentials_of_polybolt(field: str) -> None:
    """This feed says no in words: nothing else is asked of it, and it is not dialled again."""
    with anyio.fail_after(60):
        async with rigged(VENUE, accounts=with_wrong(field)) as rig:
            request: dict[str, Any] = {"feed": "polybolt", "symbols": ["btcusd"], "wait": "data"}
            (lacking,) = (await rig.consumer.ask("subscribe", **request, wait_timeout_s=1))["missing"]
            assert "auth_invalid" in lacking["reason"]
            (told,) = (await rig.consumer.ask("status"))["connections"]
            assert (told["state"], told["incarnation"], told["authenticated"]) == ("refused", 1, None)
            assert [event["kind"] for event in rig.consumer.unknown] == ["refused"]


# --- what is never shown -----------------------------------------------------------------------------


async def everything_said(rig: Rig) -> Mapping[str, str]:
    """All that left the gateway, by where it went."""
    status, listed = await rig.consumer.ask("status"), await rig.consumer.ask("subscriptions")
    return {
        "events": "\n".join(rig.consumer.payloads),
        "status": json.dumps(status),
        "subscriptions": json.dumps(listed),
        "objects": repr([vars(c) | {"session": vars(c.session or object)} for c in rig.connections]),
    }


@pytest.mark.parametrize(
    "accounts",
    [accounts_of, with_wrong("secret"), with_wrong("api_key")],
    ids=["right", "wrong-secret", "wrong-key"],
)
async def test_credentials_are_never_shown(accounts: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No key, secret or passphrase gets into an event, a reply, a log record or an object's text.

    Not either of anybody else who took part in a trade; nor where frames are broken, or refused.
    """
    caplog.set_level(logging.DEBUG)
    with anyio.fail_after(60):
        async with rigged(VENUE, accounts=accounts) as rig:
            more: dict[str, Any] = {"deliver": "log", "wait": "sent", "wait_timeout_s": 0.5}
            for label in ("alice", "bob"):
                await rig.consumer.ask("subscribe", feed="user", account=label, **more)
            await rig.consumer.ask("subscribe", feed="polybolt", symbols=["btcusd"], **more)
            if accounts is accounts_of:
                await is_served(rig, "user")
            for fault in ("unknown-event", "duplicate", "corrupt-frame"):
                await rig.admin.fault_on(
                    fault, **({"mode": "cut"} if fault == "corrupt-frame" else {}), probability=0.3
                )
            await rig.admin.ask("POST", "/step", {"events": 500, "seconds": 30})
            for fault in ("drop", "auth-4001"):
                await rig.admin.fault_on(fault)
            await rig.consumer.until_status(lambda s: s["connection_errors"] >= 3)
            with pytest.raises(Refused) as refused:
                await rig.consumer.ask("subscribe", feed="user", account="carol")
            said = {**await everything_said(rig), "refusal": str(refused.value), "log": caplog.text}
            people = rig.simulator.venue.people
            secrets = [told[field] for told in rig.simulator.accounts for field in FIELDS]
            secrets += [person.api_key for person in people.strangers]
            secrets += ["d0bb1e00-0000-4000-8000-00000000beef"]
    for where, text in said.items():
        assert len(text) > 50, where
        for secret in secrets:
            assert secret not in text, where
    if accounts is accounts_of:
        assert '"type":"trade"' in said["events"]


@pytest.mark.parametrize("mode", ["cut", "flip"])
async def test_a_broken_frame_shows_no_credential(rig: Rig, mode: str) -> None:
    """A frame of the user feed that is cut, or broken at its first colon, is passed on raw without API keys."""
    await follow(rig, "user")
    await rig.admin.fault_on("corrupt-frame", mode=mode, feed="user")
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 30})
    await rig.settle()
    assert len(rig.consumer.unknown) > 100
    keys = [person.api_key for person in rig.simulator.venue.people.strangers]
    keys += [told[field] for told in rig.simulator.accounts for field in FIELDS]
    leaked = [event["raw"] for event in rig.consumer.unknown if any(key in event["raw"] for key in keys)]
    assert leaked == []
