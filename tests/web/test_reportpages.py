"""Pages of reports and spend, and the result on a call's page, in a real browser (R14-R16, R60, R64, R70, R77, R87)."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from gateway.core import costs
from gateway.services import costing, dealing
from gateway.store import audit, forgetting, outbox
from gateway.store import costs as stored
from gateway.web import parts, spendpages
from tests.web import material
from tests.web.browser import CONTRAST, TOO_WIDE, Opened, Watched
from tests.web.listener import Listener, bearer

CALL = "11111111-2222-3333-4444-555555555555"
PHONE = {"width": 400, "height": 850}
SHEET = "day;source;campaign;amount;currency\n21.11.2026;google-ads;Implants;1 200,50;RUB\n"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
READING = ("calls:read", "live:read", "reports:read", "costs:read")


def call(number: int, *, days: int = 0, **facts: Any) -> dict[str, Any]:
    caller = f"+7916{number:07}"
    return material.record(
        call_id=f"{number:08}-2222-4333-8444-555555555555",
        caller=caller,
        started_at=material.NOW - timedelta(days=days, minutes=number),
        **facts,
    )


async def say(listener: Listener, *said: dict[str, Any]) -> None:
    takes = dealing.Dealing(
        listener.database,
        current_book=lambda: listener.current,
        targets=(),
        now_us=lambda: parts.micros(listener.clock.now),
    )
    asked = [dealing.Asked(place, one) for place, one in enumerate(said)]
    await takes.take(asked, dealing.Source("token:crm", "api"))


async def enter(listener: Listener, kind: costs.Kind, *rows: dict[str, Any]) -> None:
    now_us = parts.micros(listener.clock.now)
    await costing.take(
        listener.database, kind, list(enumerate(rows)), current=listener.current, by="cli:anna", now_us=now_us
    )


async def fill(listener: Listener) -> None:
    """40 calls of Google Ads, of which 8 bring 1,000 each; 6 of the radio, of which 5 bring 100; spend and wages."""
    ads = [call(number, days=number % 5) for number in range(40)]
    radio = [call(number, source="radio", days=1) for number in range(50, 56)]
    ads[-1]["attribution"]["campaign"] = HOSTILE
    await listener.store_calls([*ads, *radio])
    won = {"deal_state": "won", "currency": "RUB", "qualified": True}
    await say(
        listener,
        *({"call_id": one["call_id"], "value": "1000", **won} for one in ads[:8]),
        *({"call_id": one["call_id"], "value": "100", **won} for one in radio[:5]),
        {"call_id": ads[10]["call_id"], "spam": True},
    )
    day = {"day": "2026-11-21", "currency": "RUB"}
    await enter(
        listener,
        costs.SPEND,
        {"source": "google-ads", "campaign": "Implants", "amount": "4000", **day},
        {"source": "radio", "amount": "2500", **day},
    )
    await enter(listener, costs.WAGES, {"agent": "anna", "from_day": "2026-11-01", "hourly": "300", "currency": "RUB"})
    await enter(listener, costs.HOURS, {"agent": "anna", "day": "2026-11-21", "hours": "9"})


async def look_at(watched: Watched) -> None:
    assert await watched.page.evaluate(TOO_WIDE) == []
    assert await watched.page.evaluate(CONTRAST) == []
    await watched.check()


@pytest.mark.parametrize("options", [{"viewport": PHONE}, {"color_scheme": "dark"}], ids=["phone", "dark"])
async def test_figures_pictures_and_their_words(listener: Listener, opened: Opened, options: dict[str, Any]) -> None:
    await fill(listener)
    async with opened(listener, **options) as watched:
        page = watched.page
        await watched.log_in()
        await page.get_by_role("link", name="Reports").click()
        tiles = page.locator(".tile")
        await expect(tiles.nth(0)).to_contain_text("45")
        await expect(tiles.nth(0)).to_contain_text("1 spam left out")
        await expect(tiles.nth(1)).to_contain_text("13 of 45")
        await expect(tiles.nth(2)).to_contain_text("8\u202f500 RUB")
        await expect(tiles.nth(3)).to_contain_text("6\u202f500 RUB")
        await expect(tiles.nth(3)).to_contain_text("ROMI 30.8 %")
        await expect(page.get_by_role("note")).to_contain_text("Restated.")
        money = page.get_by_role("img", name="Revenue and spend by day")
        await expect(money).to_have_attribute(
            "aria-label", re.compile("Revenue 8\u202f500 RUB, most on .*; Spend 6\u202f500 RUB, most on 21 Nov")
        )
        assert await money.locator("rect").count() > 3
        await expect(page.get_by_role("img", name="search: 100.0 %")).to_be_visible()
        await expect(page.get_by_role("img", name="offline: \u221280.0 %")).to_be_visible()
        rows = page.locator(".report-table tbody tr")
        await expect(rows).to_have_count(2)
        ads = rows.nth(0)
        for name, text in (
            ("Calls", "39"),
            ("Average deal", "1\u202f000"),
            ("ROMI", "100.0 %"),
            ("Conversion", "20.5 %"),
        ):
            await expect(ads.locator(f"td[data-name='{name}']")).to_have_text(text)
        await expect(rows.nth(1).locator("td[data-name='Conversion']")).to_have_text("–")
        agents = page.get_by_role("region", name="Cost per call of agents")
        await expect(agents).to_contain_text("2\u202f700 RUB")
        await look_at(watched)


async def test_sorted_grouped_and_narrowed_by_links(listener: Listener, opened: Opened) -> None:
    """Without a script of ours: every view is an address. A row leads to its calls."""
    await fill(listener)
    async with opened(listener, java_script_enabled=False) as watched:
        page = watched.page
        await page.goto(listener.url)
        await page.get_by_label("Token").fill(await listener.token())
        await page.get_by_role("button", name="Log in").click()
        await page.goto(f"{listener.url}/reports")
        first = page.locator(".report-table tbody tr").first
        await page.get_by_role("link", name="ROMI").click()
        await expect(first).to_contain_text("Google Ads")
        await page.get_by_role("link", name="ROMI").click()
        await expect(first).to_contain_text("Radio Seven")
        await expect(page.locator("th[aria-sort='ascending']")).to_contain_text("ROMI")
        await page.get_by_role("link", name="Campaign", exact=True).click()
        await expect(page.locator(".report-table")).to_contain_text(HOSTILE)
        await page.get_by_role("link", name="Day", exact=True).click()
        await expect(page.locator(".report-table .tag")).to_have_count(4)
        await page.get_by_role("link", name="7 days").click()
        await expect(page.get_by_role("heading", name="By day")).to_be_visible()
        await page.get_by_role("link", name="Source", exact=True).click()
        await page.get_by_role("link", name="Radio Seven", exact=True).click()
        await expect(page.locator("tr.row")).to_have_count(6)
        await page.goto(f"{listener.url}/reports?by=campaign")
        await page.get_by_role("link", name=f"Agents of {HOSTILE}").click()
        await expect(page.get_by_role("heading", name="By agent")).to_be_visible()
        await expect(page.locator(".report-table tbody tr")).to_have_count(1)
        await expect(page.locator(".report-table tbody td[data-name='Calls']")).to_have_text("1")
        await expect(page.locator(".chip")).to_have_count(2)
        await page.get_by_role("link", name=f"Remove the filter Campaign {HOSTILE}").click()
        await expect(page.locator(".report-table tbody td[data-name='Calls']")).to_have_text("39")
        behind = await page.locator(".report-table tbody th a").first.get_attribute("href")
        assert behind is not None and "source=google-ads" in behind and "agent=anna" in behind
        await page.get_by_role("link", name="Remove the filter Source Google Ads").click()
        await expect(page.locator(".report-table tbody td[data-name='Calls']")).to_have_text("45")
        assert await page.title() != "owned"


async def test_several_currencies_are_asked_for(listener: Listener, opened: Opened) -> None:
    await fill(listener)
    await enter(listener, costs.SPEND, {"day": "2026-11-20", "source": "radio", "amount": "5", "currency": "EUR"})
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/reports")
        await expect(page.get_by_text("There is money in several currencies.")).to_be_visible()
        await page.get_by_role("link", name="EUR").click()
        await expect(page.locator(".tile").nth(3)).to_contain_text("5 EUR")
        await look_at(watched)


async def test_an_empty_house_is_told_what_to_do(listener: Listener, opened: Opened) -> None:
    async with opened(listener, viewport=PHONE) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/reports")
        await expect(page.get_by_text("No calls and no spend in these days.")).to_be_visible()
        await listener.store_calls([call(1)])
        await page.reload()
        await expect(page.get_by_text("dialmark deals import")).to_be_visible()
        await look_at(watched)
        await page.get_by_role("link", name="Take in a table of spend").click()
        await expect(page.get_by_text("No spend in these days.")).to_be_visible()
        await look_at(watched)


async def test_days_that_do_not_fit_are_told_and_others_shown(listener: Listener, http: aiohttp.ClientSession) -> None:
    headers = bearer(await listener.token("reports:read", "costs:read"))
    for path in ("/reports", "/reports/spend"):
        async with http.get(f"{listener.url}{path}?from=2026-11-02&to=2026-11-01", headers=headers) as answer:
            text = await answer.text()
        assert answer.status == 400
        assert 'role="alert"' in text and 'name="from" value="2026-10-23"' in text
    for query in ("currency=QQQ", "by=caller", "sort=x", "from=x"):
        async with http.get(f"{listener.url}/reports?{query}", headers=headers) as answer:
            assert answer.status == 400
            assert answer.content_type == "text/html"


async def test_a_year_is_drawn_by_week(listener: Listener, opened: Opened) -> None:
    await fill(listener)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/reports?from=2025-12-01&to=2026-11-21")
        await expect(page.get_by_role("img", name="Revenue and spend by week")).to_be_visible()
        await page.get_by_text("As a table").first.click()
        await expect(page.locator(".chart").first.locator("tbody tr")).to_have_count(51)
        await look_at(watched)


async def test_who_may_see_what(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Wages are for who manages them; the menu shows what one may open."""
    await fill(listener)
    await listener.store_calls([material.record(call_id=CALL)])

    async def get(path: str, *scopes: str) -> tuple[int, str]:
        async with http.get(listener.url + path, headers=bearer(await listener.token(*scopes))) as answer:
            return answer.status, await answer.text()

    assert (await get("/reports", "calls:read"))[0] == 403
    assert (await get("/reports/spend", "reports:read"))[0] == 403
    _, text = await get("/reports", "reports:read")
    assert "Cost per call of agents" not in text
    assert "/reports/spend" not in text and 'title="The calls"' not in text
    _, text = await get("/", "calls:read", "costs:read")
    assert 'href="/reports/spend"' in text
    _, text = await get("/reports/spend", "costs:read")
    assert "<textarea" not in text
    _, text = await get(f"/calls/{CALL}", "calls:read")
    assert f'action="/calls/{CALL}/result"' not in text


# -- spend ------------------------------------------------------------------------------------------------------------


async def test_spend_is_taken_in_from_a_file(listener: Listener, opened: Opened, tmp_path: Path) -> None:
    """Checked, taken, and the same file again changes nothing; an audit row says who."""
    path = tmp_path / "november.csv"
    path.write_text(SHEET, encoding="utf-8-sig")
    async with opened(listener, viewport=PHONE) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/reports/spend")
        await page.get_by_label("File").set_input_files(path)
        await page.get_by_role("button", name="Check only").click()
        await expect(page.get_by_role("status")).to_contain_text("1 would change something")
        assert await kept(listener) == []
        await page.get_by_role("button", name="Take in").click()
        await expect(page.get_by_role("status")).to_contain_text("1 rows changed something")
        row = page.locator(".listing tbody tr")
        await expect(row).to_contain_text("1\u202f200.50 RUB")
        await page.get_by_text("Take in a table of spend").click()
        await page.get_by_label("File").set_input_files(path)
        await page.get_by_role("button", name="Take in").click()
        await expect(page.get_by_role("status")).to_contain_text("0 rows changed something, 1 said nothing new")
        await look_at(watched)
    async with listener.database.read() as connection:
        rows = await audit.entries(connection)
    assert [(one.action, one.subject) for one in rows] == [("costs.changed", "costs:spend")]


async def test_what_is_wrong_is_told_by_line_and_nothing_is_lost(
    listener: Listener, opened: Opened, tmp_path: Path
) -> None:
    """Bad rows, doubles, a strange currency, a far day, a negative amount: what was there stays, and the text too."""
    await enter(listener, costs.SPEND, {"day": "2026-11-21", "source": "radio", "amount": "7", "currency": "RUB"})
    before = await kept(listener)
    path = tmp_path / "bad.csv"
    path.write_text(
        SHEET
        + "21.11.2026;radio;;-5,00;RUB\n21.11.2026;radio;;5,00;QQQ\n21.11.2026;nobody;;5,00;RUB\n"
        + f"21.11.2062;radio;;5,00;RUB\n21.11.2026;google-ads;Implants;1,00;RUB\n21.11.2026;{HOSTILE};;1,234;RUB\n"
    )
    async with opened(listener, viewport=PHONE) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/reports/spend")
        await page.get_by_text("Take in a table of spend").click()
        await page.get_by_label("File").set_input_files(path)
        await page.get_by_role("button", name="Take in").click()
        said = page.get_by_role("alert")
        for text in (
            "Line 3, amount: must not be negative",
            "Line 4, currency",
            "Line 5, source",
            "Line 6, day: lies more than 366 days ahead",
            "Line 7, day: says again",
        ):
            await expect(said).to_contain_text(text)
        await expect(said).to_contain_text(HOSTILE)
        await expect(page.locator("textarea")).to_have_value(path.read_text())
        assert await kept(listener) == before
        await page.locator("textarea").fill(SHEET)
        await page.get_by_role("button", name="Take in").click()
        await expect(page.get_by_role("status")).to_contain_text("1 rows changed something")
        watched.faults = [fault for fault in watched.faults if "422" not in fault]
        await look_at(watched)
        assert await page.title() != "owned"
    assert len(await kept(listener)) == 2


async def kept(listener: Listener) -> list[costs.Spend]:
    async with listener.database.read() as connection:
        return await stored.spend(connection, 20000101, 21001231)


def form(content: bytes | str, name: str = "file", do: str = "take") -> aiohttp.FormData:
    data = aiohttp.FormData()
    raw = io.BytesIO(content.encode() if isinstance(content, str) else content)
    data.add_field(name, raw, filename="x.csv", content_type="text/csv")
    data.add_field("do", do)
    return data


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (SHEET, 303),
        (SHEET.encode("utf-16"), 303),
        (b"", 422),
        (b"\0" * 200, 422),
        (b"\xff\xfe\xff", 422),
        (b"a,b\n1,2\n", 422),
        (b'day,source\n"2026', 422),
        (b"day,day\n", 422),
        (b"x" * (spendpages.MAX_BYTES + 1), 422),
        (SHEET.splitlines()[0].encode() + b"\n" + b"1;2;3;4;5\n" * 5_001, 422),
    ],
    ids=range(10),
)
async def test_any_file(listener: Listener, http: aiohttp.ClientSession, content: bytes | str, status: int) -> None:
    headers = bearer(await listener.token("costs:write"))
    data = form(content)
    async with http.post(f"{listener.url}/reports/spend", data=data, headers=headers, allow_redirects=False) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "text/html" or status == 303
    assert bool(await kept(listener)) == (status == 303)


async def test_forms_that_are_none(listener: Listener, http: aiohttp.ClientSession) -> None:
    headers = bearer(await listener.token("costs:write"))
    address = f"{listener.url}/reports/spend"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for data, more in (
        ({"rows": SHEET}, {}),
        (b"", kind),
        (b"--x\r\n", kind),
        (b"garbage", kind),
        (b"--x\r\n\r\n\r\n--x--\r\n", kind),
        (b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\na\r\n--y--\r\n--x--\r\n", kind),
        (b"a", {"Content-Type": "multipart/form-data"}),
    ):
        async with http.post(address, data=data, headers={**headers, **more}) as answer:
            assert answer.status in (400, 422), await answer.text()
    async with http.post(address, data=form(SHEET), headers=bearer(await listener.token("costs:read"))) as answer:
        assert answer.status == 403
    assert await kept(listener) == []


# -- the result of a call ---------------------------------------------------------------------------------------------


async def test_a_result_is_said_changed_and_taken_back(idle: Listener, opened: Opened) -> None:
    """Qualified, goal, note, tags and a deal by form; the history and the audit know who, and the event goes out."""
    idle.targets = ("webhook:crm",)
    await idle.store_calls([material.record(call_id=CALL)])
    async with idle.running(), opened(idle, viewport=PHONE) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{idle.url}/calls/{CALL}")
        await expect(page.get_by_text("Nobody has said anything yet.")).to_be_visible()
        await page.get_by_label("Qualified").select_option("yes")
        await page.get_by_label("Goal reached").select_option("no")
        await page.get_by_label("Tags").fill("vip, implants")
        await page.get_by_label("Note").fill(f"two\nlines {HOSTILE}")
        await page.get_by_label("State").select_option("won")
        await page.get_by_label("Value").fill("1 234,50")
        await page.get_by_label("Currency").fill("rub")
        await page.get_by_label("Closed").fill("20.11.2026")
        await page.get_by_role("button", name="Write").click()
        facts = page.locator("#result dl")
        for text in ("vip, implants", f"lines {HOSTILE}", "1234.50", "RUB", "2026-11-20", "won"):
            await expect(facts).to_contain_text(text)
        await look_at(watched)
        await page.get_by_text("Change it").click()
        await expect(page.get_by_label("Note")).to_have_value(f"two\nlines {HOSTILE}")
        await page.get_by_label("Qualified").select_option("")
        await page.get_by_label("Note").fill("")
        await page.get_by_role("button", name="Write").click()
        await expect(facts).not_to_contain_text("Qualified")
        await page.get_by_text("History").click()
        changes = page.locator(".changes li")
        await expect(changes).to_have_count(2)
        await expect(changes.first).to_contain_text("Qualified: yes → –")
        await expect(changes.last).to_contain_text("Value: – → 1234.50")
        await expect(changes.first).to_contain_text("token:token 1")
        await look_at(watched)
    async with idle.database.read() as connection:
        assert await outbox.pending_count(connection, "webhook:crm") == 2
        rows = await audit.entries(connection)
    assert [(one.action, one.subject, one.actor) for one in rows] == [
        ("result.changed", f"call:{CALL}", "token:token 1")
    ] * 2
    assert "lines" not in "".join(one.details for one in rows)


async def test_what_cannot_be_taken_stays_in_the_form(listener: Listener, opened: Opened) -> None:
    await listener.store_calls([material.record(call_id=CALL)])
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/calls/{CALL}")
        await page.get_by_label("Note").fill("kept")
        await page.get_by_label("Value").fill("-5")
        await page.get_by_label("Closed").fill("31.12.2026")
        await page.get_by_label("State").select_option("won")
        await page.get_by_role("button", name="Write").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was written: Value: must not be negative")
        await expect(page.get_by_label("Note")).to_have_value("kept")
        await page.get_by_label("Value").fill("5")
        await page.get_by_role("button", name="Write").click()
        await expect(page.get_by_role("alert")).to_contain_text("Currency: a value needs its currency")
        await page.get_by_label("Currency").fill("EUR")
        await page.get_by_role("button", name="Write").click()
        await expect(page.get_by_role("alert")).to_contain_text("Closed on: lies ahead")
        await look_at_refused(watched)
        await page.get_by_label("Closed").fill("")
        await page.get_by_role("button", name="Write").click()
        await expect(page.locator("#result dl")).to_contain_text("5.00")
        watched.faults = [fault for fault in watched.faults if "422" not in fault]


async def look_at_refused(watched: Watched) -> None:
    """The browser itself reports the answer 422."""
    watched.faults = [fault for fault in watched.faults if "422" not in fault and "409" not in fault]
    await look_at(watched)


async def test_who_comes_second_is_told(listener: Listener, opened: Opened) -> None:
    """The CRM was quicker: nothing of it is written over, and what was typed is still there."""
    await listener.store_calls([material.record(call_id=CALL)])
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in()
        await page.goto(f"{listener.url}/calls/{CALL}")
        await say(listener, {"call_id": CALL, "deal_state": "won", "value": "9", "currency": "EUR"})
        await page.get_by_label("Note").fill("mine")
        await page.get_by_role("button", name="Write").click()
        await expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed the result meanwhile")
        await expect(page.locator("#result dl")).to_contain_text("9.00")
        await expect(page.get_by_label("Note")).to_have_value("mine")
        await look_at_refused(watched)


async def test_results_from_outside_are_refused(listener: Listener, http: aiohttp.ClientSession) -> None:
    """Forms of other sites, missing scopes, calls that are none, forms that lie about what they saw."""
    await listener.store_calls([material.record(call_id=CALL)])
    address = f"{listener.url}/calls/{CALL}/result"
    writer = bearer(await listener.token("deals:write", "calls:read"))
    for headers, path, data, status in (
        (bearer(await listener.token("calls:read")), address, {"seen": "0"}, 403),
        (writer, address.replace("1111", "9999"), {"seen": "0"}, 404),
        (writer, address, {"seen": "1", "note": "x"}, 409),
        (writer, address, {"note": "x"}, 409),
        (writer, address, {"seen": "-1", "note": "x"}, 409),
        (writer, address, {"seen": "9" * 5_000, "note": "x"}, 409),
        (writer, address, {"seen": "0", "tags": ",".join(str(number) for number in range(30))}, 422),
        (writer, address, {"seen": "0", "note": "x" * 4_001}, 422),
        (writer, address, {"seen": "0", "qualified": "maybe"}, 422),
    ):
        async with http.post(path, data=data, headers=headers, allow_redirects=False) as answer:
            assert answer.status == status, await answer.text()
    async with http.get(listener.url + "/login") as answer:
        assert answer.status == 200
    token = await listener.token()
    async with http.post(
        f"{listener.url}/login", data={"token": token}, headers={"Origin": listener.url}, allow_redirects=False
    ) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    strange = {"Cookie": cookie, "Origin": "https://evil.example"}
    async with http.post(address, data={"seen": "0", "spam": "yes"}, headers=strange) as answer:
        assert answer.status == 403
    async with http.post(f"{listener.url}/reports/spend", data=form(SHEET), headers=strange) as answer:
        assert answer.status == 403
    async with listener.database.read() as connection:
        assert await audit.entries(connection) == []


async def test_of_an_erased_caller_nothing_is_asked(listener: Listener, http: aiohttp.ClientSession) -> None:
    await listener.store_calls([material.record(call_id=CALL)])
    async with listener.database.begin() as tx:
        await forgetting.remember(tx, [(CALL, "journal-1")], now_us=parts.micros(listener.clock.now))
    headers = bearer(await listener.token("deals:write", "calls:read"))
    async with http.get(f"{listener.url}/calls/{CALL}", headers=headers) as answer:
        text = await answer.text()
    assert "nothing can be said of it any more" in text and '<form method="post" action="/calls' not in text
    async with http.post(
        f"{listener.url}/calls/{CALL}/result", data={"seen": "0", "note": "x"}, headers=headers
    ) as answer:
        assert answer.status == 422
