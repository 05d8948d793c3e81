"""Who else speaks to the public listener (issue 4, 4): other sites, bots, floods, slow and broken clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from sqlalchemy import text
from structlog.testing import capture_logs

from gateway import store
from gateway.core import scriptwire
from gateway.web import turnstile
from tests.services.clinic import ROUTING
from tests.web.front import CHROME, FIELDS, ORIGIN, PAGE, Front

MANY_NUMBERS = ROUTING.replace('"+74990000001", "+74990000002"', '"+74990000001", "+74990001000..+74990001098"')


@pytest_asyncio.fixture(loop_scope="module")
async def front(database: store.Database) -> AsyncIterator[Front]:
    async with Front(database, trusted=("127.0.0.1",)).running() as running:
        yield running


async def stored(front: Front, table: str = "leases") -> int:
    async with front.database.read() as connection:
        found: int = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
    return found


# ---- Other sites ----

OWN = ("https://clinic.example", "http://clinic.example", "https://www.clinic.example", "https://clinic.example:8443")
OTHERS = (
    None,
    "null",
    "",
    "https://evil.example",
    "https://clinic.example.evil.example",
    "https://evilclinic.example",
    "https://sub.clinic.example",
    "https://clinic.example/",
    "https://clinic.example/x",
    "https://clinic.example:",
    "https://clinic.example@evil.example",
    "https://clinic.example evil.example",
    "https://CLINIC.example",
    "clinic.example",
    "ftp://clinic.example",
    "javascript://clinic.example",
    "https://clinic.example, https://evil.example",
    "https://",
    "*",
    "https://clinic.example" + "0" * 300,
)


async def test_only_the_sites_own_pages_read_answers(front: Front) -> None:
    for origin in OWN:
        said = await front.post("visit", headers={"Origin": origin})
        assert (said.status, said.headers["Access-Control-Allow-Origin"]) == (200, origin)


async def test_pages_of_others_take_no_number(front: Front) -> None:
    """Site keys are bound to the site's hosts; a request without an origin is no browser's."""
    for origin, kind in product(OTHERS, ("visit", "page", "beat", "callback")):
        said = await front.post(kind, visitor="v" * 32, headers={"Origin": origin})
        assert (said.status, said.json["type"]) == (403, "urn:dialmark:problem:other-site"), origin
        assert "Access-Control-Allow-Origin" not in said.headers
    assert (await stored(front), await stored(front, "events")) == (0, 0)


async def test_a_page_that_names_another_address_takes_no_number(front: Front) -> None:
    for url in ("https://evil.example/", "https://clinic.example.evil.example/", "http://[/", "file:///etc/passwd"):
        assert (await front.visit(url=url)).status == 403
        assert (await front.post("callback", url=url)).status == 403
    assert await stored(front) == 0


async def test_beacons_of_pages_that_tell_nobody_where_they_are(front: Front) -> None:
    """`Referrer-Policy: no-referrer` makes `Origin: null` of a beacon; it takes nothing, and names a secret."""
    first = await front.visit()
    for origin in ("null", None):
        said = await front.post(
            "leave", visitor=first.json["visitor"], lease=first.json["lease"], headers={"Origin": origin}
        )
        assert said.status == 204
    assert (await front.post("click", visitor="v" * 32, headers={"Origin": "null"})).status == 204
    for kind in ("leave", "click"):
        said = await front.post(kind, visitor="v" * 32, headers={"Origin": "https://evil.example"})
        assert said.status == 403


# ---- Bots ----

BOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +yandex.com/bots)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)",
    "Mozilla/5.0 (compatible; Yeti/1.1)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; moto g) AppleWebKit/537.36 Chrome/141 Mobile Safari/537.36 Chrome-Lighthouse",
    "python-requests/2.32.0",
    "curl/8.5.0",
    "",
    None,
)
AHEAD = (
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
    {"X-Purpose": "preview"},
    {"X-Moz": "prefetch"},
    {"Purpose": "PREFETCH"},
)


async def test_bots_are_lent_nothing(front: Front) -> None:
    """attribution.md 2.5: a tenth of undetected bots doubles the share of visitors without a number."""
    requests: list[dict[str, Any]] = [*({"User-Agent": one} for one in BOTS), *AHEAD]
    for headers in requests:
        said = await front.post("visit", headers=headers)
        assert (said.status, said.json["reason"], said.json["numbers"], said.cookies) == (200, "bot", {}, {}), headers
        paged = await front.post("page", visitor="v" * 32, headers=headers)
        assert paged.json["ok"] is False
    assert (await stored(front), await stored(front, "visitors")) == (0, 0)


async def test_a_browser_that_says_that_a_program_drives_it_is_lent_nothing(front: Front) -> None:
    said = await front.visit(automated=True)
    assert said.json["reason"] == "bot"
    assert await stored(front) == 0


# ---- Floods ----


@pytest_asyncio.fixture(loop_scope="module")
async def strict(database: store.Database) -> AsyncIterator[Front]:
    """Behind a proxy that it trusts, with low limits and a hundred numbers."""
    limits = turnstile.Limits(5, 30, 3, 8)
    async with Front(database, routing=MANY_NUMBERS, limits=limits, trusted=("127.0.0.1",)).running() as running:
        yield running


def behind(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def test_an_address_has_a_limit(strict: Front) -> None:
    statuses = [(await strict.post("visit", headers=behind("203.0.113.7"))).status for _ in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    said = await strict.post("visit", headers=behind("203.0.113.7"))
    assert (said.headers["Retry-After"], said.headers["Access-Control-Allow-Origin"]) == ("12", ORIGIN)
    assert (await strict.post("visit", headers=behind("203.0.113.8"))).status == 200
    strict.later(12)
    statuses = [(await strict.post("visit", headers=behind("203.0.113.7"))).status for _ in range(2)]
    assert statuses == [200, 429]
    assert await stored(strict) == 7


async def test_an_ipv6_customer_is_one_address(strict: Front) -> None:
    for place in range(5):
        assert (await strict.post("visit", headers=behind(f"2001:db8:1:2:{place}::{place}"))).status == 200
    assert (await strict.post("visit", headers=behind("2001:db8:1:2:ffff::1"))).status == 429
    assert (await strict.post("visit", headers=behind("2001:db8:1:3::1"))).status == 200


async def test_only_the_last_address_that_is_not_our_proxys_counts(strict: Front) -> None:
    """What a client writes into the header itself stands left of it."""
    for place in range(5):
        assert (await strict.post("visit", headers=behind(f"198.51.100.{place}, 203.0.113.7"))).status == 200
    for forged in ("198.51.100.99, 203.0.113.7", "203.0.113.7, 127.0.0.1", "x, 203.0.113.7"):
        assert (await strict.post("visit", headers=behind(forged))).status == 429


async def test_an_address_that_nobody_trusted_writes_is_not_believed(database: store.Database) -> None:
    front = Front(database, limits=turnstile.Limits(5, 1_000, 3, 8))
    async with front.running():
        statuses = [(await front.post("visit", headers=behind(f"198.51.100.{one}"))).status for one in range(8)]
    assert statuses == [200] * 5 + [429] * 3


async def test_forged_visits_drain_a_pool_no_faster_than_the_limit(strict: Front) -> None:
    """From a thousand addresses, each with a visitor of its own: 30 at once, 30 a minute, and never more."""
    begun = strict.now_us
    for turn in range(5):
        for place in range(10):
            await strict.post(
                "visit", headers=behind(f"198.{turn}.100.{place}"), visitor=f"made-up-{turn}-{place}-0000"
            )
        minutes = (strict.now_us - begun) / 60e6
        assert await stored(strict) <= 30 + 30 * minutes
        strict.later(6)
    assert await stored(strict) == 30 + 12


async def test_a_flood_of_anything_is_turned_away(strict: Front) -> None:
    """Beats, goodbyes and nonsense: ten for each visit that an address may make."""
    for place in range(50):
        kind = ("beat", "leave", "click")[place % 3]
        assert (await strict.post(kind, visitor="v" * 32)).status in (200, 204)
    for kind in FIELDS:
        assert (await strict.post(kind, visitor="v" * 32)).status == 429
    assert (await strict.post("visit", b"x")).status == 429


async def test_call_backs_have_limits_of_their_own(strict: Front) -> None:
    """R69: per hour, by address and by site; nobody's telephone is rung by the thousand."""
    for turn in range(4):
        said = await strict.post("callback", number=f"+7912345678{turn}", headers=behind("203.0.113.7"))
        assert said.status == (202 if turn < 3 else 429)
    for place in range(6):
        await strict.post("callback", number=f"+7912345679{place}", headers=behind(f"203.0.113.{100 + place}"))
    assert len(await strict.events("callback.requested")) == 8
    strict.later(1_200)
    assert (await strict.post("callback", headers=behind("203.0.113.7"))).status == 202


# ---- Broken and slow clients ----


async def test_what_is_wrong_is_said_and_what_was_sent_is_not(front: Front) -> None:
    secret = "s3cret!" * 5
    said = await front.visit(visitor=secret)
    assert said.status == 400
    assert said.headers["Content-Type"].startswith("application/problem+json")
    assert said.json["errors"] == [{"field": "visitor", "message": "of another shape"}]
    for body in (secret.encode(), json.dumps({secret: secret}).encode(), json.dumps({"v": 1, "site": secret}).encode()):
        said = await front.post("visit", body)
        assert said.status == 400 and secret.encode() not in said.body


async def test_bodies_have_a_size(front: Front) -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 8_192):
            yield b"x" * 8_192

    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    for size, expected in ((scriptwire.MAX_BODY_BYTES, 400), (scriptwire.MAX_BODY_BYTES + 1, 413), (900_000, 413)):
        assert (await front.post("visit", b"x" * size)).status == expected
        said = await front.ask("POST", "/dni/v1/visit", data=pieces(size), headers=headers)
        assert said.status == expected


UNREAD = (
    {"Content-Type": "application/json"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "identity"},
)


async def test_only_plain_text_is_read(front: Front) -> None:
    """Forms of other sites cannot send it, and nothing is unpacked."""
    for headers in UNREAD:
        assert (await front.post("visit", headers=headers)).status == 400


async def raw(front: Front, sent: bytes, *, until_closed: bool = False) -> tuple[bytes, float]:
    """What comes back for these bytes, and after how many seconds; all of it, or the status line."""
    host, _, port = front.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    started = time.monotonic()
    try:
        writer.write(sent)
        async with asyncio.timeout(60):
            answer = await (reader.read() if until_closed else reader.readline())
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    return answer, time.monotonic() - started


HEAD = b"POST /dni/v1/visit HTTP/1.1\r\nHost: x\r\nOrigin: https://clinic.example\r\nContent-Type: text/plain\r\n"


NO_REQUESTS = (
    b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % one for one in range(100)) + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET / HTTP/9.9\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    HEAD + b"Content-Length: -5\r\n\r\n",
)


async def test_requests_that_are_none(front: Front) -> None:
    """Lines, fields and their number are bounded."""
    for sent in NO_REQUESTS:
        answer, _ = await raw(front, sent, until_closed=True)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), sent
        assert (await front.visit()).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(database: store.Database) -> None:
    front = Front(database, more={"body_seconds": 0.2})
    async with front.running():
        answer, _ = await raw(front, HEAD + b"Content-Length: 100\r\n\r\n{", until_closed=True)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_connections_that_say_nothing_are_closed(database: store.Database) -> None:
    """Slowloris: half a head, or none, is not waited for; neither on a connection that asked before."""
    front = Front(database, listener={"idle_seconds": 0.3})
    async with front.running():
        whole = b"GET /dni/v1/nobody.js HTTP/1.1\r\nHost: x\r\n\r\n"
        for sent in (b"", HEAD, whole, whole + HEAD):
            answer, _ = await raw(front, sent, until_closed=True)
            assert answer.count(b"HTTP/1.1 404") == sent.count(whole)


async def test_connections_are_bounded_and_room_is_made_again(database: store.Database) -> None:
    """Callers need file descriptors too."""
    front = Front(database, listener={"most_connections": 20})
    async with front.running():
        host, _, port = front.url.removeprefix("http://").partition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        for _, one in opened:
            one.close()
            await one.wait_closed()
        async with asyncio.timeout(60):
            while True:
                answer, _ = await raw(front, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                if answer.startswith(b"HTTP/1.1 404"):
                    break


WORDS = some.sampled_from(
    [*PAGE, *FIELDS["visit"], *FIELDS["beat"], "lease", "visitor", "ids", "vars", "check", "\x00"]
)
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=40) | WORDS,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(WORDS | some.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
# What may stand in a header at all; a client that sends more than this is not understood as HTTP.
HEADER = some.text(some.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=200)
NAMES = some.sampled_from(
    ["Origin", "User-Agent", "X-Forwarded-For", "Cookie", "Accept-Encoding", "If-None-Match", "Sec-Purpose", "Referer"]
)


@given(
    kind=some.sampled_from([*FIELDS, "nothing"]),
    changed=some.dictionaries(WORDS | some.text(max_size=9), VALUES, max_size=5),
    headers=some.dictionaries(NAMES, HEADER, max_size=4),
    cut=some.none() | some.binary(max_size=60),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_is_answered_and_never_fails(
    front: Front, kind: str, changed: dict[str, Any], headers: dict[str, str], cut: bytes | None
) -> None:
    """No 500, no word of theirs in an answer, and the next visitor is served."""
    fields = {**PAGE, "visitor": "v" * 32, "lease": "A" * 43, **FIELDS.get(kind, {}), **changed}
    body = json.dumps(fields).encode() if cut is None else cut
    sent = {"Origin": ORIGIN, "Content-Type": "text/plain", **headers}
    said = await front.ask("POST", f"/dni/v1/{kind}", data=body, headers=sent)
    assert said.status in (200, 202, 204, 400, 403, 404)
    if said.status >= 400:
        assert set(said.json) <= {"type", "title", "status", "instance", "errors"}
    script = await front.ask("GET", "/dni/v1/clinic.js", headers=headers)
    assert script.status in (200, 304)


async def test_what_strangers_send_is_in_no_log(database: store.Database) -> None:
    """Neither an address nor a word of theirs: logs are read by more people than records."""
    marked = "m4rk3d"
    sent: dict[str, Any] = {"headers": {"X-Forwarded-For": "203.0.113.77", "User-Agent": f"{CHROME} {marked}"}}
    front = Front(database, limits=turnstile.Limits(4, 100, 1, 100))
    with capture_logs() as lines:
        async with front.running():
            for _ in range(6):
                await front.post(
                    "visit", url=f"{ORIGIN}/{marked}", referrer=f"https://{marked}/", vars={marked: "x"}, **sent
                )
            for name in (marked, f"{marked}2"):
                await front.post("callback", name=name, message=marked, **sent)
            await front.post("visit", f'{{"{marked}": 1'.encode(), **sent)
            await front.post("visit", site=marked, **sent)
            await front.ask("GET", f"/dni/v1/{marked}.js", **sent)
            await front.ask("GET", f"/{marked}?{marked}", **sent)
    assert {"browsers turned away", "number pool exhausted"} <= {line["event"] for line in lines}
    assert "visits come through a proxy that is not trusted: all look like one address" in str(lines)
    assert marked not in str(lines) and "203.0.113" not in str(lines)
