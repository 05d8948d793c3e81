"""`verify --web` (R28, R40, R46): real pages in the operator's Chromium, with the real public application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway import store
from tests.cli import webclinic
from tests.cli.conftest import Operator
from tests.cli.webclinic import FIRST, OVERFLOW, PRINTED, SITE_NUMBER, YEKATERINBURG, WebClinic

TAGGED = "?utm_source=google&utm_medium=cpc"


@pytest.fixture
def clinic(operator: Operator) -> Iterator[WebClinic]:
    operator.apply(webclinic.ROUTING)
    with webclinic.served(operator.folder / "dialmark.db") as made:
        yield made


def check(operator: Operator, *arguments: object, code: int = 0) -> Any:
    return operator("verify", "--web", "--no-sandbox", *arguments, "--format", "json", code=code).json


def counted(folder: Path, *tables: str) -> list[int]:
    async def count() -> list[int]:
        database = await store.Database.open(f"sqlite:///{folder}/dialmark.db")
        async with database.read() as connection:
            found = [(await connection.execute(text(f"SELECT count(*) FROM {one}"))).scalar_one() for one in tables]
        await database.close()
        return found

    return asyncio.run(count())


def whats(page: dict[str, Any]) -> list[str]:
    """Names of the findings; how quick this machine is just now is not asked."""
    return [one["what"] for one in page["findings"] if one["what"] != "script_slow"]


def test_each_campaign_sees_its_number_and_no_number_is_lent(operator: Operator, clinic: WebClinic) -> None:
    """R28, R40: a page without tags, with a source's, from a referrer, from a city; the pool stays as it was."""
    pictures = operator.folder / "pictures"
    found = check(operator, clinic.page(), "--screenshots", pictures)
    assert [(page["case"], page["shown"][SITE_NUMBER], page["state"]) for page in found["pages"]] == [
        ("no tags", SITE_NUMBER, "ok"),
        ("source google-ads", FIRST, "ok"),
        ("rule forum", PRINTED, "ok"),
        ("rule ural", YEKATERINBURG, "ok"),
    ]
    assert (found["checked"], found["ok"], found["errors"], found["left_out"]) == (4, 4, 0, [])
    assert found["pages"][1]["url"].endswith("/?utm_source=google&utm_medium=cpc")
    assert (found["pages"][2]["referrer"], found["pages"][3]["place"]) == ("https://forum.example/", "Yekaterinburg")
    assert counted(operator.folder, "visitors", "visits", "leases", "clicks", "web_checks", "tag_checks") == [0] * 6
    drawn = sorted(pictures.iterdir())
    assert [one.read_bytes()[:4] for one in drawn] == [b"\x89PNG"] * 4
    assert drawn[1].name.startswith("002-clinic-source-google-ads-localhost")


def test_what_is_wrong_with_pages(operator: Operator, clinic: WebClinic) -> None:
    """R28, R46: each defect by its name; exit 1 for cron."""
    body = webclinic.BODY
    csp = '<meta http-equiv="Content-Security-Policy" content="{}">'
    copied = "<script>(dialmark = window.dialmark || []).push(['on', (n) => { for (const one of Object.values(n))"
    copied += (
        " document.querySelector('[type*=ld]').textContent = JSON.stringify({ telephone: one.e164 }); }]);</script>"
    )
    leave = "<script>if (location.search) location.replace('/clean')</script>"
    pages = {
        "/left": clinic.page(body + "<p>or <i>8 495</i> <b>000-00-01</b> now</p>", path="/left"),
        "/none": clinic.page(body, path="/none", script="about:blank"),
        "/other": clinic.page(body, path="/other", script=clinic.script.replace("clinic.js", "shop.js")),
        "/gone": clinic.page(body, path="/gone", script=clinic.script.replace("/dni/v1/", "/dni/v1/x?/dni/v1/")),
        "/csp": clinic.page(body, path="/csp", head=csp.format("script-src 'none'")),
        "/connect": clinic.page(body, path="/connect", head=csp.format("connect-src 'none'")),
        "/printed": clinic.page(body + "<pre>+7 499 000-01-02</pre>", path="/printed"),
        "/json-ld": clinic.page(body + '<script type="application/ld+json">{}</script>' + copied, path="/json-ld"),
        "/lost": clinic.page(body, path="/lost", head=leave),
        "/empty": clinic.page("<p>no number</p>", path="/empty"),
    }
    clinic.page(body, path="/clean")
    found = check(operator, *(url + TAGGED for url in pages.values()), code=1)
    assert {path: whats(page) for path, page in zip(pages, found["pages"], strict=True)} == {
        "/left": ["left"],
        "/none": ["script_missing"],
        "/other": ["other_site", "script_failed"],
        "/gone": ["script_failed"],
        "/csp": ["csp"],
        "/connect": ["csp"],
        "/printed": ["pool_printed"],
        "/json-ld": ["json_ld"],
        "/lost": ["tags_lost", "wrong_number"],
        "/empty": ["no_number"],
    }
    assert (found["errors"], found["warnings"]) == (9, 1)
    # Kept as evidence for calls to the numbers that these pages show (R21).
    (kept,) = counted(operator.folder, "tag_checks")
    assert kept >= 9
    assert "“or 8 495 000-00-01 now”" in found["pages"][0]["findings"][0]["problem"]


def test_what_is_wrong_with_the_gateway(operator: Operator, clinic: WebClinic, unused_port: int) -> None:
    """A page never takes longer than it may; an answer after 800 ms comes too late for visitors."""
    url = clinic.page() + TAGGED
    clinic.gate.delay_seconds = 1.0
    assert whats(check(operator, url, code=1)["pages"][0]) == ["slow"]
    clinic.gate.delay_seconds = 30.0
    late = check(operator, url, "--page-seconds", "2", code=1)["pages"][0]
    assert whats(late) == ["timeout"] and late["seconds"] < 10
    clinic.gate.delay_seconds = 0.0
    away = check(operator, f"http://localhost:{unused_port}/{TAGGED}", code=1)["pages"][0]
    assert whats(away) == ["page_failed"] and "ERR_CONNECTION_REFUSED" in away["findings"][0]["problem"]


def test_another_routing_than_that_of_the_daemon(operator: Operator) -> None:
    """R46: the daemon shows what the routing in force does not say."""
    operator.apply(webclinic.ROUTING)
    shown = webclinic.ROUTING.replace('pool = "moscow"', f'number = "{PRINTED}"')
    with webclinic.served(operator.folder / "dialmark.db", shown) as clinic:
        found = check(operator, clinic.page() + TAGGED, code=1)["pages"][0]
    assert whats(found) == ["wrong_number"]
    assert found["findings"][0]["problem"] == f"{PRINTED} is shown where rule ads says a number of pool moscow"


def test_a_host_that_the_daemon_does_not_serve(operator: Operator) -> None:
    """R46: browsers hide such an answer from the page, and so its reason."""
    operator.apply(webclinic.ROUTING)
    other = webclinic.ROUTING.replace('hosts = ["localhost"]', 'hosts = ["other.example"]')
    with webclinic.served(operator.folder / "dialmark.db", other) as clinic:
        found = check(operator, clinic.page() + TAGGED, code=1)["pages"][0]
    assert whats(found) == ["refused"]
    assert "is its host in the site's hosts?" in found["findings"][0]["problem"]


def test_an_exhausted_pool_is_a_warning(operator: Operator, clinic: WebClinic) -> None:
    """R96: visitors see the overflow number, and calls to it are counted."""
    lend(operator.folder)
    found = check(operator, clinic.page() + TAGGED)["pages"][0]
    assert (found["state"], whats(found), found["shown"][SITE_NUMBER]) == ("warning", ["exhausted"], OVERFLOW)


def lend(folder: Path) -> None:
    """Both numbers of the pool have a visitor."""

    async def work() -> None:
        database = await store.Database.open(f"sqlite:///{folder}/dialmark.db")
        async with database.begin() as tx:
            held = "lease_id = number, visitor_id = number, living_until_us = :until, held_until_us = :until"
            await tx.execute(text(f"UPDATE pool_numbers SET {held}, generation = 9"), {"until": 2**60})
        await database.close()

    asyncio.run(work())


def test_table_and_csv_name_each_problem(operator: Operator, clinic: WebClinic) -> None:
    url = clinic.page(webclinic.BODY + f"<p>{OVERFLOW}, {FIRST}</p>")
    said = operator("verify", "--web", "--no-sandbox", "--site", "clinic", url + TAGGED, code=1)
    assert [line.split()[0] for line in said.lines[:3]] == ["State", "error", "error"]
    assert said.lines[-1] == "1 pages: 0 ok, 0 warnings, 1 errors"
    listed = operator("verify", "--web", "--no-sandbox", url + TAGGED, "--format", "csv", code=1)
    assert listed.lines[0].startswith("state,site,case,place,url,shown,what,problem")
    assert len(listed.lines) == 3 and all("pool_printed" in line for line in listed.lines[1:])


def test_what_cannot_be_checked_is_refused_in_words(operator: Operator) -> None:
    """No browser is started for it."""
    refused = operator("verify", "--web", "--no-sandbox", code=1)
    assert "there is no routing yet" in refused.err or "database not available" in refused.err
    operator.apply(webclinic.ROUTING)
    assert "the sites' hosts are localhost" in operator("verify", "--web", "https://other.example/", code=2).err
    assert "the sites' hosts are localhost" in operator("verify", "--web", "file:///localhost/", code=2).err
    assert "there are clinic" in operator("verify", "--web", "--site", "clinik", code=2).err
    assert "pages are checked with --web" in operator("verify", "https://localhost/", code=2).err
    assert "say nothing with --web" in operator("verify", "--web", "--since", "today", code=2).err
    assert (
        "--browser: /nowhere/chrome is no program"
        in operator("verify", "--web", "--browser", "/nowhere/chrome", code=1).err
    )
    (operator.folder / "file").write_text("")
    wrong = operator("verify", "--web", "--screenshots", operator.folder / "file", code=1)
    assert "--screenshots" in wrong.err


def test_a_browser_that_does_not_start_is_told(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.apply(webclinic.ROUTING)
    broken = operator.folder / "chrome"
    broken.write_text("#!/bin/sh\necho 'Fatal error: no display' >&2\n")
    broken.chmod(0o755)
    said = operator("verify", "--web", "--no-sandbox", "--browser", broken, code=1)
    assert f"{broken} does not start: Fatal error: no display" in said.err
    assert counted(operator.folder, "web_checks") == [0]
    monkeypatch.setenv("PATH", str(operator.folder))
    assert "chromium" not in str(operator.folder)
    broken.unlink()
    assert "no Chromium on PATH: install it (`apt install chromium`)" in operator("verify", "--web", code=1).err
