"""The generated default plans, read and carried out by the real Asterisk (N2, R95)."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.config import routingfile, shipped
from gateway.core import book, hours, prompts, routing
from gateway.pbx import dialvars, planfile
from tests.conftest import NodeFactory
from tests.core import books
from tests.rig import AsteriskNode, waits
from tests.rig.asterisk import ROOT

WEEK = range(7)
TIMETABLES = (
    books.OFFICE,
    books.NIGHT,
    book.BusinessHours(
        "lunch",
        "Asia/Yekaterinburg",
        tuple(
            book.OpeningTime(day, start, end)
            for day in range(6)
            for start, end in ((clock(8, 30), clock(12, 1)), (clock(13), clock(23, 59)))
        ),
        frozenset({date(2026, 12, 31), date(2027, 1, 1), date(2028, 2, 29)}),
    ),
    book.BusinessHours(
        "summer-time",
        "Europe/Berlin",
        tuple(book.OpeningTime(day, clock(2), clock(3, 30)) for day in WEEK),
    ),
    book.BusinessHours(
        "half-an-hour",
        "Australia/Lord_Howe",
        tuple(book.OpeningTime(day, clock(1, 30), clock(2, 15)) for day in WEEK),
    ),
    book.BusinessHours("quarter", "Asia/Kathmandu", (book.OpeningTime(0, clock(0), clock(0, 1)),)),
    book.BusinessHours("always", "America/New_York", tuple(book.OpeningTime(day, clock(0), clock.max) for day in WEEK)),
    book.BusinessHours("never", "Europe/Moscow", ()),
    book.BusinessHours(
        "holidays",
        "Pacific/Kiritimati",
        tuple(book.OpeningTime(day, clock(0), clock.max) for day in WEEK),
        # More than one line of the file holds.
        frozenset(date(2026, 11, 1) + timedelta(days=2 * step) for step in range(90)),
    ),
)

ACT = """
[general]
static = yes
#include dialmark_plan.conf

[dialmark-act]
exten => _[a-z]!,1,Set(SEEN=${SEEN}${IF($["${EXTEN}" = "dial"]?1:0)})
 same => n,Return()
"""


def book_of(timetables: tuple[book.BusinessHours, ...]) -> book.Book:
    """One number and one route per timetable; a message plays when it is closed."""
    base = books.routing_book()
    routes = {
        one.key: replace(
            base.routes["sales"],
            key=one.key,
            hours=one.key,
            after_hours=book.AfterHours.MESSAGE,
            after_hours_message="vm-nobodyavail",
        )
        for one in timetables
    }
    tracking = {
        f"7499000000{place}": book.TrackingNumber(f"+7499000000{place}", route=one.key)
        for place, one in enumerate(timetables)
    }
    return replace(base, hours={one.key: one for one in timetables}, routes=routes, tracking_numbers=tracking)


def instants(timetable: book.BusinessHours) -> list[datetime]:
    """Moments that could go wrong: around each border of weeks with a change of clocks, around midnight, holidays."""
    chance = random.Random(timetable.key)
    starts = [datetime(*day, tzinfo=UTC) for day in ((2026, 10, 22), (2026, 12, 29), (2027, 3, 25), (2027, 4, 1))]
    moments: set[datetime] = set()
    for start in starts:
        moment = start
        # Every change of the timetable in five days, to the second on both sides of it and a minute off.
        for _ in range(6):
            change = hours.next_change(timetable, moment)
            if change is None or change > start + timedelta(days=5):
                break
            moments |= {change + timedelta(seconds=by) for by in (-60, -1, 0, 1, 59, 60)}
            moment = change
        moments |= {start + timedelta(hours=by) for by in range(0, 60, 5)}
    moments |= {datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(31_536_000)) for _ in range(60)}
    return sorted(moments)


def asking(routing_book: book.Book) -> tuple[str, dict[str, list[datetime]]]:
    """Dialplan that asks each number's default plan at each moment and logs one line of answers per number."""
    asked: dict[str, list[datetime]] = {}
    lines = ["[ask]", "exten => s,1,NoOp()"]
    for digits, number in routing_book.tracking_numbers.items():
        timetable = routing_book.hours[routing_book.routes[number.route].hours or ""]
        asked[digits] = instants(timetable)
        lines.append(" same => n,Set(SEEN=)")
        for moment in asked[digits]:
            lines.append(f" same => n,Set(TESTTIME={int(moment.timestamp())})")
            lines.append(f" same => n,Gosub(dialmark-plan,{digits},1)")
        lines.append(f" same => n,Log(NOTICE,ANSWERS {digits} ${{SEEN}})")
    return "\n".join([*lines, " same => n,Log(NOTICE,ANSWERED ALL)", " same => n,Hangup()", ""]), asked


@pytest.fixture(scope="module")
def bare(make_node: NodeFactory) -> AsteriskNode:
    """An Asterisk whose dialplan each test writes; `channel originate` runs it."""
    node = make_node(
        dialplan={"extensions.conf": "[general]\nstatic = yes\n"},
        files={"modules_site.conf": "[modules](+)\nload = res_clioriginate.so\n"},
    )
    node.start()
    return node


def carried_out(node: AsteriskNode, extensions: str, plan: str, last: str) -> str:
    """Log of extension s of context `ask`, up to the line with `last`."""
    log = node.log / "messages.log"
    before = log.stat().st_size
    node.write("dialmark_plan.conf", plan)
    node.write("extensions.conf", extensions)
    node.reload_dialplan()
    node.cli("channel originate Local/s@ask application Wait 30")

    def text() -> str:
        return log.read_bytes()[before:].decode(errors="replace")

    waits.wait_until(lambda: last in text(), 30, last)
    node.until_idle()
    return text()


def test_asterisk_opens_and_closes_at_the_very_second_the_daemon_does(bare: AsteriskNode) -> None:
    """N2: hours, holidays and zones hold without the daemon. Asterisk's TESTTIME stands for the clock."""
    routing_book = book_of(TIMETABLES)
    # GotoIfTime follows TESTTIME, the holidays' STRFTIME takes its time from the plan's text.
    plan = planfile.render(routing_book).replace("${EPOCH}", "${TESTTIME}")
    ask, asked = asking(routing_book)
    log = carried_out(bare, ACT + ask, plan, "ANSWERED ALL")
    answers = dict(re.findall(r"ANSWERS (\d+) ([01]*)", log))
    wrong = [
        f"{timetable.key} at {moment.isoformat()}: Asterisk says {'open' if said == '1' else 'closed'}"
        for (digits, moments), timetable in zip(asked.items(), TIMETABLES, strict=True)
        for moment, said in zip(moments, answers[digits], strict=True)
        if (said == "1") != hours.is_open(timetable, moment)
    ]
    assert wrong == []
    # Both were asked for, or the test shows nothing.
    assert {"0", "1"} <= set("".join(answers.values()))
    assert sum(map(len, asked.values())) > 1000


def test_a_plan_arrives_as_the_daemon_would_have_sent_it(bare: AsteriskNode) -> None:
    """design.md: both inlets set the same variables. Commas, `&`, `|` and `%` are parsed more than once on the way."""
    label = book.Source("radio-jazz", "«Радио» & 1,5 %", book.Channel.OFFLINE, book.CampaignType.OFFLINE)
    shown = replace(books.destination("desk-3"), caller_id=book.CallerIdPolicy.TRACKING, label_source=True)
    route = books.route(
        forward=("desk-1", "desk-2"),
        reserve=(("mobile",), ("desk-3",)),
        reserve_by_cause={book.MissCause.BUSY: (("desk-3",),)},
        concurrency_limit=4,
        unanswered_message="/var/lib/sounds/nobody_1.2",
        answer_for_message=True,
    )
    routing_book = replace(books.routing_book(route), sources={"radio-jazz": label})
    routing_book = replace(routing_book, destinations={**routing_book.destinations, "desk-3": shown})
    number = routing_book.tracking_numbers[books.DID]
    wanted = dialvars.variables(routing.default_plan(number, routing_book).open, "plan")
    logged = "".join(f" same => n,Log(NOTICE,VALUE {name}=${{{name}}}=)\n" for name, _ in wanted)
    ask = f"[ask]\nexten => s,1,Gosub(dialmark-plan,{books.DID},1)\n{logged} same => n,Log(NOTICE,VALUES END)\n"
    log = carried_out(bare, ACT + ask, planfile.render(routing_book), "VALUES END")
    assert re.findall(r"VALUE (\w+)=(.*)=", log) == wanted
    labels = [unquote(value) for name, value in wanted if name in ("DM_L1", "DM_L2", "DM_L3", "DM_L4")]
    assert labels and all(said.startswith("«Радио» & 1,5") for said in labels)


def test_the_example_loads_beside_the_dialplan_without_a_word(make_node: NodeFactory) -> None:
    routing_book = routingfile.parse((ROOT / "config" / "routing.example.toml").read_text(), 12)
    node = make_node(files={planfile.FILE_NAME: planfile.render(routing_book)})
    node.start()
    before = (node.log / "messages.log").stat().st_size
    node.reload_dialplan()
    assert (node.log / "messages.log").read_bytes()[before:].decode() == ""
    assert "DM_PLAN_REVISION=12" in node.cli("dialplan show globals").replace(" ", "")
    for digits in routing_book.tracking_numbers:
        shown = node.cli(f"dialplan show {digits}@dialmark-plan")
        (context,) = re.findall(r"Goto\((dialmark-plan-[0-9a-f]{12}),s,1\)", shown)
        assert "dialmark-act" in node.cli(f"dialplan show s@{context}")


def test_a_number_without_a_plan_still_finds_the_default_destination(make_node: NodeFactory) -> None:
    """N2: the catch-all of inbound.conf and the generated numbers share one context."""
    node = make_node(files={planfile.FILE_NAME: planfile.render(books.routing_book())})
    node.start()
    assert "Goto(dialmark-default,s,1)" in node.cli("dialplan show 74959999999@dialmark-plan")
    values = node.cli("dialplan show globals").replace(" ", "")
    assert "DM_DEFAULT_DIAL=PJSIP/desk-1" in values
    assert "DM_DEFAULT_MEMBERS=desk-1:desk-1" in values


def many(count: int) -> book.Book:
    """A book of so many numbers over fifty distinct plans."""
    base = books.routing_book()
    routes = {
        f"route-{n}": replace(base.routes["sales"], key=f"route-{n}", hours="office", ring_seconds=5 + n)
        for n in range(50)
    }
    tracking = {
        str(number): book.TrackingNumber(f"+{number}", route=f"route-{number % 50}")
        for number in range(74_990_000_000, 74_990_000_000 + count)
    }
    return replace(base, routes=routes, tracking_numbers=tracking)


def test_ten_thousand_numbers(make_node: NodeFactory) -> None:
    """design.md, "The way of a call": `dialplan reload` of 10,000 numbers. The times are shown with `pytest -rP`."""
    routing_book = many(10_000)
    node = make_node()
    node.start()
    started = time.perf_counter()
    text = planfile.render(routing_book)
    rendered = time.perf_counter()
    node.write(planfile.FILE_NAME, text)
    written = time.perf_counter()
    node.reload_dialplan()
    reloaded = time.perf_counter()
    print(f"10,000 numbers: rendered in {rendered - started:.2f} s, reloaded in {reloaded - written:.2f} s")
    assert "Goto(dialmark-plan-" in node.cli("dialplan show 74990009999@dialmark-plan")
    assert text.count("\n[dialmark-plan-") == 50


def contexts(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of each context."""
    for part in re.split(r"(?m)^\[", text)[1:]:
        name, _, body = part.partition("]")
        yield name, [line for line in body.splitlines() if line]


def test_equal_plans_share_a_context_and_the_same_book_gives_the_same_bytes() -> None:
    routing_book = many(200)
    text = planfile.render(routing_book)
    assert text == planfile.render(many(200))
    assert sum(name.startswith("dialmark-plan-") for name, _ in contexts(text)) == 50
    assert dict(contexts(text))["dialmark-plan"][0].startswith("exten => 74990000000,1,Goto(dialmark-plan-")


@pytest.mark.parametrize("value", ["a,b", "a;b", "${SHELL(id)}", "a)b", "a\nb", '"', "a b"])
def test_what_could_break_out_of_its_place_is_refused(value: str) -> None:
    """The routing file's check refuses such a book first; this is the last wall."""
    bad = replace(books.destination("desk-1"), address=value)
    routing_book = books.routing_book()
    routing_book = replace(routing_book, destinations={**routing_book.destinations, "desk-1": bad})
    with pytest.raises(dialvars.UnsafeValue):
        planfile.render(routing_book)


def test_an_unsafe_default_destination_is_refused() -> None:
    bad = replace(books.destination("desk-9"), address="x)\nexten => 1,1,System(id)")
    with pytest.raises(dialvars.UnsafeValue):
        planfile.render(books.routing_book(destinations=(bad,), default_destination="desk-9"))


def test_the_spool_is_a_global_and_none_records_nothing() -> None:
    """N3: without a folder the dialplan asks nobody and records nothing."""
    routing_book = books.routing_book()
    assert re.findall(r"(?m)^DM_SPOOL =.*$", planfile.render(routing_book)) == ["DM_SPOOL ="]
    spooled = planfile.render(routing_book, spool=Path("/var/spool/asterisk/dialmark"))
    assert re.findall(r"(?m)^DM_SPOOL =.*$", spooled) == ["DM_SPOOL = /var/spool/asterisk/dialmark"]


@pytest.mark.parametrize("folder", ["/var/spool/a b", "/x),System(id", "/x;y", "/" + "x" * 400])
def test_a_spool_that_mixmonitor_would_misread_is_refused(folder: str) -> None:
    with pytest.raises(dialvars.UnsafeValue):
        planfile.render(books.routing_book(), spool=Path(folder))


def test_a_message_has_the_notice_it_was_left_after() -> None:
    """N3: id and version of the prompt go into the receipt."""
    one = replace(books.routing_book(books.route(unanswered=book.Unanswered.VOICEMAIL)), words=shipped.catalogue())
    notice = prompts.Ready("leave_message.ru", "/p/leave_message", "a" * 32, 3.0)
    ready = prompts.Shelf({prompts.Wanted("leave_message", "ru"): notice})
    text = planfile.render(one, ready)
    assert "DM_UN=voicemail,DM_UP=/p/leave_message,DM_UI=leave_message.ru,DM_UV=" + "a" * 32 in text
    assert "DM_UI" not in planfile.render(one)


@pytest.mark.parametrize("is_on", [True, False])
def test_machines_are_looked_for_where_the_route_says_so(is_on: bool) -> None:
    route = books.route(accept=book.Acceptance.PRESS_1, answering_machine_detection=is_on)
    assert ("DM_AD=1" in planfile.render(books.routing_book(route))) == is_on
