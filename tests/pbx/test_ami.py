"""The AMI session against a scripted manager on a real socket: half-open, hostile, slow, wrong and lying ones."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from gateway import supervision
from gateway.pbx import ami

Headers = dict[str, str]
Reply = Callable[[Headers], str | bytes | None]

QUICK = ami.AmiTimes(connect=0.05, call=0.05, ping_every=0.001, ping=0.05, login_failed=0.001)
"""Deadlines for what never comes."""
PATIENT = ami.AmiTimes(connect=60, call=60, ping_every=60, ping=60, login_failed=60)
"""Deadlines that no test reaches."""


def success(headers: Headers, **more: str) -> str:
    return message({"Response": "Success", "ActionID": headers["ActionID"], **more})


def error(headers: Headers, text: str) -> str:
    return message({"Response": "Error", "ActionID": headers["ActionID"], "Message": text})


def message(headers: Headers) -> str:
    return "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"


def channel(headers: Headers, name: str, **more: str) -> str:
    """As Asterisk 22.10.1 writes it: the caller's name stands between `Channel` and the ids."""
    fields = {
        "Event": "CoreShowChannel",
        "ActionID": headers["ActionID"],
        "Channel": name,
        "ChannelStateDesc": "Up",
        "CallerIDName": "Zoë",
        "Context": "dialmark-dial",
        "Exten": "s",
        "Uniqueid": "1795301342.164",
        "Linkedid": "1795301342.164",
        "Application": "Dial",
        "Duration": "01:02:03",
        "BridgeId": "",
    }
    return message(fields | more)


def channel_list(headers: Headers, *channels: str) -> str:
    begin = success(headers, EventList="start", Message="Channels will follow")
    end = {"Event": "CoreShowChannelsComplete", "ActionID": headers["ActionID"], "EventList": "Complete"}
    return begin + "".join(channels) + message(end)


class Manager:
    """Plays Asterisk. `replies` maps an action to what is answered; None answers nothing, False as bytes closes."""

    def __init__(self) -> None:
        self.greeting: bytes | None = b"Asterisk Call Manager/11.0.0\r\n"
        self.replies: dict[str, Reply] = {
            "Login": lambda headers: success(headers, Message="Authentication accepted"),
            "CoreSettings": lambda headers: success(headers, AMIversion="11.0.0", AsteriskVersion="22.10.1"),
            "CoreStatus": lambda headers: success(
                headers,
                CoreStartupDate="2026-11-21",
                CoreStartupTime="22:18:14",
                CoreReloadDate="2026-11-21",
                CoreReloadTime="23:00:00",
                CoreCurrentCalls="2",
                CoreProcessedCalls="83",
            ),
            "Ping": lambda headers: success(headers, Ping="Pong"),
            "CoreShowChannels": channel_list,
        }
        self.seen: list[Headers] = []
        self.connections = 0
        self.piecewise = False
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def send(self, data: str | bytes) -> None:
        """Unasked, to the newest connection."""
        raw = data.encode() if isinstance(data, str) else data
        self._writers[-1].write(raw)

    def count(self, action: str) -> int:
        return sum(1 for headers in self.seen if headers["Action"] == action)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            if self.greeting is not None:
                writer.write(self.greeting)
            while True:
                block = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
                self.seen.append(headers)
                reply = self.replies[headers["Action"]](headers)
                await self._write(writer, reply)

    async def _write(self, writer: asyncio.StreamWriter, reply: str | bytes | None) -> None:
        if reply is None:
            return
        raw = reply.encode() if isinstance(reply, str) else reply
        if not self.piecewise:
            writer.write(raw)
            return
        for byte in raw:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    manager = Manager()
    yield manager


@asynccontextmanager
async def running(
    manager: Manager,
    times: ami.AmiTimes = PATIENT,
    *,
    with_events: bool = False,
    on_login: Callable[[], None] | None = None,
) -> AsyncIterator[ami.AmiSession]:
    port = await manager.start()
    session = ami.AmiSession(
        "127.0.0.1",
        port,
        "dialmark",
        lambda: "s3cret",
        times=times,
        backoff=supervision.Backoff(lambda: 0.0, first_seconds=0.001, most_seconds=0.001),
        with_events=with_events,
        on_login=on_login,
        now=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
    )
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await manager.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; the test's time-out is the deadline."""
    loop = asyncio.get_running_loop()
    met = loop.create_future()

    def look() -> None:
        if not condition():
            loop.call_soon(look)
        elif not met.done():
            met.set_result(None)

    look()
    await met


@pytest.fixture
def moscow() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Moscow"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


async def test_logging_in_and_what_health_shows(manager: Manager, moscow: None) -> None:
    async with running(manager) as session:
        assert session.health.state in (ami.AmiState.WAITING, ami.AmiState.CONNECTING)
        await session.connected.wait()
        health = session.health
        assert health.state is ami.AmiState.CONNECTED
        assert health.connected_since == datetime(2026, 11, 21, 12, tzinfo=UTC)
        assert health.asterisk_version == "22.10.1"
        assert health.asterisk_started_at == datetime(2026, 11, 21, 19, 18, 14, tzinfo=UTC)
        assert health.ping_milliseconds is not None
        assert (health.last_error, health.logins) == (None, 1)
        login = manager.seen[0]
        assert (login["Username"], login["Secret"], login["Events"]) == ("dialmark", "s3cret", "off")
    assert session.health.connected_since is None
    assert not session.connected.is_set()


async def test_the_operations(manager: Manager, moscow: None) -> None:
    manager.replies["Getvar"] = lambda headers: success(headers, Variable=headers["Variable"], Value="17")
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(
        headers, channel(headers, "PJSIP/a-1"), channel(headers, "PJSIP/b-2", BridgeId="b7", ChannelStateDesc="Ring")
    )
    async with running(manager) as session:
        await session.connected.wait()
        assert await session.core_status() == ami.CoreStatus(
            datetime(2026, 11, 21, 19, 18, 14, tzinfo=UTC), datetime(2026, 11, 21, 20, 0, tzinfo=UTC), 2, 83
        )
        assert await session.get_global("DM_PLAN_REVISION") == "17"
        first, second = await session.channels()
        assert first == ami.ChannelSeen(
            "PJSIP/a-1", "1795301342.164", "1795301342.164", "dialmark-dial", "s", "Up", "Dial", 3_723, None
        )
        assert (second.name, second.bridge_id, second.state) == ("PJSIP/b-2", "b7", "Ring")
        assert await session.ping() >= 0


async def test_no_channels_and_a_global_that_is_not_set(manager: Manager) -> None:
    manager.replies["Getvar"] = lambda headers: success(headers, Variable="X", Value="")
    async with running(manager) as session:
        await session.connected.wait()
        assert await session.channels() == []
        assert await session.get_global("X") is None


async def test_everything_byte_by_byte_with_characters_cut_in_the_middle(manager: Manager) -> None:
    """panoramisk loses "ë" at the border of two packets (style.md, section 9)."""
    manager.piecewise = True
    manager.replies["Getvar"] = lambda headers: success(headers, Variable="X", Value="Zoë Жанна")
    async with running(manager) as session:
        await session.connected.wait()
        assert await session.get_global("X") == "Zoë Жанна"


async def test_bytes_that_are_no_utf8_do_no_harm(manager: Manager) -> None:
    async with running(manager, with_events=True) as session:
        await session.connected.wait()
        manager.send(b"Event: Hangup\r\nCallerIDName: \xff\xfe\r\n\r\n")
        event = await session.events.get()
        assert event.headers["calleridname"] == "\ufffd\ufffd"
        await session.ping()


async def test_hanging_up_a_channel_that_is_up(manager: Manager) -> None:
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(headers, channel(headers, "PJSIP/a-1"))
    manager.replies["Hangup"] = lambda headers: success(headers, Message="Channel Hungup")
    async with running(manager) as session:
        await session.connected.wait()
        await session.hang_up("PJSIP/a-1", 21)
        assert (manager.seen[-1]["Channel"], manager.seen[-1]["Cause"]) == ("PJSIP/a-1", "21")


@pytest.mark.parametrize("name", ["PJSIP/b-2", "/PJSIP.*/", "", "PJSIP/a-1\r\nAction: Originate"])
async def test_a_channel_that_is_not_up_is_never_hung_up(manager: Manager, name: str) -> None:
    """To Asterisk "/…/" is a pattern that hangs up every channel it matches."""
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(headers, channel(headers, "PJSIP/a-1"))
    async with running(manager) as session:
        await session.connected.wait()
        with pytest.raises(ami.NoSuchChannel):
            await session.hang_up(name)
        assert manager.count("Hangup") == 0


async def test_a_channel_that_goes_just_then(manager: Manager) -> None:
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(headers, channel(headers, "PJSIP/a-1"))
    manager.replies["Hangup"] = lambda headers: error(headers, "No such channel")
    async with running(manager) as session:
        await session.connected.wait()
        with pytest.raises(ami.NoSuchChannel):
            await session.hang_up("PJSIP/a-1")


@pytest.mark.parametrize("name", ["SHELL(id)", "X\r\nAction: Logoff", "X\n", "", "A B", "X" * 81])
async def test_only_plain_variable_names_are_asked_for(manager: Manager, name: str) -> None:
    async with running(manager) as session:
        await session.connected.wait()
        with pytest.raises(ValueError, match="variable name"):
            await session.get_global(name)
        assert manager.count("Getvar") == 0


@pytest.mark.parametrize("secret", ["x\r\nAction: Originate", "x\n", "x\0"])
async def test_a_line_break_is_never_sent(manager: Manager, secret: str) -> None:
    port = await manager.start()
    session = ami.AmiSession("127.0.0.1", port, "dialmark", lambda: secret, times=PATIENT)
    with pytest.raises(ValueError, match="line break"):
        await session.run()
    await manager.stop()
    assert manager.seen == []


async def test_a_refused_action_says_what_asterisk_said(manager: Manager) -> None:
    manager.replies["Getvar"] = lambda headers: error(headers, "Permission denied")
    async with running(manager) as session:
        await session.connected.wait()
        with pytest.raises(ami.AmiRefused, match="Permission denied"):
            await session.get_global("X")
        assert session.connected.is_set()


async def test_a_wrong_password_is_shown_and_tried_again(manager: Manager) -> None:
    good = manager.replies["Login"]
    manager.replies["Login"] = lambda headers: error(headers, "Authentication failed")
    async with running(manager, QUICK) as session:
        await until(lambda: session.health.state is ami.AmiState.LOGIN_FAILED)
        assert session.health.last_error == "Authentication failed"
        with pytest.raises(ami.AmiUnavailable):
            await session.ping()
        manager.replies["Login"] = good
        await session.connected.wait()
        assert session.health.last_error is None


async def test_a_wrong_password_is_not_tried_fast(manager: Manager) -> None:
    manager.replies["Login"] = lambda headers: error(headers, "Authentication failed")
    async with running(manager) as session:
        await until(lambda: session.health.state is ami.AmiState.LOGIN_FAILED)
        for _ in range(100):
            await asyncio.sleep(0)
        assert manager.connections == 1


async def test_a_secret_that_cannot_be_read_is_a_failed_login(manager: Manager) -> None:
    def secret() -> str:
        raise PermissionError("/etc/dialmark/ami.secret")

    port = await manager.start()
    session = ami.AmiSession("127.0.0.1", port, "dialmark", secret, times=PATIENT)
    task = asyncio.create_task(session.run())
    await until(lambda: session.health.state is ami.AmiState.LOGIN_FAILED)
    assert session.health.last_error == "no secret: /etc/dialmark/ami.secret"
    task.cancel()
    await manager.stop()


async def test_a_lost_reply_meets_its_deadline_and_is_forgotten(manager: Manager) -> None:
    manager.replies["Getvar"] = lambda headers: None
    times = ami.AmiTimes(connect=60, call=0.2, ping_every=60, ping=60)
    async with running(manager, times) as session:
        await session.connected.wait()
        with pytest.raises(ami.AmiUnavailable, match=r"no reply to Getvar within 0\.2 s"):
            await session.get_global("X")
        late = manager.seen[-1]
        manager.send(success(late, Value="late"))
        manager.replies["Getvar"] = lambda headers: success(headers, Value="new")
        assert await session.get_global("X") == "new"
        assert manager.connections == 1


async def test_a_list_that_never_ends_meets_its_deadline(manager: Manager) -> None:
    manager.replies["CoreShowChannels"] = lambda headers: success(headers, EventList="start", Message="will follow")
    times = ami.AmiTimes(connect=60, call=0.2, ping_every=60, ping=60)
    async with running(manager, times) as session:
        await session.connected.wait()
        with pytest.raises(ami.AmiUnavailable):
            await session.channels()


async def test_a_half_open_connection_is_cut_and_made_again(manager: Manager) -> None:
    """panoramisk stays "connected" for ever when no Pong comes (libraries.md, section 6)."""
    pong = manager.replies["Ping"]
    async with running(manager, QUICK) as session:
        await session.connected.wait()
        manager.replies["Ping"] = lambda headers: None
        await until(lambda: not session.connected.is_set())
        assert session.health.last_error in (None, "no reply to Ping within 0.05 s")
        manager.replies["Ping"] = pong
        await session.connected.wait()
        assert manager.connections >= 2


async def test_a_closed_connection_is_made_again_and_nothing_is_sent_twice(manager: Manager) -> None:
    """panoramisk repeats unanswered actions after a reconnect: an Originate would ring twice."""
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(headers, channel(headers, "PJSIP/a-1"))
    manager.replies["Hangup"] = lambda headers: None
    logins: list[int] = []
    async with running(manager, on_login=lambda: logins.append(1)) as session:
        await session.connected.wait()
        hanging = asyncio.create_task(session.hang_up("PJSIP/a-1"))
        await until(lambda: manager.count("Hangup") == 1)
        manager.hang_up()
        with pytest.raises(ami.AmiUnavailable):
            await hanging
        await until(lambda: session.health.logins == 2)
        manager.send(message({"Event": "FullyBooted"}))
        await session.ping()
        assert manager.count("Hangup") == 1
        assert logins == [1, 1]


async def test_without_asterisk_every_operation_says_so_at_once(manager: Manager) -> None:
    port = await manager.start()
    await manager.stop()
    session = ami.AmiSession("127.0.0.1", port, "dialmark", lambda: "x", times=PATIENT)
    task = asyncio.create_task(session.run())
    await until(lambda: session.health.last_error is not None)
    operations: list[Awaitable[object]] = [
        session.ping(),
        session.core_status(),
        session.channels(),
        session.hang_up("x"),
        session.get_global("X"),
    ]
    for operation in operations:
        with pytest.raises(ami.AmiUnavailable, match="not connected"):
            await operation
    assert session.health.state is ami.AmiState.WAITING
    task.cancel()


@pytest.mark.parametrize("greeting", [None, b"SSH-2.0-OpenSSH_9.2\r\n", b"x" * 1_000, b"Asterisk Call Man"])
async def test_what_is_no_manager_is_left(manager: Manager, greeting: bytes | None) -> None:
    manager.greeting = greeting
    async with running(manager, QUICK) as session:
        await until(lambda: manager.connections >= 2)
        assert session.health.logins == 0
        assert manager.seen == []


async def test_another_builds_greeting_will_do(manager: Manager) -> None:
    """MikoPBX greets as "PBX Call Manager" (libraries.md, section 5)."""
    manager.greeting = b"PBX Call Manager/9.0\r\n"
    async with running(manager) as session:
        await session.connected.wait()


async def test_a_message_without_end_is_cut(manager: Manager) -> None:
    async with running(manager, with_events=True) as session:
        await session.connected.wait()
        manager.send("Event: X\r\nY: " + "x" * (ami.MESSAGE_CHARACTERS + 1))
        await until(lambda: session.health.last_error == "a message without end" or session.health.logins == 2)
        await session.connected.wait()
        assert session.health.logins == 2


async def test_events_come_in_order_and_a_full_queue_drops_new_ones_and_counts_them(manager: Manager) -> None:
    async with running(manager, with_events=True) as session:
        await session.connected.wait()
        assert manager.seen[0]["Events"] == "on"
        count = ami.MAX_EVENTS + 5
        manager.send("".join(message({"Event": "Hangup", "Number": str(number)}) for number in range(count)))
        await session.ping()
        assert session.health.events_dropped == 5
        numbers = [session.events.get_nowait().headers["number"] for _ in range(ami.MAX_EVENTS)]
        assert numbers == [str(number) for number in range(ami.MAX_EVENTS)]


async def test_events_nobody_asked_for_are_ignored(manager: Manager) -> None:
    async with running(manager) as session:
        await session.connected.wait()
        manager.send(message({"Event": "Hangup"}))
        await session.ping()
        assert session.events.empty()


@pytest.mark.parametrize(
    "forged",
    [
        "Event: Shutdown\r\n\r\n",
        "Response: Error\r\nMessage: forged\r\n\r\n",
        "Response: Success\r\nActionID: action/guess/1/1\r\n\r\n",
        "Event: CoreShowChannelsComplete\r\nEventList: Complete\r\n\r\n",
        "Event: Hangup\r\nUniqueid: 1\r\nUniqueid: 2\r\n\r\n",
        "status will follow\r\n\r\n",
        "Message: x successfully queued\r\nResponse: Success\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
    ],
)
async def test_what_a_caller_forges_into_the_stream_reaches_no_action(manager: Manager, forged: str) -> None:
    """Finding 2 of asterisk.md: `%0d%0a` in a SIP user part splits AMI events."""
    manager.replies["Getvar"] = lambda headers: forged + success(headers, Value="true")
    async with running(manager, with_events=True) as session:
        await session.connected.wait()
        assert await session.get_global("X") == "true"
        assert manager.connections == 1


async def test_a_forged_line_changes_neither_channel_nor_ids(manager: Manager) -> None:
    name = "x\r\nChannel: PJSIP/other-9\r\nUniqueid: 9.9\r\nLinkedid: 9.9"
    manager.replies["CoreShowChannels"] = lambda headers: channel_list(
        headers, channel(headers, "PJSIP/a-1", CallerIDName=name)
    )
    async with running(manager) as session:
        await session.connected.wait()
        (seen,) = await session.channels()
        assert (seen.name, seen.unique_id, seen.linked_id) == ("PJSIP/a-1", "1795301342.164", "1795301342.164")


async def test_a_reply_that_panoramisk_stumbles_over_costs_only_its_own_action(manager: Manager) -> None:
    manager.replies["Getvar"] = lambda headers: success(headers, Message="x successfully queued")
    times = ami.AmiTimes(connect=60, call=0.2, ping_every=60, ping=60)
    async with running(manager, times) as session:
        await session.connected.wait()
        with pytest.raises(ami.AmiUnavailable):
            await session.get_global("X")
        await session.ping()
        assert manager.connections == 1


async def test_many_calls_at_once_get_each_its_own_reply(manager: Manager) -> None:
    manager.replies["Getvar"] = lambda headers: success(headers, Value=headers["Variable"].lower())
    async with running(manager) as session:
        await session.connected.wait()
        names = [f"X{number}" for number in range(50)]
        values = await asyncio.gather(*(session.get_global(name) for name in names))
        assert values == [name.lower() for name in names]
