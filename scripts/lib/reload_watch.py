"""Tells Asterisk to read the generated files again when the daemon has written them.

The daemon has no right to command Asterisk. On a site a systemd path unit (systemd/dialmark-reload.path) does what this
program does in the demo and in the tests.

    python reload_watch.py FOLDER -- asterisk -C /somewhere/asterisk.conf

Two dialplan files share one ``dialplan reload``. A reload that fails, because Asterisk is down or still starting, is
tried again until it succeeds. The files' state at the start of this program counts as known: start it before Asterisk.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.2

RELOADS: dict[str, tuple[str, ...]] = {
    "dialplan reload": ("dialmark_plan.conf", "dialmark_trunks.conf"),
    "module reload res_pjsip.so": ("dialmark_pjsip.conf",),
}

Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp(folder: Path, names: tuple[str, ...]) -> Stamp:
    """Inode, time and size of each file, ``None`` for one that is absent: a rename changes the inode."""

    def one(path: Path) -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    return tuple(one(folder / name) for name in names)


def reload(asterisk: list[str], command: str) -> bool:
    """Run one console command; true when Asterisk took it."""
    try:
        done = subprocess.run(
            [*asterisk, "-rx", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def watch(folder: Path, asterisk: list[str]) -> None:
    """Poll for ever."""
    known = {command: stamp(folder, names) for command, names in RELOADS.items()}
    while True:
        time.sleep(POLL_SECONDS)
        for command, names in RELOADS.items():
            # Taken before the reload: a change during it is a new one.
            seen = stamp(folder, names)
            if seen != known[command] and reload(asterisk, command):
                known[command] = seen


if __name__ == "__main__":
    separator = sys.argv.index("--")
    # Ctrl-C in the terminal reaches every program of the demo.
    with contextlib.suppress(KeyboardInterrupt):
        watch(Path(sys.argv[1]), sys.argv[separator + 1 :])
