"""Callers who are not simply put through: ban list, after hours, concurrency limit, and the message at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Stage, Tried, attempts_are, check, near, rang_at_once
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Rig
from tests.rig.dialmark import Record
from tests.rig.sipp import tone

pytestmark = pytest.mark.real_time

# Of a second's tone each, so that a test hears which one was played.
CLOSING, CLOSED, BANNED, CHALLENGE = 1004, 700, 1209, 852
TODAY = datetime.now(ZoneInfo("Europe/Moscow")).date()
# A test run may cross midnight.
HOLIDAYS = ", ".join(f'"{TODAY + timedelta(days=day)}"' for day in (0, 1))


def _route(key: str, more: str, forward: str = '["first"]') -> str:
    return f'[[route]]\nkey = "{key}"\nforward = {forward}\nring_seconds = 3\nreserve_ring_seconds = 3\n{more}\n'


def _number(number: str, route: str, more: str = "") -> str:
    return f'[[tracking_number]]\nnumber = "+{number}"\nroute = "{route}"\nsource = "google-ads"\n{more}\n'


ROUTES = {
    "plain": _route("plain", 'reserve = ["second"]'),
    "early": _route("early", f'unanswered_message = "{{folder}}/{CLOSING}"'),
    "paid": _route("paid", f'unanswered_message = "{{folder}}/{CLOSING}"\nanswer_for_message = true'),
    "no-such-prompt": _route("no-such-prompt", 'unanswered_message = "{folder}/nothing"'),
    "closed": _route("closed", f'hours = "never"\nafter_hours_message = "{{folder}}/{CLOSED}"'),
    "closed-paid": _route(
        "closed-paid", f'hours = "never"\nafter_hours_message = "{{folder}}/{CLOSED}"\nanswer_for_message = true'
    ),
    "night": _route(
        "night",
        f'hours = "never"\nafter_hours_destinations = ["second", "third"]\nafter_hours_message = "{{folder}}/{CLOSED}"',
    ),
    "duty": _route("duty", 'hours = "never"\nreserve = ["second"]'),
    "holiday": _route("holiday", f'hours = "holiday"\nafter_hours_message = "{{folder}}/{CLOSED}"'),
    "open": _route("open", 'hours = "always"\nafter_hours_message = "{folder}/nothing"'),
    "one": _route("one", "concurrency_limit = 1"),
    "limited": _route("limited", "concurrency_limit = 9"),
}
NUMBERS = {key: f"7499000{number:04}" for number, key in enumerate(ROUTES, 1)}
LIMITED_TOO = "74990009001"
ROUTING = "".join(
    [
        stages.SITE,
        '[[hours]]\nkey = "never"\nmon-sun = "closed"\n',
        '[[hours]]\nkey = "always"\nmon-sun = "00:00-24:00"\n',
        f'[[hours]]\nkey = "holiday"\nmon-sun = "00:00-24:00"\nholidays = [{HOLIDAYS}]\n',
        *ROUTES.values(),
        *(_number(NUMBERS[key], key) for key in ROUTES),
        _number(LIMITED_TOO, "limited", "concurrency_limit = 1"),
        f"""
[[ban]]
number = "+79990000001"
action = "busy"
reason = "calls daily"
[[ban]]
number = "+79990000002"
reason = "refused by default"
[[ban]]
number = "+79990000003"
action = "message"
message = "{{folder}}/{BANNED}"
reason = "hears why"
[[ban]]
number = "+7800555*"
action = "challenge"
message = "{{folder}}/{CHALLENGE}"
reason = "robots"
[[ban]]
number = "+79990000004"
action = "busy"
expires = {TODAY - timedelta(days=2)}
reason = "long ago"
[[ban]]
number = "+7999111*"
action = "busy"
reason = "a whole range"
[[ban]]
number = "+79991112222"
action = "refuse"
reason = "one of the range"
""",
    ]
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, ROUTING) as site:
        for hertz in (CLOSING, CLOSED, BANNED, CHALLENGE):
            tone(site.node.folder, hertz)
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


# -- ban list (R112) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "status", "cause"),
    [
        pytest.param("+79990000001", 486, "ban_busy", id="busy"),
        pytest.param("+79990000002", 403, "ban_refuse", id="refuse"),
        pytest.param("+79991110000", 486, "ban_busy", id="range"),
        pytest.param("+79991112222", 403, "ban_refuse", id="the number itself wins over its range"),
    ],
)
async def test_banned(stage: Stage, caller: str, status: int, cause: str) -> None:
    """Recorded too, with the number's source; nobody's phone rings, not even the caller's."""
    phone = stage.phone("desk-1")
    call = await stage.call(NUMBERS["plain"], caller=caller)
    assert call.result.status == status
    assert call.result.first(180) is None
    assert phone.invites == []
    check(call, "banned", cause=cause, ended_by="system", route="plain", attribution__source="google-ads")


async def test_banned_with_a_message(stage: Stage) -> None:
    """As early media: a banned caller costs nobody anything."""
    caller = await stage.dial(NUMBERS["plain"], caller="+79990000003")
    await caller.until_heard(BANNED)
    assert await caller.final() == 403
    assert [status for status, _ in caller.responses] == [100, 183, 403]
    record = await stage.record_of(caller)
    assert (record["outcome"], record["cause"], record["missed"]) == ("banned", "ban_message", False)
    assert near(record["experience"]["prompt_seconds"], 1)


async def test_challenge_passed(stage: Stage) -> None:
    """A person presses 1, hears ringing and is put through; the record says so like any other answered call."""
    stage.phone("desk-1", ring_ms=900, tone_hz=1004)
    caller = await stage.dial(NUMBERS["plain"], caller="+78005550001")
    await caller.until(200)
    await caller.until_heard(CHALLENGE)
    await caller.press("1")
    await caller.until_heard(425)
    await caller.until_heard(1004)
    caller.hang_up()
    record = await stage.record_of(caller)
    attempts_are(record, Tried("first", "answered", 200, 16))
    assert (record["outcome"], record["cause"], record["ended_by"]) == ("answered", None, "caller")
    assert record["route_source"] == "agi"
    assert 0 < record["experience"]["prompt_seconds"] < 2


@pytest.mark.parametrize("key", ["2", None])
async def test_challenge_not_passed(stage: Stage, key: str | None) -> None:
    phone = stage.phone("desk-1")
    caller = await stage.dial(NUMBERS["plain"], caller=f"+7800555100{key or 0}")
    await caller.until_heard(CHALLENGE)
    if key:
        await caller.press(key)
    await caller.until_hung_up(10)
    record = await stage.record_of(caller)
    assert phone.invites == []
    assert (record["outcome"], record["cause"], record["missed"]) == ("banned", "ban_challenge", False)
    assert (record["ended_by"], record["answered_at"], record["talk_seconds"]) == ("system", None, 0.0)


async def test_a_ban_that_has_expired(stage: Stage) -> None:
    stage.phone("desk-1")
    call = await stage.call(NUMBERS["plain"], caller="+79990000004")
    check(call, "answered", Tried("first", "answered", 200, 16))


# -- business hours ----------------------------------------------------------------------------------------------


def _after_hours(record: Record, *, prompt: float, silent: float = 0.0) -> None:
    assert (record["outcome"], record["cause"], record["missed"]) == ("after_hours", None, True)
    assert (record["attempts"], record["ended_by"], record["answered_at"]) == ([], "system", None)
    assert near(record["experience"]["prompt_seconds"], prompt)
    assert record["experience"]["silent_seconds"] < silent + stages.slack()


@pytest.mark.parametrize("route", ["closed", "holiday"])
async def test_after_hours_message(stage: Stage, route: str) -> None:
    """Early media, then 480; a holiday is closed all day."""
    phone = stage.phone("desk-1")
    caller = await stage.dial(NUMBERS[route])
    await caller.until_heard(CLOSED)
    assert await caller.final() == 480
    assert [status for status, _ in caller.responses] == [100, 183, 480]
    assert phone.invites == []
    _after_hours(await stage.record_of(caller), prompt=1)


async def test_after_hours_message_answered(stage: Stage) -> None:
    """``answer_for_message``: nobody was there all the same."""
    caller = await stage.dial(NUMBERS["closed-paid"])
    await caller.until(200)
    await caller.until_heard(CLOSED)
    await caller.until_hung_up()
    # Answer() waits half a second for the caller's audio, and this caller is silent.
    _after_hours(await stage.record_of(caller), prompt=1, silent=0.5)


async def test_after_hours_destinations(stage: Stage) -> None:
    first = stage.phone("desk-1")
    stage.phone("desk-2", Behaviour.BUSY)
    stage.phone("desk-3")
    call = await stage.call(NUMBERS["night"])
    assert first.invites == []
    check(
        call,
        "answered",
        Tried("second", "busy", 486, 17),
        Tried("third", "answered", 200, 16, step=2, kind="reserve"),
    )


async def test_after_hours_destinations_and_nobody(stage: Stage) -> None:
    """The message is for a caller whom nobody took; the miss is named by what happened."""
    for phone in ("desk-2", "desk-3"):
        stage.phone(phone, Behaviour.BUSY)
    caller = await stage.dial(NUMBERS["night"])
    await caller.until_heard(CLOSED)
    assert await caller.final() == 486
    record = await stage.record_of(caller)
    assert (record["outcome"], record["missed"]) == ("busy", True)


async def test_after_hours_reserve(stage: Stage) -> None:
    first = stage.phone("desk-1")
    stage.phone("desk-2")
    call = await stage.call(NUMBERS["duty"])
    assert first.invites == []
    check(call, "answered", Tried("second", "answered", 200, 16, kind="reserve"))


async def test_inside_the_hours(stage: Stage) -> None:
    stage.phone("desk-1")
    check(await stage.call(NUMBERS["open"]), "answered", Tried("first", "answered", 200, 16))


# -- concurrency limit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [NUMBERS["one"], LIMITED_TOO], ids=["of the route", "of the number"])
async def test_concurrency_limit(stage: Stage, number: str) -> None:
    """One call more than the number may have is told busy; another number of the route is not, nor is a later call."""
    stage.phone("desk-1")
    holder = await stage.dial(number)
    await holder.until(200)
    refused, elsewhere = await stage.calls(number, NUMBERS["limited"])
    holder.hang_up()
    assert refused.result.status == 486
    check(refused, "busy", cause="limit", ended_by="system")
    check(elsewhere, "answered", Tried("first", "answered", 200, 16))
    assert (await stage.record_of(holder))["outcome"] == "answered"
    check(await stage.call(number), "answered", Tried("first", "answered", 200, 16))


# -- the message at the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "outcome", "status"),
    [
        (Behaviour.BUSY, "busy", 486),
        (Behaviour.DECLINE, "rejected", 403),
        (Behaviour.RING_THEN_UNAVAILABLE, "no_answer", 480),
        (Behaviour.NOT_FOUND, "unreachable", 480),
    ],
)
async def test_a_message_as_early_media(stage: Stage, behaviour: Behaviour, outcome: str, status: int) -> None:
    """C5: 183 with the message, then the code of the most human cause. Nobody is charged."""
    stage.phone("desk-1", behaviour)
    caller = await stage.dial(NUMBERS["early"])
    await caller.until_heard(CLOSING)
    assert await caller.final() == status
    codes = [code for code, _ in caller.responses]
    assert codes[0] == 100 and set(codes[1:-1]) == {180, 183} and codes[-1] == status
    record = await stage.record_of(caller)
    assert (record["outcome"], record["missed"], record["ended_by"]) == (outcome, True, "system")
    assert record["answered_at"] is None
    assert near(record["experience"]["prompt_seconds"], 1)
    assert near(record["wait_seconds"], 1 + (0.1 if behaviour in STAYS_A_WHILE else 0))
    assert record["experience"]["silent_seconds"] < stages.slack()


STAYS_A_WHILE = (Behaviour.DECLINE, Behaviour.RING_THEN_UNAVAILABLE)


async def test_a_message_answered(stage: Stage) -> None:
    """By choice of the route; the record still says that nobody took it."""
    stage.phone("desk-1", Behaviour.BUSY)
    caller = await stage.dial(NUMBERS["paid"])
    await caller.until(200)
    await caller.until_heard(CLOSING)
    await caller.until_hung_up()
    record = await stage.record_of(caller)
    assert (record["outcome"], record["answered_at"], record["talk_seconds"]) == ("busy", None, 0.0)
    assert near(record["experience"]["prompt_seconds"], 1)


async def test_a_message_that_is_not_there(stage: Stage) -> None:
    """The caller gets the code without it."""
    stage.phone("desk-1", Behaviour.BUSY)
    call = await stage.call(NUMBERS["no-such-prompt"])
    assert call.result.status == 486
    check(call, "busy", Tried("first", "busy", 486, 17))


async def test_a_caller_leaves_in_the_message(stage: Stage) -> None:
    """The steps were through: the miss keeps its cause, and it was the caller who hung up."""
    stage.phone("desk-1", Behaviour.BUSY)
    caller = await stage.dial(NUMBERS["early"])
    await caller.until_heard(CLOSING)
    caller.cancel()
    assert await caller.final() == 487
    record = await stage.record_of(caller)
    assert (record["outcome"], record["ended_by"]) == ("busy", "caller")


async def test_nobody_and_no_message_rings_to_the_end(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.DECLINE, ring_ms=300)
    call = await stage.call(NUMBERS["one"])
    rang_at_once(call.result)
    assert call.result.status == 403
    check(call, "rejected", Tried("first", "rejected", 603, 21))
