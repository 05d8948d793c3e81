"""Recorded journals and the means to bend them.

`tests/fixtures/journal/*.csv` were recorded on 2026-11-21 from Asterisk 22.10.1 (Debian) on loopback with the dialplan
of this repository and a default plan per tracking number, no daemon (AGISTATUS is FAILURE, the plan's source `plan`):
one SIPp caller (`carrier-a`) and SIPp phones that answer (desk-1 waits for BYE, desk-2 ends after 2 s, slow; hold:
re-INVITE sendonly for 1.5 s; refer: REFER to 303; drop: BYE 0.2 s after answering), that send 486 (busy), 603 (rej),
302 (redir), 404 (nf), 480 (off), 503 (carrier-a-out), 180 only (ring), 183 only (early), a closed port (dead) and an
endpoint without contact (unreg); `cel.conf` with `events=ALL` and no `apps`. A file is what `cel_custom` wrote between
dialling and 0.7 s after the end. attended_transfer: the agent calls 303 and sends REFER with Replaces. asterisk_killed:
SIGKILL with one call talking and one ringing. To record another: dial, and cut the journal at its size before.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.core import calls, grouping
from gateway.core.rows import Row
from gateway.pbx import journal

FOLDER = Path(__file__).parent / "fixtures" / "journal"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.csv")))


def content(name: str) -> bytes:
    return (FOLDER / f"{name}.csv").read_bytes()


def rows_of(text: bytes) -> list[Row]:
    """Rows of whole lines; a damaged one gives those recovered from it."""
    found: list[Row] = []
    for line in text.split(b"\n"):
        if line:
            parsed = journal.parse_line(line)
            found.extend([parsed] if isinstance(parsed, Row) else parsed.recovered)
    return found


def rows(name: str) -> list[Row]:
    return rows_of(content(name))


def groups(some: Iterable[Row]) -> list[list[Row]]:
    """Rows call by call, in the order in which the calls began."""
    found: dict[str, list[Row]] = {}
    by_channel = grouping.Grouping()
    for row in some:
        key = by_channel.assign(row)
        if key is not None:
            found.setdefault(key, []).append(row)
    return list(found.values())


def facts(name: str, closed: calls.Closing | None = None) -> calls.CallFacts:
    """Facts of the one call of a recording."""
    (group,) = groups(rows(name))
    found = calls.fold(group, closed=closed)
    assert found is not None
    return found


def moved(name: str, seconds: int, *, after: str) -> list[Row]:
    """A recording in which everything from the row of kind `after` on is so many seconds later."""
    shift = 0
    found: list[Row] = []
    for row in rows(name):
        if row.kind == after:
            shift = seconds * 1_000_000
        found.append(row._replace(at_us=row.at_us + shift))
    return found
