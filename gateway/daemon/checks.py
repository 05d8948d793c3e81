"""What `/readyz` and Prometheus are told of a running daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gateway.core import displayrules, records
from gateway.daemon.node import Node
from gateway.pbx import ami
from gateway.services import analysing, leasing, recorder
from gateway.store import outbox
from gateway.web import health, metrics


def behind_seconds(node: Node) -> float | None:
    """Age of the oldest journal row that is not stored yet; 0 when there is none."""
    if node.tracker is None or node.reader is None:
        return None
    if node.tracker.last_row_us is None or node.reader.unread_bytes() == 0:
        return 0.0
    return max(0.0, (time.time_ns() // 1_000 - node.tracker.last_row_us) / 1_000_000)


def probes(node: Node) -> dict[str, health.Probe]:
    """The checks of `/readyz`. A check that keeps callers from being routed is required."""
    found: dict[str, health.Probe] = {"routing": lambda: _routing_check(node)}
    if node.tracker is not None:
        found["journal"] = lambda: _journal_check(node)
        found["journal disk"] = lambda: _journal_disk_check(node)
    if node.ami is not None:
        found["manager"] = lambda: _manager_check(node)
    if node.prompter is not None:
        found["prompts"] = lambda: _prompts_check(node)
    found["recordings"] = lambda: _recordings_check(node)
    if node.leasing is not None:
        found["pools"] = lambda: _pools_check(node)
    if node.public is not None:
        found["public listener"] = lambda: _public_check(node)
    if node.places is not None:
        found["places"] = lambda: _places_check(node)
    found["events"] = lambda: _events_check(node)
    return found


def _routing_check(node: Node) -> health.Check:
    revision, problem = node.planner.revision, node.planner.problem
    if problem is not None:
        return health.Check(False, problem, is_required=revision is None, facts={"revision": revision})
    if revision is None:
        return health.Check(False, "no routing applied yet: run `dialmark apply FILE`")
    return health.Check(True, f"revision {revision} in force", facts={"revision": revision})


def _journal_check(node: Node) -> health.Check:
    assert node.tracker is not None and node.reader is not None
    facts: dict[str, health.Fact] = {
        "rows": node.reader.counts.rows,
        "damaged_rows": node.reader.counts.damaged,
        "unread_bytes": node.reader.unread_bytes(),
    }
    if node.tracker.problem is not None:
        return health.Check(False, f"records wait: {node.tracker.problem}", facts=facts)
    if not node.tracker.is_caught_up:
        return health.Check(True, f"catching up, {facts['unread_bytes']} bytes to read", facts=facts)
    return health.Check(True, f"{node.tracker.open_calls} calls up", facts=facts)


def _journal_disk_check(node: Node) -> health.Check:
    assert node.guard is not None
    space = node.guard.space
    said = f"{space.free_share:.1%} free" if space else "free space not known"
    if node.guard.problem is not None:
        said = f"{said}, {node.guard.problem}"
    facts: dict[str, health.Fact] = {
        "free_bytes": space.free_bytes if space else None,
        "total_bytes": space.total_bytes if space else None,
        "has_ballast": node.guard.has_ballast,
    }
    return health.Check(node.guard.problem is None, said, is_required=False, facts=facts)


def _manager_check(node: Node) -> health.Check:
    assert node.ami is not None
    seen = node.ami.health
    is_up = seen.state is ami.AmiState.CONNECTED
    said = f"Asterisk {seen.asterisk_version}" if is_up else f"{seen.state.value}: {seen.last_error or 'no error yet'}"
    return health.Check(is_up, said, is_required=False, facts={"ping_milliseconds": seen.ping_milliseconds})


def _prompts_check(node: Node) -> health.Check:
    assert node.prompter is not None
    ready = len(node.prompter.shelf.items)
    problem = node.prompter.problem
    return health.Check(problem is None, problem or f"{ready} ready", is_required=False, facts={"ready": ready})


def _recordings_check(node: Node) -> health.Check:
    kept = node.recorder
    facts: dict[str, health.Fact] = {}
    if kept is not None:
        facts = {"recorded": kept.accepts, "waiting": kept.waiting, **_results(kept.counts, ("stored", "refused"))}
    problem = next(_recording_problems(node), None)
    said = "no key ring, no recording" if node.keys.ring is None else f"{facts.get('waiting', 0)} waiting"
    return health.Check(problem is None, problem or said, is_required=False, facts=facts)


def _recording_problems(node: Node) -> Iterator[str]:
    """What is wrong, the cause before what follows from it."""
    kept, hook = node.recorder, node.analyser
    if node.keys.problem:
        yield node.keys.problem
    if kept is not None and kept.problem is not None:
        yield f"recordings wait in the spool: {kept.problem}"
    if node.keys.ring is not None and kept is not None and kept.refusal is not None:
        yield f"new calls are not recorded: {kept.refusal}"
    if node.keys.ring is None and node.books.wants_recording:
        yield "the routing asks for recording, and there is no key ring"
    if hook is not None and hook.problem is not None:
        yield hook.problem


def _pools_check(node: Node) -> health.Check:
    assert node.leasing is not None
    counts, looking = node.leasing.counts, node.attributing
    facts: dict[str, health.Fact] = {
        "pools": len(node.books.current.web.pools) if node.books.current is not None else 0,
        "exhausted": counts.exhausted.total(),
        "lost": counts.lost,
        "refused": counts.refused,
    }
    if node.leasing.problem is not None:
        return health.Check(False, f"numbers are not lent: {node.leasing.problem}", is_required=False, facts=facts)
    if looking is not None and looking.problem is not None:
        said = f"calls are not looked at again: {looking.problem}"
        return health.Check(False, said, is_required=False, facts=facts)
    return health.Check(True, f"{facts['pools']} pools", is_required=False, facts=facts)


def _public_check(node: Node) -> health.Check:
    assert node.public is not None
    said = node.public.problem or f"at {node.public.address}"
    return health.Check(node.public.problem is None, said, is_required=False)


def _places_check(node: Node) -> health.Check:
    assert node.places is not None
    problem, built_us = node.places.problem, (node.places.built or 0) * 1_000_000
    said = f"places are not known by the newest file: {problem}" if problem else f"made {records.timestamp(built_us)}"
    return health.Check(problem is None, said, is_required=False)


async def _events_check(node: Node) -> health.Check:
    async with node.database.read() as connection:
        waiting = await outbox.pending_count(connection)
    problem = None
    if node.post is not None:
        failing = {target: one.problem for target, one in node.post.couriers.items() if one.problem is not None}
        problem = "; ".join(f"{target}: {why}" for target, why in sorted(failing.items())) or None
    return health.Check(problem is None, problem or f"{waiting} waiting", is_required=False, facts={"waiting": waiting})


def readings(node: Node) -> metrics.Readings:
    """What is read when Prometheus scrapes."""
    reader, session, kept, hook, queues = node.reader, node.ami, node.recorder, node.analyser, node.queues
    lend, looking, timers = node.leasing, node.attributing, node.ticket_timers
    return metrics.Readings(
        active_calls=lambda: node.board.open_count,
        ami_connected=(lambda: float(session.connected.is_set())) if session else None,
        journal_lag_seconds=lambda: behind_seconds(node),
        journal_rows=(lambda: reader.counts.rows) if reader else None,
        journal_damaged=(lambda: reader.counts.damaged) if reader else None,
        outbox_depth=queues.waiting,
        queues=queues.read,
        refresh=queues.refresh,
        live_readers=lambda: node.board.reader_count,
        live_cut_off=lambda: node.board.cut_off_total,
        recordings=(lambda: _results(kept.counts, ("stored", "refused", "unreadable", "empty"))) if kept else None,
        recorded_seconds=(lambda: kept.counts.seconds) if kept else None,
        recordings_waiting=(lambda: kept.waiting) if kept else None,
        recording_accepted=(lambda: float(kept.accepts)) if kept else None,
        recording_problem=(lambda: float(bool(node.keys.problem or kept.problem))) if kept else None,
        analyses=(lambda: _results(hook.counts, ("analysed", "failed", "given_up"))) if hook else None,
        analyses_waiting=(lambda: hook.waiting) if hook else None,
        numbers_shown=(lambda: _shown(lend.counts)) if lend else None,
        pools_exhausted=lend.counts.exhausted.total if lend else None,
        leases_lost=(lambda: lend.counts.lost) if lend else None,
        assignments_refused=(lambda: lend.counts.refused) if lend else None,
        places_problem=(lambda: float(node.places is not None and node.places.problem is not None))
        if node.places
        else None,
        lending_problem=(lambda: float(lend.problem is not None)) if lend else None,
        tickets_waiting=(lambda: timers.waiting) if timers else None,
        alarms=node.alerting.counts if node.alerting is not None else None,
        ticket_timers=(lambda: timers.done) if timers else None,
        attributions_revised=(lambda: looking.revised) if looking else None,
    )


def _shown(counts: leasing.Counts) -> dict[str, float]:
    by_reason: dict[str, float] = {reason.value: 0 for reason in displayrules.Reason}
    for (_, reason), number in counts.shown.items():
        by_reason[reason] += number
    return by_reason


def _results(counts: recorder.Counts | analysing.Counts, names: tuple[str, ...]) -> dict[str, int]:
    return {name: getattr(counts, name) for name in names}
