"""Many callers who are asked for consent at once, and what is there of each of their calls afterwards.

    site = asking.site(make_node, ROUTING, own={("consent_opt_in", "ru"): Tone(1700)})
    played = asking.play(site, {"opt in, 1": Way("74990000001", keys=[Key("1", 600)])})
    call = played["opt in, 1", UP]
    call.record, call.receipt(), call.recordings(), call.told()

All calls of a state of the daemon go on side by side: waiting for keys is most of what they do. What is without the
daemon is recorded by it when it is there again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gateway.store import signatures
from tests import audio
from tests.acceptance import sound, stages
from tests.acceptance.stages import Site, Stage
from tests.conftest import NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, RING_HZ, Key, Rig, Track, Voice, tones, voice_of
from tests.rig.dialmark import Record
from tests.rig.sipua import Caller
from tests.rig.waits import wait_until

UP, DOWN = "daemon up", "daemon down"
TALK_SECONDS = 1.5


class Tone(NamedTuple):
    """A prompt that is known by ear."""

    hertz: int
    seconds: float = 1.0

    @property
    def version(self) -> str:
        """By which receipts name it: SHA-256 of the samples."""
        return hashlib.sha256(tones.sine(self.hertz, self.seconds).tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Way:
    """How one caller behaves."""

    number: str
    keys: Sequence[Key] = ()
    leaves: int | None = None
    """Hangs up when this tone is heard."""
    caller: str | None = None
    carrier: str | None = None
    is_early: bool = False
    """Hears the prompt unanswered: to leave is to cancel."""
    also_down: bool = True


@dataclass
class Asked:
    """One call, over."""

    site: Site
    caller: Caller
    during: Sequence[str]
    """Names in the spool while caller and agent talked."""
    record: Record = field(default_factory=dict)

    @property
    def consent(self) -> dict[str, Any]:
        """What the record says of it."""
        said: dict[str, Any] = self.record["recording_consent"]
        return said

    def spooled_during(self) -> list[str]:
        """Plain files of this call while it was up."""
        return [name for name in self.during if name.startswith(self.record["call_id"])]

    def spooled(self) -> list[str]:
        """And now."""
        return sorted(path.name for path in self.site.node.recordings.glob(f"{self.record['call_id']}*"))

    def receipt(self) -> dict[str, Any] | None:
        """Its receipt, once its signature was found good by the key that the store knows."""
        daemon = self.site.daemon
        asked = "SELECT document, signature, key_id FROM receipts WHERE call_id = ? AND what = 'talk'"
        found = daemon.query(asked, self.record["call_id"])
        if not found:
            return None
        [(document, value, key_id)] = found
        [(public,)] = daemon.query("SELECT public_key FROM signing_keys WHERE key_id = ?", key_id)
        content: dict[str, Any] = json.loads(document)
        signatures.verify(content, signatures.Signature(key_id, public, value), frozenset({key_id}))
        return content

    def monitors(self) -> list[str]:
        """Journal rows that show a recording of this call begin."""
        rows = self.site.node.journal.read_text(errors="replace").splitlines()
        return [row for row in rows if f'"{self.record["linked_id"]}"' in row and "MixMonitor" in row]

    def recordings(self) -> list[tuple[Track, Track]]:
        """Caller's and agent's side of what the vault gives out."""
        daemon = self.site.daemon
        found = sound.rows(daemon, self.record["call_id"])
        assert {(kind, state) for _, kind, state in found} <= {("talk", "stored")}, found
        return [audio.recording(sound.exported(daemon, recording_id)) for recording_id, _, _ in found]

    @cached_property
    def heard(self) -> Track:
        """By the caller."""
        return self.caller.headset.heard()


def told(track: Track, prompts: Mapping[str, int] | None = None) -> list[str]:
    """What is heard one after the other for 0.1 s and more: ring, caller, agent, or a prompt of these."""
    names: dict[str, int | Iterable[int]] = {"ring": RING_HZ}
    names |= {"caller": voice_of(CALLER_HZ), "agent": voice_of(AGENT_HZ), **(prompts or {})}
    found = [one.name for one in track.story(names, least=0.1) if one.name != "silence"]
    return [name for place, name in enumerate(found) if place == 0 or found[place - 1] != name]


# -- the site ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def site(
    make_node: NodeFactory,
    routing: str,
    *,
    own: Mapping[tuple[str, str], Tone],
    spoken: Mapping[str, int],
    ready: Collection[tuple[str, str]],
    **options: Any,
) -> Iterator[Site]:
    """A site that records, balanced at the end.

    Args:
        own: the operator's own prompts, by key and language.
        spoken: what a text becomes, by language: a tone too. No other language is spoken here.
        ready: prompts, by key and language, for which to wait.
    """
    made = Site(make_node, stages.SITE + routing, records=True, realtime=True, steady_ring=True, **options)
    for (key, language), tone in own.items():
        made.daemon.give_prompt(key, language, *tone)
    for language, hertz in spoken.items():
        made.daemon.give_prompt("speech", language, hertz)
        (made.daemon.own_prompts / f"speech.{language}.wav").rename(made.daemon.state / f"speech-{language}.wav")
    command = ["cp", f"{made.daemon.state}/speech-{{language}}.wav", "{wav}"]
    made.daemon.configure({"prompts": {"engine": "command", "command": command}})
    with stages.up(made):
        wait_until(lambda: not _missing(made, ready), 20, f"prompts {ready} in the plan")
        yield made


def _missing(made: Site, ready: Collection[tuple[str, str]]) -> list[str]:
    plan = made.node.cli("dialplan show")
    return [key for key, language in ready if f"/{key}-{language}-" not in plan]


def lose_audio(made: Site, language: str) -> int:
    """Take away what was made of this language's prompts, while plans name it: how many files."""
    files = [
        file for kind in ("ulaw", "alaw") for file in Path(made.node.folder / "prompts").glob(f"*-{language}-*.{kind}")
    ]
    for file in files:
        file.unlink()
    return len(files)


# -- the calls ---------------------------------------------------------------------------------------------------

Prepare = Callable[[Rig], None]
Played = Mapping[tuple[str, str], Asked | BaseException]


def play(made: Site, ways: Mapping[str, Way], prepare: Prepare) -> Played:
    """Every call with the daemon up, then those that are to with it down: by name and state of the daemon."""
    return asyncio.run(_play(made, ways, prepare))


async def _play(made: Site, ways: Mapping[str, Way], prepare: Prepare) -> Played:
    down = {name: way for name, way in ways.items() if way.also_down}
    async with Rig(made.node) as rig:
        prepare(rig)
        stage = Stage(made, rig)
        played = {(name, UP): call for name, call in (await _all(stage, ways)).items()}
        made.daemon.kill()
        try:
            played |= {(name, DOWN): call for name, call in (await _all(stage, down)).items()}
        finally:
            made.daemon.start()
        await made.daemon.until_ready()
        played = {which: await _with_record(stage, call) for which, call in played.items()}
        await asyncio.to_thread(wait_until, lambda: not sound.spooled(stage), 20, "an empty spool")
    return played


async def _with_record(stage: Stage, call: Asked | BaseException) -> Asked | BaseException:
    """One that has none is that call's failure alone."""
    if isinstance(call, Asked):
        try:
            call.record = await stage.record_of(call.caller)
        except TimeoutError as error:
            error.add_note("\n".join(row for row in stage.journal().splitlines() if call.caller.call_id in row))
            return error
    return call


async def _all(stage: Stage, ways: Mapping[str, Way]) -> dict[str, Asked | BaseException]:
    door = asyncio.Lock()

    async def one(way: Way) -> Asked:
        return await _call(stage, way, await _begun(stage, way, door))

    done = await asyncio.gather(*map(one, ways.values()), return_exceptions=True)
    return dict(zip(ways, done, strict=True))


async def _begun(stage: Stage, way: Way, door: asyncio.Lock) -> Caller:
    """A call that has its plan: so many in the same instant, and some would be given the default one."""
    async with door:
        voice = Voice(CALLER_HZ, keys=way.keys)
        caller = await stage.dial(way.number, caller=way.caller, carrier=way.carrier, voice=voice)
        async with asyncio.timeout(60):
            while not any(status > 100 for status, _ in caller.responses):  # noqa: ASYNC110 - one of several
                await asyncio.sleep(0.01)
    return caller


async def _call(stage: Stage, way: Way, caller: Caller) -> Asked:
    if way.leaves is None:
        await _until_talking(caller)
    else:
        await caller.headset.until_heard(way.leaves, least=0.2)
    during = sound.spooled(stage)
    if way.leaves is not None and way.is_early:
        caller.cancel()
        await caller.final()
    if caller.status == 200:
        caller.hang_up()
    return Asked(stage.site, caller, during)


async def _until_talking(caller: Caller, seconds: float = 60.0) -> None:
    """As `Headset.until_talk`, but it looks at little and seldom: many callers listen at once."""
    since: float | None = None
    async with asyncio.timeout(seconds):
        while True:
            latest = caller.headset.latest(0.1)
            if since is None and latest.share(*voice_of(AGENT_HZ)) > 0.9:
                since = latest.start
            if since is not None and latest.end >= since + TALK_SECONDS:
                return
            await asyncio.sleep(0.1)
