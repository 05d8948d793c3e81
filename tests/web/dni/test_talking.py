"""What the script says to the gateway and when, in Chromium: consent, trouble, tabs, clicks, forms."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from gateway.core import scriptwire
from gateway.core.displayrules import Consent
from tests.web.dni.conftest import CALM, Stage
from tests.web.dni.standin import COOKIE, LEASE, MOSCOW, MOSCOW_499, VISITOR, document

NUMBER = '<p class=line>8 495 123-45-67</p><a href="tel:+74951234567">call</a>'
# The dialler of a desktop would take the page's place.
STAY = "addEventListener('click', (event) => event.preventDefault())"
OWN, THEIRS = "8 495 123-45-67", "8 499 765-43-21"


async def test_a_visit_tells_where_it_came_from(stage: Stage) -> None:
    """UTM, click ids, referrer, landing page, GA and Metrica ids (issue 4, 3)."""
    await stage.context.add_cookies(
        [
            {"name": name, "value": value, "url": stage.site.url}
            for name, value in {
                "_ga": "GA1.1.1234567.1700000000",
                "_ga_ABC123": "GS1.1.1700000001.2.1.1700000002.0",
                "_ga_XYZ789": "GS2.1.s1700000003$o1$g0",
                "_ym_uid": "1700000000123456789",
                "_fbp": "fb.1.1700000000000.123456",
                "other": "secret",
            }.items()
        ]
    )
    query = "?utm_source=google&utm_medium=cpc&gclid=Abc_1"
    page = await stage.open(NUMBER, query=query, referer="https://www.example.org/search?q=clinic")
    assert await stage.texts(page) == [THEIRS]
    (visit,) = stage.gateway.heard
    assert isinstance(visit, scriptwire.Visit)
    assert (visit.site, visit.consent, visit.visitor, visit.lease) == ("clinic", Consent.GRANTED, None, None)
    assert visit.url == f"{stage.site.url}/{query}"
    assert visit.referrer.startswith("https://www.example.org/")
    assert visit.automated is True
    assert visit.landing == scriptwire.FirstPage(visit.url, visit.referrer, 0)
    assert visit.ids == scriptwire.Ids(
        ga="1234567.1700000000",
        ga_sessions={"ABC123": "1700000001", "XYZ789": "1700000003"},
        ym_uid="1700000000123456789",
        fbp="fb.1.1700000000000.123456",
    )
    assert visit.variables == {}
    assert (await stage.status(page)) == {
        "consent": "granted", "state": "ready", "reason": "pool", "visitor": VISITOR, "lease": f"{LEASE}1", "found": 2,
    }  # fmt: skip


async def test_a_router_that_cleans_the_address_first_loses_nothing(stage: Stage) -> None:
    clean = "<script>history.replaceState({}, '', '/clean')</script>"
    await stage.open(NUMBER, query="?gclid=Abc_1", head=clean)
    (visit,) = stage.gateway.of(scriptwire.Visit)
    assert visit.url == f"{stage.site.url}/?gclid=Abc_1"


async def test_the_next_page_is_the_same_visitor_and_shows_the_number_at_once(stage: Stage) -> None:
    page = await stage.open(NUMBER, query="?gclid=Abc_1")
    stage.gateway.go_on.clear()
    stage.site.pages["/next"] = document(stage.gateway, NUMBER)
    await page.goto(f"{stage.site.url}/next")
    await stage.settled(page, "asking")
    assert await stage.texts(page) == [THEIRS]
    visit = await stage.gateway.until(scriptwire.Visit, 2)
    assert (visit.visitor, visit.lease) == (VISITOR, f"{LEASE}1")
    assert visit.landing is not None and visit.landing.url == f"{stage.site.url}/?gclid=Abc_1"
    leave = await stage.gateway.until(scriptwire.Leave)
    assert (leave.lease, leave.found, leave.shown, leave.forget) == (f"{LEASE}1", 2, True, False)
    assert stage.gateway.cookies[-1] == VISITOR


# ---- Consent ----


async def test_pending_leaves_the_page_and_says_nothing(stage: Stage) -> None:
    """The third state of consent: no request but the script, nothing stored."""
    stage.gateway.consent = Consent.PENDING
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "idle")
    await page.evaluate("history.pushState({}, '', '/other')")
    await page.evaluate(STAY)
    await page.click("a")
    await page.evaluate(CALM)
    assert await stage.texts(page) == [OWN]
    assert stage.gateway.heard == []
    assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


BANNER = """
<div id=banner><button id=yes onclick="answer('granted')">Accept</button>
<button id=no onclick="answer('denied')">Decline</button></div>
<script>
  function answer(consent) {
    banner.remove();
    (window.dialmark = window.dialmark || []).push(["start", consent]);
  }
</script>
"""


async def test_a_consent_banner_accepted(stage: Stage) -> None:
    """The landing page is still the one of the click, even where the router went on meanwhile."""
    stage.gateway.consent = Consent.PENDING
    stage.site.pages["/"] = document(stage.gateway, BANNER + NUMBER)
    page = await stage.page()
    await page.goto(f"{stage.site.url}/?gclid=Abc_1")
    await stage.settled(page, "idle")
    await page.evaluate("history.pushState({}, '', '/other')")
    await page.click("#yes")
    await stage.settled(page)
    assert await stage.texts(page) == [THEIRS]
    (visit,) = stage.gateway.of(scriptwire.Visit)
    assert visit.url == f"{stage.site.url}/?gclid=Abc_1"
    assert [cookie["name"] for cookie in await stage.context.cookies()] == [COOKIE]


async def test_a_consent_banner_declined(stage: Stage) -> None:
    """A static number by the address of this page; no storage, no visitor, no beats (attribution.md 0.8)."""
    stage.gateway.consent = Consent.PENDING
    stage.gateway.beat_seconds = 0.05
    stage.site.pages["/"] = document(stage.gateway, BANNER + NUMBER)
    page = await stage.page()
    await page.goto(f"{stage.site.url}/?utm_source=flyer")
    await stage.settled(page, "idle")
    await page.click("#no")
    await stage.settled(page)
    assert await stage.texts(page) == [THEIRS]
    await page.evaluate(STAY)
    await page.click("a")
    await page.evaluate("new Promise((done) => setTimeout(done, 200))")
    (visit,) = stage.gateway.heard
    assert isinstance(visit, scriptwire.Visit)
    assert (visit.consent, visit.visitor, visit.ids) == (Consent.DENIED, None, None)
    assert visit.url == f"{stage.site.url}/?utm_source=flyer"
    assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert await stage.context.cookies() == []


async def test_consent_taken_back(stage: Stage) -> None:
    page = await stage.open(NUMBER)
    stage.gateway.shown = {}
    await page.evaluate("dialmark.start('denied')")
    leave = await stage.gateway.until(scriptwire.Leave)
    assert (leave.visitor, leave.forget) == (VISITOR, True)
    await stage.settled(page)
    assert await stage.texts(page) == [OWN]
    assert await page.locator("a").get_attribute("href") == "tel:+74951234567"
    assert await page.evaluate("localStorage.length") == 0
    assert await stage.context.cookies() == []
    assert (await stage.gateway.until(scriptwire.Visit, 2)).visitor is None


async def test_consent_said_before_the_script_is_there_and_by_the_tag(stage: Stage) -> None:
    stage.gateway.consent = Consent.PENDING
    early = "<script>window.dialmark = [['setVar', 'plan', 'gold'], ['start', 'granted']]</script>"
    page = await stage.open(NUMBER, head=early)
    assert await stage.texts(page) == [THEIRS]
    await page.close()
    page = await stage.open(NUMBER, attributes="data-consent=denied")
    assert (await stage.status(page))["consent"] == "denied"
    first, second = stage.gateway.of(scriptwire.Visit)
    assert (first.consent, second.consent) == (Consent.GRANTED, Consent.DENIED)


# ---- Trouble ----


async def test_a_slow_gateway_changes_nothing(stage: Stage) -> None:
    """R93: the site's own number stays; the answer that came too late is given back."""
    stage.gateway.wait_ms = 50
    stage.gateway.go_on.clear()
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "slow")
    assert await stage.texts(page) == [OWN]
    stage.gateway.go_on.set()
    leave = await stage.gateway.until(scriptwire.Leave)
    assert (leave.visitor, leave.lease, leave.shown) == (VISITOR, f"{LEASE}1", False)
    await page.evaluate(CALM)
    assert await stage.texts(page) == [OWN]
    # On the next page, the same visitor.
    stage.gateway.wait_ms = 30_000
    page = await stage.open(NUMBER, path="/next")
    assert await stage.texts(page) == [THEIRS]
    assert stage.gateway.of(scriptwire.Visit)[-1].visitor == VISITOR


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_gateway_in_trouble_changes_nothing(stage: Stage, status: int) -> None:
    stage.gateway.status = status
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "failed")
    assert await stage.texts(page) == [OWN]
    assert (await stage.status(page))["reason"] == str(status)


async def test_a_gateway_that_is_down_changes_nothing(stage: Stage) -> None:
    """Neither when the script is not there, nor when only the answers are missing."""
    stage.gateway.base = "http://127.0.0.1:9/dni/v1/"
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "failed")
    assert await stage.texts(page) == [OWN]
    stage.gateway.url = "http://127.0.0.1:9"
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    await page.goto(stage.site.url)
    assert await stage.texts(page) == [OWN]


async def test_a_forged_origin_gets_no_answer(stage: Stage) -> None:
    stage.gateway.origins = []
    stage.site.pages["/"] = document(stage.gateway, NUMBER)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "failed")
    assert await stage.texts(page) == [OWN]


# ---- Signs of life ----


async def test_beats_while_the_page_is_seen(stage: Stage) -> None:
    stage.gateway.beat_seconds = 0.05
    page = await stage.open(NUMBER)
    beat = await stage.gateway.until(scriptwire.Beat, 2)
    assert (beat.visitor, beat.lease, beat.found) == (VISITOR, f"{LEASE}1", 2)
    assert beat.ids is None and beat.variables is None
    # Said once, when it is new.
    await page.evaluate("dialmark.setVar('plan', 'gold'); document.cookie = '_ga=GA1.1.1.2'")
    await page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 200))")
    told = [beat for beat in stage.gateway.of(scriptwire.Beat) if beat.variables is not None]
    assert [(beat.variables, beat.ids.ga) for beat in told] == [({"plan": "gold"}, "1.2")]
    # Another tab in front.
    await page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { get: () => window.seen || 'hidden' });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    count = len(stage.gateway.of(scriptwire.Beat))
    await page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert len(stage.gateway.of(scriptwire.Beat)) <= count + 1
    await page.evaluate("window.seen = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    await stage.gateway.until(scriptwire.Beat, count + 2)


async def test_a_page_that_nobody_sees_asks_for_nothing(stage: Stage) -> None:
    """Prefetched and background pages take no lease (attribution.md 1.5)."""
    hidden = (
        "<script>Object.defineProperty(document, 'visibilityState',"
        " { get: () => window.seen || 'hidden', configurable: true })</script>"
    )
    stage.site.pages["/"] = document(stage.gateway, NUMBER, head=hidden)
    page = await stage.page()
    await page.goto(stage.site.url)
    await stage.settled(page, "idle")
    assert stage.gateway.heard == []
    await page.evaluate("window.seen = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    await stage.settled(page)
    assert await stage.texts(page) == [THEIRS]


async def test_a_lease_that_is_gone_is_asked_for_again(stage: Stage) -> None:
    stage.gateway.beat_seconds = 0.05
    page = await stage.open(NUMBER)
    stage.gateway.shown = {MOSCOW: "+74990000001"}
    stage.gateway.is_kept = False
    await stage.gateway.until(scriptwire.Visit, 2)
    stage.gateway.is_kept = True
    await page.wait_for_function("document.querySelector('.line').textContent === '8 499 000-00-01'")
    assert await page.locator("a").get_attribute("href") == "tel:+74990000001"


async def test_a_number_that_may_be_somebody_elses_is_taken_down(stage: Stage) -> None:
    """A laptop that slept, or a gateway that is away: what was granted has run out."""
    stage.gateway.beat_seconds = 0.05
    stage.gateway.expires_seconds = 1
    page = await stage.open(NUMBER)
    assert await stage.texts(page) == [THEIRS]
    stage.gateway.status = 503
    await page.wait_for_function("document.querySelector('.line').textContent === '8 495 123-45-67'")
    assert (await stage.status(page))["lease"] is None


async def test_back_from_the_browsers_cache(stage: Stage) -> None:
    """A page that is left says goodbye; brought back as it was, it is a page view."""
    page = await stage.open(NUMBER)
    await page.evaluate("window.same = true")
    stage.site.pages["/other"] = "<!doctype html><p>other</p>"
    await page.goto(f"{stage.site.url}/other")
    assert (await stage.gateway.until(scriptwire.Leave)).lease == f"{LEASE}1"
    # No load event comes: nothing is loaded.
    await page.go_back(wait_until="commit")
    view = await stage.gateway.until(scriptwire.PageView)
    assert await page.evaluate("window.same") is True
    assert view.lease == f"{LEASE}1"
    assert view.page != stage.gateway.of(scriptwire.Visit)[0].page
    assert await stage.texts(page) == [THEIRS]


# ---- What visitors and sites do ----


async def test_a_click_on_a_number(stage: Stage) -> None:
    body = (
        NUMBER + '<p><a id=sms href="sms:84951234567?body=hi"><b>write</b></a><a id=other href="tel:+74950000000">x</a>'
    )
    page = await stage.open(body)
    await page.evaluate(STAY)
    await page.click("#other")
    await page.click("a >> nth=0")
    await page.click("#sms b")
    first, second = (await stage.gateway.until(scriptwire.Click)), (await stage.gateway.until(scriptwire.Click, 2))
    assert (first.number, first.scheme, first.lease) == (MOSCOW_499, "tel", f"{LEASE}1")
    assert (second.number, second.scheme) == (MOSCOW_499, "sms")
    assert len(stage.gateway.of(scriptwire.Click)) == 2


FORM = """
<form data-dialmark-callback><input name=number><input name=name><textarea name=message></textarea><input name=other>
<label><input type=checkbox name=consent>I agree</label><button>Call me</button></form>
"""


async def test_a_call_back_form(stage: Stage) -> None:
    """R69, with the visitor's source; double clicks send it once."""
    page = await stage.open(FORM + NUMBER)
    await page.fill("[name=number]", "8 912 345-67-89")
    await page.fill("[name=name]", "Иван")
    await page.fill("[name=other]", "not sent")
    await page.check("[name=consent]")
    stage.gateway.go_on.clear()
    await page.click("button")
    await page.click("button")
    stage.gateway.go_on.set()
    await page.wait_for_selector("form[data-dialmark-callback=sent]")
    (asked,) = stage.gateway.of(scriptwire.Callback)
    assert (asked.number, asked.name, asked.message, asked.when) == ("8 912 345-67-89", "Иван", "", "")
    assert (asked.visitor, asked.lease, asked.url) == (VISITOR, f"{LEASE}1", f"{stage.site.url}/")


async def test_a_call_back_form_without_consent_is_not_taken(stage: Stage) -> None:
    page = await stage.open(FORM)
    await page.fill("[name=number]", "8 912 345-67-89")
    await page.click("button")
    await page.wait_for_selector("form[data-dialmark-callback=failed]")
    assert stage.gateway.of(scriptwire.Callback) == []
    assert [refused.split(" b'")[0] for refused in stage.gateway.refused] == ["callback: consent: not given"]
    stage.gateway.refused.clear()


async def test_a_call_back_of_somebody_who_said_no_to_cookies(stage: Stage) -> None:
    stage.gateway.consent = Consent.DENIED
    page = await stage.open(NUMBER)
    answer = await page.evaluate("dialmark.callback({ number: '+79123456789', consent: true, when: 'at noon' })")
    assert answer["ok"] is True
    (asked,) = stage.gateway.of(scriptwire.Callback)
    assert (asked.visitor, asked.when) == (None, "at noon")


async def test_the_javascript_api(stage: Stage) -> None:
    page = await stage.open("<p class=line>x</p>")
    await page.evaluate("window.told = []; dialmark.on((numbers) => told.push(numbers))")
    await page.evaluate("dialmark.on(() => { throw new Error('theirs') })")
    numbers = await page.evaluate("dialmark.numbers")
    assert numbers[MOSCOW]["national"] == "8 (499) 765-43-21"
    await page.wait_for_function("told.length === 1")
    assert await page.evaluate("told") == [numbers]
    await page.evaluate("window.box = document.createElement('p'); box.textContent = '84951234567'; dialmark.swap(box)")
    assert await page.evaluate("box.textContent") == "84997654321"
    await page.evaluate("dialmark.start('pending')")
    await page.wait_for_function("told.length === 2")
    assert await page.evaluate("[told[1], dialmark.numbers]") == [{}, {}]
    # A listener's error is the site's own, and stops nobody.
    assert stage.faults == ["theirs", "theirs"]
    stage.faults.clear()


async def test_included_twice_it_is_there_once(stage: Stage) -> None:
    again = document(stage.gateway, "").split("<script")[1].split(">")[0]
    page = await stage.open(NUMBER + f"<script{again}></script>")
    assert await stage.texts(page) == [THEIRS]
    await page.evaluate("(src) => new Promise((done) => { const tag = document.createElement('script'); tag.src = src;"
        " tag.onload = done; document.head.append(tag) })", stage.gateway.script_url)  # fmt: skip
    await page.evaluate(CALM)
    assert len(stage.gateway.heard) == 1


async def test_under_a_strict_content_security_policy(stage: Stage) -> None:
    """As docs/dni.md gives it."""
    gateway = stage.gateway.url
    stage.site.headers = {"Content-Security-Policy": f"default-src 'none'; script-src {gateway}; connect-src {gateway}"}
    page = await stage.open(NUMBER)
    assert await stage.texts(page) == [THEIRS]


async def test_a_hostile_page_sends_only_what_the_gateway_can_read(stage: Stage) -> None:
    """Long and broken addresses, odd variables, cookies of anybody: cut or dropped, never refused."""
    await stage.context.add_cookies(
        [
            {"name": "_ga", "value": "<script>", "url": stage.site.url},
            {"name": "_ga_ABC", "value": "x", "url": stage.site.url},
            {"name": "_ym_uid", "value": "9" * 500, "url": stage.site.url},
        ]
    )
    page = await stage.open(NUMBER, query="?a=" + quote("й" * 700) + "#" + "x" * 1000)
    await page.evaluate(
        "for (let i = 0; i < 50; i++) dialmark.setVar('v' + i, '\\ud800'.repeat(5000));"
        "dialmark.setVar('<b>', null); history.pushState({}, '', '?' + 'z'.repeat(9000))"
    )
    await page.evaluate("document.body.append('x')")
    view = await stage.gateway.until(scriptwire.PageView)
    visit = stage.gateway.of(scriptwire.Visit)[0]
    assert visit.ids == scriptwire.Ids()
    assert len(visit.url) == 2000 and len(view.url) == 2000
    assert len(view.variables) == 20 and all(re.fullmatch("v[0-9]+", name) for name in view.variables)
