"""What to listen on for a subscription: the NATS subjects that its reply names."""

from .events import MarketResolved, NewMarket, type_of
from .interest import Subscription
from .subjects import PREFIX, asset_pattern

MAX_SUBJECT_BYTES = 512 * 1024
"""Bytes of subjects a reply may hold: half of NATS' default payload.  Past it the subjects are wider."""

_MARKET_WIDE = (type_of(NewMarket), type_of(MarketResolved))
"""The types that concern a market rather than an asset."""


def subjects_of(subscription: Subscription, prefix: str = PREFIX) -> list[str]:
    """The subjects that carry what a subscription wants, gaps included.

    For more assets than a reply can name they are wider than what is wanted: all assets, of the types that
    are wanted.
    """
    types = [type_ for type_ in subscription.types if type_ not in _MARKET_WIDE]
    market_wide = [type_ for type_ in _MARKET_WIDE if type_ in subscription.types]
    if not subscription.types and subscription.assets:
        market_wide = [type_of(MarketResolved)]
    wide = [f"{prefix}.market.*._.{type_}" for type_ in market_wide]
    if not subscription.assets or (subscription.types and not types):
        return wide
    wanted = [*types, "gap"] if types else [None]
    narrow = [asset_pattern(asset, type_, prefix) for asset in subscription.assets for type_ in wanted]
    if sum(map(len, narrow)) > MAX_SUBJECT_BYTES:
        return [f"{prefix}.market.*.*.{type_ or '*'}" for type_ in wanted]
    return narrow + wide
