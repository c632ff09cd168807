"""What the demo subscribes to on each feed, so that something is to be seen of all of them."""

from collections.abc import Iterable, Mapping

WAIT_S = 10.0
"""Seconds for the first data.  The simulator's slowest feed, its comments, brings something every 3 s."""

TOPICS = ("activity", "comments", "crypto_prices")

CRYPTO, STOCKS = ("btcusd", "ethusd"), ("aapl", "nvda")
"""What PolyBolt is asked for: the first two come from RTDS as well, and meet there on one subject each."""


def wishes(
    feeds: Iterable[str], assets: list[str], account: str | None
) -> Mapping[str, tuple[dict[str, object], ...]]:
    """The requests for each feed that the simulator has.

    Args:
        feeds: which those are.
        assets: of its markets.
        account: whose orders and trades to follow; without one, the feeds that want one are left out.
    """
    wanted: dict[str, tuple[dict[str, object], ...]] = {
        "market": ({"assets": assets, "wait": "data"},),
        "rtds": ({"topics": list(TOPICS), "wait": "sent"},),
        "sports": ({"wait": "sent"},),
    }
    if account is not None:
        # An account may do nothing for a while, and a market without trades is no fault.
        wanted["user"] = ({"account": account, "wait": "sent"},)
        wanted["polybolt"] = (
            {"symbols": list(CRYPTO), "wait": "data"},
            {"symbols": list(STOCKS), "classes": ["equity"], "wait": "data"},
        )
    return {feed: wanted[feed] for feed in feeds if feed in wanted}
