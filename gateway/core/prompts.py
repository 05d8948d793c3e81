"""What callers and agents are told: the catalogue of texts by key and language, and the shelf of audio that is ready.

A plan names what it wants (`Wanted`); whoever turns the plan into variables looks on the shelf what there is. What is
not there is not played: no prompt ever holds up a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

FALLBACK_LANGUAGE = "en"
MAX_TEXT = 500
"""Characters of one text: about 40 s of speech."""

KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Of the catalogue or of a WAV file of the operator's."""

KEYS: Mapping[str, str] = {
    "consent_announce": "recording is announced; staying on the line is consent",
    "consent_announce_opt_out": "recording is announced; key 9 refuses",
    "consent_opt_in": "recording is asked for; key 1 agrees",
    "agent_told": "the agent is told that the call is recorded",
    "accept": "the answering person is to press 1",
    "ban_challenge": "a banned caller with action `challenge` is to press 1",
    "nobody_answers": "nobody took the call",
    "after_hours": "outside business hours",
    "leave_message": "before the tone of the voicemail, with its own notice of recording",
    "message_taken": "after the message",
    "wait": "every 20 s while the caller waits and the steps ring once more",
    "callback_offer": "press 1 for a call-back",
    "callback_taken": "the call-back is noted",
    "callback_no_number": "the agent dialled `*28` without a ticket's number",
    "callback_no_ticket": "there is no ticket of that number",
    "callback_closed": "the ticket is closed",
    "callback_foreign": "the ticket is a colleague's",
    "callback_busy": "a colleague is calling this customer right now",
    "callback_unknown_agent": "the phone is no agent's",
    "callback_not_a_phone": "the code came from elsewhere than a phone of the house",
    "callback_not_callable": "the customer's number must not be called",
    "callback_no_trunk": "the site has no trunk to call out by",
    "callback_down": "the daemon does not answer; the ticket stays",
    "callback_result": "after a call-back: keys 1 settled, 2 call again, 3 not wanted",
    "break_on": "the agent's `*29`: on break",
    "break_off": "the agent's `*29`: back",
    "whisper_generic": "whispered to the agent when the call's own whisper is not ready",
    "whisper_first": "`{first_or_repeat}` of a first-time caller (a word inside the whisper)",
    "whisper_repeat": "`{first_or_repeat}` of a repeat caller",
    "rate_outcome_agent": "after the call: the agent presses its outcome (keys 1, 2, … as the route names them)",
    "rate_goal_agent": "the agent presses whether the call reached its goal (1 yes, 2 no)",
    "rate_solved_agent": "the agent presses whether it was solved at first contact (1 yes, 2 no)",
    "rate_outcome_caller": "after the call: the caller presses how it was (keys 1, 2, …)",
    "rate_goal_caller": "the caller presses whether they got what they called for (1 yes, 2 no)",
    "rate_solved_caller": "the caller presses whether it was solved at first contact (1 yes, 2 no)",
    "rate_thanks": "after the last answer",
}

WHISPER = "whisper"
"""Key of whispers, whose text is made per call."""

_REFERENCE = "@"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One piece of audio: a prompt of the catalogue, or with `text` a whisper. `language` as in `ru` or `en-GB`."""

    key: str
    language: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """Audio on disk: `path` absolute without extension, as Asterisk plays it; `version` the SHA-256 of the audio itself
    (8 kHz 16-bit mono samples, first 32 hex digits), which goes into receipts; `prompt_id` names it there, like
    `consent_opt_in.ru`."""

    prompt_id: str
    path: str
    version: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """What can be played now. Frozen: the prompter makes a new one when something is added."""

    items: Mapping[Wanted, Ready] = field(default_factory=dict)

    def find(self, wanted: Wanted) -> Ready | None:
        """The audio, in a catalogue prompt's case else in the base language (`en-GB` → `en`), else in English: a caller
        who is asked in the wrong language is better off than one who is recorded without a word."""
        for language in (wanted.language,) if wanted.text else languages(wanted.language):
            ready = self.items.get(Wanted(wanted.key, language, wanted.text))
            if ready is not None:
                return ready
        return None

    def first(self, choices: Iterable[Wanted]) -> Ready | None:
        """The first of `choices` that is ready."""
        return next((ready for wanted in choices if (ready := self.find(wanted)) is not None), None)


EMPTY = Shelf()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Texts by language and key."""

    texts: Mapping[str, Mapping[str, str]]

    def text(self, key: str, language: str) -> tuple[str, str] | None:
        """The language that has a text for `key`, nearest to `language`, and the text."""
        for candidate in languages(language):
            text = self.texts.get(candidate, {}).get(key)
            if text:
                return candidate, text
        return None

    def word(self, key: str, language: str) -> str:
        """A word inside a whisper, in that language or its base; "" when there is none, since a word of another
        language would not be understood from that voice."""
        for candidate in languages(language)[:-1] or (language,):
            if text := self.texts.get(candidate, {}).get(key):
                return text
        return ""

    def over(self, own: Catalogue) -> Catalogue:
        """This catalogue with what `own` says instead."""
        names = [*self.texts, *(name for name in own.texts if name not in self.texts)]
        return Catalogue({name: {**self.texts.get(name, {}), **own.texts.get(name, {})} for name in names})


def languages(language: str) -> tuple[str, ...]:
    """Where to look for `language`, best first: itself, its base language, English (always last)."""
    base = language.partition("-")[0]
    return tuple(dict.fromkeys((language, base, FALLBACK_LANGUAGE)))


def named(message: str | None, language: str) -> Wanted | None:
    """The prompt that `@key` in the routing file means; None for a name or path of a sound, which Asterisk finds."""
    if message is None or not message.startswith(_REFERENCE):
        return None
    return Wanted(message.removeprefix(_REFERENCE), language)
