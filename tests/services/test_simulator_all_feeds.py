"""All five feeds of one simulated world, as polybus's own reader reads them."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from polybus_protocol import decode, parse_subject, subject_for
from polybus_protocol.events import Unknown
from polybus_services.simulator import Pace, SimulatorOptions
from polybus_services.simulator.feeds import Close, Entry, Frame, Manners
from polybus_services.simulator.venue import Venue

KINDS = {
    "market": {"book", "price_change", "last_trade_price", "best_bid_ask"},
    "user": {"order", "trade"},
    "rtds": {
        "trades",
        "orders_matched",
        "update",
        "snapshot",
        "comment_created",
        "comment_removed",
        "reaction_created",
        "reaction_removed",
    },
    "polybolt": {"update", "snapshot", "quote"},
    "sports": {"sport_result"},
}


class Clock:
    """The venue's clock, a millisecond further at each look."""

    def __init__(self) -> None:
        self._now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        self._now_ms += 1
        return self._now_ms


class Ear:
    """A connection that keeps what it is sent."""

    def __init__(self, feed: str, venue: Venue) -> None:
        self.id = f"{feed}-1"
        self.heard: list[tuple[str, tuple[Entry, ...]]] = []
        self._manners: Manners = venue.feeds[feed].greet(self.id, venue.now_ms())
        self._venue = venue
        venue.links[self._manners] = self

    def say(self, *messages: object) -> None:
        for message in messages:
            for answer in self._manners.receive_text(json.dumps(message), self._venue.now_ms()):
                assert not isinstance(answer, Close)
                if isinstance(answer, Frame):
                    self.deliver(answer)

    def deliver(self, frame: Frame) -> None:
        addressed = self._manners.address(frame)
        self.heard.append((addressed.text, addressed.entries))

    def announce(self, text: str) -> None:
        """A word is no data."""

    def cut(self, reason: str) -> None:
        raise AssertionError(reason)

    def end(self, close: Close) -> None:
        raise AssertionError(close)

    def tick(self, now: float) -> None:
        """Nothing here takes time."""

    async def flushed(self) -> None:
        """Nothing is ever queued."""


def price_items(names: Iterable[str]) -> list[dict[str, object]]:
    return [
        {
            "channel": name,
            "filter": {
                "symbol": "btcusd" if "crypto" in name else "aapl",
                **({"window_seconds": 60} if name.endswith("twap") else {}),
            },
        }
        for name in names
    ]


@pytest.fixture(scope="module")
def ears() -> dict[str, Ear]:
    """One client of each feed, who asked for everything, and what each heard of five thousand facts."""
    options = SimulatorOptions(markets=6, seed=3, account_share=0.5, pace=Pace(comment_s=0.5, game_s=0.5))
    venue = Venue(options, Clock())
    ears = {feed: Ear(feed, venue) for feed in venue.feeds}
    assets = list(venue.exchange.assets)
    account = venue.people.accounts["alice"]
    auth = {"apiKey": account.api_key, "secret": account.secret, "passphrase": account.passphrase}
    topics = ("activity", "comments", "crypto_prices_chainlink", "crypto_prices_twap_sixty", "equity_prices")
    filtered = {"topic": "crypto_prices", "type": "update", "filters": "btcusdt,ethusdt"}
    channels = ("price.crypto", "price.crypto.twap", "price.equity", "price.equity.twap")
    quotes = {"channel": "price.polymarket", "filter": {"asset_id": assets[0]}}
    ears["market"].say({"type": "market", "assets_ids": assets, "custom_feature_enabled": True})
    ears["user"].say({"type": "user", "auth": auth})
    ears["rtds"].say(
        {"action": "subscribe", "subscriptions": [{"topic": topic, "type": "*"} for topic in topics]},
        {"action": "subscribe", "subscriptions": [filtered]},
    )
    ears["polybolt"].say(
        {"op": "auth", "auth": auth}, {"op": "subscribe", "subscriptions": [*price_items(channels), quotes]}
    )
    venue.step(2_000)
    return ears


@pytest.mark.parametrize("feed", list(KINDS))
def test_polybus_reads_every_frame(ears: dict[str, Ear], feed: str) -> None:
    """Nothing is unknown to polybus's reader, down to the last field, and every kind of event occurs."""
    kinds: Counter[str] = Counter()
    for text, entries in ears[feed].heard:
        kinds.update(entry.kind for entry in entries)
        assert not [event for event in decode(feed, text) if isinstance(event, Unknown)], text
    assert set(kinds) >= KINDS[feed]


@pytest.mark.parametrize("feed", [feed for feed in KINDS if feed != "market"])
def test_the_ledger_names_streams_as_the_subjects_do(ears: dict[str, Ear], feed: str) -> None:
    """A stream's name and an event's type in the ledger are the ids and the type of polybus's subject."""
    for text, (entry,) in ears[feed].heard:
        (event,) = decode(feed, text)
        subject = parse_subject(subject_for(event))
        # Only a configured account knows its label; a frame does not say it.
        ids = ("alice", subject["market"]) if feed == "user" else subject.ids
        assert (entry.subject, entry.kind) == ("/".join(each or "_" for each in ids), subject.type)
