"""The RTDS topics' events as the venue writes them.

Prices and sizes are JSON numbers here, written from exact decimals: what a client makes of them is its own
affair.  Each frame lacks its `connection_id`, which `rtds_feed.py` puts before the rest.
"""

import datetime
import zlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from polybus_services.simulator.comments import Comment, Reaction
from polybus_services.simulator.facts import Commented, Fill, Price, PriceMoved, Settled, Side
from polybus_services.simulator.feeds import Entry, Frame
from polybus_services.simulator.ladder import PRICE_ONE, decimal_text, price_text, size_text
from polybus_services.simulator.people import People, Person
from polybus_services.simulator.prices import PRICE_PLACES, PriceSeries

PRICE_TOPICS = {
    "crypto_prices": ("crypto", None),
    "crypto_prices_chainlink": ("crypto", None),
    "crypto_prices_twap_thirty": ("crypto", 30),
    "crypto_prices_twap_sixty": ("crypto", 60),
    "equity_prices": ("equity", None),
}
"""Topic -> the class of its symbols and, for an average, over how many seconds."""

SNAPSHOT_S = 60
"""How far a filtered subscription's first frame goes back."""

UNKNOWN_OUTCOME_IN, FEE_IN = 32, 5
"""One row of so many has the outcome's index 999; two of so many have a `fee`, as about 40 % were seen to."""


def activity(settled: Settled, people: People) -> Iterator[tuple[str, Frame]]:
    """A mined trade: type and frame, `orders_matched` for the taker first, then `trades` for each participant.

    A participant is an order: somebody with two orders in one trade has two rows.
    """
    trade = settled.trade
    taker = people.owner(trade.order_id)
    row = _row(settled, taker, trade.outcome, trade.side, trade.price, trade.size)
    yield "orders_matched", _activity(settled, "orders_matched", row)
    yield "trades", _activity(settled, "trades", row)
    for fill in trade.fills:
        yield "trades", _activity(settled, "trades", _maker_row(settled, people, fill))


def _maker_row(settled: Settled, people: People, fill: Fill) -> dict[str, object]:
    order = fill.order
    price = order.sees(fill.price)
    return _row(settled, people.owner(order.id), order.outcome, order.side, price, fill.size)


def _row(
    settled: Settled, person: Person, outcome: int, side: Side, price: int, size: int
) -> dict[str, object]:
    trade = settled.trade
    listing = trade.market.listing
    lot = zlib.crc32(f"{trade.transaction_hash} {person.wallet}".encode())
    known = lot % UNKNOWN_OUTCOME_IN != 0
    row: dict[str, object] = {
        "asset": listing.assets[outcome],
        "bio": "",
        "conditionId": listing.market,
        "eventSlug": listing.slug,
        "icon": "https://example.invalid/icon.png",
        "name": person.name,
        "outcome": listing.outcomes[outcome] if known else "",
        "outcomeIndex": outcome if known else 999,
        "price": _number(price_text(price)),
        "profileImage": "",
        "proxyWallet": person.wallet,
        "pseudonym": person.pseudonym,
        "side": side.value,
        "size": _number(size_text(size)),
        "slug": listing.slug,
        # Seconds, and usually one less than the block's.
        "timestamp": settled.now_ms // 1_000 - 1,
        "title": listing.question,
        "transactionHash": trade.transaction_hash,
    }
    if lot % FEE_IN < 2:
        row["fee"] = _number(size_text(size * min(price, PRICE_ONE - price) // PRICE_ONE // 100))
    return row


def _activity(settled: Settled, kind: str, row: dict[str, object]) -> Frame:
    subject = f"{row['eventSlug']}/{row['conditionId']}"
    return _envelope("activity", kind, settled.now_ms, row, subject, kind)


def comment(fact: Commented) -> Frame:
    """A comment or a reaction.  A reaction's frame does not say under which event it is."""
    subject = f"Event/{fact.comment.parent_id}" if fact.reaction is None else "_/_"
    payload = _comment(fact.comment) if fact.reaction is None else _reaction(fact.reaction)
    return _envelope("comments", fact.kind, fact.now_ms, payload, subject, fact.kind)


def _comment(comment: Comment) -> dict[str, object]:
    author, answers = comment.author, comment.answers
    return {
        "body": comment.body,
        "createdAt": iso(comment.created_ms),
        "id": str(comment.id),
        **({"parentCommentID": str(answers.id)} if answers else {}),
        "parentEntityID": comment.parent_id,
        "parentEntityType": "Event",
        "profile": {
            "baseAddress": author.wallet,
            "displayUsernamePublic": True,
            "name": author.name,
            "proxyWallet": author.wallet,
            "pseudonym": author.pseudonym,
        },
        "reactionCount": 0,
        **({"replyAddress": answers.author.wallet} if answers else {}),
        "reportCount": 0,
        "userAddress": author.wallet,
    }


def _reaction(reaction: Reaction) -> dict[str, object]:
    return {
        "id": str(reaction.id),
        "commentID": reaction.comment.id,
        "reactionType": reaction.type,
        "icon": reaction.icon,
        "userAddress": reaction.author.wallet,
        "createdAt": iso(reaction.created_ms),
    }


def venue_symbol(topic: str, series: PriceSeries) -> str:
    """A symbol as the topic spells it."""
    if topic == "crypto_prices":
        return f"{series.base}usdt"
    return series.base if topic == "equity_prices" else f"{series.base}/usd"


def price_update(topic: str, moved: PriceMoved) -> Frame:
    """A price."""
    series, window_s = moved.series, PRICE_TOPICS[topic][1]
    value = series.last.value if window_s is None else series.average(window_s)
    payload: dict[str, object] = {
        "symbol": venue_symbol(topic, series),
        "timestamp": series.last.time_ms,
        "value": _value(topic, value),
    }
    if topic == "equity_prices":
        payload["full_accuracy_value"] = decimal_text(value, PRICE_PLACES)
        payload["received_at"] = moved.now_ms
        if moved.carried_forward:
            payload["is_carried_forward"] = True
    elif topic != "crypto_prices":
        # An integer of 1e-18 dollars.
        payload["full_accuracy_value"] = str(value * 10 ** (18 - PRICE_PLACES))
    if window_s is not None:
        payload["window_s"] = window_s
    return _envelope(topic, "update", moved.now_ms, payload, _price_subject(topic, series), "update")


def price_snapshot(topic: str, series: PriceSeries, now_ms: int) -> Frame:
    """The last minute of a symbol."""
    window_s = PRICE_TOPICS[topic][1]
    prices = list(series.history)
    points = averages(prices, window_s) if window_s else prices
    payload = {
        "symbol": venue_symbol(topic, series),
        "data": [
            {"timestamp": point.time_ms, "value": _value(topic, point.value)}
            for point in points[-SNAPSHOT_S:]
        ],
    }
    return _envelope(topic, "subscribe", now_ms, payload, _price_subject(topic, series), "snapshot")


def averages(prices: list[Price], window_s: int) -> list[Price]:
    """Each price replaced by the mean of those of the window before it."""
    shown: list[Price] = []
    for end, price in enumerate(prices, 1):
        part = prices[max(end - window_s, 0) : end]
        shown.append(Price(price.time_ms, sum(each.value for each in part) // len(part)))
    return shown


def approximate(value: int) -> str:
    """A price as the field `value` has it where an exact one stands beside it: to the cent, if above $10."""
    return decimal_text(round(value, -6) if value >= 10**9 else value, PRICE_PLACES)


def iso(time_ms: int, digits: int = 6) -> str:
    """A time as ISO 8601 in UTC, with so many fractional digits."""
    seconds, milliseconds = divmod(time_ms, 1_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{str(milliseconds).rjust(3, '0').ljust(digits, '0')}Z"


def literal_filters(topic: str, happening: Settled | Commented | PriceMoved) -> Iterable[str]:
    """The filter texts that let an event through; the venue compares them letter by letter."""
    match happening:
        case PriceMoved(series=series):
            symbol = venue_symbol(topic, series)
            return [f'{{"symbol":"{spelled}"}}' for spelled in (symbol, symbol.upper())]
        case Commented(comment=comment):
            parent = f'"parentEntityID":{comment.parent_id}'
            kind = '"parentEntityType":"Event"'
            return [f"{{{inside}}}" for inside in (f"{parent},{kind}", f"{kind},{parent}", parent, kind)]
        case Settled(trade=trade):
            slug = trade.market.listing.slug
            return [f'{{"{name}":"{slug}"}}' for name in ("event_slug", "market_slug")]


def _price_subject(topic: str, series: PriceSeries) -> str:
    class_, window_s = PRICE_TOPICS[topic]
    return f"{class_}_twap/{series.symbol}" if window_s else f"{class_}/{series.symbol}"


def _value(topic: str, value: int) -> msgspec.Raw:
    # Binance's topic has no other field for the price, so here it is exact.
    return _number(decimal_text(value, PRICE_PLACES) if topic == "crypto_prices" else approximate(value))


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _envelope(
    topic: str, kind: str, now_ms: int, payload: Mapping[str, object], subject: str, polybus_kind: str
) -> Frame:
    inside = (
        f'"payload":{msgspec.json.encode(payload).decode()},"timestamp":{now_ms},'
        f'"topic":"{topic}","type":"{kind}"'
    )
    return Frame((Entry(subject, polybus_kind, inside),), "{", "}")
