"""`run`, `check` and `health`: the daemon from outside."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gateway.config.settings import Settings

ROLES = ("calls", "web", "worker")
HEALTH_OK, HEALTH_WARNING, HEALTH_CRITICAL = 0, 1, 2
"""Exit codes as monitoring plug-ins have them (Nagios, Icinga, Zabbix)."""


def run(
    roles: Annotated[
        str, typer.Option("--roles", help="What this process does, by commas: calls, web, worker.")
    ] = "calls,web,worker",
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Run the daemon in the foreground. Exits 78 when the configuration is wrong.

    SIGTERM drains and ends it, SIGHUP reads the configuration again.
    """
    chosen = tuple(dict.fromkeys(part.strip() for part in roles.split(",") if part.strip()))
    if not chosen or set(chosen) - set(ROLES):
        raise failures.Misuse(f"--roles: '{roles[:40]}' is not a list of {', '.join(ROLES)}")
    from gateway.config import settings as reading

    try:
        settings = reading.load(config, os.environ)
        settings.ami.password()
    except reading.SettingsErrors as error:
        for line in str(error).splitlines():
            output.note(f"dialmark: {line}")
        raise typer.Exit(failures.EXIT_CONFIGURATION) from None
    import asyncio

    from gateway import daemon, log

    log.configure(
        format=settings.logging.format, level=settings.logging.level, mask_numbers=settings.logging.mask_numbers
    )
    work = daemon.run(settings, frozenset(chosen), lambda: reading.load(config, os.environ))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        raise typer.Exit(runner.run(work))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (`pip install dialmark[fast]`), else the standard one."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def check(
    effective: Annotated[
        bool, typer.Option("--effective", help="Print what is in force, from every source, secrets masked.")
    ] = False,
    routing: Annotated[
        Path | None, typer.Option("--routing", help="Check this routing file too; needs no database.", metavar="FILE")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings, too.")] = False,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Check the configuration: every error at once, with file, line, key and what was probably meant.

    With --routing also a routing file, and what is hardly meant in it. `dialmark apply FILE --dry-run` does that, too,
    and shows what would change.
    """
    from gateway.config import settings as reading
    from gateway.config import shipped

    try:
        settings = reading.load(config, os.environ)
        settings.ami.password()
        shipped.refuse_broken(settings)
    except reading.SettingsErrors as error:
        for one in error.errors:
            print(output.plain(str(one)))
        plural = "1 error" if len(error.errors) == 1 else f"{len(error.errors)} errors"
        raise failures.Failure(f"the configuration is refused: {plural}") from None
    if not effective:
        print(f"{config}: no errors.")
    if routing is not None:
        _check_routing(settings, routing, is_strict=strict)
    if not effective:
        return
    values = reading.effective(settings)
    if form is output.Format.JSON:
        output.json_document(values)
        return
    rows = [
        {"key": f"{name}.{key}", "value": value if isinstance(value, str) else json.dumps(value)}
        for name, section in values.items()
        for key, value in section.items()
    ]
    output.listing(rows, [output.Column("key", "Setting"), output.Column("value", "Value")], form)


def _check_routing(settings: Settings, file: Path, *, is_strict: bool) -> None:
    from gateway.cli import routingcheck

    text = routingcheck.read(file)
    warned = routingcheck.warn(text, file, routingcheck.checked(text, file, settings), settings)
    print(f"{file}: no errors, {warned} warnings.")
    if warned and is_strict:
        raise failures.Failure(f"{file} has warnings")


def health(
    form: Annotated[output.Format, typer.Option("--format", help="table, json or csv.")] = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Ask the running daemon how it is. Exits 0 ready, 1 degraded, 2 not ready or not reachable.

    One line for monitoring: OK, WARNING or CRITICAL, then what is wrong.
    """
    settings = context.settings(config)
    document, problem = readiness(settings)
    checks: dict[str, Any] = document.get("checks") or {}
    state = str(document.get("status") or "unreachable")
    code = {"ready": HEALTH_OK, "degraded": HEALTH_WARNING}.get(state, HEALTH_CRITICAL)
    rows = [
        {"check": name, "well": bool(one.get("well")), "required": bool(one.get("required")), "summary": summary}
        for name, one in checks.items()
        for summary in [str(one.get("summary") or "")]
    ]
    if form is output.Format.JSON:
        output.json_document({"status": state, "problem": problem, "checks": rows})
    elif form is output.Format.CSV:
        output.listing(rows, [output.Column(key) for key in ("check", "well", "required", "summary")], form)
    else:
        word = ("OK", "WARNING", "CRITICAL")[code]
        complaints = [f"{row['check']}: {row['summary'] or 'not well'}" for row in rows if not row["well"]]
        said = problem or "; ".join(complaints) or state
        print(output.plain(f"DIALMARK {word}: {said}"))
        for row in rows:
            print(output.plain(f"  {'ok  ' if row['well'] else 'FAIL'} {row['check']}: {row['summary']}"))
    sys.exit(code)


def _host(settings: Settings) -> str:
    """Where the admin listener is reached from this machine."""
    host = settings.web.admin_host
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what it listens on, not what we do
    return f"[{reached}]" if ":" in reached else reached


def readiness(settings: Settings) -> tuple[dict[str, Any], str]:
    """The running daemon's document of /readyz, and in words why there is none."""
    from urllib import error, request

    url = f"http://{_host(settings)}:{settings.web.admin_port}/readyz"
    # Proxies of the environment are for the world outside, not for this machine.
    opener = request.build_opener(request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            body = answer.read(1_000_000)
    except error.HTTPError as refused:
        body = refused.read(1_000_000)
    except (OSError, ValueError) as failed:
        reason = getattr(failed, "reason", failed)
        return {}, f"{url} does not answer ({reason}): is the daemon running? (systemctl status dialmark)"
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "status" not in document:
        return {}, f"{url} answered something else: does another program listen there?"
    return document, ""
