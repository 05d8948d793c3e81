"""Recording consent by region (C4, R36, R50, N3): which mode a call gets, from `config/consent_regions.csv` as data.

Nothing here is legal advice: the table holds reviewable defaults, and every level of the routing file may override
them. `decide` is total: a call whose region nobody knows gets the stricter of the business's region and `announce`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.core import areacodes, book, numbers
from gateway.core.regions import REGION_CODE, UNKNOWN_REGION, Region, RegionTable, stricter

PROMPT_KEYS: Mapping[book.RecordingMode, str] = {
    book.RecordingMode.ANNOUNCE: "consent_announce",
    book.RecordingMode.ANNOUNCE_OPT_OUT: "consent_announce_opt_out",
    book.RecordingMode.OPT_IN: "consent_opt_in",
}
"""The prompt that asks in a mode; modes that are not here play nothing."""

_PROMPT_ID = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_VERSION = re.compile(r"[0-9a-f]{8,64}")


class Result(StrEnum):
    """How the caller answered, `r` of DM_CONSENT; only `granted` lets a recording exist (N3)."""

    GRANTED = "granted"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    PROMPT_FAILED = "prompt_failed"
    HUNG_UP = "hung_up"
    NOT_ASKED = "not_asked"
    """Nothing was asked: mode off, or one in which a party may record without a word (none)."""


@dataclass(frozen=True, slots=True)
class CallerRegion:
    """Where a caller's number is from. `is_weak`: mobiles and North American numbers travel, so the person may be
    elsewhere; such a region can make the mode stricter, never laxer than `ZZ`'s."""

    code: str
    is_weak: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What one tracking number says about recording, its route's and its site's words already worked in.

    `business_region` is the site's; `overrides` replace the mode of a region's row, `ZZ` included.
    """

    recording: book.RecordingMode
    business_region: str
    overrides: Mapping[str, book.RecordingMode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The consent of one call: `mode` is never `region`; `region` is the code whose row decided, None without one."""

    mode: book.RecordingMode
    region: str | None = None
    prompt_key: str | None = None
    recorded_announcement: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller was asked and answered, as DM_CONSENT tells it."""

    mode: book.RecordingMode
    result: Result
    at_us: int
    region: str | None = None
    key: str | None = None
    """0-9, * or #; None = none was pressed."""
    prompt_id: str | None = None
    version: str | None = None
    early_media: bool = False
    recorded_announcement: bool = False
    """The announcement is to be put in front of the recording."""

    @property
    def allows_recording(self) -> bool:
        """Granted, or a mode in which nothing needs to be asked."""
        unasked = self.mode is book.RecordingMode.NONE and self.result is Result.NOT_ASKED
        return self.result is Result.GRANTED or unasked


OFF = Decision(book.RecordingMode.OFF)


def given(data: Mapping[str, str], at_us: int) -> Given:
    """The payload of DM_CONSENT. Never fails; what makes no sense counts as refused, so it records nothing."""
    modes = {mode.value: mode for mode in book.RecordingMode if mode is not book.RecordingMode.REGION}
    results = {result.value: result for result in Result}
    mode, result = modes.get(data.get("m", "")), results.get(data.get("r", ""))
    key = data.get("k", "")
    return Given(
        mode=mode or book.RecordingMode.OFF,
        result=result if result is not None and mode is not None else Result.REFUSED,
        at_us=at_us,
        region=_shaped(REGION_CODE, data.get("g", "")),
        key=key if len(key) == 1 and key in "0123456789*#" else None,
        prompt_id=_shaped(_PROMPT_ID, data.get("p", "")),
        version=_shaped(_VERSION, data.get("v", "")),
        early_media=data.get("e") == "1",
        recorded_announcement=data.get("a") == "1",
    )


def _shaped(pattern: re.Pattern[str], text: str) -> str | None:
    return text if pattern.fullmatch(text) else None


def caller_region(number: str) -> CallerRegion | None:
    """Region of an E.164 number with `+`, from the numbering plan alone; None when it tells none."""
    country = numbers.country_of(number)
    if country is None:
        return None
    if country == "US":
        state = areacodes.state_of(number[1:])
        return CallerRegion(f"US-{state}" if state is not None else "US", is_weak=True)
    return CallerRegion(country, is_weak=numbers.may_be_mobile(number))


def rules_of(number: book.TrackingNumber | None, route: book.Route, site: book.Site) -> Rules:
    """What holds for calls to `number`: the most specific word on the mode, and on each region, wins."""
    modes = (number.recording if number is not None else None, route.recording, site.recording)
    overrides = {**site.consent, **route.consent, **(number.consent if number is not None else {})}
    chosen = next((mode for mode in modes if mode is not None), book.RecordingMode.OFF)
    return Rules(chosen, site.region or site.country, overrides)


def decide(rules: Rules, caller: CallerRegion | None, table: RegionTable) -> Decision:
    """The mode of one call. `caller` None: anonymous, unknown, or asked for the default plan."""
    if rules.recording is not book.RecordingMode.REGION:
        return _fixed(rules, caller, table)
    rows = [_overridden(table.row(rules.business_region), rules.business_region, rules)]
    if caller is not None:
        rows.append(_overridden(table.row(caller.code), caller.code, rules))
    if caller is None or caller.is_weak:
        rows.append(_overridden(table.row(None), UNKNOWN_REGION, rules))
    mode = rows[0].mode
    for row in rows[1:]:
        mode = stricter(mode, row.mode)
    winner = next(row for row in rows if row.mode is mode)
    said = f"recording consent {mode.value} by region {winner.code}"
    return Decision(mode, winner.code, _prompt_key(mode, winner), _is_recorded(mode, rows), said)


def _fixed(rules: Rules, caller: CallerRegion | None, table: RegionTable) -> Decision:
    """A mode that the routing file names. The caller's region stays evidence, and may ask for the recorded notice."""
    mode = rules.recording
    if mode is book.RecordingMode.OFF:
        return OFF
    rows = [table.row(rules.business_region), *([table.row(caller.code)] if caller is not None else [])]
    prompt_key = PROMPT_KEYS.get(mode)
    said = f"recording consent {mode.value} by the routing file"
    return Decision(mode, rules.business_region, prompt_key, _is_recorded(mode, rows), said)


def _overridden(row: Region, code: str, rules: Rules) -> Region:
    """The row with what the routing file says of its region. A word on a country does not reach the parts of it that
    have rows of their own: `US = "none"` must not silence California."""
    for name in dict.fromkeys((code, row.code)):
        if name in rules.overrides:
            mode = rules.overrides[name]
            return replace(row, code=name, mode=mode, prompt_key=PROMPT_KEYS.get(mode, ""))
    return row


def _prompt_key(mode: book.RecordingMode, winner: Region) -> str | None:
    return (winner.prompt_key or PROMPT_KEYS[mode]) if mode in PROMPT_KEYS else None


def _is_recorded(mode: book.RecordingMode, rows: Iterable[Region]) -> bool:
    return mode in PROMPT_KEYS and any(row.recorded_announcement for row in rows)
