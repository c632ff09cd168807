"""Which assets belong to which market, learned from the events that pass by.

The venue's socket takes token ids and knows nothing of a request by market; until markets are
resolved elsewhere, a pair that was seen once is all there is to go by.
"""

from collections import OrderedDict

from ..books.proof import MarketFacts

REMEMBERED_MARKETS = 200_000
"""Markets remembered at most, about 60 MB; the oldest goes first.  The venue lists fewer at a time."""


class MarketDirectory:
    """A bounded memory of market and asset pairs."""

    def __init__(self) -> None:
        self._assets: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._market: dict[str, str] = {}
        self._facts: dict[str, MarketFacts] = {}

    def learn(self, market: str, *assets: str) -> None:
        """Remember that these assets belong to the market; order is that of the first sight."""
        known = self._assets.get(market, ())
        new = tuple(asset for asset in dict.fromkeys(assets) if asset not in known)
        if not new:
            return
        self._assets[market] = known + new
        self._market.update(dict.fromkeys(new, market))
        if len(self._assets) > REMEMBERED_MARKETS:
            oldest, forgotten = self._assets.popitem(last=False)
            self._facts.pop(oldest, None)
            for asset in forgotten:
                if self._market.get(asset) == oldest:
                    del self._market[asset]

    def assets_of(self, market: str) -> tuple[str, ...]:
        """The assets known to belong to a market; none if it has not passed by."""
        return self._assets.get(market, ())

    def market_of(self, asset: str) -> str | None:
        """The market an asset is known to belong to."""
        return self._market.get(asset)

    def facts_of(self, market: str) -> MarketFacts:
        """What is known of a market that has passed by, shared by all who ask."""
        return self._facts.setdefault(market, MarketFacts())

    def __len__(self) -> int:
        return len(self._assets)
