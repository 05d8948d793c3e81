"""A measurement in real time that failed while the machine stood still is void, and is taken again, alone.

What is heard and recorded is in real time, and so is how soon a caller is served: where a hypervisor takes a core away
in the middle of a call, sound is lost that no product could have kept (`tests.rig.standstills`). A test marked
``real_time`` that fails then neither passes nor fails: it is shown as void, with what failed and for how long the
machine stood still, and its name goes to the file of ``--void-to``. `scripts/test` then runs it again, when all other
work is done. Without that option, on a machine that ran, and in all other tests, a failure is red at once; and so is
:class:`RecordsDiffer` in any.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.rig import standstills

VOID_FROM_MS = 100.0
"""Asterisk's audio hooks throw away sound that is more than this apart (`asterisk.md`)."""
VOID = "void"


class RecordsDiffer(AssertionError):
    """A call without a record, with two, or a record without a call: no machine may be the cause of that (N1)."""


_began = pytest.StashKey[float]()
_first: dict[Path, tuple[float, float | None]] = {}
"""From when to when the first test of a file ran: the calls that all its tests look at are often made there."""
_void_files: set[Path] = set()
"""What void calls leave behind, such as a channel that is up at the end of the file, is void with them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `scripts/test`."""
    parser.addoption("--void-to", metavar="FILE", help="write the tests in real time that the machine spoilt to FILE")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Its calls are made from now on, on a machine that is watched."""
    if item.get_closest_marker("real_time"):
        standstills.watch()
    item.stash[_began] = time.time()
    _first.setdefault(item.path, (item.stash[_began], None))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure that the machine may be the cause of is void."""
    report = yield
    first = _first[item.path]
    may_be_void = item.config.getoption("void_to") and item.get_closest_marker("real_time")
    if report.failed and may_be_void and not isinstance(getattr(call.excinfo, "value", None), RecordsDiffer):
        longest_ms = max(standstills.longest_ms(item.stash[_began]), standstills.longest_ms(*first))
        if longest_ms >= VOID_FROM_MS or (report.when == "teardown" and item.path in _void_files):
            _void_files.add(item.path)
            report.outcome = VOID  # type: ignore[assignment]  # as plugins add outcomes
            report.sections.append((VOID, f"The machine stood still for {longest_ms:.0f} ms at once in these calls."))
    if report.when == "teardown" and first[1] is None:
        _first[item.path] = (first[0], time.time())
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """How a void measurement is counted and shown."""
    return (VOID, "V", "VOID") if report.outcome == VOID else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was void, and why; and its names, once each, for whoever measures again."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get(VOID, [])
    for report in reports:
        terminalreporter.section(f"void: {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext)
        for title, content in report.sections:
            if title == VOID:
                terminalreporter.line(content)
    if void_to := terminalreporter.config.getoption("void_to"):
        Path(void_to).write_text("".join(f"{name}\n" for name in dict.fromkeys(report.nodeid for report in reports)))
