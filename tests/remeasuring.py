"""A measurement in real time that failed while the machine stood still is void, and is taken again, alone.

What is heard and recorded is in real time, and so is how soon a caller is served: where a hypervisor takes a core away
in the middle of a call, sound is lost that no product could have kept (`tests.rig.standstills`). A test marked
``real_time`` that fails then neither passes nor fails: it is shown as void, with what failed and for how long the
machine stood still, and its name goes to the file of ``--void-to``. `scripts/test` then runs it again, when all other
work is done, and with ``--calm`` lets the machine come to rest before: a hypervisor takes cores away from who used them
much. Without that option, on a machine that ran, and in all other tests, a failure is red at once; and so is
:class:`RecordsDiffer` in any.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.rig import standstills
from tests.rig.waits import wait_until

VOID_FROM_MS = 100.0
"""Asterisk's audio hooks throw away sound that is more than this apart (`asterisk.md`)."""
VOID = "void"
CALM_SECONDS, CALM_BELOW_MS, MOST_CALM_SECONDS = 3.0, 30.0, 60.0
"""Calm is a machine that stood still for no longer than this at once in so many seconds. Waited for before one test."""


class RecordsDiffer(AssertionError):
    """A call without a record, with two, or a record without a call: no machine may be the cause of that (N1)."""


_began = pytest.StashKey[float]()
_calm_seconds_left = pytest.StashKey[float]()
_first: dict[Path, tuple[float, float | None]] = {}
"""From when to when the first test of a file ran: the calls that all its tests look at are often made there."""
_void_files: set[Path] = set()
"""What void calls leave behind, such as a channel that is up at the end of the file, is void with them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `scripts/test`."""
    parser.addoption("--void-to", metavar="FILE", help="write the tests in real time that the machine spoilt to FILE")
    calm = "before each test in real time wait until the machine is calm, for so many seconds in all"
    parser.addoption("--calm", metavar="SECONDS", type=float, default=0.0, help=calm)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Its calls are made from now on, on a machine that is watched."""
    if item.get_closest_marker("real_time"):
        standstills.watch()
        _until_calm(item.config)
    item.stash[_began] = time.time()
    _first.setdefault(item.path, (item.stash[_began], None))


def _until_calm(config: pytest.Config) -> None:
    began = time.time()
    left = config.stash.get(_calm_seconds_left, float(config.getoption("calm")))
    # Nobody looked before the first test.
    since = began if _calm_seconds_left not in config.stash else 0.0

    def is_calm() -> bool:
        from_when = time.time() - CALM_SECONDS
        return from_when >= since and standstills.longest_ms(from_when) < CALM_BELOW_MS

    if left > 0:
        with contextlib.suppress(TimeoutError):
            wait_until(is_calm, min(left, MOST_CALM_SECONDS), "a calm machine")
        config.stash[_calm_seconds_left] = left - (time.time() - began)


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
