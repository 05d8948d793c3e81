"""The audio files that Asterisk plays, in one folder: found by what they were made from, never changed once there.

    KEY-LANGUAGE-HASH.ulaw  .alaw     8 kHz mono
    KEY-LANGUAGE-HASH.json            how it was made, written last: without it the other two do not count

HASH is of what goes in (text, voice, engine and its command; or the operator's file), so a new text is a new file and a
call that is being told the old one hears it to its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from gateway.core import prompts
from gateway.pbx import promptaudio, speech

MAX_FOLDER = 64
"""Characters of the folder's path: it travels in every plan."""

FOLDER = re.compile(rf"/[A-Za-z0-9_./-]{{0,{MAX_FOLDER - 1}}}")
_NAME = re.compile(r"(?P<key>[a-z][a-z0-9_]*)-(?P<language>[a-z]{2}(?:-[A-Z]{2})?)-(?P<digest>[0-9a-f]{16})")
_DRAFT = ".draft-"


def digest_of_speech(engine: speech.Engine, language: str, text: str) -> str:
    """Of everything that decides how a text sounds."""
    made_from = [engine.name, list(engine.command), engine.voice(language), language, text]
    return hashlib.sha256(json.dumps(made_from, ensure_ascii=False).encode()).hexdigest()[:16]


def digest_of_wav(content: bytes) -> str:
    """Of a file of the operator's."""
    return hashlib.sha256(b"wav\0" + content).hexdigest()[:16]


class PromptFolder:
    """The folder. Everything here blocks for a few file operations: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        if not FOLDER.fullmatch(str(folder)) or ".." in str(folder):
            raise ValueError(
                f"the folder of prompts must be an absolute path of at most {MAX_FOLDER} of A-Z a-z 0-9 _ . -"
            )
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder, readable by Asterisk, and clear away what a crash left. Raises OSError."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o755)
        for left in self.folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)

    def stem(self, key: str, language: str, digest: str) -> Path:
        """Path without extension."""
        return self.folder / f"{key}-{language}-{digest}"

    def ready(self, stem: Path) -> prompts.Ready | None:
        """What was made under that name; None when it is not there, or not whole."""
        try:
            said = json.loads(stem.with_name(f"{stem.name}.json").read_text("utf-8"))
            length = round(said["seconds"] * promptaudio.RATE)
            sizes = [stem.with_name(f"{stem.name}.{kind}").stat().st_size for kind in ("ulaw", "alaw")]
            if sizes != [length, length]:
                return None
            return prompts.Ready(str(said["prompt_id"]), str(stem), str(said["version"]), float(said["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder of its own on the same filesystem, gone at the end."""
        place = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def publish(
        self, drafted: Path, stem: Path, wanted: prompts.Wanted, made: promptaudio.Made, origin: dict[str, str]
    ) -> prompts.Ready:
        """Move `drafted`.ulaw and .alaw to `stem`, then write how they were made. Raises OSError."""
        prompt_id = f"{wanted.key}.{wanted.language}"
        said = {"prompt_id": prompt_id, **asdict(made), **origin}
        described = drafted.with_name(f"{drafted.name}.json")
        described.write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n", "utf-8")
        for kind in ("ulaw", "alaw", "json"):
            file = drafted.with_name(f"{drafted.name}.{kind}")
            file.chmod(0o644)
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(stem.with_name(f"{stem.name}.{kind}"))
        return prompts.Ready(prompt_id, str(stem), made.version, made.seconds)

    def find(self, prompt_id: str, version: str) -> Path | None:
        """The mu-law file of that prompt and version, for a receipt's check or in front of a recording."""
        key, _, language = prompt_id.partition(".")
        for described in sorted(self.folder.glob(f"{key}-{language}-*.json")):
            ready = self.ready(described.with_suffix(""))
            if ready is not None and (ready.prompt_id, ready.version) == (prompt_id, version):
                return described.with_suffix(".ulaw")
        return None

    def prune(self, kept: set[str], older_than: float) -> int:
        """Remove whispers that no plan names (`kept` are paths) and that are from before `older_than` (epoch seconds);
        how many. Prompts stay: receipts name them."""
        removed = 0
        for described in self.folder.glob(f"{prompts.WHISPER}-*.json"):
            stem = described.with_suffix("")
            if str(stem) in kept or not _NAME.fullmatch(stem.name) or described.stat().st_mtime >= older_than:
                continue
            for kind in ("json", "ulaw", "alaw"):
                stem.with_name(f"{stem.name}.{kind}").unlink(missing_ok=True)
            removed += 1
        return removed
