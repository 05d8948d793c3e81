"""What is due by the rules of retention: shown first (`preview`), then done (`run`), on the audit chain (N10).

    recordings   due ─▶ condemned (out of reach, can be restored) ─ grace ─▶ key shredded, file removed
    visits       deleted, with pages, clicks, ended leases and visitors who never came back
    calls        due ─▶ the person leaves the record and its ticket, what is counted stays; so with requests on pages
    attributes   of callers, from the CRM: deleted when the caller has not called for as long as calls name somebody
    archive, audit, refused sound: removed

Running twice, or breaking off in the middle, does no harm: each step takes what is due then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

from gateway import store
from gateway.core import retention
from gateway.pbx import journalfiles
from gateway.store import audit, forgetting, leases, profiles, recordings, ticketforgetting, vault, visits

BATCH = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """How long what is kept; see the settings `[retention]`."""

    rules: retention.Rules
    grace_days: int = 14
    refused_days: int = 14
    calls_months: int = 25
    visits_months: int = 13
    audit_months: int = 36
    archive_days: int = 14


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that retention empties."""

    vault: Path
    archive: Path


@dataclass(frozen=True, slots=True)
class Due:
    """One thing that is due. `action` is condemn, shred, forget, delete, or keep (due, but under legal hold)."""

    what: str
    """recording | calls | tickets | attributes | visits | archive | audit"""
    name: str
    action: str
    why: str
    at_us: int | None = None
    count: int = 1


@dataclass(slots=True)
class Done:
    """What a run did."""

    condemned: int = 0
    shredded: int = 0
    forgotten: int = 0
    attributes: int = 0
    """Of callers, from the CRM."""
    visits: int = 0
    archives: int = 0
    audit_rows: int = 0
    held: int = 0
    files_left: list[str] = field(default_factory=list)
    """Files whose key is gone but that could not be removed."""


async def preview(database: store.Database, policy: Policy, places: Places, now_us: int) -> list[Due]:
    """All that `run` would do now, in its order, and what a legal hold keeps."""
    found = [due async for due, _ in _recordings_due(database, policy, now_us)]
    async with database.read() as connection:
        for one in await _to_shred(connection, policy, now_us):
            found.append(Due("recording", one.recording_id, "shred", one.why or "grace is over", one.started_us))
        calls_before = retention.months_before(now_us, policy.calls_months)
        if count := await forgetting.count_old_calls(connection, calls_before):
            why = f"older than {policy.calls_months} months; counts stay"
            found.append(Due("calls", f"{count} calls", "forget", why, count=count))
        if count := await ticketforgetting.count_requests_before(connection, calls_before):
            why = f"closed, or never taken up, more than {policy.calls_months} months ago; counts stay"
            found.append(Due("tickets", f"{count} requests for a call back", "forget", why, count=count))
        if count := await profiles.count_before(connection, calls_before):
            why = f"the caller has not called for {policy.calls_months} months"
            found.append(Due("attributes", f"{count} attributes of callers", "delete", why, count=count))
        if count := await visits.count_old(connection, retention.months_before(now_us, policy.visits_months)):
            why = f"older than {policy.visits_months} months"
            found.append(Due("visits", f"{count} visits", "delete", why, count=count))
        audit_before = retention.months_before(now_us, policy.audit_months)
        if (count := await audit.count_before(connection, audit_before)) > 0:
            found.append(
                Due("audit", f"{count} rows", "delete", f"older than {policy.audit_months} months", count=count)
            )
    for path in await asyncio.to_thread(_old_archives, policy, places, now_us):
        found.append(Due("archive", path.name, "delete", f"older than {policy.archive_days} days"))
    return found


async def run(
    database: store.Database,
    policy: Policy,
    places: Places,
    *,
    now_us: int,
    actor: str,
    targets: Collection[str] = (),
) -> Done:
    """Does what is due. Raises StoreUnavailable; what was done until then is done and audited.

    `targets` are told of open tickets that lose their person.
    """
    done = Done()
    await _condemn(database, policy, now_us, done)
    async with database.read() as connection:
        due = await _to_shred(connection, policy, now_us)
    for start in range(0, len(due), BATCH):
        ids = [one.recording_id for one in due[start : start + BATCH]]
        gone, left = await shred(database, places.vault, ids, now_us=now_us, actor=actor)
        done.shredded += gone
        done.files_left += left
    done.forgotten = await _forget_calls(database, policy, now_us, targets)
    async with database.begin() as tx:
        done.attributes = await profiles.forget_before(tx, retention.months_before(now_us, policy.calls_months))
    done.visits = await _prune_visits(database, policy, now_us)
    done.archives = len(await asyncio.to_thread(_prune_archives, policy, places, now_us))
    async with database.begin() as tx:
        before_us = retention.months_before(now_us, policy.audit_months)
        done.audit_rows = await audit.prune(tx, before_us=before_us, now_us=now_us, actor=actor)
        counts = {
            name: getattr(done, name)
            for name in ("condemned", "forgotten", "attributes", "visits", "archives", "audit_rows", "held")
        }
        await audit.append(tx, at_us=now_us, actor=actor, action="retention.run", subject="retention", details=counts)
    return done


async def shred(
    database: store.Database, root: Path, ids: list[str], *, now_us: int, actor: str, why: str | None = None
) -> tuple[int, list[str]]:
    """Deletes keys, says so on the chain, then removes the files. Returns how many, and files that stayed."""
    async with database.begin() as tx:
        gone = await recordings.shred(tx, ids, now_us=now_us, why=why)
        for one in gone:
            subject = recordings.subject(one.recording_id)
            details = {"why": why or one.why}
            await audit.append(
                tx, at_us=now_us, actor=actor, action="recording.shredded", subject=subject, details=details
            )
    left = []
    for one in gone:
        path = vault.file_of(root, one.recording_id, one.started_us)
        try:
            await asyncio.to_thread(vault.remove, path)
        except OSError:
            # Without its key it is noise; the operator is told of the room it takes.
            left.append(str(path))
    return len(gone), left


async def _recordings_due(
    database: store.Database, policy: Policy, now_us: int
) -> AsyncIterator[tuple[Due, recordings.Aged]]:
    """Stored recordings past their rule; those that are held come as `keep`."""
    last: recordings.Aged | None = None
    horizon_us = retention.days_before(now_us, policy.rules.shortest_days)
    while True:
        async with database.read() as connection:
            page = await recordings.aged(connection, horizon_us, after=last)
        for one in page:
            rule = policy.rules.rule_for(one.route, one.outcome)
            if one.recording.started_us < retention.days_before(now_us, rule.days):
                yield _due(one, rule), one
        if len(page) < recordings.PAGE:
            return
        last = page[-1]


def _due(one: recordings.Aged, rule: retention.Rule) -> Due:
    is_held = one.recording.held_us is not None
    why = f"older than {rule.days} days (rule {rule})" + ("; legal hold" if is_held else "")
    action = "keep" if is_held else "condemn"
    return Due("recording", one.recording.recording_id, action, why, one.recording.started_us)


async def _condemn(database: store.Database, policy: Policy, now_us: int, done: Done) -> None:
    by_reason: dict[str, list[str]] = {}
    async for due, _ in _recordings_due(database, policy, now_us):
        if due.action == "keep":
            done.held += 1
        else:
            by_reason.setdefault(due.why, []).append(due.name)
    for why, ids in by_reason.items():
        for start in range(0, len(ids), BATCH):
            async with database.begin() as tx:
                done.condemned += await recordings.condemn(tx, ids[start : start + BATCH], why=why, now_us=now_us)


async def _to_shred(connection: store.Connection, policy: Policy, now_us: int) -> list[recordings.Recording]:
    return await recordings.to_shred(
        connection,
        condemned_before_us=retention.days_before(now_us, policy.grace_days),
        refused_before_us=retention.days_before(now_us, policy.refused_days),
    )


async def _forget_calls(database: store.Database, policy: Policy, now_us: int, targets: Collection[str]) -> int:
    before_us = retention.months_before(now_us, policy.calls_months)
    forgotten = 0
    while True:
        async with database.begin() as tx:
            rows = await forgetting.old_calls(tx, before_us, limit=BATCH)
            await forgetting.forget(tx, rows, None, why=forgetting.RETENTION, now_us=now_us, targets=targets)
            # Requests on pages belong to no call; those of calls leave with them.
            asked = await ticketforgetting.requests_before(tx, before_us, targets=targets, now_us=now_us)
        forgotten += len(rows) + asked
        if not rows and not asked:
            return forgotten


async def _prune_visits(database: store.Database, policy: Policy, now_us: int) -> int:
    before_us = retention.months_before(now_us, policy.visits_months)
    async with database.begin() as tx:
        pruned = await visits.prune(tx, before_us)
    while True:
        async with database.begin() as tx:
            gone = await visits.old(tx, before_us)
            await leases.lock(tx)
            await visits.forget(tx, gone)
        if not gone:
            return pruned


def _old_archives(policy: Policy, places: Places, now_us: int) -> list[Path]:
    before_us = retention.days_before(now_us, policy.archive_days)
    found = journalfiles.archived(places.archive) if places.archive.is_dir() else []
    return [file.path for file in found if file.path.stat().st_mtime_ns // 1000 < before_us]


def _prune_archives(policy: Policy, places: Places, now_us: int) -> list[Path]:
    if not places.archive.is_dir():
        return []
    return journalfiles.prune(places.archive, retention.days_before(now_us, policy.archive_days))
