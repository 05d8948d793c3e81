"""`dialmark.toml`: every error at once, three sources in their order, secrets kept, and documents that cannot drift."""

import json
import tomllib
from pathlib import Path

import pytest

from gateway.config import settings, settingstext
from gateway.pbx import dialvars

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dialmark.toml"


def refused(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    """The errors, without the folder of the file."""
    with pytest.raises(settings.SettingsErrors) as caught:
        settings.load(path, environ or {})
    return [str(error).replace(str(path), "F") for error in caught.value.errors]


def test_the_example_is_current_and_says_the_defaults() -> None:
    example = ROOT / "config" / "dialmark.example.toml"
    assert example.read_text(encoding="utf-8") == settingstext.example()
    assert settings.load(example, {}) == settings.Settings()
    document = tomllib.loads(settingstext.example())
    assert {name: set(table) for name, table in document.items()} == {
        name: set(section.model_fields) for name, section in settings.sections().items()
    }


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name, section in settings.sections().items():
        for key, field in section.model_fields.items():
            assert f"| `{name}.{key}` |" in page
            assert field.description, f"{name}.{key} says neither unit nor reason"
    assert page == settingstext.reference()


def test_an_empty_file_gives_the_defaults(file: Path) -> None:
    file.write_text("")
    assert settings.load(file, {}) == settings.load(None, {}) == settings.Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.Settings().agi.port = 1  # type: ignore[misc]  # that is the point


def test_the_environment_wins_over_credentials_and_they_over_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text('[agi]\nport = 1001\nbacklog = 11\nmax_sessions = 21\n[ami]\nsecret = "from file"\n')
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "agi.port").write_text("1002")
    (credentials / "agi.backlog").write_text("12\n")
    (credentials / "ami.secret").write_text("from credential\n")
    (credentials / "backup.key").write_bytes(b"\xff\x00")
    (credentials / "README").write_text("not ours")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "DIALMARK_AGI__PORT": "1003"}
    found = settings.load(file, environ)
    assert (found.agi.port, found.agi.backlog, found.agi.max_sessions) == (1003, 12, 21)
    assert found.ami.password() == "from credential"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DIALMARK_NODE__NAME", "north", "north"),
        ("DIALMARK_AGI__ANSWER_SECONDS", "0.8", 0.8),
        ("DIALMARK_LOGGING__MASK_NUMBERS", "no", False),
        ("DIALMARK_LOGGING__LEVEL", "debug", "debug"),
        ("DIALMARK_EVENTS__JSONL_PATH", "", None),
        ("DIALMARK_ASTERISK__JOURNAL_DIR", "/srv/journal", Path("/srv/journal")),
        ("DIALMARK_DATABASE__URL", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("dialmark_agi__max_sessions", "5", 5),
    ],
)
def test_each_kind_of_value_can_come_from_the_environment(variable: str, text: str, value: object) -> None:
    found = settings.load(None, {variable: text})
    name, key = variable.lower().removeprefix("dialmark_").split("__")
    assert getattr(getattr(found, name), key) == value


def test_a_list_from_the_environment_is_written_with_commas() -> None:
    found = settings.load(None, {"DIALMARK_WEB__TRUSTED_PROXIES": "127.0.0.1/32, 10.0.0.0/8"})
    assert [str(network) for network in found.web.trusted_proxies] == ["127.0.0.1/32", "10.0.0.0/8"]


def test_variables_without_a_section_are_none_of_ours() -> None:
    assert settings.load(None, {"DIALMARK_CONFIG": "/x", "HOME": "/", "OTHER_AGI__PORT": "x"}) == settings.Settings()


def test_ten_mistakes_are_reported_at_once_each_with_line_key_and_guess(file: Path) -> None:
    file.write_text(
        """\
[nodes]
name = "x"
[agi]
prot = 4573
port = "4573"
answer_seconds = 2.0
max_sessions = true
[logging]
level = "inf"
mask_numbers = "yes"
[web]
trusted_proxies = ["127.0.0.1/32", "nonsense"]
journal_dir = "/x"
[asterisk]
journal_dir = "relative"
[database]
url = "mysql://root:hunter2@db/x"
[ami]
host = "localhost"
[journal]
archive_days = 0
"""
    )
    errors = refused(file, {"DIALMARK_AGI__BAKLOG": "1", "DIALMARK_CALER__PORT": "1", "DIALMARK_WEB__PORT": "http"})
    assert errors[:5] == [
        "F:1: nodes: there is no such section. Did you mean 'node'?",
        "F:4: agi.prot: there is no such setting. Did you mean 'port'?",
        "F:13: web.journal_dir: there is no such setting. Did you mean '[asterisk] journal_dir'?",
        "environment variable DIALMARK_AGI__BAKLOG: agi.baklog: there is no such setting. Did you mean 'backlog'?",
        "environment variable DIALMARK_CALER__PORT: caler: there is no such section. Did you mean 'caller'?",
    ]
    rest = "\n".join(errors[5:])
    for expected in [
        "F:6: agi.answer_seconds: should be less than 1.5.",
        "F:17: database.url: must begin with sqlite:/// or postgresql://.",
        "F:5: agi.port: should be a valid integer.",
        "F:7: agi.max_sessions: should be a valid integer.",
        "F:9: logging.level: should be 'debug', 'info', 'warning' or 'error'. Did you mean 'info'?",
        "F:10: logging.mask_numbers: should be a valid boolean.",
        "F:12: web.trusted_proxies: ",
        "F:15: asterisk.journal_dir: must be an absolute path",
        "F:19: ami.host: must be an IP address, not a name.",
        "F:21: journal.archive_days: should be greater than or equal to 1.",
        "environment variable DIALMARK_WEB__PORT: web.port: should be a valid integer.",
    ]:
        assert expected in rest
    assert len(errors) == 16
    assert "hunter2" not in "\n".join(errors)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[agi]\nanswer_seconds = 1.5\n", "F:2: agi.answer_seconds: should be less than 1.5."),
        ("[agi]\nlookup_seconds = 1.0\n", "F:2: agi.lookup_seconds: must be below answer_seconds."),
        ("[agi]\nanswer_seconds = inf\n", "F:2: agi.answer_seconds: should be a finite number."),
        ("agi = 1\n", "F:1: agi: is a section, written as [agi]."),
        ("port = 1\n", "F:1: port: there is no such section. Did you mean '[ami] port'?"),
        ('[database]\nurl = "sqlite:///x.db"\n', "F:2: database.url: needs an absolute path: sqlite:////"),
        ('[asterisk]\njournal_name = "../x"\n', "F:2: asterisk.journal_name: must be a file name without folder."),
        ('[asterisk]\njournal_name = "ball"\n', "F:2: asterisk.journal_name: must not be the beginning of `ballast`"),
        ('[web]\nhost = "10.0.0.0/8"\n', "F:2: web.host: must be an IP address, not a name."),
        ("[agi\n", "F: is not TOML: "),
        ('[recording]\nspool_dir = "spool"\n', "F:2: recording.spool_dir: must be an absolute path"),
        ('[recording]\nspool_dir = "/a,b"\n', "F:2: recording.spool_dir: must be at most 128 of A-Z a-z 0-9 _ . / -"),
        ('[recording]\nspool_dir = "/${X}"\n', "F:2: recording.spool_dir: must be at most 128 of A-Z a-z 0-9 _ . / -"),
        ('[recording]\nspool_dir = "/a/../b"\n', "F:2: recording.spool_dir: must be at most 128"),
        (f'[recording]\nspool_dir = "/{128 * "a"}"\n', "F:2: recording.spool_dir: must be at most 128"),
        ('[recording]\ncommand = ["analyse"]\n', "F:2: recording.command: must begin with the absolute path"),
        ("[recording]\ncommand_seconds = 0\n", "F:2: recording.command_seconds: should be greater than or equal to 1."),
        (
            '[recording]\nspool_dir = "/s"\n[vault]\ndir = "/s"\n',
            "F:2: recording.spool_dir: must be apart from vault.dir",
        ),
        (
            '[recording]\nspool_dir = "/var/log/asterisk/cel-custom/x"\n',
            "F:2: recording.spool_dir: must be apart from asterisk.journal_dir",
        ),
        ('[vault]\ndir = "/var/spool"\n', "F:2: vault.dir: must be apart from recording.spool_dir"),
        ('[vault]\ndir = "/var/lib/dialmark"\n', "F:2: vault.dir: must be apart from prompts.dir"),
    ],
)
def test_what_is_wrong_and_where(file: Path, text: str, error: str) -> None:
    file.write_text(text)
    (found,) = refused(file)
    assert found.startswith(error)


def test_folders_of_the_dialplan_hold_what_a_plan_may_hold(file: Path) -> None:
    """What the settings let through, the border lets through (asterisk.md section 1)."""
    for character in map(chr, range(32, 127)):
        file.write_text(f"[recording]\nspool_dir = {json.dumps('/a' + character + 'b')}\n")
        try:
            found = settings.load(file, {})
        except settings.SettingsErrors:
            continue
        assert dialvars.safe("DM_SPOOL", str(found.recording.spool_dir))


def test_a_command_is_a_list_with_an_absolute_program(file: Path) -> None:
    file.write_text('[recording]\ncommand = ["/usr/bin/env", "LANG=C", "analyse", "a b"]\ncommand_seconds = 1.5\n')
    found = settings.load(file, {})
    assert found.recording.command == ("/usr/bin/env", "LANG=C", "analyse", "a b")
    assert settings.effective(found)["recording"]["command"] == ["/usr/bin/env", "LANG=C", "analyse", "a b"]
    environ = {"DIALMARK_RECORDING__COMMAND": "/bin/true, x"}
    assert settings.load(None, environ).recording.command == ("/bin/true", "x")


def test_a_file_that_is_missing_or_no_text_is_an_error(file: Path) -> None:
    assert refused(file) == ["F: cannot be read: No such file or directory, `dialmark init --write` makes it."]
    file.write_bytes(b"[node]\nname = '\xff'\n")
    assert refused(file) == ["F: is not UTF-8 (byte 15)."]


def test_the_password_comes_from_its_file_when_it_is_needed(file: Path, tmp_path: Path) -> None:
    """A user who may not read the secret can still list calls."""
    secret = tmp_path / "ami.secret"
    file.write_text(f'[ami]\nsecret_file = "{secret}"\n')
    found = settings.load(file, {})
    with pytest.raises(settings.SettingsErrors, match=r"ami\.secret_file: cannot be read"):
        found.ami.password()
    secret.write_text("hunter2\n")
    assert found.ami.password() == "hunter2"


def test_no_secret_is_shown() -> None:
    environ = {"DIALMARK_AMI__SECRET": "hunter2", "DIALMARK_DATABASE__URL": "postgresql://u:hunter2@h/d"}
    found = settings.load(None, environ)
    shown = settings.effective(found)
    assert shown["ami"]["secret"] == "********"
    assert shown["database"]["url"] == "postgresql+psycopg://u:********@h/d"
    assert "hunter2" not in json.dumps(shown) + repr(found) + str(found)
    assert found.database.url == "postgresql+psycopg://u:hunter2@h/d"


def test_changes_name_the_keys_that_differ() -> None:
    new = settings.load(None, {"DIALMARK_LOGGING__LEVEL": "debug", "DIALMARK_AGI__PORT": "1"})
    assert settings.changes(settings.Settings(), new) == ("agi.port", "logging.level")
    assert settings.changes(new, new) == ()
    assert set(settings.sections()) >= settings.RELOADABLE
