"""`calls …` on calls recorded from Asterisk: filters, forms, the record as text, export, following."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC
from pathlib import Path

import pytest

from gateway.cli import calls, output, recordtext
from gateway.core.calls import Outcome
from gateway.core.touches import Model
from tests.cli.conftest import Operator


def test_the_table_is_newest_first_and_fits_a_terminal(busy_day: Operator) -> None:
    said = busy_day("calls", "list")
    head, *rows = said.lines
    assert head.split() == ["Call", "Started", "Caller", "Number", "Source", "Outcome", "Agent", "Talk"]
    assert len(rows) == 6
    started = [row[10:24] for row in rows]
    assert started == sorted(started, reverse=True)
    assert max(len(line) for line in said.lines) <= 95


def test_json_is_an_array_of_whole_records(busy_day: Operator) -> None:
    records = busy_day("calls", "list", "--format", "json").json
    assert {record["outcome"] for record in records} >= {"answered", "abandoned"}
    assert all(record["call_id"] and "attempts" in record and record["revision"] == 1 for record in records)


def test_csv_has_a_header_and_one_row_per_call(busy_day: Operator) -> None:
    rows = list(csv.DictReader(io.StringIO(busy_day("calls", "list", "--format", "csv").out)))
    assert len(rows) == 6
    assert {"call_id", "started_at", "caller", "did", "outcome", "wait_seconds", "missed"} <= set(rows[0])
    assert rows[0]["started_at"].endswith("Z")
    assert {row["missed"] for row in rows} <= {"true", "false"}


@pytest.mark.parametrize(
    ("arguments", "matches"),
    [
        (["--missed"], lambda record: record["missed"]),
        (["--not-missed"], lambda record: not record["missed"]),
        (["--outcome", "answered"], lambda record: record["outcome"] == "answered"),
        (["--outcome", "answered,abandoned"], lambda record: record["outcome"] in ("answered", "abandoned")),
        (["--outcome", "answered", "--outcome", "busy"], lambda record: record["outcome"] in ("answered", "busy")),
        (["--direction", "outbound"], lambda record: record["direction"] == "outbound"),
    ],
)
def test_filters(busy_day: Operator, arguments: list[str], matches: object) -> None:
    assert callable(matches)
    everything = busy_day("calls", "list", "--format", "json").json
    found = busy_day("calls", "list", *arguments, "--format", "json").json
    assert found == [record for record in everything if matches(record)]
    assert 0 < len(found) < len(everything)


def test_filters_by_number_and_caller_however_they_are_written(busy_day: Operator) -> None:
    everything = busy_day("calls", "list", "--direction", "inbound", "--format", "json").json
    number = everything[0]["tracking"]["number"]
    spaced = f"{number[1:5]} {number[5:8]}-{number[8:]}"
    for written in (number, number[1:], spaced):
        found = busy_day("calls", "list", "--number", written, "--format", "json").json
        assert found == [one for one in everything if one["tracking"]["number"] == number]


def test_filters_by_time(busy_day: Operator) -> None:
    everything = busy_day("calls", "list", "--format", "json").json
    middle = everything[2]["started_at"]
    later = busy_day("calls", "list", "--since", middle, "--format", "json").json
    earlier = busy_day("calls", "list", "--until", middle, "--format", "json").json
    assert later + earlier == everything
    assert busy_day("calls", "list", "--until", "2020-01-01", "--format", "json").json == []


def test_pages_join_up(busy_day: Operator) -> None:
    everything = busy_day("calls", "list", "--format", "json").json
    first = busy_day("calls", "list", "--limit", 2, "--format", "json").json
    said = busy_day("calls", "list", "--limit", 2)
    assert f"--after {first[-1]['call_id']}" in said.err
    rest = busy_day("calls", "list", "--after", first[-1]["call_id"], "--format", "json").json
    assert first + rest == everything


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "last tuesday"], "--since: 'last tuesday' is not a time"),
        (["--until", "2026-13-40"], "--until: '2026-13-40' is not a time"),
        (["--outcome", "answerd"], "there is no outcome 'answerd'"),
        (["--direction", "up"], "neither inbound nor outbound"),
        (["--number", "abc"], "--number: 'abc' is not a number"),
        (["--caller", "+7" + "9" * 3000], "is not a number"),
        (["--limit", "0"], "--limit"),
        (["--format", "xml"], "--format"),
        (["--sinec", "today"], "--sinec"),
    ],
)
def test_mistakes_are_one_clear_line_and_exit_2(busy_day: Operator, arguments: list[str], expected: str) -> None:
    assert expected in busy_day("calls", "list", *arguments, code=2).err


def test_show_by_id_and_by_its_beginning(busy_day: Operator) -> None:
    record = busy_day("calls", "list", "--outcome", "answered", "--format", "json").json[0]
    for written in (record["call_id"], record["call_id"][:8], record["call_id"].upper()):
        assert busy_day("calls", "show", written, "--format", "json").json == record


def test_show_as_text_has_attempts_with_raw_codes(busy_day: Operator) -> None:
    """R62: every attempt with its raw codes."""
    records = busy_day("calls", "list", "--format", "json").json
    record = next(one for one in records if any(attempt["sip_code"] == 486 for attempt in one["attempts"]))
    text = busy_day("calls", "show", record["call_id"]).out
    assert record["call_id"] in text
    assert "SIP 486" in text
    assert "1. step 1 forward:" in text
    assert "2. step 2 reserve:" in text
    assert "wait " in text


@pytest.mark.parametrize("written", ["00000000-0000-4000-8000-000000000000", "zzzz", "", "%", "abc"])
def test_show_of_an_unknown_call(busy_day: Operator, written: str) -> None:
    said = busy_day("calls", "show", written, code=1)
    assert "there is no call" in said.err
    assert "dialmark calls list" in said.err


def test_hostile_names_neither_steer_the_terminal_nor_the_spreadsheet(busy_day: Operator) -> None:
    for arguments in (["list"], ["export"], ["export", "--format", "csv"], ["tail"]):
        out = busy_day("calls", *arguments).out
        assert "\x1b" not in out
        assert "\r" not in out
    rows = list(csv.reader(io.StringIO(busy_day("calls", "export", "--format", "csv").out)))
    assert len({len(row) for row in rows}) == 1


def test_export_is_json_lines_of_all_calls(busy_day: Operator, tmp_path: Path) -> None:
    everything = busy_day("calls", "list", "--format", "json").json
    lines = busy_day("calls", "export").lines
    assert [json.loads(line) for line in lines] == everything
    target = tmp_path / "out.csv"
    said = busy_day("calls", "export", "--format", "csv", "-o", target, "--missed")
    assert "calls written to" in said.err
    assert len(list(csv.DictReader(io.StringIO(target.read_text())))) == sum(one["missed"] for one in everything)


def test_export_into_a_folder_that_is_not_there(busy_day: Operator, tmp_path: Path) -> None:
    assert "No such file" in busy_day("calls", "export", "-o", tmp_path / "no" / "out", code=1).err


def test_live_lists_the_calls_that_are_up(operator: Operator) -> None:
    operator.apply()
    operator.write_journal("answered_agent_ends")
    operator.track()
    assert "No call is up." in operator("calls", "live").err

    operator.write_journal("asterisk_killed")
    operator.track()
    up = operator("calls", "live", "--format", "json").json
    assert [one["ended_at"] for one in up] == [None, None]
    assert sorted([one["outcome"] for one in up], key=str) == [None, "answered"]


def test_tail_prints_the_latest_ended_calls_oldest_first(busy_day: Operator) -> None:
    everything = busy_day("calls", "list", "--format", "json").json
    lines = busy_day("calls", "tail", "-n", 3, "--format", "json").lines
    assert [json.loads(line)["call_id"] for line in lines] == [one["call_id"] for one in everything[2::-1]]
    assert len(busy_day("calls", "tail").lines) == 6


def test_outcomes_are_those_of_the_core() -> None:
    assert set(calls.OUTCOMES) == {outcome.value for outcome in Outcome}


def test_listing_of_nothing(operator: Operator) -> None:
    operator.apply()
    assert "No call matches." in operator("calls", "list").err
    assert operator("calls", "list", "--format", "json").json == []
    assert operator("calls", "list", "--format", "csv").lines == [",".join(one.key for one in calls.COLUMNS)]
    assert operator("calls", "export").out == ""


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-2+3", "'-2+3"),
        ("+74990000001", "+74990000001"),
        (-1.5, "-1.5"),
        (None, ""),
        (True, "true"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("", ""),
    ],
)
def test_csv_cells_are_no_formulas(value: output.Value, cell: str) -> None:
    file = io.StringIO()
    output.CsvLines(["x"], file).write([value])
    assert next(iter(csv.reader(file.getvalue().splitlines()[1:])), [""]) == [cell]


# ---- Who called ----

ATTRIBUTED = {
    "method": "visitor",
    "confidence": 0.92,
    "source": "google-ads",
    "medium": "cpc",
    "campaign": "spring",
    "term": "implants",
    "visitor_id": "bbb38b7c-0000-4000-8000-000000000001",
    "candidates": [
        {"visitor_id": "bbb38b7c-0000-4000-8000-000000000001", "share": 0.92, "seconds_since_seen": 0.0},
        {"visitor_id": "aaa38b7c-0000-4000-8000-000000000002", "share": 0.05, "seconds_since_seen": 720.0},
    ],
}


def test_show_says_who_called_with_a_bar_for_each_candidate() -> None:
    """R1, R48, N6: method, confidence, visitor, source, campaign, keyword, candidates."""
    text = recordtext.render({"call_id": "c", "attribution": ATTRIBUTED}, UTC, state="closed")
    assert "came by     visitor of the web site, 92 % sure, visitor bbb38b7c-0000-4000-8000-000000000001" in text
    assert "campaign    spring\nkeyword     implants\n" in text
    assert f"candidates  {'#' * 18}..  92.0 %  bbb38b7c…  on the site" in text
    assert f"            #{'.' * 19}   5.0 %  aaa38b7c…  left 12 min before" in text
    assert "  3.0 %  others, or nobody" in text


def test_show_says_unknown() -> None:
    """R48: unknown is an answer."""
    text = recordtext.render({"call_id": "c", "attribution": {"method": "unknown"}}, UTC, state="closed")
    assert "came by     unknown\n            Nobody was likely enough to be named." in text


def test_credit_is_worked_out_by_the_model_that_is_asked_for(busy_day: Operator) -> None:
    """R85, R88: for one call as text, for all as JSON; calls to static numbers go to their own source, if any."""
    for one in busy_day("calls", "list", "--format", "json", "--model", "linear").json:
        credit = one["credit"]
        assert credit["model"] == "linear"
        assert [part["source"] for part in credit["touches"]] == [one["attribution"]["source"]] * bool(
            one["attribution"]["source"]
        )
    text = busy_day("calls", "show", one["call_id"], "--model", "first_touch").out
    assert text.rstrip().endswith("by model first_touch")
    assert "credit" not in busy_day("calls", "show", one["call_id"], "--format", "json").json


def test_a_model_that_there_is_not(busy_day: Operator) -> None:
    said = busy_day("calls", "list", "--model", "guess", code=2)
    assert "there is no model 'guess'; they are first_touch, last_touch, last_non_direct, linear" in said.err
    assert tuple(Model) == calls.MODELS
