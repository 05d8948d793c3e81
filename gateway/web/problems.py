"""Errors of the HTTP API as RFC 9457 problem documents.

Problem
├── 400 invalid-query         the query string does not fit; `errors` names every field
├── 400 invalid-body          the body is not the JSON document asked for; `errors` names every field
├── 401 not-signed            a message whose signature, age or sender is wrong; the log says which
├── 422 not-taken             what was said of calls or costs is wrong; `errors` has every place, nothing was taken
├── 401 unauthenticated       no credentials, or they are wrong, expired or revoked
├── 403 missing-scope         the token lacks the scope the route asks for
├── 403 cross-site            a form that another site sent
├── 404 not-found / call-not-found
├── 409 ticket-refused        it cannot be done with the ticket now; `detail` says why
├── 404 recording-not-found / visitor-not-found
├── 404 site-not-found        no such site, or none with `[site.web]`
├── 403 other-site            a page that is not one of the site's
├── 408 too-slow              the body did not come in time
├── 429 too-many-visits       more than one address, or one site, may ask; `Retry-After` in seconds
├── 410 recording-gone        refused, condemned or shredded: there is nothing to hear
├── 500 receipt-damaged       a receipt is not what was signed
├── 416 range-not-there       the range begins behind the end
├── 500 recording-damaged     the file is missing, or not what was written
├── 409 call-not-up           the call is over, so nobody can hang it up
├── 409 call-not-recorded     no recording runs on the call
├── 404 agent-not-found       no such agent, or for a click one without a phone
├── 409 callback-refused      the customer is not called back; the detail says why
├── 405 method-not-allowed
├── 429 too-many-attempts     wrong credentials from one address; `Retry-After` in seconds
├── 429 too-many-requests     more than the limit per token
├── 503 too-many-streams      all live streams are taken
├── 503 asterisk-unreachable  the manager session is down, or Asterisk refused
├── 503 unavailable           the database did not answer in time
└── 500 internal              our fault; the log has it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

TYPE_PREFIX = "urn:dialmark:problem:"
MEDIA_TYPE = "application/problem+json"

TITLES: Mapping[str, tuple[int, str]] = {
    "invalid-query": (400, "The query does not fit"),
    "invalid-body": (400, "The body does not fit"),
    "not-signed": (401, "The message is not signed as it must be"),
    "not-taken": (422, "Nothing was taken"),
    "unauthenticated": (401, "A valid token is needed"),
    "missing-scope": (403, "The token lacks the scope"),
    "cross-site": (403, "The form came from another site"),
    "not-found": (404, "No such address"),
    "call-not-found": (404, "No such call"),
    "recording-not-found": (404, "No such recording"),
    "agent-not-found": (404, "No such agent"),
    "callback-refused": (409, "The customer is not called back"),
    "visitor-not-found": (404, "No such visitor"),
    "site-not-found": (404, "No such site"),
    "other-site": (403, "The page is not one of the site's"),
    "too-slow": (408, "The request took too long"),
    "too-many-visits": (429, "Too many requests"),
    "recording-gone": (410, "The recording cannot be heard any more"),
    "recording-damaged": (500, "The recording is damaged"),
    "receipt-damaged": (500, "The receipt is not what was signed"),
    "range-not-there": (416, "The range is not there"),
    "call-not-up": (409, "The call is over"),
    "ticket-refused": (409, "It cannot be done with this ticket"),
    "call-not-recorded": (409, "The call is not being recorded"),
    "asterisk-unreachable": (503, "Asterisk does not answer"),
    "method-not-allowed": (405, "This method does not exist here"),
    "bad-request": (400, "The request could not be read"),
    "too-large": (413, "The request is too large"),
    "too-many-attempts": (429, "Too many wrong tokens"),
    "too-many-requests": (429, "Too many requests with this token"),
    "too-many-streams": (503, "Too many live streams"),
    "internal": (500, "Something broke on our side"),
    "unavailable": (503, "Not available at the moment"),
}
"""Slug → (status, title). The `type` of a problem is `urn:dialmark:problem:` + slug."""


class Problem(Exception):
    """An answer other than success, by its slug. `detail` is for people and must not quote secrets."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        self.slug = slug
        self.status, self.title = TITLES[slug]
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors
        super().__init__(f"{slug}: {detail}")

    def document(self, instance: str) -> dict[str, Any]:
        """The problem document; `instance` is the path that was asked for, without its query."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "instance": instance,
        }
        if self.detail:
            document["detail"] = self.detail
        if self.errors is not None:
            document["errors"] = self.errors
        return document

    def response(self, instance: str) -> web.Response:
        """The HTTP answer."""
        return web.Response(
            status=self.status,
            text=json.dumps(self.document(instance), ensure_ascii=False),
            content_type=MEDIA_TYPE,
            headers=self.headers,
        )


_SLUG_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def from_http(error: web.HTTPException) -> Problem:
    """The problem for an error aiohttp raised by itself (no such route, wrong method, body too large)."""
    slug = _SLUG_BY_STATUS.get(error.status, "bad-request" if error.status < 500 else "internal")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(slug, headers=headers)
