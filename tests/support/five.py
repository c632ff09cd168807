"""All five feeds at once: what to ask of each, of the gateway and of the venue itself."""

from collections.abc import Callable
from typing import Any

import msgspec

from polybus_services.simulator import Simulator, SimulatorOptions, SportsChoices, UserChoices
from polybus_services.simulator.polybolt_feed import PolyboltManners
from polybus_services.simulator.rtds_feed import RtdsManners
from polybus_services.simulator.user_feed import State, UserManners

from .rig import Rig
from .until import until

FEEDS = ("market", "user", "rtds", "polybolt", "sports")

VENUE = SimulatorOptions(
    markets=4,
    seed=5,
    paused=True,
    account_share=0.5,
    sports=SportsChoices(ping_every_s=0.3),
    user=UserChoices(cut_after_s=0.05),
)
"""Paused, with busy accounts.  It asks sports often, but waits for its answer as the venue does: on a busy machine a
long step keeps the gateway, in the same process, from answering for seconds."""

TOPICS = (
    "activity",
    "comments",
    "crypto_prices",
    "crypto_prices_chainlink",
    "crypto_prices_twap_thirty",
    "crypto_prices_twap_sixty",
    "equity_prices",
)

CRYPTO = ("btcusd", "ethusd", "solusd")
EQUITIES = ("aapl", "nvda")


def wishes(rig: Rig, feed: str) -> list[dict[str, Any]]:
    """The requests that together want about all that a feed can give."""
    by_feed: dict[str, list[dict[str, Any]]] = {
        "market": [{"assets": rig.assets}],
        "user": [{"feed": "user", "account": label} for label in ("alice", "bob")],
        "rtds": [{"feed": "rtds", "topics": list(TOPICS)}],
        "polybolt": [
            {"feed": "polybolt", "symbols": list(CRYPTO), "classes": ["crypto", "crypto_twap"]},
            {"feed": "polybolt", "symbols": list(EQUITIES), "classes": ["equity", "equity_twap"]},
        ],
        "sports": [{"feed": "sports"}],
    }
    return by_feed[feed]


def said(simulator: Simulator, feed: str) -> list[list[object]]:
    """What a client says to the venue itself to get the same, one list per connection."""
    auths = [
        {"apiKey": told["api_key"], "secret": told["secret"], "passphrase": told["passphrase"]}
        for told in simulator.accounts
    ]
    pairs = [(class_, symbol) for class_ in ("crypto", "crypto.twap") for symbol in CRYPTO]
    pairs += [(class_, symbol) for class_ in ("equity", "equity.twap") for symbol in EQUITIES]
    items = [
        {
            "channel": f"price.{class_}",
            "filter": {"symbol": symbol} | ({"window_seconds": 60} if class_.endswith("twap") else {}),
        }
        for class_, symbol in pairs
    ]
    topics = [{"topic": topic, "type": "*"} for topic in TOPICS]
    by_feed: dict[str, list[list[object]]] = {
        "market": [[{"assets_ids": simulator.assets, "type": "market", "custom_feature_enabled": True}]],
        "user": [[{"type": "user", "auth": auth}] for auth in auths],
        "rtds": [[{"action": "subscribe", "subscriptions": topics}]],
        "polybolt": [[{"op": "auth", "auth": auths[0]}, {"op": "subscribe", "subscriptions": items}]],
        "sports": [[]],
    }
    return by_feed[feed]


async def follow(rig: Rig, *feeds: str, **more: Any) -> None:
    """Have the gateway follow all of these feeds, until the venue knows."""
    for feed in feeds:
        for wish in wishes(rig, feed):
            reply = await rig.consumer.ask("subscribe", **wish, **more, wait="sent")
            assert reply["missing"] == []
    await is_served(rig, *feeds)


async def is_served(rig: Rig, *feeds: str) -> None:
    """Wait until the venue has let the gateway's connections in, and knows what they want."""
    await until(lambda: all(SERVED[feed](rig) for feed in feeds), 30)
    if "market" in feeds:
        await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))


def manners_of[M](rig: Rig, kind: type[M]) -> list[M]:
    """The venue's side of the connections of one kind."""
    return [manners for manners in rig.simulator.venue.links if isinstance(manners, kind)]


def _serves_user(rig: Rig) -> bool:
    live = [each for each in manners_of(rig, UserManners) if each.state is State.LIVE]
    return {each.account.label for each in live if each.account} == {"alice", "bob"}


def _serves_rtds(rig: Rig) -> bool:
    return any(
        {topic for topic, _ in each.subscriptions} == set(TOPICS) for each in manners_of(rig, RtdsManners)
    )


def _serves_polybolt(rig: Rig) -> bool:
    return any(len(each.following) == 10 for each in manners_of(rig, PolyboltManners))


SERVED: dict[str, Callable[[Rig], bool]] = {
    "market": lambda rig: any(link.id.startswith("market") for link in rig.simulator.venue.links.values()),
    "user": _serves_user,
    "rtds": _serves_rtds,
    "polybolt": _serves_polybolt,
    "sports": lambda rig: any(link.id.startswith("sports") for link in rig.simulator.venue.links.values()),
}


def venue(**options: Any) -> SimulatorOptions:
    """`VENUE` with other options."""
    return msgspec.structs.replace(VENUE, **options)
