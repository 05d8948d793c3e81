"""The container of one recording: encrypted in frames, so that any part of it can be read without the rest.

    magic (8) ‖ nonce prefix (7) ‖ 0 (1) ‖ frame 0 ‖ frame 1 ‖ … ‖ last frame

A frame is AES-256-GCM of 65,536 bytes (the last one: what is left, of an empty body nothing) and its tag of 16.
Nonce: prefix ‖ frame number (4) ‖ 1 for the last frame, else 0. Associated data: magic ‖ recording id (16) ‖ frame
number (4) ‖ last (1). So a bit that was flipped, a frame that was moved, a file that was cut, lengthened, or put in the
place of another is refused with `VaultDamaged`. The key is random, made for this file alone, and never in it
(`gateway.store.keyring` wraps it, `gateway.store.recordings` keeps it): without its row the file is noise.

Everything here blocks: call it in a thread. One frame keeps the interpreter's lock for 0.03 ms; 64 MB at once, 54 ms.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"DIALMRK1"
FRAME_BYTES = 65_536
TAG_BYTES = 16
HEADER_BYTES = 16
SUFFIX = ".dmv"
_STORED_BYTES = FRAME_BYTES + TAG_BYTES
_MAX_FRAMES = 2**32


class VaultDamaged(Exception):
    """The file is not what was written under this id and key: altered, cut, swapped, or another recording's."""


class VaultMissing(Exception):
    """There is no file where the recording should be."""


def new_key() -> bytes:
    """A key for one file."""
    return AESGCM.generate_key(bit_length=256)


def file_of(root: Path, recording_id: str, started_us: int) -> Path:
    """Where a recording lies: `YYYY/MM/DD/<id>.dmv` by the UTC day on which it began."""
    day = datetime.fromtimestamp(started_us // 1_000_000, UTC)
    return root / f"{day:%Y}" / f"{day:%m}" / f"{day:%d}" / f"{recording_id}{SUFFIX}"


def write(path: Path, key: bytes, recording_id: str, body: Iterable[bytes]) -> int:
    """Encrypt `body` (pieces of any size) into a new file and put it at `path` whole, or not at all.

    Synced with its folder before it returns; an older file there is replaced. Returns the length of the body in bytes.
    Raises OSError (disk full, no rights); then nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o640), "wb") as file:
            length = _encrypt(file.write, key, recording_id, body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return length


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encrypt(put: Callable[[bytes], object], key: bytes, recording_id: str, body: Iterable[bytes]) -> int:
    cipher, prefix, identity = AESGCM(key), os.urandom(7), uuid.UUID(recording_id).bytes
    put(MAGIC + prefix + b"\0")
    pending, number, length = bytearray(), 0, 0
    for piece in body:
        pending += piece
        length += len(piece)
        # One frame is held back: only the end tells which is the last.
        while len(pending) > FRAME_BYTES:
            put(_seal(cipher, prefix, identity, number, bytes(pending[:FRAME_BYTES]), is_last=False))
            del pending[:FRAME_BYTES]
            number += 1
            if number >= _MAX_FRAMES:
                raise ValueError("a recording of more than 281 TB")
    put(_seal(cipher, prefix, identity, number, bytes(pending), is_last=True))
    return length


def _seal(cipher: AESGCM, prefix: bytes, identity: bytes, number: int, frame: bytes, *, is_last: bool) -> bytes:
    place = struct.pack(">IB", number, is_last)
    return cipher.encrypt(prefix + place, frame, MAGIC + identity + place)


class Reader:
    """An open container. Opening proves its length: the last frame is decrypted. Not for two threads at once."""

    length: int
    """Bytes of the body."""

    def __init__(self, path: Path, key: bytes, recording_id: str) -> None:
        """Raises VaultMissing, VaultDamaged, OSError."""
        self._cipher, self._identity = AESGCM(key), uuid.UUID(recording_id).bytes
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VaultMissing(f"{path} is not there") from None
        try:
            self._prefix, self._frames = self._head(path)
            self.length = (self._frames - 1) * FRAME_BYTES + len(self._frame(self._frames - 1))
        except BaseException:
            self.close()
            raise

    def _head(self, path: Path) -> tuple[bytes, int]:
        stored = os.fstat(self._handle).st_size - HEADER_BYTES
        header = os.pread(self._handle, HEADER_BYTES, 0)
        if len(header) < HEADER_BYTES or header[:8] != MAGIC or header[15] != 0:
            raise VaultDamaged(f"{path} is not a recording of Dialmark")
        if stored < TAG_BYTES or 0 < stored % _STORED_BYTES < TAG_BYTES:
            raise VaultDamaged(f"{path} was cut")
        return header[8:15], -(-stored // _STORED_BYTES)

    def _frame(self, number: int) -> bytes:
        sealed = os.pread(self._handle, _STORED_BYTES, HEADER_BYTES + number * _STORED_BYTES)
        place = struct.pack(">IB", number, number == self._frames - 1)
        try:
            return self._cipher.decrypt(self._prefix + place, sealed, MAGIC + self._identity + place)
        except (InvalidTag, ValueError):
            raise VaultDamaged(
                f"frame {number} of recording {uuid.UUID(bytes=self._identity)} is not genuine"
            ) from None

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` (exclusive; cut to the length), at most a frame at a time, decrypting only the frames
        that hold them. Raises VaultDamaged, OSError."""
        end = self.length if stop is None else min(stop, self.length)
        while start < end:
            number, offset = divmod(start, FRAME_BYTES)
            piece = self._frame(number)[offset : offset + end - start]
            yield piece
            start += len(piece)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `start` to `stop` at once; for parts that fit into memory."""
        return b"".join(self.pieces(start, stop))

    def close(self) -> None:
        """Close the file; a second time is no error."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def remove(path: Path) -> bool:
    """Delete a file of the vault for good, synced; whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True
