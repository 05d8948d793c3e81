"""A look at Asterisk through AMI with pyst2: the second, independent client beside the daemon's own.

pyst2 waits for replies without end and matches them by order, so the whole conversation runs in a thread that is left
to itself when its time is over. Only for short-lived commands.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

SECONDS = 8.0
BEYOND_CLICK = (
    *(
        "Command",
        "Getvar",
        "Setvar",
        "Hangup",
        "Redirect",
        "Atxfer",
        "Bridge",
        "CoreStatus",
        "CoreShowChannels",
        "Status",
    ),
    *("DBGet", "DBPut", "GetConfig", "UpdateConfig", "CreateConfig", "ModuleLoad", "Reload", "MixMonitor", "UserEvent"),
)
"""What the account of clicks must not be able to: one of each right."""


@dataclass(slots=True)
class Interview:
    """What Asterisk said. `problem` is None when the login worked; the answers then are complete."""

    problem: str | None = None
    title: str = ""
    version: str = ""
    """Of Asterisk, like `22.10.1`; "" when the account may not ask."""
    refused: list[str] = field(default_factory=list)
    """Actions that the account should have and has not."""
    excessive: list[str] = field(default_factory=list)
    """Rights that it has and should not have."""
    values: dict[str, str | None] = field(default_factory=dict)
    """Global variables and functions asked for; None when not set."""


def interview(
    host: str, port: int, user: str, secret: str, expressions: Sequence[str], *, seconds: float = SECONDS
) -> Interview:
    """Log in, ask for the version and the value of each of `expressions`, log off. Never raises, never hangs."""
    found = Interview()
    return _within(found, seconds, lambda: _converse(found, host, port, user, secret, expressions))


def _within(found: Interview, seconds: float, work: Callable[[], None]) -> Interview:
    done = threading.Event()

    def converse() -> None:
        try:
            work()
        except Exception as error:
            found.problem = _said(error)
        finally:
            done.set()

    threading.Thread(target=converse, name="ami interview", daemon=True).start()
    if not done.wait(seconds):
        return Interview(problem=f"no answer within {seconds:.0f} s")
    return found


def abilities(host: str, port: int, user: str, secret: str, *, seconds: float = SECONDS) -> Interview:
    """Log in as an account that should be able to nothing but `Originate`, and ask what it may; carries nothing out.
    Never raises, never hangs."""
    found = Interview()

    def look(session: Any) -> None:
        said = {name.lower() for name in _action(session, Action="ListCommands").headers}
        if "originate" not in said:
            found.refused.append("Originate")
        found.excessive += sorted(name for name in BEYOND_CLICK if name.lower() in said)

    return _within(found, seconds, lambda: _talk(host, port, user, secret, found, look))


def _converse(found: Interview, host: str, port: int, user: str, secret: str, expressions: Sequence[str]) -> None:
    _talk(host, port, user, secret, found, lambda session: _ask(found, session, expressions))


def _talk(host: str, port: int, user: str, secret: str, found: Interview, ask: Callable[[Any], None]) -> None:
    # pyst2 says little of a connection that fails, and leaves its socket open.
    socket.create_connection((host, port), timeout=SECONDS / 2).close()
    # By name: type checkers would look into the folder `asterisk/` of the working copy.
    library = import_module("asterisk.manager")
    # Its finaliser closes a socket that is closed already, at a time of the collector's choice.
    session = type("Session", (library.Manager,), {"__del__": lambda _: None})()
    session.connect(host, port)
    found.title = session.title or ""
    session.login(user, secret)
    try:
        ask(session)
    finally:
        # Asterisk closes while pyst2 still reads, which it takes for an error.
        with contextlib.suppress(Exception):
            session.logoff()


def _ask(found: Interview, session: Any, expressions: Sequence[str]) -> None:
    settings = _action(session, Action="CoreSettings")
    if _is_success(settings):
        found.version = str(settings.get_header("AsteriskVersion") or "").split("+")[0].split("~")[0]
    else:
        found.refused.append("CoreSettings")
    if not _is_success(_action(session, Action="CoreStatus")):
        found.refused.append("CoreStatus")
    # A harmless question that only an account with too many rights gets an answer to.
    if _is_success(_action(session, Action="Command", Command="core show uptime")):
        found.excessive.append("command")
    for expression in expressions:
        reply = _action(session, Action="Getvar", Variable=expression)
        if not _is_success(reply):
            found.refused.append("Getvar")
            return
        found.values[expression] = str(reply.get_header("Value") or "") or None


def _action(session: Any, **headers: str) -> Any:
    # A new dict each time: pyst2's own default argument is shared between calls.
    return session.send_action(dict(headers))


def _is_success(reply: Any) -> bool:
    return str(reply.get_header("Response") or "") == "Success"


def _said(error: Exception) -> str:
    text = str(error) or type(error).__name__
    match type(error).__name__:
        case "ManagerAuthException":
            return f"login refused ({text})"
        case "ManagerSocketException" | "ConnectionRefusedError":
            return f"no connection ({text})"
    return text
