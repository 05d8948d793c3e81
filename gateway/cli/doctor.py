"""`doctor`: everything around the daemon, one line per check, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli import context, failures, output
from gateway.cli.findings import Finding, State, fail, failed, ok, warn

if TYPE_CHECKING:
    from gateway import store
    from gateway.cli import ami_probe
    from gateway.config.settings import Settings
    from gateway.core import book

RECOMMENDED = (22, 10, 1)
"""Below it there are open advisories (asterisk.md, section 7)."""
DSV_SINCE = (22, 9)
"""The journal's DSV form; before it the legacy mapping gives the same columns."""
SUPPORTED = (20,)
CONTEXTS = {
    "dialmark-inbound": "74950000001",
    "dialmark-act": "dial",
    "dialmark-missed": "s",
    "dialmark-plan": "74950000001",
    "dialmark-default": "s",
    "dialmark-outbound": "74950000001",
    "dialmark-services": "s",
    "dialmark-consent": "opt_in",
    "dialmark-asking": "asked",
    "dialmark-record": "s",
    "dialmark-pause": "s",
    "dialmark-agent": "s",
    "dialmark-waiting": "s",
    "dialmark-offer": "s",
    "dialmark-codes": "*29",
    "dialmark-callback": "go",
    "dialmark-customer": "s",
    "dialmark-click": "1",
    "dialmark-break": "go",
}
"""Contexts of the dialplan, each with an extension that it must know."""


def doctor(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Examine everything around the daemon: configuration, database, disks, Asterisk, dialplan, plan, journal, rights.

    Best run as the daemon's user: sudo -u dialmark dialmark doctor. Exits 1 when a check fails.
    """
    from gateway.config import settings as reading

    found: list[Finding] = []
    try:
        settings = context.settings(config)
        settings.ami.password()
    except (failures.Failure, reading.SettingsErrors) as error:
        lines = str(error).splitlines()
        more = f" (and {len(lines) - 1} more errors)" if len(lines) > 1 else ""
        found.append(fail("configuration", lines[0] + more, "`dialmark check` shows all errors"))
    else:
        found.append(ok("configuration", str(config)))
        found += asyncio.run(_examine(settings, config))
    _print(found, form)
    if failed(found):
        raise typer.Exit(failures.EXIT_PROBLEM)


def _print(found: list[Finding], form: output.Format) -> None:
    if form is not output.Format.TABLE:
        columns = [output.Column(key) for key in ("check", "state", "text", "advice")]
        rows = [{"check": one.check, "state": one.state.value, "text": one.text, "advice": one.advice} for one in found]
        output.listing(rows, columns, form)
        return
    for one in found:
        print(output.plain(f"{one.state.value:<4}  {one.check}: {one.text}"))
        if one.advice:
            print(output.plain(f"      → {one.advice}"))
    counts = {state: sum(one.state is state for one in found) for state in State}
    print(f"{len(found)} checks: {counts[State.OK]} ok, {counts[State.WARN]} warn, {counts[State.FAIL]} fail")


async def _examine(settings: Settings, config: Path) -> list[Finding]:
    from gateway.cli import host_checks

    found: list[Finding] = [host_checks.clock(), host_checks.host_name()]
    found += _secrets(settings, config)
    stored = await _database(settings)
    found += stored.found
    found += _disks(settings)
    found += host_checks.journal(settings.asterisk.journal_dir / settings.asterisk.journal_name)
    found += _generated(settings, stored.revision)
    found += _recordings(settings, stored)
    found.append(await _agi(settings))
    found += await asyncio.to_thread(_web, settings, stored)
    found += await asyncio.to_thread(_asterisk, settings, stored)
    found += await asyncio.to_thread(_clicks, settings)
    found += await asyncio.to_thread(_told, settings, stored)
    return found


@dataclass(slots=True)
class _Stored:
    """What the database told."""

    found: list[Finding]
    revision: int | None = None
    """Of the latest routing; 0: none yet, None: not known."""
    book: book.Book | None = None

    @property
    def is_recording(self) -> bool:
        """Whether the routing wants any call recorded, or a message kept."""
        from gateway.core import handling

        return self.book is not None and handling.wants_recording(self.book)


def _recordings(settings: Settings, stored: _Stored) -> Iterator[Finding]:
    from gateway.cli import recording_checks

    yield from recording_checks.places(settings, is_wanted=stored.is_recording)
    if stored.is_recording:
        yield recording_checks.signing_key(settings)
    if stored.book is not None:
        yield from recording_checks.speech(settings, stored.book)
    yield from recording_checks.music(settings, is_wanted=stored.is_recording)


def _web(settings: Settings, stored: _Stored) -> list[Finding]:
    from gateway.cli import web_checks

    found = list(web_checks.own_files(settings))
    if stored.book is not None:
        found += web_checks.visitors(settings, stored.book)
    return found


def _clicks(settings: Settings) -> list[Finding]:
    from gateway.cli import click_checks

    return [*click_checks.secret(settings), *click_checks.account(settings)]


def _told(settings: Settings, stored: _Stored) -> list[Finding]:
    from gateway.cli import receiver_checks

    found = list(receiver_checks.mails(settings))
    if stored.book is not None:
        found += receiver_checks.secrets(settings, stored.book.receivers)
    return found


def _secrets(settings: Settings, config: Path) -> Iterator[Finding]:
    from gateway.cli import host_checks

    if settings.ami.secret_file is not None:
        yield host_checks.secret_file("AMI secret", settings.ami.secret_file)
    elif settings.ami.secret.get_secret_value() and config.exists():
        yield host_checks.secret_file("AMI secret", config)
    elif settings.ami.enabled:
        yield fail("AMI secret", "there is none", "set ami.secret_file, or ami.enabled = false to do without AMI")


async def _database(settings: Settings) -> _Stored:
    from gateway.cli import receiver_checks, recording_checks

    check = "database"
    try:
        async with context.database(settings) as database:
            stored = _Stored([ok(check, f"{database.engine_name}, schema up to date")])
            await _routing(settings, database, stored)
            if stored.book is not None:
                stored.found += await receiver_checks.standing(database, stored.book.receivers)
            stored.found += [one async for one in _position(database, settings)]
            stored.found += await recording_checks.keys(settings, database, is_wanted=stored.is_recording)
            return stored
    except failures.Failure as error:
        return _Stored([fail(check, str(error), "correct database.url, or make the database available")])
    except Exception as error:
        if type(error).__module__ != "gateway.store.errors":
            raise
        return _Stored([fail(check, str(error), "start the daemon once, it brings the schema up to date")])


async def _routing(settings: Settings, database: store.Database, stored: _Stored) -> None:
    from gateway.store import routing

    async with database.read() as connection:
        latest = await routing.latest(connection)
    stored.revision = latest or 0
    if latest is None:
        stored.found.append(fail("routing", "no revision yet", "dialmark apply routing.toml"))
        return
    try:
        stored.book = await context.book_in_force(database, settings)
    except failures.Failure as error:
        stored.found.append(fail("routing", str(error), "the daemon keeps the last good one"))
        return
    numbers = len(stored.book.tracking_numbers) if stored.book else 0
    stored.found.append(ok("routing", f"revision {latest}, {numbers} tracking numbers"))


async def _position(database: store.Database, settings: Settings) -> AsyncIterator[Finding]:
    """Whether the journal is read to its end."""
    from gateway.store import journal

    path = settings.asterisk.journal_dir / settings.asterisk.journal_name
    async with database.read() as connection:
        position = await journal.position(connection, settings.node.name)
        files = await journal.files(connection, settings.node.name)
        damaged = await journal.count_damaged(connection, settings.node.name)
    if position is None:
        yield warn("journal position", "nothing was read yet", "start the daemon and place a call")
    else:
        current = next((file for file in files if file.file_id == position.file_id), None)
        try:
            size, inode = path.stat().st_size, path.stat().st_ino
        except OSError:
            size, inode = 0, 0
        behind = size - position.offset if current and current.inode == inode else size
        if behind > 0:
            yield warn(
                "journal position",
                f"{behind} bytes of {path} are not read yet",
                "fine for a second; if it stays so, the daemon does not run or lags (dialmark health)",
            )
        else:
            yield ok("journal position", f"read to its end (offset {position.offset})")
    if damaged:
        yield warn(
            "journal rows", f"{damaged} damaged rows were put aside", "`dialmark verify` tells whether calls miss"
        )


def _disks(settings: Settings) -> Iterator[Finding]:
    from gateway.cli import host_checks

    place = settings.database.url.partition(":///")
    if place[0].startswith("sqlite"):
        yield host_checks.disk("disk of the database", Path(place[2]).parent)
    yield host_checks.disk("disk of the journal", settings.asterisk.journal_dir)


def _generated(settings: Settings, revision: int | None) -> Iterator[Finding]:
    import re

    from gateway.cli import host_checks
    from gateway.pbx import planfile

    folder = settings.asterisk.generated_dir
    yield host_checks.writable_folder("generated files", folder, "the default plans and trunks")
    if not revision:
        return
    path = folder / planfile.FILE_NAME
    try:
        head = path.read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError as error:
        yield fail("default plan", f"{path}: {error.strerror}", "the daemon writes it; is it running?")
        return
    written = re.search(r"(?m)^DM_PLAN_REVISION = (\d+)", head)
    number = int(written[1]) if written else 0
    if number != revision:
        yield fail(
            "default plan",
            f"{path} is of revision {number}, the store has {revision}",
            "the daemon writes it within 3 s: is it running, and does its log name a routing problem?",
        )
    else:
        yield ok("default plan", f"{path} is of revision {revision}")


async def _agi(settings: Settings) -> Finding:
    from gateway.cli import agi_probe

    check = "FastAGI"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.agi.host, settings.agi.host)  # noqa: S104 - to reach it
    place = f"{settings.agi.host}:{settings.agi.port}"
    try:
        answer = await agi_probe.ask(host, settings.agi.port)
    except agi_probe.NoAnswer as error:
        return fail(
            check,
            f"{place}: {error}",
            "callers go by their default plans meanwhile; systemctl status dialmark",
        )
    if answer.variables.get("DM_OK") != "1":
        return fail(check, f"{place} answered without DM_OK=1", "update daemon and dialplan together")
    milliseconds = answer.seconds * 1000
    if milliseconds > 500:
        return warn(check, f"{place} took {milliseconds:.0f} ms for a plan", "the dialplan waits 1.5 s: see the load")
    return ok(check, f"{place} gave a plan of revision {answer.variables.get('DM_REV')} in {milliseconds:.0f} ms")


def _asterisk(settings: Settings, stored: _Stored) -> Iterator[Finding]:
    from gateway.cli import ami_probe

    if not settings.ami.enabled:
        yield warn("AMI", "is switched off", "what Asterisk has loaded cannot be looked at; ami.enabled = true")
        return
    expressions = ["DM_PLAN_REVISION", "DM_AGI", "DM_SPOOL", *(_exists(name, CONTEXTS[name]) for name in CONTEXTS)]
    place = f"{settings.ami.host}:{settings.ami.port}"
    found = ami_probe.interview(
        settings.ami.host, settings.ami.port, settings.ami.username, settings.ami.password(), expressions
    )
    if found.problem is not None:
        yield fail(
            "AMI",
            f"{place} as {settings.ami.username}: {found.problem}",
            "see manager.conf and its secret; `dialmark init` shows what must be there (then: manager reload)",
        )
        return
    yield from _account(found, place, settings.ami.username)
    if found.version:
        yield _version(found.version)
    if "Getvar" in found.refused:
        yield warn("dialplan", "the account may not look at it", "write = call,reporting in manager.conf")
        return
    yield _dialplan(found)
    yield from _held(found, settings, stored)


def _exists(name: str, extension: str) -> str:
    return f"DIALPLAN_EXISTS({name},{extension},1)"


def _account(found: ami_probe.Interview, place: str, user: str) -> Iterator[Finding]:
    if found.refused:
        yield fail(
            "AMI",
            f"{user} may not: {', '.join(found.refused)}",
            "read = call (or system), write = call,reporting in manager.conf",
        )
    elif found.excessive:
        yield warn(
            "AMI",
            f"{user} has the right `{', '.join(found.excessive)}`, which is close to owning Asterisk",
            "write = call,reporting suffices",
        )
    else:
        yield ok("AMI", f"{place} as {user}, with the least rights")


def _version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if not numbers or numbers < SUPPORTED:
        return fail("Asterisk", f"version {version} is not supported", "20 is the oldest, 22.10.1 recommended")
    if numbers < DSV_SINCE:
        return warn(
            "Asterisk",
            f"version {version}: open advisories, and the journal needs the legacy mapping",
            "upgrade to 22.10.1 or later; until then `dialmark init --legacy-journal`",
        )
    if numbers < RECOMMENDED:
        return warn("Asterisk", f"version {version} has open advisories", "upgrade to 22.10.1 or later")
    return ok("Asterisk", f"version {version}")


def _dialplan(found: ami_probe.Interview) -> Finding:
    values = {name: found.values.get(_exists(name, extension)) for name, extension in CONTEXTS.items()}
    if all(value is None for value in values.values()):
        return warn("dialplan", "cannot be looked at: func_dialplan.so is not loaded", "load it in modules.conf")
    missing = [name for name, value in values.items() if value != "1"]
    if missing:
        return fail(
            "dialplan",
            f"Asterisk does not have {', '.join(missing)}",
            "`dialmark init` shows what extensions.conf must include; then dialplan reload",
        )
    return ok("dialplan", f"{len(values)} contexts are loaded")


def _held(found: ami_probe.Interview, settings: Settings, stored: _Stored) -> Iterator[Finding]:
    from gateway.cli import recording_checks

    held = found.values.get("DM_PLAN_REVISION")
    if revision := stored.revision:
        if held != str(revision):
            yield fail(
                "plan in Asterisk",
                f"Asterisk holds {f'revision {held}' if held else 'no generated plan'}, the store has {revision}",
                "dialplan reload; the unit dialmark-reload.path does it by itself. Without the daemon, callers would "
                "go by the old plan",
            )
        else:
            yield ok("plan in Asterisk", f"revision {held}, as in the store")
            spool = found.values.get("DM_SPOOL")
            if wrong := recording_checks.spool_in_asterisk(spool, settings, is_wanted=stored.is_recording):
                yield wrong
    address = found.values.get("DM_AGI")
    if address and address.rpartition(":")[2] != str(settings.agi.port):
        yield fail(
            "FastAGI address",
            f"the dialplan asks {address}, the daemon listens on port {settings.agi.port}",
            "set DM_AGI in extensions_site.conf, or agi.port",
        )
    elif not address:
        yield fail("FastAGI address", "the dialplan has no DM_AGI", "its [globals] are missing: `dialmark init`")
