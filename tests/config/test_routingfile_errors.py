from __future__ import annotations

import time

import pytest

from gateway.config import problems, routingfile

from .files import EXAMPLE, SMALL, changed, errors_of, with_line

SALES_RESERVE = 'reserve = ["second"]'


def line_of(text: str, part: str) -> int:
    """The line on which `part` stands first."""
    return text[: text.index(part)].count("\n") + 1


def expected_line(old: str, new: str, name: str) -> int:
    """Where `name` stands in or around the change of `SMALL`; if it stands nowhere, where its table begins."""
    text, start = SMALL.replace(old, new), SMALL.index(old)
    at = text.find(name, text.rindex("\n", 0, start), start + len(new))
    return text[: at if at >= 0 else text.rindex("\n[", 0, start) + 1].count("\n") + 1


CHANGES: list[tuple[str, str, str, str, str | None]] = [
    # what stands in the file, what replaces it, key, part of the message, suggestion
    (SALES_RESERVE, 'resreve = ["second"]', "route.sales.resreve", "no such key", "reserve"),
    (SALES_RESERVE, 'reserve = ["secnod"]', "route.sales.reserve", "no destination 'secnod'", "second"),
    (SALES_RESERVE, "reserve = [7]", "route.sales.reserve", "a destination or a list", None),
    (SALES_RESERVE, 'reserve = [["desk", 7]]', "route.sales.reserve", "in quotes", None),
    (SALES_RESERVE, "reserve = [[]]", "route.sales.reserve", "a destination or a list", None),
    (SALES_RESERVE, 'reserve = [["desk", "desk"]]', "route.sales.reserve", "twice", None),
    (SALES_RESERVE, 'reserve = "second"', "route.sales.reserve", "must be a list", None),
    (SALES_RESERVE, 'reserve = ["tel:+7499"]', "route.sales.reserve", "not a valid telephone number", None),
    (SALES_RESERVE, 'reserve = ["tel:12"]', "route.sales.reserve", "not a valid number of RU", None),
    (SALES_RESERVE, 'reserve = ["sip:a&PJSIP/b"]', "route.sales.reserve", "endpoint's name", None),
    (SALES_RESERVE, 'reserve = ["sip:carrier-a"]', "route.sales.reserve", "is a trunk", None),
    (SALES_RESERVE, 'reserve = ["sip:carrier-a-out"]', "route.sales.reserve", "is a trunk", None),
    (SALES_RESERVE, 'reserve = ["local:600"]', "route.sales.reserve", "local:EXTENSION@CONTEXT", None),
    (SALES_RESERVE, 'reserve = ["local:600@x/n"]', "route.sales.reserve", "local:EXTENSION@CONTEXT", None),
    (SALES_RESERVE, 'reserve = ["local:1@from-intenal"]', "route.sales.reserve", "not in the list", "from-internal"),
    (SALES_RESERVE, 'reserve = ["local:1@Dialmark-x"]', "route.sales.reserve", "Dialmark's own", None),
    ('contexts = ["from-internal"]', 'contexts = ["dialmark-act"]', "local.contexts", "Dialmark itself", None),
    ('contexts = ["from-internal"]', 'contexts = ["a b"]', "local.contexts", "names of dialplan contexts", None),
    (SALES_RESERVE, 'strategy = "round-robin"', "route.sales.strategy", "one of all, in_order", "round_robin"),
    (SALES_RESERVE, "strategy = 3", "route.sales.strategy", "a text in quotes, not a whole number", None),
    (SALES_RESERVE, "ring_seconds = 2", "route.sales.ring_seconds", "from 3 to 300", None),
    (SALES_RESERVE, "ring_seconds = true", "route.sales.ring_seconds", "not true or false", None),
    (SALES_RESERVE, "ring_seconds = 2.5", "route.sales.ring_seconds", "not a number with a point", None),
    (SALES_RESERVE, "answer_for_message = 1", "route.sales.answer_for_message", "must be true or false", None),
    (SALES_RESERVE, 'unanswered_message = "a&b"', "route.sales.unanswered_message", "sound's name", None),
    (SALES_RESERVE, 'unanswered_message = "../x"', "route.sales.unanswered_message", "sound's name", None),
    (SALES_RESERVE, 'site = "clnic"', "route.sales.site", "no site 'clnic'", "clinic"),
    (SALES_RESERVE, 'trunk = "carrier-b"', "route.sales.trunk", "no trunk", "carrier-a"),
    (SALES_RESERVE, 'hours = "ofice"', "route.sales.hours", "no [[hours]] 'ofice'", "office"),
    (SALES_RESERVE, 'hours = "office"', "route.sales.hours", "nobody would ring after hours", None),
    (SALES_RESERVE, 'after_hours = "reserve"', "route.sales.after_hours", "without hours", None),
    (SALES_RESERVE, 'hours = { mno = "9:00-18:00" }', "route.sales.hours.mno", "neither a day", "mon"),
    (SALES_RESERVE, "reserve_by_cause = { bussy = [] }", "route.sales.reserve_by_cause.bussy", "no such key", "busy"),
    (
        SALES_RESERVE,
        'reserve_by_cause = { busy = ["dekS"] }',
        "route.sales.reserve_by_cause.busy",
        "no destination",
        "desk",
    ),
    ('forward = ["desk"]', "forward = []", "route.sales.forward", "must be a list of destinations", None),
    ('forward = ["desk"]', 'forward = "desk"', "route.sales.forward", "must be a list of destinations", None),
    ('forward = ["desk"]', 'forward = ["desk", "desk"]', "route.sales.forward", "twice", None),
    ('key = "sales"', 'key = "Sales"', "route.Sales.key", "a-z 0-9", None),
    ('key = "sales"', f'key = "{"s" * 25}"', f"route.{'s' * 25}.key", "1 to 24", None),
    ('key = "sales"', "key = 5", "route[1].key", "a-z 0-9", None),
    ('key = "second"', 'key = "desk"', "destination.desk.key", "two destination tables", None),
    ('dial = "sip:desk-2"', 'dial = "desk-2"', "destination.second.dial", "sip:ENDPOINT", None),
    ('dial = "sip:desk-2"', 'name = "x"', "destination.second.dial", "is missing", None),
    ('dial = "sip:desk-2"', 'dial = "sip:x"\ntrunk = "carrier-a"', "destination.second.trunk", "only for", None),
    ('route = "sales"', 'route = "sale"', "tracking_number.+74990000001.route", "no route 'sale'", "sales"),
    (
        'route = "sales"',
        'route = "sales"\nsource = "raido"',
        "tracking_number.+74990000001.source",
        "no source",
        "radio",
    ),
    ('"+74990000001"', '"+7499000000"', "tracking_number.+7499000000.number", "not a valid telephone", None),
    ('"+74990000001"', '"0201234567"', "tracking_number.0201234567.number", "not a valid number of RU", None),
    ('"+74990000001"', "74990000001", "tracking_number[1].number", "text in quotes, not a whole number", None),
    ('"+74990000001"', '"+7499\\r\\n"', "tracking_number[1].number", "printable", None),
    (
        'time_zone = "Europe/Moscow"',
        'time_zone = "Europe/Moskow"',
        "site.clinic.time_zone",
        "no time zone",
        "Europe/Moscow",
    ),
    ('time_zone = "Europe/Moscow"', 'time_zone = "../etc"', "site.clinic.time_zone", "no time zone", None),
    ('country = "RU"', 'country = "ru"', "site.clinic.country", "ISO code", "RU"),
    ('country = "RU"', 'country = "RU"\nlanguage = "russian"', "site.clinic.language", "language code", None),
    (
        'default_destination = "desk"',
        'default_destination = "dsk"',
        "site.clinic.default_destination",
        "no dest",
        "desk",
    ),
    ('channel = "offline"', 'channel = "ofline"', "source.radio.channel", "must be one of", "offline"),
    ('channel = "offline"', 'channel = "offline"\nparent = "radio"', "source.radio.parent", "leads back", None),
    ('hosts = ["203.0.113.5"]', 'hosts = ["203.0.113.5/24"]', "trunk.carrier-a.hosts", "IP address", "203.0.113.0/24"),
    ('hosts = ["203.0.113.5"]', 'hosts = ["203.0.113.500"]', "trunk.carrier-a.hosts", "IP address", None),
    ('hosts = ["203.0.113.5"]', 'hosts = ["a;b"]', "trunk.carrier-a.hosts", "IP address", None),
    ('hosts = ["203.0.113.5"]', "hosts = []", "trunk.carrier-a.hosts", "at least one", None),
    ('server = "sip.example.net"', 'server = "h:99999"', "trunk.carrier-a.server", "host name or address", None),
    ('server = "sip.example.net"', 'server = "h"\ndid_from = "uri"', "trunk.carrier-a.did_from", "one of", "ruri"),
    ('server = "sip.example.net"', 'server = "h"\ntransport = "tpc"', "trunk.carrier-a.transport", "one of", "tcp"),
    ('mon-fri = "09:00-18:00"', 'mon-fri = "9-18"', "hours.office.mon-fri", "hours like", None),
    ('mon-fri = "09:00-18:00"', 'mon-fri = "09:00-25:00"', "hours.office.mon-fri", "hours like", None),
    ('mon-fri = "09:00-18:00"', 'mon-fri = "09:00-09:00"', "hours.office.mon-fri", "hours like", None),
    ('mon-fri = "09:00-18:00"', 'holidays = ["2026-12-31"]', "hours.office", "no opening times", None),
    ('mon-fri = "09:00-18:00"', 'mon = "closed"\nholidays = ["31.12."]', "hours.office.holidays", "days like", None),
    ('mon-fri = "09:00-18:00"', 'mon = "closed"\nholdays = []', "hours.office.holdays", "neither a day", "holidays"),
    ('reason = "calls daily"', 'action = "busy"', "ban.+74957770001.reason", "is missing", None),
    ('reason = "calls daily"', 'reason = "x"\naction = "message"', "ban.+74957770001.action", "needs a message", None),
    ('reason = "calls daily"', 'reason = "x"\nexpires = "soon"', "ban.+74957770001.expires", "a day or a moment", None),
    ('reason = "calls daily"', 'reason = "x"\nexpires = 9999-12-31', "ban.+74957770001.expires", "a day or a", None),
    ('"+74957770001"', '"*"', "ban.*.number", "a prefix must be", None),
    ("[[tracking_number]]", "[[tracking_numbr]]", "tracking_numbr", "no such key", "tracking_number"),
    ("[[ban]]", "[[flood]]", "flood", "no such key", None),
]


@pytest.mark.parametrize(("old", "new", "key", "message", "suggestion"), CHANGES)
def test_an_error_has_line_key_reason_and_guess(
    old: str, new: str, key: str, message: str, suggestion: str | None
) -> None:
    text = changed(old, new)
    found = [error for error in errors_of(text) if error.key == key and message in error.message]
    assert len(found) == 1, [str(error) for error in errors_of(text)]
    assert found[0].suggestion == suggestion
    assert found[0].line == expected_line(old, new, key.rpartition(".")[2])


def test_all_errors_come_at_once_in_the_order_of_lines() -> None:
    text = SMALL.replace('"Europe/Moscow"', '"Europe/Moskau"').replace(
        'reserve = ["second"]', 'reserve = [\n"secnd"\n]'
    )
    text = text.replace("[[ban]]", "[[ban]]\nreson = 1")
    assert [(error.line, error.key) for error in errors_of(text)] == [
        (3, "site.clinic.time_zone"),
        (line_of(text, '"secnd"'), "route.sales.reserve"),
        (line_of(text, "reson"), "ban.+74957770001.reson"),
    ]


def test_a_missing_key_is_reported_at_its_table() -> None:
    text = changed('default_destination = "desk"\n', "")
    assert [(error.line, error.key) for error in errors_of(text)] == [(1, "site.clinic.default_destination")]


def test_an_error_reads_as_a_sentence() -> None:
    (error,) = errors_of(changed(SALES_RESERVE, 'resreve = ["second"]'))
    assert str(error) == "line 39: route.sales.resreve: there is no such key here. Did you mean 'reserve'?"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb = [\n", 3, "this is not TOML"),
        ("a = 1\na = 2\n", 2, "this is not TOML"),
        ('a = 1\nb = "x\n', 2, "this is not TOML"),
        ("a = " + "[" * 100_000, 1, "nested too deeply"),
        ("a = " + "9" * 5_000, 1, "this is not TOML"),
        ("#" * (routingfile.MAX_CHARACTERS + 1), 1, "more than"),
        ("", 1, "has no [[site]]"),
        ("site = 3", 1, "must be a list"),
        ("site = [3]\nroute = {}", 1, "must be tables"),
    ],
)
def test_what_is_no_routing_file_is_refused_with_a_line(text: str, line: int, message: str) -> None:
    first = next(error for error in errors_of(text) if message in error.message)
    assert first.line == line


def test_a_plain_password_is_refused_and_not_repeated() -> None:
    text = with_line('server = "sip.example.net"', 'registration = { username = "u", password = "hunter2" }')
    (error,) = errors_of(text)
    assert error.key == "trunk.carrier-a.registration.password"
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("host", ["203.0.113.5", "203.0.113.0/24", "2001:db8::1"])
def test_two_trunks_cannot_share_a_host(host: str) -> None:
    text = SMALL + f'[[trunk]]\nkey = "carrier-b"\nhosts = ["198.51.100.1",\n"{host}"]\n'
    found = errors_of(text.replace('hosts = ["203.0.113.5"]', 'hosts = ["203.0.113.5", "2001:db8::/64"]'))
    assert [(error.line, error.key) for error in found] == [(line_of(text, f'"{host}"]'), "trunk.carrier-b.hosts")] or (
        host == "203.0.113.5" and [error.key for error in found] == ["trunk.carrier-b.hosts"]
    )
    assert "trunk 'carrier-a'" in found[0].message


def test_a_trunk_cannot_have_the_name_of_anothers_outgoing_side() -> None:
    text = SMALL + '[[trunk]]\nkey = "carrier-a-out"\nhosts = ["198.51.100.1"]\n'
    assert [error.key for error in errors_of(text)] == ["trunk.carrier-a-out.key"]


def test_a_trunk_without_server_dials_nothing() -> None:
    text = changed('server = "sip.example.net"\n', "").replace(SALES_RESERVE, 'reserve = ["tel:+74951234567"]')
    assert [error.message for error in errors_of(text)] == [
        "trunk 'carrier-a' has no server, so nothing can be dialled through it"
    ]


def test_two_agents_cannot_share_a_phone() -> None:
    text = SMALL + '[[agent]]\nkey = "boris"\nendpoint = "desk-1"\n'
    assert [error.key for error in errors_of(text)] == ["agent.boris.endpoint"]


@pytest.mark.parametrize(
    ("word", "choices", "guess"),
    [("aig", ("ami", "agi"), "agi"), ("Desk-1", ("desk-1",), "desk-1"), ("zebra", ("desk",), None), ("", ("a",), None)],
)
def test_a_guess_prefers_letters_in_the_wrong_order(word: str, choices: tuple[str, ...], guess: str | None) -> None:
    assert problems.closest(word, choices) == guess


@pytest.mark.parametrize("table", ["tracking_number", "ban"])
def test_a_number_stands_in_one_table_only(table: str) -> None:
    tables = {
        "tracking_number": '[[tracking_number]]\nnumber = "8 499 000-00-01"\nroute = "sales"\n',
        "ban": '[[ban]]\nnumber = "+7 495 777 00 01"\nreason = "again"\n',
    }
    (error,) = errors_of(SMALL + tables[table])
    assert f"stands in another [[{table}]] already" in error.message
    assert error.line == (SMALL + tables[table])[: -len(tables[table])].count("\n") + 2


def test_phones_that_ring_together_agree_in_what_they_show() -> None:
    shows = SMALL.replace('dial = "sip:desk-2"', 'dial = "sip:desk-2"\ncaller_id = "tracking"\nlabel_source = true')
    found = errors_of(shows.replace('forward = ["desk"]', 'forward = ["desk", "second"]'))
    assert [error.message for error in found] == [
        "destinations that ring together must agree in caller_id: desk, second",
        "destinations that ring together must agree in label_source: desk, second",
    ]
    assert not errors_of(shows.replace('forward = ["desk"]', 'forward = ["desk", "second"]\nstrategy = "in_order"'))


def test_an_exception_must_ask_something() -> None:
    text = with_line(SALES_RESERVE, '[[route.exception]]\nforward = ["second"]')
    assert [(error.key, error.line) for error in errors_of(text)] == [
        ("route.sales.exception[1]", line_of(text, "[[route.exception]]"))
    ]


@pytest.mark.parametrize(
    ("region", "suggestion", "is_right"),
    [
        ("RU", None, True),
        ("ru", "RU", False),
        ("XX", None, False),
        ("+7343", None, True),
        ("+", None, False),
        ("Свердловская обл", None, True),
    ],
)
def test_regions_are_countries_area_codes_or_names(region: str, suggestion: str | None, is_right: bool) -> None:
    """R89."""
    found = errors_of(with_line(SALES_RESERVE, f'[[route.exception]]\nregions = ["{region}"]\nforward = ["second"]'))
    assert not found if is_right else [error.suggestion for error in found] == [suggestion]


# ---- What one plan can hold ----


def endpoints(count: int, length: int = 8) -> str:
    return ", ".join(f'"sip:{"e" * (length - 2)}{index:02}"' for index in range(count))


def test_a_route_has_eight_steps_at_most() -> None:
    assert not errors_of(changed(SALES_RESERVE, f"reserve = [{endpoints(7)}]"))
    (error,) = errors_of(changed(SALES_RESERVE, f"reserve = [{endpoints(8)}]"))
    assert error.message == "route sales has 9 steps; at most 8 are possible"
    text = SMALL + '[[agent]]\nkey = "boris"\nendpoint = "desk-2"\n'
    (error,) = errors_of(text.replace(SALES_RESERVE, f"reserve = [{endpoints(7)}]\nsticky_days = 1"))
    assert error.message == "route sales has 9 steps, one of them for the sticky agent; at most 8 are possible"
    (error,) = errors_of(
        changed(SALES_RESERVE, f"reserve = [{endpoints(4)}]\nreserve_by_cause.busy = [{endpoints(5)}]")
    )
    assert error.message == "route sales has 10 steps; at most 8 are possible"


def test_a_sticky_agent_who_has_a_step_of_the_route_takes_no_more() -> None:
    assert not errors_of(changed(SALES_RESERVE, f"reserve = [{endpoints(7)}]\nsticky_days = 1"))


def test_a_group_has_eight_members_at_most() -> None:
    assert not errors_of(changed(SALES_RESERVE, f"reserve = [[{endpoints(8)}]]"))
    (error,) = errors_of(changed(SALES_RESERVE, f"reserve = [[{endpoints(9)}]]"))
    assert error.message == "at most 8 destinations can ring together, not 9"
    assert error.line == line_of(SMALL, SALES_RESERVE)


def test_a_step_fits_one_journal_row_and_one_value() -> None:
    found = errors_of(changed(SALES_RESERVE, f"reserve = [[{endpoints(8, 60)}]]"))
    assert [error.message.partition(":")[0].partition(" needs")[0] for error in found] == ["route sales step 2"] * 2
    assert {error.line for error in found} == {line_of(SMALL, "[[route]]")}


def test_the_whole_plan_fits_one_answer() -> None:
    groups = ", ".join(f"[{endpoints(6, 30 + step)}]" for step in range(7))
    found = errors_of(changed(SALES_RESERVE, f"reserve = [{groups}]"))
    assert [error.message for error in found] != []
    assert "bytes of the 3500 that one answer can have" in found[-1].message


def test_an_exceptions_plan_is_measured_too() -> None:
    text = with_line(
        SALES_RESERVE, f'[[route.exception]]\nfirst_time = true\nforward = ["desk"]\nreserve = [{endpoints(8)}]'
    )
    (error,) = errors_of(text)
    assert error.message == "route sales exception 1: has 9 steps; at most 8 are possible"


# ---- Many errors, large files ----


def test_errors_beyond_the_limit_are_counted() -> None:
    text = SMALL + "".join(f'[[ban]]\nnumber = "{index}"\nreason = "x"\n' for index in range(300))
    with pytest.raises(routingfile.RoutingErrors) as refused:
        routingfile.parse(text, 1)
    assert (len(refused.value.errors), refused.value.total) == (problems.MAX_ERRORS, 300)
    assert str(refused.value).endswith("and 100 more")


def test_ten_thousand_numbers_are_read_in_seconds() -> None:
    table = '[[tracking_number]]\nnumber = "+7499{:07}"\nroute = "sales"\nsource = "radio"\n'
    text = SMALL.replace("+74990000001", "+74980000001") + "".join(table.format(index) for index in range(10_000))
    started = time.process_time()
    made = routingfile.parse(text, 1)
    assert len(made.tracking_numbers) == 10_001
    assert time.process_time() - started < 20
    wrong = errors_of(text + '[[tracking_number]]\nnumber = "+74980000001"\nroute = "sles"\n')
    assert [error.line for error in wrong] == [text.count("\n") + 3]


def test_the_example_with_every_line_taken_out_is_refused_or_read() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for index in range(len(lines)):
        for error in errors_of("\n".join(lines[:index] + lines[index + 1 :])):
            assert 1 <= error.line <= len(lines)
