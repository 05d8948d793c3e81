"""Events into a file, one JSON object a line: each once, whatever is killed in between.

Lines are written and synced before their deliveries are settled, so nothing is lost. What a killed process had claimed
may stand there already: before such a delivery is written, its id is looked for in every file that was written to since
the event happened. A line that a crash or a full disk cut is no JSON and does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gateway.core.outgoing import adapters
from gateway.core.outgoing.adapters import Attempt, Handed, Settled

TARGET = "jsonl"
SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
GATHER_US = 300_000
"""Ten lines cost little more than one."""
BATCH = 500
AGAIN_US = SECOND_US
"""A full disk is tried again soon, and never given up: the events wait in the database."""
CLOCKS_US = HOUR_US
"""By so much the clock may have been set back since a file was written to."""


class JsonLines:
    """The file as an adapter. One process writes to it."""

    target = TARGET
    wants = frozenset({"*"})
    needs_visitor = False
    batching: adapters.Batching | None = adapters.Batching(BATCH, GATHER_US, in_order=True)

    def __init__(self, path: Path, *, rotate_bytes: int, rotate_hours: int = 0) -> None:
        """`rotate_hours` 0: by size only."""
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_us = rotate_hours * HOUR_US

    async def deliver(self, event: Handed, attempt: Attempt) -> Settled:
        """Writes one line."""
        return (await self.deliver_many([(event, attempt)]))[0]

    async def deliver_many(self, events: Sequence[tuple[Handed, Attempt]]) -> Sequence[Settled]:
        """Writes all lines, or none that counts."""
        now_us = events[0][1].now_us
        if events[0][1].dry_run:
            return [
                Settled(adapters.State.SKIPPED, "nothing was written", request=event.payload) for event, _ in events
            ]
        try:
            await asyncio.to_thread(self._append, events, now_us)
        except OSError as error:
            note = f"{self._path}: {error.strerror or error}"
            return [Settled(adapters.State.BLOCKED, note, again_us=now_us + AGAIN_US) for _ in events]
        return [Settled(adapters.State.DONE) for _ in events]

    def _append(self, events: Sequence[tuple[Handed, Attempt]], now_us: int) -> None:
        unsure = {event.event_id: event.at_us for event, attempt in events if attempt.is_unsure}
        # Before the rotation: what a crash left unsettled may have been what filled the file.
        written = self._written(unsure)
        self._rotate(now_us)
        lines = [event.payload.encode() + b"\n" for event, _ in events if event.event_id not in written]
        is_new = not self._path.exists()
        with self._path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                # A full disk cut the last line; what stands there is not taken for an event.
                file.write(b"\n")
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            self._sync_folder()

    def _ends_with_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    # ---- What a killed process may have written ----

    def _written(self, unsure: dict[str, int]) -> Collection[str]:
        """Those of these events, by id with the time of each, that stand in a file as whole lines."""
        if not unsure:
            return ()
        since_us = min(unsure.values()) - CLOCKS_US
        found: set[str] = set()
        for path in (*self._passed(), self._path):
            if path.exists() and path.stat().st_mtime_ns // 1_000 >= since_us:
                found.update(one for one in _ids(path) if one in unsure)
        return found

    def _passed(self) -> list[Path]:
        names = (path for path in self._path.parent.glob(f"{self._path.name}.*"))
        return sorted(path for path in names if path.name.rpartition(".")[2].isdecimal())

    # ---- Rotation ----

    def _rotate(self, now_us: int) -> None:
        if not self._path.exists() or not self._is_full(now_us):
            return
        number = now_us
        while (passed := self._path.with_name(f"{self._path.name}.{number}")).exists():
            # The clock was set back: a rename would take the lines of the other file with it.
            number += 1
        self._path.rename(passed)

    def _is_full(self, now_us: int) -> bool:
        size = self._path.stat().st_size
        if size >= self._rotate_bytes:
            return True
        return bool(size) and bool(self._rotate_us) and now_us - self._began_us() >= self._rotate_us

    def _began_us(self) -> int:
        """When the first event of the file happened."""
        with self._path.open("rb") as file, suppress(ValueError, KeyError, TypeError):
            return int(datetime.fromisoformat(json.loads(file.readline())["timestamp"]).timestamp() * SECOND_US)
        return self._path.stat().st_mtime_ns // 1_000

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _ids(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                yield json.loads(line)["id"]
