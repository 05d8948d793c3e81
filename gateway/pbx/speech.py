"""Text to speech by a program of the machine: espeak-ng, flite, or any command. Arguments are a list, never a shell's
line, and the text goes by file, so that no text can become an option.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.pbx import promptaudio

SPEAK_SECONDS = 30.0
"""For one text; a program that hangs is killed with its children."""
_MAX_ERROR = 300

ESPEAK = ("espeak-ng", "-b", "1", "-s", "160", "-v", "{voice}", "-f", "{text_file}", "-w", "{wav}")
FLITE = ("flite", "-voice", "{voice}", "-f", "{text_file}", "-o", "{wav}")
PLACEHOLDERS = ("text_file", "wav", "voice", "language")


class SpeechFailed(RuntimeError):
    """The program or the conversion failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A program that writes a WAV file. `languages` empty: any language; `voices` by language, else the language."""

    name: str
    command: tuple[str, ...]
    voices: Mapping[str, str] = field(default_factory=dict)
    languages: frozenset[str] = frozenset()

    def speaks(self, language: str) -> bool:
        """Whether a text of that language can be given to it."""
        return not self.languages or language.partition("-")[0] in self.languages

    def voice(self, language: str) -> str:
        """By full language, then by base language, then the language itself in lower case."""
        return self.voices.get(language) or self.voices.get(language.partition("-")[0]) or language.lower()

    def arguments(self, language: str, text_file: Path, wav: Path) -> list[str]:
        """The command with its placeholders filled."""
        values = {
            "{text_file}": str(text_file),
            "{wav}": str(wav),
            "{voice}": self.voice(language),
            "{language}": language,
        }
        return [_filled(part, values) for part in self.command]


def find(name: str, command: Sequence[str] = (), voices: Mapping[str, str] | None = None) -> Engine | None:
    """The engine of the settings: `auto` takes espeak-ng, else flite (English only); None when it is not installed."""
    own = dict(voices or {})
    match name:
        case "command":
            program = command[0] if command else ""
            return Engine("command", tuple(command), own) if program and shutil.which(program) else None
        case "auto":
            return find("espeak-ng", voices=own) or find("flite", voices=own)
        case "espeak-ng" if shutil.which("espeak-ng"):
            return Engine("espeak-ng", ESPEAK, own)
        case "flite" if shutil.which("flite"):
            return Engine("flite", FLITE, {"en": "slt"} | own, frozenset({"en"}))
    return None


async def speak(engine: Engine, text: str, language: str, folder: Path) -> Path:
    """A WAV file of `text` in `folder`. Raises `SpeechFailed`."""
    text_file, wav = folder / "text.txt", folder / "speech.wav"
    await asyncio.to_thread(text_file.write_text, text + "\n", "utf-8")
    await _run(engine.arguments(language, text_file, wav), engine.name)
    if not await asyncio.to_thread(wav.is_file):
        raise SpeechFailed(f"{engine.name} wrote no file")
    return wav


async def convert(source: Path, stem: Path, *, is_speech: bool) -> promptaudio.Made:
    """`promptaudio.convert` in a process of its own. Raises `SpeechFailed` with what is wrong with the file."""
    kind = "speech" if is_speech else "own"
    command = [sys.executable, "-m", promptaudio.__name__, str(source), str(stem), kind]
    output = await _run(command, "conversion", plain=True)
    try:
        return promptaudio.Made(**json.loads(output))
    except (ValueError, TypeError):
        raise SpeechFailed("conversion said nothing usable") from None


async def _run(command: Sequence[str], name: str, *, plain: bool = False) -> bytes:
    """Standard output; `plain` errors stand alone, others name the program."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
    except OSError as error:
        raise SpeechFailed(f"{name} cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(SPEAK_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        raise SpeechFailed(f"{name} took longer than {SPEAK_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            _kill(process.pid)
            await process.wait()
    if process.returncode:
        said = " ".join(errors.decode("utf-8", "replace").split())[-_MAX_ERROR:] or f"status {process.returncode}"
        raise SpeechFailed(said if plain else f"{name}: {said}")
    return output


def _environment() -> dict[str, str]:
    """Nothing of ours that could be a secret; Python finds this package as we do."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept}


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _filled(part: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        if name in part:
            # One placeholder an argument: a value that looks like another one is not filled again.
            return part.replace(name, value)
    return part
