"""What sites' pages ask of the gateway, by HTTP (issue 4, 3; R69, R93, R96, R99, R107)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from gateway import store
from gateway.store import leases, timelines, webchecks
from gateway.web import visiting
from tests.services.clinic import FIRST, OVERFLOW, PRINTED, ROUTING, SECOND_NUMBER, SITE_NUMBER
from tests.services.outages import out_of_reach
from tests.web.front import ORIGIN, Front, Said

TAGGED = f"{ORIGIN}/implants?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_term=implant"
COOKIE = visiting.cookie_of("clinic")


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncIterator[store.Database]:
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def front(database: store.Database) -> AsyncIterator[Front]:
    async with Front(database).running() as running:
        yield running


async def count(front: Front, table: str) -> int:
    async with front.database.read() as connection:
        found: int = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
    return found


async def timeline(front: Front, said: Said) -> timelines.Timeline:
    async with front.database.read() as connection:
        found = await timelines.timeline(connection, said.json["visitor"])
    assert found is not None
    return found


async def last_seen(front: Front, said: Said) -> int:
    return (await timeline(front, said)).visits[0].seen_us


async def slot_of(front: Front, number: str = FIRST) -> Any:
    async with front.database.read() as connection:
        found = await leases.slot_of(connection, number)
    assert found is not None
    return found[1]


# ---- Visits ----


async def test_a_visitor_is_given_a_number_and_known_again(front: Front) -> None:
    """R96, R99: ready-made writings, a cookie that no script reads, an answer that only the site's pages read."""
    said = await front.visit(url=TAGGED, ids={"ga": "1.2", "ga_sessions": {"ABC123": "17"}}, vars={"plan": "gold"})
    assert (said.status, said.json["reason"], said.number) == (200, "pool", FIRST)
    assert said.json["numbers"][SITE_NUMBER]["national"] == "8 (499) 000-00-01"
    assert said.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert said.headers["Access-Control-Allow-Credentials"] == "true"
    assert (said.headers["Vary"], said.headers["Cache-Control"]) == ("Origin", "no-store")
    cookie = said.cookies[COOKIE]
    assert cookie.value == said.json["visitor"]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (True, True, "Lax", "/dni/")
    assert int(cookie["max-age"]) == 395 * 86_400
    found = await timeline(front, said)
    (visit,) = found.visits
    assert (visit.touch.source, visit.touch.came.campaign, visit.touch.came.term) == ("google-ads", "spring", "implant")
    assert (visit.on.browser, visit.on.system, visit.on.device) == ("Chrome 141", "Windows 10", "computer")
    assert found.person.ids == {"ga": "1.2", "ga_session.ABC123": "17"}
    assert found.person.variables == {"plan": "gold"}


async def test_by_the_cookie_alone_and_by_what_the_page_keeps(front: Front) -> None:
    first = await front.visit()
    cookie = {"Cookie": f"other=1; {COOKIE}={first.json['visitor']}"}
    second = await front.post("visit", headers=cookie)
    third = await front.visit(first)
    assert [one.json["visitor"] for one in (second, third)] == [first.json["visitor"]] * 2
    assert [one.number for one in (second, third)] == [FIRST, FIRST]
    assert (await front.visit(visitor="made-up-visitor-id")).json["visitor"] not in ("made-up-visitor-id", None)


async def test_a_pool_that_is_used_up_shows_the_overflow_number(front: Front) -> None:
    """R96: and such a visitor has signs of life like any other."""
    answers = [await front.visit() for _ in range(3)]
    assert [(one.number, one.json["reason"]) for one in answers] == [
        (FIRST, "pool"), (SECOND_NUMBER, "pool"), (OVERFLOW, "overflow"),
    ]  # fmt: skip
    front.later(40)
    assert (await front.again("beat", answers[2])).json["ok"] is True
    await front.comes_to(lambda: last_seen(front, answers[2]), front.now_us)


async def test_without_consent_nothing_is_set_and_nothing_is_kept(front: Front) -> None:
    """attribution.md 0.8: a static number by this very page, or the site's own."""
    denied = await front.post("visit", consent="denied", url=f"{ORIGIN}/leaflet", headers={"Cookie": f"{COOKIE}=x"})
    assert (denied.number, denied.json["reason"]) == (PRINTED, "static")
    bare = await front.post("visit", consent="denied")
    assert (bare.number, bare.json["reason"]) == (None, "consent")
    for said in (denied, bare):
        assert (said.json["visitor"], said.json["lease"], said.cookies) == (None, None, {})
    assert [await count(front, table) for table in ("visitors", "visits", "page_views", "leases")] == [0] * 4


TWO_SITES = ROUTING.replace(
    "[[trunk]]",
    """[[site]]
key = "shop"
time_zone = "Europe/Moscow"
country = "RU"
default_destination = "desk"
business_number = "+74990000300"

[site.web]
hosts = ["clinic.example"]

[[trunk]]""",
    1,
)


async def test_sites_do_not_share_visitors(front: Front) -> None:
    """Not by their cookies, and not for somebody who knows the other site's id."""
    front.use(TWO_SITES)
    first = await front.visit()
    other = await front.post("visit", site="shop", visitor=first.json["visitor"])
    assert list(other.cookies) == [visiting.cookie_of("shop")] != [COOKIE]
    assert other.json["visitor"] != first.json["visitor"]
    assert (await timeline(front, first)).person.site == "clinic"


async def test_a_landing_page_of_which_nobody_told(front: Front) -> None:
    """The gateway was away when the visitor came from the advertisement; their second page tells."""
    landing = {"url": TAGGED, "referrer": "https://search.example/", "seconds": 40}
    prices: dict[str, Any] = {"url": f"{ORIGIN}/prices", "referrer": TAGGED, "landing": landing}
    first = await front.visit(**prices)
    second = await front.visit(first, **{**prices, "url": f"{ORIGIN}/doctors"})
    found = await timeline(front, second)
    (visit,) = found.visits
    assert (visit.touch.source, visit.touch.came.campaign) == ("google-ads", "spring")
    assert [page.url for page in found.pages] == [f"{ORIGIN}/prices", f"{ORIGIN}/doctors"]
    # A day later by another advertisement, missed as well.
    front.later(86_400)
    summer = {**landing, "url": TAGGED.replace("spring", "summer")}
    third = await front.visit(first, **{**prices, "landing": summer})
    assert [one.touch.came.campaign for one in (await timeline(front, third)).visits] == ["spring", "summer"]


async def test_tags_that_the_script_sets_count(front: Front) -> None:
    said = await front.visit(vars={"utm_source": "google", "utm_medium": "cpc"})
    assert (await timeline(front, said)).visits[0].touch.source == "google-ads"


# ---- Signs of life ----


async def test_beats_keep_a_number_and_a_lost_one_is_said(front: Front) -> None:
    first = await front.visit()
    for turn in range(8):
        front.later(60)
        said = await front.again("beat", first)
        assert (said.status, said.json["ok"]) == (200, True)
        # 1.2 × 5 minutes, until the site's own visits tell better.
        assert turn > 2 or said.json["expires_in"] == 360
    assert [(await front.visit()).number for _ in range(2)] == [SECOND_NUMBER, OVERFLOW]
    await front.again("leave", first)
    front.later(3_700)
    assert {(await front.visit()).number for _ in range(2)} == {FIRST, SECOND_NUMBER}
    lost = await front.again("beat", first)
    assert (lost.json["ok"], lost.json["expires_in"]) == (False, 0)


async def test_a_lease_that_nobody_gave_is_none(front: Front) -> None:
    first = await front.visit()
    for lease in (..., "x" * 21, "A" * 43, "A" * 44, "_" * 64, "B" * 16):
        said = await front.post("beat", visitor=first.json["visitor"], lease=lease)
        assert (said.status, said.json["ok"]) == (200, False)


async def test_a_page_without_a_load_is_a_page_of_the_visit(front: Front) -> None:
    first = await front.visit(url=TAGGED)
    front.later(20)
    said = await front.again("page", first, url=f"{ORIGIN}/prices", referrer=TAGGED, vars={"plan": "gold"})
    assert said.json["ok"] is True
    found = await timeline(front, first)
    assert [page.url for page in found.pages] == [TAGGED, f"{ORIGIN}/prices"]
    assert (len(found.visits), found.person.variables) == (1, {"plan": "gold"})
    # Back in the tab the next day: that is another visit, and the page has to ask.
    front.later(86_400)
    assert (await front.again("page", first)).json["ok"] is False


async def test_a_beat_tells_what_became_known_of_the_visitor(front: Front) -> None:
    first = await front.visit(ids={"ga": "1.2"}, vars={"plan": "gold", "age": "30"})
    await front.again("beat", first, ids={"ym_uid": "1700000000123456789"}, vars={"plan": "silver"})
    await front.again("beat", first)
    person = (await timeline(front, first)).person
    assert person.ids == {"ga": "1.2", "ym_uid": "1700000000123456789"}
    assert person.variables == {"plan": "silver", "age": "30"}


async def test_a_number_that_came_too_late_is_free_at_once(front: Front) -> None:
    """`shown: false`: nobody saw it, so nobody can call it for this visitor; there is no freeze, and no history."""
    first = await front.visit()
    said = await front.again("leave", first, shown=False)
    assert (said.status, said.body, said.headers["Cache-Control"]) == (204, b"", "no-store")
    await front.comes_to(lambda: count(front, "leases"), 0)
    assert sorted([(await front.visit()).number or "" for _ in range(2)]) == [FIRST, SECOND_NUMBER]


async def test_a_number_that_was_seen_before_is_not_given_back(front: Front) -> None:
    """The visitor's second page was too slow, the first was not."""
    first = await front.visit()
    front.later(5)
    second = await front.visit(first)
    assert second.json["lease"] == first.json["lease"]
    await front.again("leave", second, shown=False)
    front.later(60)
    assert [(await front.visit()).number for _ in range(2)] == [SECOND_NUMBER, OVERFLOW]


async def test_goodbye_freezes(front: Front) -> None:
    first = await front.visit()
    await front.again("leave", first)
    front.later(350)
    assert [(await front.visit()).number for _ in range(2)] == [SECOND_NUMBER, OVERFLOW]
    front.later(20)
    assert (await front.visit()).number == FIRST


POOLS = "".join(
    f"""
[[pool]]
key = "p{place}"
route = "sales"
numbers = ["+7499000050{place}", "+7499000051{place}"]

[[display_rule]]
key = "p{place}"
pool = "p{place}"
target = "+7499000060{place}"
"""
    for place in range(3)
)
THREE_POOLS = (
    ROUTING.replace(
        'hosts = ["clinic.example"]',
        'hosts = ["clinic.example"]\ntargets = ["+74990000600", "+74990000601", "+74990000602"]',
    ).partition("[[pool]]")[0]
    + POOLS
)


async def test_a_page_with_three_numbers_of_three_pools(front: Front) -> None:
    """All of its leases live by one word, and one that is lost is noticed."""
    front.use(THREE_POOLS)
    first = await front.visit()
    assert {one["e164"][:-1] for one in first.json["numbers"].values()} == {"+7499000050"}
    assert len(first.json["lease"]) <= 64
    front.later(600)
    assert (await front.again("beat", first)).json["ok"] is True
    for place in range(3):
        assert (await slot_of(front, f"+7499000050{place}")).seen_us == front.now_us
    assert (await front.again("beat", first, visitor="somebody-else-0001")).json["ok"] is False
    await front.again("leave", first)
    front.later(7_200)
    others = [await front.visit() for _ in range(2)]
    assert {len(one.json["numbers"]) for one in others} == {3}
    assert (await front.again("beat", first)).json["ok"] is False


# ---- Clicks, goodbyes for ever, call-backs ----


async def test_a_click_is_kept_of_somebody_who_exists(front: Front) -> None:
    """R48; anybody can make up an id, and anybody can name a number that is not ours."""
    first = await front.visit()
    assert (await front.again("click", first, number=FIRST)).status == 204
    for wrong in ({"visitor": "made-up-visitor-id"}, {"number": "+74950000000"}):
        assert (await front.again("click", first, **{"number": FIRST, **wrong})).status == 204
    # A beat is answered when all that came before it is stored.
    assert (await front.again("beat", first)).json["ok"] is True
    assert (await timeline(front, first)).clicks == (timelines.Click(front.now_us, FIRST),)
    assert await count(front, "clicks") == 1


async def test_consent_taken_back_forgets_on_both_sides(front: Front) -> None:
    """R107, N14: the cookie goes, and all that is kept; the number stays frozen, for nobody."""
    first = await front.visit(url=TAGGED)
    said = await front.again("leave", first, forget=True)
    assert said.status == 204
    assert (said.cookies[COOKIE].value, said.cookies[COOKIE]["max-age"]) == ("", "0")
    assert [await count(front, table) for table in ("visitors", "visits", "page_views")] == [0] * 3
    assert (await front.visit()).number == SECOND_NUMBER
    again = await front.visit(first)
    assert again.json["visitor"] != first.json["visitor"]


async def test_who_is_to_be_forgotten_is_not_forgotten_about(front: Front, database_url: str) -> None:
    """The store was away at the very moment: it is done when it is back, without being asked again."""
    first = await front.visit()
    with out_of_reach(database_url):
        said = await front.again("leave", first, forget=True)
        assert (said.status, said.cookies[COOKIE].value) == (204, "")
    # Whatever comes next brings it about.
    assert (await front.visit()).status in (200, 503)
    await front.comes_to(lambda: count(front, "page_views"), 1)
    assert (await front.visit(first)).json["visitor"] != first.json["visitor"]


async def test_a_call_back_is_an_event_with_the_visitors_source(front: Front) -> None:
    """R69: sent twice it is one; another wish from the same page is another."""
    first = await front.visit(url=TAGGED)
    asked = {"name": "Anna", "message": "About implants", "when": "after 6", "url": f"{ORIGIN}/contacts"}
    for _ in range(2):
        said = await front.again("callback", first, **asked)
        assert (said.status, said.json) == (202, {"v": 1, "ok": True})
    await front.again("callback", first, **{**asked, "when": "tomorrow"})
    one, other = await front.events("callback.requested")
    assert (one["number"], one["number_raw"]) == ("+79123456789", "8 (912) 345-67-89")
    assert (one["name"], one["message"], one["when"], one["page"]) == (
        "Anna", "About implants", "after 6", f"{ORIGIN}/contacts",
    )  # fmt: skip
    assert one["visitor_id"] == first.json["visitor"]
    assert (one["attribution"]["source"], one["attribution"]["campaign"]) == ("google-ads", "spring")
    assert other["when"] == "tomorrow"
    assert front.callbacks.taken == 2


async def test_a_call_back_without_consent_to_more_has_no_source(front: Front) -> None:
    """Nor has one of somebody who is not known, or is another site's."""
    front.use(TWO_SITES)
    first = await front.visit()
    await front.post("callback", number="+49 30 901820")
    await front.post("callback", visitor="made-up-visitor-id", number="12345")
    await front.post("callback", site="shop", visitor=first.json["visitor"], message="x")
    found = await front.events("callback.requested")
    assert [(one["number"], one["visitor_id"], one["attribution"]) for one in found] == [
        ("+4930901820", None, None), (None, None, None), ("+79123456789", None, None),
    ]  # fmt: skip
    refused = await front.post("callback", consent=False)
    assert (refused.status, refused.json["errors"]) == (400, [{"field": "consent", "message": "not given"}])
    assert len(await front.events("callback.requested")) == 3


# ---- Trouble ----


async def test_a_store_that_is_away_is_said_at_once(front: Front, database_url: str) -> None:
    """R93: the page keeps its number; a beat is believed and kept for later."""
    first = await front.visit()
    with out_of_reach(database_url):
        assert (await front.visit()).status == 503
        said = await front.visit()
        assert (said.status, said.headers["Retry-After"]) == (503, "5")
        assert said.headers["Access-Control-Allow-Origin"] == ORIGIN
        front.later(30)
        assert (await front.again("beat", first)).json["ok"] is True
        assert (await front.post("callback")).status == 503
        assert (await front.ask("GET", "/dni/v1/clinic.js")).status == 200
    async with asyncio.timeout(90):
        while (await front.visit()).status != 200:
            pass
    assert (await slot_of(front)).seen_us == front.now_us


async def answered(front: Front, before: Said | None = None) -> Said:
    """A page that asks until it is told."""
    async with asyncio.timeout(90):
        while (said := await front.visit(before)).status != 200:
            pass
    return said


async def test_a_slow_store_is_not_waited_for_and_lends_nothing_meanwhile(
    database: store.Database, database_url: str
) -> None:
    """Issue 4, 3: after the page has given up, nothing is left lent: neither what was waiting nor what was stored."""
    front = Front(database, more={"answer_seconds": 0.3})
    async with front.running():
        first = await answered(front)
        async with database.begin() as other:
            await leases.lock(other)
            answers = await asyncio.gather(*(front.visit() for _ in range(3)))
            assert {one.status for one in answers} == {503}
        # What was waiting for the store is stored before the next page, and given back before the one after it.
        for _ in range(2):
            await answered(front, first)
        living = [await slot_of(front, number) for number in (FIRST, SECOND_NUMBER)]
        assert sum(one.living_until_us > front.now_us for one in living) == 1
        assert await count(front, "leases") == 1


async def test_before_a_routing_is_applied(database: store.Database) -> None:
    front = Front(database)
    front.book = None
    async with front.running():
        assert (await front.ask("GET", "/dni/v1/clinic.js")).status == 404
        assert (await front.visit()).status == 503


# ---- Checks of pages ----


async def test_a_check_is_shown_what_a_visitor_would_be(front: Front) -> None:
    """R28: with a pass; it takes no number, though a program drives the browser."""
    rule = '\n[[display_rule]]\nkey = "kazan"\ncities = ["Kazan"]\nnumber = "+74990000006"\n'
    front.use(ROUTING + rule)
    await front.visit()
    async with front.database.begin() as tx:
        known = await webchecks.issue(tx, now_us=front.now_us, expires_us=front.now_us + 1_000_000)
    check = {"pass": known, "country": "RU"}
    for _ in range(3):
        said = await front.visit(check=check, automated=True)
        assert (said.number, said.json["visitor"], said.cookies) == (SECOND_NUMBER, None, {})
    assert (await front.visit(check={**check, "city": "Kazan"})).number == PRINTED
    assert (await front.visit(check={"pass": "x" * 32}, automated=True)).json["reason"] == "bot"
    assert await count(front, "leases") == 1


# ---- The script ----


async def test_the_script_is_served_small_marked_and_for_everybody(front: Front) -> None:
    """R93: it is the same for all visitors, so browsers and proxies may keep it."""
    plain = await front.ask("GET", "/dni/v1/clinic.js", headers={"Accept-Encoding": "identity"})
    small = await front.ask("GET", "/dni/v1/clinic.js", headers={"Accept-Encoding": "br, gzip"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert int(small.headers["Content-Length"]) <= 4_096
    assert small.body == plain.body
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Cache-Control"] == "public, max-age=300, stale-while-revalidate=86400, stale-if-error=604800"
    assert plain.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert b'"site":"clinic"' in plain.body and b'"wait":' in plain.body
    assert not plain.cookies


async def test_a_script_that_has_not_changed_is_not_sent_again(front: Front) -> None:
    path = "/dni/v1/clinic.js"
    first = await front.ask("GET", path)
    mark = first.headers["ETag"]
    for known in (mark, f"W/{mark}", f'"other", {mark}', "*"):
        said = await front.ask("GET", path, headers={"If-None-Match": known})
        assert (said.status, said.body, said.headers["ETag"]) == (304, b"", mark)
        assert said.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert (await front.ask("GET", path, headers={"If-None-Match": '"other"'})).status == 200
    head = await front.ask("HEAD", path)
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", mark)
    front.use(ROUTING.replace("[site.web]", '[site.web]\nscript_address = "https://calls.clinic.example/"'))
    changed = await front.ask("GET", path, headers={"If-None-Match": mark})
    assert changed.status == 200 and changed.headers["ETag"] != mark
    assert b'"base":"https://calls.clinic.example/dni/v1/"' in changed.body


NOTHING = (
    ("GET", "/dni/v1/nobody.js", 404),
    ("GET", "/dni/v1/Clinic.js", 404),
    ("GET", "/dni/v1/..%2Fclinic.js", 404),
    ("GET", "/dni/v1/%3Cscript%3E.js", 404),
    ("POST", "/dni/v1/clinic.js", 405),
    ("GET", "/dni/v1/visit", 405),
    ("PUT", "/dni/v1/visit", 405),
    ("OPTIONS", "/dni/v1/visit", 405),
    ("POST", "/dni/v1/nothing", 404),
    ("GET", "/", 404),
    ("GET", "/metrics", 404),
    ("GET", "/api/v1/calls", 404),
)


async def test_there_is_nothing_else(front: Front) -> None:
    """Neither the admin's pages nor its API are on this listener."""
    for method, path, status in NOTHING:
        said = await front.ask(method, path)
        assert said.status == status, path
        assert b"<" not in said.body
        assert "Access-Control-Allow-Origin" not in said.headers


async def test_an_unknown_site_is_a_comment(front: Front) -> None:
    """A page with a wrong key logs no error of a script that is none."""
    said = await front.ask("GET", "/dni/v1/nobody.js")
    assert said.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert said.body == b"// Dialmark: there is no such site.\n"
    assert (await front.post("visit", site="nobody")).status == 404
