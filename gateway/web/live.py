"""The live board: calls that are up, fanned out in memory to any number of readers.

The tracker calls `publish` after each commit; it never waits and never fails because of a reader. Each reader has a
bounded queue: one that cannot keep up is cut off with a resync mark and starts again from a snapshot. Nothing here is
the source of a record; after a restart `restore` fills the board from the store.

Event ids are `<board>-<number>`: the board's random name tells a reader that comes back after a restart of the daemon
that its number means nothing any more.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Document = Mapping[str, Any]

QUEUE_SIZE = 256
"""Changes a reader may lag behind: some 10 s of a busy node, 1 MB at most."""
HISTORY_SIZE = 1024
"""Changes kept for readers that reconnect with `Last-Event-ID`; a browser comes back within 3 s."""
PAUSED = "recording_paused"
"""Key that a document has, true, while the recording of its call is paused by API."""
CLOSED_REMEMBERED = 20_000
"""Ended calls whose id is kept, so that a later revision of the record is not taken for another ending."""


def is_up(document: Document) -> bool:
    """Whether the call of a record document is still going on: its caller's or an agent's channel is there."""
    if "state" in document:
        return bool(document["state"] == "open")
    return document.get("ended_at") is None


def state_of(document: Document) -> str:
    """`talking`, `ringing`, `arriving` (no plan yet, prompt, or between steps) or `ended`."""
    if not is_up(document):
        return "ended"
    attempts = document.get("attempts") or ()
    if document.get("answered_at") is not None:
        return "talking"
    if any(attempt.get("outcome") is None for attempt in attempts):
        return "ringing"
    return "arriving"


def may_be_recorded(document: Document) -> bool:
    """Whether the caller's consent lets the call be recorded, as far as the record goes."""
    consent = document.get("recording_consent") or {}
    return consent.get("result") == "granted" or (consent.get("mode"), consent.get("result")) == ("none", "not_asked")


def recording_of(document: Document) -> str:
    """`recording`, `paused` (by API), `paused_by_key`, or "" for a call without a talk that is recorded."""
    if not may_be_recorded(document) or state_of(document) not in ("talking", "ringing"):
        return ""
    if document.get(PAUSED) is True:
        return "paused"
    if any(pause.get("to") is None for pause in document.get("pauses") or ()):
        return "paused_by_key"
    return "recording" if state_of(document) == "talking" else ""


@dataclass(slots=True)
class Change:
    """One published document. `text` is made once, when the first reader wants it."""

    number: int
    document: Document
    _text: str | None = None

    @property
    def text(self) -> str:
        """The document as one line of JSON."""
        if self._text is None:
            self._text = json.dumps(self.document, ensure_ascii=False, separators=(",", ":"))
        return self._text


@dataclass(eq=False, slots=True)
class Reader:
    """One subscriber. `is_cut_off` is set when it was taken off the board: it was too slow, or the board closed."""

    queue: asyncio.Queue[Change | None]
    replay: tuple[Change, ...] | None
    """Changes missed since `Last-Event-ID`; None: the id is unknown or too old, send a snapshot."""
    is_cut_off: bool = False

    async def next(self, timeout: float) -> Change | None:
        """The next change, or None after `timeout` seconds without one or when the reader was cut off."""
        try:
            async with asyncio.timeout(timeout):
                return await self.queue.get()
        except TimeoutError:
            return None


@dataclass(eq=False)
class LiveBoard:
    """Open calls and their changes. All methods are for the loop's thread.

    `clock` gives the time in UTC. `on_ended` is told once per call that ended while this process watched.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_ended: Callable[[Document], None] | None = None
    queue_size: int = QUEUE_SIZE
    history_size: int = HISTORY_SIZE
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self._number = 0
        self._open: dict[str, Document] = {}
        self._paused: dict[str, str] = {}
        self._ended: dict[str, None] = {}
        self._history: deque[Change] = deque(maxlen=self.history_size)
        self._readers: set[Reader] = set()
        self.cut_off_total = 0
        self.published_at: datetime | None = None

    def restore(self, documents: Iterable[Document]) -> None:
        """Take the open calls from the store, as at start. Readers see them with their next snapshot."""
        self._open = {str(document["call_id"]): document for document in documents if is_up(document)}

    def publish(self, document: Document) -> None:
        """Show a call's new state; the document must not be changed afterwards. Never blocks."""
        call_id = str(document["call_id"])
        self._number += 1
        self.published_at = self.clock()
        if is_up(document):
            self._open[call_id] = document
        else:
            self._open.pop(call_id, None)
            self._paused.pop(call_id, None)
            self._note_ending(call_id, document)
        change = Change(self._number, self._marked(document))
        self._history.append(change)
        for reader in tuple(self._readers):
            self._hand(reader, change)

    def snapshot(self) -> list[Document]:
        """The open calls, newest first."""
        shown = (self._marked(document) for document in self._open.values())
        return sorted(shown, key=lambda document: str(document.get("started_at")), reverse=True)

    def mark_paused(self, call_id: str, since: str | None) -> None:
        """Show a recording as paused by API since a time (as in records), or with None as not paused."""
        if since is None:
            self._paused.pop(call_id, None)
        else:
            self._paused[call_id] = since
        if call_id in self._open:
            self.publish(self._open[call_id])

    def is_paused(self, call_id: str) -> bool:
        """Whether a call that is up is shown as paused by API."""
        return call_id in self._open and PAUSED in self._marked(self._open[call_id])

    @property
    def open_count(self) -> int:
        """How many calls are up."""
        return len(self._open)

    @property
    def reader_count(self) -> int:
        """How many streams are read."""
        return len(self._readers)

    @property
    def event_id(self) -> str:
        """The id of the last change."""
        return self.id_of(self._number)

    def id_of(self, number: int) -> str:
        """The event id of change `number`."""
        return f"{self.name}-{number}"

    @contextmanager
    def reading(self, last_event_id: str | None = None) -> Iterator[Reader]:
        """Subscribe for the time of the block. `last_event_id` is what the reader saw last, if anything."""
        reader = Reader(asyncio.Queue(self.queue_size + 1), self._missed(last_event_id))
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self) -> None:
        """End all streams, as at shutdown; each is told to come again."""
        for reader in tuple(self._readers):
            self._take_off(reader)

    def cut_off(self, reader: Reader) -> None:
        """Take a reader off the board as too slow: its queue ran over or a write to it timed out. Counted once."""
        if not reader.is_cut_off:
            self._take_off(reader)
            self.cut_off_total += 1

    def _marked(self, document: Document) -> Document:
        since = self._paused.get(str(document["call_id"]))
        # The agent's key has the last word: it begins a new part of the recording, which nobody muted.
        if since is None or any((pause.get("to") or "") > since for pause in document.get("pauses") or ()):
            return document
        return {**document, PAUSED: True}

    def _hand(self, reader: Reader, change: Change) -> None:
        # One place is kept free, so that the mark always fits behind the changes.
        if reader.queue.qsize() < self.queue_size:
            reader.queue.put_nowait(change)
            return
        self.cut_off(reader)

    def _take_off(self, reader: Reader) -> None:
        reader.is_cut_off = True
        reader.queue.put_nowait(None)
        self._readers.discard(reader)

    def _missed(self, last_event_id: str | None) -> tuple[Change, ...] | None:
        name, _, number = (last_event_id or "").rpartition("-")
        if name != self.name or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        seen = int(number)
        oldest = self._history[0].number if self._history else self._number + 1
        if not oldest - 1 <= seen <= self._number:
            return None
        return tuple(change for change in self._history if change.number > seen)

    def _note_ending(self, call_id: str, document: Document) -> None:
        if call_id in self._ended:
            return
        self._ended[call_id] = None
        if len(self._ended) > CLOSED_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        if self.on_ended is not None:
            self.on_ended(document)
