"""The outbox and a lane: what is never given up never is, whatever happens; and others give way to it."""

import json
from collections.abc import Sequence

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polybus_actors.publishing.brake import RELEASED_AT
from polybus_actors.publishing.lane import Acked, Shipment
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.events import LastTradePrice
from polybus_protocol.stream import Publication, Stream

MOST = 6
TIMEOUT_S = 2.0


class Kept(RuleBasedStateMachine):
    """Any order of putting, taking, returning, shipping, acknowledging and breaking, as the bus does them."""

    @initialize()
    def begin(self) -> None:
        self.lane = Acked("user", TIMEOUT_S)
        self.lane.appear()
        self.outbox = Outbox(MOST, 10**9, clock=lambda: 5_000_000_000, lanes={"user": self.lane})
        self.accounts = [Stream("user", "user", ("a", f"0x{number}")) for number in range(2)]
        self.market = Stream("market", "market", ("0x1", "1"))
        for stream in (*self.accounts, self.market):
            stream.begin(_trade(), 1, None)
        self.put: list[Publication] = []
        """All of the accounts'."""
        self.batch: list[Publication] = []
        self.shipped: list[Shipment] = []
        self.unheard: list[Shipment] = []
        """What the stream has stored, and whose acks are on their way."""
        self.stored: dict[str, None] = {}
        """Ids, in the order in which they were."""
        self.was_on = False

    @rule(which=st.lists(st.integers(0, 2), min_size=1, max_size=8))
    def puts(self, which: Sequence[int]) -> None:
        """Events come, of accounts and of others, which give way."""
        publications = [
            (self.market if number == 2 else self.accounts[number]).publish(_trade(), 1, None)
            for number in which
        ]
        self.put += [one for one in publications if one.stream.family == "user"]
        self.outbox.put(publications)
        waiting = len(self.outbox._queue)
        assert waiting == 0 or waiting + len(self.lane) <= MOST

    @rule(limit=st.integers(1, 5))
    def takes(self, limit: int) -> None:
        """The bus takes a batch, once it is done with the one before."""
        if not self.batch:
            self.batch = self.outbox.take(limit)

    @rule(count=st.integers(0, 5))
    def hands_over(self, count: int) -> None:
        """Some of the batch goes to NATS; the client refuses the rest."""
        self.outbox.put_back(self.batch[count:])
        self.batch = []

    @rule()
    def ships(self) -> None:
        """What is due goes out."""
        if self.lane.is_due:
            self.shipped += self.lane.due()

    @rule(count=st.integers(0, 5))
    def stores(self, count: int) -> None:
        """Some of it is stored; the client refuses the rest."""
        for one in self.shipped[:count]:
            self.stored.setdefault(one.id)
            self.unheard.append(one)
        self.lane.return_(self.shipped[count:])
        self.shipped = []

    @rule(count=st.integers(1, 5))
    def acknowledges(self, count: int) -> None:
        """Some acks arrive."""
        for one in self.unheard[:count]:
            place = list(self.stored).index(one.id) + 1
            self.lane.hear(one.number, json.dumps({"stream": "S", "seq": place}).encode())
        del self.unheard[:count]

    @rule()
    def breaks(self) -> None:
        """The connection is lost, and the acks with it; what was taken comes back."""
        self.unheard.clear()
        self.outbox.lose(self.lane.break_off())
        self.lane.return_(self.shipped)
        self.shipped = []
        self.hands_over(0)

    @rule()
    def naps(self) -> None:
        """Time passes."""
        self.lane.nap(TIMEOUT_S * 0.6)

    @invariant()
    def each_is_there(self) -> None:
        """What was put is in the lane until it is stored: nothing of it is lost, nor counted as lost."""
        if not hasattr(self, "outbox"):
            return
        assert all(stream is self.market for stream in self.outbox.losers())
        assert len(self.lane) + len(self.stored) >= len(self.put)

    @invariant()
    def brake_holds(self) -> None:
        """It is on from when they fill the backlog until half of that is free."""
        if not hasattr(self, "outbox"):
            return
        if len(self.lane) >= MOST or (self.was_on and len(self.lane) > MOST * RELEASED_AT):
            assert self.outbox.brake.is_on
        self.was_on = self.outbox.brake.is_on

    def teardown(self) -> None:
        """In the end each was stored, and the brake is off."""
        if not hasattr(self, "outbox"):
            return
        self.breaks()
        for _ in range(4):
            self.outbox.take(100)
            self.ships()
            self.stores(10**6)
            self.acknowledges(10**6)
            self.naps()
        self.outbox.take(100)
        assert len(self.lane) == 0
        assert len(self.stored) == len(self.put)
        assert not self.outbox.brake.is_on


def _trade() -> LastTradePrice:
    return LastTradePrice(market="0x1", asset="1", price="0.5", size="1", side="BUY")


TestKept = Kept.TestCase
TestKept.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
