"""Log records: one line each, masked, and nothing a caller sends can forge one."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import log

NUMBER = "+74951234567"
MASKED = "+7********67"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    log.configure()
    root.setLevel(level)


def _json(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def records() -> io.StringIO:
    stream = io.StringIO()
    log.configure(format="json", stream=stream)
    return stream


def test_a_record_names_its_logger_its_level_and_the_time_in_utc(records: io.StringIO) -> None:
    log.get("pbx.agi").warning("agi session not answered", reason="late")
    (record,) = _json(records)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "agi session not answered",
        "level": "warning",
        "logger": "pbx.agi",
        "reason": "late",
    }


def test_the_call_id_stands_on_every_record_inside_the_block(records: io.StringIO) -> None:
    with log.call("0b7c"):
        log.get("x").info("inside")
    log.get("x").info("outside")
    inside, outside = _json(records)
    assert inside["call_id"] == "0b7c"
    assert "call_id" not in outside


@pytest.mark.parametrize("key", ["caller", "did", "number", "to"])
@pytest.mark.parametrize("value", [NUMBER, "74951234567", 74951234567])
def test_a_number_under_a_numbers_key_is_masked(records: io.StringIO, key: str, value: object) -> None:
    log.get("x").info("call", **{key: value})
    assert "4951234567" not in records.getvalue()
    assert _json(records)[0][key].endswith("********67")


def test_numbers_are_masked_in_messages_in_nested_values_and_in_tracebacks(records: io.StringIO) -> None:
    try:
        raise ValueError(f"no route for {NUMBER}")
    except ValueError:
        log.get("x").exception(f"call to {NUMBER}", calls=[{"caller": "74951234567", "note": f"was {NUMBER}"}])
    assert "4951234567" not in records.getvalue()
    (record,) = _json(records)
    assert record["event"] == f"call to {MASKED}"
    assert record["calls"] == [{"caller": "7********67", "note": f"was {MASKED}"}]
    assert record["exception"].endswith(f"ValueError: no route for {MASKED}")


def test_what_is_no_telephone_number_stays_readable(records: io.StringIO) -> None:
    log.get("x").info("journal read", offset=74951234567, unique_id="1795299516.31", seconds=0.25, ok=True)
    (record,) = _json(records)
    assert (record["offset"], record["unique_id"], record["seconds"], record["ok"]) == (
        74951234567,
        "1795299516.31",
        0.25,
        True,
    )


def test_masking_can_be_switched_off() -> None:
    stream = io.StringIO()
    log.configure(format="json", mask_numbers=False, stream=stream)
    log.get("x").info("call", caller=NUMBER, caller_name="Zoë")
    assert _json(stream)[0] | {"timestamp": ""} == {
        "event": "call",
        "level": "info",
        "logger": "x",
        "timestamp": "",
        "caller": NUMBER,
        "caller_name": "Zoë",
    }


@pytest.mark.parametrize(
    "key", ["secret", "ami_secret", "password", "api_token", "authorization", "session_cookie", "secrets"]
)
def test_secrets_are_never_written(records: io.StringIO, key: str) -> None:
    log.get("x").info("settings", **{key: "hunter2"})
    log.get("x").info("settings", section={key: ["hunter2"]})
    assert "hunter2" not in records.getvalue()


def test_the_password_of_a_database_url_is_never_written(records: io.StringIO) -> None:
    log.get("x").error("cannot connect to postgresql+psycopg://dialmark:hunter2@db/dialmark")
    assert _json(records)[0]["event"] == "cannot connect to postgresql+psycopg://dialmark:***@db/dialmark"


@pytest.mark.parametrize("format", log.FORMATS)
@pytest.mark.parametrize("hostile", ["\n", "\r\n", "\x1b[2J", "\x85", "\u2028", "\u202e", "\x00", "\x9b31m"])
def test_a_callers_name_cannot_write_a_line_or_drive_a_terminal(format: str, hostile: str) -> None:
    """A caller's display name reaches the log as it came (asterisk.md, finding 2)."""
    stream = io.StringIO()
    log.configure(format=format, stream=stream)
    forged = f"x{hostile}2026-11-21T00:00:00Z [info] call answered"
    log.get("x").info(f"call from {forged}", sip=forged, headers={forged: 1})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert hostile not in text[:-1]


def test_a_traceback_is_readable_on_the_console_and_cannot_forge_a_record() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        raise ValueError("x\n2026-11-21T00:00:00Z [info] call answered")
    except ValueError:
        log.get("x").exception("router failed")
    first, *rest = stream.getvalue().splitlines()
    assert "router failed" in first
    assert any("test_log.py" in line for line in rest)
    assert all(line.startswith("    ") for line in rest if line)


def test_a_lower_level_is_left_out() -> None:
    stream = io.StringIO()
    log.configure(format="json", level="warning", stream=stream)
    log.get("x").info("small")
    log.get("x").warning("large")
    assert [record["event"] for record in _json(stream)] == ["large"]


def test_a_logger_made_before_follows_a_later_configuration() -> None:
    """SIGHUP may change the level and the format."""
    logger = log.get("x")
    log.configure(level="error", stream=io.StringIO())
    stream = io.StringIO()
    log.configure(format="json", stream=stream)
    logger.info("hello")
    assert _json(stream)[0]["event"] == "hello"


def test_libraries_write_in_the_same_form_once_each(records: io.StringIO) -> None:
    log.configure(format="json", stream=records)
    logging.getLogger("aiohttp.server").error("error on request of %s", NUMBER)
    logging.getLogger("aiohttp.access").info("GET /")
    (record,) = _json(records)
    assert (record["event"], record["logger"]) == (f"error on request of {MASKED}", "aiohttp.server")


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"level": "loud"}])
def test_an_unknown_format_or_level_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no such"):
        log.configure(**wrong)  # type: ignore[arg-type]  # mypy cannot see which key it is


def test_values_of_any_type_are_written_as_text(records: io.StringIO) -> None:
    log.get("x").info("error", error=OSError("no\nroute"), where={1, 2}, nothing=None)
    (record,) = _json(records)
    assert (record["error"], record["where"], record["nothing"]) == ("no\\nroute", [1, 2], None)


def test_outside_of_the_daemon_records_go_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout belongs to the output of the commands."""
    structlog.reset_defaults()
    log.configure()
    log.get("x").warning("careful")
    out, err = capsys.readouterr()
    assert out == ""
    assert "careful" in err
