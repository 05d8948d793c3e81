"""Filesystems that tests write to."""

from __future__ import annotations

import tempfile
from pathlib import Path

MEMORY, DISK = Path("/dev/shm"), Path("/var/tmp")
"""Every Linux has both; only new folders of one's own are made in them."""


def another() -> Path:
    """One that temporary folders are not on."""
    usual = Path(tempfile.gettempdir()).stat().st_dev
    return next(place for place in (MEMORY, DISK) if place.stat().st_dev != usual)
