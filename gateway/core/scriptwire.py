"""What the script on a page and the gateway say to each other (docs/dni.md; attribution.md 1.5), version 1.

Each request is one JSON object in the body of a POST, sent as `text/plain` so that browsers ask no permission first.
Anybody can send one. What our script would never send is refused as a whole (`Refused`): unknown or doubled fields,
wrong types, values out of bounds, ids of another shape. Text that a page or a visitor wrote is cut and cleaned instead,
and ids that other tools put into cookies are dropped when they do not look like theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from gateway.core import numberformats
from gateway.core.displayrules import Consent, Reason

VERSION = 1
MAX_BODY_BYTES = 32_768
MAX_URL = 2_048
MAX_SECONDS = 86_400 * 31
MAX_FOUND = 100_000
MAX_VARS = 20
MAX_VAR = 200
MAX_SESSIONS = 5
MAX_NAME = 100
MAX_NUMBER = 40
MAX_MESSAGE = 1_000
MAX_WHEN = 100

_SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62})")
_PAGE = re.compile(r"[a-z0-9]{1,16}")
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_E164 = re.compile(r"\+[1-9][0-9]{3,14}")
_VAR = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_GA = re.compile(r"(?:GA\d\.\d\.)?(\d{1,12}\.\d{1,12})")
_GA_STREAM = re.compile(r"[A-Z0-9]{4,16}")
_GA_SESSION = re.compile(r"\d{1,12}")
_YM = re.compile(r"\d{10,20}")
_FACEBOOK = re.compile(r"fb\.\d\.\d{10,16}\.[\w.-]{1,255}", re.ASCII)

SCHEMES = ("tel", "sms", "callto")

T = TypeVar("T")


class Refused(ValueError):
    """A request that our script would not send. `field` is where, `reason` in words; neither has the value in it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ids:
    """What other tools call the visitor; sent only with consent. `ga_sessions` by stream, without `G-`."""

    ga: str | None = None
    ga_sessions: Mapping[str, str] = field(default_factory=dict)
    ym_uid: str | None = None
    fbp: str | None = None
    fbc: str | None = None


@dataclass(frozen=True, slots=True)
class FirstPage:
    """The first page of the visit as the script remembers it: the gateway may have been away then."""

    url: str
    referrer: str
    seconds: int
    """So long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who speaks. `page` is one page view; `visitor` and `lease` are the gateway's own, None while there is none."""

    site: str
    page: str
    visitor: str | None
    lease: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """Written into a visit by `dialmark verify --web`, never by the script: shown what a visitor from there would be,
    stored and lent nothing. `pass_id` proves who asks (`gateway.store.webchecks`)."""

    pass_id: str
    country: str | None = None
    city: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Sender):
    """A page was loaded and asks for its numbers. With `consent` denied there is no visitor, lease, id or variable."""

    consent: Consent
    url: str
    referrer: str
    automated: bool
    """The browser says that a program drives it."""
    landing: FirstPage | None = None
    ids: Ids | None = None
    """None: not said, or unchanged."""
    variables: Mapping[str, str] | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Sender):
    """The page is being looked at."""

    seconds: int
    """For so long in all."""
    found: int
    """Places of the page where a number of the site's stands or stood."""
    ids: Ids | None = None
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView(Beat):
    """The next page of a site that never loads one, or one that came back from the browser's cache."""

    url: str
    referrer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Sender):
    """The page is left."""

    seconds: int
    found: int
    shown: bool = True
    """False: the answer came too late, the number was never on the page."""
    forget: bool = False
    """Consent was taken back: the visitor's cookie is to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Click(Sender):
    """A link with a number was followed."""

    number: str
    """E.164 with `+`: the one shown."""
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback(Sender):
    """Somebody asks to be called (R69). The visitor may be unknown; consent to the call itself was given."""

    url: str
    number: str
    """As it was typed."""
    name: str
    message: str
    when: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One number to show: `number` in place of `target`, both E.164 with `+`."""

    target: str
    number: str
    texts: tuple[str, ...] = ()


# ---- Requests ----


def visit(body: bytes) -> Visit:
    """Raises `Refused`."""
    fields = _Fields(body)
    sender = fields.sender()
    consent = fields.need("consent", _one_of("granted", "denied"))
    is_granted = consent == Consent.GRANTED.value
    if not is_granted and (sender["visitor"] or sender["lease"] or fields.has("ids", "vars", "landing")):
        raise Refused("consent", "denied, yet the visitor is named")
    read = Visit(
        **sender,
        consent=Consent(consent),
        url=fields.need("url", _address),
        referrer=fields.need("referrer", _text(MAX_URL)),
        automated=fields.get("automated", _flag, False),
        landing=fields.get("landing", _first_page, None),
        ids=fields.get("ids", _ids, None),
        variables=fields.get("vars", _variables, None),
        check=fields.get("check", _check, None),
    )
    fields.finish()
    return read


def beat(body: bytes) -> Beat:
    """Raises `Refused`."""
    fields = _Fields(body)
    read = Beat(**fields.known_sender(), **fields.looked_at(), **fields.told())
    fields.finish()
    return read


def page_view(body: bytes) -> PageView:
    """Raises `Refused`."""
    fields = _Fields(body)
    read = PageView(
        **fields.known_sender(),
        **fields.looked_at(),
        **fields.told(),
        url=fields.need("url", _address),
        referrer=fields.need("referrer", _text(MAX_URL)),
    )
    fields.finish()
    return read


def leave(body: bytes) -> Leave:
    """Raises `Refused`."""
    fields = _Fields(body)
    read = Leave(
        **fields.known_sender(),
        **fields.looked_at(),
        shown=fields.get("shown", _flag, True),
        forget=fields.get("forget", _flag, False),
    )
    fields.finish()
    return read


def click(body: bytes) -> Click:
    """Raises `Refused`."""
    fields = _Fields(body)
    read = Click(
        **fields.known_sender(),
        number=fields.need("number", _matching(_E164)),
        scheme=fields.need("scheme", _one_of(*SCHEMES)),
    )
    fields.finish()
    return read


def callback(body: bytes) -> Callback:
    """Raises `Refused`; with the field `consent` when it was not given, `number` when there is none."""
    fields = _Fields(body)
    sender = fields.sender()
    if not fields.need("consent", _flag):
        raise Refused("consent", "not given")
    number = fields.need("number", _text(MAX_NUMBER)).strip()
    if sum(char in "0123456789" for char in number) < 4:
        raise Refused("number", "no telephone number")
    read = Callback(
        **sender,
        url=fields.need("url", _address),
        number=number,
        name=fields.get("name", _text(MAX_NAME), "").strip(),
        message=fields.get("message", _text(MAX_MESSAGE), "").strip(),
        when=fields.get("when", _text(MAX_WHEN), "").strip(),
    )
    fields.finish()
    return read


# ---- Answers ----


def visit_answer(
    reason: Reason, shown: Sequence[Shown] = (), *, visitor: str | None = None, lease: str | None = None,
    expires_seconds: int = 0,
) -> bytes:  # fmt: skip
    """To `visit`. For `expires_seconds` from when it was asked the numbers are nobody else's, whatever comes after; a
    visitor without a lease may keep static numbers for so long too. A target without an entry stays as it is."""
    numbers = {}
    for one in shown:
        target, formats = numberformats.target(one.target, one.texts), numberformats.formats(one.number)
        if target is not None and formats is not None:
            repaint = numberformats.may_repaint(target, one.number)
            numbers[target.e164] = {**asdict(formats), "repaint": repaint}
    return _json(
        {
            "v": VERSION,
            "reason": reason.value,
            "visitor": visitor,
            "lease": lease,
            "expires_in": expires_seconds,
            "numbers": numbers,
        }
    )


def beat_answer(is_kept: bool, expires_seconds: int = 0) -> bytes:
    """To `beat` and `page`. Not kept: the lease has ended, and the script asks by `visit`."""
    return _json({"v": VERSION, "ok": is_kept, "expires_in": expires_seconds})


def callback_answer() -> bytes:
    """To `callback` that was taken."""
    return _json({"v": VERSION, "ok": True})


def configuration(
    site: str,
    targets: Sequence[numberformats.Target],
    *,
    consent: Consent = Consent.PENDING,
    beat_seconds: float = 15.0,
    wait_ms: int = 800,
    base: str = "",
) -> bytes:
    """What the script is called with. `base`: where browsers find the gateway, with the final `/`; empty: where the
    script came from. ASCII, without `<`: it can stand in any page or script."""
    fields: dict[str, object] = {
        "site": site,
        "consent": consent.value,
        "beat": beat_seconds,
        "wait": wait_ms,
        "targets": [numberformats.wire_target(target) for target in targets],
    }
    if any(any(target.texts) for target in targets):
        # Then every text is looked at, not only those with digits.
        fields["worded"] = True
    if base:
        fields["base"] = base
    return _json(fields)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").encode("ascii")


# ---- Fields ----

_Check = Callable[[str, Any], T]
"""Takes a field's name and what stands there; raises `Refused`."""


class _Fields:
    """The fields of one request; what nobody has read when it is finished is refused."""

    def __init__(self, body: bytes) -> None:
        self._left = _object("body", _loaded(body))
        if self.need("v", _whole(VERSION)) != VERSION:
            raise Refused("v", "another version")

    def need(self, name: str, check: _Check[T]) -> T:
        if name not in self._left:
            raise Refused(name, "missing")
        return check(name, self._left.pop(name))

    def get(self, name: str, check: _Check[T], default: T) -> T:
        """A field that may be missing or null."""
        value = self._left.pop(name, None)
        return default if value is None else check(name, value)

    def has(self, *names: str) -> bool:
        return any(self._left.get(name) is not None for name in names)

    def sender(self) -> dict[str, Any]:
        return {
            "site": self.need("site", _matching(_SITE)),
            "page": self.need("page", _matching(_PAGE)),
            "visitor": self.get("visitor", _matching(_ID), None),
            "lease": self.get("lease", _matching(_ID), None),
        }

    def known_sender(self) -> dict[str, Any]:
        """Of a request that only a visitor who was given an id can send."""
        sender = self.sender()
        if sender["visitor"] is None:
            raise Refused("visitor", "missing")
        return sender

    def looked_at(self) -> dict[str, Any]:
        return {
            "seconds": self.need("seconds", _whole(MAX_SECONDS)),
            "found": self.need("found", _whole(MAX_FOUND)),
        }

    def told(self) -> dict[str, Any]:
        return {"ids": self.get("ids", _ids, None), "variables": self.get("vars", _variables, None)}

    def finish(self) -> None:
        if self._left:
            # Its name is anybody's text.
            raise Refused("body", f"{len(self._left)} unknown fields")


def _loaded(body: bytes) -> object:
    if len(body) > MAX_BODY_BYTES:
        raise Refused("body", f"more than {MAX_BODY_BYTES} bytes")
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("body", "no JSON") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("body", "a field twice")
    return found


def _no_constant(_: str) -> object:
    raise Refused("body", "no JSON")


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(name, "no object")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused(name, "neither true nor false")
    return value


def _whole(most: int) -> _Check[int]:
    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise Refused(name, f"no whole number up to {most}")
        return value

    return check


def _one_of(*words: str) -> _Check[str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Refused(name, f"none of {', '.join(words)}")
        return value

    return check


def _matching(shape: re.Pattern[str]) -> _Check[str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise Refused(name, "of another shape")
        return value

    return check


def _text(most: int) -> _Check[str]:
    """Text of other people: printable, without halves of characters, cut."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise Refused(name, "no text")
        # Nearly all texts are.
        clean = value if value.isprintable() else "".join(char for char in value if char.isprintable())
        return clean[:most]

    return check


def _address(name: str, value: object) -> str:
    text = _text(MAX_URL)(name, value)
    if not re.match(r"(?:https?|file|capacitor|ionic)://", text, re.IGNORECASE):
        raise Refused(name, "no address of a page")
    return text


def _first_page(name: str, value: object) -> FirstPage:
    fields = _object(name, value)
    if fields.keys() != {"url", "referrer", "seconds"}:
        raise Refused(name, "not url, referrer and seconds")
    return FirstPage(
        _address(name, fields["url"]),
        _text(MAX_URL)(name, fields["referrer"]),
        _whole(MAX_SECONDS)(name, fields["seconds"]),
    )


def _check(name: str, value: object) -> Check:
    fields = _object(name, value)
    if not {"pass"} <= fields.keys() <= {"pass", "country", "city"}:
        raise Refused(name, "not pass, country and city")
    country, city = fields.get("country"), fields.get("city")
    return Check(
        _matching(_ID)(name, fields["pass"]),
        None if country is None else _matching(_COUNTRY)(name, country),
        None if city is None else _text(MAX_NAME)(name, city),
    )


def _ids(name: str, value: object) -> Ids:
    fields = _object(name, value)
    if fields.keys() - {"ga", "ga_sessions", "ym_uid", "fbp", "fbc"}:
        raise Refused(name, "unknown ids")
    sessions = _object(name, fields.get("ga_sessions", {}))
    ga = _like(_GA, fields.get("ga"))
    return Ids(
        ga=_GA.sub(r"\1", ga) if ga is not None else None,
        ga_sessions={
            stream: session
            for stream, session in list(sessions.items())[:MAX_SESSIONS]
            if _like(_GA_STREAM, stream) and _like(_GA_SESSION, session)
        },
        ym_uid=_like(_YM, fields.get("ym_uid")),
        fbp=_like(_FACEBOOK, fields.get("fbp")),
        fbc=_like(_FACEBOOK, fields.get("fbc")),
    )


def _like(shape: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and shape.fullmatch(value) else None


def _variables(name: str, value: object) -> Mapping[str, str]:
    """What the site's own script set; a name that nobody could ask for again is dropped."""
    fields = _object(name, value)
    good = [key for key in fields if _VAR.fullmatch(key)][:MAX_VARS]
    return {key: _text(MAX_VAR)(name, fields[key]) for key in good}
