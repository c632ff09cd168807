"""What somebody can want of a feed: the part that a `subscribe` request and a subscription share."""

import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of which feed; the fields that a feed does not have stay empty."""

    feed: str = "market"
    """One of `FEEDS`."""
    types: list[str] = []
    """Event types, any of `EVENT_TYPES` that the feed has; none means all."""
    assets: list[str] = []
    """Token ids, decimal.  `market`: none means the whole venue (`new_market` only).  `user`, `rtds` (activity):
    only these, besides the `markets` that are named."""
    markets: list[str] = []
    """Condition ids.  `market`: their known assets are added.  `user`, `rtds` (activity): only these."""
    account: str | None = None
    """`user`: the operator's label of an account; may be left out where there is only one."""
    topics: list[str] = []
    """`rtds`: `activity`, `comments` or one of the price topics; taken from the types if absent."""
    event_slugs: list[str] = []
    """`rtds`, activity: only these events of the venue."""
    symbols: list[str] = []
    """`polybolt`: what to follow, in any spelling.  `rtds`, prices: only these."""
    classes: list[str] = []
    """`polybolt`: `crypto` (if absent), `crypto_twap`, `equity` or `equity_twap`."""
    leagues: list[str] = []
    """`sports`: only these."""
