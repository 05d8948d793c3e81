"""Only what the machine itself spoilt is measured again, and only once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.asterisk import ROOT

MEASUREMENT = """
import os, signal, time
from pathlib import Path

import pytest

from tests.rig import processes, standstills

RUNS = Path(__file__).parent / "runs"


def stand_still():
    sleeper, *_ = standstills.watch()
    processes.freeze(sleeper)
    stopped = time.time()
    processes.wait_until(lambda: time.time() >= stopped + 0.1, 1, "a tenth of a second")
    os.kill(sleeper, signal.SIGCONT)
    processes.wait_until(lambda: standstills.lost_ms(stopped) >= 90, 5, "a standstill in the book")


@pytest.fixture(scope="module")
def make_node():
    pass


@pytest.fixture(scope="module")
def calls({needed}):
    with RUNS.open("a") as runs:
        runs.write("calls\\n")
    made = len(RUNS.read_text().splitlines())
    yield made
    {last}


def test_calls_are_there(calls):
    {first}


def test_sound(calls):
    {second}
"""


def measure(
    folder: Path, first: str, second: str, *options: str, last: str = "pass", place: str = "acceptance"
) -> tuple[int, int, str]:
    """Exit code of pytest, how often the calls were made, and what was said."""
    tests = folder / place
    tests.mkdir()
    needed = "" if place == "acceptance" else "make_node"
    (tests / "test_measured.py").write_text(MEASUREMENT.format(first=first, second=second, last=last, needed=needed))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.remeasuring", "-p", "no:cacheprovider", "--rootdir"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    run = subprocess.run(
        [*argv, str(folder), str(tests), *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return run.returncode, len((tests / "runs").read_text().splitlines()), run.stdout


@pytest.mark.parametrize("place", ["acceptance", "pbx"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("pass", "calls > 1 or stand_still(); assert calls > 1, 'a gap'"),
        ("calls > 1 or stand_still()", "assert calls > 1, 'a gap'"),
    ],
    ids=["in the test", "when the calls were made"],
)
def test_a_void_measurement_is_taken_again(tmp_path: Path, first: str, second: str, place: str) -> None:
    """With calls of its own; what failed, and why it does not count, is told."""
    code, made, said = measure(tmp_path, first, second, place=place)
    assert (code, made) == (0, 2), said
    assert "a gap" in said and "stood still for" in said and "1 measured again" in said


def test_what_void_calls_left_behind_ends_nothing(tmp_path: Path) -> None:
    """Such as a channel that is up; of the second measurement it counts."""
    (tmp_path / "once").mkdir()
    void = "calls > 1 or stand_still(); assert calls > 1, 'a gap'"
    code, made, said = measure(tmp_path / "once", void, "pass", last="assert made > 1, 'still up'")
    assert (code, made) == (0, 2), said
    assert "still up" in said and "2 measured again" in said
    (tmp_path / "twice").mkdir()
    code, made, said = measure(tmp_path / "twice", void, "pass", last="assert False, 'still up'")
    assert (code, made) == (1, 2), said


def test_the_second_measurement_counts(tmp_path: Path) -> None:
    code, made, said = measure(tmp_path, "pass", "stand_still(); assert False, 'a gap'")
    assert (code, made) == (1, 2), said
    assert "1 failed" in said and "1 measured again" in said


def test_the_second_measurement_has_a_time_limit_of_its_own(tmp_path: Path) -> None:
    """Calls that hang when they are made again end the test, and not the patience of whoever waits for the run."""
    hang = "import threading; threading.Event().wait(0 if calls == 1 else 60)"
    code, made, said = measure(tmp_path, "pass", f"stand_still(); {hang}; assert False, 'a gap'", "--timeout=3")
    assert (code, made) == (1, 2), said
    assert "Timeout (>3.0s)" in said and "1 measured again" in said


def test_a_failure_on_a_machine_that_ran_is_red_at_once(tmp_path: Path) -> None:
    """Nothing is watched here, so nothing stands still."""
    code, made, said = measure(tmp_path, "pass", "assert False, 'a gap'")
    assert (code, made) == (1, 1), said
    assert "measured again" not in said
