"""Scopes, tokens, sessions, cross-site forms and login limits, over real HTTP."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest
from aiohttp import web

from gateway.store import tokens
from gateway.web import app, auth, live, metrics, parts, problems, routes
from tests.web import material
from tests.web.listener import Listener, bearer

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
A_CALL = "11111111-2222-3333-4444-555555555555"


def application(listener: Listener) -> web.Application:
    return app.admin_app(
        parts.AdminParts(listener.database, live.LiveBoard(), metrics.Meters("n", "v"), lambda: None, "n", "v")
    )


async def test_every_route_carries_a_scope(idle: Listener) -> None:
    made = application(idle)
    for route in made.router.routes():
        operation = made[routes.OPERATIONS].get(route)
        assert operation is not None, f"{route.method} {route.resource} was added past routes.Table"
        assert isinstance(operation.scope, auth.Scope | auth.Open)


async def test_open_routes_are_the_ones_we_mean(idle: Listener) -> None:
    operations = application(idle)[routes.OPERATIONS].values()
    assert {operation.path for operation in operations if operation.scope is auth.Open.ANYONE} == {
        "/healthz", "/readyz", "/login", "/logout", "/static/{mark}/{name}"
    }  # fmt: skip
    assert {operation.path for operation in operations if operation.scope is auth.Open.SIGNED_IN} == {
        "/api/v1/openapi.json"
    }
    assert {operation.path for operation in operations if operation.scope is auth.Open.SIGNED} == {
        "/api/v1/inbound/{key:[a-z0-9-]{1,24}}"
    }


SCOPED = [
    ("/api/v1/calls", "calls:read"),
    (f"/api/v1/calls/{A_CALL}", "calls:read"),
    ("/api/v1/calls/live", "live:read"),
    ("/api/v1/live", "live:read"),
    ("/api/v1/routing", "routing:read"),
]


@pytest.mark.parametrize(("path", "scope"), SCOPED)
async def test_it_lets_in_only_tokens_with_the_scope(
    listener: Listener, http: aiohttp.ClientSession, path: str, scope: str
) -> None:
    others = [str(other) for other in auth.Scope if other not in (scope, auth.Scope.ADMIN)]
    async with http.get(listener.url + path) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dialmark"'
        assert (await answer.json())["type"] == "urn:dialmark:problem:unauthenticated"
    async with http.get(listener.url + path, headers=bearer(await listener.token(*others))) as answer:
        assert answer.status == 403
        assert (await answer.json())["type"] == "urn:dialmark:problem:missing-scope"
    for token in (await listener.token(scope), await listener.token("admin")):
        async with http.get(listener.url + path, headers=bearer(token)) as answer:
            assert answer.status in (200, 404)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer dm_" + "x" * 43,
        "Bearer " + "x" * 5000,
        "Basic dTpw",
        "Bearer a b",
    ],
)
async def test_it_refuses_wrong_credentials(listener: Listener, http: aiohttp.ClientSession, header: str) -> None:
    """Also on a route that a local process may read: who presents a wrong token is told so."""
    for path in ("/api/v1/calls", "/metrics"):
        async with http.get(listener.url + path, headers={"Authorization": header}) as answer:
            assert answer.status == 401
            assert "invalid_token" in answer.headers["WWW-Authenticate"]


async def test_a_revoked_or_expired_token_is_wrong_at_once(listener: Listener, http: aiohttp.ClientSession) -> None:
    token = await listener.token()
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(token)) as answer:
        assert answer.status == 200
    async with listener.database.begin() as tx:
        assert await tokens.revoke(tx, "token 1", now_us=parts.micros(listener.clock.now))
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(token)) as answer:
        assert answer.status == 401


async def test_it_notes_when_a_token_was_used(listener: Listener, http: aiohttp.ClientSession) -> None:
    token = await listener.token()
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(token)):
        pass
    async with listener.database.read() as connection:
        (known,) = await tokens.list_tokens(connection)
    assert known.last_used_us is not None


async def test_wrong_tokens_are_limited_and_right_ones_are_not(listener: Listener, http: aiohttp.ClientSession) -> None:
    statuses = []
    for _ in range(12):
        async with http.get(listener.url + "/api/v1/calls", headers=bearer("dm_wrong")) as answer:
            statuses.append(answer.status)
            retry_after = answer.headers.get("Retry-After")
    assert statuses == [401] * 10 + [429] * 2
    assert retry_after is not None and 1 <= int(retry_after) <= 60
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(await listener.token())) as answer:
        assert answer.status == 200


async def test_requests_are_limited_per_token(listener: Listener, http: aiohttp.ClientSession) -> None:
    listener.limits = auth.Limits(api_per_minute=3)
    busy, calm = await listener.token(), await listener.token()
    statuses = []
    for _ in range(5):
        async with http.get(listener.url + "/api/v1/calls", headers=bearer(busy)) as answer:
            statuses.append(answer.status)
            slug = (await answer.json()).get("type")
    assert statuses == [200] * 3 + [429] * 2
    assert slug == "urn:dialmark:problem:too-many-requests"
    async with http.get(listener.url + "/api/v1/calls", headers=bearer(calm)) as answer:
        assert answer.status == 200


async def log_in(listener: Listener, http: aiohttp.ClientSession, token: str, **headers: str) -> aiohttp.ClientResponse:
    return await http.post(
        listener.url + "/login", data={"token": token}, headers={**SAME_SITE, **headers}, allow_redirects=False
    )


async def session_of(listener: Listener, http: aiohttp.ClientSession, token: str) -> dict[str, str]:
    answer = await log_in(listener, http, token)
    assert answer.status == 303
    return {auth.COOKIE: answer.cookies[auth.COOKIE].value}


async def test_login_gives_an_opaque_cookie_that_scripts_cannot_read(
    listener: Listener, http: aiohttp.ClientSession
) -> None:
    token = await listener.token()
    answer = await log_in(listener, http, token)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.cookies[auth.COOKIE]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["path"] == "/" and not cookie["secure"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie.value)
    assert cookie.value not in token and token not in str(answer.headers)
    async with http.get(listener.url + "/", cookies={auth.COOKIE: cookie.value}) as page:
        assert page.status == 200


async def test_behind_https_the_cookie_is_bound_to_host_and_https(idle: Listener, http: aiohttp.ClientSession) -> None:
    idle.trusted_proxies = ("127.0.0.1",)
    async with idle.running():
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
        answer = await log_in(idle, http, await idle.token(), **forwarded)
        cookie = answer.cookies[auth.SECURE_COOKIE]
        assert cookie["secure"]
        assert "Strict-Transport-Security" in answer.headers


@pytest.mark.parametrize("following", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "x"])
async def test_login_leads_nowhere_else(listener: Listener, http: aiohttp.ClientSession, following: str) -> None:
    form = {"token": await listener.token(), "next": following}
    async with http.post(listener.url + "/login", data=form, headers=SAME_SITE, allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/"


async def test_a_stranger_is_led_to_the_login_form_and_back(listener: Listener, http: aiohttp.ClientSession) -> None:
    async with http.get(listener.url + "/?outcome=busy", allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"] == "/login?next=%2F%3Foutcome%3Dbusy"
    async with http.get(listener.url + answer.headers["Location"]) as form:
        assert 'name="next" value="/?outcome=busy"' in await form.text()
    async with http.get(listener.url + "/fragments/live", allow_redirects=False) as answer:
        assert answer.status == 401


async def test_login_limits_tries_even_all_at_once(listener: Listener, http: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(*(log_in(listener, http, f"dm_wrong{number}") for number in range(25)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [401] * 10 + [429] * 15
    answer = await log_in(listener, http, await listener.token())
    assert answer.status == 429
    assert "Try again in" in await answer.text()


async def test_logout_ends_the_session(listener: Listener, http: aiohttp.ClientSession) -> None:
    cookies = await session_of(listener, http, await listener.token())
    async with http.post(listener.url + "/logout", cookies=cookies, headers=SAME_SITE, allow_redirects=False) as answer:
        assert answer.status == 303
    async with http.get(listener.url + "/api/v1/calls", cookies=cookies) as answer:
        assert answer.status == 401


async def test_revoking_the_token_ends_its_sessions(listener: Listener, http: aiohttp.ClientSession) -> None:
    cookies = await session_of(listener, http, await listener.token())
    async with listener.database.begin() as tx:
        await tokens.revoke(tx, "token 1", now_us=parts.micros(listener.clock.now))
    listener.clock.pass_by(seconds=auth.RECHECK_SECONDS)
    async with http.get(listener.url + "/api/v1/calls", cookies=cookies) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("steps", [[13], [11] * 16], ids=["idle", "old"])
async def test_sessions_end_when_idle_or_old(listener: Listener, http: aiohttp.ClientSession, steps: list[int]) -> None:
    cookies = await session_of(listener, http, await listener.token())
    for hours in steps:
        listener.clock.pass_by(hours=hours)
        async with http.get(listener.url + "/api/v1/calls", cookies=cookies) as answer:
            status = answer.status
    assert status == 401


async def test_sessions_kept_are_bounded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "SESSIONS_LIMIT", 2)
    someone = auth.Principal("1", "someone", frozenset())

    async def check(token: str) -> auth.Principal | None:
        return someone

    sessions = auth.Sessions(check, listener.clock)
    first, second, third = (sessions.start(someone, "dm_x") for _ in range(3))
    assert await sessions.find(first) is None
    assert await sessions.find(second) == await sessions.find(third) == someone


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout"])
async def test_forms_of_other_sites_are_refused(
    listener: Listener, http: aiohttp.ClientSession, headers: dict[str, str], path: str
) -> None:
    form = {"token": await listener.token()}
    async with http.post(listener.url + path, data=form, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 403
        assert not answer.cookies


async def test_over_plain_http_the_origin_is_enough(listener: Listener, http: aiohttp.ClientSession) -> None:
    form = {"token": await listener.token()}
    headers = {"Origin": listener.url}
    async with http.post(listener.url + "/login", data=form, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303


async def test_answers_carry_the_security_headers(listener: Listener, http: aiohttp.ClientSession) -> None:
    for path in ("/login", "/healthz", "/api/v1/calls", "/nothing", "/static/x/y"):
        async with http.get(listener.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy and "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "dialmark"


async def test_problems_are_documents(listener: Listener, http: aiohttp.ClientSession) -> None:
    async with http.get(listener.url + "/api/v1/nothing") as answer:
        assert answer.status == 404
        assert answer.content_type == problems.MEDIA_TYPE
    async with http.delete(listener.url + "/api/v1/calls") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
    async with http.post(listener.url + "/login", data={"token": "x" * 40_000}, headers=SAME_SITE) as answer:
        assert answer.status == 413
    async with http.get(listener.url + "/nothing", headers={"Accept": "text/html"}) as answer:
        assert answer.status == 404
        assert answer.content_type == "text/html"


async def test_no_token_and_no_number_reaches_the_log(
    listener: Listener, http: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    token = await listener.token()
    await session_of(listener, http, token)
    async with http.get(listener.url + f"/api/v1/calls?caller={material.CALLER}", headers=bearer(token)) as answer:
        assert answer.status == 200
    written = "".join(capfd.readouterr())
    assert token not in written
    assert material.CALLER.lstrip("+") not in written
