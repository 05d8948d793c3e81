"""Where a visit came from (R24, R75, R86, R108): click ids, UTM tags and the referrer, first match wins.

Everything here was written by a visitor's browser, so by anybody. Nothing raises; text is cut, control characters go.
Raw values are kept beside the result, with the rule that decided and the version of rules and tables, so that a visit
can be classified again and an old figure explained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_plus

from gateway.core.traffictables import Kind as Kind
from gateway.core.traffictables import Row, Tables

MAX_URL = 2_048
MAX_HOST = 253
MAX_TEXT = 512
MAX_PARAMETERS = 100

UTM = (
    *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id"),
    *("utm_source_platform", "utm_creative_format", "utm_marketing_tactic"),
)
NAVER = ("n_media", "n_query", "n_rank", "n_ad_group", "n_ad", "n_keyword_id", "n_campaign_type")
_CAPTURED = frozenset((*UTM, *NAVER, "_openstat", "utm_keyword"))

_URL = re.compile(
    r"(?:([a-z][a-z0-9+.-]{0,20}):)?//([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.IGNORECASE | re.DOTALL
)
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})")
_MACRO = re.compile(r"\{\{?[^{}]*\}?\}|\$\{[^{}]*\}|\[\[[^\[\]]*\]\]|%%[^%]*%%")
_WEB = ("http", "https", "")


@dataclass(frozen=True, slots=True)
class Landing:
    """How a visit began, cut to length and otherwise as the browser sent it. `parameters` have lower-case names."""

    url: str
    referrer: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Classified:
    """Where a visit came from. `source` and `medium` are in lower case for reports, the rest as it was tagged."""

    kind: Kind
    source: str
    medium: str
    campaign: str | None = None
    term: str | None = None
    """utm_term, else the search phrase."""
    content: str | None = None
    campaign_id: str | None = None
    click_ids: Mapping[str, str] = field(default_factory=dict)
    referrer_host: str | None = None
    rule: str = "direct"
    """What decided: `click_id:gclid`, `utm:cpc`, `search:google.*`, `referral`, `direct`, …"""
    version: str = ""

    @property
    def keeps_previous(self) -> bool:
        """The visit goes on where it was: it came from the site itself, or back from a payment."""
        return self.kind is Kind.OWN


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    path: str
    query: str
    fragment: str


def landing(url: str, referrer: str, parameters: Mapping[str, str], tables: Tables) -> Landing:
    """What is kept of a visit's beginning: the tags and click ids of `url` and of what the script sends beside it.

    The URL wins. Click ids that are too long or of the wrong shape are dropped: half of one is of no use to anybody.
    """
    url, referrer = _clean(url, MAX_URL), _clean(referrer, MAX_URL)
    address = _address(url)
    found: dict[str, str] = {}
    pairs = [*_pairs(address.query), *_pairs(address.fragment.lstrip("!/?"))]
    pairs += list(parameters.items())[:MAX_PARAMETERS]
    for name, value in pairs:
        key, text = _clean(name, 40).lower(), _clean(value, MAX_URL).strip()
        if not text or key in found or (key not in _CAPTURED and key not in tables.parameters):
            continue
        row = tables.parameters.get(key)
        if row is None:
            found[key] = text[:MAX_TEXT]
        elif _fits(row, text):
            found[key] = text
    return Landing(url, referrer, found, address.host, address.path)


def classify(visit: Landing, tables: Tables, own_hosts: Iterable[str] = ()) -> Classified:
    """Where `visit` came from. `own_hosts`: the site's, with all below them, and those it shares visitors with."""
    address = _address(visit.referrer)
    host = _referrer_host(visit.referrer, address)
    known = tables.referrer(host, address.path) if host else None
    tags = _Tags(visit.parameters, tables)
    kind, source, medium, rule = _decide(tags, known, host, _belongs(host, (visit.host, *own_hosts)), tables)
    phrase = _phrase(known, address.query) if kind in (Kind.SEARCH, Kind.PAID_SEARCH) else None
    return Classified(
        kind=kind,
        source=source,
        medium=medium,
        campaign=tags.text("utm_campaign"),
        term=tags.text("utm_term") or tags.text("utm_keyword") or tags.text("n_query") or phrase,
        content=tags.text("utm_content"),
        campaign_id=tags.text("utm_id") or tags.text("gad_campaignid"),
        click_ids={name: visit.parameters[name] for name in tables.parameters if name in visit.parameters},
        referrer_host=host.removeprefix("www.") or None,
        rule=rule,
        version=tables.version,
    )


def parts(url: str) -> tuple[str, str, str]:
    """Host, path and query of an address, as display rules see it; the host without `www.`, "" when there is none."""
    address = _address(url)
    return address.host.removeprefix("www."), address.path, address.query


@dataclass(frozen=True, slots=True)
class _Tags:
    """The parameters of a visit under the tables."""

    parameters: Mapping[str, str]
    tables: Tables

    def text(self, name: str) -> str | None:
        """A tag as it was written; None for one whose macro the platform did not fill in."""
        text = self.parameters.get(name, "")
        return None if not text or _MACRO.fullmatch(text) else text

    def row(self, kind: str) -> Row | None:
        """The first click id, or the first hint."""
        rows = self.tables.parameters
        return next((row for name, row in rows.items() if row.kind == kind and name in self.parameters), None)

    @property
    def source(self) -> str:
        """utm_source, or the platform of an Openstat tag, by the tables' names."""
        text = self.text("utm_source") or (self.text("_openstat") or "").partition(";")[0]
        return self.tables.name(text.strip().lower())

    @property
    def assistant(self) -> Row | None:
        """The AI assistant that tags the links in its answers with its own host, `utm_source=chatgpt.com`."""
        row = self.tables.referrer((self.text("utm_source") or "").strip().lower(), "/")
        return row if row is not None and row.kind == Kind.AI.value else None

    @property
    def medium(self) -> str:
        """utm_medium in lower case."""
        return (self.text("utm_medium") or "").strip().lower()


def _decide(tags: _Tags, known: Row | None, host: str, is_own: bool, tables: Tables) -> tuple[Kind, str, str, str]:
    """Kind, source, medium and rule, in the order of attribution.md 3.4."""
    medium = tables.medium(tags.medium) if tags.medium else None
    click = tags.row("click_id")
    if click is not None and click.medium is not None:
        # The platform says that it was paid for, the tag in which of its formats.
        tagged = _of_medium(medium, tags.source, tables) if medium is not None else None
        kind = tagged if tagged is not None and tagged.is_paid else click.medium
        return kind, click.name, tags.medium or "cpc", f"click_id:{click.match}"
    assistant = tags.assistant if not tags.medium else None
    if assistant is not None:
        return Kind.AI, assistant.name, "ai", f"utm_source:{assistant.match}"
    if tags.source or tags.medium:
        kind = _of_medium(medium, tags.source, tables) if medium is not None else Kind.OTHER
        source = tags.source or (known.name if known is not None else host) or "unknown"
        return kind, source, tags.medium or "none", f"utm:{medium.match if medium is not None else 'other'}"
    if is_own:
        return Kind.OWN, host, "none", "own"
    if known is not None and known.kind == "gateway":
        return Kind.OWN, known.name or host, "none", f"gateway:{known.match}"
    if known is not None:
        return _of_referrer(known)
    hint = tags.row("click_hint")
    if hint is not None and hint.medium is not None:
        return hint.medium, hint.name, "organic" if hint.medium is Kind.SEARCH else "social", f"hint:{hint.match}"
    if host:
        return Kind.REFERRAL, host.removeprefix("www."), "referral", "referral"
    return Kind.DIRECT, "direct", "none", "direct"


def _of_medium(medium: Row, source: str, tables: Tables) -> Kind:
    """`cpc` is a search ad, except on a network that has no search of its own."""
    kind = medium.medium or Kind.OTHER
    if kind in (Kind.PAID_SEARCH, Kind.PAID) and medium.match in ("cpc", "ppc", "paid*"):
        return Kind.PAID_SOCIAL if source in tables.networks else kind
    return kind


def _of_referrer(known: Row) -> tuple[Kind, str, str, str]:
    rule = f"{known.kind}:{known.match}"
    if known.kind == "paid":
        return known.medium or Kind.PAID, known.name, "cpc", rule
    medium = {"search": "organic"}.get(known.kind, known.kind)
    return Kind(known.kind), known.name, medium, rule


def _phrase(known: Row | None, query: str) -> str | None:
    """The search phrase, where an engine still tells it."""
    if known is None or known.kind != "search":
        return None
    values = {name.lower(): value for name, value in reversed(_pairs(query))}
    phrases = (_clean(values.get(name, ""), MAX_TEXT).strip() for name in known.detail.split())
    return next((phrase for phrase in phrases if phrase), None)


def _fits(row: Row, value: str) -> bool:
    if row.detail == "digits":
        return value.isascii() and value.isdigit() and len(value) <= 64
    return len(value) <= (int(row.detail) if row.detail.isdigit() else MAX_TEXT)


def _belongs(host: str, own_hosts: Iterable[str]) -> bool:
    owns = (own.lower().removeprefix("www.") for own in own_hosts)
    return bool(host) and any(own and (host == own or host.endswith(f".{own}")) for own in owns)


def _referrer_host(referrer: str, address: _Address) -> str:
    if referrer.lower().startswith("android-app://"):
        return f"android-app://{address.host}" if address.host else ""
    scheme = referrer.partition(":")[0].lower() if ":" in referrer.partition("/")[0] else ""
    return address.host if scheme in _WEB else ""


# A visit's few addresses are each asked for several times.
@lru_cache(maxsize=1_024)
def _address(url: str) -> _Address:
    """The parts of a URL; the host in lower case without user, port and final dot, empty when it is no host's name."""
    match = _URL.match(url)
    if match is None:
        return _Address("", "", "", "")
    host = match[2].rpartition("@")[2].lower()
    host = re.sub(r":\d*$", "", host).rstrip(".")
    host = _ascii(host)
    return _Address(
        host if len(host) <= MAX_HOST and _HOST.fullmatch(host) else "", match[3], match[4] or "", match[5] or ""
    )


def _ascii(host: str) -> str:
    """A host of any alphabet as DNS has it, the way browsers send it."""
    if host.isascii() or len(host) > MAX_HOST:
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = (pair.partition("=") for pair in query.split("&", MAX_PARAMETERS)[:MAX_PARAMETERS])
    return [(unquote_plus(name), unquote_plus(value)) for name, equals, value in pairs if equals]


def _clean(text: str, length: int) -> str:
    """Printable, of no more than `length` characters, and storable: no NUL, no half of a character."""
    text = text[: 4 * length]
    if text.isprintable():
        return text[:length]
    return "".join(char for char in text if char.isprintable())[:length]
