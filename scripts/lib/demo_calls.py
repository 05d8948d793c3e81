"""The calls of the demo, and the record that each must leave. Numbers are those of ``config/routing.example.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.rig import Behaviour


@dataclass(frozen=True)
class Call:
    """One call of the demo and the record it must leave."""

    title: str
    number: str
    source: str
    way: str
    """Who was rung and what became of it, as :func:`way_of` says it."""
    outcome: str = "answered"
    parties: Mapping[str, Behaviour] = field(default_factory=dict)
    """Who is there and what he does; everybody else is absent."""
    caller: str = ""
    ring_ms: int = 700
    hold_ms: int = 1200
    patience_ms: int | None = None
    has_audio: bool = False
    """The phone sends back what it hears, and the caller must hear his own tone."""
    is_daemon_dead: bool = False
    prompt_seconds: float = 0.0
    """Least length of the message that the caller hears."""
    key: str = ""
    """What the caller presses when asked whether the call may be recorded."""
    consent: str = ""
    """What becomes of the question; "" where nobody asks."""
    recorded: str = ""
    """``talk`` or ``voicemail``: what lies in the vault afterwards; nothing else does."""

    is_visitor: bool = False
    """A visitor opens the landing page by a tagged link and calls the number that it shows."""

    @property
    def has_voices(self) -> bool:
        """Caller and agent speak, each a tone of his own."""
        return bool(self.consent or self.recorded)


ANSWER, BUSY, RINGS, DECLINE = Behaviour.ANSWER, Behaviour.BUSY, Behaviour.RING_FOR_EVER, Behaviour.DECLINE
ANSWERED = Call(
    "answered, audio both ways",
    "+74990000001",
    "google-ads",
    "reception answered",
    parties={"desk-1": ANSWER},
    has_audio=True,
)
BUSY_FIRST = Call(
    "busy, the reserve answers",
    "+74990000002",
    "yandex-direct",
    "reception busy → second-desk answered",
    parties={"desk-1": BUSY, "desk-2": ANSWER},
)
SILENT_FIRST = Call(
    "silent, the reserve answers",
    "+74990000003",
    "radio-energy",
    "reception no answer → second-desk answered",
    parties={"desk-1": RINGS, "desk-2": ANSWER},
)
GROUP = Call(
    "both ring, one answers",
    "+74990000004",
    "radio-jazz",
    "reception rang, second-desk answered",
    parties={"desk-1": RINGS, "desk-2": ANSWER},
)
GIVES_UP = Call(
    "the caller gives up",
    "+74990000001",
    "google-ads",
    "reception rang",
    outcome="abandoned",
    parties={"desk-1": RINGS},
    patience_ms=2500,
)
AFTER_HOURS = Call(
    "after hours, a message",
    "+74990000005",
    "billboard",
    "nobody rung",
    outcome="after_hours",
    patience_ms=20_000,
    prompt_seconds=1.0,
)
NOBODY = Call(
    "nobody takes it, a message",
    "+74990000006",
    "leaflet",
    "reception rejected → second-desk rejected",
    outcome="rejected",
    parties={"desk-1": DECLINE, "desk-2": DECLINE},
    patience_ms=20_000,
    prompt_seconds=1.0,
)
BANNED = Call(
    "a banned caller",
    "+74990000001",
    "google-ads",
    "nobody rung",
    outcome="banned",
    caller="+74957770001",
    parties={"desk-1": ANSWER},
)
GRANTED = Call(
    "1 pressed: recorded",
    "+74990000008",
    "radio-jazz",
    "reception answered",
    parties={"desk-1": ANSWER},
    hold_ms=2000,
    key="1",
    consent="granted",
    recorded="talk",
)
REFUSED = Call(
    "2 pressed: not recorded",
    "+74990000009",
    "google-ads",
    "reception answered",
    parties={"desk-1": ANSWER},
    key="2",
    consent="refused",
)
VOICEMAIL = Call(
    "nobody there, leaves word",
    "+74990000010",
    "leaflet",
    "reception busy → second-desk busy",
    outcome="voicemail",
    parties={"desk-1": BUSY, "desk-2": BUSY},
    hold_ms=2000,
    recorded="voicemail",
)
VISITOR = Call(
    "a visitor calls their number",
    "",
    "google-ads",
    "reception answered",
    parties={"desk-1": ANSWER},
    is_visitor=True,
)
DEAD = replace(BUSY_FIRST, title="while the daemon is dead", is_daemon_dead=True)

CALLS = (
    *(ANSWERED, BUSY_FIRST, SILENT_FIRST, GROUP, GIVES_UP, AFTER_HOURS, NOBODY, BANNED),
    *(GRANTED, REFUSED, VOICEMAIL),
    VISITOR,
    DEAD,
)
LATER = (ANSWERED, VISITOR, VISITOR, BUSY_FIRST, GROUP, GIVES_UP, AFTER_HOURS, NOBODY, GRANTED, GRANTED, VOICEMAIL)
