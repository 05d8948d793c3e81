"""Checks of the machine around the daemon: disks, clock, names, rights. Each takes plain values and gives findings."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.cli.findings import Finding, fail, ok, warn

FAIL_BELOW = 0.05
WARN_BELOW = 0.20
"""Shares of free space: below the first the daemon raises an alarm itself (`design.md`, "Faults to survive")."""
SLOW_LOOKUP_SECONDS = 0.1
EARLIEST = 1_735_689_600
"""2025-01-01: a clock before this was never set."""
SILENT_JOURNAL_SECONDS = 24 * 3600


def disk(check: str, folder: Path) -> Finding:
    """Free space where `folder` lies."""
    place = _existing(folder)
    try:
        usage = shutil.disk_usage(place)
    except OSError as error:
        return fail(check, f"{folder}: {error.strerror}", "make the folder, or correct it in the configuration")
    free = usage.free / usage.total if usage.total else 0.0
    text = f"{folder}: {free:.0%} free ({usage.free / 1e9:.1f} GB)"
    if free < FAIL_BELOW:
        return fail(check, text, "free space now: rows that do not fit on the disk are lost for ever")
    if free < WARN_BELOW:
        return warn(check, text, "free space, or move the folder to a larger disk")
    return ok(check, text)


def separate_filesystems(journal: Path, recordings: Path) -> Finding:
    """Recordings that fill a disk must not take the journal with them."""
    check = "filesystems"
    first, second = _existing(journal), _existing(recordings)
    try:
        same = first.stat().st_dev == second.stat().st_dev
    except OSError as error:
        return fail(check, str(error), "make the folders, or correct them in the configuration")
    if same:
        return fail(
            check,
            f"journal ({journal}) and recordings ({recordings}) share a filesystem",
            "mount recordings on a filesystem of their own: a full disk loses journal rows without a word",
        )
    return ok(check, "journal and recordings lie on different filesystems")


def clock(now: float | None = None) -> Finding:
    """Whether the clock can be right at all, and whether something keeps it so."""
    check = "clock"
    current = time.time() if now is None else now
    if current < EARLIEST:
        return fail(check, f"the clock says {time.ctime(current)}", "set it (timedatectl set-ntp true)")
    marker = Path("/run/systemd/timesync/synchronized")
    if marker.parent.exists() and not marker.exists():
        return warn(check, "systemd-timesyncd has not reached a time server", "timedatectl timesync-status")
    return ok(check, f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(current))} UTC")


def host_name() -> Finding:
    """Asterisk looks its own name up for each call."""
    check = "host name"
    name = socket.gethostname()
    started = time.monotonic()
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        return warn(
            check,
            f"'{name}' cannot be resolved ({error.strerror})",
            f"put `127.0.1.1 {name}` into /etc/hosts: Asterisk looks the name up for each call, which can take seconds",
        )
    seconds = time.monotonic() - started
    if seconds > SLOW_LOOKUP_SECONDS:
        return warn(check, f"'{name}' took {seconds:.1f} s to resolve", f"put `127.0.1.1 {name}` into /etc/hosts")
    return ok(check, f"'{name}' resolves in {seconds * 1000:.0f} ms")


def secret_file(check: str, path: Path) -> Finding:
    """A file with a secret is there, readable by us, and closed to others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return fail(check, f"{path}: {error.strerror}", "`dialmark init` makes it, or correct the configuration")
    if not os.access(path, os.R_OK):
        return fail(check, f"{path} is not readable by this user", "run doctor as the daemon's user, or chgrp it")
    if mode & 0o027:
        return fail(check, f"{path} has mode {mode:04o}: others may read or change it", f"chmod 0640 {path}")
    return ok(check, f"{path} ({mode:04o})")


def writable_folder(check: str, folder: Path, use: str) -> Finding:
    """A folder that the daemon must be able to write into; `use` says for what."""
    if not folder.is_dir():
        return fail(check, f"{folder} is missing", f"make it, owned by the daemon's user: it is for {use}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(
            check,
            f"{folder} is not writable by this user",
            f"run doctor as the daemon's user; if it still fails, chgrp and chmod g+w the folder: it is for {use}",
        )
    return ok(check, f"{folder} is writable")


def journal(path: Path, now: float | None = None) -> Iterator[Finding]:
    """The journal's folder, the file, and when its last row came."""
    check = "journal"
    yield writable_folder("journal folder", path.parent, "rotating the journal")
    try:
        status = path.stat()
    except FileNotFoundError:
        yield warn(
            check,
            f"{path} is not there yet",
            "it appears with the first call after Asterisk has read cel.conf and cel_custom.conf (module reload cel)",
        )
        return
    except OSError as error:
        yield fail(check, f"{path}: {error.strerror}", "the daemon's user must be able to read it")
        return
    if not os.access(path, os.R_OK):
        yield fail(check, f"{path} is not readable by this user", "add the daemon's user to Asterisk's group")
        return
    age = (time.time() if now is None else now) - status.st_mtime
    if age > SILENT_JOURNAL_SECONDS:
        yield warn(check, f"{path}: no row for {age / 3600:.0f} h", "if there were calls: core show cel status")
    else:
        yield ok(check, f"{path}: {status.st_size} bytes, last row {max(0, age):.0f} s ago")


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    for place in (folder, *folder.parents):
        if place.exists():
            return place
    return Path("/")
