"""The key ring and the signing key as they are found at the start: what is wrong with them is said then, never later.

Whatever is wrong, the daemon starts and calls go on: unrecorded, where what is recorded could not be opened again or
its consent could not be proved. An older key that the ring lacks is said, but new recordings do not need it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway import log, store
from gateway.config import settings
from gateway.store import keyring, recordings, signatures

_log = log.get("daemon")


@dataclass(frozen=True, slots=True)
class Keys:
    """What was found. `ring` opens what it can, also when it lacks a key."""

    ring: keyring.KeyRing | None = None
    signer: signatures.Signer | None = None
    problems: tuple[str, ...] = ()
    """What is wrong, in sentences; empty on a node without a ring that never recorded."""
    may_record: bool = True
    """No problem concerns new recordings."""

    @property
    def recording_ring(self) -> keyring.KeyRing | None:
        """The ring, if new recordings may be made with it."""
        return self.ring if self.may_record else None

    @property
    def problem(self) -> str:
        """The problems in one line."""
        return "; ".join(self.problems)


async def find(chosen: settings.Settings, database: store.Database, *, signs: bool) -> Keys:
    """Read both, and try the ring on what is stored; `signs`: this process makes receipts. Raises StoreError."""
    problems: list[str] = []
    ring = _ring(chosen, problems)
    signer = _signer(chosen, problems, is_needed=ring is not None) if signs else None
    async with database.read() as connection:
        unopened = await recordings.ring_problems(connection, ring)
    # Another key under an id that the ring has: nobody knows which of the two is the right one.
    may_record = not problems and (ring is None or not ring.ids & unopened.keys())
    problems += unopened.values()
    for problem in problems:
        _log.error("key ring or signing key not usable", reason=problem)
    return Keys(ring, signer, tuple(problems), may_record=may_record)


def _ring(chosen: settings.Settings, problems: list[str]) -> keyring.KeyRing | None:
    try:
        text = chosen.vault.text()
    except settings.SettingsErrors as error:
        problems.append(f"no key ring: {error}")
        return None
    if not text.strip():
        if chosen.vault.keys_file is not None:
            problems.append(f"no key ring: {chosen.vault.keys_file} is empty")
        return None
    try:
        return keyring.parse(text)
    except keyring.KeyRingError as error:
        problems.append(f"the key ring is not readable: {error}")
        return None


def _signer(chosen: settings.Settings, problems: list[str], *, is_needed: bool) -> signatures.Signer | None:
    """A node that never records needs no key, and makes none."""
    path = chosen.recording.signing_key_file
    try:
        return signatures.Signer.load(path) if is_needed or path.exists() else None
    except signatures.BadKey as error:
        problems.append(f"no receipt can be signed: {error}")
    except OSError as error:
        problems.append(f"no receipt can be signed: {path}: {error.strerror}")
    return None
