"""Interest: what is wanted is the union of what is subscribed, and the steps say exactly what changes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.control.interest import Interest, Steps, Subscription, steps

VENUE = "*"
KEYS = st.lists(st.sampled_from("abcdef"), max_size=5)
SUBSCRIPTIONS = st.builds(
    lambda id_, owner, assets: Subscription(id=id_, owner=owner, assets=assets, created=0),
    st.sampled_from("123"),
    st.sampled_from("xy"),
    KEYS,
)


def subscription(**fields: object) -> Subscription:
    return msgspec.convert({"id": "1", "owner": "x", "feed": "market", "created": 0} | fields, Subscription)


@given(st.lists(st.one_of(SUBSCRIPTIONS, st.lists(st.sampled_from("1234"), max_size=3))))
def test_wanted_is_the_union_of_the_subscriptions(calls: list[Subscription | list[str]]) -> None:
    """Whatever is put, replaced and removed; each step adds what was not wanted, and removes what was."""
    interest, model = Interest(), dict[str, Subscription]()
    for call in calls:
        before = set(interest.wanted)
        if isinstance(call, Subscription):
            change = interest.put(call)
            model[call.id] = call
        else:
            change = interest.remove(call)
            model = {id_: kept for id_, kept in model.items() if id_ not in call}

        wanted = {key for each in model.values() for key in each.assets or [VENUE]}
        assert set(interest.wanted) == wanted
        assert len(change.add) == len(set(change.add))
        assert len(change.remove) == len(set(change.remove))
        assert (set(change.add), set(change.remove)) == (wanted - before, before - wanted)
        assert interest.subscriptions == model
        for owner in "xyz":
            assert interest.of_owner(owner) == [each for each in model.values() if each.owner == owner]


@given(KEYS, KEYS)
def test_steps_lead_from_active_to_wanted(wanted: list[str], active: list[str]) -> None:
    """Nothing twice, nothing in vain, each in the order of its side."""
    change = steps(wanted, active)
    assert (set(active) - set(change.remove)) | set(change.add) == set(wanted)
    assert not set(change.add) & set(active)
    assert not set(change.remove) & set(wanted)
    assert change.add == [key for key in dict.fromkeys(wanted) if key in change.add]
    assert change.remove == [key for key in dict.fromkeys(active) if key in change.remove]
    assert bool(change) == (set(wanted) != set(active))


def test_a_replacement_does_not_disturb_what_stays() -> None:
    """A key that both the old and the new one want is never taken back in between."""
    interest = Interest()
    interest.put(subscription(assets=["a", "b"]))
    assert interest.put(subscription(assets=["b", "c"])) == Steps(["c"], ["a"])


SAME = {"assets": ["a", "b"], "markets": ["m"], "types": ["book", "trade"], "ttl_s": 5.0}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"assets": ["b", "a", "b"]},
        {"types": ["trade", "book"]},
        {"created": 7, "expires": 9},
        {"id": "2"},
    ],
    ids=str,
)
def test_a_repeated_request_asks_the_same(other: dict[str, object]) -> None:
    """Order and repeats mean nothing; nor does when it was made, or under which id."""
    assert subscription(**SAME).asks_the_same_as(subscription(**SAME | other))


@pytest.mark.parametrize(
    "other",
    [
        {"assets": ["a"]},
        {"markets": []},
        {"types": []},
        {"owner": "y"},
        {"feed": "user"},
        {"account": "main"},
        {"topics": ["activity"]},
        {"event_slugs": ["x"]},
        {"symbols": ["btcusd"]},
        {"classes": ["crypto"]},
        {"leagues": ["nba"]},
        {"deliver": "log"},
        {"ttl_s": None},
    ],
    ids=str,
)
def test_another_request_does_not(other: dict[str, object]) -> None:
    """Whatever the consumer would notice makes it another one."""
    assert not subscription(**SAME).asks_the_same_as(subscription(**SAME | other))


def test_leases() -> None:
    """A lease counts from its last renewal, may get another length, and may be for ever."""
    now = 10**18
    leased = subscription(ttl_s=2.5).renewed(now)
    assert leased.expires == now + 2_500_000_000
    assert leased.renewed(now + 1).expires == now + 2_500_000_001
    assert leased.renewed(now, 60.0).ttl_s == 60.0
    assert subscription().renewed(now).expires is None
    assert leased.renewed(now).asks_the_same_as(leased)


def test_what_is_over_is_found() -> None:
    """Leases that end now or earlier are over; those for ever never are."""
    interest = Interest()
    assert interest.next_expiry() is None
    for id_, expires in (("1", 20), ("2", None), ("3", 10)):
        interest.put(subscription(id=id_, expires=expires))
    assert interest.next_expiry() == 10
    assert [[each.id for each in interest.expired(now)] for now in (9, 10, 20)] == [[], ["3"], ["1", "3"]]
