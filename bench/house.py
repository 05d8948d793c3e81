"""The Asterisk of `calls`, with two ways through it, bare `Dial` and Dialmark, each with a trunk of its own.

panoramisk has an Asterisk beside it, the same but for the message bus: ours declines the VarSet messages that nobody
here reads (asterisk/stasis.conf), which would spare the peer half of its events; whoever installs panoramisk has them.
Its way through our own Asterisk is measured too, as QUIET. All ways end at a phone that answers at once, without
media.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.rig import Address, AsteriskNode, Behaviour, LoadResult, Rig, ports, processes, sipp
from tests.rig.asterisk import ROOT, new_folder
from tests.rig.dialmark import Daemon

PHONE = "desk-1"
PEER_USER, PEER_SECRET = "peer", "bench-peer-0123456789abcdef"
HOLD_MS = 1_000
"""Long enough that start and end of a call are two batches of the daemon, as in life."""
LONGEST_LOAD_SECONDS = 90.0


class Way(StrEnum):
    """How a call goes through Asterisk."""

    BARE = "bare"
    FULL = "full"
    PEER = "peer"
    QUIET = "quiet"

    @property
    def is_peer(self) -> bool:
        return self in (Way.PEER, Way.QUIET)


NUMBER = "74990000001"
CONTEXTS = {Way.BARE: "bench-bare", Way.PEER: "bench-peer", Way.QUIET: "bench-peer"}
"""Where the trunks lead that are not the daemon's own."""

DIALPLAN = """
[bench-bare]
exten => _X!,1,Dial(PJSIP/{phone},20)

[bench-peer]
exten => _X!,1,AGI(agi://127.0.0.1:{port}/peer,${{EXTEN}},${{CALLERID(num)}})
 same => n,Dial(${{PEER_DIAL}},${{PEER_RING}})
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


@dataclass(frozen=True)
class Load:
    """One load and what it cost, in CPU milliseconds per call."""

    result: LoadResult
    asterisk_ms: float
    server_ms: float
    """Of the daemon or the peer; 0 for bare `Dial`."""

    @property
    def p99_ms(self) -> float:
        return self.result.setup_percentile(99) if self.is_whole else float("inf")

    @property
    def is_whole(self) -> bool:
        """Every call was answered."""
        return self.result.failed == 0 and self.result.answered == self.result.calls


class House:
    """Asterisk, daemon, phone. `async with`: everything is gone at the end, however it ends."""

    def __init__(self) -> None:
        self._peer_port = ports.free_port()
        self.node = self._asterisk("bench", {})
        self._peer_node = self._asterisk("peer", {"stasis.conf": ""})
        self.daemon = Daemon(self.node, name="bench")
        self._rigs = [Rig(self.node), Rig(self._peer_node)]
        self._peer: subprocess.Popen[bytes] | None = None
        self.full_calls = 0
        """Calls sent through Dialmark: as many records must be there."""

    def _asterisk(self, name: str, files: dict[str, str]) -> AsteriskNode:
        node = AsteriskNode(
            new_folder(f"bench-{name}"),
            phones=(PHONE, "desk-2"),
            carriers=[way.value for way in Way],
            files={"extensions_site.conf": DIALPLAN.format(phone=PHONE, port=self._peer_port)} | files,
            system_name=name,
        )
        for way, context in CONTEXTS.items():
            node.add_site(node.trunk_text(way.value, context))
        with (node.etc / "manager_site.conf").open("a") as accounts:
            accounts.write(
                f"\n[{PEER_USER}]\nsecret = {PEER_SECRET}\nread = all\nwrite = system\n"
                "deny = 0.0.0.0/0.0.0.0\npermit = 127.0.0.1/255.255.255.255\n"
            )
        return node

    def _node_of(self, way: Way) -> AsteriskNode:
        return self._peer_node if way is Way.PEER else self.node

    async def __aenter__(self) -> House:
        try:
            await asyncio.to_thread(self.node.start)
            await asyncio.to_thread(self._peer_node.start)
            place = self.node.carriers[Way.FULL.value]
            numbers = "".join(TRACKING_NUMBER.format(n=n) for n in range(1, TRACKING_NUMBERS + 1))
            self.daemon.apply(ROUTING.format(host=place.host, port=place.port) + numbers)
            self.daemon.start()
            await self.daemon.until_ready()
            await asyncio.to_thread(self.daemon.until_plan)
            await asyncio.to_thread(self.node.until_endpoint, Way.FULL.value)
            for rig in self._rigs:
                rig.callee(PHONE, Behaviour.ANSWER, ring_ms=1, traced=False)
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
        await asyncio.to_thread(self.node.close)
        await asyncio.to_thread(self._peer_node.close)

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

    async def load(self, way: Way, rate: float, seconds: float) -> Load:
        """Calls at a rate, one way; returns when all are over and, of Dialmark, recorded.

        Raises:
            TimeoutError: calls or records are still open long after.
        """
        if way.is_peer:
            self.start_peer(self._node_of(way))
        try:
            return await self._load(way, rate, seconds)
        finally:
            self.stop_peer()

    async def _load(self, way: Way, rate: float, seconds: float) -> Load:
        node = self._node_of(way)
        asterisk, server = node.cpu_seconds(), self._server_seconds(way)
        result = await self._sipp(way, rate, max(1, round(rate * seconds)))
        if way is Way.FULL:
            self.full_calls += result.calls
        await asyncio.sleep(0.3)
        asterisk = node.cpu_seconds() - asterisk
        await asyncio.to_thread(node.until_idle, 60.0)
        if way is Way.FULL:
            await self._until_recorded()
        server = self._server_seconds(way) - server
        return Load(result, 1_000 * asterisk / result.calls, 1_000 * server / result.calls)

    async def _sipp(self, way: Way, rate: float, calls: int) -> LoadResult:
        folder = Path(tempfile.mkdtemp(prefix=f"load-{way.value}-", dir=self.node.folder))
        node = self._node_of(way)
        host = node.carriers[way.value].host
        source = Address(host, ports.free_port(host))
        tokens = sipp.call_tokens(
            folder, source, caller="7916[call_number]", hold_ms=HOLD_MS, patience_ms=None, tone_hz=None, headers=()
        )
        async with asyncio.timeout(LONGEST_LOAD_SECONDS):
            return await sipp.load(folder, source, node.sip, NUMBER, tokens, rate=rate, calls=calls)

    def _server_seconds(self, way: Way) -> float:
        if way is Way.FULL:
            return self.daemon.cpu_seconds()
        return processes.cpu_seconds(self._peer.pid) if self._peer is not None else 0.0

    async def _until_recorded(self) -> None:
        """Conservation is proved at the end; here only the daemon's work has to be over."""
        deadline = asyncio.get_running_loop().time() + 60
        while self.daemon.query("SELECT count(*) FROM calls WHERE state = 'open'") != [(0,)]:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("records still open a minute after the last call")
            await asyncio.sleep(0.2)
