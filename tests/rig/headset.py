"""A party's voice and ear: a tone with marks and keys go out as RTP, all that arrives is kept with its time.

    phone = rig.callee("desk-1", voice=Voice(AGENT_HZ, keys=[Key("1", after_ms=1500)]))
    call = await rig.start_call("74990000001", voice=Voice(CALLER_HZ, codec="alaw"), hold_ms=6000)
    phone.headset.press("*2")                       # now
    heard = call.headset.heard()                    # a Track whose times are those of the clock
    heard.story({"ring": RING_HZ, "agent": voice_of(AGENT_HZ)})

SIPp (or :class:`tests.rig.sipua.Caller`) does the signalling and names this socket in its SDP. The sending and the
hearing are a process of its own, :mod:`tests.rig.voicebox`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.rig import ports, processes, tones
from tests.rig.ports import Address
from tests.rig.tones import Track
from tests.rig.voicebox import EVENT_TYPE, HEARD, PAYLOAD_TYPES

PROGRAM = Path(__file__).with_name("voicebox.py")
JITTER_SECONDS = 0.06
"""Packets so late still join the one before, as in any phone; later than that there was silence."""
AHEAD_PACKETS = 25
"""Half a second: packets that come late together, because the machine stood still, are known by those behind them."""
GAP_SECONDS = 0.3
"""So late a packet may be without a wait beginning anew: what was heard is measured afterwards."""
LOOK_BACK_SECONDS = GAP_SECONDS + 0.1
"""More than a window, so that nothing is missed between two looks."""
_CODECS = {payload_type: name for name, payload_type in PAYLOAD_TYPES.items()}
_RTPMAPS = {"ulaw": "0 PCMU/8000", "alaw": "8 PCMA/8000"}


@dataclass(frozen=True)
class Key:
    """Keys pressed one after the other, as RFC 4733 events; the tone stops meanwhile."""

    digits: str
    after_ms: int
    """After the answer."""


@dataclass(frozen=True)
class Voice:
    """What a party says from its answer to the end of the call, except while it has put the other on hold."""

    hertz: int | None = None
    """Its tone, which steps to ``hertz + 250`` as a mark at each full second; ``None``: it only listens and presses."""
    keys: Sequence[Key] = ()
    codec: str = "ulaw"
    """``ulaw`` or ``alaw``: the only one it offers or takes."""

    @property
    def sdp(self) -> dict[str, str]:
        """Tokens of a scenario's SDP."""
        return {"CODEC_TYPE": str(PAYLOAD_TYPES[self.codec]), "CODEC": _RTPMAPS[self.codec]}


@dataclass(frozen=True)
class Deed:
    """Something a headset did or saw."""

    at: float
    """Seconds since the epoch."""
    what: str
    """``ready``, ``answered``, ``speaks``, ``ended``, ``pressed``, ``unreachable``."""
    text: str
    """The key."""


class Headset:
    """One socket, one process, until :meth:`stop`. Calls of a party that answers several come one after the other.

    Args:
        folder: what was heard and done goes here.
        host: address to listen on.
        trace: SIPp's message trace, which tells it when to speak and to whom; without one the test does.
    """

    def __init__(self, folder: Path, host: str, voice: Voice, trace: Path | None = None) -> None:
        self.voice = voice
        self._heard = folder / "heard.rtp"
        self._deeds = folder / "voice.jsonl"
        self._taking = threading.Lock()
        self._taken = 0
        self._playout = Playout()
        self._keys_heard = 0
        wire, self.media = _bound(host)
        arguments = [sys.executable, "-I", "-S", str(PROGRAM), "--wire", str(wire.fileno()), "--folder", str(folder)]
        arguments += ["--codec", voice.codec, "--hertz", str(voice.hertz or 0)]
        arguments += ["--trace", str(trace)] if trace else []
        arguments += [part for key in voice.keys for part in ("--key", f"{key.digits}@{key.after_ms / 1000}")]
        with wire, (folder / "voice.log").open("ab") as errors:
            self._process = subprocess.Popen(
                # A phone is a machine of its own: a test that keeps all cores busy must not make it stutter.
                processes.real_time(processes.guarded(arguments), 2),
                stdin=subprocess.PIPE, stdout=errors, stderr=errors, pass_fds=[wire.fileno()],
            )  # fmt: skip

    @property
    def sdp(self) -> dict[str, str]:
        """Tokens of a scenario's SDP, its port among them."""
        return {"AUDIO_PORT": str(self.media.port), **self.voice.sdp}

    @property
    def is_ready(self) -> bool:
        """One that is still starting when its call is answered speaks too late."""
        return bool(self.deeds("ready"))

    async def until_ready(self, seconds: float = 30.0) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self.is_ready:  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.01)

    # -- said by a test ------------------------------------------------------------------------------------------

    def press(self, digits: str) -> None:
        """Press these keys now, one after the other; returns at once."""
        self._say(f"press {digits}")

    def answered(self, peer: Address) -> None:
        """For a party without a trace: speak to this address from now on."""
        self._say(f"peer {peer.host} {peer.port}\nanswered {time.time()}")

    def mute(self, is_on: bool) -> None:
        """Say nothing; keys are sent all the same."""
        self._say(f"mute {'on' if is_on else 'off'}")

    def hush(self, is_on: bool) -> None:
        """Send silence, as a phone does whose owner listens."""
        self._say(f"hush {'on' if is_on else 'off'}")

    def ended(self) -> None:
        """For a party without a trace: the call is over."""
        self._say("ended")

    def stop(self) -> None:
        """Its socket is closed from now on; what was heard stays."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _say(self, words: str) -> None:
        stdin = self._process.stdin
        if stdin is None or self._process.poll() is not None:
            raise RuntimeError(f"the headset ended with {self._process.returncode}: see {self._deeds.parent}")
        stdin.write(words.encode() + b"\n")
        stdin.flush()

    # -- asked by a test -----------------------------------------------------------------------------------------

    def deeds(self, what: str | None = None) -> list[Deed]:
        """What it did, in order."""
        text = self._deeds.read_text() if self._deeds.exists() else ""
        found = [Deed(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [deed for deed in found if what in (None, deed.what)]

    def pressed(self) -> list[tuple[str, float]]:
        """Keys, and when each began to go out, in seconds since the epoch."""
        return [(deed.text, deed.at) for deed in self.deeds("pressed")]

    def answered_at(self) -> float:
        """When the last call was answered, in seconds since the epoch.

        Raises:
            IndexError: none was.
        """
        return self.deeds("answered")[-1].at

    def heard(self) -> Track:
        """All that was heard so far, as a phone would have played it: late packets leave silence.

        An empty track when nothing was.
        """
        with self._taking:
            self._take()
            return self._playout.track()

    def latest(self, seconds: float) -> Track:
        """The end of it: about as much as was heard in so many seconds up to the last packet."""
        heard = self.heard()
        return heard.part(heard.end - seconds, heard.end)

    def keys_heard(self) -> int:
        """How many packets of key presses arrived: none should ever reach the other side of a call."""
        self.heard()
        return self._keys_heard

    async def until(self, fulfilled: Callable[[Track], bool], seconds: float = 30.0) -> Track:
        """Return when this holds for all that was heard so far, which is given back.

        Raises:
            TimeoutError: it did not within ``seconds``.
        """
        async with asyncio.timeout(seconds):
            while True:
                if fulfilled(heard := self.heard()):
                    return heard
                await asyncio.sleep(0.05)

    async def until_heard(
        self, *hertz: int, seconds: float = 30.0, least: float = 0.1, since: float | None = None
    ) -> float:
        """Return when one of these tones is heard for ``least`` seconds from now on: the moment it began.

        ``since=0`` for the whole of a prompt that may have begun before we come to listen, on a busy machine.

        Raises:
            TimeoutError: it was not within ``seconds``.
        """
        since = time.time() if since is None else since
        async with asyncio.timeout(seconds):
            while True:
                heard = self.heard()
                if found := heard.part(since, heard.end).stretches(*hertz, join=GAP_SECONDS, least=least):
                    return found[0].start
                # What was looked at holds no more than a beginning of it.
                since = max(since, heard.end - least - LOOK_BACK_SECONDS)
                await asyncio.sleep(0.05)

    async def until_talk(self, hertz: int, seconds: float, within: float = 60.0) -> Track:
        """Return when the voice with this tone has been heard over so many seconds from now on: all heard so far.

        Raises:
            TimeoutError: it was not ``within`` so many seconds.
        """
        since, began = time.time(), None
        async with asyncio.timeout(within):
            while True:
                heard = self.heard()
                voice = heard.part(since, heard.end).voice(hertz)
                if voice:
                    began = voice[0].start if began is None else began
                    if voice[-1].end - began >= seconds:
                        return heard
                since = max(since, heard.end - LOOK_BACK_SECONDS)
                await asyncio.sleep(0.05)

    def _take(self) -> None:
        """Play what has come since."""
        with contextlib.suppress(FileNotFoundError), self._heard.open("rb") as file:
            file.seek(self._taken)
            data = file.read()
            place = 0
            while place + HEARD.size <= len(data):
                at, payload_type, _, _, stamp, length = HEARD.unpack_from(data, place)
                if place + HEARD.size + length > len(data):
                    break
                place += HEARD.size + length
                self._keys_heard += payload_type == EVENT_TYPE
                if payload_type in _CODECS:
                    samples = tones.linear(data[place - length : place], _CODECS[payload_type])
                    self._playout.take(Packet(at, stamp, samples))
            self._taken += place


class Packet(NamedTuple):
    at: float
    """When it arrived, seconds since the epoch."""
    stamp: int
    """RFC 3550 timestamp, in samples."""
    samples: array[int]


class Playout:
    """Packets laid on the clock as a phone's adaptive jitter buffer does, which knows what comes behind.

    Packets whose timestamps go on without a gap were said without a gap. They are as late as the least late of them
    within :data:`AHEAD_PACKETS`: what a machine that stood still delivers in one heap is no silence.
    """

    def __init__(self) -> None:
        self._played: array[int] = array("h")
        self._start: float | None = None
        self._waiting: deque[Packet] = deque()

    def take(self, packet: Packet) -> None:
        """The next one that arrived."""
        if self._waiting and not _goes_on(self._waiting[-1], packet):
            while self._waiting:
                self._play_first()
        self._waiting.append(packet)
        if len(self._waiting) > AHEAD_PACKETS:
            self._play_first()

    def track(self) -> Track:
        """All so far, the last half second by what is known of it."""
        told = Playout()
        told._played, told._start, told._waiting = self._played[:], self._start, self._waiting.copy()
        while told._waiting:
            told._play_first()
        return Track(told._played, told._start or 0.0)

    def _play_first(self) -> None:
        offset, due = 0, math.inf
        for packet in self._waiting:
            due = min(due, packet.at - offset / tones.RATE)
            offset += len(packet.samples)
        if self._start is None:
            self._start = due
        gap = due - self._start - len(self._played) / tones.RATE
        if gap > JITTER_SECONDS:
            self._played.extend(array("h", bytes(2 * round(gap * tones.RATE))))
        self._played.extend(self._waiting.popleft().samples)


def _goes_on(one: Packet, other: Packet) -> bool:
    return (one.stamp + len(one.samples) - other.stamp) & 0xFFFFFFFF == 0


def _bound(host: str) -> tuple[socket.socket, Address]:
    """A socket that is ours from here on, so that no other program can take the port from the child."""
    while True:
        place = Address(host, ports.free_port(host, brief=True, width=2))
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            wire.bind(tuple(place))
            return wire, place
        except OSError:
            wire.close()
