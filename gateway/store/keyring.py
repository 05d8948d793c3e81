"""The ring of keys that wrap the keys of recordings: read once at start, held in memory, never written by the daemon.

    # one key a line: id, 32 random bytes in base64; `current` marks the one that wraps new keys
    2026-11  3q2+7w…=  current
    2025-06  yv66vg…=

The text comes from `vault.keys` (a systemd credential of that name or DIALMARK_VAULT__KEYS, where `;` may stand for a
line end) or from the file `vault.keys_file`. What is wrapped stands in the database as nonce (12 bytes) ‖ AES-256-GCM
of the key (48 bytes), bound to the id of the ring's key and to what it is the key of.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
WRAPPED_BYTES = 12 + KEY_BYTES + 16
CURRENT = "current"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PURPOSE = b"dialmark wrapped key 1\0"


class KeyRingError(Exception):
    """The text is no key ring. The message names the line, never the key."""


class KeyMissing(Exception):
    """The ring lacks the key by which something was wrapped, or holds another one under its id."""

    def __init__(self, key_id: str, why: str) -> None:
        self.key_id = key_id
        super().__init__(f"key '{key_id}' {why}")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A key as the database holds it. `key_id` names the key of the ring that opens it."""

    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id; `current` wraps what is new."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @property
    def ids(self) -> frozenset[str]:
        """Ids of all keys."""
        return frozenset(self.keys)

    def wrap(self, key: bytes, subject: str) -> Wrapped:
        """Wrap 32 bytes with the current key. `subject` is what they are the key of: unwrapping must name the same."""
        nonce = os.urandom(12)
        return Wrapped(
            self.current, nonce + self._cipher(self.current).encrypt(nonce, key, _bound(self.current, subject))
        )

    def unwrap(self, wrapped: Wrapped, subject: str) -> bytes:
        """The key inside. Raises KeyMissing when the ring cannot open it."""
        cipher = self._cipher(wrapped.key_id)
        try:
            return cipher.decrypt(wrapped.data[:12], wrapped.data[12:], _bound(wrapped.key_id, subject))
        except (InvalidTag, ValueError):
            raise KeyMissing(wrapped.key_id, f"of the ring does not open what was wrapped for {subject}") from None

    def rewrap(self, wrapped: Wrapped, subject: str) -> Wrapped:
        """The same key wrapped anew with the current key. Raises KeyMissing."""
        return self.wrap(self.unwrap(wrapped, subject), subject)

    def _cipher(self, key_id: str) -> AESGCM:
        if key_id not in self.keys:
            raise KeyMissing(key_id, f"is not in the ring, which holds {', '.join(sorted(self.keys))}")
        return AESGCM(self.keys[key_id])


def _bound(key_id: str, subject: str) -> bytes:
    return _PURPOSE + key_id.encode() + b"\0" + subject.encode()


def parse(text: str) -> KeyRing:
    """The ring that a text holds. Raises KeyRingError with the first mistake."""
    keys: dict[str, bytes] = {}
    current: list[str] = []
    for number, line in enumerate(text.replace(";", "\n").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key_id, key = _entry(number, words)
        if key_id in keys:
            raise KeyRingError(f"line {number}: the id '{key_id}' stands twice")
        if key in keys.values():
            raise KeyRingError(f"line {number}: '{key_id}' is the same key as another one")
        keys[key_id] = key
        if len(words) == 3:
            current.append(key_id)
    if not keys:
        raise KeyRingError("it holds no key; `dialmark recordings new-key` prints one")
    if len(keys) == 1:
        return KeyRing(next(iter(keys)), keys)
    if len(current) != 1:
        raise KeyRingError(f"exactly one of its {len(keys)} keys must be marked '{CURRENT}', {len(current)} are")
    return KeyRing(current[0], keys)


def _entry(number: int, words: list[str]) -> tuple[str, bytes]:
    if len(words) not in (2, 3) or (len(words) == 3 and words[2] != CURRENT):
        raise KeyRingError(f"line {number}: must be an id, a key in base64 and perhaps the word '{CURRENT}'")
    if not _ID.fullmatch(words[0]):
        raise KeyRingError(f"line {number}: an id has 1 to 32 letters, digits, points and hyphens")
    try:
        key = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise KeyRingError(f"line {number}: the key of '{words[0]}' is not base64") from None
    if len(key) != KEY_BYTES:
        raise KeyRingError(f"line {number}: the key of '{words[0]}' has {len(key)} bytes, not {KEY_BYTES}")
    return words[0], key


def new_line(key_id: str) -> str:
    """A line with a fresh key, marked current: to be put into the ring's file. Raises KeyRingError for a bad id."""
    if not _ID.fullmatch(key_id):
        raise KeyRingError("an id has 1 to 32 letters, digits, points and hyphens")
    return f"{key_id}  {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}  {CURRENT}"
