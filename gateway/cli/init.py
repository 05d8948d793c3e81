"""`init`: configuration, secrets, database and first token; what an existing Asterisk must include, as a diff."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import context, failures, installation, output

if TYPE_CHECKING:
    from gateway.config.settings import Settings

ASTERISK_DIR = Path("/etc/asterisk")
GENERATED = "dialmark"
"""Folder of the daemon's generated files, below Asterisk's configuration folder."""
LONG_FILE = 30
"""Lines from which a new file of ours is only named: what matters is what changes in the site's own files."""
MASK = "********"
FIRST_TOKEN = "admin"  # noqa: S105 - its name


def init(
    config_dir: Annotated[Path, typer.Option(help="Folder of dialmark.toml and the secrets.", metavar="PATH")] = (
        context.DEFAULT_CONFIG.parent
    ),
    state_dir: Annotated[Path, typer.Option(help="Folder of the database and the events.", metavar="PATH")] = Path(
        "/var/lib/dialmark"
    ),
    asterisk_dir: Annotated[
        Path | None, typer.Option(help="Asterisk's configuration folder. [default: /etc/asterisk]", metavar="PATH")
    ] = None,
    legacy_journal: Annotated[
        bool, typer.Option("--legacy-journal", help="For Asterisk before 22.9: the journal by the old mapping.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write; without it everything is only shown.")] = False,
) -> None:
    """Prepare this machine: settings, secrets, database, first token, and the lines Asterisk must include.

    Shows all of it as a diff and writes nothing, unless --write is given; then each changed file of Asterisk is
    backed up beside itself. What is there already is kept: running it again changes nothing.

    \b
    Example:
        dialmark init --asterisk-dir /etc/asterisk
    """
    etc = _asterisk_folder(asterisk_dir)
    work = _prepared(config_dir.absolute(), state_dir.absolute(), etc, legacy_journal, is_dry=not write)
    for notice in work.notices:
        print(f"* {notice}")
    if work.notices and work.changes:
        print()
    for change in work.changes:
        _show(change, work.secret)
    if not write:
        print(f"{len(work.changes)} files would be written. Nothing was: add --write." if work.changes else _NOTHING)
        return
    for change in work.changes:
        _write(change, work.group_of(change.path))
    _make_folders(work)
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    token = context.run(_database(work.settings_path))
    _give_to_daemon(state_dir, config_dir)
    print(f"{len(work.changes)} files written." if work.changes else _NOTHING)
    if token is not None:
        print(f"Token for the API and the page's login, shown only now:\n{token}")
    _say_next(work, etc)


_NOTHING = "Nothing is left to write."


@dataclass(frozen=True, slots=True)
class _Work:
    """All that init will do."""

    changes: list[installation.Change]
    notices: list[str]
    secret: str
    settings_path: Path
    generated: Path | None

    def group_of(self, path: Path) -> int:
        """The group a new file gets: that of its nearest folder, so that Asterisk or the daemon can read it."""
        return next(folder for folder in path.parents if folder.exists()).stat().st_gid


def _asterisk_folder(asked: Path | None) -> Path | None:
    if asked is None:
        if ASTERISK_DIR.is_dir():
            return ASTERISK_DIR
        output.note(f"There is no {ASTERISK_DIR}: only Dialmark's own files are looked at (--asterisk-dir PATH).")
        return None
    if not asked.is_dir():
        raise failures.Misuse(f"--asterisk-dir: {asked} is no folder; name Asterisk's configuration folder")
    return asked.absolute()


def _prepared(config_dir: Path, state_dir: Path, etc: Path | None, legacy: bool, *, is_dry: bool) -> _Work:
    settings_path = config_dir / context.DEFAULT_CONFIG.name
    secret_path = config_dir / "ami.secret"
    changes: list[installation.Change] = []
    notices: list[str] = []
    settings = context.settings(settings_path) if settings_path.exists() else None
    secret = _known_secret(settings, secret_path)
    if not secret:
        secret = MASK if is_dry else secrets.token_urlsafe(30)
        changes.append(installation.Change(secret_path, None, f"{secret}\n", 0o640))
    if settings is None:
        changes.append(installation.Change(settings_path, None, _settings_text(state_dir, etc, secret_path)))
    else:
        notices.append(f"{settings_path} is kept as it is")
    generated = None
    if etc is not None:
        generated = settings.asterisk.generated_dir if settings else etc / GENERATED
        choices = installation.Choices(
            generated=str(generated.relative_to(etc)) if generated.is_relative_to(etc) else str(generated),
            agi=f"{settings.agi.host}:{settings.agi.port}" if settings else "127.0.0.1:4573",
            ami_user=settings.ami.username if settings else "dialmark",
            ami_secret=secret,
            legacy_mapping=_legacy_mapping() if legacy else None,
        )
        found = installation.plan(etc, shipped_texts(), choices)
        changes += found.changes
        notices += found.notices
    return _Work(changes, notices, secret, settings_path, generated)


def _known_secret(settings: Settings | None, secret_path: Path) -> str:
    from gateway.config import settings as reading

    if settings is not None:
        try:
            return settings.ami.password()
        except reading.SettingsErrors as error:
            if settings.ami.secret_file != secret_path:
                raise failures.Failure(str(error)) from None
            return ""
    with contextlib.suppress(FileNotFoundError):
        return secret_path.read_text(encoding="utf-8").strip()
    return ""


def _settings_text(state_dir: Path, etc: Path | None, secret_path: Path) -> str:
    journal, generated, port = Path("/var/log/asterisk/cel-custom"), ASTERISK_DIR / GENERATED, 5038
    if etc is not None:
        journal, generated, port = installation.log_folder(etc) / "cel-custom", etc / GENERATED, installation.port(etc)
    return f"""\
# Settings of this machine. All keys with their defaults and reasons: docs/settings.md, config/dialmark.example.toml.
# What is in force: dialmark check --effective

[node]
# Unique among the machines that share a database.
name = "main"

[database]
url = "sqlite:///{state_dir}/dialmark.db"

[asterisk]
journal_dir = "{journal}"
generated_dir = "{generated}"

[ami]
port = {port}
secret_file = "{secret_path}"

[events]
jsonl_path = "{state_dir}/events.jsonl"
"""


def _legacy_mapping() -> str:
    from gateway.pbx import journal

    return journal.LEGACY_MAPPING


def shipped_texts() -> dict[str, str]:
    """Our dialplan and Asterisk texts by file name. Raises Failure when the installation is not whole."""
    root = Path(__file__).resolve().parents[2]
    places = (root, Path(sys.prefix) / "share" / "dialmark")
    for place in places:
        if (place / "dialplans" / "inbound.conf").is_file() and (place / "asterisk" / "cel.conf").is_file():
            return {
                path.name: path.read_text(encoding="utf-8")
                for folder in ("asterisk", "dialplans")
                for path in sorted((place / folder).glob("*.conf"))
            }
    raise failures.Failure(f"the dialplan is not installed in {' or '.join(map(str, places))}: reinstall Dialmark")


def _show(change: installation.Change, secret: str) -> None:
    if change.old is None and change.new.count("\n") > LONG_FILE:
        print(f"+++ {change.path}  (new, {change.new.count(chr(10))} lines)\n")
        return
    old = "" if change.old is None else change.old
    name = str(change.path)
    lines = difflib.unified_diff(
        old.splitlines(), change.new.splitlines(), "/dev/null" if change.old is None else name, name, lineterm=""
    )
    for line in lines:
        print(output.plain(line.replace("\t", "    ").replace(secret, MASK) if secret else line))
    print()


def _write(change: installation.Change, group: int) -> None:
    """Put the new text in place by temp file and rename; the old one stays beside it as a backup."""
    path = change.path.resolve()
    try:
        _make_folder(path.parent, group)
        status = path.stat() if path.exists() else None
        if status is not None and change.old is not None:
            backup = _free_name(path)
            shutil.copy2(path, backup)
            print(f"{path} is backed up as {backup.name}.")
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(change.new.encode("utf-8", "surrogateescape"))
        draft = Path(temporary)
        draft.chmod(change.mode or (status.st_mode & 0o7777 if status else 0o644))
        with contextlib.suppress(PermissionError):
            os.chown(draft, status.st_uid if status else -1, status.st_gid if status else group)
        draft.replace(path)
    except OSError as error:
        raise failures.Failure(f"{path}: {error.strerror}: run init as root, or name other folders") from None


def _make_folder(folder: Path, group: int) -> None:
    """A missing folder, as open as the one it is made in and of its group."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, group)
    folder.mkdir()
    folder.chmod(folder.parent.stat().st_mode & 0o775)
    with contextlib.suppress(PermissionError):
        os.chown(folder, -1, group)


def _free_name(path: Path) -> Path:
    backup = path.with_name(f"{path.name}.before-dialmark")
    number = 1
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.before-dialmark-{number}")
    return backup


def _make_folders(work: _Work) -> None:
    """The folder that the daemon writes its generated files into, shared by group with Asterisk."""
    if work.generated is None or work.generated.is_dir():
        return
    try:
        work.generated.mkdir(parents=True)
        work.generated.chmod(0o2770)
        with contextlib.suppress(PermissionError, LookupError):
            shutil.chown(work.generated, user="dialmark")
        os.chown(work.generated, -1, work.generated.parent.stat().st_gid)
    except OSError as error:
        output.note(f"{work.generated}: {error.strerror}: make it yourself, writable for the daemon")


def _give_to_daemon(state: Path, config: Path) -> None:
    """What root made, the daemon must write (its state) or read (its secrets), where there is a user of its name."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(LookupError, OSError):
        for path in (state, *state.iterdir()):
            if path.stat().st_uid == 0:
                shutil.chown(path, user="dialmark", group="dialmark")
        for path in config.iterdir():
            if path.stat().st_gid == 0:
                shutil.chown(path, group="dialmark")


async def _database(settings_path: Path) -> str | None:
    """Make the database or bring it up to date; a first token if there is none yet."""
    from gateway.cli import tokens
    from gateway.store import tokens as stored_tokens

    settings = context.settings(settings_path)
    async with context.database(settings, migrate=True) as database:
        async with database.read() as connection:
            if await stored_tokens.list_tokens(connection):
                return None
        return await tokens.issue(database, FIRST_TOKEN, {"admin"})


def _say_next(work: _Work, etc: Path | None) -> None:
    steps = ["dialmark check", "dialmark apply routing.toml    (an example: config/routing.example.toml)"]
    if etc is not None:
        steps.append(
            "asterisk -rx 'core reload'     (after a look at the changes above; a new transport needs a restart)"
        )
    steps += ["systemctl enable --now dialmark dialmark-reload.path", "dialmark doctor"]
    print("Next:")
    for step in steps:
        print(f"  {step}")
