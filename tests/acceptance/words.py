"""A speech engine that says each word as a tone of its own, so that a test can tell by ear which words were said.

prompts.engine = "command", prompts.command = [python, "-m", "tests.acceptance.words", "{text_file}", "{wav}"]

words.said(phone.headset.heard())       # ["радио", "джаз"]
"""

from __future__ import annotations

import re
import sys
import wave
from array import array
from pathlib import Path

from tests.rig import tones

WORDS = (
    *("радио", "джаз", "лето", "баннер", "google", "ads", "spring", "первый", "повторный", "звонок"),
    *("first", "repeat", "call", "caller", "московская", "обл", "moscow", "новый"),
)
"""All that are told apart; any other word is ``?``."""
HERTZ = {word: 2060 + 90 * place for place, word in enumerate((*WORDS, "?"))}
SECONDS, PAUSE = 0.15, 0.12
LOST_SECONDS = 0.09
"""So much of a word may be missing."""


def command() -> list[str]:
    """For ``prompts.command``."""
    return [sys.executable, "-m", __name__, "{text_file}", "{wav}"]


def words_of(text: str) -> list[str]:
    """In order; what is not known is ``?``."""
    return [word if word in WORDS else "?" for word in re.findall(r"\w+", text.lower())]


def speak(text: str, file: Path) -> None:
    """Write the text as a WAV file."""
    samples = array("h")
    for word in words_of(text):
        samples.extend(tones.sine(HERTZ[word], SECONDS))
        samples.extend(array("h", bytes(2 * round(PAUSE * tones.RATE))))
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(tones.RATE)
        out.writeframes(samples.tobytes())


def said(track: tones.Track) -> list[str]:
    """The words that are heard, in order, each as often as it is; one may lack a part, as where a machine stood still
    for less than counts as void."""
    heard = [(one.start, word) for word in HERTZ for one in track.stretches(HERTZ[word], join=LOST_SECONDS, least=0.05)]
    return [word for _, word in sorted(heard)]


if __name__ == "__main__":
    speak(Path(sys.argv[1]).read_text("utf-8"), Path(sys.argv[2]))
