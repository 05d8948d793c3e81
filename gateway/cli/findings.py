"""What `doctor` finds: one line per check, with what to do where something is not well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `advice` says what to do, for warn and fail."""

    check: str
    state: State
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, text)


def warn(check: str, text: str, advice: str) -> Finding:
    """Works, but not as it should."""
    return Finding(check, State.WARN, text, advice)


def fail(check: str, text: str, advice: str) -> Finding:
    """Does not work."""
    return Finding(check, State.FAIL, text, advice)


def failed(findings: Iterable[Finding]) -> bool:
    """Whether any check failed."""
    return any(finding.state is State.FAIL for finding in findings)
