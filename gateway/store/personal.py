"""Which columns hold personal data, so that erasing a person forgets none (a test fails for a column not judged)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PersonalColumn:
    """A column with personal data, and what that is."""

    table: str
    column: str
    what: str


def personal_columns() -> list[PersonalColumn]:
    """All of them, by table."""
    raise NotImplementedError


def unjudged_columns() -> list[str]:
    """`table.column` whose name sounds personal, or whose type holds free bytes, but which is neither registered as
    personal nor declared impersonal with a reason."""
    raise NotImplementedError
