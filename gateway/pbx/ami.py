"""The manager interface (AMI): is Asterisk alive, which channels are up, hang up, mute a recording. A hint and a hand,
never a record.

    run() ─▶ connect ─▶ greeting ─▶ Login ─▶ CoreSettings, CoreStatus ─▶ connected: Ping every few seconds
      ▲                                                                      │ closed, no Pong in time, garbage
      └──────────────── back-off with jitter ◀───────────────────────────────┘

Message objects and the matching of replies are panoramisk's; its connection handling is not used, for the faults listed
in asterisk.md, section 6: here text is decoded incrementally, nothing is sent twice, each call and ping has a deadline,
buffers are bounded, and CR, LF and NUL are refused in what is sent.

A caller can forge whole events (finding 2 there), so an event proves nothing: ask `channels()` before acting.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn

from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

from gateway import log, supervision

MESSAGE_CHARACTERS = 131_072
"""No message of Asterisk's comes near; what is longer is no AMI."""
MAX_LIST = 50_000
"""Items of one list reply; bounds memory."""
MAX_EVENTS = 1_000

RECORDING_VARIABLE = "DM_MONITOR"
"""Where the dialplan keeps the id of the MixMonitor: on the channel of the caller, or of who is called back."""
CALL_VARIABLE = "DM_ID"
"""Id of the call, on all its channels."""

_GREETING = "Call Manager"
_FORBIDDEN = re.compile(r"[\r\n\0]")
_GLOBAL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}").fullmatch
_CLOCK = re.compile(r"(\d+):(\d{2}):(\d{2})").fullmatch
_MONITOR = re.compile(r"0x[0-9a-f]{1,16}").fullmatch

_log = log.get("pbx.ami")


class AmiError(Exception):
    """Base of what can go wrong with the manager interface."""


class AmiUnavailable(AmiError):
    """Not connected, connection lost, or no reply in time. Whether the action was carried out is not known."""


class AmiLoginFailed(AmiError):
    """Asterisk did not accept the account; trying faster would only fill its security log."""


class AmiRefused(AmiError):
    """Asterisk replied with an error; the message is Asterisk's."""


class NoSuchChannel(AmiError):
    """The channel is not up (any more)."""


class NotRecorded(AmiError):
    """No recording of ours runs on the channel: none was begun, or it was stopped."""


class AmiState(StrEnum):
    """Where the session stands; label of `dialmark_ami_connected` and text of health."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOGIN_FAILED = "login_failed"
    WAITING = "waiting"
    """For the next attempt."""


@dataclass(frozen=True, slots=True)
class AmiTimes:
    """Deadlines and intervals, in seconds."""

    connect: float = 5.0
    """TCP and greeting."""
    call: float = 5.0
    """One action and its whole reply."""
    ping_every: float = 10.0
    ping: float = 5.0
    """A Pong that takes longer means a dead connection, which is cut."""
    login_failed: float = 30.0
    """The least wait after a refused login."""


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """Asterisk's own account of itself."""

    started_at: datetime | None
    """Aware, UTC. Asterisk gives it in its local zone, which is ours: each node's daemon runs beside its Asterisk."""
    reloaded_at: datetime | None
    current_calls: int
    """Channels that are up."""
    processed_calls: int
    """Runs of the dialplan since the start: halves of Local channels and callees that are sent into it count too, so it
    cannot be held against calls or channels in the journal (tried on 22.10.1)."""


@dataclass(frozen=True, slots=True)
class ChannelSeen:
    """A channel that is up. The caller's name and number are left out: the journal has them filtered."""

    name: str
    unique_id: str
    linked_id: str
    context: str
    extension: str
    state: str
    """Asterisk's word: Down, Ring, Ringing, Up, …"""
    application: str
    seconds: int
    """Since the channel was made."""
    bridge_id: str | None


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """An event as it came, keys in lower case. Forgeable: a hint to look, nothing else."""

    name: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AmiHealth:
    """What health and metrics show of the session."""

    state: AmiState
    connected_since: datetime | None
    ping_milliseconds: float | None
    """Of the last Pong."""
    asterisk_version: str | None
    asterisk_started_at: datetime | None
    last_error: str | None
    logins: int
    """Successful ones; more than one means reconnects."""
    events_dropped: int


class AmiSession:
    """One connection that is kept up. `run` is a root task; the operations may be called from any task.

    Each raises `AmiUnavailable` at once while there is no connection: nothing is kept for later, and nothing is
    repeated after a reconnect.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str,
        secret: Callable[[], str],
        *,
        times: AmiTimes | None = None,
        backoff: supervision.Backoff | None = None,
        with_events: bool = False,
        on_login: Callable[[], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`secret` is asked at each login, so a changed one needs no restart. `on_login` is told each time Asterisk is
        there (again), health up to date: the moment to reconcile calls. It must return at once."""
        self._host, self._port, self._username, self._secret = host, port, username, secret
        self._times = times or AmiTimes()
        self._backoff = backoff or supervision.Backoff(random.random)
        self._with_events = with_events
        self._on_login = on_login
        self._now = now
        self._protocol: Protocol | None = None
        self._state = AmiState.WAITING
        self._connected_since: datetime | None = None
        self._ping_milliseconds: float | None = None
        self._version: str | None = None
        self._started_at: datetime | None = None
        self._last_error: str | None = None
        self._logins = 0
        self._events_dropped = 0
        self.events: asyncio.Queue[AmiEvent] = asyncio.Queue(MAX_EVENTS)
        """Filled only with `with_events`; when nobody takes them in time, new ones are dropped and counted."""
        self.connected = asyncio.Event()
        """Set while the operations can be used."""

    @property
    def health(self) -> AmiHealth:
        """A snapshot."""
        return AmiHealth(
            self._state,
            self._connected_since,
            self._ping_milliseconds,
            self._version,
            self._started_at,
            self._last_error,
            self._logins,
            self._events_dropped,
        )

    async def run(self) -> NoReturn:
        """Keep the connection up until cancelled; outside faults are waited out, shown in health and in the log."""
        while True:
            self._state = AmiState.CONNECTING
            try:
                await self._live()
            except AmiLoginFailed as error:
                wait = max(self._times.login_failed, self._backoff.next())
                self._down(AmiState.LOGIN_FAILED, "ami login failed", error, wait)
            except (AmiError, OSError) as error:
                wait = self._backoff.next()
                self._down(AmiState.WAITING, "ami not connected", error, wait)
            await asyncio.sleep(wait)

    async def ping(self) -> float:
        """Milliseconds until the Pong. Raises `AmiUnavailable`, `AmiRefused`."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        await self._ask("Ping", seconds=self._times.ping)
        self._ping_milliseconds = (loop.time() - before) * 1_000
        return self._ping_milliseconds

    async def core_status(self) -> CoreStatus:
        """Raises `AmiUnavailable`, `AmiRefused`."""
        reply = (await self._ask("CoreStatus"))[0]
        return CoreStatus(
            _local_time(reply["CoreStartupDate"], reply["CoreStartupTime"]),
            _local_time(reply["CoreReloadDate"], reply["CoreReloadTime"]),
            _whole(reply["CoreCurrentCalls"]),
            _whole(reply["CoreProcessedCalls"]),
        )

    async def channels(self) -> list[ChannelSeen]:
        """All channels that are up. Raises `AmiUnavailable`, `AmiRefused`."""
        replies = await self._ask("CoreShowChannels")
        return [_channel(reply) for reply in replies if reply["Event"] == "CoreShowChannel"]

    async def hang_up(self, channel: str, cause: int = 16) -> None:
        """Hang up the channel of exactly this name, with a Q.850 cause.

        Raises `NoSuchChannel` when it is not up, `AmiUnavailable`, `AmiRefused`.
        """
        # Asterisk takes a name that begins with "/" as a pattern: one that is up cannot be meant by it.
        if channel not in {seen.name for seen in await self.channels()}:
            raise NoSuchChannel(channel)
        try:
            await self._ask("Hangup", Channel=channel, Cause=str(cause))
        except AmiRefused as error:
            if "No such channel" in str(error):
                raise NoSuchChannel(channel) from None
            raise

    async def mute_recording(self, channel: str, *, is_muted: bool) -> None:
        """Turns both sides of the recording of the call that began on this channel to silence of the same length, or
        back to sound. The call itself is not touched, and a second time changes nothing.

        Raises `NoSuchChannel` when the channel is not up, `NotRecorded`, `AmiUnavailable`, `AmiRefused`.
        """
        monitor = await self._variable(channel, RECORDING_VARIABLE)
        if _MONITOR(monitor) is None:
            channel, monitor = await self._recorded_beside(channel)
        state = "1" if is_muted else "0"
        try:
            # With the id, since without it Asterisk says Success on a channel whose MixMonitor was stopped.
            await self._ask("MixMonitorMute", Channel=channel, Direction="both", State=state, MixMonitorID=monitor)
        except AmiRefused as error:
            if "No such channel" in str(error):
                raise NoSuchChannel(channel) from None
            if "Cannot set mute flag" in str(error):
                raise NotRecorded(channel) from None
            raise

    async def _recorded_beside(self, channel: str) -> tuple[str, str]:
        """Of a call-back the recording is on the channel of the customer, whom the agent's channel dialled: its name,
        and the id of its MixMonitor. Raises `NotRecorded` and as `mute_recording`."""
        seen = await self.channels()
        own = next((one for one in seen if one.name == channel), None)
        if own is None:
            raise NoSuchChannel(channel)
        call = await self._variable(channel, CALL_VARIABLE)
        for one in seen:
            if not call or one.name == channel or one.linked_id != own.linked_id:
                continue
            with contextlib.suppress(NoSuchChannel):
                if await self._variable(one.name, CALL_VARIABLE) == call:
                    monitor = await self._variable(one.name, RECORDING_VARIABLE)
                    if _MONITOR(monitor) is not None:
                        return one.name, monitor
        raise NotRecorded(channel)

    async def _variable(self, channel: str, name: str) -> str:
        # Never ask MIXMONITOR() for the id: with r() and t() files alone it crashes Asterisk (tried on 22.10.1).
        try:
            return (await self._ask("Getvar", Channel=channel, Variable=name))[0]["Value"]
        except AmiRefused as error:
            if "No such channel" in str(error):
                raise NoSuchChannel(channel) from None
            raise

    async def get_global(self, name: str) -> str | None:
        """A global variable of the dialplan; None when it is not set or empty.

        Raises `ValueError` for what is no variable name (functions can do anything), `AmiUnavailable`, `AmiRefused`.
        """
        if _GLOBAL(name) is None:
            raise ValueError(f"{name!r} is no variable name")
        return (await self._ask("Getvar", Variable=name))[0]["Value"] or None

    async def _live(self) -> NoReturn:
        """One connection, from TCP to its loss."""
        protocol = self._protocol = await connected(self._host, self._port, self._times.connect, self._take)
        try:
            await self._log_in()
            self._version = (await self._ask("CoreSettings"))[0]["AsteriskVersion"] or None
            self._started_at = (await self.core_status()).started_at
            await self.ping()
            self._up()
            while True:
                await asyncio.wait([protocol.lost], timeout=self._times.ping_every)
                if protocol.lost.done():
                    raise AmiUnavailable(protocol.lost.result())
                await self.ping()
        finally:
            self.connected.clear()
            self._connected_since = None
            self._protocol = None
            protocol.cut("the session is over")

    async def _log_in(self) -> None:
        if self._protocol is None:
            raise AmiUnavailable("not connected")
        await self._protocol.log_in(self._username, self._secret, self._times.call, with_events=self._with_events)

    def _up(self) -> None:
        self._backoff.reset()
        self._state = AmiState.CONNECTED
        self._connected_since = self._now()
        self._last_error = None
        self._logins += 1
        self.connected.set()
        _log.info("ami connected", asterisk=self._version, asterisk_started_at=self._started_at)
        if self._on_login is not None:
            self._on_login()

    def _down(self, state: AmiState, event: str, error: Exception, wait: float) -> None:
        self._state = state
        self._last_error = str(error) or type(error).__name__
        _log.warning(event, reason=self._last_error, next_attempt_seconds=round(wait, 1))

    async def _ask(self, action: str, *, seconds: float | None = None, **headers: str) -> list[_Message]:
        """Send one action and collect its reply. Raises `AmiUnavailable`, `AmiRefused`, `ValueError`."""
        if self._protocol is None:
            raise AmiUnavailable("not connected")
        return await self._protocol.ask(action, headers, self._times.call if seconds is None else seconds)

    def _take(self, event: AmiEvent) -> None:
        # The one synchronous callback: whatever is slow happens behind the queue.
        if not self._with_events:
            return
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            self._events_dropped += 1


class _Message(Message):  # type: ignore[misc]  # panoramisk has no types
    """A message whose headers are text; one that is missing is ""."""

    def __getitem__(self, key: str) -> str:
        return str(self.get(key, ""))

    def get(self, key: str, default: Any = "") -> Any:
        entry = self._store.get(key.lower())
        return default if entry is None else entry[1]


class Protocol(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """Bytes to messages, messages to the actions that wait for them or to `take`."""

    def __init__(self, take: Callable[[AmiEvent], None]) -> None:
        loop = asyncio.get_running_loop()
        self._take = take
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""
        self.greeting: asyncio.Future[str] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        """Done when the connection is over; its result says why."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.encoding = "utf-8"

    def data_received(self, data: bytes) -> None:
        """Takes whole messages; what is not AMI ends the connection."""
        if self.lost.done():
            return
        self._text += self._decode(data)
        if not self.greeting.done() and not self._greet():
            return
        *complete, self._text = self._text.split("\r\n\r\n")
        for text in complete:
            self._handle(text)
        if len(self._text) > MESSAGE_CHARACTERS:
            self.cut("a message without end")

    def _greet(self) -> bool:
        line, found, rest = self._text.partition("\r\n")
        if not found and len(line) <= 200:
            return False
        # "Asterisk Call Manager/11.0.0"; other builds change the first word.
        if _GREETING not in line:
            self.cut("this is no Asterisk manager")
            return False
        self.greeting.set_result(line)
        self._text = rest
        return True

    def _handle(self, text: str) -> None:
        message = _parse(text)
        if message is None:
            return
        action = self.responses.get(message["ActionID"])
        if action is None:
            if name := message["Event"]:
                self._take(AmiEvent(name, {key.lower(): message[key] for key in message}))
            return
        if len(action.responses) >= MAX_LIST:
            self.cut("a list without end")
            return
        try:
            action.add_message(message)
        except Exception as error:
            # panoramisk stumbles over some replies; the action then runs into its deadline.
            _log.warning("ami reply not understood", action=action["Action"], error=error)

    async def ask(
        self, name: str, headers: Mapping[str, str], seconds: float, *, is_list: bool | None = None
    ) -> list[_Message]:
        """Send one action and collect its reply; `is_list` None lets the reply tell whether it is one. Raises
        `AmiUnavailable`, `AmiRefused`, `ValueError`."""
        for key, value in headers.items():
            if _FORBIDDEN.search(key) or _FORBIDDEN.search(value):
                raise ValueError(f"a line break in the header {key!r} of {name}")
        if self.lost.done():
            raise AmiUnavailable(self.lost.result())
        action = Action({"Action": name, **headers})
        # The default would end a list with its first message.
        reply = self.send(action, as_list=is_list)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait([reply, self.lost], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise AmiUnavailable(f"no reply to {name} within {seconds:g} s") from None
        finally:
            # Forgotten whatever happened: nothing is ever sent again, and late replies meet nobody.
            self.responses.pop(action.id, None)
        if not reply.done():
            raise AmiUnavailable(self.lost.result())
        messages = action.responses
        if messages[0]["Response"] not in ("Success", "Goodbye"):
            raise AmiRefused(messages[0]["Message"] or f"{name} refused")
        return list(messages)

    async def log_in(self, username: str, secret: Callable[[], str], seconds: float, *, with_events: bool) -> None:
        """Raises `AmiLoginFailed`, `AmiUnavailable`."""
        try:
            said = secret()
        except Exception as error:
            raise AmiLoginFailed(f"no secret: {error}") from error
        headers = {"Username": username, "Secret": said, "Events": "on" if with_events else "off"}
        try:
            await self.ask("Login", headers, seconds)
        except AmiRefused as error:
            raise AmiLoginFailed(str(error)) from None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end("the connection was lost" if exc else "asterisk closed the connection")

    def cut(self, reason: str) -> None:
        """End the connection without waiting for the other side, which may be gone."""
        self._end(reason)
        self.transport.abort()

    def _end(self, reason: str) -> None:
        self._text = ""
        if not self.lost.done():
            self.lost.set_result(reason)


async def connected(host: str, port: int, seconds: float, take: Callable[[AmiEvent], None]) -> Protocol:
    """A connection that has greeted within so many seconds. Raises `AmiUnavailable`, OSError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, protocol = await loop.create_connection(lambda: Protocol(take), host, port)
            try:
                await asyncio.wait([protocol.greeting, protocol.lost], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                protocol.cut("no greeting")
                raise
    except TimeoutError:
        raise AmiUnavailable("no greeting in time") from None
    if protocol.lost.done():
        raise AmiUnavailable(protocol.lost.result())
    return protocol


def _parse(text: str) -> _Message | None:
    """Headers of one message; None when it is neither an event nor a response.

    Of a duplicate the last wins: Asterisk writes ids behind what a caller can forge lines into. Only `Channel` stands
    before it, so there the first wins.
    """
    headers: dict[str, str] = {}
    names: dict[str, str] = {}
    for line in text.split("\r\n"):
        key, found, value = line.partition(":")
        if not found:
            continue
        name = names.setdefault(key.lower(), key)
        if name.lower() == "channel" and name in headers:
            continue
        headers[name] = value.removeprefix(" ")
    return _Message(headers) if "event" in names or "response" in names else None


def _channel(message: _Message) -> ChannelSeen:
    clock = _CLOCK(message["Duration"])
    seconds = int(clock[1]) * 3_600 + int(clock[2]) * 60 + int(clock[3]) if clock else 0
    return ChannelSeen(
        name=message["Channel"],
        unique_id=message["Uniqueid"],
        linked_id=message["Linkedid"],
        context=message["Context"],
        extension=message["Exten"],
        state=message["ChannelStateDesc"],
        application=message["Application"],
        seconds=seconds,
        bridge_id=message["BridgeId"] or None,
    )


def _local_time(date: str, time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{date}T{time}").astimezone(UTC)
    except ValueError:
        return None


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
