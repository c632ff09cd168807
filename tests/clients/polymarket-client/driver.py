# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Lets the venue's own Python client subscribe to all its streams, and prints each event as a line of JSON.

Usage: python driver.py <the simulator's ready line>.  Ends when its standard input does.

The client has no setting for its URLs: they are replaced in its private description of the environment, and the
secure client is made by the private step that does not ask the REST side about the credentials.  So this holds for
the release in requirements.lock, and another may need another driver.
"""

import asyncio
import dataclasses
import json
import secrets
import sys
import warnings

from eth_account import Account
from polymarket import AsyncSecureClient
from polymarket._internal.environment import PRODUCTION_CONFIG, create_environment
from polymarket.models.clob.api_key import ApiKeyCreds
from polymarket.streams import (
    CommentsSpec,
    CryptoPricesChainlinkTwapSpec,
    CryptoPriceSpec,
    CryptoPricesSpec,
    CryptoTwapPriceSpec,
    EquityPriceSpec,
    EquityPricesSpec,
    EquityTwapPriceSpec,
    MarketSpec,
    SportsSpec,
    UserSpec,
)


def specs(assets: list[str]) -> dict[str, object]:
    """One subscription of every kind that the client knows and the simulator serves."""
    comments = ["comment_created", "comment_removed", "reaction_created", "reaction_removed"]
    return {
        "market": MarketSpec(asset_ids=assets, custom_feature_enabled=True),
        "user": UserSpec(),
        "sports": SportsSpec(),
        "comments": CommentsSpec(types=comments),
        "crypto_prices": CryptoPricesSpec(topic="prices.crypto.binance", symbols=["btcusdt"]),
        "crypto_prices_chainlink": CryptoPricesSpec(topic="prices.crypto.chainlink"),
        "crypto_prices_twap_thirty": CryptoPricesChainlinkTwapSpec(window_seconds=30),
        "crypto_prices_twap_sixty": CryptoPricesChainlinkTwapSpec(window_seconds=60),
        "equity_prices": EquityPricesSpec(symbol="AAPL"),
        "price.crypto": CryptoPriceSpec(symbols=["btcusd", "ethusd"]),
        "price.crypto.twap": CryptoTwapPriceSpec(symbols=["btcusd"]),
        "price.equity": EquityPriceSpec(symbol="aapl"),
        "price.equity.twap": EquityTwapPriceSpec(symbol="aapl"),
    }


async def main(ready: dict) -> None:
    """Subscribe to everything and print until there is nobody to print for."""
    config = dataclasses.replace(
        PRODUCTION_CONFIG,
        clob_market_ws_url=ready["feeds"]["market"],
        clob_user_ws_url=ready["feeds"]["user"],
        rtds_ws_url=ready["feeds"]["rtds"],
        realtime_ws_url=ready["feeds"]["polybolt"],
        sports_ws_url=ready["feeds"]["sports"],
        clob_url=ready["rest"],
    )
    account = ready["accounts"][0]
    key = f"0x{secrets.token_hex(32)}"
    client = await AsyncSecureClient._create(
        private_key=key,
        wallet=Account.from_key(key).address,
        environment=create_environment(name="simulator", config=config),
        credentials=ApiKeyCreds(
            apiKey=account["api_key"], secret=account["secret"], passphrase=account["passphrase"]
        ),
        validate_credentials=False,
    )
    assets = [asset for market in ready["markets"] for asset in market["assets"]]

    async def follow(stream: str, spec: object) -> None:
        handle = await client.subscribe(spec)
        print(json.dumps({"stream": stream, "subscribed": True}), flush=True)
        async for event in handle:
            line = {"stream": stream, "event": type(event).__name__, "content": event.model_dump(mode="json")}
            print(json.dumps(line), flush=True)

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(stream, spec)) for stream, spec in specs(assets).items()]
        await loop.run_in_executor(None, sys.stdin.read)
        for task in following:
            task.cancel()
    await client.close()


if __name__ == "__main__":
    # The topics of RTDS are deprecated there, which is why they are tried here.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.run(main(json.loads(sys.argv[1])))
