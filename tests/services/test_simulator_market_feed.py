"""The manners of the market feed, as conversations without a network."""

import json
from typing import Any

import pytest

from polybus_protocol import decode, type_of
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Fact
from polybus_services.simulator.feeds import Answer, Close, Frame, Say
from polybus_services.simulator.market_feed import MarketFeed, MarketLimits, MarketManners

LIMITS = MarketLimits(ids_per_frame=6, snapshots_per_connection=4, words_every_facts=50)
BOOK_KEYS = [
    "market",
    "asset_id",
    "timestamp",
    "hash",
    "bids",
    "asks",
    "tick_size",
    "event_type",
    "last_trade_price",
]


class Talk:
    """One client's conversation with a feed of five markets."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.crowd = Crowd(self.exchange, 1, CrowdOptions(0, 0))
        self.markets = [self.crowd.open_market(0) for _ in range(5)]
        self.assets = list(self.exchange.assets)
        self.feed = MarketFeed(self.exchange, LIMITS)
        self.client = self.feed.greet()

    def says(self, message: object) -> list[Any]:
        """Say something; the answers, frames decoded."""
        text = message if isinstance(message, str) else json.dumps(message)
        return [read(answer) for answer in self.client.receive_text(text, 1_700_000_000_000)]

    def opens(self, *assets: str, **more: object) -> list[Any]:
        return self.says({"assets_ids": list(assets), "type": "market", **more})

    def subscribes(self, *assets: str, **more: object) -> list[Any]:
        return self.says({"operation": "subscribe", "assets_ids": list(assets), **more})

    def hears(self, fact: Any) -> list[Any]:
        """What this client is sent of a fact."""
        return [read(message) for message, readers in self.feed.publish(fact) if self.client in readers]


def read(answer: Answer) -> Any:
    return json.loads(answer.text) if isinstance(answer, Frame) else answer


def asset_ids(answers: list[Any]) -> list[list[str]]:
    return [[book["asset_id"] for book in answer] for answer in answers]


@pytest.fixture
def talk() -> Talk:
    return Talk()


OPENING = '{"assets_ids": [], "type": "market"}'


@pytest.mark.parametrize(
    ("before", "text", "answer"),
    [
        ([], "PING", [Close(1008, "invalid subscription payload")]),
        ([], "hello", [Say("INVALID OPERATION")]),
        ([], "{}", [Say("INVALID OPERATION")]),
        ([], '{"asset_ids": ["1"], "type": "market"}', [Say("INVALID OPERATION")]),
        ([], '{"assets_ids": ["1"]}', [Say("INVALID OPERATION")]),
        ([], '{"assets_ids": ["1"], "type": "user"}', [Say("INVALID OPERATION")]),
        ([], '{"assets_ids": [1], "type": "market"}', [Say("INVALID OPERATION")]),
        ([], '{"assets_ids": [], "operation": "subscribe"}', [Say("INVALID OPERATION")]),
        (["hello"], "PING", [Close(1008, "invalid subscription payload")]),
        ([], OPENING, []),
        ([], '{"assets_ids": [], "type": "MARKET", "markets": [], "auth": {}}', []),
        ([OPENING], "PING", [Say("PONG")]),
        ([OPENING], OPENING, [Say("INVALID OPERATION")]),
        ([OPENING], "ping", [Say("INVALID OPERATION")]),
        ([OPENING], '{"assets_ids": [], "operation": "resubscribe"}', [Say("INVALID OPERATION")]),
        ([OPENING], '{"assets_ids": ["1", "2"], "operation": "subscribe"}', [Say("[]")]),
        ([OPENING], '{"assets_ids": ["1"], "operation": "unsubscribe"}', []),
        ([], '{"assets_ids": ["1", "2"], "type": "market"}', [Say("[]")]),
        ([], json.dumps({"assets_ids": ["1"] * 7, "type": "market"}), [Close(1009, "message too big")]),
    ],
)
def test_answers(talk: Talk, before: list[str], text: str, answer: list[Answer]) -> None:
    """Each message in each state has one answer, or silence."""
    for earlier in before:
        talk.says(earlier)
    assert talk.says(text) == answer


def test_the_first_books_are_one_array(talk: Talk) -> None:
    """One frame holds all books asked for, in order, keys in the wire's order; unknown ids are passed over."""
    [books] = talk.opens(talk.assets[2], "404", talk.assets[0])
    assert [book["asset_id"] for book in books] == [talk.assets[2], talk.assets[0]]
    assert [list(book) for book in books] == [BOOK_KEYS] * 2
    assert books[0]["last_trade_price"] == ""
    prices = [[float(level["price"]) for level in books[0][side]] for side in ("bids", "asks")]
    assert prices[0] == sorted(prices[0])
    assert prices[1] == sorted(prices[1], reverse=True)


def test_without_initial_dump_there_is_silence(talk: Talk) -> None:
    """`initial_dump: false` follows without a book."""
    assert talk.opens(talk.assets[0], initial_dump=False) == []
    assert talk.client.follows(talk.assets[0])


def test_added_assets_get_books_and_old_ones_silence(talk: Talk) -> None:
    """An operation answers for what is new only; leaving and coming back is new again."""
    talk.opens(talk.assets[0])
    assert asset_ids(talk.subscribes(talk.assets[0], talk.assets[1])) == [[talk.assets[1]]]
    assert talk.subscribes(talk.assets[0]) == []
    talk.says({"operation": "unsubscribe", "assets_ids": [talk.assets[0]]})
    assert asset_ids(talk.subscribes(talk.assets[0])) == [[talk.assets[0]]]


def test_assets_past_the_limit_get_no_book(talk: Talk) -> None:
    """With room for four books, the fifth asset is followed without one."""
    [books] = talk.opens(*talk.assets[:3])
    assert len(books) == 3
    assert asset_ids(talk.subscribes(*talk.assets[3:6])) == [[talk.assets[3]]]
    assert talk.subscribes(talk.assets[6]) == []
    assert talk.client.follows(talk.assets[6])


def test_one_token_followed_hears_both_in_a_delta(talk: Talk) -> None:
    """A `price_change` carries the mirrored entry too; other events come for the token alone."""
    market = talk.markets[0]
    talk.opens(market.listing.assets[0])
    kinds: list[str] = []
    for now in range(400):
        for event in talk.hears(talk.crowd.act_on(market, now)):
            kinds.append(event["event_type"])
            if event["event_type"] == "price_change":
                assert list(event) == ["market", "price_changes", "timestamp", "event_type"]
                assert {change["asset_id"] for change in event["price_changes"]} == set(market.listing.assets)
                assert list(event["price_changes"][0]) == [
                    "asset_id",
                    "price",
                    "size",
                    "side",
                    "hash",
                    "best_bid",
                    "best_ask",
                ]
            else:
                assert event["asset_id"] == market.listing.assets[0]
    assert set(kinds) == {"price_change", "book", "last_trade_price"}
    assert talk.hears(talk.crowd.act_on(talk.markets[1], 1)) == []


def test_a_trade_is_two_books_and_a_price(talk: Talk) -> None:
    """Books of both tokens, in their own key order, then the taker's trade."""
    market = talk.markets[0]
    talk.opens(*market.listing.assets)
    first, second, trade = talk.hears(talk.crowd.trade(market, 7))
    assert list(first) == ["market", "asset_id", "bids", "asks", "hash", "timestamp", "event_type"]
    assert [first["asset_id"], second["asset_id"]] == list(market.listing.assets)
    assert list(trade) == [
        "market",
        "asset_id",
        "price",
        "size",
        "fee_rate_bps",
        "side",
        "timestamp",
        "event_type",
        "transaction_hash",
    ]


def test_a_new_tick_is_followed_by_books(talk: Talk) -> None:
    """Each token is told of the new tick, then of its book."""
    market = talk.markets[0]
    talk.opens(*market.listing.assets)
    events = talk.hears(talk.crowd.refine(market, 7))
    assert [event["event_type"] for event in events] == ["tick_size_change"] * 2 + ["book"] * 2
    assert (events[0]["old_tick_size"], events[0]["new_tick_size"]) == ("0.01", "0.001")


def test_extra_events_only_for_those_who_ask(talk: Talk) -> None:
    """`new_market` comes for the whole venue, `market_resolved` and `best_bid_ask` for followed assets."""
    market, other = talk.markets[:2]
    talk.opens(market.listing.assets[0])
    assert talk.hears(talk.crowd.announce_market(1)) == []

    # The flag is taken even from a message whose assets are all followed already.
    assert talk.subscribes(market.listing.assets[0], custom_feature_enabled=True) == []
    [created] = talk.hears(talk.crowd.announce_market(1))
    assert created["event_type"] == "new_market"
    tops = [
        event
        for now in range(200)
        for event in talk.hears(talk.crowd.act_on(market, now))
        if isinstance(event, dict) and event["event_type"] == "best_bid_ask"
    ]
    assert {event["asset_id"] for event in tops} == {market.listing.assets[0]}
    [resolved] = talk.hears(talk.crowd.resolve(market, 1, 1))
    assert resolved["winning_asset_id"] == market.listing.assets[1]
    assert talk.hears(talk.crowd.resolve(other, 0, 1)) == []
    assert talk.subscribes(*market.listing.assets[1:]) == [Say("[]")]

    talk.subscribes(custom_feature_enabled=False)
    assert talk.hears(talk.crowd.announce_market(1)) == []


def test_with_extra_events_come_words(talk: Talk) -> None:
    """`NO NEW ASSETS` comes now and then."""
    talk.opens(talk.assets[0], custom_feature_enabled=True)
    heard = [event for now in range(100) for event in talk.hears(talk.crowd.act_on(talk.markets[4], now))]
    assert heard.count(Say("NO NEW ASSETS")) == 2


def test_our_own_core_reads_every_frame(talk: Talk) -> None:
    """What the simulator says, `decode` knows: nothing comes out as unknown."""
    market = talk.markets[0]
    message = {"assets_ids": list(market.listing.assets), "type": "market", "custom_feature_enabled": True}
    answers = talk.client.receive_text(json.dumps(message), 1)
    facts: list[Fact] = [
        talk.crowd.refine(market, 2),
        talk.crowd.trade(market, 3),
        talk.crowd.announce_market(4),
    ]
    heard = [message for fact in facts for message, _ in talk.feed.publish(fact)]
    for now in range(500):
        heard += [message for message, _ in talk.feed.publish(talk.crowd.act_on(market, now))]
    heard += [message for message, _ in talk.feed.publish(talk.crowd.resolve(market, 0, 6))]
    events = [
        event
        for message in answers + heard
        if isinstance(message, Frame)
        for event in decode("market", message.text)
    ]
    assert {type_of(event) for event in events} == {
        "book",
        "price_change",
        "last_trade_price",
        "tick_size_change",
        "best_bid_ask",
        "new_market",
        "market_resolved",
    }


def test_who_left_is_told_nothing(talk: Talk) -> None:
    """After leaving, no fact reaches the client's manners."""
    talk.opens(*talk.assets[:4], custom_feature_enabled=True)
    talk.client.leave()
    assert talk.hears(talk.crowd.trade(talk.markets[0], 1)) == []
    assert talk.hears(talk.crowd.announce_market(1)) == []


def test_clients_do_not_hang_on_each_other() -> None:
    """Each client has its own state: one's opening does not open another."""
    talk = Talk()
    talk.opens(talk.assets[0])
    stranger = MarketManners(talk.feed)
    assert stranger.receive_text("PING", 1) == [Close(1008, "invalid subscription payload")]
