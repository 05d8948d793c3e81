"""`rules …`: the rules that score and tag calls, listed, and tried over the calls that are stored (R60, R61)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway.config.settings import Settings
    from gateway.core import book
    from gateway.store import calls as stored_calls

app = typer.Typer(help="Rules that score and tag calls: list, try.", no_args_is_help=True)

File = Annotated[
    Path | None, typer.Argument(help="A routing file; the one in force if left out; - reads standard input.")
]

RULES = (
    output.Column("rule", "Rule", is_whole=True),
    output.Column("when", "Holds for"),
    output.Column("gives", "Gives"),
)
CHANGES = (
    output.Column("call_id", "Call", table_key="short_id", is_whole=True),
    output.Column("started_at", "Started", table_key="started", is_whole=True),
    output.Column("caller", "Caller", is_whole=True),
    output.Column("score_now"),
    output.Column("score"),
    output.Column("scores", "Score", table_key="scores", is_whole=True),
    output.Column("marks", "Marks"),
    output.Column("tags", "Tags"),
    output.Column("rules", "Rules"),
)
_MARKS = ("qualified", "spam")
SHORT_ID = 8


@app.command("list", short_help="List the rules in their order.")
def list_rules(
    file: File = None, form: context.Format = output.Format.TABLE, config: context.Config = context.DEFAULT_CONFIG
) -> None:
    """List the rules in their order: for which calls each holds, and what it gives.

    \b
    Example:
        dialmark rules list
    """
    chosen = context.settings(config)
    made = context.run(_book(chosen, file))
    rows = [{"rule": one.key, "when": one.when.words, "gives": one.gives} for one in made.scoring.rules]
    output.listing(rows, RULES, form, nothing="There are no rules: docs/rules.md tells how to write one.")


@app.command("try", short_help="Show what rules would change in stored calls.")
def try_rules(
    file: File = None,
    since: Annotated[str, typer.Option("--since", help="Calls started at or after: 2026-11-21, today, 7d.")] = "30d",
    until: Annotated[str | None, typer.Option("--until", help="Started before.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Name at most so many calls.")] = 50,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Try the rules of a routing file over calls that are stored: which would have another score, tags or marks.

    Nothing is changed: records keep what the rules said when they closed. Without FILE the rules in force are tried.

    \b
    Examples:
        dialmark rules try routing.toml --since 30d
        dialmark rules try routing.toml --since 2026-11-01 --until 2026-12-01 --format csv > changes.csv
    """
    found = context.run(_try(context.settings(config), file, since, until, limit))
    if form is output.Format.JSON:
        output.json_document(found.document())
        return
    output.listing(found.changes, CHANGES, form, nothing="No call would change.")
    if form is output.Format.TABLE:
        for line in found.summary():
            output.note(line)


@dataclass(slots=True)
class Tried:
    """What trying has found. `by_rule` counts the calls for which a rule holds, all rules in their order."""

    calls: int = 0
    changed: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    changes: list[dict[str, Any]] = field(default_factory=list)
    """At most as many as were asked for."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        rules = [{"rule": key, "calls": count} for key, count in self.by_rule.items()]
        keys = [column.key for column in CHANGES if column.key != "scores"]
        changes = [{key: one[key] for key in keys} for one in self.changes]
        return {"calls": self.calls, "changed": self.changed, "rules": rules, "changes": changes}

    def summary(self) -> list[str]:
        """For the person at the terminal."""
        lines = [f"{self.changed} of {self.calls} calls would change" + self._left_out()]
        return [*lines, *(f"  {key}: holds for {count}" for key, count in self.by_rule.items())]

    def _left_out(self) -> str:
        more = self.changed - len(self.changes)
        return f"; {more} more are not shown (--limit)" if more else ""


async def _try(settings: Settings, file: Path | None, since: str, until: str | None, limit: int) -> Tried:
    from gateway.cli import moments
    from gateway.core import scoring
    from gateway.store import calls as stored_calls

    made = await _book(settings, file)
    found = Tried(by_rule=Counter({rule.key: 0 for rule in made.scoring.rules}))
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        now = context.now()
        wanted = stored_calls.CallFilter(
            since_us=moments.micros(moments.parse(since, "--since", now=now, zone=zone)),
            until_us=moments.micros(moments.parse(until, "--until", now=now, zone=zone)) if until else None,
            state="closed",
        )
        async for row in stored_calls.export(database, wanted):
            record = json.loads(row.record)
            after = scoring.scored(record, made)
            found.calls += 1
            found.by_rule.update(one["rule"] for one in (after or {}).get("rules", ()))
            if _said(record.get("scoring")) != _said(after):
                found.changed += 1
                if len(found.changes) < limit:
                    found.changes.append(_change(row, record.get("scoring"), after, zone))
    return found


async def _book(settings: Settings, file: Path | None) -> book.Book:
    """The book of the file, or the one in force. Raises Failure."""
    from gateway.cli import routingcheck

    if file is not None:
        return routingcheck.checked(routingcheck.read(file), file, settings)
    async with context.database(settings) as database:
        in_force = await context.book_in_force(database, settings)
    if in_force is None:
        raise failures.Failure("there is no routing yet: `dialmark apply routing.toml` makes the first revision")
    return in_force


def _said(scoring: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    """What of a `scoring` matters to whoever reads it; by which rules is another matter."""
    if scoring is None:
        return None
    return (scoring["score"], *(scoring[mark] for mark in _MARKS), frozenset(one["tag"] for one in scoring["tags"]))


def _change(
    row: stored_calls.CallRow, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, zone: tzinfo
) -> dict[str, Any]:
    from gateway.cli import moments

    old, new = before or {}, after or {}
    had = [one["tag"] for one in old.get("tags", ())]
    has = [one["tag"] for one in new.get("tags", ())]
    tags = [f"+{tag}" for tag in has if tag not in had] + [f"-{tag}" for tag in had if tag not in has]
    marks = [
        f"{mark} {_word(old.get(mark))} → {_word(new.get(mark))}" for mark in _MARKS if old.get(mark) != new.get(mark)
    ]
    return {
        "call_id": row.call_id,
        "short_id": row.call_id[:SHORT_ID],
        "started_at": moments.rfc3339(row.started_us),
        "started": moments.shown(row.started_us, zone),
        "caller": row.caller,
        "score_now": old.get("score"),
        "score": new.get("score"),
        "scores": f"{_word(old.get('score'))} → {_word(new.get('score'))}",
        "marks": ", ".join(marks),
        "tags": ", ".join(tags),
        "rules": ", ".join(one["rule"] for one in new.get("rules", ())),
    }


def _word(value: object) -> str:
    match value:
        case None:
            return "-"
        case True | False:
            return "yes" if value else "no"
    return str(value)
