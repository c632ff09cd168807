"""A second client of the venue: what the gateway publishes is compared with what an outsider heard.

It reads frames with `json` and `decimal` alone, and shares no line with the protocol it is to judge.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.abc

from polybus_services.simulator import Simulator
from polybus_services.simulator.ledger import Record
from polybus_services.simulator.probe import Client, connected

from .rig import port_of

type Fact = dict[str, Any]
"""Some fields of an event as it must be published; a `Decimal` stands for any way to write the number."""

E18 = Decimal(10) ** 18

PING_INTERVAL_S = 60.0
"""Seconds between two pings to RTDS, which forgets a client after six minutes."""


class Witness:
    """A client of one feed."""

    def __init__(self, feed: str, client: Client, record: Record) -> None:
        self._feed = feed
        self._client = client
        self._record = record
        self._heard: list[Any] = []
        self._is_listening = False

    async def listen(self) -> None:
        """Take in what comes until cancelled, or the venue would think us slow."""
        self._is_listening = True
        texts, looked_at, ping_at = self._client.texts, 0, 0.0
        while not self._client.cut:
            await self._client.receive()
            if self._feed == "rtds" and (now := anyio.current_time()) >= ping_at:
                # Who says nothing for minutes is told nothing more, for good.
                await self._client.say("PING")
                ping_at = now + PING_INTERVAL_S
            # The sports server asks who is still there, and hangs up on who is not.  Only what is new is looked at:
            # in a long soak there is much of it.
            for _ in range(texts[looked_at:].count("ping")):
                await self._client.say("pong")
            looked_at = len(texts)

    async def facts(self) -> dict[str, list[Fact]]:
        """All that it was told, in order, by stream; waits for what the venue has written to it."""
        with anyio.fail_after(30):
            while len(self._heard) < self._record.frames:
                if not self._client.texts:
                    assert not self._client.cut, "the witness was cut off"
                    await (anyio.lowlevel.checkpoint if self._is_listening else self._client.receive)()
                    continue
                text = self._client.texts.pop(0)
                if text.startswith(("{", "[")):
                    frame = json.loads(text, parse_float=str, parse_int=str)
                    if "op" not in frame:
                        self._heard.append(frame)
        assert self._client.closed is None, f"the witness was sent away: {self._client.closed}"
        assert not self._client.cut, "the witness was cut off"
        facts: dict[str, list[Fact]] = defaultdict(list)
        for frame in self._heard:
            for stream, fact in READERS[self._feed](frame):
                facts[stream].append(fact)
        return facts


@asynccontextmanager
async def watching(simulator: Simulator, feed: str, *messages: object) -> AsyncIterator[Witness]:
    """A witness for the length of a block, let in and heard.

    Args:
        simulator: where.
        feed: which.
        messages: what to say; the venue has taken them in when this is entered.
    """
    async with connected(simulator.feeds[feed]) as client:
        port = client.stream.extra(anyio.abc.SocketAttribute.local_port)
        (link,) = [link for link in simulator.venue.links.values() if port_of(link) == port]
        for message in messages:
            await client.say(message)
        witness = Witness(feed, client, simulator.venue.ledger.record(link.id))
        # The answer to this comes after all that was said has been taken in; sports takes in nothing.
        if feed == "polybolt":
            await client.say({"op": "ping", "rid": "barrier"})
            await _hear(client, witness, '"pong"')
        elif feed != "sports":
            await client.say("PING")
            await _hear(client, witness, "" if feed == "rtds" else "PONG")
        yield witness


async def _hear(client: Client, witness: Witness, last: str) -> None:
    kept: list[str] = []
    with anyio.fail_after(30):
        while True:
            text = await client.hear()
            assert text is not None
            kept.append(text)
            if text == last or (last and last in text):
                break
    client.texts[:0] = kept


def agrees(fact: Any, told: Any) -> bool:
    """Whether what was published says what the witness heard, to the last digit."""
    match fact:
        case dict():
            return all(key in told and agrees(value, told[key]) for key, value in fact.items())
        case list():
            return len(fact) == len(told) and all(map(agrees, fact, told))
        case Decimal():
            return isinstance(told, str) and Decimal(told) == fact
        case _:
            return bool(fact == told and type(fact) is type(told))


# --- how to read each feed ---------------------------------------------------------------------------


def _market(frame: Any) -> Iterator[tuple[str, Fact]]:
    for element in frame if isinstance(frame, list) else [frame]:
        kind, time = element["event_type"], int(element["timestamp"])
        if kind == "price_change":
            changes: dict[str, list[Fact]] = defaultdict(list)
            for change in element["price_changes"]:
                asset = change["asset_id"]
                names = ("price", "size", "side", "hash", "best_bid", "best_ask")
                changes[asset].append({name: change[name] for name in names})
            for asset, listed in changes.items():
                yield asset, {"type": kind, "changes": listed, "source_time": time}
        elif kind == "book":
            levels = {side: element[side][::-1] for side in ("bids", "asks")}
            # An answer has the time of the asking in it, and so has its hash.
            own: Fact = {"hash": element["hash"], "source_time": time}
            if "tick_size" in element:
                own = {"tick_size": element["tick_size"]}
            yield element["asset_id"], {"type": kind, **own, **levels}
        elif kind in ("last_trade_price", "best_bid_ask", "tick_size_change"):
            shown = {"price", "size", "side", "transaction_hash", "best_bid", "best_ask", "new_tick_size"}
            yield element["asset_id"], {"type": kind} | {n: element[n] for n in shown & element.keys()}


def _user(frame: Any) -> Iterator[tuple[str, Fact]]:
    fact = {
        "id": frame["id"],
        "asset": frame["asset_id"],
        "side": frame["side"],
        "price": frame["price"],
        "outcome": frame["outcome"],
    }
    if frame["event_type"] == "order":
        status, _, detail = frame["status"].partition("_")
        fact |= {
            "type": "order",
            "action": frame["type"],
            "status": status,
            "status_detail": detail or None,
            "original_size": frame["original_size"],
            "size_matched": frame["size_matched"] or None,
            "associate_trades": frame["associate_trades"] or [],
        }
    else:
        makers = [
            {"order_id": m["order_id"], "matched_amount": m["matched_amount"], "price": m["price"]}
            for m in frame["maker_orders"]
        ]
        fact |= {
            "type": "trade",
            "status": frame["status"],
            "size": frame["size"],
            "trader_side": frame["trader_side"],
            "transaction_hash": frame["transaction_hash"] or None,
            "maker_orders": makers,
        }
    yield frame["market"], fact


CLASSES = {
    "crypto_prices": "crypto",
    "crypto_prices_chainlink": "crypto",
    "crypto_prices_twap_thirty": "crypto_twap",
    "crypto_prices_twap_sixty": "crypto_twap",
    "equity_prices": "equity",
    "price.crypto": "crypto",
    "price.crypto.twap": "crypto_twap",
    "price.equity": "equity",
    "price.equity.twap": "equity_twap",
}


def _rtds(frame: Any) -> Iterator[tuple[str, Fact]]:
    topic, payload = frame["topic"], frame["payload"]
    fact: Fact = {"type": frame["type"]}
    if topic == "activity":
        stream = f"{payload['eventSlug']}/{payload['conditionId']}"
        names = {"transactionHash": "transaction_hash", "proxyWallet": "proxy_wallet", "fee": "fee"}
        names |= {name: name for name in ("asset", "side", "price", "size")}
    elif topic == "comments" and "parentEntityID" in payload:
        stream = f"{payload['parentEntityType']}/{payload['parentEntityID']}"
        names = {"id": "id", "body": "body", "userAddress": "user_address"}
    elif topic == "comments":
        stream = "_/_"
        names = {"id": "id", "commentID": "comment_id", "reactionType": "reaction_type", "icon": "icon"}
    else:
        symbol = payload["symbol"]
        stream = f"{CLASSES[topic]}/{_plain(symbol, CLASSES[topic])}"
        names = {"symbol": "venue_symbol"}
        exact = Decimal(payload.get("full_accuracy_value", payload["value"]))
        is_scaled = topic.startswith("crypto_prices_")
        fact |= {"value": exact / E18 if is_scaled else exact, "source_time": int(payload["timestamp"])}
        fact["window_s"] = int(payload["window_s"]) if "window_s" in payload else None
    yield stream, fact | {name: payload[wire] for wire, name in names.items() if wire in payload}


def _polybolt(frame: Any) -> Iterator[tuple[str, Fact]]:
    payload, class_ = frame["payload"], CLASSES[frame["channel"]]
    stream = f"{class_}/{_plain(payload['symbol'], class_)}"
    fact: Fact = {"source": payload["source"], "market_status": payload.get("market_status")}
    window = payload.get("window_seconds")
    fact |= {"venue_symbol": payload["symbol"], "window_s": None if window is None else int(window)}
    if "data" in payload:
        points = [
            {"time": int(point["timestamp"]), "value": Decimal(point["full_accuracy_value"])}
            for point in payload["data"]
        ]
        yield stream, fact | {"type": "snapshot", "points": points}
    else:
        exact, time = Decimal(payload["full_accuracy_value"]), int(payload["timestamp"])
        yield stream, fact | {"type": "update", "value": exact, "source_time": time}


def _plain(symbol: str, class_: str) -> str:
    if not class_.startswith("crypto"):
        return symbol
    return symbol.replace("/", "").replace("usdt", "usd")


def _sports(frame: Any) -> Iterator[tuple[str, Fact]]:
    names = {"score": "score", "period": "period", "status": "status", "elapsed": "elapsed", "turn": "turn"}
    names |= {"live": "live", "ended": "ended", "homeTeam": "home_team", "awayTeam": "away_team"}
    game = frame.get("gameId") or frame.get("metadataGameId") or frame["slug"]
    stream = f"{frame.get('leagueAbbreviation', '_').lower()}/{game}"
    yield (
        stream,
        {"type": "sport_result"} | {name: frame[wire] for wire, name in names.items() if wire in frame},
    )


READERS = {"market": _market, "user": _user, "rtds": _rtds, "polybolt": _polybolt, "sports": _sports}
