"""What the fault tests stand on: a small site, FastAGI servers that misbehave, a TCP proxy to freeze or cut."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from tests.acceptance import stages
from tests.acceptance.stages import Site, Stage
from tests.rig import Address, CallResult, ports
from tests.rig.dialmark import Record
from tests.rig.waits import Patience

SALES, CLOSED, SECOND, NOBODY = "74990000001", "74990000002", "74990000003", "74990009999"

ROUTING = (
    stages.SITE
    + """
[[hours]]
key = "never"
mon-sun = "closed"

[[route]]
key = "sales"
forward = ["first"]
reserve = ["second"]
ring_seconds = 5
reserve_ring_seconds = 5

[[route]]
key = "night"
forward = ["first"]
hours = "never"
after_hours_message = "silence/1"

[[route]]
key = "other"
forward = ["second"]
ring_seconds = 20

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "google-ads"

[[tracking_number]]
number = "+74990000002"
route = "night"

[[tracking_number]]
number = "+74990000003"
route = "other"
source = "radio-jazz"
"""
)
SITE_DIALPLAN = {"extensions_site.conf": "[globals]\nDM_UNREACHABLE_SECONDS = 1\n"}


# A node is started in the test's own thread, never by asyncio.to_thread: its processes die with the thread that started
# them (processes.guarded).


def ask_at(site: Site, place: Address | None = None) -> None:
    """Calls ask this FastAGI server from now on, None the daemon; what an earlier one did is forgotten."""
    site.node.ask_at(place or site.node.agi)
    site.node.cli("dialplan set global DM_AGI_OFF_UNTIL 0")


def only(records: list[Record], **wanted: object) -> list[Record]:
    """Those whose fields are these."""
    return [one for one in records if all(one[name] == value for name, value in wanted.items())]


async def record_of(stage: Stage, result: CallResult) -> Record:
    """The record of an ended call; the daemon may just be coming back."""
    assert result.call_id is not None
    return await stage.daemon.until_record_of(result.call_id, 20)


class Ill(enum.Enum):
    """What a FastAGI server does with a question; the second value is what the record says of it."""

    REFUSES = "nothing listens", "FAILURE"
    RESETS = "RST as soon as it has accepted", None
    RESETS_LATER = "RST when it has read the question", None
    CLOSES = "FIN when it has read the question", "SUCCESS"
    GARBAGE = "a kilobyte of anything, then FIN", None
    HALF_A_LINE = "a command without its end, then FIN", None
    HALF_A_PLAN = "a plan without its last variable, then FIN", "SUCCESS"
    UNKNOWN_COMMAND = "what no AGI knows, then FIN", "SUCCESS"
    HANGS = "accepts and says nothing", "TIMEOUT"
    TOO_SLOW = "the plan, 3 s late", "TIMEOUT"


PLAN = "DM_SRC=agi,DM_REV=1,DM_RT=other,DM_ACT=dial,DM_S1=PJSIP/desk-2,DM_K1=second:desk-2,DM_T1=5,DM_R1=f,DM_WAIT=60"


class Server:
    """A FastAGI server that is ill, in threads of its own."""

    def __init__(self, ill: Ill | None, delay_seconds: float = 0.0) -> None:
        self.place = Address("127.0.0.1", ports.free_port())
        self._ill = ill
        self._delay = delay_seconds
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._held: list[socket.socket] = []
        self.questions = 0

    def __enter__(self) -> Server:
        if self._ill is not Ill.REFUSES:
            self._socket = socket.create_server(self.place, backlog=512)
            threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._socket is not None:
            # A thread in accept() is not woken by close().
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        for held in self._held:
            held.close()

    def _serve(self) -> None:
        assert self._socket is not None
        while not self._over.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.questions += 1
            self._held.append(peer)
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._speak(peer)

    def _speak(self, peer: socket.socket) -> None:
        ill = self._ill
        if ill is Ill.RESETS:
            return _reset(peer)
        _read_question(peer)
        if ill is Ill.RESETS_LATER:
            return _reset(peer)
        if ill is Ill.HANGS:
            return None
        if ill is None or ill is Ill.TOO_SLOW:
            self._over.wait(self._delay if ill is None else 3.0)
            peer.sendall(f'EXEC MSet "{PLAN},DM_OK=1"\n'.encode())
            peer.settimeout(2)
            peer.recv(100)
        texts = {
            Ill.GARBAGE: os.urandom(1024),
            Ill.HALF_A_LINE: b'EXEC MSet "DM_S1=PJSIP/desk-3,DM_OK=',
            Ill.HALF_A_PLAN: b'EXEC MSet "DM_SRC=agi,DM_ACT=dial,DM_S1=PJSIP/desk-3,DM_K1=third:desk-3"\n',
            Ill.UNKNOWN_COMMAND: b"HELLO WORLD\n",
        }
        peer.sendall(texts.get(ill, b"") if ill is not None else b"")
        if ill in (Ill.HALF_A_PLAN, Ill.UNKNOWN_COMMAND):
            peer.settimeout(2)
            peer.recv(100)
        peer.close()
        return None


def _read_question(peer: socket.socket) -> None:
    text = b""
    while b"\n\n" not in text:
        piece = peer.recv(4096)
        if not piece:
            return
        text += piece


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


class Proxy:
    """TCP between the daemon and Asterisk. Frozen, nothing goes through and nobody is told; cut, all is reset."""

    def __init__(self, target: Address) -> None:
        self.place = Address("127.0.0.1", ports.free_port())
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, *self.place)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.cut()
        await self._server.wait_closed()

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        self._writers -= {writer, there_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def asking(site: Site, server: Server) -> Iterator[Server]:
    """Calls ask ``server``; afterwards the daemon again."""
    with server:
        ask_at(site, server.place)
        try:
            yield server
        finally:
            ask_at(site)


async def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll a condition that may take a while itself.

    Raises:
        TimeoutError: it did not hold within ``seconds``.
    """
    patience = Patience(seconds)
    while not await asyncio.to_thread(condition):
        if patience.is_over():
            raise TimeoutError(f"after {seconds} s still not: {what}")
        await asyncio.sleep(0.05)
