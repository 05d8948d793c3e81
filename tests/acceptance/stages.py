"""What the call tests stand on: a site with a carrier, desks and routes, and a whole record held against both ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.conftest import NodeFactory
from tests.remeasuring import RecordsDiffer
from tests.rig import AsteriskNode, Behaviour, Callee, Caller, CallResult, Daemon, Rig
from tests.rig.dialmark import Record
from tests.rig.dialmark import Settings as DaemonSettings
from tests.rig.sipp import Message
from tests.rig.waits import Patience, wait_until

QUIET_SECONDS, BUSY_SECONDS = 0.3, 0.1


def slack() -> float:
    """Seconds that a record may differ from what a party saw.

    Each takes the time when it gets to run, which on a machine with more to do than it has cores is later.
    """
    return QUIET_SECONDS + BUSY_SECONDS * os.getloadavg()[0] / (os.cpu_count() or 1)


PHONES = ("desk-1", "desk-2", "desk-3", "desk-4")

SITE = """
[[site]]
key = "clinic"
time_zone = "Europe/Moscow"
country = "RU"
language = "ru"
default_destination = "reception"
outbound_trunk = "carrier-a"
business_number = "+74990000000"

[local]
contexts = ["pbx"]

[[trunk]]
key = "carrier-a"
country = "RU"
hosts = ["{carrier_a.host}"]
server = "{carrier_a}"

[[trunk]]
key = "carrier-b"
country = "RU"
hosts = ["{carrier_b.host}"]
server = "{carrier_b}"

[[source]]
key = "google-ads"
name = "Google Ads"
channel = "search"
medium = "cpc"
campaign = "spring"

[[source]]
key = "radio"
channel = "offline"

[[source]]
key = "radio-jazz"
name = "Радио Джаз"
channel = "offline"
parent = "radio"

[[agent]]
key = "anna"
endpoint = "desk-1"

[[agent]]
key = "boris"
endpoint = "desk-2"

[[agent]]
key = "clara"
endpoint = "desk-3"

[[destination]]
key = "first"
dial = "sip:desk-1"

[[destination]]
key = "second"
dial = "sip:desk-2"

[[destination]]
key = "third"
dial = "sip:desk-3"

[[destination]]
key = "reception"
dial = "sip:desk-4"

[[destination]]
key = "mobile"
dial = "tel:+79160000001"

[[destination]]
key = "far"
dial = "tel:+79160000002"
trunk = "carrier-b"
"""

AGENTS = {"first": "anna", "second": "boris", "third": "clara"}
ANSWER = Behaviour.ANSWER


class Site:
    """One node and its daemon, for all tests of a module. Texts may hold ``{carrier_a}`` and ``{folder}``.

    ``records=True`` gives the daemon a key ring, ``steady_ring=True`` the caller ringing without pauses.
    """

    def __init__(
        self,
        make_node: NodeFactory,
        routing: str,
        *,
        phones: Sequence[str] = PHONES,
        files: Mapping[str, str] | None = None,
        settings: DaemonSettings | None = None,
        records: bool = False,
        **options: Any,
    ) -> None:
        self.node: AsteriskNode = make_node(phones=phones, files=files, **options)
        self.daemon = Daemon(self.node, settings, records=records)
        self.routing = self.filled(routing)
        self._numbers = itertools.count(1)

    def filled(self, text: str) -> str:
        """With this node's addresses and folder."""
        places = {name.replace("-", "_"): place for name, place in self.node.carriers.items()}
        for name, place in places.items():
            text = text.replace(f"{{{name}.host}}", place.host).replace(f"{{{name}}}", str(place))
        return text.replace("{folder}", str(self.node.folder))

    def start(self) -> None:
        """Routing applied, both up, the trunk and the plan known to Asterisk."""
        self.node.start()
        self.daemon.apply(self.routing)
        self.daemon.begin()
        self.daemon.until_plan()
        self.node.until_endpoint("carrier-a")

    def caller(self) -> str:
        """A Russian mobile number that nobody has called from yet."""
        return f"+7916{next(self._numbers):07}"

    def conserved(self) -> None:
        """N1: `verify` finds nothing missing, doubled or invented, once all calls are over."""
        self.node.until_idle()
        wait_until(lambda: not self.daemon.query("SELECT 1 FROM calls WHERE state = 'open'"), 60, "no open record")
        found: Record = {}

        def is_read() -> bool:
            found.update(self.daemon.verify())
            return not (found["waiting"] or found["missing"])

        # A daemon that was stopped, or got no processor, reads of calls that are long over.
        with contextlib.suppress(TimeoutError):
            wait_until(is_read, 60, "all calls read of")
        wrong = [key for key in ("missing", "doubled", "invented", "waiting", "damaged_rows") if found[key]]
        if wrong or found["channels"] != found["records"]:
            raise RecordsDiffer(f"{', '.join(wrong) or 'channels and records'}: {found}")


@contextlib.contextmanager
def up(made: Site) -> Iterator[Site]:
    """The site, started, and balanced at the end."""
    try:
        made.start()
        yield made
        made.conserved()
    finally:
        made.daemon.stop()


@contextlib.contextmanager
def site(make_node: NodeFactory, routing: str, **options: Any) -> Iterator[Site]:
    """A :class:`Site` that is up, and is balanced at the end."""
    with up(Site(make_node, routing, **options)) as made:
        yield made


@dataclass(frozen=True)
class Tried:
    """One attempt that a record must hold."""

    destination: str
    outcome: str
    sip: int | None = None
    q850: int | None = None
    step: int = 1
    kind: str = "forward"
    agent: str | None = ""
    """"" is the destination's own agent."""


@dataclass(frozen=True)
class Call:
    """What the caller saw, and the record."""

    result: CallResult
    record: Record
    caller: str
    number: str


@dataclass
class Stage:
    """One test's parties on a site."""

    site: Site
    rig: Rig
    placed: int = field(default=0, init=False)

    @property
    def node(self) -> AsteriskNode:
        return self.site.node

    @property
    def daemon(self) -> Daemon:
        return self.site.daemon

    def phone(self, name: str, behaviour: Behaviour = ANSWER, **options: Any) -> Callee:
        """See :meth:`tests.rig.Rig.callee`."""
        return self.rig.callee(name, behaviour, **options)

    async def call(self, number: str, *, caller: str | None = None, **options: Any) -> Call:
        """Place a call and wait for its end and its record."""
        caller = caller or self.site.caller()
        result = await self.rig.call(number, caller=caller, **options)
        assert result.call_id is not None
        return Call(result, await self.daemon.until_record_of(result.call_id), caller, number)

    async def calls(self, *numbers: str, **options: Any) -> list[Call]:
        """The same, all at once."""
        return list(await asyncio.gather(*(self.call(number, **options) for number in numbers)))

    async def dial(self, number: str | bytes, *, caller: str | None = None, **options: Any) -> Caller:
        """A caller held by the hand."""
        options.setdefault("from_header", f"<sip:{caller or self.site.caller()}@carrier.invalid>")
        return await self.rig.dial(number, **options)

    async def record_of(self, caller: Caller) -> Record:
        """The record of a call that has ended."""
        return await self.daemon.until_record_of(caller.call_id)

    async def until_journal(self, text: str, seconds: float = 30.0) -> None:
        """Return when the journal holds this text: the dialplan has come so far."""
        await asyncio.to_thread(wait_until, lambda: text in self.journal(), seconds, f"{text} in the journal")

    def journal(self) -> str:
        """All of it."""
        return self.node.journal.read_text(errors="replace") if self.node.journal.exists() else ""

    async def events_of(self, call_id: str, last: str, seconds: float = 30.0) -> list[Record]:
        """Events of a call, waited for until one of type ``last`` is among them."""
        patience = Patience(seconds)
        while True:
            told = self._told_of(call_id)
            if any(event["type"] == last for event in told):
                return told
            if patience.is_over():
                raise TimeoutError(f"no {last} of {call_id}, only {[event['type'] for event in told]}")
            await asyncio.sleep(0.05)

    def _told_of(self, call_id: str) -> list[Record]:
        return [event for event in self.daemon.events() if event["data"].get("call_id") == call_id]


def tried(record: Record) -> list[Tried]:
    """The attempts of a record, to compare."""
    return [
        Tried(a["destination"], a["outcome"], a["sip_code"], a["q850_cause"], a["step"], a["kind"], a["agent"])
        for a in record["attempts"]
    ]


def attempts_are(record: Record, *wanted: Tried) -> None:
    """Every attempt, in order, with its codes."""
    expected = [
        one
        if one.agent != ""
        else Tried(one.destination, one.outcome, one.sip, one.q850, one.step, one.kind, AGENTS.get(one.destination))
        for one in wanted
    ]
    assert tried(record) == expected


def check(call: Call, outcome: str, *attempts: Tried, **expected: Any) -> None:
    """The whole record: what every call has in common, measured against the caller's trace, and what is given.

    ``expected`` names further fields; a name with ``__`` reaches inside: ``attribution__source="radio"``.
    """
    record, result = call.record, call.result
    is_answered = outcome == "answered"
    assert record["outcome"] == outcome, record
    assert record["missed"] is (outcome not in ("answered", "banned"))
    attempts_are(record, *attempts)
    wanted: dict[str, Any] = {
        "revision": 1,
        "node": "rig",
        "direction": "inbound",
        "state": "closed",
        "site": "clinic",
        "time_zone": "Europe/Moscow",
        "cause": None,
        "ended_by": {"caller": "caller", "callee": "agent", None: "system"}[result.ended_by],
        "route_source": "agi",
        "agi_status": "SUCCESS",
        "trunk": "carrier-a",
        "hold_seconds": 0.0,
        "experience__prompt_seconds": 0.0,
        "caller__number": call.caller,
        "caller__raw": call.caller,
        "caller__name": None,
        "caller__country": "RU",
        "caller__anonymous": False,
        "caller__first_time": True,
        "caller__calls_before": 0,
        "tracking__number": f"+{call.number}",
        "tracking__kind": "static",
        "recording_consent__result": "not_asked",
        "sip_call_id": result.call_id,
        **expected,
    }
    taken = [one for one in record["attempts"] if one["outcome"] == "answered"]
    if is_answered:
        wanted.setdefault("destination", taken[0]["destination"])
        wanted.setdefault("agent", taken[0]["agent"])
    else:
        wanted |= {"destination": None, "agent": None, "answered_at": None, "talk_seconds": 0.0}
    assert {name: within(record, name) for name in wanted} == wanted
    assert uuid.UUID(record["call_id"]).version == 4
    _check_times(record, result, is_answered=is_answered)


def within(record: Mapping[str, Any], name: str) -> Any:
    """The value at ``attribution__source``."""
    value: Any = record
    for key in name.split("__"):
        value = value[key]
    return value


def _check_times(record: Record, result: CallResult, *, is_answered: bool) -> None:
    start = result.messages[0].at
    assert near(seconds_of(record["started_at"]), start)
    assert result.setup_ms is not None
    assert near(record["wait_seconds"], result.setup_ms / 1000)
    if is_answered:
        assert result.talk_ms is not None
        assert near(record["talk_seconds"], result.talk_ms / 1000)
        assert near(seconds_of(record["answered_at"]), start + result.setup_ms / 1000)
        assert near(seconds_of(record["ended_at"]), start + (result.setup_ms + result.talk_ms) / 1000)
    else:
        assert near(seconds_of(record["ended_at"]), start + result.setup_ms / 1000)
    assert 0 <= record["experience"]["silent_seconds"] < slack()
    if record["attempts"]:
        assert 0 <= record["experience"]["post_dial_delay_seconds"] < slack()


def near(one: float, other: float, *, more: float = 0.0) -> bool:
    """Within the slack and so many seconds more."""
    return abs(one - other) <= slack() + more


def seconds_of(timestamp: str) -> float:
    """RFC 3339 to seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp()


def invites(phone: Callee, caller: str) -> list[Message]:
    """The INVITEs that a phone got for this caller.

    Asterisk may still be sending one of an earlier call, to a phone that was dead then: what has not been answered with
    a provisional response cannot be cancelled (RFC 3261, 9.1).
    """
    return [message for message in phone.invites if f"sip:{caller.lstrip('+')}@" in (message.header("From") or "")]


def only_invite(phone: Callee, call: Call) -> Message:
    """The one INVITE that a phone got for this call, which shows the caller's number."""
    [invite] = invites(phone, call.caller)
    return invite


def rang_at_once(result: CallResult) -> None:
    """The caller heard ringing before anything else could have happened, and nobody answered for an agent."""
    first = result.first(180)
    assert first is not None and first < 1000 * slack()
