"""What is hardly meant in the rules of a routing file that holds: rules that no call can meet (R46)."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config import tables
from gateway.core import book, rating, rules

_RATINGS = frozenset(question.value for question in rating.Question)


def warn(root: tables.Table, made: book.Book) -> None:
    """Note them in `root`, which was read as `made`."""
    by_key = {rule.key: rule for rule in made.scoring.rules}
    stopped_by: str | None = None
    for table in root.tables("rule"):
        rule = by_key[str(table.raw.get("key"))]
        for question in _unasked(rule.when, made):
            table.wrong("keys", f"no route asks for {question}: give `rating` to one, or this never holds")
        if stopped_by is not None:
            table.wrong(None, f"is never asked: rule {stopped_by} before it holds for every call and says stop")
        elif rule.stop and rule.when == rules.When():
            stopped_by = rule.key


def _unasked(when: rules.When, made: book.Book) -> Iterator[str]:
    """Questions of `keys` that no rating asks; only where all keys of the rule are of such questions."""
    asked = {one.value for route in made.routes.values() if route.rating for one in route.rating.questions}
    wanted = {question for question, _ in when.keys}
    if wanted and wanted <= _RATINGS - asked:
        yield from sorted(wanted)
