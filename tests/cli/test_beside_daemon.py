"""Commands beside a running daemon on the same database, which `dialmark run` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import journals
from tests.cli.conftest import ROOT, ROUTING, Operator


@pytest.fixture
def running(operator: Operator, unused_port: int) -> Iterator[Operator]:
    """A daemon with all roles and without AMI, ready."""
    operator.apply()
    text = operator.config.read_text().replace("[ami]", "[ami]\nenabled = false")
    operator.config.write_text(f"{text}[agi]\nport = 0\n[web]\nport = 0\nadmin_port = {unused_port}\n")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DIALMARK_CONFIG": str(operator.config)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert daemon.stderr is not None
    try:
        said = []
        for line in daemon.stderr:
            said.append(line)
            if "READY" in line:
                break
        else:
            pytest.fail("".join(said))
        yield operator
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, rest = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, rest


def test_health_and_what_doctor_sees(running: Operator) -> None:
    said = running("health")
    assert said.lines[0].startswith("DIALMARK OK")
    assert "routing: revision 1 in force" in said.out


def test_records_and_revisions_go_both_ways(running: Operator) -> None:
    """The daemon stores what the journal says, while the operator applies, lists and verifies."""
    running.journal.write_bytes(journals.content("answered_agent_ends"))
    following = subprocess.run(
        f"{sys.executable} -m gateway calls tail -f -n 1 --format json | head -n 1",
        shell=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DIALMARK_CONFIG": str(running.config)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert '"outcome":"answered"' in following.stdout
    for number in range(2, 6):
        assert f"Revision {number} applied." in running.apply(ROUTING.replace("Radio", f"Radio {number}")).out
    assert running("verify").lines[0].startswith("0 of 1 missing, 0 doubled, 0 invented")
    assert "0 new, 0 changed, 1 same" in running("replay").out
