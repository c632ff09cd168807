"""Every sample frame of the market feed, and what becomes of it.

The samples stand in `frames/market`; `frames/index.json` tells where each comes from.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from polybus_protocol import Event, PriceChange, Unknown, decode
from polybus_protocol.events import (
    BestBidAsk,
    Book,
    Change,
    FeeSchedule,
    LastTradePrice,
    Level,
    MarketResolved,
    NewMarket,
    ParentEvent,
    TickSizeChange,
)
from polybus_protocol.feeds.market import VENUE, MarketDialect

FRAMES = Path(__file__).parent / "frames"
INDEX: list[dict[str, str]] = json.loads((FRAMES / "index.json").read_text())["frames"]
PRETTY = {entry["file"]: (FRAMES / "market" / entry["file"]).read_bytes() for entry in INDEX}
SAMPLES: dict[str, Any] = {file: json.loads(text) for file, text in PRETTY.items()}


def on_the_wire(sample: Any) -> bytes:
    """A sample as the venue would send it: words bare, JSON without blanks."""
    return (sample if isinstance(sample, str) else json.dumps(sample, separators=(",", ":"))).encode()


def levels(text: str) -> list[Level]:
    """Levels written as `price x size`, best first."""
    return [Level(*level.split("x")) for level in text.split()]


BOOKWORM = "0xbd31dc8a20211944f6b70f31557f1001557b59905b7738480ca09bd4532f84af"
YES = "65818619657568813474341868652308942079804919287380422192892211131408793125422"

DELTA = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"
UP = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
DOWN = "52114319501245915516055106046884209969926127482827954674443846427813813222426"

SOLD = "0x6a67b9d828d53862160e470329ffea5246f338ecfffdf2cab45211ec578b0347"
SOLD_YES = "114122071509644379678018727908709560226618148003371446110114509806601493071694"

TOP = "0x0005c0d312de0be897668695bae9f32b624b4a1ae8b140c49f08447fcc74f442"
TOP_YES = "85354956062430465315924116860125388538595433819574542752031640332592237464430"

WIDE = "0x747dc809fb79e1b05be09c42d6179459a58de2ef3e40f02484a4e1260f741f75"
WIDE_YES = "107505882767731489358349912513945399560393482969656700824895970500493757150417"

DUMPED = "0xedd6f583beb92839a74d2c5c66bb26cfe6b87d82056580c57a78b2f2e0eb8fe5"
DUMPED_YES = "36058180106267309416569886113196185744009788380740653016655476166674199848738"
DUMPED_NO = "11354133371126376784835090753308106986806090783788568298339951440339753418311"

NVDA = "0x311d0c4b6671ab54af4970c06fcf58662516f5168997bdda209ec3db5aa6b0c1"
NVDA_ASSETS = [
    "76043073756653678226373981964075571318267289248134717369284518995922789326425",
    "31690934263385727664202099278545688007799199447969475608906331829650099442770",
]
NVDA_EVENT = ParentEvent(
    id="125819",
    ticker="nvda-above-in-january-2026",
    slug="nvda-above-in-january-2026",
    title="Will NVIDIA (NVDA) close above ___ end of January?",
)

BITCOIN = "0x7c3d5f1e9b2a4860d1e7f3a5b9c2d4e6f8a0b1c3d5e7f9a1b3c5d7e9f1a3b5c7"

DOCS_BOOK = Book(
    market=BOOKWORM,
    asset=YES,
    source_time=1757908892351,
    bids=levels(".50x15 .49x20 .48x30"),
    asks=levels(".52x25 .53x60 .54x10"),
    hash="0xabc123...",
)
DUMP = Book(
    market=DUMPED,
    asset=DUMPED_YES,
    source_time=1775740020016,
    bids=levels("0.07x100 0.06x170 0.04x16.3 0.03x300 0.01x80.01"),
    asks=levels("0.8x5 0.93x9.7 0.94x100 0.95x30 0.98x31.38 0.99x64.54"),
    hash="6ce350360f6b487abb46766b131d987ea11e4de6",
    tick_size="0.01",
)
MIRROR_DUMP = Book(
    market=DUMPED,
    asset=DUMPED_NO,
    source_time=1775740020016,
    bids=levels("0.2x5 0.07x9.7 0.06x100 0.05x30 0.02x31.38 0.01x64.54"),
    asks=levels("0.93x100 0.94x170 0.96x16.3 0.97x300 0.99x80.01"),
    hash="9ae41e0d3a6b46ae05cb75769fd450d5766598df",
    tick_size="0.01",
)
BOTH_SIDES: list[Event] = [
    PriceChange(
        market=DELTA,
        asset=UP,
        source_time=1757908892351,
        changes=[Change("0.5", "200", "BUY", "56621a121a47ed9333273e21c83b660cff37ae50", "0.5", "1")],
    ),
    PriceChange(
        market=DELTA,
        asset=DOWN,
        source_time=1757908892351,
        changes=[Change("0.5", "200", "SELL", "1895759e4df7a796bf4f1c5a5950b748306923e2", "0", "0.5")],
    ),
]

INBOUND: dict[str, list[Event]] = {
    "best_bid_ask.json": [
        BestBidAsk(
            market=TOP,
            asset=TOP_YES,
            source_time=1766789469958,
            best_bid="0.73",
            best_ask="0.77",
            spread="0.04",
        )
    ],
    "best_bid_ask_empty_side.json": [
        BestBidAsk(
            market=BOOKWORM, asset=YES, source_time=1766789470958, best_bid=None, best_ask="0.01", spread=None
        )
    ],
    "book.json": [DOCS_BOOK],
    "book_after_trade.json": [
        Book(
            market=BOOKWORM,
            asset=YES,
            source_time=1757908893120,
            bids=levels("0.48x30 0.47x80 0.46x120"),
            asks=levels("0.52x5 0.53x60 0.54x10"),
            hash="3f786850e387550fdab836ed7e6dc881de23001b",
        )
    ],
    "book_empty.json": [
        Book(
            market=BOOKWORM,
            asset=YES,
            source_time=1757908892351,
            bids=[],
            asks=[],
            hash="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        )
    ],
    "book_initial_array.json": [DUMP, MIRROR_DUMP],
    "book_initial_array_no_event_type.json": [DUMP],
    "book_worst_to_best.json": [
        Book(
            market=WIDE,
            asset=WIDE_YES,
            source_time=1782753357257,
            bids=levels("0.09x163939.58 0.08x33343.4"),
            asks=levels("0.98x13229.55 0.99x218442.27"),
            hash="0xabc123...",
        )
    ],
    "empty_array.json": [],
    "last_trade_price.json": [
        LastTradePrice(
            market=SOLD,
            asset=SOLD_YES,
            source_time=1750428146322,
            price="0.456",
            size="219.217767",
            side="BUY",
            fee_rate_bps="0",
            transaction_hash="0xeeefffggghhh",
        )
    ],
    "last_trade_price_no_hash.json": [
        LastTradePrice(
            market=BOOKWORM, asset=YES, source_time=1757908893001, price="0.48", size="25", side="SELL"
        )
    ],
    "market_resolved.json": [
        MarketResolved(
            market=NVDA,
            assets_ids=NVDA_ASSETS,
            source_time=1766790415550,
            id="1031769",
            event_message=NVDA_EVENT,
            tags=["stocks"],
            winning_asset_id=NVDA_ASSETS[0],
            winning_outcome="Yes",
        )
    ],
    "market_resolved_long.json": [
        MarketResolved(
            market=NVDA,
            assets_ids=NVDA_ASSETS,
            source_time=1766790415550,
            id="1031769",
            question="Will NVIDIA (NVDA) close above $240 end of January?",
            slug="nvda-above-240-on-january-30-2026",
            outcomes=["Yes", "No"],
            event_message=NVDA_EVENT,
            winning_asset_id=NVDA_ASSETS[0],
            winning_outcome="Yes",
        )
    ],
    "mixed_array.json": [
        DOCS_BOOK,
        *BOTH_SIDES,
        Unknown(
            feed="market",
            kind="event",
            reason="the element has the unknown event_type 'some_future_event'",
            raw='{"event_type":"some_future_event"}',
        ),
    ],
    "new_market.json": [
        NewMarket(
            market=NVDA,
            assets_ids=NVDA_ASSETS,
            source_time=1766790415550,
            id="1031769",
            question="Will NVIDIA (NVDA) close above $240 end of January?",
            slug="nvda-above-240-on-january-30-2026",
            outcomes=["Yes", "No"],
            event_message=NVDA_EVENT,
            tags=["stocks"],
            active=True,
            order_price_min_tick_size="0.01",
            group_item_title="NVDA above $240",
        )
    ],
    "new_market_fees.json": [
        NewMarket(
            market=BITCOIN,
            assets_ids=[
                "38429637202672817706782901712349857610293847561029384756102938475610293847561",
                "90217364518273645182736451827364518273645182736451827364518273645182736451827",
            ],
            source_time=1790000000123,
            id="5196322",
            question="Bitcoin Up or Down - 5 minute window",
            slug="btc-updown-5m-1790000100",
            outcomes=["Up", "Down"],
            event_message=ParentEvent(
                id="901234",
                ticker="btc-updown-5m-1790000100",
                slug="btc-updown-5m-1790000100",
                title="Bitcoin Up or Down - 5 minute window",
            ),
            tags=["crypto", "bitcoin"],
            active=False,
            game_start_time="2026-09-21T13:35:00Z",
            order_price_min_tick_size="0.01",
            taker_base_fee="1000",
            fees_enabled=True,
            fee_schedule=FeeSchedule(exponent="1", rate="0.07", taker_only=True, rebate_rate="0.2"),
        )
    ],
    "pong.json": [],
    "price_change.json": BOTH_SIDES,
    "price_change_empty_bbo.json": [
        PriceChange(
            market=DELTA,
            asset=UP,
            source_time=1757908894351,
            changes=[Change("0.48", "0", "BUY", "89e6c98d92887913cadf06b2adb97f26cde4849b", None, None)],
        )
    ],
    "price_change_legacy_changes.json": [
        PriceChange(
            market=DELTA,
            asset=UP,
            source_time=1729084877448,
            changes=[
                Change("0.4", "3300", "SELL", None, None, None),
                Change("0.5", "3400", "SELL", "3cd4d61e042c81560c9037ece0c61f3b1a8fbbdd", None, None),
            ],
        )
    ],
    "price_change_legacy_flat.json": [
        PriceChange(
            market=DELTA,
            asset=UP,
            source_time=1729084877448,
            changes=[Change("0.5", "200", "BUY", "56621a121a47ed9333273e21c83b660cff37ae50", None, None)],
        )
    ],
    "price_change_no_bbo.json": [
        PriceChange(
            market=DELTA,
            asset=UP,
            source_time=1757908895351,
            changes=[Change("0.49", "15.25", "BUY", "89e6c98d92887913cadf06b2adb97f26cde4849b", None, None)],
        )
    ],
    "price_change_removal.json": [
        PriceChange(
            market=DELTA,
            asset=UP,
            source_time=1757908893351,
            changes=[Change("0.48", "0", "BUY", "89e6c98d92887913cadf06b2adb97f26cde4849b", "0.47", "0.52")],
        ),
        PriceChange(
            market=DELTA,
            asset=DOWN,
            source_time=1757908893351,
            changes=[Change("0.52", "0", "SELL", "2b66fd261ee5c6cfc8de7fa466bab600bcfe4f69", "0.48", "0.53")],
        ),
    ],
    "text_invalid_operation.json": [
        Unknown(
            feed="market",
            kind="refused",
            reason="the venue refused our last message",
            raw="INVALID OPERATION",
        )
    ],
    "text_no_new_assets.json": [],
    "tick_size_change.json": [
        TickSizeChange(
            market=BOOKWORM,
            asset=YES,
            source_time=1757908892351,
            old_tick_size="0.01",
            new_tick_size="0.001",
        )
    ],
    "tick_size_change_with_side.json": [
        TickSizeChange(
            market=BOOKWORM,
            asset=YES,
            source_time=100000000,
            old_tick_size="0.01",
            new_tick_size="0.001",
            side="buy",
        )
    ],
    "unknown_event.json": [
        Unknown(
            feed="market",
            kind="event",
            reason="the element has the unknown event_type 'some_future_event'",
            raw=on_the_wire(SAMPLES["unknown_event.json"]).decode(),
        )
    ],
}
"""What each frame from the venue decodes to, to the letter; levels best first."""

DIALECT = MarketDialect()
OUTBOUND = {
    "ping.json": DIALECT.ping,
    "subscribe_initial.json": DIALECT.opening([YES, DOWN]),
    "subscribe_initial_custom.json": DIALECT.opening([YES, DOWN]),
    "subscribe_initial_empty.json": DIALECT.opening([VENUE]),
    "subscribe_update.json": DIALECT.subscribe([UP]),
    "subscribe_update_custom.json": DIALECT.subscribe([UP]),
    "unsubscribe_update.json": DIALECT.unsubscribe([UP]),
}
"""What we say for each frame to the venue."""

LEAVES_OPTIONS_OUT = {"subscribe_initial.json", "subscribe_initial_empty.json", "subscribe_update.json"}
"""Samples without options.  We always say them, so these need only be part of what we say."""


def test_the_table_is_complete() -> None:
    """Each sample has a row, on the side it belongs to."""
    by_direction = {
        direction: {entry["file"] for entry in INDEX if entry["direction"] == direction}
        for direction in ("server_to_client", "client_to_server")
    }
    assert set(INBOUND) == by_direction["server_to_client"]
    assert set(OUTBOUND) == by_direction["client_to_server"]
    assert {path.name for path in (FRAMES / "market").iterdir()} == set(INBOUND) | set(OUTBOUND)


@pytest.mark.parametrize("file", INBOUND)
def test_a_frame_from_the_venue(file: str) -> None:
    """Each sample decodes to exactly these events, as text and as bytes."""
    frame = on_the_wire(SAMPLES[file])
    assert decode("market", frame) == decode("market", frame.decode()) == INBOUND[file]


@pytest.mark.parametrize("file", [file for file in INBOUND if not isinstance(SAMPLES[file], str)])
def test_blanks_and_the_order_of_keys_mean_nothing(file: str) -> None:
    """Indented, or with its keys the other way round, a frame says the same."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(each) for each in value] if isinstance(value, list) else value

    def content(events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, Unknown):
                event.raw = json.dumps(json.loads(event.raw), sort_keys=True)
        return events

    plain = content(decode("market", on_the_wire(SAMPLES[file])))
    assert content(decode("market", PRETTY[file])) == plain
    assert content(decode("market", on_the_wire(turned(SAMPLES[file])))) == plain


def test_the_short_way_and_the_careful_way_agree() -> None:
    """A `price_change` reads the same however often it comes, whichever way it is decoded."""
    dialect, frame = MarketDialect(), on_the_wire(SAMPLES["price_change.json"])
    for _ in range(200):
        assert [event for _, event in dialect.read(frame)] == INBOUND["price_change.json"]


@pytest.mark.parametrize("file", OUTBOUND)
def test_a_frame_to_the_venue(file: str) -> None:
    """For the same keys we say the same, apart from options that a sample leaves out."""
    said = OUTBOUND[file]
    assert said is not None
    if file == "ping.json":
        assert said == SAMPLES[file]
    elif file in LEAVES_OPTIONS_OUT:
        assert json.loads(said).items() >= SAMPLES[file].items()
    else:
        assert json.loads(said) == SAMPLES[file]


def test_options_are_those_asked_for() -> None:
    """What the profile can set shows in the message."""
    dialect = MarketDialect(custom_features=False, initial_dump=False, level=1)
    assert json.loads(dialect.opening([])) == {
        "assets_ids": [],
        "type": "market",
        "initial_dump": False,
        "level": 1,
        "custom_feature_enabled": False,
    }
