"""Callers and callees by SIPp: each one process, each with an address of its own.

Scenarios stand in ``scenarios/*.xml`` with ``@@NAME@@`` where a test's wishes go. What went over the wire is read back
from SIPp's message trace, so a test sees every header the phone saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import enum
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from tests.rig import ports, processes, waits
from tests.rig.headset import Headset, Voice
from tests.rig.ports import Address

SCENARIOS = Path(__file__).with_name("scenarios")
ROOT = Path(__file__).resolve().parents[2]
FOR_EVER_MS = 86_400_000
CLOCK_SECONDS = 0.002
"""Its timers count whole milliseconds, so that a phone may ring for a little less than it was told."""
_MESSAGE = re.compile(
    r"^-{20,} (\d{4}-\d\d-\d\d[ T][\d:.]+)\n(?:UDP|TCP|TLS) message (sent|received) [^\n]*\n\n", re.MULTILINE
)


class Behaviour(enum.Enum):
    """What a phone does when it is called."""

    ANSWER = "answers after ring_ms"
    ANSWER_AND_DROP = "answers after ring_ms and hangs up at once"
    BUSY = "486 at once"
    DECLINE = "603 after ring_ms of ringing, as by the red key"
    REJECT = "403 at once"
    NOT_FOUND = "404 at once"
    UNAVAILABLE = "480 at once, without ringing: phone switched off"
    CONGESTION = "503 at once"
    REDIRECT = "302 to a number that must not be dialled"
    RING_FOR_EVER = "180, then nothing until CANCEL"
    RING_THEN_UNAVAILABLE = "480 after ring_ms of ringing"
    EARLY_MEDIA = "183 with audio, then nothing until CANCEL: an announcement of the network"
    SILENT = "takes the packets and never answers"
    DEAD = "nobody listens on the port"


_FINALS = {
    Behaviour.BUSY: "486 Busy Here",
    Behaviour.REJECT: "403 Forbidden",
    Behaviour.NOT_FOUND: "404 Not Found",
    Behaviour.UNAVAILABLE: "480 Temporarily Unavailable",
    Behaviour.CONGESTION: "503 Service Unavailable",
    Behaviour.REDIRECT: "302 Moved Temporarily",
}
_RINGING_FINALS = {
    Behaviour.DECLINE: "603 Decline",
    Behaviour.RING_FOR_EVER: "480 Temporarily Unavailable",
    Behaviour.RING_THEN_UNAVAILABLE: "480 Temporarily Unavailable",
    Behaviour.EARLY_MEDIA: "480 Temporarily Unavailable",
}
_EARLY_SDP = """Content-Type: application/sdp
Content-Length: [len]

v=0
o=phone 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio @@AUDIO_PORT@@ RTP/AVP @@CODEC_TYPE@@
a=rtpmap:@@CODEC@@"""


@dataclass(frozen=True)
class Message:
    """One SIP message as it went over the wire."""

    at: float
    """Seconds since the epoch."""
    is_sent: bool
    text: str

    @property
    def status(self) -> int | None:
        """Of a response; ``None`` for a request."""
        found = re.match(r"SIP/2\.0 (\d{3})", self.text)
        return int(found[1]) if found else None

    @property
    def method(self) -> str:
        """Of a request, or of the request a response answers."""
        if self.status is None:
            return self.text.split(" ", 1)[0]
        found = re.search(r"(?im)^CSeq:\s*\d+\s+(\w+)", self.text)
        return found[1] if found else ""

    def header(self, name: str) -> str | None:
        """First header of that name, without its name."""
        found = re.search(rf"(?im)^{re.escape(name)}\s*:\s*(.*?)\s*$", self.text.split("\n\n", 1)[0])
        return found[1] if found else None


def read_trace(path: Path) -> list[Message]:
    """SIPp's ``-trace_msg`` file; empty when nothing was sent yet. A message still being written may be cut."""
    try:
        text = path.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return []
    heads = list(_MESSAGE.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)][: len(heads)]
    return [
        Message(_timestamp(head[1]), head[2] == "sent", text[head.end() : end])
        for head, end in zip(heads, ends, strict=True)
    ]


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text.replace("T", " ")).astimezone(UTC).timestamp()


@dataclass(frozen=True)
class CallResult:
    """What one caller saw."""

    status: int | None
    """Final SIP status of the INVITE; 487 when the caller gave up; ``None`` when none came."""
    setup_ms: float | None
    """INVITE sent to final response."""
    provisional: list[tuple[int, float]]
    """``(status, ms after the INVITE)`` in order of arrival."""
    ended_by: str | None
    """``caller`` or ``callee`` for an answered call."""
    talk_ms: float | None
    messages: list[Message] = field(repr=False)
    headset: Headset | None = field(default=None, repr=False)
    """Of a caller with a voice: what it heard and pressed."""

    def first(self, status: int) -> float | None:
        """Milliseconds from the INVITE to the first such response."""
        return next((ms for code, ms in self.provisional if code == status), None)

    @property
    def call_id(self) -> str | None:
        return self.messages[0].header("Call-ID") if self.messages else None


def judge(messages: list[Message]) -> CallResult:
    """Read a caller's result off his trace."""
    if not messages:
        return CallResult(None, None, [], None, None, [])
    start = messages[0].at
    answers = [
        (m.status, 1000 * (m.at - start)) for m in messages if not m.is_sent and m.status and m.method == "INVITE"
    ]
    final = next(((status, ms) for status, ms in answers if status >= 200), None)
    bye = next((m for m in messages if m.status is None and m.method == "BYE"), None)
    return CallResult(
        status=final[0] if final else None,
        setup_ms=final[1] if final else None,
        provisional=[(status, ms) for status, ms in answers if status < 200],
        ended_by=None if bye is None else "caller" if bye.is_sent else "callee",
        talk_ms=None if bye is None or final is None else 1000 * (bye.at - start) - final[1],
        messages=messages,
    )


@dataclass(frozen=True)
class LoadResult:
    """Many calls at a rate."""

    calls: int
    answered: int
    failed: int
    seconds: float
    setup_ms: list[float] = field(repr=False)
    """INVITE to 200, sorted."""
    ringing_ms: list[float] = field(repr=False)
    """INVITE to first 180, sorted."""

    def setup_percentile(self, percent: float) -> float:
        """Milliseconds; infinite when nothing was answered."""
        return percentile(self.setup_ms, percent)

    @cached_property
    def rate(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank, of sorted values."""
    if not ordered:
        return float("inf")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


# -- the processes ---------------------------------------------------------------------------------------------------


def _scenario(folder: Path, name: str, tokens: dict[str, str]) -> Path:
    """Fill a scenario's tokens in, twice, since a token's text may hold one."""
    text = (SCENARIOS / f"{name}.xml").read_text()
    for _ in range(2):
        for token, value in tokens.items():
            text = text.replace(f"@@{token}@@", value)
    # A header line that is not wanted would end the headers.
    text = text.replace("\n@@EMPTY@@", "")
    if left := re.search(r"@@\w+@@", text.split("-->", 1)[1]):
        raise ValueError(f"{name}: nothing said about {left[0]}")
    path = folder / f"{name}.xml"
    path.write_text(text)
    return path


def tone(folder: Path, hertz: int) -> Path:
    """A second of a sine in µ-law."""
    path = folder / f"{hertz}.ulaw"
    if not path.exists():
        subprocess.run([sys.executable, ROOT / "scripts/lib/ring_tone.py", "--steady", str(hertz), path], check=True)
    return path


def _media(folder: Path, hertz: int | None, headset: Headset | None = None) -> dict[str, str]:
    """Tokens for a party that SIPp plays a tone for as long as the call lasts, or one with a headset, or a mute one."""
    if headset is not None:
        return {"MEDIA": "", **headset.sdp}
    codec = Voice().sdp
    if hertz is None:
        return {"MEDIA": "", "AUDIO_PORT": "[media_port]", **codec}
    play = f'<action><exec rtp_stream="{tone(folder, hertz)},-1,0,PCMU/8000"/></action>'
    return {"MEDIA": play, "AUDIO_PORT": "[rtpstream_audio_port]", **codec}


@dataclass(frozen=True)
class Hold:
    """A phone puts the caller on hold by a re-INVITE (``sendonly``) and takes the call back."""

    after_ms: int
    """After the answer."""
    for_ms: int


def _hold(hold: Hold | None) -> str:
    """A scenario's part that does so, or nothing."""
    if hold is None:
        return ""
    part = (SCENARIOS / "reinvite.xml").read_text().split("-->", 1)[1]
    turns = ((1, hold.after_ms, "sendonly"), (2, hold.for_ms, "sendrecv"))
    return "".join(
        part.replace("@@TURN@@", str(turn)).replace("@@WAIT_MS@@", str(wait)).replace("@@DIRECTION@@", direction)
        for turn, wait, direction in turns
    )


def _command(scenario: Path, place: Address, *more: str) -> list[str]:
    # SIPp takes the next ports too: RTCP, video.
    media = ports.free_port(place.host, brief=True, width=4)
    control = ports.free_port("127.0.0.1", brief=True)
    return processes.guarded(
        [
            "sipp", *more, "-sf", str(scenario), "-i", place.host, "-p", str(place.port),
            "-mi", place.host, "-mp", str(media),
            "-ci", "127.0.0.1", "-cp", str(control), "-nostdin", "-aa", "-default_behaviors", "all",
        ]
    )  # fmt: skip


class Callee:
    """A phone or carrier that is called. A process as long as it lives, nothing for ``DEAD``.

    Args:
        folder: scenario and traces go here.
        place: where it listens; the port must be free.
        ring_ms: for the behaviours that ring.
        talk_ms: it hangs up after so long, counted from the end of ``hold``; ``None`` leaves that to the caller.
        tone_hz: SIPp plays this tone while it is answered: enough where nothing is measured.
        voice: it speaks, hears and presses keys: see :mod:`tests.rig.headset`. One call at a time.
        hold: it puts the caller on hold, silent itself meanwhile.
        echo: it sends the caller's audio back.
        traced: keep every message; turn off for loads. With a ``voice`` they are kept.
    """

    def __init__(
        self,
        folder: Path,
        place: Address,
        behaviour: Behaviour,
        *,
        ring_ms: int = 100,
        talk_ms: int | None = None,
        tone_hz: int | None = None,
        voice: Voice | None = None,
        hold: Hold | None = None,
        echo: bool = False,
        traced: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.behaviour = behaviour
        self._trace = folder / "messages.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._headset = Headset(folder, place.host, voice, self._trace) if voice else None
        if behaviour is Behaviour.DEAD:
            return
        if behaviour is Behaviour.SILENT:
            # Any program that binds the port and does not read will do.
            self._spawn(folder, processes.guarded([sys.executable, "-c", _SILENCE, place.host, str(place.port)]))
            return
        tokens = {**_media(folder, tone_hz, self._headset), "HOLD": _hold(hold)}
        scenario = self._write_scenario(folder, ring_ms, talk_ms, tokens)
        options = (
            ["-trace_msg", "-message_file", str(self._trace), "-message_overwrite", "false"] if traced or voice else []
        )
        if echo:
            options.append("-rtp_echo")
        self._spawn(folder, _command(scenario, place, *options))

    def _write_scenario(self, folder: Path, ring_ms: int, talk_ms: int | None, media: dict[str, str]) -> Path:
        behaviour = self.behaviour
        tokens = {
            "PROVISIONAL": "180 Ringing",
            "PROVISIONAL_BODY": "Content-Length: 0",
            "RING_MS": str(max(ring_ms, 1)),
            "HEADER": "@@EMPTY@@",
            **media,
        }
        if behaviour in (Behaviour.ANSWER, Behaviour.ANSWER_AND_DROP):
            talk = 1 if behaviour is Behaviour.ANSWER_AND_DROP else talk_ms or FOR_EVER_MS
            return _scenario(folder, "answer", tokens | {"TALK_MS": str(talk)})
        if behaviour in _FINALS:
            header = "Contact: <sip:19005550199@127.0.0.1>" if behaviour is Behaviour.REDIRECT else "@@EMPTY@@"
            return _scenario(folder, "reject", tokens | {"FINAL": _FINALS[behaviour], "HEADER": header})
        if behaviour in (Behaviour.RING_FOR_EVER, Behaviour.EARLY_MEDIA):
            tokens["RING_MS"] = str(FOR_EVER_MS)
        if behaviour is Behaviour.EARLY_MEDIA:
            tokens |= {"PROVISIONAL": "183 Session Progress", "PROVISIONAL_BODY": _EARLY_SDP}
            if self._headset is None and not tokens["MEDIA"]:
                tokens |= _media(folder, 425)
        return _scenario(folder, "reject_ringing", tokens | {"FINAL": _RINGING_FINALS[behaviour]})

    def _spawn(self, folder: Path, command: list[str]) -> None:
        with (folder / "errors.log").open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        try:
            waits.wait_until(self._listens, 30, f"a phone on {self.place}")
        except BaseException as error:
            error.add_note((folder / "errors.log").read_text(errors="replace"))
            self.stop()
            raise

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the phone on {self.place} ended with {self._process.returncode}")
        return udp_is_bound(self.place) and (self._headset is None or self._headset.is_ready)

    @property
    def messages(self) -> list[Message]:
        return read_trace(self._trace)

    @property
    def headset(self) -> Headset:
        """Of a callee with a voice.

        Raises:
            ValueError: it was made without.
        """
        if self._headset is None:
            raise ValueError("this callee has no voice")
        return self._headset

    def hang_up(self) -> None:
        """BYE, now, for the last call it has answered."""
        answered = [m for m in self.messages if m.is_sent and m.status == 200 and m.method == "INVITE"]
        nudge = (
            f"MESSAGE sip:phone@{self.place} SIP/2.0\r\nVia: SIP/2.0/UDP {self.place.host}:9;branch=z9hG4bKnudge\r\n"
            f"From: <sip:test@{self.place.host}>;tag=1\r\nTo: <sip:phone@{self.place}>\r\n"
            f"Call-ID: {answered[-1].header('Call-ID')}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.sendto(nudge.encode(), tuple(self.place))

    @property
    def invites(self) -> list[Message]:
        """INVITEs received, without retransmissions."""
        seen: dict[str | None, Message] = {}
        for message in self.messages:
            if not message.is_sent and message.status is None and message.method == "INVITE":
                seen.setdefault(message.header("Via"), message)
        return list(seen.values())

    def stop(self) -> None:
        """Hang nothing up, just be gone: from now on the port is closed."""
        if self._headset is not None:
            self._headset.stop()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_SILENCE = "import socket,sys,time;s=socket.socket(2,2);s.bind((sys.argv[1],int(sys.argv[2])));time.sleep(86400)"


def udp_is_bound(place: Address) -> bool:
    """Somebody on this machine listens there."""
    octets = bytes(map(int, place.host.split(".")))
    # The kernel prints addresses as numbers in its own byte order.
    number = int.from_bytes(octets, sys.byteorder)
    return f" {number:08X}:{place.port:04X} " in Path("/proc/net/udp").read_text()


class Placed:
    """A call under way, made by :func:`place_call`."""

    def __init__(
        self, process: asyncio.subprocess.Process, trace: Path, errors: Path, headset: Headset | None = None
    ) -> None:
        self._process = process
        self._trace = trace
        self._errors = errors
        self._headset = headset

    @property
    def headset(self) -> Headset:
        """Of a caller with a voice.

        Raises:
            ValueError: it was made without.
        """
        if self._headset is None:
            raise ValueError("this caller has no voice")
        return self._headset

    @property
    def messages(self) -> list[Message]:
        return read_trace(self._trace)

    async def began(self, seconds: float = 30.0) -> bool:
        """Wait for the INVITE to go out; False when SIPp could not bind a port that was free a moment ago."""
        patience = waits.Patience(seconds)
        while not (self._trace.exists() and self._trace.stat().st_size):
            if self._process.returncode is not None:
                return b"Unable to bind" not in self._errors.read_bytes()
            if patience.is_over():
                return True
            await asyncio.sleep(0.01)
        return True

    async def until(self, status: int, seconds: float = 30.0) -> None:
        """Return when the INVITE has been answered with this status.

        Raises:
            TimeoutError: it was not; the text says what came instead.
        """
        patience = waits.Patience(seconds)
        while not any(m.status == status and m.method == "INVITE" and not m.is_sent for m in self.messages):
            if patience.is_over():
                raise TimeoutError(f"no {status}, only {[m.status or m.method for m in self.messages]}")
            await asyncio.sleep(0.01)

    async def result(self, seconds: float = 300.0) -> CallResult:
        """Wait for the end of the call."""
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError as error:
            error.add_note(
                f"{[m.status or m.method for m in self.messages]}\n{self._errors.read_text(errors='replace')}"
            )
            raise
        finally:
            await self.vanish()
        return replace(judge(self.messages), headset=self._headset)

    async def vanish(self) -> None:
        """The caller's machine is gone: no BYE, no answer."""
        if self._headset is not None:
            self._headset.stop()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def call_tokens(
    folder: Path,
    place: Address,
    *,
    caller: str,
    name: str = "",
    hold_ms: int,
    patience_ms: int | None,
    tone_hz: int | None,
    headers: Sequence[str],
    headset: Headset | None = None,
) -> dict[str, str]:
    """Tokens of ``call.xml``."""
    return {
        "FROM": f"{name and f'{chr(34)}{name}{chr(34)} '}<sip:{caller}@{place.host}>",
        "HOLD_MS": str(hold_ms),
        "PATIENCE_MS": str(patience_ms or FOR_EVER_MS),
        "HEADERS": "\n".join(headers) or "@@EMPTY@@",
        **_media(folder, tone_hz, headset),
    }


def trace_of(folder: Path) -> Path:
    """Where a caller's messages are written."""
    return folder / "messages.log"


async def place_call(
    folder: Path, source: Address, target: Address, number: str, tokens: dict[str, str], headset: Headset | None = None
) -> Placed:
    """Start one call; it goes on by itself."""
    scenario = _scenario(folder, "call", tokens)
    trace, errors = trace_of(folder), folder / "errors.log"
    command = _command(
        scenario, source, str(target), "-s", number, "-m", "1", "-trace_msg", "-message_file", str(trace)
    )
    with errors.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink
        )
    return Placed(process, trace, errors, headset)


async def load(
    folder: Path, source: Address, target: Address, number: str, tokens: dict[str, str], *, rate: float, calls: int
) -> LoadResult:
    """Place ``calls`` calls at ``rate`` per second and wait for all of them."""
    scenario = _scenario(folder, "call", tokens)
    statistics = folder / "statistics.csv"
    more = ["-s", number, "-m", str(calls), "-r", str(round(rate * 10)), "-rp", "10000", "-l", "5000"]
    more += ["-trace_stat", "-stf", str(statistics), "-fd", "1", "-trace_rtt", "-rtt_freq", "1"]
    loop = asyncio.get_running_loop()
    start = loop.time()
    with (folder / "errors.log").open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *_command(scenario, source, str(target), *more),
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink,
        )  # fmt: skip
        try:
            await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
    last = _last_row(statistics)
    times = _response_times(folder)
    return LoadResult(
        calls=int(last["TotalCallCreated"]),
        answered=len(times.get("answer", [])),
        failed=int(last["FailedCall(C)"]),
        seconds=loop.time() - start,
        setup_ms=sorted(times.get("answer", [])),
        ringing_ms=sorted(times.get("ringing", [])),
    )


def _last_row(statistics: Path) -> dict[str, str]:
    rows = list(csv.DictReader(statistics.read_text().splitlines(), delimiter=";"))
    if not rows:
        raise RuntimeError("SIPp left no statistics")
    return rows[-1]


def _response_times(folder: Path) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for path in folder.glob("*_rtt.csv"):
        for row in csv.reader(path.read_text().splitlines()[1:], delimiter=";"):
            times.setdefault(row[2].strip('"'), []).append(float(row[1]))
    return times
