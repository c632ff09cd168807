"""What becomes of a trade on the chain: mined and confirmed, now and then only at the second try, or never."""

from polybus_services.simulator.facts import Traded, TradeStatus

Plan = tuple[tuple[float, TradeStatus], ...]

SMOOTH: Plan = ((2.0, TradeStatus.MINED), (8.0, TradeStatus.CONFIRMED))
"""Seconds after the match.  The activity topic lags it by about 2 s, and tells of what is mined."""

RETRIED: Plan = ((2.0, TradeStatus.RETRYING), (5.0, TradeStatus.MINED), (11.0, TradeStatus.CONFIRMED))

FAILED: Plan = ((2.0, TradeStatus.RETRYING), (8.0, TradeStatus.FAILED))
"""A "ghost fill" (py-clob-client-v2 #34): matched, and never money."""

REVERTED: Plan = ((2.0, TradeStatus.MINED), (8.0, TradeStatus.FAILED))


def plan(trade: Traded) -> Plan:
    """What is going to happen to this trade; of a hundred about 91 go smoothly.

    It hangs on the trade's hash alone, so that one seed has one history.
    """
    lot = int(trade.transaction_hash[-4:], 16) % 100
    if lot < 4:
        return RETRIED
    if lot < 7:
        return FAILED
    return REVERTED if lot < 9 else SMOOTH
