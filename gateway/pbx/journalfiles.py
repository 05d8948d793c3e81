"""The journal on disk: the file Asterisk writes, the ones it wrote before, and the archive.

A file is known by the fingerprint of its first line (time and channel of one event: there is no other such line), so it
stays the same file when it is renamed, compressed, or copied and truncated by somebody's logrotate. The reader keeps no
state on disk: how far each file was read is passed in as a mapping and comes out with every batch.

    reader = JournalReader(folder, progress={"3fb2…": 81920}, archive=archive)
    while True:
        batch = await reader.next_batch(now_us)     # asking for the next one says that the last one is stored
        if batch is None:
            await reader.tidy(now_us)               # rotates, archives
            await asyncio.sleep(poll_seconds)
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from gateway.core.rows import Row
from gateway.pbx import journal

LIVE_NAME = "dialmark.csv"
ARCHIVE_FOLDER = "archive"
"""Below the journal's folder."""
MAX_ROWS = 1_500
_MOVES = 5
"""Times in a row that a listed file may be elsewhere when it is opened."""
CHUNK_BYTES = 512 * 1024
"""Read at once: 20 ms of the loop with the parsing of `MAX_ROWS`, while catching up."""

ROTATE_BYTES = 64 * 1024 * 1024
SETTLE_US = 2_000_000
"""Asterisk opens the file anew for each row, so a row can reach a renamed file only for a moment."""

_HEAD_BYTES = journal.MAX_LINE_BYTES
_FIRST_TIME = re.compile(rb'"(\d{10})\.(\d{6})"')
_ARCHIVED = re.compile(r"journal-(\d{16})-([0-9a-f]{32})\.csv\.gz\Z")


@dataclass(frozen=True, slots=True)
class JournalFile:
    """One file as it was found. `size` is in bytes of text, also of a compressed one."""

    fingerprint: str
    path: Path
    device: int
    inode: int
    size: int
    first_row_us: int
    """Time in its first line, 0 if that is damaged: files are read in this order."""
    is_live: bool = False

    @property
    def is_compressed(self) -> bool:
        return self.path.suffix == ".gz"


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line that is not one row, with its place; `damaged.recovered` are among the batch's lines."""

    offset: int
    damaged: journal.Damaged


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one file from `start` to `end` (byte offsets, end exclusive)."""

    file: JournalFile
    start: int
    end: int
    lines: tuple[journal.Line, ...]
    damaged: tuple[DamagedLine, ...] = ()


@dataclass(slots=True)
class Counts:
    """What the reader has met since it began."""

    rows: int = 0
    damaged: int = 0
    recovered: int = 0
    truncated: int = 0
    """Files that became shorter than what had been read of them."""
    rotated: int = 0
    archived: int = 0


@dataclass(frozen=True, slots=True)
class _Head:
    fingerprint: str
    first_row_us: int


_HeadKey = tuple[int, int, int]
"""Device, inode, time of the last change (ns)."""


@dataclass(slots=True)
class JournalReader:
    """Reads a journal folder, oldest file first, from where `progress` (fingerprint → bytes read) says.

    A file that is not in `progress` is read from its beginning. Told the time; never waits. Errors of the file system
    (no such folder, no rights) are raised as OSError; a file that vanishes while it is looked at is none.
    """

    folder: Path
    progress: Mapping[str, int] = field(default_factory=dict)
    archive: Path | None = None
    live_name: str = LIVE_NAME
    rotate_bytes: int = ROTATE_BYTES
    settle_us: int = SETTLE_US
    chunk_bytes: int = CHUNK_BYTES
    max_rows: int = MAX_ROWS
    counts: Counts = field(default_factory=Counts)
    _read: dict[str, int] = field(init=False)
    _heads: dict[_HeadKey, _Head] = field(init=False, default_factory=dict)
    _passed_since: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._read = dict(self.progress)

    async def next_batch(self, now_us: int) -> Batch | None:
        """The next lines, at most `max_rows`, or None when there is nothing new."""
        for file in self.files():
            is_final = self._is_settled(file, now_us)
            batch = self._read_on(file, is_final=is_final)
            if batch is not None:
                return batch
        return None

    async def tidy(self, now_us: int) -> list[Path]:
        """Rename the live file when it is too large, and compress those that were read to their end into the archive.
        Returns the new files there. Call it when `next_batch` had nothing left."""
        files = self.files()
        for file in files:
            if file.is_live and file.size > self.rotate_bytes:
                file.path.rename(file.path.with_name(f"{self.live_name}.{now_us * 1000}"))
                self.counts.rotated += 1
        made: list[Path] = []
        if self.archive is None:
            return made
        for file in files:
            if self._is_settled(file, now_us) and self._read.get(file.fingerprint, 0) >= file.size:
                path = await asyncio.to_thread(_compress, file, self.archive)
                if path is not None:
                    made.append(path)
                    self.counts.archived += 1
        return made

    def files(self) -> list[JournalFile]:
        """Files with at least one whole line, oldest first, the live one last; each once."""
        found: dict[str, JournalFile] = {}
        heads: dict[_HeadKey, _Head] = {}
        for entry in _scan(self.folder, self.live_name):
            file = self._look(Path(entry.path), heads, is_live=entry.name == self.live_name)
            if file is None:
                continue
            # While somebody copies and truncates, the same lines stand in two files.
            other = found.get(file.fingerprint)
            if other is None or (file.is_live, file.size) > (other.is_live, other.size):
                found[file.fingerprint] = file
        self._heads = heads
        return sorted(found.values(), key=lambda file: (file.is_live, file.first_row_us, file.path.name))

    def unread_bytes(self) -> int:
        """How far behind the journal the reader is."""
        return sum(max(0, file.size - self._read.get(file.fingerprint, 0)) for file in self.files())

    def read_so_far(self, fingerprint: str) -> int:
        return self._read.get(fingerprint, 0)

    def _look(self, path: Path, heads: dict[_HeadKey, _Head], *, is_live: bool) -> JournalFile | None:
        try:
            status = path.stat()
            if status.st_size == 0:
                return None
            # Inodes are used again, and a file can be truncated and filled again: any change is a reason to look anew.
            key = (status.st_dev, status.st_ino, status.st_ctime_ns)
            head = self._heads.get(key)
            if head is None or is_live:
                head = _head_of(path)
                if head is None:
                    return None
            heads[key] = head
            size = _text_size(path, status.st_size)
        except FileNotFoundError:
            return None
        return JournalFile(head.fingerprint, path, status.st_dev, status.st_ino, size, head.first_row_us, is_live)

    def _is_settled(self, file: JournalFile, now_us: int) -> bool:
        if file.is_live:
            return False
        return now_us - self._passed_since.setdefault(file.fingerprint, now_us) >= self.settle_us

    def _read_on(self, file: JournalFile, *, is_final: bool) -> Batch | None:
        start = self._read.get(file.fingerprint, 0)
        if file.size < start:
            self.counts.truncated += 1
            self._read[file.fingerprint] = file.size
            return None
        if file.size == start:
            return None
        chunk = _read_at(file, start, self.chunk_bytes)
        if not chunk:
            return None
        whole = chunk.rfind(b"\n") + 1
        if whole == 0:
            if len(chunk) < min(self.chunk_bytes, 4 * journal.MAX_LINE_BYTES) and not is_final:
                return None
            whole = len(chunk)
        elif is_final and start + whole < file.size and start + len(chunk) >= file.size:
            whole = len(chunk)
        return self._batch(file, start, chunk[:whole])

    def _batch(self, file: JournalFile, start: int, chunk: bytes) -> Batch:
        lines: list[journal.Line] = []
        damaged: list[DamagedLine] = []
        end = start
        for raw in chunk.splitlines(keepends=True) if b"\r" not in chunk else _lines(chunk):
            parsed = journal.parse_line(raw)
            if isinstance(parsed, Row):
                lines.append(journal.Line(end, raw.rstrip(b"\n"), parsed))
            elif raw.strip():
                damaged.append(DamagedLine(end, parsed))
                lines.extend(journal.Line(end, raw.rstrip(b"\n"), row) for row in parsed.recovered)
                self.counts.recovered += len(parsed.recovered)
            end += len(raw)
            if len(lines) >= self.max_rows:
                break
        self._read[file.fingerprint] = end
        self.counts.rows += len(lines)
        self.counts.damaged += len(damaged)
        return Batch(file, start, end, tuple(lines), tuple(damaged))


def archived(archive: Path) -> list[JournalFile]:
    """The files of an archive, oldest first."""
    found: list[JournalFile] = []
    for path in archive.glob("journal-*.csv.gz"):
        match = _ARCHIVED.match(path.name)
        if match is not None:
            try:
                status = path.stat()
                size = _text_size(path, status.st_size)
            except FileNotFoundError:
                # Pruned since it was listed.
                continue
            found.append(JournalFile(match[2], path, status.st_dev, status.st_ino, size, int(match[1])))
    return sorted(found, key=lambda file: (file.first_row_us, file.fingerprint))


def everything(folder: Path, archive: Path | None, live_name: str = LIVE_NAME) -> list[JournalFile]:
    """Archive and folder together, oldest first, each file once: what `verify` and `replay` read."""
    files = {file.fingerprint: file for file in JournalReader(folder, live_name=live_name).files()}
    # After the folder: one that goes there in between is in the archive before it leaves the folder.
    files |= {file.fingerprint: file for file in (archived(archive) if archive is not None else [])}
    return sorted(files.values(), key=lambda file: (file.is_live, file.first_row_us, file.path.name))


def read_whole(path: Path) -> Iterator[journal.Line | DamagedLine]:
    """All lines of a file, also of one in the archive. Rows recovered from a damaged line come before it."""
    with closing(_open(path)) as stream:
        yield from _all_lines(stream)


def read_everything(
    files: Callable[[], Sequence[JournalFile]],
) -> Iterator[tuple[JournalFile, journal.Line | DamagedLine]]:
    """All lines of `files()` (such as `everything`), each file once, while the daemon rotates and archives.

    A file is known by its first line: one that was renamed or archived since it was listed is looked for anew, and one
    that a listing missed, because it was renamed in the middle of it, is in the next. Raises OSError when a file moves
    again and again, FileNotFoundError when the folder is not there.
    """
    done: set[str] = set()
    left = _MOVES
    while waiting := [file for file in files() if file.fingerprint not in done]:
        for file in waiting:
            stream = _open_same(file)
            if stream is None:
                left -= 1
                if not left:
                    raise OSError(f"{file.path.name} is renamed again and again while it is read")
                break
            with closing(stream):
                for line in _all_lines(stream):
                    yield file, line
            done.add(file.fingerprint)
            left = _MOVES


def _open_same(file: JournalFile) -> BinaryIO | None:
    """None when the path holds another file by now, or none."""
    try:
        stream = _open(file.path)
    except FileNotFoundError:
        return None
    # One of the archive carries it in its name, which is not given twice.
    if not file.is_compressed and fingerprint(stream.readline()) != file.fingerprint:
        stream.close()
        return None
    stream.seek(0)
    return stream


def _all_lines(stream: BinaryIO) -> Iterator[journal.Line | DamagedLine]:
    offset = 0
    for raw in stream:
        parsed = journal.parse_line(raw)
        if isinstance(parsed, Row):
            yield journal.Line(offset, raw.rstrip(b"\n"), parsed)
        elif raw.strip():
            for row in parsed.recovered:
                yield journal.Line(offset, raw.rstrip(b"\n"), row)
            yield DamagedLine(offset, parsed)
        offset += len(raw)


def prune(archive: Path, before_us: int) -> list[Path]:
    """Delete files of the archive whose last change is before `before_us`; returns them."""
    gone = [file.path for file in archived(archive) if file.path.stat().st_mtime_ns // 1000 < before_us]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def fingerprint(first_line: bytes) -> str:
    """32 hex digits for a file's first line, without its line end."""
    return hashlib.sha256(first_line.rstrip(b"\n")).hexdigest()[:32]


def _scan(folder: Path, live_name: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if entry.name.startswith(live_name) and not entry.name.endswith(".tmp") and entry.is_file()
        ]


def _lines(chunk: bytes) -> list[bytes]:
    """Split at LF alone: `splitlines` would also split at CR, which a damaged line may hold."""
    parts = chunk.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def _read_at(file: JournalFile, offset: int, length: int) -> bytes:
    """A piece of the file; nothing when it is another file by now (renamed, truncated): the next look finds that."""
    try:
        with closing(_open(file.path)) as stream:
            if fingerprint(stream.readline(_HEAD_BYTES)) != file.fingerprint:
                return b""
            stream.seek(offset)
            return stream.read(length)
    except (FileNotFoundError, EOFError, gzip.BadGzipFile):
        return b""


def _head_of(path: Path) -> _Head | None:
    try:
        with closing(_open(path)) as stream:
            line = stream.readline(_HEAD_BYTES)
    except (EOFError, gzip.BadGzipFile):
        # Still being written by somebody's compressor.
        return None
    if not line.endswith(b"\n") and len(line) < _HEAD_BYTES:
        return None
    match = _FIRST_TIME.search(line)
    return _Head(fingerprint(line), int(match[1] + match[2]) if match is not None else 0)


def _text_size(path: Path, size: int) -> int:
    """A gzip file says at its end how long its text is."""
    if path.suffix != ".gz":
        return size
    if size < 18:
        return 0
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _compress(file: JournalFile, archive: Path) -> Path | None:
    """Compress into the archive and delete the original; None when it grew meanwhile or is gone."""
    archive.mkdir(parents=True, exist_ok=True)
    target = archive / f"journal-{file.first_row_us:016d}-{file.fingerprint}.csv.gz"
    draft = target.with_suffix(".tmp")
    try:
        with closing(_open(file.path)) as source, draft.open("wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, filename="", mtime=0) as packed:
                while block := source.read(CHUNK_BYTES):
                    packed.write(block)
                written = packed.tell()
            raw.flush()
            os.fsync(raw.fileno())
    except FileNotFoundError:
        draft.unlink(missing_ok=True)
        return None
    if written != file.size:
        draft.unlink(missing_ok=True)
        return None
    draft.replace(target)
    file.path.unlink(missing_ok=True)
    return target
