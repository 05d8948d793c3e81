"""Tables of traffic sources (R108): `config/traffic.csv` as data, every row checked, with the operator's on top.

Look-ups cost a few dictionary reads and never fail, whatever a visitor's browser sent.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.channels import Channel

RULES = 1
"""Version of the rules in `gateway.core.traffic`; raised when the same visit may be classified otherwise."""

COLUMNS = ("kind", "match", "name", "medium", "detail")
MAX_ROWS = 20_000


class Kind(StrEnum):
    """What sort of traffic a visit is (R75)."""

    PAID_SEARCH = "paid_search"
    PAID_SOCIAL = "paid_social"
    DISPLAY = "display"
    PAID = "paid"
    AFFILIATE = "affiliate"
    SEARCH = "search"
    SOCIAL = "social"
    AI = "ai"
    EMAIL = "email"
    MESSENGER = "messenger"
    PUSH = "push"
    REFERRAL = "referral"
    DIRECT = "direct"
    OTHER = "other"
    """Tagged by somebody, in words that no table has."""
    OWN = "own"
    """From the site itself or back from a payment: where the visit came from stays as it was."""

    @property
    def is_paid(self) -> bool:
        """Whether somebody paid for the click."""
        return self in (Kind.PAID_SEARCH, Kind.PAID_SOCIAL, Kind.DISPLAY, Kind.PAID, Kind.AFFILIATE)

    @property
    def channel(self) -> Channel:
        """The marketing channel of reports."""
        return _CHANNELS.get(self, Channel.OTHER)


_CHANNELS: Mapping[Kind, Channel] = {
    Kind.PAID_SEARCH: Channel.SEARCH,
    Kind.SEARCH: Channel.SEARCH,
    Kind.PAID_SOCIAL: Channel.SOCIAL,
    Kind.SOCIAL: Channel.SOCIAL,
    Kind.MESSENGER: Channel.SOCIAL,
    Kind.DISPLAY: Channel.DISPLAY,
    Kind.EMAIL: Channel.EMAIL,
    Kind.REFERRAL: Channel.REFERRAL,
    Kind.AFFILIATE: Channel.REFERRAL,
    Kind.DIRECT: Channel.DIRECT,
}

REFERRERS = ("search", "social", "ai", "email", "messenger", "referral", "paid", "gateway")
_PARAMETERS = ("click_id", "click_hint")
_KINDS = (*_PARAMETERS, "medium", "alias", *REFERRERS)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_PARAMETER = re.compile(r"[a-z0-9_]{1,40}")
_WORD = re.compile(r"[^\s*,]{1,40}\*?")
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+(?:[a-z0-9-]{2,63}|\*)(?:/[^\s?#*]{1,100})?")
_APP = re.compile(r"android-app://[a-z0-9_.]{1,100}")
_DETAIL = re.compile(r"(?:[a-z0-9_]{1,20}(?: [a-z0-9_]{1,20})*)?")
_SECOND_LEVEL = frozenset(("co", "com", "net", "org", "ne", "or", "ac", "edu", "gov"))
_MAX_LABELS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, as it stands there."""

    kind: str
    match: str
    name: str
    medium: Kind | None
    detail: str


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables, ready for look-ups. `version` tells which rules and which tables classified a visit."""

    version: str
    parameters: Mapping[str, Row]
    """Click ids and hints by the parameter's name in lower case, in the order of the file."""
    mediums: Mapping[str, Row]
    aliases: Mapping[str, Row]
    hosts: Mapping[str, tuple[Row, ...]]
    """By host pattern; the longest path first."""
    networks: frozenset[str]
    """Names of social networks that are no search engines."""

    def medium(self, text: str) -> Row | None:
        """What a utm_medium in lower case means: the whole word, else the longest beginning."""
        if text in self.mediums:
            return self.mediums[text]
        cuts = (f"{text[:length]}*" for length in range(min(len(text), 40), 0, -1))
        return next((self.mediums[cut] for cut in cuts if cut in self.mediums), None)

    def name(self, source: str) -> str:
        """A utm_source in lower case under the name that the tables use."""
        alias = self.aliases.get(source)
        return alias.name if alias is not None else source

    def referrer(self, host: str, path: str) -> Row | None:
        """Who a referrer is: the most specific row for host (lower case; `android-app://PACKAGE`) and path."""
        for pattern in _patterns(host):
            for row in self.hosts.get(pattern, ()):
                _, slash, wanted = _without_app(row.match).partition("/")
                if not slash or path.lower().startswith(f"/{wanted}"):
                    return row
        return None


EMPTY = Tables("", {}, {}, {}, {}, frozenset())
"""Knows nobody: every visit is direct, tagged or a referral."""


class BadTables(ValueError):
    """The tables are refused. `errors` names every line that is wrong."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(self.errors))


def parse(shipped: str, own: str = "") -> Tables:
    """Tables of two CSV texts with header (lines beginning with `#` are comments); rows of `own` win over shipped ones
    with the same match. Raises `BadTables` with all errors."""
    rows: dict[tuple[str, str], Row] = {}
    errors: list[str] = []
    for text in filter(str.strip, (shipped, own)):
        seen: set[tuple[str, str]] = set()
        for number, row in _rows(text, errors):
            key = _family(row.kind), row.match
            if key in seen:
                errors.append(f"line {number}: {row.match} stands there twice")
            seen.add(key)
            rows[key] = row
    if len(rows) > MAX_ROWS:
        errors.append(f"more than {MAX_ROWS} rows")
    if errors:
        raise BadTables(errors)
    return _tables(list(rows.values()))


def _tables(rows: list[Row]) -> Tables:
    hosts: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind in REFERRERS:
            app = row.match.startswith("android-app://")
            hosts.setdefault(row.match if app else row.match.partition("/")[0], []).append(row)
    lines = "\n".join(f"{row.kind},{row.match},{row.name},{row.medium or ''},{row.detail}" for row in rows)
    return Tables(
        version=f"{RULES}-{hashlib.sha256(lines.encode()).hexdigest()[:8]}",
        parameters={row.match: row for row in rows if row.kind in _PARAMETERS},
        mediums={row.match: row for row in rows if row.kind == "medium"},
        aliases={row.match: row for row in rows if row.kind == "alias"},
        hosts={
            host: tuple(sorted(found, key=lambda row: len(row.match), reverse=True)) for host, found in hosts.items()
        },
        networks=frozenset(row.name for row in rows if row.kind == "social")
        - {row.name for row in rows if row.kind == "search"},
    )


def _rows(text: str, errors: list[str]) -> Iterator[tuple[int, Row]]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line and line[0] != "#"]
    try:
        cells = list(csv.reader((line for _, line in lines), strict=True))
    except csv.Error as error:
        errors.append(f"this is not CSV: {error}")
        return
    if not cells or tuple(cells[0]) != COLUMNS or len(cells) != len(lines):
        errors.append(f"the columns must be {','.join(COLUMNS)}, one row a line")
        return
    for (number, _), values in zip(lines[1:], cells[1:], strict=True):
        wrong = list(_problems(values))
        errors += [f"line {number}: {message}" for message in wrong]
        if not wrong:
            kind, match, name, medium, detail = values
            yield number, Row(kind, match, name, Kind(medium) if medium else None, detail)


def _problems(values: list[str]) -> Iterator[str]:
    if len(values) != len(COLUMNS):
        yield f"there are {len(values)} columns, not {len(COLUMNS)}"
        return
    kind, match, name, medium, detail = values
    if kind not in _KINDS:
        yield f"{kind[:40]!r} is none of {', '.join(_KINDS)}"
        return
    if not _shape(kind).fullmatch(match) and not (kind in REFERRERS and _APP.fullmatch(match)):
        yield f"{match[:80]!r} is no {kind}"
    if kind not in ("medium", "gateway") and not _NAME.fullmatch(name):
        yield f"{name[:40]!r} is no name of a-z 0-9 . _ -"
    if medium not in {kind.value for kind in Kind} | {""}:
        yield f"{medium[:40]!r} is no kind of traffic"
    elif not medium and kind in (*_PARAMETERS, "medium", "paid"):
        yield f"{match} needs a kind of traffic in the column medium"
    if not _DETAIL.fullmatch(detail):
        yield f"{detail[:40]!r} is no detail"


def _shape(kind: str) -> re.Pattern[str]:
    if kind in _PARAMETERS:
        return _PARAMETER
    return _WORD if kind in ("medium", "alias") else _HOST


def _family(kind: str) -> str:
    """Kinds that share one table: a host is either a search engine or social, never both."""
    if kind in REFERRERS:
        return "referrer"
    return "parameter" if kind in _PARAMETERS else kind


def _without_app(match: str) -> str:
    return match.removeprefix("android-app://")


def _patterns(host: str) -> Iterator[str]:
    """`a.google.co.kr`: itself, `google.co.kr`, `google.*`, `co.kr`, longest first. Nothing of a host that only
    begins like a known one, as `google.com.example.net` does."""
    if host.startswith("android-app://"):
        yield host
        return
    labels = host.split(".")[-_MAX_LABELS:]
    # Enough of the public suffix list for `google.co.kr` and `yandex.com.tr`; other hosts are named in full.
    country = len(labels) > 2 and labels[-2] in _SECOND_LEVEL and len(labels[-1]) == 2
    stem = labels[: -2 if country else -1]
    for place in range(len(labels) - 1):
        yield ".".join(labels[place:])
        if place < len(stem):
            yield f"{'.'.join(stem[place:])}.*"
