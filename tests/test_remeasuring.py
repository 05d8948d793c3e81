"""Only what the machine itself spoilt is measured again, and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.asterisk import ROOT

MEASUREMENT = """
import time
from pathlib import Path

import pytest

from tests import remeasuring
from tests.rig import standstills

pytestmark = {marks}
book = Path(__file__).parent / "book"
book.touch()
remeasuring.CALM_SECONDS = 0.4
# In place of what the sleepers wrote, who would also see what this machine does meanwhile.
standstills._books.append(book)


def stand_still(seconds=0.101):
    began = time.time()
    time.sleep(seconds)
    book.write_text(f"{{began}} {{began + seconds}}")


@pytest.fixture(scope="module")
def calls():
    yield
    {last}


def test_calls_are_there(calls):
    {first}


def test_in_real_time(calls):
    {second}


def test_afterwards(calls):
    {third}
"""
GAP = "assert False, 'a gap'"
SPOILT = f"stand_still(); {GAP}"


def measure(
    folder: Path,
    first: str,
    second: str,
    *options: str,
    third: str = "pass",
    last: str = "pass",
    marks: str = "pytest.mark.real_time",
) -> tuple[int, list[str], str]:
    """Exit code of pytest, which tests are to be run again, and what was said."""
    tests = MEASUREMENT.format(first=first, second=second, third=third, last=last, marks=marks)
    (folder / "test_measured.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = real_time: in real time\n")
    void = folder / "void"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.remeasuring", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*argv, *(options or ("--void-to", str(void)))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    names = [name.rpartition("::")[2] for name in void.read_text().splitlines()] if void.exists() else []
    return run.returncode, names, run.stdout


@pytest.mark.parametrize(
    ("first", "second"),
    [("pass", SPOILT), ("stand_still()", GAP)],
    ids=["in the test", "when the calls were made"],
)
@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_the_machine_spoilt_is_void(tmp_path: Path, first: str, second: str, workers: str) -> None:
    """Neither passed nor failed; what failed, and why it does not count, is told."""
    options = ("--void-to", str(tmp_path / "void"), "-n", workers)
    code, again, said = measure(tmp_path, first, second, *options)
    assert (code, again) == (0, ["test_in_real_time"]), said
    assert "a gap" in said and "stood still for" in said and "1 void" in said and "2 passed" in said


def test_what_void_calls_left_behind_is_void(tmp_path: Path) -> None:
    """Such as a channel that is up at the end of the file; without void calls it is an error."""
    code, again, said = measure(tmp_path, SPOILT, "pass", last="assert False, 'still up'")
    assert (code, again) == (0, ["test_calls_are_there", "test_afterwards"]), said
    assert "still up" in said
    code, again, said = measure(tmp_path, "pass", "pass", last="assert False, 'still up'")
    assert (code, again) == (1, []), said


def test_void_calls_excuse_no_later_test_of_their_file(tmp_path: Path) -> None:
    """One that fails by itself, on a machine that ran, is red."""
    code, again, said = measure(tmp_path, "pass", SPOILT, third=GAP)
    assert (code, again) == (1, ["test_in_real_time"]), said
    assert "1 failed" in said and "1 void" in said


@pytest.mark.parametrize(
    ("second", "marks"),
    [
        (GAP, "pytest.mark.real_time"),
        (f"stand_still(0.099); {GAP}", "pytest.mark.real_time"),
        (SPOILT, "[]"),
        ("stand_still(); raise remeasuring.RecordsDiffer('a call without a record')", "pytest.mark.real_time"),
    ],
    ids=["on a machine that ran", "after moments", "of what is not in real time", "of records"],
)
def test_all_else_is_red_at_once(tmp_path: Path, second: str, marks: str) -> None:
    code, again, said = measure(tmp_path, "pass", second, marks=marks)
    assert (code, again) == (1, []), said
    assert "1 failed" in said and "void" not in said


@pytest.mark.parametrize(("seconds", "calm_seconds", "code"), [("60", 0.4, 0), ("0.1", 1000, 1), ("0", 1000, 1)])
def test_the_machine_comes_to_rest_before_a_measurement(
    tmp_path: Path, seconds: str, calm_seconds: float, code: int
) -> None:
    """For as long as is asked at most, and not at all unless it is."""
    moves = f"remeasuring.CALM_SECONDS = {calm_seconds}; stand_still()"
    # The end of a standstill that is in the last seconds no longer as a whole is overlooked.
    rested = "assert time.time() - float(book.read_text().split()[1]) > 0.9 * remeasuring.CALM_SECONDS"
    found, again, said = measure(tmp_path, moves, rested, "--calm", seconds)
    assert (found, again) == (code, []), said


def test_the_last_measurement_counts(tmp_path: Path) -> None:
    """Run without a place for what is void."""
    code, again, said = measure(tmp_path, "pass", SPOILT, "-v")
    assert (code, again) == (1, []) and "1 failed" in said, said
