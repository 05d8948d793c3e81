"""The Asterisk of `calls` and `calls-recorded`, with several ways through it: bare `Dial`, Dialmark, and their like.

panoramisk has an Asterisk beside it, the same but for the message bus: ours declines the VarSet messages that nobody
here reads (asterisk/stasis.conf), which would spare the peer half of its events; whoever installs panoramisk has them.
Its way through our own Asterisk is measured too, as QUIET. All ways end at a phone that answers at once; without
media, or, where calls are recorded, with a caller who sends a tone and a phone that sends it back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.core import recording
from tests.rig import Address, AsteriskNode, Behaviour, LoadResult, Rig, ports, processes, sipp
from tests.rig.asterisk import ROOT, new_folder
from tests.rig.dialmark import Daemon

PHONE = "desk-1"
PEER_USER, PEER_SECRET = "peer", "bench-peer-0123456789abcdef"
HOLD_MS = 1_000
"""Long enough that start and end of a call are two batches of the daemon, as in life."""
LONGEST_LOAD_SECONDS = 90.0
LONGEST_DRAIN_SECONDS = 240.0
TONE_HZ = 600
PACE = {"settle_seconds": 2.0, "poll_seconds": 0.5}
"""As in production: the rig's is quicker, and each look at the spool asks the database about calls that are up."""


class Way(StrEnum):
    """How a call goes through Asterisk."""

    BARE = "bare"
    FULL = "full"
    PEER = "peer"
    QUIET = "quiet"
    MONITORED = "monitored"
    """Bare `Dial` after a `MixMonitor` with the options of ours: a file for each side, of the bridged talk."""
    MIXED = "mixed"
    """The same, but both sides in one file, as one writes it who needs no more."""
    RECORDED = "recorded"
    """Dialmark, mode `none`: nobody is asked, so that callers wait for nothing that those of MONITORED do not."""

    @property
    def is_peer(self) -> bool:
        return self in (Way.PEER, Way.QUIET)

    @property
    def is_ours(self) -> bool:
        return self in (Way.FULL, Way.RECORDED)

    @property
    def trunk(self) -> str:
        return Way.FULL.value if self.is_ours else self.value

    @property
    def number(self) -> str:
        return RECORDED_NUMBER if self is Way.RECORDED else NUMBER


NUMBER = "74990000001"
RECORDED_NUMBER = "74991000001"
CONTEXTS = {
    Way.BARE: "bench-bare",
    Way.PEER: "bench-peer",
    Way.QUIET: "bench-peer",
    Way.MONITORED: "bench-monitored",
    Way.MIXED: "bench-mixed",
}
"""Where the trunks lead that are not the daemon's own."""
UNRECORDED = (Way.BARE, Way.FULL, Way.PEER, Way.QUIET)
WITH_SOUND = (Way.MONITORED, Way.RECORDED, Way.FULL, Way.MIXED)

DIALPLAN = """
[bench-bare]
exten => _X!,1,Dial(PJSIP/{phone},20)

[bench-peer]
exten => _X!,1,AGI(agi://127.0.0.1:{port}/peer,${{EXTEN}},${{CALLERID(num)}})
 same => n,Dial(${{PEER_DIAL}},${{PEER_RING}})

[bench-monitored]
exten => _X!,1,MixMonitor(,br(${{UNIQUEID}}-caller.sln)t(${{UNIQUEID}}-agent.sln))
 same => n,Dial(PJSIP/{phone},20)

[bench-mixed]
exten => _X!,1,MixMonitor(${{UNIQUEID}}.wav,b)
 same => n,Dial(PJSIP/{phone},20)
"""

ROUTING = """
[[site]]
key = "bench"
name = "Bench"
time_zone = "Europe/Moscow"
country = "RU"
language = "ru"
default_destination = "reception"
outbound_trunk = "full"

[[trunk]]
key = "full"
country = "RU"
number_form = "e164"
did_from = "ruri"
hosts = ["{host}"]
server = "{host}:{port}"

[[source]]
key = "google-ads"
name = "Google Ads"
channel = "search"
medium = "cpc"

[[agent]]
key = "anna"
name = "Anna"
endpoint = "desk-1"

[[destination]]
key = "reception"
name = "Reception"
dial = "sip:desk-1"

[[destination]]
key = "second"
name = "Second desk"
dial = "sip:desk-2"

[[hours]]
key = "always"
mon-sun = "00:00-24:00"

[[route]]
key = "sales"
forward = ["reception"]
reserve = ["second"]
ring_seconds = 20
longest_wait_seconds = 90
hours = "always"
after_hours_message = "vm-nobodyavail"

"""

TRACKING_NUMBER = """
[[tracking_number]]
number = "+7499{n:07d}"
route = "sales"
source = "google-ads"
campaign = "campaign-{n}"
"""
TRACKING_NUMBERS = 200
RECORDED_ROUTE = f"""
[[route]]
key = "recorded"
forward = ["reception"]
reserve = ["second"]
ring_seconds = 20
longest_wait_seconds = 90
hours = "always"
after_hours_message = "vm-nobodyavail"
recording = "none"

[[tracking_number]]
number = "+{RECORDED_NUMBER}"
route = "recorded"
source = "google-ads"
campaign = "campaign-1"
"""


@dataclass(frozen=True)
class Load:
    """One load and what it cost, in CPU milliseconds per call."""

    result: LoadResult
    asterisk_ms: float
    server_ms: float
    """Of the daemon or the peer; 0 for bare `Dial`."""
    backlog: int = 0
    """Recordings in the spool when the last call was over."""
    drain_seconds: float = 0.0
    """From then until all of them were in the vault."""

    @property
    def p99_ms(self) -> float:
        return self.result.setup_percentile(99) if self.is_whole else float("inf")

    @property
    def is_whole(self) -> bool:
        """Every call was answered."""
        return self.result.failed == 0 and self.result.answered == self.result.calls


class House:
    """Asterisk, daemon, phone. `async with`: everything is gone at the end, however it ends."""

    def __init__(self, ways: Sequence[Way] = UNRECORDED) -> None:
        self.ways = ways
        self._has_sound = Way.RECORDED in ways
        self._peer_port = ports.free_port()
        self.node = self._asterisk("bench", {})
        self._peer_node = self._asterisk("peer", {"stasis.conf": ""}) if Way.PEER in ways else None
        self._nodes = [self.node] + ([self._peer_node] if self._peer_node else [])
        self.daemon = Daemon(self.node, {"recording": PACE}, name="bench", records=self._has_sound)
        self._rigs = [Rig(node) for node in self._nodes]
        self._peer: subprocess.Popen[bytes] | None = None
        self.calls = dict.fromkeys(ways, 0)
        """Calls sent each way."""
        self.answered_recorded = 0
        """Of those of RECORDED: as many recordings must be there."""

    def _asterisk(self, name: str, files: dict[str, str]) -> AsteriskNode:
        node = AsteriskNode(
            new_folder(f"bench-{name}"),
            phones=(PHONE, "desk-2"),
            carriers=list(dict.fromkeys(way.trunk for way in self.ways)),
            files={"extensions_site.conf": DIALPLAN.format(phone=PHONE, port=self._peer_port)} | files,
            system_name=name,
        )
        for way in self.ways:
            if way in CONTEXTS:
                node.add_site(node.trunk_text(way.trunk, CONTEXTS[way]))
        with (node.etc / "manager_site.conf").open("a") as accounts:
            accounts.write(
                f"\n[{PEER_USER}]\nsecret = {PEER_SECRET}\nread = all\nwrite = system\n"
                "deny = 0.0.0.0/0.0.0.0\npermit = 127.0.0.1/255.255.255.255\n"
            )
        return node

    def _node_of(self, way: Way) -> AsteriskNode:
        return self._peer_node if way is Way.PEER and self._peer_node else self.node

    @property
    def full_calls(self) -> int:
        """Calls sent through Dialmark: as many records must be there."""
        return sum(calls for way, calls in self.calls.items() if way.is_ours)

    async def __aenter__(self) -> House:
        try:
            for node in self._nodes:
                await asyncio.to_thread(node.start)
            place = self.node.carriers[Way.FULL.value]
            numbers = "".join(TRACKING_NUMBER.format(n=n) for n in range(1, TRACKING_NUMBERS + 1))
            numbers += RECORDED_ROUTE if self._has_sound else ""
            self.daemon.apply(ROUTING.format(host=place.host, port=place.port) + numbers)
            self.daemon.start()
            await self.daemon.until_ready()
            await asyncio.to_thread(self.daemon.until_plan)
            await asyncio.to_thread(self.node.until_endpoint, Way.FULL.value)
            for rig in self._rigs:
                rig.callee(PHONE, Behaviour.ANSWER, ring_ms=1, echo=self._has_sound, traced=False)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.stop_peer()
        for rig in self._rigs:
            await rig.close()
        await asyncio.to_thread(self.daemon.stop)
        for node in self._nodes:
            await asyncio.to_thread(node.close)

    def start_peer(self, node: AsteriskNode) -> None:
        """Only for its own loads: its manager account makes every call dearer for Asterisk."""
        self._peer = subprocess.Popen(
            processes.guarded(
                [
                    *(sys.executable, "-m", "bench.peer_panoramisk"),
                    *(str(self._peer_port), str(node.ami.port), PEER_USER, PEER_SECRET),
                ]
            ),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._peer.stdout is not None
        if self._peer.stdout.readline() != b"READY\n":
            raise RuntimeError("the peer did not start")

    def stop_peer(self) -> None:
        if self._peer is not None:
            processes.stop(self._peer)
            self._peer = None

    async def load(self, way: Way, rate: float, seconds: float, hold_ms: int = HOLD_MS) -> Load:
        """Calls at a rate, one way; returns when all are over and, of Dialmark, recorded.

        Raises:
            TimeoutError: calls, records or recordings are still open long after.
        """
        if way.is_peer:
            self.start_peer(self._node_of(way))
        try:
            return await self._load(way, rate, seconds, hold_ms)
        finally:
            self.stop_peer()

    async def _load(self, way: Way, rate: float, seconds: float, hold_ms: int) -> Load:
        node = self._node_of(way)
        asterisk, server = node.cpu_seconds(), self._server_seconds(way)
        result = await self._sipp(way, rate, max(1, round(rate * seconds)), hold_ms)
        backlog, over = self._backlog(), time.monotonic()
        self.calls[way] += result.calls
        self.answered_recorded += result.answered if way is Way.RECORDED else 0
        await asyncio.sleep(0.3)
        asterisk = node.cpu_seconds() - asterisk
        await asyncio.to_thread(node.until_idle, 60.0)
        if way.is_ours:
            await self._until_recorded()
        if way is Way.RECORDED:
            await self._until_drained()
        drained = time.monotonic() - over
        server = self._server_seconds(way) - server
        self._remove_monitored()
        return Load(
            result, 1_000 * asterisk / result.calls, 1_000 * server / result.calls, backlog, drained if backlog else 0.0
        )

    async def _sipp(self, way: Way, rate: float, calls: int, hold_ms: int) -> LoadResult:
        folder = Path(tempfile.mkdtemp(prefix=f"load-{way.value}-", dir=self.node.folder))
        node = self._node_of(way)
        host = node.carriers[way.trunk].host
        source = Address(host, ports.free_port(host))
        tokens = sipp.call_tokens(
            folder,
            source,
            caller="7916[call_number]",
            hold_ms=hold_ms,
            patience_ms=None,
            tone_hz=TONE_HZ if self._has_sound else None,
            headers=(),
        )
        async with asyncio.timeout(LONGEST_LOAD_SECONDS):
            return await sipp.load(folder, source, node.sip, way.number, tokens, rate=rate, calls=calls)

    def _backlog(self) -> int:
        """Recordings in the spool."""
        names = [path.name for path in self.node.recordings.iterdir()]
        return len({file.call_id for name in names if (file := recording.parse_name(name)) is not None})

    async def _until_drained(self) -> None:
        """The recorder's work has to be over too: its CPU is counted, and the next load must not pay for it."""
        deadline = time.monotonic() + LONGEST_DRAIN_SECONDS
        while self._backlog():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._backlog()} recordings still in the spool long after the last call")
            await asyncio.sleep(0.05)

    def _remove_monitored(self) -> None:
        """What MixMonitor left the other ways; nobody encodes it."""
        for path in (self.node.spool / "monitor").iterdir():
            path.unlink()

    def _server_seconds(self, way: Way) -> float:
        if way.is_ours:
            return self.daemon.cpu_seconds()
        return processes.cpu_seconds(self._peer.pid) if self._peer is not None else 0.0

    async def _until_recorded(self) -> None:
        """Conservation is proved at the end; here only the daemon's work has to be over."""
        deadline = asyncio.get_running_loop().time() + 60
        while self.daemon.query("SELECT count(*) FROM calls WHERE state = 'open'") != [(0,)]:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("records still open a minute after the last call")
            await asyncio.sleep(0.2)
