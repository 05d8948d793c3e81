"""Webhooks signed by Standard Webhooks; where they may go; what each answer means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from socket import AF_INET, AF_UNSPEC
from typing import Any

import aiohttp
import pytest
import standardwebhooks
from aiohttp import abc, web
from yarl import URL

from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.senders import outside, webhook
from tests.outgoing import receiver

LOOPBACK = (ip_network("127.0.0.0/8"),)
State = adapters.State


def handed(number: int = 1) -> adapters.Handed:
    body = {"id": f"event-{number}", "type": "call.missed", "timestamp": "2026-11-22T05:00:00.000Z", "data": {"a": "ü"}}
    return adapters.Handed(f"event-{number}", "call.missed", 1, {"a": "ü"}, payload=json.dumps(body))


async def send(
    url: str,
    *,
    allow: tuple[object, ...] = LOOPBACK,
    secret: str = receiver.SECRET,
    timeout: int = 5,
    ca_file: Path | None = None,
) -> adapters.Settled:
    described = receivers.Webhook(
        "crm",
        url,
        "env:SECRET",
        allow=allow,  # type: ignore[arg-type]  # networks
        timeout_seconds=timeout,
        ca_file=str(ca_file) if ca_file else None,
    )
    made = webhook.Webhook(described, lambda _: secret)
    try:
        return await made.deliver(handed(), adapters.Attempt(now_us=time.time_ns() // 1_000))
    finally:
        await made.close()


def test_the_vector_of_standard_webhooks() -> None:
    """integrations.md 4.6: the published test vector."""
    (signer,) = webhook.secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    moment = datetime.fromtimestamp(1614265330, UTC)
    signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", moment, '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_every_field_is_as_the_contract_says() -> None:
    """The published verifier accepts it; `_check` looks at all of the request."""
    async with receiver.running() as there:
        settled = await send(there.url)
        assert (settled.state, settled.status, settled.note) == (State.DONE, 204, "")
        assert there.wrong == []
        (got,) = there.got
        assert got.body == json.loads(handed().payload)
    assert "webhook-signature: v1," in settled.request
    assert "ü" in settled.request or "\\u00fc" in settled.request
    assert settled.response.startswith("204")


async def test_two_secrets_sign_while_one_is_changed() -> None:
    """A receiver that knows either of them takes it."""
    for known in (receiver.SECRET, receiver.OTHER_SECRET):
        async with receiver.running(secrets=(known,)) as there:
            settled = await send(there.url, secret=f"{receiver.OTHER_SECRET}\n{receiver.SECRET}\n")
            assert (settled.state, there.wrong) == (State.DONE, [])
            assert len(there.got[0].headers["webhook-signature"].split(" ")) == 2


async def test_a_wrong_secret_is_noticed_by_the_verifier() -> None:
    async with receiver.running(secrets=(receiver.OTHER_SECRET,)) as there:
        await send(there.url)
        assert there.wrong == ["no good signature", "the verifier refuses it"]
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(receiver.OTHER_SECRET).verify(json.dumps(there.got[0].body), there.got[0].headers)


@pytest.mark.parametrize("text", ["", "abc", "whsec_abc", "whsec_!!!", f"{receiver.SECRET} " * 3], ids=str)
async def test_a_secret_that_is_none(text: str) -> None:
    async with receiver.running() as there:
        settled = await send(there.url, secret=text)
        assert settled.state is State.FAILED
        assert settled.note.startswith("not signed: ")
        assert there.got == []
        assert not text.strip() or text.split()[0] not in settled.note + settled.request


# -- what answers mean -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "state"), [(200, "done"), (202, "done"), (400, "failed"), (404, "failed")])
async def test_a_status(code: int, state: str) -> None:
    async with receiver.running(orders=[receiver.status(code)]) as there:
        settled = await send(there.url)
        assert (settled.state.value, settled.status) == (state, code)


async def test_500_is_tried_again_and_410_ends_it() -> None:
    async with receiver.running(orders=[receiver.status(500), receiver.status(410)]) as there:
        assert (await send(there.url)).note == "answered 500"
        assert (await send(there.url)).state is State.GONE


async def test_retry_after_in_seconds_and_as_a_date() -> None:
    later = "Sun, 22 Nov 2026 06:00:00 GMT"
    orders = [receiver.status(503, Retry_After="120"), receiver.status(429, Retry_After=later)]
    async with receiver.running(orders=orders) as there:
        before_us = time.time_ns() // 1_000
        settled = await send(there.url)
        assert settled.again_us is not None
        assert 0 <= settled.again_us - before_us - 120_000_000 < 60_000_000
        assert (await send(there.url)).again_us == 1795327200 * 1_000_000


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "٣", "Sun, 99 Nov 2026", f"Sun, 22 Nov 2026 06:00:00 +{10**20}"]
)
def test_a_retry_after_that_says_nothing(value: str) -> None:
    assert webhook.retry_after_us(value, 7) is None


async def test_reset_slow_and_nobody_there() -> None:
    stays = asyncio.Event()
    async with receiver.running(orders=[receiver.reset, receiver.held(stays)]) as there:
        assert (await send(there.url)).note == "the connection was cut"
        assert (await send(there.url, timeout=1)).note == "no answer in time"
        stays.set()
    settled = await send(there.url)
    assert settled.state is State.FAILED
    assert settled.note.startswith("not reached: ")


async def test_an_endless_answer_is_cut() -> None:
    async with receiver.running(orders=[lambda _: _huge()]) as there:
        settled = await send(there.url)
        assert settled.state is State.DONE
        assert 10_000 < len(settled.response) < 20_000


def _huge() -> object:
    return web.Response(status=200, text="x" * 5_000_000)


async def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    """What is kept of it is enough: the receiver has the event."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 10_000)
        return response

    async with receiver.running(orders=[endless]) as there:
        settled = await send(there.url, timeout=20)
        assert (settled.state, settled.status) == (State.DONE, 200)


# -- where it may go -------------------------------------------------------------------------------------------------


WRITINGS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "2130706433",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
]


@pytest.mark.parametrize("host", WRITINGS)
async def test_loopback_is_refused_unless_allowed(host: str) -> None:
    """By address, by name (after the look-up), and by writings of the same address."""
    async with receiver.running() as there:
        for scheme in ("http", "https"):
            settled = await send(f"{scheme}://{host}:{there.port}/", allow=())
            assert settled.state is State.FAILED
            assert "allow" in settled.note or settled.note.startswith("its address is not understood")
        assert there.got == []
        assert there.wrong == []


@pytest.mark.parametrize("host", ["2130706433", "127.1", "017700000001", "0x7f000001", "0x7f.1", "127.0.0.1."])
def test_other_writings_of_an_address_are_refused_before_any_library_reads_them(host: str) -> None:
    """Whatever the HTTP client makes of them: versions of it that take digits for an address look nothing up, so the
    check behind the look-up would never be asked."""
    with pytest.raises(outside.Refused, match="not understood"):
        outside.Reach(LOOPBACK).check_literal(URL(f"https://{host}/"))


async def test_every_address_of_a_name_is_checked_and_the_checked_one_is_connected_to() -> None:
    """After the look-up: one address of the house among good ones spoils the name, so that a name which answers
    differently each time (DNS rebinding) gains nothing."""

    class Names(outside._Resolver):
        def __init__(self, *found: str) -> None:
            super().__init__(outside.Reach(), is_plain=False)
            self._inner = Table(found)

    class Table(aiohttp.ThreadedResolver):
        def __init__(self, found: tuple[str, ...]) -> None:
            super().__init__()
            self._found = found

        async def resolve(self, host: str, port: int = 0, family: Any = AF_UNSPEC) -> list[abc.ResolveResult]:
            return [
                abc.ResolveResult(hostname=host, host=one, port=port, family=AF_INET, proto=0, flags=0)
                for one in self._found
            ]

    assert len(await Names("93.184.216.34").resolve("crm.example.com", 443)) == 1
    for found in (("93.184.216.34", "127.0.0.1"), ("10.1.2.3",), ("169.254.169.254",), ("::1",), ("fd00::1",)):
        with pytest.raises(outside.Refused, match="allow"):
            await Names(*found).resolve("crm.example.com", 443)


@pytest.mark.parametrize("is_plain", [True, False])
async def test_a_name_is_looked_up_for_each_connection(is_plain: bool) -> None:
    """What was checked is never older than what is connected to; and no proxy of the environment stands between."""
    made = outside.Outside()
    session = made._session(is_plain=is_plain)
    assert isinstance(session.connector, aiohttp.TCPConnector)
    assert not session.connector.use_dns_cache
    assert not session.trust_env
    await made.close()


async def test_plain_http_goes_to_allowed_networks_only() -> None:
    allow = (ip_network("10.0.0.0/8"),)
    settled = await send("http://192.0.2.7/", allow=allow)
    assert settled.note == "192.0.2.7 is in no network of `allow`"


async def test_a_redirect_into_the_house_is_not_followed(tmp_path: Path) -> None:
    """The receiver is allowed by its address; where it points to is not."""
    pem = receiver.certificate(tmp_path)
    async with receiver.running() as inside:
        for location in (f"http://127.0.0.2:{inside.port}/", f"https://127.0.0.2:{inside.port}/", "file:///etc/passwd"):
            orders = [receiver.status(307, Location=location)]
            async with receiver.running(orders=orders, context=receiver.server_context(pem)) as there:
                settled = await send(there.url, allow=(ip_network("127.0.0.1/32"),), ca_file=pem)
                assert settled.state is State.FAILED
                assert "allow" in settled.note or "plain http" in settled.note
        assert inside.got == []


async def test_a_redirect_that_keeps_the_method_is_followed_a_few_times() -> None:
    async with receiver.running() as there:
        there.orders = [receiver.status(308, Location="/other")] * 3
        assert (await send(there.url)).state is State.DONE
        there.orders = [receiver.status(307, Location="/other")] * 9
        assert (await send(there.url)).note == "it redirects more than 3 times"
        there.orders = [receiver.status(302, Location="/other")]
        assert (await send(there.url)).note == "answered 302"


async def test_tls_of_an_own_authority_and_wrong_tls(tmp_path: Path) -> None:
    good, other = receiver.certificate(tmp_path), receiver.certificate(tmp_path, "127.0.0.9")
    async with receiver.running(context=receiver.server_context(good)) as there:
        assert (await send(there.url, ca_file=good)).state is State.DONE
        assert (await send(there.url)).note.startswith("its certificate is not good")
        assert (await send(there.url, ca_file=tmp_path / "none.pem")).note.endswith("No such file or directory")
    async with receiver.running(context=receiver.server_context(other)) as there:
        assert "not good" in (await send(there.url, ca_file=other)).note
    async with receiver.running() as plain:
        assert (await send(plain.url.replace("http:", "https:"))).note.startswith("TLS failed")
        assert plain.got == []


async def test_a_name_that_is_not_known() -> None:
    assert (await send("https://no-such-host.invalid/")).note == "its name is not known: no-such-host.invalid"
