"""What the tests of recordings stand on: a site whose prompts are tones, and what was recorded, told by ear.

    with sound.site(make_node, ROUTING) as made: ...
    call = await stage.dial(OPT_IN, voice=Voice(CALLER_HZ))
    await call.headset.until_heard(PROMPTS["consent_opt_in"])
    await call.press("1")
    ...
    [talk] = await sound.recorded(stage, call.call_id)      # from the vault, by `recordings export`
    assert sound.told(talk.left) == ["caller"]

Every prompt is a tone of its own for a second, so that `told` can say what was heard, and that no prompt was recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests import audio
from tests.acceptance import stages
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, RING_HZ, Caller, Daemon, Track, standstills, voice_of
from tests.rig.waits import wait_until

LANGUAGE = "ru"
SLOW_LANGUAGE, SLOW_SECONDS = "ko", 15.0
"""For a caller who is to do something before the end of a prompt, however busy the machine."""
PROMPTS = {
    "consent_announce": 1500,
    "consent_announce_opt_out": 1600,
    "consent_opt_in": 1700,
    "agent_told": 1800,
    "accept": 1900,
    "hint": 2000,
    "wait": 2100,
    "callback_offer": 2200,
    "callback_taken": 2300,
    "leave_message": 2400,
    "message_taken": 2500,
    "rate_outcome_agent": 2600,
    "rate_goal_agent": 2700,
    "rate_solved_agent": 2800,
    "rate_goal_caller": 2900,
    "rate_solved_caller": 3000,
    "rate_thanks": 3100,
}
"""Frequencies. ``hint`` is for ``whisper = "@hint"``."""
NAMES: dict[str, int | tuple[int, int]] = {
    "ring": RING_HZ,
    "caller": voice_of(CALLER_HZ),
    "agent": voice_of(AGENT_HZ),
    **PROMPTS,
}


@contextlib.contextmanager
def site(
    make_node: NodeFactory, routing: str, *prompts: str, slow: Sequence[str] = (), **options: Any
) -> Iterator[Site]:
    """A site that records, and is balanced at the end.

    Args:
        prompts: those that its routes need, ready on return.
        slow: those that are there in the slow language too.
    """
    made = Site(make_node, stages.SITE + routing, records=True, realtime=True, steady_ring=True, **options)
    for key in prompts:
        made.daemon.give_prompt(key, LANGUAGE, PROMPTS[key])
    for key in slow:
        made.daemon.give_prompt(key, SLOW_LANGUAGE, PROMPTS[key], SLOW_SECONDS)
    with stages.up(made):
        until_prompts(made.daemon, *prompts)
        until_prompts(made.daemon, *slow, language=SLOW_LANGUAGE)
        yield made


def until_prompts(daemon: Daemon, *keys: str, language: str = LANGUAGE) -> None:
    """Return when the plans that Asterisk holds play these prompts; the daemon's own know them before."""
    wait_until(
        lambda: not _missing(daemon.node.cli("dialplan show"), keys, language),
        20,
        f"prompts {', '.join(keys)} in the plan",
    )


def _missing(dialplan: str, keys: tuple[str, ...], language: str) -> list[str]:
    return [key for key in keys if f"/{key}-{language}-" not in dialplan]


@dataclass(frozen=True)
class Recorded:
    """A recording as the vault gives it out."""

    recording_id: str
    kind: str
    left: Track
    right: Track
    record: dict[str, Any]
    """Of the call."""


async def recorded(stage: Stage, sip_call_id: str, seconds: float = 60.0) -> list[Recorded]:
    """The recordings of an ended call, once there is nothing of it in the spool any more.

    Raises:
        TimeoutError: its files stay in the spool.
    """
    record = await stage.daemon.until_record_of(sip_call_id)
    call_id = record["call_id"]
    await until_spool_is_empty(stage, call_id, seconds)
    return [
        Recorded(found, kind, *audio.recording(await asyncio.to_thread(exported, stage.daemon, found)), record)
        for found, kind, state in rows(stage.daemon, call_id)
        if state == "stored"
    ]


async def until_spool_is_empty(stage: Stage, call_id: str, seconds: float = 60.0) -> None:
    """Return when no file of this call is in the spool."""
    try:
        await asyncio.to_thread(wait_until, lambda: not spooled(stage, call_id), seconds, "an empty spool")
    except TimeoutError as error:
        error.add_note(f"{spooled(stage, call_id)}\n{stage.daemon.log()}")
        raise


def spooled(stage: Stage, call_id: str = "") -> list[str]:
    """Names of plain files, of one call or of all."""
    return sorted(path.name for path in stage.node.recordings.glob(f"{call_id}*.*") if path.suffix != ".lock")


def rows(daemon: Daemon, call_id: str) -> list[tuple[str, str, str]]:
    """``(id, kind, state)`` of a call's recordings."""
    return [
        (found, kind, state)
        for found, kind, state in daemon.query(
            "SELECT recording_id, kind, state FROM recordings WHERE call_id = ? ORDER BY started_us", call_id
        )
    ]


def exported(daemon: Daemon, recording_id: str) -> bytes:
    """The MP3, by the command line: decrypted, and audited."""
    out = daemon.state / f"{recording_id}.mp3"
    daemon.run("recordings", "export", recording_id, "--out", str(out), "--force")
    return out.read_bytes()


def lost_ms(caller: Caller) -> float:
    """For which the machine stood still during the talk: by so much a recording of it may be wrong."""
    return standstills.lost_ms(caller.headset.answered_at(), caller.headset.heard().end)


def told(track: Track) -> list[str]:
    """What is heard one after the other for 0.1 s and more, without silence: ``["ring", "agent"]``."""
    names = [sound.name for sound in track.story(NAMES, least=0.1) if sound.name != "silence"]
    return [name for number, name in enumerate(names) if number == 0 or names[number - 1] != name]


def monitors(stage: Stage, record: dict[str, Any]) -> list[str]:
    """Journal rows that show a recording of this call begin."""
    rows_of_call = [row for row in stage.journal().splitlines() if f'"{record["linked_id"]}"' in row]
    return [row for row in rows_of_call if "MixMonitor" in row and "APP_START" in row]


def document(stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
    """The record with its recordings and receipts, as the command line shows it."""
    shown: dict[str, Any] = json.loads(stage.daemon.run("calls", "show", record["call_id"], "--format", "json"))
    return shown
