"""OAuth 2.0 tokens that are fetched anew with a refresh token or as the application itself.

Google Ads    refresh_token, form              refresh token stays
HubSpot       refresh_token, form              stays (a private app's token needs none of this)
Salesforce    refresh_token or client_credentials, form
Bitrix24      refresh_token, query             a new refresh token each time, the old one is void
amoCRM        refresh_token, JSON              a new one each time, the old one is void
Pipedrive     refresh_token, form, HTTP Basic  (an API token needs none of this)
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.outgoing import talks

EARLY_US = 60 * talks.SECOND_US
"""A token is not used in its last minute."""
SHORTEST_SECONDS = 300
"""Of a token whose answer does not say how long it lasts."""


class Form(StrEnum):
    """How a token is asked for."""

    FORM = "form"
    JSON = "json"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Grant:
    """Where tokens come from, and what proves who asks. Texts, never shown."""

    url: str
    client_id: str
    client_secret: str
    refresh_token: str | None = None
    """None: `client_credentials`."""
    form: Form = Form.FORM
    basic: bool = False
    """Client id and secret by HTTP Basic."""
    redirect_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and the refresh token to be used from now on."""

    access: str
    until_us: int
    refresh: str | None = None


def fetch(grant: Grant, now_us: int) -> talks.Talk[Token]:
    """A fresh token. A refusal with 4xx is a `TOKEN` one: a person must give a new grant."""
    fields = {"grant_type": "refresh_token" if grant.refresh_token else "client_credentials"}
    headers: dict[str, str] = {}
    if grant.basic:
        pair = base64.b64encode(f"{grant.client_id}:{grant.client_secret}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    else:
        fields |= {"client_id": grant.client_id, "client_secret": grant.client_secret}
    if grant.refresh_token:
        fields["refresh_token"] = grant.refresh_token
    if grant.redirect_uri:
        fields["redirect_uri"] = grant.redirect_uri
    answer = yield _request(grant, fields, headers)
    if 400 <= answer.status < 500 and answer.status not in (408, 429):
        raise talks.Refused(talks.Kind.TOKEN, f"the token service answered {answer.status}")
    body = talks.expect_object(answer, 200)
    access = body.get("access_token")
    if not isinstance(access, str) or not access:
        raise talks.Refused(talks.Kind.LATER, "the token service answered without a token")
    seconds = int(body.get("expires_in") or SHORTEST_SECONDS)
    return Token(access, now_us + seconds * talks.SECOND_US, body.get("refresh_token") or grant.refresh_token)


def _request(grant: Grant, fields: dict[str, str], headers: dict[str, str]) -> talks.Request:
    match grant.form:
        case Form.JSON:
            return talks.Request("POST", grant.url, json=fields, headers=headers, authorised=False)
        case Form.QUERY:
            return talks.Request("GET", grant.url, secret_query=fields, headers=headers, authorised=False)
        case Form.FORM:
            return talks.Request("POST", grant.url, form=fields, headers=headers, authorised=False)
