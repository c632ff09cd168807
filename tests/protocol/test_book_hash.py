"""The book hash, against hashes the venue itself sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from polybus_protocol.books.book_hash import book_hash, hash_of_json, levels_json

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "hash_vectors.json").read_text()
)["vectors"]


def pairs(levels: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(level["price"], level["size"]) for level in levels]


def hash_of(vector: dict[str, Any], **changes: Any) -> str:
    book = vector | changes
    return book_hash(
        book["market"],
        book["asset_id"],
        book["timestamp"],
        pairs(book["bids"]),
        pairs(book["asks"]),
        min_order_size=book["min_order_size"],
        tick_size=book["tick_size"],
        neg_risk=book["neg_risk"],
        last_trade_price=book["last_trade_price"],
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_hash_equals_the_venues(vector: dict[str, Any]) -> None:
    """A captured book hashes to what the venue wrote beside it."""
    assert hash_of(vector) == vector["expected_sha1"]


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "1"},
        {"min_order_size": "15"},
        {"tick_size": "0.001"},
        {"neg_risk": True},
        {"last_trade_price": "0.123"},
        {"bids": []},
        {"asks": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_input_counts(change: dict[str, Any]) -> None:
    """No input is left out of the hash."""
    assert hash_of(VECTORS[0], **change) != VECTORS[0]["expected_sha1"]


def test_written_levels_give_the_same_hash() -> None:
    """The short cut for levels already written agrees with the long way."""
    vector = VECTORS[0]
    shortcut = hash_of_json(
        vector["market"],
        vector["asset_id"],
        vector["timestamp"],
        levels_json(pairs(vector["bids"])),
        levels_json(pairs(vector["asks"])),
        min_order_size=vector["min_order_size"],
        tick_size=vector["tick_size"],
        neg_risk=vector["neg_risk"],
        last_trade_price=vector["last_trade_price"],
    )
    assert shortcut == hash_of(vector)
