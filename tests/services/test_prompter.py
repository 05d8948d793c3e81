"""Prompts and whispers made ahead of time (C7): real speech programs, files of the operator, faults (R36)."""

from __future__ import annotations

import asyncio
import json
import math
import os
import struct
import sys
import wave
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import shipped
from gateway.core import book, callingback, handling, prompts, whisper
from gateway.pbx import promptaudio, promptfiles, speech
from gateway.services import prompter
from tests.core import books


def tone(path: Path, *, seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, channels: int = 1) -> Path:
    """A WAV file with a sine of half the full level."""
    samples = array("h")
    for index in range(round(seconds * rate)):
        samples.extend([round(16_000 * math.sin(2 * math.pi * hertz * index / rate))] * channels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def header(*, form: int = 1, channels: int = 1, rate: int = 8_000, frames: int = 0) -> bytes:
    """The beginning of a WAV file that says `frames` and holds none."""
    block = 2 * channels
    described = struct.pack("<HHIIHH", form, channels, rate, rate * block, block, 16)
    length = min(frames * block, 2**32 - 1)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16) + described + struct.pack("<4sI", b"data", length)
    )


def made(**route: Any) -> book.Book:
    one = books.routing_book(books.route(**route))
    return replace(one, regions=shipped.consent_regions(), words=shipped.catalogue())


class Bench:
    """A prompter on a folder, and what it told."""

    def __init__(
        self,
        place: Path,
        engine: speech.Engine | None,
        own: Path | None = None,
        codes: callingback.Rules = callingback.DEFAULT,
    ) -> None:
        self.folder = promptfiles.PromptFolder(place)
        self.told: list[tuple[prompts.Shelf, bool]] = []
        sources = prompter.Sources(shipped.catalogue(), engine, own)
        self.prompter = prompter.Prompter(
            self.folder, sources, lambda shelf, planned: self.told.append((shelf, planned)), codes
        )

    async def use(self, routing_book: book.Book) -> prompts.Shelf:
        self.prompter.use(routing_book)
        await self.prompter.make_ready()
        return self.prompter.shelf


def sizes(ready: prompts.Ready) -> set[int]:
    return {Path(f"{ready.path}.{kind}").stat().st_size for kind in ("ulaw", "alaw")}


def times(place: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in place.iterdir()}


def spoil(ready: prompts.Ready) -> None:
    Path(f"{ready.path}.alaw").write_bytes(b"half")


def described(ready: prompts.Ready) -> dict[str, object]:
    found = json.loads(Path(f"{ready.path}.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the folder's path travels in every plan."""
    return tmp_path_factory.mktemp("p")


@pytest.mark.parametrize("language", ["en", "ko", "ru"])
async def test_every_text_is_spoken_by_espeak(language: str, place: Path) -> None:
    bench = Bench(place, speech.find("espeak-ng"))
    one = made(recording=book.RecordingMode.REGION, accept=book.Acceptance.PRESS_1, language=language, tell_agent=True)
    shelf = await bench.use(one)
    assert bench.prompter.problem is None
    assert {wanted.key for wanted in shelf.items} >= {"consent_announce", "consent_opt_in", "accept", "agent_told"}
    for group in handling.demands(one):
        ready = shelf.find(group[0])
        assert ready is not None
        assert ready.prompt_id == f"{group[0].key}.{language}"
        assert 0.5 < ready.seconds < 15
        assert sizes(ready) == {round(ready.seconds * 8_000)}
        assert bench.folder.find(ready.prompt_id, ready.version) == Path(f"{ready.path}.ulaw")
    assert not [name for name in times(place) if name.startswith(".")]


async def test_flite_speaks_english_only(place: Path) -> None:
    engine = speech.find("flite")
    assert engine is not None and engine.voice("en") == "slt"
    shelf = await Bench(place / "en", engine).use(made(recording=book.RecordingMode.OPT_IN, language="en"))
    assert shelf.find(prompts.Wanted("consent_opt_in", "en"))
    bench = Bench(place / "ru", engine)
    await bench.use(made(recording=book.RecordingMode.OPT_IN))
    assert bench.prompter.problem is not None and "flite does not speak ru" in bench.prompter.problem


async def test_a_call_waits_for_no_prompt_of_another_need(place: Path) -> None:
    """Consent, then what else calls play, then agents' codes, then whispers, each in plans as soon as it is there."""
    one = made(recording=book.RecordingMode.OPT_IN, accept=book.Acceptance.PRESS_1, whisper={"": "{source}"})
    agents = {key: replace(agent, endpoint=key) for key, agent in one.agents.items()}
    one = replace(one, agents=agents, local_contexts=frozenset({"from-phones"}))
    bench = Bench(place, speech.find("espeak-ng"))
    await bench.use(one)
    known: set[str] = set()
    added = []
    for shelf, is_planned in bench.told:
        assert is_planned
        added.append({wanted.key for wanted in shelf.items} - known)
        known |= added[-1]
    codes = callingback.PROMPTS - {callingback.RESULT_PROMPT}
    assert added == [{"consent_opt_in"}, {"accept", "whisper_generic"}, codes, {"whisper"}]


async def test_the_question_for_the_result_is_made_where_it_is_asked(place: Path) -> None:
    one = made()
    agents = {key: replace(agent, endpoint=key) for key, agent in one.agents.items()}
    one = replace(one, agents=agents, local_contexts=frozenset({"from-phones"}))
    result = prompts.Wanted(callingback.RESULT_PROMPT, "ru")
    assert (await Bench(place, speech.find("espeak-ng")).use(one)).find(result) is None
    keyed = Bench(place, speech.find("espeak-ng"), codes=callingback.Rules(keyed=True))
    assert (await keyed.use(one)).find(result)


async def test_nothing_is_made_twice(place: Path) -> None:
    one = made(recording=book.RecordingMode.ANNOUNCE)
    first = Bench(place, speech.find("espeak-ng"))
    await first.use(one)
    before = times(place)
    second = Bench(place, speech.find("espeak-ng"))
    assert await second.use(one) == first.prompter.shelf
    assert times(place) == before
    assert [planned for _, planned in second.told] == [True]


async def test_a_half_written_prompt_is_made_again(place: Path) -> None:
    one = made(recording=book.RecordingMode.ANNOUNCE)
    ready = (await Bench(place, speech.find("espeak-ng")).use(one)).find(prompts.Wanted("consent_announce", "ru"))
    assert ready is not None
    spoil(ready)
    (place / ".draft-left").mkdir()
    again = await Bench(place, speech.find("espeak-ng")).use(one)
    assert again.find(prompts.Wanted("consent_announce", "ru")) == ready
    assert sizes(ready) == {round(ready.seconds * 8_000)}
    assert not (place / ".draft-left").exists()


async def test_long_whispers_are_shortened_to_three_seconds(place: Path) -> None:
    template = "{source}, {campaign}, {number_label}"
    one = made(whisper={"": template})
    label = "a very long label of a landing page about implants and crowns"
    number = replace(one.tracking_numbers[books.DID], campaign="implants", label=label)
    one = replace(one, tracking_numbers={books.DID: number})
    shelf = await Bench(place, speech.find("espeak-ng")).use(one)
    (choices,) = handling.whispers(number, one)
    ready = shelf.first(choices)
    assert ready is not None
    assert choices[0].text.count(",") == 2
    assert shelf.find(choices[0]) is None
    assert shelf.find(choices[1]) == ready
    assert ready.seconds <= whisper.MAX_SECONDS


async def test_a_whisper_that_a_call_wanted_is_there_for_the_next(place: Path) -> None:
    bench = Bench(place, speech.find("espeak-ng"))
    await bench.use(made(whisper={"": "{source}, {city}"}))
    group = (prompts.Wanted(prompts.WHISPER, "ru", "Radio Jazz, Казань"), prompts.Wanted("whisper_generic", "ru"))
    for _ in range(3):
        bench.prompter.want(group)
    running = asyncio.create_task(bench.prompter.run())
    await bench.prompter.is_idle.wait()
    running.cancel()
    assert bench.prompter.shelf.find(group[0])
    assert [planned for _, planned in bench.told][-1] is False


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
async def test_a_file_of_the_operator_goes_before_speech(rate: int, channels: int, place: Path) -> None:
    own = place / "own"
    own.mkdir()
    tone(own / "consent_opt_in.ru.wav", rate=rate, channels=channels)
    shelf = await Bench(place / "made", speech.find("espeak-ng"), own).use(made(recording=book.RecordingMode.OPT_IN))
    ready = shelf.find(prompts.Wanted("consent_opt_in", "ru"))
    assert ready is not None
    assert ready.seconds == pytest.approx(1.0, abs=0.01)
    assert described(ready)["file"] == "consent_opt_in.ru.wav"


async def test_another_file_is_another_version(place: Path) -> None:
    own = place / "own"
    own.mkdir()
    one = made(recording=book.RecordingMode.OPT_IN)
    bench = Bench(place / "made", None, own)
    versions = set()
    for hertz in (440.0, 500.0):
        tone(own / "consent_opt_in.ru.wav", hertz=hertz)
        ready = (await bench.use(one)).find(prompts.Wanted("consent_opt_in", "ru"))
        assert ready is not None
        versions.add((ready.version, ready.path))
    assert len({version for version, _ in versions}) == len({path for _, path in versions}) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no WAV file"),
        (header(frames=2**31 - 1), "60 s"),
        (header(), "shorter"),
        (header(form=7), "no WAV file"),
        (header(channels=9), "9 channels"),
        (header(rate=0), "0 samples a second"),
        (b"#!/bin/sh\nexit 0\n" * 100, "no WAV file"),
        (b"RIFF" + os.urandom(5_000), "no WAV file"),
    ],
)
async def test_a_hostile_file_is_refused_and_calls_go_on(content: bytes, reason: str, place: Path) -> None:
    own = place / "own"
    own.mkdir()
    (own / "consent_opt_in.ru.wav").write_bytes(content)
    bench = Bench(place / "made", speech.find("espeak-ng"), own)
    shelf = await bench.use(made(recording=book.RecordingMode.OPT_IN))
    assert shelf.find(prompts.Wanted("consent_opt_in", "ru")) is None
    assert bench.prompter.problem is not None
    assert reason in bench.prompter.problem
    assert "consent_opt_in.ru" in bench.prompter.problem


async def test_no_speech_on_the_machine_is_said(place: Path) -> None:
    bench = Bench(place, None)
    assert (await bench.use(made(recording=book.RecordingMode.OPT_IN))).items == {}
    assert "no speech program is installed" in (bench.prompter.problem or "")
    assert bench.told == []


async def test_an_unusable_folder_is_said(place: Path) -> None:
    blocked = place / "file"
    blocked.write_text("")
    bench = Bench(blocked, speech.find("espeak-ng"))
    assert (await bench.use(made(recording=book.RecordingMode.OPT_IN))).items == {}
    assert "folder of prompts cannot be used" in (bench.prompter.problem or "")


FAILING = {
    "fails": ("import sys; sys.stderr.write('no voice\\n'); sys.exit(3)", "no voice"),
    "writes nothing": ("pass", "wrote no file"),
    "writes nonsense": ("import sys; open(sys.argv[2], 'wb').write(b'nonsense')", "no WAV file"),
}


@pytest.mark.parametrize("name", FAILING)
async def test_a_command_that_fails_is_said(name: str, place: Path) -> None:
    script, reason = FAILING[name]
    engine = speech.find("command", (sys.executable, "-c", script, "{text_file}", "{wav}", "{voice}"))
    bench = Bench(place, engine)
    await bench.use(made(recording=book.RecordingMode.OPT_IN))
    assert reason in (bench.prompter.problem or "")


async def test_a_hung_command_is_killed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "SPEAK_SECONDS", 0.5)
    engine = speech.Engine("command", (sys.executable, "-c", "import time; time.sleep(600)"))
    bench = Bench(place, engine)
    await bench.use(made(recording=book.RecordingMode.OPT_IN))
    assert "took longer" in (bench.prompter.problem or "")


async def test_any_command_can_speak(place: Path) -> None:
    """A list of arguments, no shell: the text is data, whatever it holds."""
    source = tone(place / "tone.wav")
    script = "import shutil, sys; assert open(sys.argv[1]).read().strip(); shutil.copy(sys.argv[4], sys.argv[2])"
    command = (sys.executable, "-c", script, "{text_file}", "{wav}", "{voice}", str(source))
    bench = Bench(place / "made", speech.find("command", command, {"ru": "irina; rm -rf /"}))
    shelf = await bench.use(made(recording=book.RecordingMode.OPT_IN))
    assert bench.prompter.problem is None
    assert shelf.find(prompts.Wanted("consent_opt_in", "ru"))


def test_the_tone_stays_the_tone_and_what_is_above_four_kilohertz_goes(tmp_path: Path) -> None:
    for rate, hertz, expected in ((44_100, 1_000.0, 16_000.0), (22_050, 3_000.0, 16_000.0), (48_000, 6_000.0, 0.0)):
        samples, read = promptaudio.read_wav(tone(tmp_path / "in.wav", rate=rate, hertz=hertz))
        made = promptaudio.resampled(samples, read)
        assert len(made) == pytest.approx(8_000, abs=2)
        middle = made[1_000:7_000]
        level = math.sqrt(2 * sum(one * one for one in middle) / len(middle))
        assert level == pytest.approx(expected, rel=0.03, abs=40)


def test_g711_is_that_of_the_standard() -> None:
    """Corner values of ITU-T G.711: zero, the smallest and the largest."""
    law = {sample: promptaudio.encoded([sample], promptaudio.ULAW)[0] for sample in (0, -4, 32_767, -32_768, 1_000)}
    assert law == {0: 0xFF, -4: 0x7E, 32_767: 0x80, -32_768: 0x00, 1_000: 0xCE}
    law = {sample: promptaudio.encoded([sample], promptaudio.ALAW)[0] for sample in (0, -8, 32_767, -32_768, 1_000)}
    assert law == {0: 0xD5, -8: 0x55, 32_767: 0xAA, -32_768: 0x2A, 1_000: 0xFA}


@pytest.mark.parametrize("folder", ["relative", "/" + "a" * 64, "/with space", "/a/../b", "/a$b"])
def test_a_folder_that_no_plan_can_carry_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="folder of prompts"):
        promptfiles.PromptFolder(Path(folder))
