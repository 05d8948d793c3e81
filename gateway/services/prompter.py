"""Keeps the audio of prompts and whispers ready: what plans of the book in force can name is made ahead of time.

One piece is made at a time, in processes of low priority, so that callers notice nothing. Whatever fails is shown in
`problem` and tried again; until then plans leave that prompt out (`gateway.pbx.dialvars`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.core import book, callingback, handling, prompts, whisper
from gateway.pbx import promptaudio, promptfiles, speech

log = structlog.get_logger()

MAX_PIECES = 5_000
"""Whispers of one book: 250 MB, and 20 minutes when none is there yet."""
MAX_WAITING = 200
"""Whispers wanted by calls and not made yet; more are forgotten until they are wanted again."""
MAX_EXPECTED = 200
"""Whispers for visitors who might call; of more the latest, since who came long ago is the less likely to call."""
MAX_ITEMS = 20_000
"""On the shelf, with those of earlier books and of single calls."""
RETRY_SECONDS = 300.0
KEEP_SECONDS = 30 * 86_400.0
"""Whispers that no plan names any more."""

Changed = Callable[[prompts.Shelf, bool], None]
"""Told the new shelf. True: the generated default plan may play something else, so it should be written anew; False:
only calls under way of their own (city, keyword) gained a whisper."""

_Group = tuple[prompts.Wanted, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where speech comes from. `own` is the operator's folder of WAV files; `engine` None: nothing here speaks."""

    catalogue: prompts.Catalogue
    engine: speech.Engine | None
    own: Path | None = None


class Prompter:
    """Supervised: `run` never returns, and outside faults (program, disk, file) do not end it."""

    def __init__(
        self,
        folder: promptfiles.PromptFolder,
        sources: Sources,
        changed: Changed,
        codes: callingback.Rules = callingback.DEFAULT,
    ) -> None:
        self._folder = folder
        self._sources = sources
        self._changed = changed
        self._codes = codes
        self._asked = asyncio.Event()
        self._stages: tuple[tuple[_Group, ...], ...] = ()
        self._waiting: dict[_Group, None] = {}
        self._expected: dict[_Group, None] = {}
        self._items: dict[prompts.Wanted, prompts.Ready] = {}
        self._too_long: set[prompts.Wanted] = set()
        self._failures: dict[prompts.Wanted, str] = {}
        self._folder_problem: str | None = None
        self._left_out = 0
        self.is_idle = asyncio.Event()
        """Set when everything asked for so far was made or has failed."""

    @property
    def shelf(self) -> prompts.Shelf:
        """What can be played now."""
        return prompts.Shelf(dict(self._items))

    @property
    def problem(self) -> str | None:
        """What keeps prompts from being ready, in one line; None = all are."""
        if self._folder_problem is not None:
            return self._folder_problem
        # What agents hear of their codes has tones in its place.
        failures = {wanted: why for wanted, why in self._failures.items() if wanted.key not in callingback.PROMPTS}
        if failures:
            wanted, reason = next(iter(failures.items()))
            name = f'whisper "{wanted.text}"' if wanted.text else f"prompt {wanted.key}.{wanted.language}"
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            return f"{name} is not ready: {reason}{more}"
        if self._left_out:
            return f"{self._left_out} whispers are more than the {MAX_PIECES} that are made ahead"
        return None

    def use(self, routing_book: book.Book) -> None:
        """Make ready what this book can name; what is ready stays so until then."""
        *before, whispers = handling.stages(routing_book, self._codes)
        self._left_out = max(0, len(whispers) - MAX_PIECES)
        self._stages = (*before, whispers[:MAX_PIECES])
        self._failures = {}
        self.is_idle.clear()
        self._asked.set()

    def want(self, group: _Group) -> None:
        """A call had no ready audio for the first of `group`: have it for the next one. Never blocks."""
        if len(self._waiting) >= MAX_WAITING or group[0] in self._too_long or group[0] in self._failures:
            return
        if group not in self._waiting:
            self._waiting[group] = None
            self.is_idle.clear()
            self._asked.set()

    def expect(self, group: _Group) -> None:
        """A visitor who might call would be whispered about by `group`: make it when nothing else is to be made. Never
        blocks."""
        first = group[0]
        if first in self._items or first in self._too_long or first in self._failures:
            return
        self._expected.pop(group, None)
        self._expected[group] = None
        if len(self._expected) > MAX_EXPECTED:
            del self._expected[next(iter(self._expected))]
        self.is_idle.clear()
        self._asked.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                async with asyncio.timeout(RETRY_SECONDS if self.problem else None):
                    await self._asked.wait()
            except TimeoutError:
                log.info("prompts are tried again", problem=self.problem)
                self._failures = {}
            self._asked.clear()
            await self.make_ready()

    async def make_ready(self) -> None:
        """Everything asked for so far, stage by stage, then what single calls want. Each stage is told of when it is
        there: no call waits for the prompts of another's need."""
        stages = self._stages
        before = self.problem
        try:
            if any(stages) or self._waiting or self._expected:
                await asyncio.to_thread(self._folder.prepare)
            self._folder_problem = None
            for stage in stages:
                await self._make(stage, is_planned=True)
            while (queue := self._waiting or self._expected) and stages is self._stages:
                group = next(iter(queue))
                del queue[group]
                await self._make([group], is_planned=False)
            if any(stages):
                await self._prune()
        except OSError as error:
            self._folder_problem = f"the folder of prompts cannot be used: {error.strerror or error}"
        if self.problem != before and self.problem is not None:
            log.warning("prompts are missing", problem=self.problem)
        if stages is self._stages and not self._waiting and not self._expected:
            self.is_idle.set()

    async def _make(self, groups: Iterable[_Group], *, is_planned: bool) -> None:
        known = dict(self._items)
        current = self._stages
        for group in groups:
            if current is not self._stages:
                break
            await self._make_one_of(group)
        if self._items != known:
            self._changed(self.shelf, is_planned)

    async def _make_one_of(self, group: _Group) -> None:
        """The first of `group` that is short enough; a failure of one is no reason to try the next."""
        for wanted in group:
            if wanted in self._too_long:
                continue
            try:
                ready = await self._made(wanted)
            except speech.SpeechFailed as error:
                self._failures[wanted] = str(error)
                return
            if wanted.key == prompts.WHISPER and ready.seconds > whisper.MAX_SECONDS:
                self._too_long.add(wanted)
                self._items.pop(wanted, None)
                log.warning("whisper too long, shortened", text=wanted.text, seconds=ready.seconds)
                continue
            self._failures.pop(wanted, None)
            self._items[wanted] = ready
            return

    async def _made(self, wanted: prompts.Wanted) -> prompts.Ready:
        """From the folder, else from the operator's file, else by speech. Raises `speech.SpeechFailed`, OSError."""
        own = await asyncio.to_thread(self._own_file, wanted)
        if own is not None:
            digest = promptfiles.digest_of_wav(own[1])
            return await self._published(wanted, digest, {"file": own[0].name}, wav=own[1])
        text = (wanted.language, wanted.text) if wanted.text else None
        text = text or self._sources.catalogue.text(wanted.key, wanted.language)
        if text is None:
            raise speech.SpeechFailed(f"there is neither a text nor a file {wanted.key}.{wanted.language}.wav")
        language, words = text
        if language != wanted.language and (found := self._items.get(prompts.Wanted(wanted.key, language))):
            return found
        engine = self._sources.engine
        if engine is None or not engine.speaks(language):
            spoken = "no speech program is installed" if engine is None else f"{engine.name} does not speak {language}"
            raise speech.SpeechFailed(f"{spoken}, and there is no file {wanted.key}.{wanted.language}.wav")
        said = prompts.Wanted(wanted.key, language, wanted.text)
        digest = promptfiles.digest_of_speech(engine, language, words)
        origin = {"text": words, "engine": engine.name, "voice": engine.voice(language)}
        return await self._published(said, digest, origin)

    async def _published(
        self, wanted: prompts.Wanted, digest: str, origin: dict[str, str], wav: bytes | None = None
    ) -> prompts.Ready:
        stem = self._folder.stem(wanted.key, wanted.language, digest)
        ready = await asyncio.to_thread(self._folder.ready, stem)
        if ready is not None:
            return ready
        with self._folder.draft() as place:
            if wav is not None:
                source = place / "own.wav"
                await asyncio.to_thread(source.write_bytes, wav)
            else:
                assert self._sources.engine is not None
                source = await speech.speak(self._sources.engine, origin["text"], wanted.language, place)
            drafted = place / "made"
            made = await speech.convert(source, drafted, is_speech=wav is None)
            return await asyncio.to_thread(self._folder.publish, drafted, stem, wanted, made, origin)

    def _own_file(self, wanted: prompts.Wanted) -> tuple[Path, bytes] | None:
        """The operator's file and its content. Raises `speech.SpeechFailed` for one that must not be used."""
        if self._sources.own is None or wanted.text:
            return None
        file = self._sources.own / f"{wanted.key}.{wanted.language}.wav"
        try:
            if not file.is_file():
                return None
            if file.stat().st_size > promptaudio.MAX_FILE_BYTES:
                raise speech.SpeechFailed(f"{file.name} is larger than {promptaudio.MAX_FILE_BYTES} bytes")
            return file, file.read_bytes()
        except OSError as error:
            raise speech.SpeechFailed(f"{file.name} cannot be read: {error.strerror}") from None

    async def _prune(self) -> None:
        if len(self._items) > MAX_ITEMS:
            planned = {wanted for stage in self._stages for group in stage for wanted in group}
            self._items = {wanted: ready for wanted, ready in self._items.items() if wanted in planned}
        kept = {ready.path for ready in self._items.values()}
        removed = await asyncio.to_thread(self._folder.prune, kept, time.time() - KEEP_SECONDS)
        if removed:
            log.info("old whispers removed", count=removed)
