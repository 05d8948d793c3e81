"""The process behind a :class:`tests.rig.headset.Headset`: sends a tone and keys as RTP, writes down all that arrives.

Run by path, by itself, so that no test's work delays a packet. It reads the SIP party's message trace to know where the
other side listens, when the call was answered, put on hold and ended; lines on standard input do the same for a party
without a trace. Standard library only: it starts in 40 ms.

Marks: at each full second of the clock the tone steps up by ``MARK_STEP_HZ`` for ``MARK_SECONDS``, at each fifth one
for ``LONG_MARK_SECONDS``. Two parties step at the same instant, which shows in a recording whether they are in sync.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import re
import selectors
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path

RATE = 8_000
PACKET_SECONDS, PACKET_SAMPLES = 0.02, 160
MARK_STEP_HZ, MARK_SECONDS, LONG_MARK_SECONDS, LONG_MARK_EVERY = 250, 0.15, 0.4, 5
AMPLITUDE = 5_000
KEY_MS, KEY_PAUSE_MS = 120, 80
EVENT_TYPE, PAYLOAD_TYPES = 101, {"ulaw": 0, "alaw": 8}
HEARD = struct.Struct("<dBBHIH")
"""Before each payload heard: seconds since the epoch, payload type, 0, sequence, timestamp, length of the payload."""
SO_TIMESTAMPNS = 35
IN_MODIFY = 2

_DIGITS = "0123456789*#ABCD"
_MESSAGE = re.compile(
    rb"^-{20,} ([\d-]{10}[ T][\d:.]+)\n(?:UDP|TCP|TLS) message (sent|received) [^\n]*\n\n", re.MULTILINE
)


def mark_lasts(second: int) -> float:
    """Seconds for which a mark lasts that begins at this full second."""
    return LONG_MARK_SECONDS if second % LONG_MARK_EVERY == 0 else MARK_SECONDS


def _is_marked(at: float) -> bool:
    second, within = divmod(at, 1)
    return within < mark_lasts(int(second))


def ulaw(sample: int) -> int:
    """ITU-T G.711 µ-law."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 0x84
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


def alaw(sample: int) -> int:
    """ITU-T G.711 A-law."""
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(abs(sample) if sample >= 0 else ~sample, 32767) >> 3
    exponent = max(magnitude.bit_length() - 5, 0)
    return (sign | exponent << 4 | magnitude >> max(exponent, 1) & 0x0F) ^ 0x55


class Mouth:
    """Tone, marks and keys on one socket, while a call is up."""

    def __init__(self, wire: socket.socket, log: Log, hertz: int, codec: str, keys: list[tuple[str, float]]) -> None:
        self._wire = wire
        self._log = log
        self._hertz = hertz
        encode = {"ulaw": ulaw, "alaw": alaw}[codec]
        self._turn = bytes(
            encode(round(AMPLITUDE * math.sin(2 * math.pi * step / RATE))) for step in range(RATE if hertz else 0)
        )
        """One turn of the sine, in steps of which a tone of so many hertz takes as many for each sample."""
        self._silence = bytes([encode(0)]) * PACKET_SAMPLES
        self._type = PAYLOAD_TYPES[codec]
        self._keys = keys
        self._pending: list[tuple[float, str]] = []
        self._packets: deque[tuple[str, bytes, int]] = deque()
        self._sequence, self._stamp = int.from_bytes(os.urandom(2), "big") // 2, 0
        self._phase = 0
        self.peer: tuple[str, int] | None = None
        self.is_muted = self.is_hushed = False
        self.due: float | None = None
        """When the next packet goes out, seconds since the epoch; ``None`` while no call is up."""

    def answered(self, at: float) -> None:
        # Not what should have been said by now: sent all at once it would lie off the clock for the whole call.
        self.due = max(at, time.time() - PACKET_SECONDS)
        self._log.write(self.due, "speaks")
        self.is_muted = False
        self._pending = sorted((at + seconds, digits) for digits, seconds in self._keys)
        self._packets.clear()

    def ended(self) -> None:
        self.due = None

    def press(self, digits: str) -> None:
        """RFC 4733: each packet of an event in place of one of audio, three times the last, a pause after each key."""
        for digit in digits:
            event = _DIGITS.index(digit.upper())
            count = KEY_MS // 20
            for number in range(1, count + 1):
                payload = struct.pack("!BBH", event, 10, number * PACKET_SAMPLES)
                self._packets.append((digit if number == 1 else "", payload, number))
            end = struct.pack("!BBH", event, 0x80 | 10, count * PACKET_SAMPLES)
            self._packets.extend(("", end, count + 1 + again) for again in range(3))
            self._packets.extend(("", b"", 0) for _ in range(KEY_PAUSE_MS // 20))

    def speak(self) -> None:
        """The packets that are due now."""
        now = time.time()
        while self.due is not None and self.due <= now:
            while self._pending and self._pending[0][0] <= self.due:
                self.press(self._pending.pop(0)[1])
            self._packet(self.due)
            self.due += PACKET_SECONDS

    def _packet(self, at: float) -> None:
        begins, event, number = self._packets.popleft() if self._packets else ("", b"", 0)
        sound = self._sound(at) if self._hertz else b""
        if event:
            if number == 1:
                self._log.write(at, "pressed", begins)
                self._event_stamp = self._stamp
            self._send(EVENT_TYPE, event, self._event_stamp, is_first=number == 1)
        elif sound and not self.is_muted:
            self._send(self._type, self._silence if self.is_hushed else sound, self._stamp)
        self._stamp += PACKET_SAMPLES

    def _sound(self, at: float) -> bytes:
        first, last = _is_marked(at), _is_marked(at + (PACKET_SAMPLES - 1) / RATE)
        # Marks and what is between them are longer than a packet.
        marked = [first] * PACKET_SAMPLES
        if first != last:
            marked = [_is_marked(at + number / RATE) for number in range(PACKET_SAMPLES)]
        hertz, phase = (self._hertz, self._hertz + MARK_STEP_HZ), self._phase
        sound = bytearray()
        for is_marked in marked:
            phase = (phase + hertz[is_marked]) % RATE
            sound.append(self._turn[phase])
        self._phase = phase
        return bytes(sound)

    def _send(self, payload_type: int, payload: bytes, stamp: int, *, is_first: bool = False) -> None:
        if self.peer is None:
            return
        self._sequence = self._sequence + 1 & 0xFFFF
        kind = payload_type | (0x80 if is_first else 0)
        head = struct.pack("!BBHII", 0x80, kind, self._sequence, stamp & 0xFFFFFFFF, 0x44494D)
        try:
            self._wire.sendto(head + payload, self.peer)
        except OSError:
            # Port unreachable, told of an earlier packet: the other side is gone.
            self._log.write(time.time(), "unreachable", str(self.peer))


class Log:
    """What this party did, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, at: float, what: str, text: str = "") -> None:
        self._file.write(json.dumps({"at": at, "what": what, "text": text}) + "\n")


class Trace:
    """A SIPp party's messages, followed as they are written.

    Attributes:
        changes: a file that is readable when there are more; ``None`` where no more files can be watched
            (fs.inotify.max_user_instances): then it is to be seen for oneself.
    """

    def __init__(self, path: Path, mouth: Mouth, log: Log) -> None:
        path.touch()
        self.changes = _watched(path)
        self._path = path
        self._mouth = mouth
        self._log = log
        self._taken = 0
        self._peers: dict[bytes, tuple[str, int]] = {}
        self._up: set[bytes] = set()
        self._over: set[bytes] = set()

    def follow(self) -> None:
        """Take in what has come since. The last message may still be being written: it is taken when it is whole."""
        if self.changes is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.changes, 65_536)
        text = self._path.read_bytes().replace(b"\r\n", b"\n")
        heads = list(_MESSAGE.finditer(text))
        ends = [*(head.start() for head in heads[1:]), len(text)]
        for head, end in list(zip(heads, ends, strict=False))[self._taken :]:
            message = text[head.end() : end]
            if end == len(text) and not _is_whole(message):
                return
            self._taken += 1
            self._take(_seconds(head[1].decode()), head[2] == b"sent", message)

    def _take(self, at: float, is_sent: bool, message: bytes) -> None:
        call = _header(message, b"Call-ID")
        method = _header(message, b"CSeq").partition(b" ")[2]
        if media := _media(message):
            if is_sent:
                self._mouth.is_muted = re.search(rb"(?m)^a=(sendonly|inactive)", message) is not None
            else:
                self._peers[call] = media
        is_request = not message.startswith(b"SIP/2.0")
        if is_request and method == b"BYE" and call in self._up:
            self._up.discard(call)
            self._over.add(call)
            self._mouth.ended()
            self._log.write(at, "ended")
        if method == b"INVITE" and message.startswith(b"SIP/2.0 200") and call not in self._up | self._over:
            self._up.add(call)
            self._mouth.answered(at)
            self._log.write(at, "answered")
        if call in self._up:
            self._mouth.peer = self._peers.get(call, self._mouth.peer)


def _watched(path: Path) -> int | None:
    libc = ctypes.CDLL(None)
    changes = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if changes < 0:
        return None
    if libc.inotify_add_watch(changes, os.fsencode(path), IN_MODIFY) < 0:
        os.close(changes)
        return None
    return changes


def _is_whole(message: bytes) -> bool:
    head, blank, body = message.partition(b"\n\n")
    length = _header(head, b"Content-Length")
    # Line ends were shortened, so a body is whole when it is as long but for one byte per line.
    return bool(blank) and (not length.isdigit() or len(body) + body.count(b"\n") >= int(length))


def _header(message: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^" + name + rb"\s*:\s*(.*?)\s*$", message.partition(b"\n\n")[0])
    return found[1] if found else b""


def _media(message: bytes) -> tuple[str, int] | None:
    host, port = re.search(rb"(?m)^c=IN IP4 (\S+)", message), re.search(rb"(?m)^m=audio (\d+)", message)
    return (host[1].decode(), int(port[1])) if host and port else None


def _seconds(text: str) -> float:
    whole, _, part = text.replace("T", " ").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) + float(f"0.{part or 0}")


def listen(wire: socket.socket, heard: int) -> None:
    """Write down every packet that waits, with the time at which the kernel had it."""
    while True:
        try:
            data, more, _, _ = wire.recvmsg(2048, 64)
        except BlockingIOError:
            return
        except OSError:
            continue
        at = time.time()
        for level, kind, value in more:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("qq", value[:16])
                at = seconds + nanoseconds / 1e9
        if len(data) > 12:
            _, kind, sequence, stamp = struct.unpack("!BBHI", data[:8])
            os.write(heard, HEARD.pack(at, kind & 0x7F, 0, sequence, stamp, len(data) - 12) + data[12:])


def obey(line: str, mouth: Mouth, log: Log) -> None:
    """One word of the test's."""
    word, *rest = line.split()
    if word == "press":
        mouth.press(rest[0])
    elif word == "peer":
        mouth.peer = (rest[0], int(rest[1]))
    elif word == "answered":
        mouth.answered(float(rest[0]))
        log.write(float(rest[0]), "answered")
    elif word == "mute":
        mouth.is_muted = rest == ["on"]
    elif word == "hush":
        mouth.is_hushed = rest == ["on"]
    elif word == "ended":
        mouth.ended()
        log.write(time.time(), "ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire", type=int, required=True, help="number of the open UDP socket")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--hertz", type=int, default=0)
    parser.add_argument("--codec", default="ulaw")
    parser.add_argument("--key", action="append", default=[], help="DIGITS@SECONDS")
    options = parser.parse_args()
    wire = socket.socket(fileno=options.wire)
    wire.setblocking(False)
    wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    heard = os.open(options.folder / "heard.rtp", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    log = Log(options.folder / "voice.jsonl")
    keys = [(digits, float(seconds)) for digits, _, seconds in (key.partition("@") for key in options.key)]
    mouth = Mouth(wire, log, options.hertz, options.codec, keys)
    log.write(time.time(), "ready")
    run(wire, heard, mouth, log, Trace(options.trace, mouth, log) if options.trace else None)


def run(wire: socket.socket, heard: int, mouth: Mouth, log: Log, trace: Trace | None) -> None:
    """Until standard input ends."""
    waiting = selectors.DefaultSelector()
    waiting.register(wire, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    if trace:
        if trace.changes is not None:
            waiting.register(trace.changes, selectors.EVENT_READ)
        trace.follow()
    look = 0.01 if trace and trace.changes is None else None
    os.set_blocking(sys.stdin.fileno(), False)
    rest = b""
    while True:
        soon = look
        if mouth.due is not None:
            soon = min(0.02 if look is None else look, max(0.0, mouth.due - time.time()))
        ready = {key.fd for key, _ in waiting.select(soon)}
        if wire.fileno() in ready:
            listen(wire, heard)
        if sys.stdin.fileno() in ready:
            words = os.read(sys.stdin.fileno(), 4096)
            if not words:
                return
            *lines, rest = (rest + words).split(b"\n")
            for line in lines:
                obey(line.decode(), mouth, log)
        if trace and (look or trace.changes in ready):
            trace.follow()
        mouth.speak()


if __name__ == "__main__":
    main()
