"""asterisk/ and dialplans/ as text: what fits together, and what must not be there."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.rig.asterisk import ROOT

# Each of these was a hole in an advisory, or is a door that nobody here uses (asterisk.md 7).
FORBIDDEN = (
    "app_originate",
    "app_system",
    "func_curl",
    "func_env",
    "func_evalexten",
    "func_shell",
    "pbx_ael",
    "pbx_lua",
    "pbx_realtime",
    "pbx_spool",
    "res_ari",
    "res_http_websocket",
    "res_phoneprov",
    "res_pjsip_diversion",
    "res_pjsip_endpoint_identifier_anonymous",
    "res_pjsip_endpoint_identifier_user",
    "res_pjsip_messaging",
    "res_pjsip_registrar",
    "res_resolver_unbound",
    "res_stir_shaken",
)


def loaded() -> set[str]:
    text = (ROOT / "asterisk" / "modules.conf").read_text()
    assert re.search(r"(?m)^autoload = no$", text)
    return set(re.findall(r"(?m)^load = (\w+)\.so", text))


def test_the_dialplan_has_its_modules() -> None:
    """A module that is missing halts a call in the middle of the dialplan."""
    lint = [sys.executable, "scripts/lib/dialplan_lint.py", "--modules", "dialplans/extensions.conf"]
    shown = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True)
    needed = set(re.findall(r"(?m)^load => (\w+)\.so$", shown.stdout))
    assert "app_dial" in needed
    assert needed - loaded() == set()


def test_no_module_that_must_not_be_there() -> None:
    assert loaded() & set(FORBIDDEN) == set()


def test_the_journal_has_the_ten_columns_the_daemon_reads() -> None:
    """Only columns a caller cannot write (asterisk.md 5)."""
    text = (ROOT / "asterisk" / "cel_custom.conf").read_text()
    (fields,) = re.findall(r"(?m)^fields = (.*)$", text)
    assert fields == "EventTime,eventenum,userdeftype,ChanName,UniqueID,LinkedID,Context,Peer,AppName,EventExtra"


def test_no_python_where_pyst2_would_vanish() -> None:
    """pyst2 is imported as ``asterisk``: a .py file in our folder of that name would hide it (libraries.md 1.4)."""
    folders = ("asterisk", "dialplans", "config", "systemd")
    assert [path for folder in folders for path in (ROOT / folder).rglob("*.py")] == []


def test_no_secret_and_no_path_of_a_machine() -> None:
    for path in (ROOT / "asterisk").glob("*.conf"):
        settings = re.sub(r"(?m);.*$", "", path.read_text())
        assert not re.search(r"(?i)^\s*(secret|password)\s*=", settings, re.MULTILINE), path
        assert not re.search(r"=>?\s*/", settings), path
