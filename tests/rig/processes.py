"""Child processes that never outlive the test."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# Free in Debian's and systemd's tables of users; Asterisk needs no entry in /etc/passwd.
UNPRIVILEGED_ID = 64001


class Process(Protocol):
    """A child, as `subprocess.Popen` shows it."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def guarded(argv: Sequence[str]) -> list[str]:
    """The command, killed by the kernel when the process that starts it dies, however it dies."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def unprivileged(argv: Sequence[str]) -> list[str]:
    """The command without any right that root has, and guarded; for a normal user just guarded."""
    drop = ["--no-new-privs"]
    if os.geteuid() == 0:
        user = str(UNPRIVILEGED_ID)
        drop += ["--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", *drop, "--pdeathsig", "KILL", "--", *argv]


def real_time(argv: Sequence[str], priority: int) -> list[str]:
    """The command, before all other work of the machine from its first instruction on, where we may."""
    return [*(["chrt", "--rr", str(priority)] if _may_be_real_time() else []), *argv]


@functools.cache
def _may_be_real_time() -> bool:
    return subprocess.run(["chrt", "--rr", "1", "true"], capture_output=True).returncode == 0


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until every thread has stopped: one that still runs could answer."""
    os.kill(pid, signal.SIGSTOP)
    while not all(_state(task) in "Tt" for task in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.001)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(") ")[2][:1]


def stop(process: Process, seconds: float = 5.0) -> None:
    """SIGTERM, then SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
