"""The demo as a new user meets it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.asterisk import ROOT

COMMAND = [sys.executable, "scripts/lib/demo.py"]
COLUMNS = 80


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo makes its folder: open to the user Asterisk runs as, and short, for its socket's sake."""
    folder = Path(tempfile.mkdtemp(prefix="dm-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def environment(place: Path) -> dict[str, str]:
    """A worker's share of ports is for its tests; the demo has one of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}


@pytest.mark.real_time
def test_every_call_is_as_expected_and_nothing_is_left_behind(place: Path) -> None:
    """C2, C3, C4, C5, C6, C7, R18, R49, R88, N1, N2, N3, N7: `--once` is what CI runs."""
    done = subprocess.run([*COMMAND, "--once"], cwd=ROOT, env=environment(place), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[-1] == "13 of 13 calls as expected"
    told = [re.sub(r", [\d.]+ s$", "", line.strip()) for line in lines if re.search(r"recorded(, [\d.]+ s)?$", line)]
    assert [line for line in told if not line.startswith("✓")] == [
        "consent granted, key 1 · talk recorded",
        "consent refused, key 2 · not recorded",
        "voicemail recorded",
    ]
    assert "  2 recordings are whole" in lines
    assert sorted(line.split()[1] for line in lines if re.match(r"  \d  \+", line)) == [
        f"+791611100{number:02}" for number in (6, 7, 11)
    ]
    [told_of] = [line for line in lines if line.endswith(" events delivered by webhook, each signed")]
    arrived, events = re.findall(r"\d+", told_of)
    assert arrived == events
    [shown] = [line for line in lines if line.endswith("in place of +74990000000")]
    assert re.fullmatch(r"  and is shown \+749900001(0[1-9]|1[0-2]) in place of \+74990000000", shown)
    assert [line for line in lines if "campaign spring, keyword implants · visitor " in line]
    assert done.stderr == ""
    assert [line for line in lines if len(line) > COLUMNS or "\033" in line] == []
    assert list(place.iterdir()) == []


def test_ctrl_c_in_the_middle_ends_it_all(place: Path) -> None:
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment(place), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("▶ calls"):
                break
        # A terminal sends it to every program in it.
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(30) == 130, rest
    assert "stopped before the calls were through" in rest
    assert list(place.iterdir()) == []
