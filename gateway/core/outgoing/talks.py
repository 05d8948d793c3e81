"""Requests and answers without a network: a talk yields what to ask, is sent the answer, and returns its result.

    def log(call) -> Talk[str]:
        answer = yield Request("POST", "/calls", json=…)
        return str(expect(answer, 200, 201)["id"])

Whoever drives a talk (`gateway.senders`, a test) does the asking. What the other side refuses, and that there was no
answer, is raised inside as `Refused`; a talk that had learned something catches it and says so.
"""

from __future__ import annotations

import json as json_
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

SECOND_US = 1_000_000
MAX_SHOWN = 4_000
MAX_RETRY_AFTER_SECONDS = 86_400
MASK = "********"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart form."""

    field: str
    filename: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `path` is put behind the service's base address, unless it is an address itself."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_query: Mapping[str, str] = field(default_factory=dict)
    """Part of the address that is never shown."""
    repeatable: bool = True
    """False: asked twice it counts twice. Once it may have arrived it is not asked again."""
    authorised: bool = True
    """False: it carries no token."""
    asks_only: bool = False
    """It changes nothing, though its method does not say so; a dry run may send it."""

    @property
    def changes_nothing(self) -> bool:
        return self.asks_only or self.method == "GET"


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `headers` have lower-case names."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> Any:
        """The JSON in it; None when it is none."""
        try:
            return json_.loads(self.text) if self.text else None
        except ValueError:
            return None


class TokenStyle(StrEnum):
    """Where a request carries its token."""

    BEARER = "bearer"
    """`Authorization: Bearer …`."""
    OAUTH = "oauth"
    """`Authorization: OAuth …` (Yandex)."""
    API_TOKEN = "api_token"  # noqa: S105 - the name of a style
    """`x-api-token: …` (Pipedrive's own tokens)."""
    BODY = "body"
    """`auth` in the JSON (Bitrix24)."""


def with_token(request: Request, token: str, style: TokenStyle) -> Request:
    """The request as it goes out."""
    match style:
        case TokenStyle.BODY:
            return replace(request, json={**(request.json or {}), "auth": token})
        case TokenStyle.API_TOKEN:
            named = {"x-api-token": token}
        case TokenStyle.OAUTH:
            named = {"Authorization": f"OAuth {token}"}
        case TokenStyle.BEARER:
            named = {"Authorization": f"Bearer {token}"}
    return replace(request, headers={**request.headers, **named})


Talk: TypeAlias = Generator[Request, Response, T]


class Kind(StrEnum):
    """What a refusal asks for."""

    LATER = "later"
    """Their fault or our haste: the same again."""
    TOKEN = "token"  # noqa: S105 - the name of a kind
    """Our token does not count: a fresh one, and if that does not either, a person."""
    NEVER = "never"
    """It will be refused again."""


@dataclass(slots=True)
class Refused(Exception):
    """The other side did not take it. `reason` is for people and holds nothing of what was sent."""

    kind: Kind
    reason: str
    retry_after_seconds: float | None = None
    may_have_arrived: bool = False
    """There was no answer, and the request had been sent."""

    def __str__(self) -> str:
        return self.reason


def expect(answer: Response, *statuses: int) -> Any:
    """The JSON of an answer with one of `statuses` (200 and 201 when none is named); `Refused` for others."""
    if answer.status in (statuses or (200, 201)):
        return answer.body()
    raise refusal(answer)


def expect_object(answer: Response, *statuses: int) -> dict[str, Any]:
    """As `expect`, an object. Anything else is a proxy's page or half an answer: `Refused`, to be tried again."""
    found = expect(answer, *statuses)
    if not isinstance(found, dict):
        raise Refused(Kind.LATER, f"{answer.status} without a JSON object")
    return found


def refusal(answer: Response, *, later: Collection[int] = ()) -> Refused:
    """What an answer that was not expected means by its status: 401 token; 408, 409, 423, 425, 429, 5xx, `later` and a
    success of another kind try again; the rest of 4xx never; a redirect never, for an interface does not move and a
    token must not follow."""
    status = answer.status
    reason = f"answered {status}"
    if status == 401:
        return Refused(Kind.TOKEN, reason)
    if status in (408, 409, 423, 425, 429, *later) or status >= 500 or status < 300:
        return Refused(Kind.LATER, reason, retry_after_seconds(answer))
    return Refused(Kind.NEVER, reason)


def retry_after_seconds(answer: Response) -> float | None:
    """`Retry-After` in seconds or as a date (then measured by the answer's own `Date`), at most a day."""
    value = answer.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(min(int(value[:9]), MAX_RETRY_AFTER_SECONDS))
    until, sent = _date(value), _date(answer.headers.get("date", ""))
    if until is None or sent is None:
        return None
    return min(max((until - sent).total_seconds(), 0.0), float(MAX_RETRY_AFTER_SECONDS))


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def shown(request: Request) -> str:
    """A request as people may see it: no token, no secret part of the address, files as they are."""
    query = {**request.query, **dict.fromkeys(request.secret_query, MASK)}
    line = f"{request.method} {request.path}" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
    lines = [line]
    if request.form is not None:
        lines += [f"{name}={MASK if _is_secret(name) else value}" for name, value in request.form.items()]
    if request.json is not None:
        lines.append(json_.dumps(request.json, ensure_ascii=False))
    if request.upload is not None:
        text = request.upload.content[:MAX_SHOWN].decode("utf-8", "replace")
        lines.append(f"{request.upload.field}: {request.upload.filename} ({request.upload.content_type})\n{text}")
    return "\n".join(lines)[:MAX_SHOWN]


def shown_answer(answer: Response) -> str:
    """An answer as people may see it."""
    return f"{answer.status}\n{answer.text}".strip()[:MAX_SHOWN]


def _is_secret(name: str) -> bool:
    return any(word in name for word in ("token", "secret", "password"))
