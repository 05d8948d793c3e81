"""What alarms are about, read from a running daemon (R66)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from gateway import store
from gateway.core import alarms, hours, ticketcauses
from gateway.daemon.node import Node
from gateway.store import calls, leases, targets, tickets

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
POOL_US = 2 * 3_600 * SECOND_US
"""How long a pool counts as exhausted after its event, which comes at most once an hour."""

AMI, DISK, POOL, TARGET, BLOCKED, NO_CALLS, FAULTS, NUMBERS = (
    "ami-down",
    "disk-nearly-full",
    "pool-exhausted",
    "target-failing",
    "blocked-ratio",
    "no-calls",
    "system-faults",
    "number-faults",
)
NAMED = 3
"""So many numbers an alarm names."""


def rules(node: Node) -> dict[str, alarms.Rule]:
    """The rule of each kind, with the spans that the settings name."""
    chosen = node.settings.alerts
    made = (
        alarms.Rule(AMI, alarms.Severity.CRITICAL, chosen.ami_seconds, 30, of_node=True),
        alarms.Rule(DISK, alarms.Severity.CRITICAL, 0, 60, of_node=True),
        alarms.Rule(POOL, alarms.Severity.WARNING, 0, 0),
        alarms.Rule(TARGET, alarms.Severity.WARNING, chosen.target_seconds, 60),
        alarms.Rule(BLOCKED, alarms.Severity.WARNING, 0, 600),
        alarms.Rule(NO_CALLS, alarms.Severity.WARNING, 0, 0),
        alarms.Rule(FAULTS, alarms.Severity.CRITICAL, 0, 0),
        alarms.Rule(NUMBERS, alarms.Severity.WARNING, 0, 0),
    )
    return {rule.kind: rule for rule in made}


def zone(node: Node) -> tzinfo:
    """Of the first site."""
    current = node.books.current
    return ZoneInfo(current.default_site.time_zone) if current is not None and current.sites else UTC


async def look(node: Node, now_us: int) -> list[alarms.Reading]:
    """What is found at a time. Raises StoreUnavailable."""
    async with node.database.read() as connection:
        return [
            *_of_machine(node),
            *await _of_targets(connection, node),
            *await _of_pools(connection, node, now_us),
            *await _of_calls(connection, node, now_us),
            *await _of_faults(connection, node, now_us),
            *await _of_numbers(connection, node, now_us),
        ]


def _of_machine(node: Node) -> Iterator[alarms.Reading]:
    name, chosen = node.settings.node.name, node.settings.alerts
    if node.ami is not None:
        is_down = not node.ami.connected.is_set()
        yield alarms.Reading(AMI, name, is_down, f"{name}: the manager interface of Asterisk does not answer")
    if node.guard is not None and node.guard.space is not None and chosen.disk_free_percent:
        free = 100 * node.guard.space.free_share
        low = chosen.disk_free_percent
        # Freed a little more than was asked for, or it would come and go with each file.
        holds = True if free < low else False if free > low * 1.2 else None
        yield alarms.Reading(DISK, name, holds, f"{name}: {free:.1f} % of the journal's disk are free", round(free, 2))


async def _of_targets(connection: store.Connection, node: Node) -> list[alarms.Reading]:
    known = node.post.lines if node.post is not None else ()
    return [
        alarms.Reading(
            TARGET,
            target,
            state.failing_us is not None or state.off_us is not None,
            f"{target}: {state.off_reason or state.last_error or 'takes events'}",
        )
        for target, state in (await targets.states(connection)).items()
        # Of one that left the routing file nobody can say any more that it is well again.
        if target in known
    ]


async def _of_pools(connection: store.Connection, node: Node, now_us: int) -> list[alarms.Reading]:
    exhausted = await leases.last_exhausted(connection)
    known = node.books.current.web.pools if node.books.current is not None else {}
    return [
        alarms.Reading(POOL, pool, now_us - at_us < POOL_US, f"pool {pool}: no number was free for a visitor")
        for pool, at_us in exhausted.items()
        if pool in known
    ]


async def _of_calls(connection: store.Connection, node: Node, now_us: int) -> list[alarms.Reading]:
    chosen = node.settings.alerts
    found = []
    if chosen.blocked_percent < 100:
        since_us = now_us - chosen.blocked_minutes * MINUTE_US
        answered = await _count(connection, since_us, outcomes=frozenset({"answered"}))
        population = answered + await _count(connection, since_us, missed=True)
        if population >= chosen.blocked_calls:
            blocked = 100 * (1 - answered / population)
            holds = alarms.over(blocked, high=chosen.blocked_percent, low=0.8 * chosen.blocked_percent)
            said = f"{blocked:.1f} % of {population} calls in {chosen.blocked_minutes} minutes were not answered"
            found.append(alarms.Reading(BLOCKED, "all", holds, said, round(blocked, 2)))
        else:
            found.append(alarms.Reading(BLOCKED, "all", False, "too few calls for a verdict"))
    minutes = chosen.no_calls_minutes
    if minutes and _were_open(node, now_us, minutes):
        is_silent = await _count(connection, now_us - minutes * MINUTE_US) == 0
        found.append(alarms.Reading(NO_CALLS, "all", is_silent, f"no call for {minutes} minutes of business hours"))
    return found


async def _of_faults(connection: store.Connection, node: Node, now_us: int) -> list[alarms.Reading]:
    """Callers whom a fault of the system lost (N7): for IT, not for those who call back."""
    chosen = node.settings.alerts
    if not chosen.fault_calls:
        return []
    since_us = now_us - chosen.fault_minutes * MINUTE_US
    found = await tickets.causes_since(connection, ticketcauses.Cause.SYSTEM, since_us)
    lost = sum(found.values())
    why = ", ".join(f"{word} {number}" for word, number in sorted(found.items()))
    said = f"{lost} callers were lost to faults of the system in {chosen.fault_minutes} minutes: {why or 'none'}"
    return [alarms.Reading(FAULTS, "all", lost >= chosen.fault_calls, said, float(lost))]


async def _of_numbers(connection: store.Connection, node: Node, now_us: int) -> list[alarms.Reading]:
    """Callers missed since a number is shown wrongly, or is none of ours (R21): an alarm for each reason."""
    chosen = node.settings.alerts
    if not chosen.number_calls:
        return []
    since_us = now_us - chosen.number_minutes * MINUTE_US
    found = await tickets.numbers_since(connection, ticketcauses.Cause.NUMBER, since_us)
    made = []
    for why, said in _WHY_NUMBER.items():
        most = sorted(found.get(why, {}).items(), key=lambda one: (-one[1], one[0]))
        missed = sum(count for _, count in most)
        named = ", ".join(f"{number} ({count})" for number, count in most[:NAMED])
        more = f" and {len(most) - NAMED} more" if len(most) > NAMED else ""
        text = f"{missed} callers missed in {chosen.number_minutes} minutes: {said}: {named or 'none'}{more}"
        made.append(alarms.Reading(NUMBERS, why, missed >= chosen.number_calls, text, float(missed)))
    return made


_WHY_NUMBER = {
    "unknown_number": "numbers that are not in the routing file",
    "tag_check": "numbers that a page shows wrongly",
    "short_abandon_spike": "numbers whose callers hang up at once",
}


async def _count(connection: store.Connection, since_us: int, **facts: object) -> int:
    asked = calls.CallFilter(since_us=since_us, direction="inbound", **facts)  # type: ignore[arg-type]  # its fields
    return sum((await calls.count_by_day(connection, asked)).values())


def _were_open(node: Node, now_us: int, minutes: int) -> bool:
    """Whether some business hours held for the whole span."""
    current = node.books.current
    now = datetime.fromtimestamp(now_us / SECOND_US, UTC)
    steps = [now - timedelta(minutes=minute) for minute in (*range(0, minutes, 15), minutes)]
    declared = current.hours.values() if current is not None else ()
    return any(all(hours.is_open(one, at) for at in steps) for one in declared)
