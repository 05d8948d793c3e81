"""Calls that go on side by side, each one story with phones, a route and a number of its own, each judged by itself.

    SCENES = Scenes()

    @SCENES.add('forward = ["{a}"]\\nwhisper = "@hint"', down=True)
    async def whispered(on: Scene) -> None:
        \"\"\"C7: …\"\"\"
        phone = on.phone("a", ring_ms=300)
        caller = await on.dial()
        await on.talks(caller)
        record = await on.end(caller)              # waits here until every story is over: what follows only judges
        assert on.told(phone.headset, "hint", "caller") == ["hint", "caller"]

    played = SCENES.play(site, request.session.items)     # with the daemon up, then with it down
    played.judge("whispered", UP)

What a scene heard is looked at when nobody speaks any more: listening is work, and would make the others late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance import sound, stages
from tests.acceptance.stages import Site, Stage
from tests.rig import (
    CALLER_HZ,
    RING_HZ,
    Behaviour,
    Callee,
    Caller,
    Headset,
    Key,
    Rig,
    Track,
    Voice,
    standstills,
    voice_of,
)
from tests.rig.dialmark import Record

UP, DOWN = "daemon up", "daemon down"
VOICES = {"a": 1000, "b": 1100, "c": 1200}
"""Each desk's tone."""
NAMES: dict[str, int | Iterable[int]] = {
    "ring": RING_HZ,
    "caller": voice_of(CALLER_HZ),
    **{desk: voice_of(hertz) for desk, hertz in VOICES.items()},
    **sound.PROMPTS,
}
AT_ONCE = 12
"""Stories at a time: each is some processes beside Asterisk."""
LOOK_SECONDS = 0.15


@dataclass(frozen=True)
class Written:
    """A story, and what its number needs."""

    play: Callable[[Scene], Awaitable[None]]
    route: str
    number: str
    desks: str
    also_down: bool
    is_long: bool

    @property
    def name(self) -> str:
        return self.play.__name__


@dataclass
class Scenes:
    """All stories of a module."""

    written: dict[str, Written] = field(default_factory=dict)

    def add(
        self, route: str, *, number: str = "", desks: str = "", down: bool = False, long: bool = False
    ) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[Scene], Awaitable[None]]]:
        """Further lines of its route, its tracking number, and of each of its desks ``{a}``, ``{b}``, ``{c}``.

        A ``long`` one begins before the others: nobody waits for it alone.
        """

        def keep(play: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
            assert play.__name__ not in self.written
            self.written[play.__name__] = Written(play, route, number, desks, down, long)
            return play

        return keep

    def all(self) -> list[tuple[str, str]]:
        """``(name, state of the daemon)`` of each."""
        return [(one.name, UP) for one in self.written.values()] + [
            (one.name, DOWN) for one in self.written.values() if one.also_down
        ]

    # -- the site ------------------------------------------------------------------------------------------------

    def number_of(self, name: str) -> str:
        return f"7499001{list(self.written).index(name):04}"

    def desks_of(self, name: str) -> dict[str, str]:
        """Phones by letter; destinations have the same names."""
        place = list(self.written).index(name)
        used = self.written[name].route
        return {letter: f"s{place}{letter}" for letter in VOICES if f"{{{letter}}}" in used}

    def phones(self) -> Sequence[str]:
        """Of all scenes, and the site's own."""
        return [*stages.PHONES, *(desk for name in self.written for desk in self.desks_of(name).values())]

    def routing(self) -> str:
        """Destinations, routes and numbers, to follow `stages.SITE`."""
        return "".join(map(self._routing_of, self.written))

    def _routing_of(self, name: str) -> str:
        one, desks, number = self.written[name], self.desks_of(name), self.number_of(name)
        route = one.route
        for letter, desk in desks.items():
            route = route.replace(f"{{{letter}}}", desk)
        made = "".join(
            f'[[destination]]\nkey = "{desk}"\ndial = "sip:{desk}"\n{one.desks}\n' for desk in desks.values()
        )
        key = f"r{number}"
        made += f'[[route]]\nkey = "{key}"\n{route}\n'
        return made + f'[[tracking_number]]\nnumber = "+{number}"\nroute = "{key}"\n{one.number}\n'

    # -- the calls -----------------------------------------------------------------------------------------------

    def play(self, site: Site, items: Iterable[pytest.Item]) -> Played:
        """Those that these tests ask for (parameters ``name`` and ``state``)."""
        wanted = {asked for one in items if (asked := _asked_for(one))[0] in self.written}
        return asyncio.run(self._play(site, wanted))

    async def _play(self, site: Site, wanted: set[tuple[str, str]]) -> Played:
        played = Played()
        for state in (UP, DOWN):
            names = [name for name, at in self.all() if at == state and (name, state) in wanted]
            names.sort(key=lambda name: not self.written[name].is_long)
            if names:
                played.results |= await self._act(site, names, state)
        return played

    async def _act(self, site: Site, names: Sequence[str], state: str) -> dict[tuple[str, str], BaseException | None]:
        gate, curtain = asyncio.Semaphore(AT_ONCE), asyncio.Event()
        async with Rig(site.node) as rig:
            scenes = [Scene(site, rig, self, name, state, curtain) for name in names]
            if state == DOWN:
                site.daemon.kill()
            try:
                running = [asyncio.create_task(_within(gate, self.written[one.name].play, one)) for one in scenes]
                await asyncio.gather(*(one.acted.wait() for one in scenes))
                await asyncio.to_thread(_until_idle, site)
            finally:
                if state == DOWN:
                    site.daemon.start()
            if state == DOWN:
                await site.daemon.until_ready()
            curtain.set()
            results = await asyncio.gather(*running, return_exceptions=True)
        return {(name, state): result for name, result in zip(names, results, strict=True)}


def _until_idle(site: Site) -> None:
    """A scene that failed may have left a call up, which is not to be the others' failure."""
    try:
        site.node.until_idle(10)
    except TimeoutError:
        site.node.cli("channel request hangup all")
        site.node.until_idle(10)


def _asked_for(item: pytest.Item) -> tuple[str, str]:
    """``name`` and ``state`` among a test's parameters; "" for a test without."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("name", ""), parameters.get("state", "")


async def _within(gate: asyncio.Semaphore, play: Callable[[Scene], Awaitable[None]], scene: Scene) -> None:
    async def leave() -> None:
        await scene.acted.wait()
        gate.release()

    await gate.acquire()
    leaving = asyncio.create_task(leave())
    try:
        await play(scene)
    finally:
        scene.acted.set()
        await leaving


@dataclass
class Played:
    """What became of each."""

    results: dict[tuple[str, str], BaseException | None] = field(default_factory=dict)

    def judge(self, name: str, state: str) -> None:
        """Raises what the scene has raised."""
        if (result := self.results[name, state]) is not None:
            raise result


class Scene:
    """One story under way.

    Attributes:
        caller_number: the caller's, whom nobody has seen before.
        acted: set when its calls are over.
    """

    def __init__(self, site: Site, rig: Rig, scenes: Scenes, name: str, state: str, curtain: asyncio.Event) -> None:
        self.stage = Stage(site, rig)
        self.name = name
        self.is_up = state == UP
        self.number = scenes.number_of(name)
        self.desks = scenes.desks_of(name)
        self.caller_number = site.caller()
        self.acted = asyncio.Event()
        self._curtain = curtain
        self._phones: dict[str, Callee] = {}

    def phone(
        self, desk: str, behaviour: Behaviour = Behaviour.ANSWER, *, keys: Sequence[Key] = (), **options: Any
    ) -> Callee:
        """A desk's phone, with the desk's voice; or with ``voice=None`` none."""
        options.setdefault("ring_ms", 300)
        options.setdefault("voice", Voice(VOICES[desk], keys=keys))
        self._phones[desk] = self.stage.phone(self.desks[desk], behaviour, **options)
        return self._phones[desk]

    async def dial(self, *, keys: Sequence[Key] = (), **options: Any) -> Caller:
        """Call the scene's number."""
        options.setdefault("caller", self.caller_number)
        return await self.stage.dial(self.number, voice=Voice(CALLER_HZ, keys=keys), **options)

    # -- waiting -------------------------------------------------------------------------------------------------

    async def hears(self, headset: Headset, *hertz: int, seconds: float = 40.0, least: float = 0.2) -> None:
        """Return when one of these tones is heard, now.

        Raises:
            TimeoutError: it was not.
        """
        since = time.time()
        async with asyncio.timeout(seconds):
            while True:
                heard = headset.heard()
                part = heard.part(max(since, heard.end - least - 2 * LOOK_SECONDS), heard.end)
                if part.first(*hertz, least=least) is not None:
                    return
                await asyncio.sleep(LOOK_SECONDS)

    async def talks(self, caller: Caller, desk: str = "a", seconds: float = 60.0) -> None:
        """Return when the caller has heard this desk for half a second, and been heard there."""
        await self.hears(caller.headset, *voice_of(VOICES[desk]), seconds=seconds, least=0.5)
        await self.hears(self._phones[desk].headset, *voice_of(CALLER_HZ))

    async def end(self, caller: Caller) -> Record:
        """The caller hangs up; the record."""
        caller.hang_up()
        return await self.record(caller)

    async def record(self, caller: Caller) -> Record:
        """Of a call that is over. Returns when all others are too, and the daemon is there."""
        await self.over()
        record = await self.stage.record_of(caller)
        assert record["route_source"] == ("agi" if self.is_up else "plan")
        assert record["route"] == f"r{self.number}"
        return record

    async def over(self) -> None:
        """All calls of this story are over. Returns when all others' are too."""
        self.acted.set()
        await self._curtain.wait()

    # -- judging -------------------------------------------------------------------------------------------------

    def told(self, party: Headset | Track, *names: str, least: float = 0.1) -> list[str]:
        """What is heard one after the other, of these (see `NAMES`); anything else is ``other``."""
        track = party.heard() if isinstance(party, Headset) else party
        return told(track, {name: NAMES[name] for name in names}, least)

    def rang(self, caller: Caller, desk: str = "a") -> None:
        """The caller heard ringing without a gap of more than 400 ms until this desk's voice.

        One who is not answered hears the ringing of the network, which goes on from the first 180 to the 200.
        """
        heard = caller.headset.heard()
        talking = heard.first(*voice_of(VOICES[desk]), least=0.1)
        assert talking is not None
        assert caller.status == 200
        ringing = heard.first(RING_HZ, least=0.1)
        if ringing is None:
            statuses = [status for status, _ in caller.responses]
            assert statuses == [100] + [180] * (len(statuses) - 2) + [200] and len(statuses) >= 3, statuses
            assert caller.responses[1][1] < 1000 * (1 + stages.slack())
            ringing = heard.start
            # Nothing is sent to a caller who is not answered; the agent's voice is what comes first.
            assert talking - heard.start < 0.4
        assert heard.longest_silence(ringing, talking) < 400 + standstills.lost_ms(ringing, talking)
        assert self.told(heard.part(ringing, talking - 0.05), "ring") in ([], ["ring"])

    def requests(self, phone: Callee) -> list[str]:
        """Methods of what a phone got, without what was sent again for want of an answer in time."""
        got = [message.method for message in phone.messages if not message.is_sent and message.status is None]
        return [method for place, method in enumerate(got) if place == 0 or got[place - 1] != method]

    def outcomes(self, record: Record) -> list[str]:
        """How each attempt ended."""
        return [one["outcome"] for one in record["attempts"]]


def told(track: Track, names: dict[str, int | Iterable[int]], least: float = 0.1) -> list[str]:
    """What is heard one after the other for so many seconds and more, without silence."""
    found = [one.name for one in track.story(names, least=least) if one.name != "silence"]
    return [name for place, name in enumerate(found) if place == 0 or found[place - 1] != name]
