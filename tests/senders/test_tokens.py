"""OAuth tokens: fetched when they run out or are refused, rotated ones survive a crash, secrets are shown to nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from gateway.core.outgoing import bitrix24, crm, google_ads, hubspot, oauth, talks
from gateway.core.outgoing.adapters import State
from gateway.senders import service, tokens
from tests.fakes import analytics, crms, handing, peer
from tests.fakes.handing import NOW_US, SECOND, attempt, event
from tests.fakes.peer import Asked, Reply

HOUR = 3_600 * SECOND


class TokenService(peer.Peer):
    """Gives tokens for an hour; `rotates`: each refresh token counts once."""

    def __init__(self, *, rotates: bool = False) -> None:
        super().__init__()
        self.rotates = rotates
        self.refresh = "refresh-0"
        self.given = 0
        self.https: list[service.Http] = []

    def answer(self, asked: Asked) -> Reply:
        said = self.said(asked)
        if said.get("refresh_token", self.refresh) != self.refresh or said.get("client_secret") != "secret":
            return Reply(400, {"error": "invalid_grant"})
        self.given += 1
        body: dict[str, Any] = {"access_token": f"token-{self.given}", "expires_in": 3600}
        if self.rotates:
            self.refresh = f"refresh-{self.given}"
            body["refresh_token"] = self.refresh
        return Reply(200, body)

    def said(self, asked: Asked) -> dict[str, str]:
        if asked.method == "GET":
            return dict(asked.query)
        if asked.headers["content-type"] == "application/json":
            return {str(name): str(value) for name, value in asked.json().items()}
        return {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}


@pytest.fixture
async def there() -> AsyncIterator[TokenService]:
    made = TokenService()
    await made.start()
    yield made
    for http in made.https:
        await http.close()
    await made.stop()


class Clock:
    """Told by the test."""

    now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


def made(there: TokenService, path: Path, clock: Clock | None = None, **changes: Any) -> tokens.Refreshed:
    """Tokens as configured: `refresh-0`."""
    grant = oauth.Grant(f"{there.url}/token", "client", "secret", "refresh-0")
    http = service.Http(handing.LOOPBACK, per_second=100_000.0)
    there.https.append(http)
    return tokens.Refreshed(
        lambda: replace(grant, **changes), http.drive, path=path / "tokens" / "crm", now_us=clock or Clock()
    )


@pytest.mark.parametrize("form", list(oauth.Form))
async def test_a_token_is_fetched_once_and_used_until_it_runs_out(
    there: TokenService, tmp_path: Path, form: oauth.Form
) -> None:
    clock = Clock()
    one = made(there, tmp_path, clock, form=form)
    assert await asyncio.gather(*(one.token() for _ in range(5))) == ["token-1"] * 5
    clock.now_us += HOUR - 61 * SECOND
    assert await one.token() == "token-1"
    clock.now_us += 2 * SECOND
    assert await one.token() == "token-2"  # a token is not used in its last minute


async def test_a_token_that_was_refused_is_fetched_anew_by_one_of_many(there: TokenService, tmp_path: Path) -> None:
    one = made(there, tmp_path)
    assert await one.token() == "token-1"
    assert await asyncio.gather(*(one.token(refused="token-1") for _ in range(4))) == ["token-2"] * 4


async def test_who_gives_up_leaves_no_second_fetch_with_a_token_that_counts_no_more(
    there: TokenService, tmp_path: Path
) -> None:
    """The service has taken the refresh token and answers slowly: whoever comes next waits for that answer."""
    there.rotates = True
    has_taken, answers = asyncio.Event(), asyncio.Event()
    http = service.Http(handing.LOOPBACK)
    there.https.append(http)

    async def slowly(talk: talks.Talk[oauth.Token]) -> oauth.Token:
        token = await http.drive(talk)
        has_taken.set()
        await answers.wait()
        return token

    grant = oauth.Grant(f"{there.url}/token", "client", "secret", "refresh-0")
    one = tokens.Refreshed(lambda: grant, slowly, path=tmp_path / "crm", now_us=Clock())
    first = asyncio.create_task(one.token())
    await has_taken.wait()
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(one.token())
    await asyncio.wait([second], timeout=0.05)
    answers.set()
    assert await second == "token-1"
    assert there.given == 1


async def test_a_rotated_refresh_token_survives_a_restart(there: TokenService, tmp_path: Path) -> None:
    there.rotates = True
    assert await made(there, tmp_path).token() == "token-1"
    assert await made(there, tmp_path).token() == "token-2"
    path = tmp_path / "tokens" / "crm"
    assert json.loads(path.read_text())["refresh_token"] == "refresh-2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_new_grant_goes_before_the_token_that_was_kept(there: TokenService, tmp_path: Path) -> None:
    there.rotates = True
    await made(there, tmp_path).token()
    there.refresh = "granted-anew"
    assert await made(there, tmp_path, refresh_token="granted-anew").token() == "token-2"


async def test_a_broken_file_is_passed_over(there: TokenService, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "crm").write_text("{")
    assert await made(there, tmp_path).token() == "token-1"


async def test_a_grant_that_was_taken_back_needs_a_person(there: TokenService, tmp_path: Path) -> None:
    there.refresh = "another"
    with pytest.raises(talks.Refused) as refused:
        await made(there, tmp_path).token()
    assert refused.value.kind is talks.Kind.TOKEN


@pytest.mark.parametrize("order", [peer.ERROR, peer.RESET, peer.busy(5)], ids=["500", "reset", "429"])
async def test_a_token_service_in_trouble_is_asked_again(there: TokenService, tmp_path: Path, order: peer.Fail) -> None:
    there.orders[0] = order
    one = made(there, tmp_path)
    with pytest.raises(talks.Refused) as refused:
        await one.token()
    assert refused.value.kind is talks.Kind.LATER
    assert await one.token() == "token-1"


async def test_who_asks_by_http_basic(there: TokenService, tmp_path: Path) -> None:
    with pytest.raises(talks.Refused):  # the fake wants the secret in the form
        await made(there, tmp_path, basic=True).token()
    assert there.asked[0].headers["authorization"] == "Basic Y2xpZW50OnNlY3JldA=="


async def test_as_the_application_itself(there: TokenService, tmp_path: Path) -> None:
    await made(there, tmp_path, refresh_token=None).token()
    assert there.said(there.asked[0])["grant_type"] == "client_credentials"


@pytest.mark.parametrize(
    ("make", "peer_type"),
    [(lambda url: hubspot.HubSpot(base_url=url), crms.HubSpot), (bitrix24.Bitrix24, crms.Bitrix24)],
    ids=["hubspot", "bitrix24"],
)
async def test_an_expired_token_is_replaced_within_the_attempt(
    there: TokenService, tmp_path: Path, make: Any, peer_type: type[crms.CrmPeer]
) -> None:
    """401 expired token: a fresh one, and the same request again."""
    crm_peer = peer_type()
    await crm_peer.start()
    crm_peer.knows()
    crm_peer.token = "token-2"  # the service has voided token-1
    one = crm.CrmService(make(crm_peer.url), crm.Policy(default_user="11"))
    http = service.Http(handing.LOOPBACK, base_url=one.base_url, style=one.token_style, per_second=100_000.0)
    http.tokens = made(there, tmp_path)
    settled = await service.ServiceAdapter("crm:test", one, http).deliver(event(), attempt())
    assert (settled.state, len(crm_peer.calls), crm_peer.wrong) == (State.DONE, 1, [])
    assert "token-" not in settled.request
    await http.close()
    await crm_peer.stop()


def google_ads_at(url: str) -> google_ads.GoogleAds:
    return google_ads.GoogleAds(google_ads.Account("1112223333", "444", "dev-token", "9998887777"), url)


@contextlib.asynccontextmanager
async def google(
    there: TokenService, tmp_path: Path, clock: Clock
) -> AsyncIterator[tuple[analytics.GoogleAds, service.ServiceAdapter]]:
    """Google Ads behind the token service of `there`."""
    ads = analytics.GoogleAds()
    await ads.start()
    one = google_ads_at(ads.url)
    http = service.Http(handing.LOOPBACK, base_url=one.base_url, style=one.token_style, per_second=100_000.0)
    http.tokens = made(there, tmp_path, clock)
    yield ads, service.ServiceAdapter("google_ads:test", one, http)
    await http.close()
    await ads.stop()


async def test_a_token_of_google_that_ran_out_is_fetched_anew(there: TokenService, tmp_path: Path) -> None:
    """OAuth refresh: by the clock, and when Google says so before that."""
    clock = Clock()
    async with google(there, tmp_path, clock) as (ads, adapter):
        assert (await adapter.deliver(event(), attempt())).state is State.DONE
        clock.now_us += HOUR
        ads.token = "token-2"
        other = event(event_id="e2", call_id="another")
        assert (await adapter.deliver(other, attempt())).state is State.DONE
        ads.token = "token-3"  # voided before its time: 401, a fresh one, and the same again
        third = event(event_id="e3", call_id="a third")
        assert (await adapter.deliver(third, attempt())).state is State.DONE
        assert (there.given, len(ads.orders_seen), ads.wrong) == (3, 3, [])


async def test_a_grant_of_google_that_was_revoked_waits_for_a_person_and_goes_on(
    there: TokenService, tmp_path: Path
) -> None:
    """invalid_grant: deliveries wait, somebody is told; with a new grant they go."""
    clock = Clock()
    async with google(there, tmp_path, clock) as (ads, adapter):
        there.refresh = "revoked"
        settled = await adapter.deliver(event(), attempt())
        assert (settled.state, settled.needs_attention, ads.asked) == (State.FAILED, True, [])
        assert settled.note == "the token service answered 400: the token does not count"
        assert "refresh-0" not in settled.request + settled.response
        assert "secret" not in settled.request + settled.response
        there.refresh = "refresh-0"
        assert (await adapter.deliver(event(), attempt(number=2))).state is State.DONE


async def test_a_token_in_a_file_may_be_changed_while_we_run() -> None:
    written = ["one"]
    fixed = tokens.Fixed(lambda: written[0])
    assert await fixed.token() == "one"
    with pytest.raises(talks.Refused):
        await fixed.token(refused="one")
    written[0] = "two"
    assert await fixed.token(refused="one") == "two"
