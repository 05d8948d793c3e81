"""`check`, `run`, `health`, tokens, help, and what every command has in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.cli import app, tokens
from gateway.web import auth
from tests.cli.conftest import ROOT, ROUTING, Operator


def _dialmark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_check_of_good_settings(operator: Operator) -> None:
    assert "no errors" in operator("check").out


def test_check_tells_all_errors_at_once(operator: Operator) -> None:
    operator.config.write_text('[agi]\nport = "4573"\nbaklog = 1\n[amy]\nport = 1\n[database]\nurl = "mysql://x"\n')
    said = operator("check", code=1)
    for expected in (":2: agi.port", ":3: agi.baklog", "Did you mean 'backlog'?", "amy", "database.url"):
        assert expected in said.out
    assert "4 errors" in said.err


def test_check_reads_the_operators_own_files_too(operator: Operator) -> None:
    """R108: a table of traffic sources with errors is named line by line, and no routing is read by half of it."""
    table, gone = operator.folder / "own.csv", operator.folder / "gone.mmdb"
    table.write_text("kind,match,name,medium,detail\nclick_id,Bad Id,x,paid_search,64\nnothing,y,x,,\n")
    settings = f'[web]\ntraffic_file = "{table}"\nplaces_file = "{gone}"\n'
    operator.config.write_text(operator.config.read_text() + settings)
    said = operator("check", code=1)
    assert "3 errors" in said.err
    for expected in (f"{table}: web.traffic_file: own.csv: line 2", "line 3", f"{gone}: web.places_file: cannot"):
        assert expected in said.out
    operator.routing.write_text(ROUTING)
    assert "own.csv: line 2" in operator("apply", operator.routing, code=1).err


def test_a_routing_is_read_with_the_operators_own_tables(operator: Operator) -> None:
    """R108: a click id that only the own table has may stand in a rule, in every command that reads the book."""
    rule = '[[source.visits]]\nclick_ids = ["houseid"]\n\n[[route]]'
    operator.routing.write_text(ROUTING.replace("[[route]]", rule, 1))
    assert "houseid" in operator("apply", operator.routing, code=1).err
    table = operator.folder / "own.csv"
    table.write_text("kind,match,name,medium,detail\nclick_id,houseid,house,paid_search,64\n")
    operator.config.write_text(f'{operator.config.read_text()}[web]\ntraffic_file = "{table}"\n')
    operator("apply", operator.routing)
    operator("explain", "+74990000001")
    operator("numbers", "list")
    operator("apply", operator.routing)


def test_check_reads_a_routing_file_and_warns_of_what_is_hardly_meant(operator: Operator) -> None:
    """R46: for cron and CI, without a database; `apply` says the same."""
    rule = '[[source.visits]]\nutm = { medium = "bannner" }\n\n[[route]]'
    operator.routing.write_text(ROUTING.replace("[[route]]", rule, 1))
    line = operator.routing.read_text().splitlines().index('utm = { medium = "bannner" }') + 1
    warning = f"{operator.routing}:{line}: warning: source.radio.visits[1].utm.medium: 'bannner' is no medium"
    said = operator("check", "--routing", operator.routing)
    assert said.lines[-1] == f"{operator.routing}: no errors, 1 warnings."
    assert said.err.startswith(warning) and said.err.endswith("(did you mean 'banner'?)\n")
    assert "has warnings" in operator("check", "--routing", operator.routing, "--strict", code=1).err
    assert warning in operator("apply", operator.routing).err
    operator.routing.write_text(ROUTING.replace("reserve", "reserf"))
    assert "(did you mean 'reserve'?)" in operator("check", "--routing", operator.routing, code=1).err


def test_a_rule_by_city_needs_somebody_who_knows_cities(operator: Operator) -> None:
    """R94: a header counts only where a proxy is trusted."""
    web = '[site.web]\nhosts = ["clinic.example"]\ntargets = ["+74950000001"]\n\n[[source]]'
    rule = '[[display_rule]]\nkey = "m"\ncities = ["Moscow"]\nnumber = "+74990000001"\n'
    operator.routing.write_text(ROUTING.replace("[[source]]", web, 1) + rule)
    before = operator.config.read_text()
    for settings, warned in (
        ("", 1),
        ('[web]\ncity_header = "X-City"\n', 1),
        ('[web]\ncity_header = "X-City"\ntrusted_proxies = ["127.0.0.1/32"]\n', 0),
        (f'[web]\nplaces_file = "{operator.routing}"\n', 0),
    ):
        operator.config.write_text(before + settings)
        said = operator("check", "--routing", operator.routing)
        assert said.lines[-1].endswith(f"{warned} warnings."), (settings, said.err)


def test_effective_settings_hide_secrets(operator: Operator) -> None:
    text = operator.config.read_text().replace("secret_file", "# secret_file")
    operator.config.write_text(f'{text}\n[logging]\nlevel = "debug"\n'.replace("[ami]", '[ami]\nsecret = "hunter2"'))
    values = operator("check", "--effective", "--format", "json").json
    assert values["logging"]["level"] == "debug"
    assert "hunter2" not in json.dumps(values)
    assert "agi.port" in operator("check", "--effective").out


def test_a_missing_configuration_says_what_to_do(operator: Operator) -> None:
    operator.config.unlink()
    for command in (["check"], ["calls", "list"], ["health"], ["doctor"]):
        said = operator(*command, code=1)
        assert "dialmark init --write" in said.out + said.err


def test_run_with_bad_configuration_exits_78_with_every_error(tmp_path: Path) -> None:
    config = tmp_path / "d.toml"
    config.write_text("[agi]\nport = 0.5\nbacklog = -1\n")
    done = _dialmark("run", "--config", str(config))
    assert done.returncode == 78
    assert "agi.port" in done.stderr
    assert "agi.backlog" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_knows_its_roles(operator: Operator) -> None:
    assert "--roles: 'calls,wbe'" in operator("run", "--roles", "calls,wbe", code=2).err


@contextmanager
def _daemon_that_says(status: int, document: object) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _checks(**well: bool) -> dict[str, object]:
    return {name: {"well": is_well, "required": True, "summary": f"{name}!"} for name, is_well in well.items()}


@pytest.mark.parametrize(
    ("status", "document", "code", "line"),
    [
        (200, {"status": "ready", "checks": _checks(database=True)}, 0, "DIALMARK OK: ready"),
        (200, {"status": "degraded", "checks": _checks(manager=False)}, 1, "DIALMARK WARNING: manager: manager!"),
        (503, {"status": "not_ready", "checks": _checks(journal=False)}, 2, "DIALMARK CRITICAL: journal: journal!"),
        (200, ["something"], 2, "answered something else"),
    ],
)
def test_health_as_monitoring_wants_it(operator: Operator, status: int, document: object, code: int, line: str) -> None:
    with _daemon_that_says(status, document) as port:
        operator.config.write_text(operator.config.read_text() + f"[web]\nadmin_port = {port}\n")
        assert line in operator("health", code=code).lines[0]
        assert operator("health", "--format", "json", code=code).json["status"]


def test_health_without_a_daemon(operator: Operator, unused_port: int) -> None:
    operator.config.write_text(operator.config.read_text() + f"[web]\nadmin_port = {unused_port}\n")
    assert "is the daemon running?" in operator("health", code=2).out


def test_a_token_is_shown_once_listed_and_revoked(operator: Operator) -> None:
    said = operator("token", "add", "crm", "--scope", "calls:read,live:read", "--expires", 30)
    text = said.out.strip()
    assert text.startswith("dm_")
    listed = operator("token", "list")
    assert text not in listed.out
    row = operator("token", "list", "--format", "json").json[0]
    assert (row["name"], row["scopes"], row["state"]) == ("crm", "calls:read live:read", "valid")
    assert row["expires_at"] is not None
    operator("token", "revoke", "crm")
    assert operator("token", "list", "--format", "json").json[0]["state"] == "revoked"
    assert "no valid token 'crm'" in operator("token", "revoke", "crm", code=1).err
    assert "already" in operator("token", "add", "crm", "--scope", "admin", code=1).err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x"], "--scope is missing"),
        (["x", "--scope", "calls:write"], "there is no scope 'calls:write'"),
        (["x\x1b[2J", "--scope", "admin"], "printable"),
        (["", "--scope", "admin"], "1 to 64"),
        (["x", "--scope", "admin", "--expires", "0"], "--expires"),
    ],
)
def test_token_mistakes(operator: Operator, arguments: list[str], expected: str) -> None:
    assert expected in operator("token", "add", *arguments, code=2).err


def test_scopes_are_those_of_the_api() -> None:
    assert set(tokens.SCOPES) == {scope.value for scope in auth.Scope}


def test_the_configuration_may_be_named_before_or_behind_the_command(operator: Operator) -> None:
    before = _dialmark("--config", str(operator.config), "check")
    behind = _dialmark("check", "--config", str(operator.config))
    by_environment = _dialmark("check", DIALMARK_CONFIG=str(operator.config))
    assert before.returncode == behind.returncode == by_environment.returncode == 0
    assert before.stdout == behind.stdout == by_environment.stdout


def test_help_is_quick_and_names_every_command() -> None:
    """Commands import what they need when they run: the best of three starts counts, the machine may be busy."""
    took = []
    for _ in range(3):
        started = time.perf_counter()
        done = _dialmark("--help")
        took.append(time.perf_counter() - started)
    assert done.returncode == 0
    commands = [
        command.name or command.callback.__name__ for command in app.app.registered_commands if command.callback
    ]
    commands += [group.name for group in app.app.registered_groups if group.name]
    assert len(commands) >= 13
    for name in commands:
        assert f"  {name} " in done.stdout
    assert min(took) < 1.0


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom gateway import cli\n"
        "try:\n    cli.main(['calls', 'list', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'sqlalchemy', 'aiohttp', 'rich', 'structlog', 'phonenumbers', 'alembic'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_error(busy_day: Operator) -> None:
    done = subprocess.run(
        f"{sys.executable} -m gateway calls export | head -n 1",
        shell=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DIALMARK_CONFIG": str(busy_day.config)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_tail_follows_new_records_as_they_are_stored(operator: Operator) -> None:
    operator.apply()
    following = subprocess.Popen(
        [sys.executable, "-m", "gateway", "calls", "tail", "-f", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DIALMARK_CONFIG": str(operator.config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        operator.write_journal("answered_agent_ends")
        operator.track()
        first = json.loads(following.stdout.readline())
        operator.write_journal("answered_agent_ends", "busy_then_reserve")
        operator.track()
        second = json.loads(following.stdout.readline())
        assert first["call_id"] != second["call_id"]
    finally:
        following.send_signal(2)
        following.communicate(timeout=30)
    assert following.returncode == 130


def test_version() -> None:
    assert _dialmark("--version").stdout.startswith("dialmark ")


@pytest.mark.parametrize(
    "arguments", [["aply"], ["calls", "lst"], ["routing", "rollback"], ["routing", "rollback", "x"]]
)
def test_wrong_commands_exit_2(operator: Operator, arguments: list[str]) -> None:
    assert operator(*arguments, code=2).err
