"""The table of recording consent by region: `config/consent_regions.csv` as data, every row checked.

Not legal advice: reviewable defaults with law reference and confidence, which the routing file may override.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

UNKNOWN_REGION = "ZZ"
"""ISO's user-assigned code; its row is what an unknown caller or region gets."""

COLUMNS = (
    *("region_code", "mode", "parties", "prompt_key", "recorded_announcement"),
    *("law_ref", "confidence", "reviewed_on", "notes"),
)
REGION_CODE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
"""ISO 3166-1 alpha-2, or ISO 3166-2 of a part of it: `KR`, `US-CA`."""


class RecordingMode(StrEnum):
    """Whether a call is recorded, and what the caller is asked before (C4, R36, R50). See docs/consent.md."""

    OFF = "off"
    NONE = "none"
    """Recorded without a word, where one party may."""
    ANNOUNCE = "announce"
    """Told; staying on the line is consent."""
    ANNOUNCE_OPT_OUT = "announce_opt_out"
    """Told; key 9 goes on unrecorded."""
    OPT_IN = "opt_in"
    """Recorded only after key 1."""
    REGION = "region"
    """The stricter of the business's and the caller's region."""


_STRICTNESS = {
    mode: place
    for place, mode in enumerate(
        (
            RecordingMode.NONE,
            RecordingMode.ANNOUNCE,
            RecordingMode.ANNOUNCE_OPT_OUT,
            RecordingMode.OPT_IN,
            RecordingMode.OFF,
        )
    )
}
_PROMPT_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Region:
    """One row of the table. `mode` is neither `region` nor empty; `parties` is one, all or "" (not known)."""

    code: str
    mode: RecordingMode
    parties: str
    prompt_key: str
    recorded_announcement: bool
    """The announcement itself is to stand in front of the recording."""
    law_ref: str
    confidence: str
    """high, medium, low, or "" (not researched)."""
    reviewed_on: str
    notes: str


@dataclass(frozen=True, slots=True)
class RegionTable:
    """The whole table by region code. An unknown part of a country falls back to its country, then to `ZZ`."""

    regions: Mapping[str, Region]

    def row(self, code: str | None) -> Region:
        """The row that speaks for `code`."""
        for candidate in (code or "", (code or "").partition("-")[0]):
            if candidate in self.regions:
                return self.regions[candidate]
        return self.regions.get(UNKNOWN_REGION, _NOWHERE)


_NOWHERE = Region(UNKNOWN_REGION, RecordingMode.ANNOUNCE, "", "consent_announce", False, "", "", "", "no table")


class BadRegions(ValueError):
    """The table is refused. `errors` names every line that is wrong."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(self.errors))


def parse(text: str) -> RegionTable:
    """The table in `text` (CSV with header; lines beginning with `#` are comments). Raises
    `BadRegions` with all errors."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not line.startswith("#")]
    if not lines:
        raise BadRegions(["the file is empty"])
    reader = csv.reader((line for _, line in lines), strict=True)
    try:
        cells = list(reader)
    except csv.Error as error:
        raise BadRegions([f"this is not CSV: {error}"]) from None
    if len(cells) != len(lines) or tuple(cells[0]) != COLUMNS:
        raise BadRegions([f"line {lines[0][0]}: the columns must be {','.join(COLUMNS)}, one row a line"])
    regions: dict[str, Region] = {}
    errors: list[str] = []
    for (number, _), values in zip(lines[1:], cells[1:], strict=True):
        row = dict(zip(COLUMNS, values, strict=False))
        wrong = list(_problems(row, values, regions))
        errors += [f"line {number}: {message}" for message in wrong]
        if not wrong:
            regions[row["region_code"]] = _region(row)
    if not errors and UNKNOWN_REGION not in regions:
        errors.append(f"there is no row {UNKNOWN_REGION} for unknown regions")
    if errors:
        raise BadRegions(errors)
    return RegionTable(regions)


def stricter(first: RecordingMode, second: RecordingMode) -> RecordingMode:
    """The stricter of two modes: none < announce < announce_opt_out < opt_in, and `off` wins over all."""
    return max(first, second, key=lambda mode: _STRICTNESS[mode])


def _problems(row: Mapping[str, str], values: list[str], known: Mapping[str, Region]) -> Iterator[str]:
    if len(values) != len(COLUMNS):
        yield f"has {len(values)} columns instead of {len(COLUMNS)}"
        return
    code = row["region_code"]
    if not REGION_CODE.fullmatch(code):
        yield f"'{code}' is no region code like KR or US-CA"
    elif code in known:
        yield f"{code} stands there twice"
    modes = {mode.value for mode in _STRICTNESS}
    if row["mode"] not in modes:
        yield f"{code}: mode must be one of {', '.join(sorted(modes))}"
    if row["parties"] not in ("one", "all", ""):
        yield f"{code}: parties must be one, all or empty"
    if row["prompt_key"] and not _PROMPT_KEY.fullmatch(row["prompt_key"]):
        yield f"{code}: prompt_key must be of a-z 0-9 _"
    if row["recorded_announcement"] not in ("yes", "no"):
        yield f"{code}: recorded_announcement must be yes or no"
    if row["confidence"] not in ("high", "medium", "low", ""):
        yield f"{code}: confidence must be high, medium, low or empty"
    if not _DAY.fullmatch(row["reviewed_on"]):
        yield f"{code}: reviewed_on must be a day like 2026-11-21"


def _region(row: Mapping[str, str]) -> Region:
    return Region(
        code=row["region_code"],
        mode=RecordingMode(row["mode"]),
        parties=row["parties"],
        prompt_key=row["prompt_key"],
        recorded_announcement=row["recorded_announcement"] == "yes",
        law_ref=row["law_ref"],
        confidence=row["confidence"],
        reviewed_on=row["reviewed_on"],
        notes=row["notes"],
    )
