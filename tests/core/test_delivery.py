"""When a delivery is tried again, where requests may go, who wants what: pure rules."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import addresses, delivery, receivers
from gateway.core.outgoing import adapters

NOW = 1_790_000_000_000_000
SECOND = delivery.SECOND_US
State = adapters.State
Fate = delivery.Fate


def step(state: State, attempts: int = 1, random: float = 0.0, again_us: int | None = None) -> delivery.Step:
    settled = adapters.Settled(state, again_us=again_us)
    return delivery.next_step(settled, attempts=attempts, now_us=NOW, random=random)


def test_the_schedule_of_standard_webhooks() -> None:
    """integrations.md 4.6: 0 s, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
    waits = [step(State.FAILED, attempts).at_us or 0 for attempts in range(1, 10)]
    assert [(at - NOW) / SECOND for at in waits] == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert step(State.FAILED, 10) == delivery.Step(Fate.DEAD)


def test_jitter_parts_what_failed_together() -> None:
    """Up to a fifth later, never earlier."""
    waits = [step(State.FAILED, 2, random).at_us for random in (0.0, 0.5, 1.0)]
    assert waits == [NOW + seconds * SECOND for seconds in (300, 330, 360)]


@given(st.integers(1, 9), st.floats(0, 1), st.none() | st.integers(0, 2**62))
def test_never_before_its_time_and_never_much_later(attempts: int, random: float, again_us: int | None) -> None:
    at_us = step(State.FAILED, attempts, random, again_us).at_us
    assert at_us is not None
    delay = delivery.DELAYS_SECONDS[attempts - 1] * SECOND
    latest = max(delay * (1 + delivery.JITTER), delivery.LONGEST_SECONDS * SECOND)
    assert NOW + delay <= at_us <= NOW + latest + 1


@pytest.mark.parametrize(
    ("asked_seconds", "seconds"), [(-10, 300), (10, 300), (900, 900), (86_400, 86_400), (10**9, 86_400)]
)
def test_retry_after_prolongs_and_is_bounded(asked_seconds: int, seconds: int) -> None:
    assert step(State.FAILED, 2, again_us=NOW + asked_seconds * SECOND).at_us == NOW + seconds * SECOND


def test_what_each_end_means() -> None:
    assert step(State.DONE).fate is step(State.SKIPPED).fate is Fate.DONE
    assert step(State.DEAD).fate is Fate.DEAD
    assert step(State.GONE) == delivery.Step(Fate.AGAIN, NOW, counts=False, switches_off=True)
    for waits in (State.WAITING, State.BLOCKED):
        assert step(waits, 99, again_us=NOW + 7) == delivery.Step(Fate.AGAIN, NOW + 7, counts=False)


PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:c0a8:101::", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001:db8::1", "", "localhost", "127.1", "0x7f.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_of_the_internet_is_refused(address: str) -> None:
    assert not addresses.may_reach(address, ())


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_the_internet_is_reached_unless_only_the_allowed_is(address: str) -> None:
    assert addresses.may_reach(address, ())
    assert not addresses.may_reach(address, (ip_network("10.0.0.0/8"),), only_allowed=True)


def test_what_is_allowed_is_reached_in_each_writing() -> None:
    allowed = (ip_network("10.1.2.0/24"), ip_network("::1/128"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        assert addresses.may_reach(address, allowed)
        assert addresses.may_reach(address, allowed, only_allowed=True)
    assert not addresses.may_reach("10.1.3.3", allowed)


def test_who_wants_what() -> None:
    told = receivers.Subscriptions({"jsonl": ("*",)})
    told.use({"webhook:b": ("call.*",), "webhook:a": ("call.missed", "system.alert")})
    assert told.takers("call.missed") == ["jsonl", "webhook:a", "webhook:b"]
    assert told.takers("call.missed.not") == ["jsonl", "webhook:b"]
    assert told.takers("ticket.opened") == ["jsonl"]
    told.use({})
    assert (list(told), len(told), "jsonl" in told, told.takers("call.missed")) == (["jsonl"], 1, True, ["jsonl"])
