"""What a measurement says: lines while it runs (stderr), figures, ratios against targets, and the machine."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_BEGAN = time.monotonic()

Judge = Callable[[float, float], bool]


def at_least(value: float, target: float) -> bool:
    return value >= target


def at_most(value: float, target: float) -> bool:
    return value <= target


_WORDS: dict[Judge, str] = {at_least: ">=", at_most: "<="}


@dataclass
class Measured:
    """The result of one measurement. `figures` are for people; `ratios` are what targets speak of."""

    bench: str
    figures: dict[str, object] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def judge(self, name: str, value: float, by: Judge, target: float) -> None:
        """Enter a value that has a target."""
        self.ratios[name] = round(value, 4)
        self.targets[name] = f"{_WORDS[by]} {target:g}"
        if not by(value, target):
            self.missed.append(name)

    def compare(self, name: str, value: float) -> None:
        """Enter a ratio that has no target."""
        self.ratios[name] = round(value, 4)

    @property
    def is_met(self) -> bool:
        return not self.missed


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{time.monotonic() - _BEGAN:7.1f} s  {text}\n")
    sys.stderr.flush()


def machine() -> dict[str, object]:
    """What the figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def finish(measured: Measured) -> None:
    """Figures as a list, then the one JSON line."""
    for name, value in measured.figures.items():
        sys.stdout.write(f"{name:44} {value}\n")
    for name, value in measured.ratios.items():
        verdict = "missed" if name in measured.missed else "ok" if name in measured.targets else ""
        sys.stdout.write(f"{name:44} {value:<10g} {measured.targets.get(name, ''):10} {verdict}".rstrip() + "\n")
    document = {
        "bench": measured.bench,
        "ratios": measured.ratios,
        "targets": measured.targets,
        "met": measured.is_met,
        "machine": machine(),
    }
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
