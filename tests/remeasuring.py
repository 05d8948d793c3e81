"""A measurement that failed while the machine stood still is void, and is taken once more.

What is heard and recorded is in real time: where a hypervisor takes a core away in the middle of a call, sound is lost
that no product could have kept (`tests.rig.standstills`). Such a test of calls begins anew, on a node of its own, and
the second measurement counts, whatever happens meanwhile. Each void one is shown in the summary, with what failed and
for how long the machine stood still. A test that fails on a machine that ran is red at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from tests.rig import standstills

VOID_FROM_MS = 20.0
"""One packet of sound."""
VOID = "void"
AGAIN = pytest.StashKey[bool]()
"""Set in a test whose first measurement was void."""

_first: dict[Path, tuple[float, float]] = {}
"""From when to when the first test of a file ran: the calls that all its tests look at are often made there."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Runs a test of calls, and once more if what it measured is void."""
    if "acceptance" not in item.path.parts and "make_node" not in getattr(item, "fixturenames", ()):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports, lost_ms = _measured(item, nextitem)
    is_void = any(report.failed for report in reports) and lost_ms >= VOID_FROM_MS and AGAIN not in item.stash
    if is_void:
        # Down to the session, so that the file's calls are made again and not only looked at again. What void calls
        # left behind, such as a channel that is up, is void with them.
        reports = [_as_void(report, lost_ms) for report in (*reports, _torn_down(item)) if report.failed]
    _log(item, reports)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    if is_void:
        _measure_again(item, nextitem)
    return True


def _measure_again(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """By way of the plugins, so that the time limit begins anew."""
    del _first[item.path]
    item.stash[AGAIN] = True
    item._initrequest()  # type: ignore[attr-defined]  # a function's: pytest has no public way to run one twice
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)


def _torn_down(item: pytest.Item) -> pytest.TestReport:
    """How the end of all fixtures went, which raises nothing: it would end the whole run."""
    ending = pytest.CallInfo.from_call(
        lambda: item.session._setupstate.teardown_exact(None),
        "teardown",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    return pytest.TestReport.from_item_and_call(item, ending)


def _measured(item: pytest.Item, nextitem: pytest.Item | None) -> tuple[list[pytest.TestReport], float]:
    began = time.time()
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    first = _first.setdefault(item.path, (began, time.time()))
    before_ms = standstills.lost_ms(*first) if first[0] < began else 0.0
    return reports, before_ms + standstills.lost_ms(began)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """How a void measurement is counted and shown."""
    return ("measured again", "M", "MEASURED AGAIN") if report.outcome == VOID else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was void, and why."""
    for report in terminalreporter.stats.get("measured again", ()):
        terminalreporter.section(f"measured again: {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext)
        for title, content in report.sections:
            if title == VOID:
                terminalreporter.line(content)


def _as_void(report: pytest.TestReport, lost_ms: float) -> pytest.TestReport:
    report.outcome = VOID  # type: ignore[assignment]  # as plugins add outcomes; neither passed nor failed is counted
    report.sections.append((VOID, f"The machine stood still for {lost_ms:.0f} ms in these calls."))
    return report


def _log(item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
