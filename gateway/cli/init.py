"""`init`: settings, secrets, ring of keys, folders, database, first token; what an existing Asterisk must include."""

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

from gateway.cli import context, failures, installation, output, recording_setup

if TYPE_CHECKING:
    from gateway.config.settings import Settings

ASTERISK_DIR = Path("/etc/asterisk")
GENERATED = "dialmark"
"""Folder of the daemon's generated files, below Asterisk's configuration folder."""
LONG_FILE = 30
"""Lines from which a new file of ours is only named: what matters is what changes in the site's own files."""
MASK = recording_setup.MASK
STATE_MODE = 0o751
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
    """Prepare this machine: settings, secrets, ring of keys, folders, database, first token, and Asterisk's includes.

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
        _show(change, work.secrets)
    for folder in work.folders:
        print(f"+++ {folder.path}/  (folder, mode {folder.mode:04o}: {folder.use})\n")
    if not write:
        print(f"{work.counted} would be written. Nothing was: add --write." if work.counted else _NOTHING)
        return
    # Only what says so itself is open to others.
    before = os.umask(0o027)
    try:
        token = _write_all(work, state_dir)
    finally:
        os.umask(before)
    _give_to_daemon(state_dir, config_dir)
    print(f"{work.counted} written." if work.counted else _NOTHING)
    if work.ring is not None:
        print(f"KEEP A COPY of {work.ring} away from this machine: without it no recording can ever be opened.")
    if token is not None:
        print(f"Token for the API and the page's login, shown only now:\n{token}")
    _say_next(work, etc)


def _write_all(work: _Work, state_dir: Path) -> str | None:
    """Files, folders, database; the first token if there was none."""
    for change in work.changes:
        _write(change, work.group_of(change.path))
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True)
        # Asterisk passes through to the prompts; it can neither list nor read what else is here.
        state_dir.chmod(STATE_MODE)
    for folder in work.folders:
        _make_shared(folder)
    return context.run(_database(work.settings_path))


_NOTHING = "Nothing is left to write."


@dataclass(frozen=True, slots=True)
class _Work:
    """All that init will do."""

    changes: list[installation.Change]
    folders: list[installation.Folder]
    notices: list[str]
    secrets: tuple[str, ...]
    """What must not be shown."""
    settings_path: Path
    ring: Path | None
    """A ring of keys that is made now."""

    @property
    def counted(self) -> str:
        """How many files and folders, "" for none."""
        kinds = ((len(self.changes), "files"), (len(self.folders), "folders"))
        return " and ".join(f"{count} {word}" for count, word in kinds if count)

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
    made = installation.Installation()
    settings = context.settings(settings_path) if settings_path.exists() else None
    secret = _known_secret(settings, secret_path)
    if not secret:
        secret = MASK if is_dry else secrets.token_urlsafe(30)
        made.changes.append(installation.Change(secret_path, None, f"{secret}\n", 0o640))
    if settings is not None:
        chosen = recording_setup.places(settings)
        made.notices.append(f"{settings_path} is kept as it is")
    else:
        chosen = recording_setup.new_places(config_dir, state_dir, etc)
        text = _settings_text(state_dir, etc, secret_path) + "\n" + recording_setup.settings_text(chosen, state_dir)
        made.changes.append(installation.Change(settings_path, None, text))
        made.notices += [
            f"{path} is too long for the dialplan, or has odd characters: name another folder in dialmark.toml"
            for path in recording_setup.cannot_travel(chosen)
        ]
    ring, key = _ring(made, settings, chosen.ring or config_dir / recording_setup.RING_FILE, is_dry=is_dry)
    if etc is not None:
        _asterisk(made, settings, etc, secret, legacy)
    made.folders += recording_setup.folders(chosen, with_spool=etc is not None)
    hidden = tuple(one for one in (secret, key) if one)
    return _Work(made.changes, made.folders, made.notices, hidden, settings_path, ring)


def _asterisk(made: installation.Installation, settings: Settings | None, etc: Path, secret: str, legacy: bool) -> None:
    """What Asterisk's own folder needs."""
    generated = settings.asterisk.generated_dir if settings else etc / GENERATED
    choices = installation.Choices(
        generated=str(generated.relative_to(etc)) if generated.is_relative_to(etc) else str(generated),
        agi=f"{settings.agi.host}:{settings.agi.port}" if settings else "127.0.0.1:4573",
        ami_user=settings.ami.username if settings else "dialmark",
        ami_secret=secret,
        legacy_mapping=_legacy_mapping() if legacy else None,
    )
    found = installation.plan(etc, shipped_texts(), choices)
    made.changes += found.changes
    made.notices += found.notices
    if not generated.is_dir():
        made.folders.append(
            installation.Folder(generated, 0o2770, "what the daemon generates for Asterisk", etc, is_daemons=True)
        )


def _ring(
    made: installation.Installation, settings: Settings | None, path: Path, *, is_dry: bool
) -> tuple[Path | None, str]:
    """The first ring of keys, where there is none yet: its file, and the key that must not be shown."""
    if path.exists():
        made.notices.append(recording_setup.problem_of(path) or f"{path}, the ring of keys, is kept as it is")
        return None, ""
    if recording_setup.is_credential() or (settings is not None and settings.vault.keys.get_secret_value()):
        made.notices.append("the ring of keys comes from outside (a credential or the environment); none is made")
        return None, ""
    if used := _keys_in_use(settings):
        made.notices.append(
            f"{path} IS GONE, and recordings are locked by its keys ({used}): put your copy back. No new ring is made, "
            "which could not open them"
        )
        return None, ""
    change, key = recording_setup.ring(path, context.now(), is_dry=is_dry)
    made.changes.append(change)
    if settings is not None and settings.vault.keys_file is None:
        made.notices.append(f'dialmark.toml names no ring of keys: add keys_file = "{path}" below [vault] to record')
    return path, key


def _keys_in_use(settings: Settings | None) -> str:
    """Keys by which recordings are locked, with their number; "" for none, or for a database that is not there."""
    from gateway.store import recordings

    async def usage(settings: Settings) -> dict[str, int]:
        async with context.database(settings) as database, database.read() as connection:
            return dict(await recordings.key_usage(connection))

    if settings is None:
        return ""
    try:
        found = context.run(usage(settings))
    except failures.Failure:
        return ""
    return ", ".join(f"{key_id}: {count}" for key_id, count in found.items())


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
tokens_dir = "{state_dir}/tokens"
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


def _show(change: installation.Change, hidden: tuple[str, ...]) -> None:
    if change.about:
        print(f"+++ {change.path}  (new, {change.about})\n")
        return
    if change.old is None and change.new.count("\n") > LONG_FILE:
        print(f"+++ {change.path}  (new, {change.new.count(chr(10))} lines)\n")
        return
    old = "" if change.old is None else change.old
    name = str(change.path)
    lines = difflib.unified_diff(
        old.splitlines(), change.new.splitlines(), "/dev/null" if change.old is None else name, name, lineterm=""
    )
    text = "\n".join(lines)
    for secret in hidden:
        text = text.replace(secret, MASK)
    for line in text.split("\n"):
        print(output.plain(line.replace("\t", "    ")))
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


def _make_shared(folder: installation.Folder) -> None:
    """A folder that is not there, with the owner and the group that let in those who work in it."""
    try:
        folder.path.mkdir(parents=True)
        like = folder.like.stat() if folder.like is not None else None
        with contextlib.suppress(PermissionError, LookupError):
            if like is None or folder.is_daemons:
                shutil.chown(folder.path, user="dialmark", group="dialmark")
            if like is not None:
                os.chown(folder.path, -1 if folder.is_daemons else like.st_uid, like.st_gid)
        # Last: a change of owner takes setgid away.
        folder.path.chmod(folder.mode)
    except OSError as error:
        output.note(f"{folder.path}: {error.strerror}: make it yourself, mode {folder.mode:04o}, for {folder.use}")


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
