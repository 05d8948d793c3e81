"""Recordings to hear and to see: two people who speak by turns, encoded and encrypted as the recorder does it."""

from __future__ import annotations

import math
import uuid
from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gateway.services import audio
from gateway.store import keyring, recordings, vault
from gateway.web import parts
from tests.web import material
from tests.web.listener import Listener

RING = keyring.parse("2026-11 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= current")
SECONDS = 60
RATE = 8_000
STARTED_US = parts.micros(material.NOW)


@lru_cache
def voice(hertz: int, turn: int, seconds: int = SECONDS) -> bytes:
    """Syllables of one person, who has every second turn of 5 s."""
    samples = array("h")
    for tenth in range(seconds * 10):
        is_turn = (tenth // 50) % 2 == turn and tenth % 50 < 46
        loud = 9_000 * abs(math.sin(tenth * 1.7)) * (0.4 + 0.6 * abs(math.sin(tenth * 0.13))) if is_turn else 0.0
        samples.extend(int(loud * math.sin(2 * math.pi * hertz * at / RATE)) for at in range(RATE // 10))
    return samples.tobytes()


@lru_cache
def body(folder: Path, *, is_message: bool = False) -> tuple[bytes, bytes]:
    """MP3 and peaks."""
    caller, agent = folder / "caller.sln", folder / "agent.sln"
    caller.write_bytes(voice(220, 0))
    agent.write_bytes(voice(330, 1))
    count = SECONDS * RATE
    take = audio.Take(caller, None if is_message else agent, 0, count, 0 if is_message else count)
    encoding = audio.Encoding([take], RATE, 1 if is_message else 2)
    *sound, peaks = encoding.pieces()
    return b"".join(sound), peaks


@dataclass(frozen=True)
class Vault:
    """A vault behind a listener."""

    listener: Listener
    folder: Path

    def open(self) -> None:
        self.listener.vault_parts.root, self.listener.vault_parts.ring = self.folder, RING

    async def put(
        self,
        call_id: str,
        *,
        is_message: bool = False,
        state: recordings.State = recordings.State.STORED,
        minutes: int = 1,
    ) -> recordings.Recording:
        """One recording of a call."""
        self.open()
        sound, peaks = body(self.folder, is_message=is_message)
        sound *= minutes
        kind = "voicemail" if is_message else "talk"
        made = recordings.Recording(
            recording_id=str(uuid.uuid5(uuid.UUID(call_id), f"{kind}/{state}")),
            call_id=call_id,
            node="main",
            kind=kind,
            state=state,
            started_us=STARTED_US,
            duration_seconds=float(SECONDS * minutes),
            parts="1",
            audio_bytes=len(sound),
            peaks_bytes=len(peaks),
            digest="d1",
            created_us=STARTED_US,
        )
        key = vault.new_key()
        path = vault.file_of(self.folder, made.recording_id, made.started_us)
        vault.write(path, key, made.recording_id, [sound, peaks])
        async with self.listener.database.begin() as tx:
            await recordings.register(tx, made, RING.wrap(key, recordings.subject(made.recording_id)))
        return made
