"""A caller that a test holds by the hand: hang up now, press 1, send these very bytes.

SIPp runs a script to its end and makes well-formed messages. This one is for everything else: hostile bytes in any part
of the INVITE, key presses as RFC 4733 events, listening to what the caller hears, and ending a call at a moment the
test chooses. UDP, one call, µ-law.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import struct
import uuid
from collections.abc import Callable, Sequence

from tests.rig import ports, tones
from tests.rig.headset import Headset, Voice
from tests.rig.ports import Address
from tests.rig.waits import Patience

_DIGITS = "0123456789*#ABCD"
PACKET_SECONDS = 0.02
T1_SECONDS = 0.5


class _Socket(asyncio.DatagramProtocol):
    """Hands datagrams on and keeps what was received."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, Address(*addr[:2]))

    def error_received(self, exc: Exception) -> None:
        """Port unreachable: the other side is gone, which a test will notice by its silence."""


class Caller:
    """One call from one address.

    Attributes:
        responses: ``(status, milliseconds after the INVITE)`` of the INVITE's responses, in order.
        heard: µ-law payloads received, as ``(seconds since the INVITE, bytes)``; with a voice see ``headset``.
        hung_up_by_peer: a BYE came from Asterisk.
    """

    def __init__(self, host: str, target: Address, uri_user: bytes, headset: Headset | None = None) -> None:
        self.place = Address(host, ports.free_port(host, brief=True))
        self.media = headset.media if headset else Address(host, ports.free_port(host, brief=True))
        self._headset = headset
        self.target = target
        self.responses: list[tuple[int, float]] = []
        self.heard: list[tuple[float, bytes]] = []
        self.hung_up_by_peer = False
        self.raw_responses: list[bytes] = []
        self.call_id = uuid.uuid4().hex
        self._uri = b"sip:" + uri_user + b"@" + str(target).encode()
        self._branch = f"z9hG4bK{uuid.uuid4().hex}"
        self._tag = uuid.uuid4().hex[:10]
        self._peer_to = self._first_to = b""
        self._peer_contact = b""
        self._peer_media: Address | None = None
        self._from = b""
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._start = 0.0
        self._cseq = 1
        self._sip: asyncio.DatagramTransport | None = None
        self._rtp: asyncio.DatagramTransport | None = None
        self._rtp_sequence = random.randrange(30_000)
        self._rtp_time = 0
        self._resend: asyncio.TimerHandle | None = None

    @classmethod
    async def dial(
        cls,
        host: str,
        target: Address,
        number: str | bytes,
        *,
        from_header: str | bytes = "<sip:+79161234567@carrier.invalid>",
        to_header: str | bytes | None = None,
        headers: Sequence[str | bytes] = (),
        headset: Headset | None = None,
    ) -> Caller:
        """Send an INVITE and return at once.

        ``number`` is the user part of the request URI, and of To unless ``to_header`` gives its value, ``from_header``
        the value of From without its tag, ``headers`` whole further header lines: all sent as they are. With a
        ``headset`` the audio is that one's.
        """
        caller = cls(host, target, _bytes(number), headset)
        loop = asyncio.get_running_loop()
        caller._sip, _ = await loop.create_datagram_endpoint(
            lambda: _Socket(caller._on_sip), local_addr=(caller.place.host, caller.place.port)
        )
        if headset is None:
            caller._rtp, _ = await loop.create_datagram_endpoint(
                lambda: _Socket(caller._on_rtp), local_addr=(caller.media.host, caller.media.port)
            )
        caller._from = _bytes(from_header)
        caller._first_to = b"<" + caller._uri + b">" if to_header is None else _bytes(to_header)
        caller._invite([_bytes(header) for header in headers])
        return caller

    @property
    def headset(self) -> Headset:
        """Of a caller with a voice.

        Raises:
            ValueError: it was dialled without.
        """
        if self._headset is None:
            raise ValueError("this caller has no voice")
        return self._headset

    # -- what a test asks ----------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """Final status of the INVITE, if it came."""
        return next((status for status, _ in self.responses if status >= 200), None)

    async def until(self, status: int, seconds: float = 30.0) -> None:
        """Return when the INVITE was answered with this status.

        Raises:
            TimeoutError: it was not.
        """
        await self._until(lambda: any(code == status for code, _ in self.responses), seconds, f"status {status}")

    async def final(self, seconds: float = 60.0) -> int:
        """The final status of the INVITE."""
        await self._until(lambda: self.status is not None, seconds, "a final response")
        assert self.status is not None
        return self.status

    async def until_hung_up(self, seconds: float = 30.0) -> None:
        """Return when Asterisk has sent BYE."""
        await self._until(lambda: self.hung_up_by_peer, seconds, "a BYE")

    async def silence(self, seconds: float) -> bool:
        """True when not one response arrives within ``seconds``: for packets that must be ignored."""
        try:
            await self._until(lambda: bool(self.responses), seconds, "anything")
        except TimeoutError:
            return True
        return False

    async def until_heard(self, hertz: int, seconds: float = 30.0) -> None:
        """Return when 100 ms of this tone have been heard at one stretch."""
        await self._until(
            lambda: is_tone(b"".join(data for _, data in self.heard)[-800:], hertz), seconds, f"{hertz} Hz"
        )

    # -- what a caller does --------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Give up while it rings; :meth:`final` is 487 then, unless an answer was faster."""
        self._send(self._request(b"CANCEL", self._uri, self._branch, b"1 CANCEL", self._to()))

    def hang_up(self) -> None:
        """BYE."""
        if self._headset is not None:
            self._headset.ended()
        self._cseq += 1
        self._send(self._in_dialog(b"BYE", self._cseq))

    async def press(self, digits: str, milliseconds: int = 160) -> None:
        """Key presses as RFC 4733 events on the call's audio; needs SDP from the other side (183 or 200).

        With a voice it returns when they are queued.
        """
        await self._until(lambda: self._peer_media is not None, 30, "an SDP answer")
        if self._headset is not None:
            self._headset.press(digits)
            return
        for digit in digits:
            await self._press_one(_DIGITS.index(digit.upper()), milliseconds)

    async def speak(self, payload: bytes) -> None:
        """Send µ-law audio in real time."""
        await self._until(lambda: self._peer_media is not None, 30, "an SDP answer")
        for place in range(0, len(payload), 160):
            self._send_rtp(payload[place : place + 160], payload_type=0, timestamp=self._rtp_time)
            self._rtp_time += 160
            await asyncio.sleep(PACKET_SECONDS)

    def close(self) -> None:
        """Be gone, without BYE."""
        if self._resend is not None:
            self._resend.cancel()
        if self._headset is not None:
            self._headset.stop()
        for transport in (self._sip, self._rtp):
            if transport is not None:
                transport.abort()

    # -- SIP -----------------------------------------------------------------------------------------------------

    def _to(self) -> bytes:
        return self._peer_to or self._first_to

    def _request(
        self, method: bytes, uri: bytes, branch: str, cseq: bytes, to: bytes, more: bytes = b"", body: bytes = b""
    ) -> bytes:
        lines = [
            method + b" " + uri + b" SIP/2.0",
            f"Via: SIP/2.0/UDP {self.place};branch={branch};rport".encode(),
            b"From: " + self._from + b";tag=" + self._tag.encode(),
            b"To: " + to,
            b"Call-ID: " + self.call_id.encode(),
            b"CSeq: " + cseq,
            b"Max-Forwards: 70",
            f"Contact: <sip:caller@{self.place}>".encode(),
        ]
        return b"\r\n".join(lines) + b"\r\n" + more + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _in_dialog(self, method: bytes, cseq: int) -> bytes:
        uri = self._peer_contact or self._uri
        branch = f"z9hG4bK{uuid.uuid4().hex}"
        return self._request(method, uri, branch, f"{cseq} ".encode() + method, self._to())

    def _invite(self, headers: list[bytes]) -> None:
        codec = (self._headset.voice if self._headset else Voice()).sdp
        body = (
            f"v=0\r\no=- 1 1 IN IP4 {self.media.host}\r\ns=-\r\nc=IN IP4 {self.media.host}\r\nt=0 0\r\n"
            f"m=audio {self.media.port} RTP/AVP {codec['CODEC_TYPE']} 101\r\na=rtpmap:{codec['CODEC']}\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
        ).encode()
        more = b"".join(header + b"\r\n" for header in [*headers, b"Content-Type: application/sdp"])
        self._start = self._loop.time()
        self._send_again(
            self._request(b"INVITE", self._uri, self._branch, b"1 INVITE", self._to(), more, body), T1_SECONDS
        )

    def _send_again(self, message: bytes, after: float) -> None:
        """RFC 3261 timer A: until any response, seven times at most."""
        self._send(message)
        if after < T1_SECONDS * 64:
            self._resend = self._loop.call_later(after, self._send_again, message, 2 * after)

    def _send(self, message: bytes) -> None:
        assert self._sip is not None
        self._sip.sendto(message, tuple(self.target))

    def _on_sip(self, data: bytes, source: Address) -> None:
        head = data.split(b"\r\n\r\n", 1)[0]
        status = re.match(rb"SIP/2\.0 (\d{3})", data)
        if status is None:
            self._on_request(data.split(b" ", 1)[0], head, source)
        elif _header(head, b"CSeq").endswith(b"INVITE"):
            self._on_invite_response(int(status[1]), data, head)
        self._news.set()

    def _on_invite_response(self, status: int, data: bytes, head: bytes) -> None:
        if self._resend is not None:
            self._resend.cancel()
            self._resend = None
        is_first = self.status is None
        if is_first:
            self.responses.append((status, 1000 * (self._loop.time() - self._start)))
            self.raw_responses.append(data)
        self._peer_to = _header(head, b"To") if status > 100 else self._peer_to
        if media := _media_of(data):
            self._peer_media = media
        if status >= 300:
            self._send(self._request(b"ACK", self._uri, self._branch, b"1 ACK", self._peer_to))
        elif status >= 200:
            if is_first and self._headset is not None and self._peer_media is not None:
                self._headset.answered(self._peer_media)
            self._peer_contact = _header(head, b"Contact").strip(b"<>").split(b">")[0]
            self._send(self._in_dialog(b"ACK", 1))

    def _on_request(self, method: bytes, head: bytes, source: Address) -> None:
        if method == b"ACK":
            return
        if method == b"BYE":
            self.hung_up_by_peer = True
            if self._headset is not None:
                self._headset.ended()
        kept = [line for line in head.split(b"\r\n")[1:] if re.match(rb"(?i)(via|from|to|call-id|cseq)\s*:", line)]
        assert self._sip is not None
        self._sip.sendto(b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""]), tuple(source))

    # -- RTP -----------------------------------------------------------------------------------------------------

    def _on_rtp(self, data: bytes, source: Address) -> None:
        if len(data) > 12 and data[1] & 0x7F == 0:
            self.heard.append((self._loop.time() - self._start, data[12:]))
            self._news.set()

    async def _press_one(self, event: int, milliseconds: int) -> None:
        timestamp = self._rtp_time
        for packet in range(1, milliseconds // 20 + 1):
            self._send_rtp(struct.pack("!BBH", event, 10, packet * 160), 101, timestamp, is_first=packet == 1)
            await asyncio.sleep(PACKET_SECONDS)
        for _ in range(3):
            self._send_rtp(struct.pack("!BBH", event, 0x80 | 10, milliseconds * 8), 101, timestamp)
        self._rtp_time += milliseconds * 8 + 800
        await asyncio.sleep(0.1)

    def _send_rtp(self, payload: bytes, payload_type: int, timestamp: int, *, is_first: bool = False) -> None:
        assert self._rtp is not None and self._peer_media is not None
        self._rtp_sequence += 1
        marker = 0x80 if is_first else 0
        head = struct.pack("!BBHII", 0x80, marker | payload_type, self._rtp_sequence & 0xFFFF, timestamp, 0x44494D)
        self._rtp.sendto(head + payload, tuple(self._peer_media))

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        patience = Patience(seconds)
        while not condition():
            if patience.is_over():
                raise TimeoutError(f"no {what}; responses: {self.responses}, BYE: {self.hung_up_by_peer}")
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._news.wait()


def is_tone(ulaw: bytes, hertz: int) -> bool:
    """At least 100 ms, and most of the energy at this frequency (Goertzel)."""
    if len(ulaw) < 800:
        return False
    samples = tones.linear(ulaw, "ulaw")
    energy = sum(sample * sample for sample in samples)
    if energy < len(samples) * 1000:
        return False
    step = 2 * math.cos(2 * math.pi * hertz / 8000)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + step * last - before
    power = before * before + last * last - step * before * last
    return 2 * power / len(samples) > 0.6 * energy


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^" + re.escape(name) + rb"\s*:\s*(.*?)\s*$", head)
    return found[1] if found else b""


def _media_of(data: bytes) -> Address | None:
    host, port = re.search(rb"(?m)^c=IN IP4 (\S+)", data), re.search(rb"(?m)^m=audio (\d+)", data)
    return Address(host[1].decode(), int(port[1])) if host and port else None
