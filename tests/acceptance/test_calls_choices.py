"""Who is rung, in which order, and what his phone shows: strategies, sticky agents, exceptions, causes, caller ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.acceptance import stages
from tests.acceptance.stages import Call, Stage, Tried, attempts_are, check, invites, near, only_invite
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Callee, Rig
from tests.rig.sipp import Message

pytestmark = pytest.mark.real_time


def _destinations(prefix: str, weights: tuple[int, ...] = (1, 1, 1)) -> str:
    """Lines of their own for a route whose choice depends on what its lines did before."""
    return "".join(
        f'[[destination]]\nkey = "{prefix}-{n}"\ndial = "sip:desk-{n}"\nweight = {weight}\n'
        for n, weight in enumerate(weights, 1)
    )


def _route(key: str, more: str) -> str:
    return f'[[route]]\nkey = "{key}"\nring_seconds = 3\nreserve_ring_seconds = 3\n{more}\n'


def _three(prefix: str) -> str:
    return f'["{prefix}-1", "{prefix}-2", "{prefix}-3"]'


ROUTES = {
    "in-order": _route("in-order", 'forward = ["first", "second"]\nstrategy = "in_order"\nreserve = ["third"]'),
    "round": _route("round", f'forward = {_three("round")}\nstrategy = "round_robin"'),
    "weighted": _route("weighted", f'forward = {_three("heavy")}\nstrategy = "weighted"'),
    "idle": _route("idle", f'forward = {_three("idle")}\nstrategy = "longest_idle"'),
    "sticky": _route("sticky", 'forward = ["first"]\nreserve = ["second"]\nsticky_days = 7'),
    "exceptions": _route("exceptions", 'forward = ["first"]\nreserve = ["third"]\nhours = "never"')
    + """
[[route.exception]]
regions = ["KZ"]
forward = ["second"]
hours = "always"
[[route.exception]]
regions = ["+7343"]
forward = ["third"]
hours = "always"
[[route.exception]]
regions = ["St Petersburg"]
forward = ["reception"]
hours = "always"
[[route.exception]]
first_time = true
forward = ["first"]
reserve = []
hours = "always"
[[route.exception]]
first_time = false
forward = ["second"]
hours = "always"
""",
    "sources": _route("sources", 'forward = ["first"]')
    + '[[route.exception]]\nsources = ["radio"]\nforward = ["second"]\n'
    + '[[route.exception]]\nhours = "always"\nsources = ["google-ads"]\nforward = ["third"]\n',
    "causes": _route(
        "causes",
        'forward = ["first"]\nreserve = ["reception"]\n'
        'reserve_by_cause = { busy = ["second"], no_answer = [["third", "second"]], unreachable = [] }',
    ),
    "wait": _route("wait", 'forward = ["first"]\nreserve = ["second", "third"]\nlongest_wait_seconds = 5'),
    "shown": _route("shown", 'forward = ["labelled"]\nreserve = ["tracked", "second"]'),
}
NUMBERS = {key: f"7499000{number:04}" for number, key in enumerate(ROUTES, 1)}
RADIO, ADS = "74990009001", "74990009002"
ROUTING = "".join(
    [
        stages.SITE,
        '[[hours]]\nkey = "never"\nmon-sun = "closed"\n[[hours]]\nkey = "always"\nmon-sun = "00:00-24:00"\n',
        _destinations("round"),
        _destinations("heavy", (2, 1, 1)),
        _destinations("idle"),
        '[[destination]]\nkey = "labelled"\ndial = "sip:desk-1"\nlabel_source = true\n',
        '[[destination]]\nkey = "tracked"\ndial = "sip:desk-3"\ncaller_id = "tracking"\nlabel_source = true\n',
        *ROUTES.values(),
        *(
            f'[[tracking_number]]\nnumber = "+{number}"\nroute = "{key}"\nsource = "radio-jazz"\n'
            for key, number in NUMBERS.items()
        ),
        f'[[tracking_number]]\nnumber = "+{RADIO}"\nroute = "sources"\nsource = "radio-jazz"\n',
        f'[[tracking_number]]\nnumber = "+{ADS}"\nroute = "sources"\nsource = "google-ads"\n',
    ]
)


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, ROUTING) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await asyncio.to_thread(site.node.until_idle)


def _answering(stage: Stage, *phones: str) -> list[Callee]:
    return [stage.phone(name, ring_ms=50) for name in phones]


def _rung(call: Call) -> list[str]:
    return [attempt["destination"] for attempt in call.record["attempts"]]


# -- strategies (C2) ---------------------------------------------------------------------------------------------


async def test_in_order(stage: Stage) -> None:
    stage.phone("desk-1", Behaviour.BUSY)
    stage.phone("desk-2", Behaviour.BUSY)
    stage.phone("desk-3")
    call = await stage.call(NUMBERS["in-order"])
    check(
        call,
        "answered",
        Tried("first", "busy", 486, 17),
        Tried("second", "busy", 486, 17, step=2),
        Tried("third", "answered", 200, 16, step=3, kind="reserve"),
    )


async def test_round_robin(stage: Stage) -> None:
    _answering(stage, "desk-1", "desk-2", "desk-3")
    rung = [_rung(await stage.call(NUMBERS["round"], hold_ms=50)) for _ in range(4)]
    assert rung == [["round-1"], ["round-2"], ["round-3"], ["round-1"]]


async def test_round_robin_goes_on_with_the_next(stage: Stage) -> None:
    """A busy line costs the caller nothing: the next of the round rings."""
    for phone in ("desk-1", "desk-2", "desk-3"):
        stage.phone(phone, Behaviour.BUSY)
    call = await stage.call(NUMBERS["round"])
    assert sorted(_rung(call)) == ["round-1", "round-2", "round-3"]
    assert [attempt["step"] for attempt in call.record["attempts"]] == [1, 2, 3]
    assert call.result.status == 486


async def test_weighted(stage: Stage) -> None:
    """Of four calls two go to the line that weighs two, and not one after the other."""
    _answering(stage, "desk-1", "desk-2", "desk-3")
    rung = [_rung(await stage.call(NUMBERS["weighted"], hold_ms=50))[0] for _ in range(4)]
    assert sorted(rung) == ["heavy-1", "heavy-1", "heavy-2", "heavy-3"]
    assert "heavy-1 heavy-1" not in " ".join([*rung[:-1]])


async def test_longest_idle(stage: Stage) -> None:
    """Whoever has not talked for longest; a line that only was busy has not talked."""
    stage.phone("desk-1", Behaviour.BUSY)
    _answering(stage, "desk-2", "desk-3")
    rung = [_rung(await stage.call(NUMBERS["idle"], hold_ms=50)) for _ in range(2)]
    assert rung == [["idle-1", "idle-2"], ["idle-1", "idle-3"]]
    _answering(stage, "desk-1")
    rung = [_rung(await stage.call(NUMBERS["idle"], hold_ms=50)) for _ in range(3)]
    assert rung == [["idle-1"], ["idle-2"], ["idle-3"]]


# -- sticky (R72) ------------------------------------------------------------------------------------------------


async def test_a_repeat_caller_reaches_the_agent_who_last_answered(stage: Stage) -> None:
    caller = stage.site.caller()
    stage.phone("desk-1", Behaviour.BUSY)
    _answering(stage, "desk-2")
    before = await stage.call(NUMBERS["sticky"], caller=caller)
    assert before.record["agent"] == "boris"
    [first] = _answering(stage, "desk-1")
    again = await stage.call(NUMBERS["sticky"], caller=caller)
    assert first.invites == []
    check(again, "answered", Tried("second", "answered", 200, 16), caller__first_time=False, caller__calls_before=1)
    # Another caller is not stuck to anybody.
    assert _rung(await stage.call(NUMBERS["sticky"])) == ["first"]


async def test_a_sticky_agent_who_is_busy_costs_no_time(stage: Stage) -> None:
    caller = stage.site.caller()
    stage.phone("desk-1", Behaviour.BUSY)
    _answering(stage, "desk-2")
    assert (await stage.call(NUMBERS["sticky"], caller=caller)).record["agent"] == "boris"
    stage.phone("desk-2", Behaviour.BUSY)
    [first] = _answering(stage, "desk-1")
    again = await stage.call(NUMBERS["sticky"], caller=caller)
    assert only_invite(first, again).at - again.result.messages[0].at < stages.slack()
    # Each line rings once, the sticky one first.
    attempts_are(
        again.record,
        Tried("second", "busy", 486, 17),
        Tried("first", "answered", 200, 16, step=2),
    )


# -- exceptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "destination"),
    [
        pytest.param("+77011234567", "second", id="country"),
        pytest.param("+73432345678", "third", id="area code"),
        pytest.param("+78123456789", "reception", id="region by name"),
        pytest.param("+79162220001", "first", id="first-time caller"),
    ],
)
async def test_exceptions_by_region(stage: Stage, caller: str, destination: str) -> None:
    """R89. The route itself is closed, the exceptions have hours of their own."""
    _answering(stage, "desk-1", "desk-2", "desk-3", "desk-4")
    call = await stage.call(NUMBERS["exceptions"], caller=caller)
    assert (call.record["outcome"], _rung(call)) == ("answered", [destination])
    assert call.record["caller"]["country"] == ("KZ" if destination == "second" else "RU")


async def test_exception_for_repeat_callers(stage: Stage) -> None:
    """R71: the second call of the same person takes the other way; a caller without a number is a first-time one."""
    _answering(stage, "desk-1", "desk-2")
    caller = stage.site.caller()
    rung = [_rung(await stage.call(NUMBERS["exceptions"], caller=caller)) for _ in range(2)]
    assert rung == [["first"], ["second"]]
    anonymous = await stage.dial(NUMBERS["exceptions"], caller="anonymous")
    await anonymous.until(200)
    anonymous.hang_up()
    record = await stage.record_of(anonymous)
    assert [attempt["destination"] for attempt in record["attempts"]] == ["first"]
    assert record["caller"]["first_time"] is None


async def test_exceptions_by_source_and_hours(stage: Stage) -> None:
    """A source stands for its sub-sources; the second exception holds inside its hours."""
    _answering(stage, "desk-1", "desk-2", "desk-3")
    radio, ads = await stage.calls(RADIO, ADS)
    assert (_rung(radio), _rung(ads)) == (["second"], ["third"])
    assert radio.record["attribution"]["parent_source"] == "radio"


# -- what comes after a miss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "rung"),
    [
        pytest.param(Behaviour.BUSY, ["first", "second"], id="busy"),
        pytest.param(Behaviour.DECLINE, ["first", "reception"], id="rejected: no list of its own"),
        pytest.param(Behaviour.RING_THEN_UNAVAILABLE, ["first", "third", "second"], id="no answer: a group"),
        pytest.param(Behaviour.NOT_FOUND, ["first"], id="unreachable: an empty list"),
    ],
)
async def test_reserve_by_cause(stage: Stage, behaviour: Behaviour, rung: list[str]) -> None:
    stage.phone("desk-1", behaviour)
    for phone in ("desk-2", "desk-3", "desk-4"):
        stage.phone(phone, Behaviour.BUSY)
    call = await stage.call(NUMBERS["causes"])
    assert _rung(call) == rung
    assert call.result.status == (486 if len(rung) > 1 else 480)
    assert call.record["outcome"] == ("busy" if len(rung) > 1 else "unreachable")


async def test_longest_wait(stage: Stage) -> None:
    """C2: nobody rings a caller for longer than stated; the dialplan's clock counts whole seconds."""
    stage.phone("desk-1", Behaviour.RING_FOR_EVER)
    second = stage.phone("desk-2", Behaviour.RING_FOR_EVER)
    third = stage.phone("desk-3")
    call = await stage.call(NUMBERS["wait"])
    assert len(invites(second, call.caller)) == 1
    assert third.invites == []
    assert 4 < call.record["wait_seconds"] < 5 + stages.slack()
    assert (call.record["outcome"], call.result.status) == ("no_answer", 480)


def _shown(invite: Message) -> str:
    return invite.header("From") or ""


# -- what the phone shows ----------------------------------------------------------------------------------------


async def test_caller_id_of_each_step(stage: Stage) -> None:
    """The source before the caller's name; the tracking number in place of the caller's; and both gone again."""
    labelled = stage.phone("desk-1", Behaviour.BUSY)
    tracked = stage.phone("desk-3", Behaviour.BUSY)
    plain = stage.phone("desk-2")
    call = await stage.call(NUMBERS["shown"], name="Ivan Petrov")
    digits = call.caller[1:]
    assert _shown(only_invite(labelled, call)).startswith(f'"Радио Джаз Ivan Petrov" <sip:{digits}@')
    [invite] = invites(tracked, NUMBERS["shown"])
    assert _shown(invite).startswith(f'"Радио Джаз Ivan Petrov" <sip:{NUMBERS["shown"]}@')
    assert _shown(only_invite(plain, call)).startswith(f'"Ivan Petrov" <sip:{digits}@')
    check(
        call,
        "answered",
        Tried("labelled", "busy", 486, 17, agent="anna"),
        Tried("tracked", "busy", 486, 17, step=2, kind="reserve", agent="clara"),
        Tried("second", "answered", 200, 16, step=3, kind="reserve"),
        caller__name="Ivan Petrov",
    )


async def test_caller_id_without_a_name(stage: Stage) -> None:
    labelled = stage.phone("desk-1")
    call = await stage.call(NUMBERS["shown"])
    assert _shown(only_invite(labelled, call)).startswith(f'"Радио Джаз" <sip:{call.caller[1:]}@')
    assert near(call.record["wait_seconds"], 0.1)
