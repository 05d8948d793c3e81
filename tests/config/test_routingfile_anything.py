"""Whatever a routing file says: it is refused with errors, or its book answers every call within the limits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as some

from gateway.config import limits, routingfile
from gateway.core import book, routing
from gateway.pbx import dialvars

from .files import EXAMPLE

EXAMPLE_TEXT = EXAMPLE.read_text(encoding="utf-8")
EXAMPLE_LINES = EXAMPLE_TEXT.splitlines()
WORDS = sorted(set(re.findall(r'[A-Za-z0-9_+*:@.-]+|"[^"\n]*"|[\[\]{}=,#]', EXAMPLE_TEXT)))

_line_numbers = some.integers(min_value=0, max_value=len(EXAMPLE_LINES) - 1)
_odd_words = some.sampled_from(
    ["-1", "0", "9" * 30, "true", "''", "[]", "{}", "1.5", "2026-02-30", "2026-01-01", "nan"]
)
_words = some.sampled_from(WORDS) | _odd_words | some.text(max_size=8)


@some.composite
def mutated_examples(draw: some.DrawFn) -> str:
    """The example with lines taken out, doubled, swapped, and words replaced."""
    lines = list(EXAMPLE_LINES)
    for _ in range(draw(some.integers(min_value=1, max_value=6))):
        at = draw(_line_numbers) % max(1, len(lines))
        match draw(some.sampled_from(["delete", "double", "swap", "word", "word", "text"])):
            case "delete":
                del lines[at : at + 1]
            case "double":
                lines.insert(at, lines[at])
            case "swap":
                other = draw(_line_numbers) % len(lines)
                lines[at], lines[other] = lines[other], lines[at]
            case "word":
                words = re.findall(r"\w+|\W", lines[at])
                if words:
                    words[draw(some.integers(0, len(words) - 1))] = draw(_words)
                lines[at] = "".join(words)
            case _:
                lines[at] = draw(some.text(max_size=30))
    return "\n".join(lines)


@some.composite
def files_by_parts(draw: some.DrawFn) -> str:
    """Routes with any of their keys over a fixed set of destinations: most of these files are right."""
    phones = [f"d{index}" for index in range(10)]
    shows = draw(some.sampled_from(["", "label_source = true\n", 'caller_id = "tracking"\n']))
    short_forms = [] if shows else ["tel:+74951234567", "sip:extra", "local:600@from-internal"]
    phone = some.sampled_from([*phones, *short_forms])
    group = some.lists(phone, min_size=1, max_size=4, unique=True).map(
        lambda keys: "[" + ", ".join(f'"{key}"' for key in keys) + "]"
    )
    steps = some.lists(group | phone.map(lambda key: f'"{key}"'), max_size=3).map(lambda items: f"[{', '.join(items)}]")
    parts = {
        "strategy": some.sampled_from([f'"{strategy}"' for strategy in book.Strategy]),
        "reserve": steps,
        "reserve_by_cause.busy": steps,
        "reserve_by_cause.unreachable": steps,
        "ring_seconds": some.integers(3, 300).map(str),
        "rating": some.sampled_from(['{ by = "agent" }', '{ by = "both", questions = ["goal"] }']),
        "longest_wait_seconds": some.integers(5, 900).map(str),
        "sticky_days": some.integers(0, 30).map(str),
        "concurrency_limit": some.integers(1, 99).map(str),
        "unanswered_message": some.just('"sorry"'),
    }
    text = 'site = [{key = "s", time_zone = "Europe/Moscow", country = "RU", default_destination = "d0", '
    text += 'outbound_trunk = "t"}]\nlocal.contexts = ["from-internal"]\n'
    text += 'trunk = [{key = "t", server = "sip.example.net"}]\n'
    text += 'agent = [{key = "a", endpoint = "p1"}, {key = "b", endpoint = "p2"}]\n'
    text += '[[hours]]\nkey = "office"\nmon-fri = "09:00-18:00"\n'
    for index, key in enumerate(phones):
        text += f'[[destination]]\nkey = "{key}"\ndial = "sip:p{index}"\nweight = {index + 1}\n{shows}'
    text += '[[source]]\nkey = "radio"\nname = "Радио Классика и Джаз"\nchannel = "offline"\n'
    text += f'[[route]]\nkey = "r"\nforward = {draw(group)}\n'
    for name, value in parts.items():
        if draw(some.booleans()):
            text += f"{name} = {draw(value)}\n"
    after_hours = some.sampled_from(["", 'hours = "office"\nafter_hours_message = "m"\nafter_hours = "reserve"\n'])
    text += draw(after_hours | group.map(lambda keys: f'hours = "office"\nafter_hours_destinations = [{keys}]\n'))
    for condition in draw(some.lists(some.sampled_from(["first_time = true", 'regions = ["KZ"]', 'hours = "office"']))):
        text += f"[[route.exception]]\n{condition}\nforward = {draw(group)}\nreserve = {draw(steps)}\n"
    return text + '[[tracking_number]]\nnumber = "+74990000001"\nroute = "r"\nsource = "radio"\n'


_callers = some.sampled_from(
    ["", "79161234567", "77012345678", "74957770001", "78005551111", "9" * 3_000, "&${SHELL(id)}\r\n"]
)
_moments = some.integers(0, 14 * 24).map(lambda hours: datetime(2026, 12, 20, tzinfo=UTC) + timedelta(hours=hours))


@some.composite
def histories(draw: some.DrawFn, agents: list[str], destinations: list[str]) -> routing.History:
    at = draw(_moments)
    return routing.History(
        calls_before=draw(some.none() | some.integers(0, 3)),
        last_agent=draw(some.none() | some.sampled_from([*agents, "gone"])),
        last_agent_at=at,
        turns={"r": draw(some.integers(0, 1_000)), "ural": draw(some.integers(0, 1_000))},
        idle_since={key: draw(_moments) for key in destinations[:3]},
    )


def check_plan(made: book.Book, plan: routing.Plan) -> None:
    """The plan fits the border: steps, members, alphabet and bytes."""
    assert len(plan.steps) <= book.MAX_STEPS
    assert plan.why
    route = made.routes[plan.route] if plan.route else book.Route("", "", ())
    for step in plan.steps:
        assert 1 <= len(step.destinations) <= book.MAX_MEMBERS
        assert 0 < step.ring_seconds <= plan.longest_wait_seconds
        assert re.fullmatch(r"[A-Za-z0-9_.+:/@&-]{1,400}", limits.dial_string(step))
        assert re.fullmatch(r"[A-Za-z0-9_.+:/@&%|~-]{1,400}", limits.journal_members(step))
        assert len(quote(step.caller_label or "", safe="")) <= routing.MAX_LABEL_BYTES
        assert limits.payload_bytes(route, step) <= limits.MAX_PAYLOAD_BYTES
        for after in (step.next_after or {}).values():
            assert 0 <= after <= len(plan.steps)
    assert limits.answer_bytes(route, made, plan.steps) <= limits.MAX_ANSWER_BYTES
    pairs = dialvars.variables(plan, "agi")
    line = f'EXEC MSet "{",".join(f"{name}={value}" for name, value in pairs)}"\n'
    assert len(line.encode()) <= limits.answer_bytes(route, made, plan.steps)
    check_ends(plan)


def check_ends(plan: routing.Plan) -> None:
    """From every step, whatever its cause, the call comes to an end and never rings backwards."""
    for number, step in enumerate(plan.steps, start=1):
        for after in (step.next_after or {}).values():
            assert after == 0 or after > number


def check_book(made: book.Book, data: some.DataObject) -> None:
    history = data.draw(histories(list(made.agents), list(made.destinations)))
    for did, number in [*made.tracking_numbers.items(), ("70000000000", None)]:
        question = routing.Question("id", did, data.draw(_callers), data.draw(_moments))
        check_plan(made, routing.decide(question, made, history))
        default = routing.default_plan(number, made)
        check_plan(made, default.open)
        if default.closed is not None:
            check_plan(made, default.closed)


@settings(max_examples=300, deadline=None)
@given(text=mutated_examples(), data=some.data())
def test_a_mutated_file_is_refused_with_errors_or_answers_every_call(text: str, data: some.DataObject) -> None:
    """R49."""
    try:
        made = routingfile.parse(text, 1)
    except routingfile.RoutingErrors as refused:
        assert refused.errors
        assert all(1 <= error.line <= text.count("\n") + 1 and error.message for error in refused.errors)
        assert str(refused)
        return
    assert routingfile.difference(made, made) == []
    assert routingfile.difference(None, made)
    check_book(made, data)


@settings(max_examples=300, deadline=None)
@given(text=files_by_parts(), data=some.data())
def test_any_right_file_answers_every_call(text: str, data: some.DataObject) -> None:
    """C2, C3: hypothesis writes the routes."""
    try:
        made = routingfile.parse(text, 1)
    except routingfile.RoutingErrors:
        return
    check_book(made, data)


@given(text=some.text())
def test_any_text_is_refused_with_errors(text: str) -> None:
    try:
        routingfile.parse(text, 1)
    except routingfile.RoutingErrors as refused:
        assert refused.errors
    routingfile.file_revision(text)
