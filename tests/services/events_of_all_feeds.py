"""An event of each kind that the market feed does not bring, and a gap of each family."""

from polybus_protocol.events import (
    ActivityTrade,
    CommentCreated,
    Gap,
    MakerOrder,
    Order,
    PricePoint,
    PriceSnapshot,
    PriceUpdate,
    Profile,
    ReactionCreated,
    SportResult,
    Trade,
)
from polybus_protocol.subjects import FAMILIES

MARKET, ASSET = "0x" + "ab" * 32, "7" * 77

ORDER = Order(
    account="alice",
    market=MARKET,
    asset=ASSET,
    id="0x" + "cd" * 32,
    action="PLACEMENT",
    status="LIVE",
    status_detail=None,
    side="BUY",
    price="0.45",
    original_size="12",
    size_matched="0",
    remaining_size="12",
)

TRADE = Trade(
    account="alice",
    market=MARKET,
    asset=ASSET,
    id="94d7ea6f-6299-49d3-a12f-141cfdc6d8fa",
    status="MATCHED",
    side="SELL",
    price="0.55",
    size="40",
    trader_side="MAKER",
    maker_orders=[
        MakerOrder("0x" + "01" * 32, ASSET, "30", "0.55", side="BUY", is_own=False),
        MakerOrder("0x" + "02" * 32, ASSET, "10", "0.45", side="BUY", is_own=True),
    ],
)

ACTIVITY = ActivityTrade(
    event_slug="fed-decision",
    market=MARKET,
    asset=ASSET,
    side="BUY",
    price="0.9",
    size="619.8",
    name="trader.3",
    outcome="Yes",
    title="Will the Fed cut?",
)

PRICE = PriceUpdate(class_="crypto", symbol="btcusd", feed="polybolt", value="64027.87927712", source="pyth")

SNAPSHOT = PriceSnapshot(
    class_="crypto", symbol="btcusd", feed="rtds", points=[PricePoint(1, "64000"), PricePoint(2, "64000.1")]
)

COMMENT = CommentCreated(
    parent_type="Event", parent_id="503925", id="1763327", body="nice", profile=Profile(name="trader.78")
)

REACTION = ReactionCreated(
    parent_type=None,
    parent_id=None,
    id="1763328",
    comment_id="1763327",
    reaction_type="FIRE",
    user_address="0xc61f15663c3b825911063906fe317a677c0ffbcc",
)

GAME = SportResult(
    league="nfl",
    game="19439",
    home_team="LAC",
    away_team="BUF",
    score="3-16",
    period="Q4",
    elapsed="5:18",
    status="InProgress",
)

_FEEDS = {"activity": "rtds", "comments": "rtds", "price": "polybolt"}


def gaps_of_all_families() -> list[Gap]:
    """One of each family that announces gaps."""
    names = {"class": "class_"}
    return [
        Gap(
            feed=_FEEDS.get(family, family),
            reason="connection_lost",
            **{names.get(id_, id_): "x1" for id_ in ids},  # type: ignore[arg-type]
        )
        for family, ids in FAMILIES.items()
        if family not in ("system", "control", "unknown")
    ]
