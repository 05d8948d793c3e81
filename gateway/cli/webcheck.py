"""`verify --web`: landing pages in a real browser, with each campaign's tags, against what the rules say (R28, R40)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli import context, failures, output
from gateway.cli.progress import Progress

if TYPE_CHECKING:
    from gateway import store
    from gateway.cli import chromium, webpages
    from gateway.config.settings import Settings
    from gateway.core import webbook, webcases

PASS_SECONDS = 6 * 3_600
"""A pass ends with its command; this is for one that was killed."""
ALL_SITES = ""

COLUMNS = (
    output.Column("state", "State"),
    output.Column("site"),
    output.Column("case", "As"),
    output.Column("place", "From"),
    output.Column("url", "Page"),
    output.Column("shown", "Shown"),
    output.Column("what"),
    output.Column("problem", "Problem"),
    output.Column("seconds", "Seconds", is_number=True),
    output.Column("screenshot"),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be checked, and how."""

    urls: tuple[str, ...]
    site: str = ALL_SITES
    browser: str | None = None
    is_sandboxed: bool = True
    most_seconds: float = 15.0
    screenshots: Path | None = None


def run(settings: Settings, wish: Wish, form: output.Format) -> None:
    """Opens the pages and prints what is wrong. Raises typer.Exit with 1 when visitors do not see what they should."""
    from gateway.cli import chromium

    binary = chromium.find(wish.browser)
    if wish.screenshots is not None:
        _make(wish.screenshots)
    found = context.run(_run(settings, wish, binary))
    _print(found, form)
    if any(one["state"] == "error" for row in found.rows for one in row["findings"]):
        raise typer.Exit(failures.EXIT_PROBLEM)


@dataclass(frozen=True, slots=True)
class _Found:
    rows: list[dict[str, Any]]
    left_out: list[str]


async def _run(settings: Settings, wish: Wish, binary: str) -> _Found:
    from gateway.cli import chromium

    async with context.database(settings) as database:
        in_force = await context.book_in_force(database, settings)
        if in_force is None:
            raise failures.Failure("there is no routing yet: `dialmark apply routing.toml` makes the first revision")
        cases, left_out = _cases(in_force.web, wish)
        async with _pass(database) as pass_id, chromium.running(binary, is_sandboxed=wish.is_sandboxed) as browser:
            rows = [_row(in_force.web, one) async for one in _checked(browser, in_force.web, cases, pass_id, wish)]
        await _keep(database, rows)
    return _Found(rows, left_out)


async def _checked(
    browser: chromium.Browser, web: webbook.WebBook, cases: Sequence[webcases.Case], pass_id: str, wish: Wish
) -> AsyncIterator[webpages.Checked]:
    from gateway.cli import webpages

    progress = Progress()
    try:
        for place, case in enumerate(cases, start=1):
            progress.tell(f"{place} of {len(cases)}: {case.name}")
            picture = _picture(wish.screenshots, place, case)
            most = wish.most_seconds
            yield await webpages.check(browser, web, case, pass_id, most_seconds=most, screenshot=picture)
    finally:
        progress.end()


async def _keep(database: store.Database, rows: Sequence[dict[str, Any]]) -> None:
    """Remembers which numbers stand on pages that are wrong: why callers of them gave up (R21)."""
    from gateway.cli import moments
    from gateway.store import tagchecks

    pages: set[str] = set()
    wrong: dict[tuple[str, str], str] = {}
    for row in rows:
        page = f"{row['site']} {row['case']} {row['place'] or ''} {row['url']}"
        pages.add(page)
        for finding in row["findings"]:
            if finding["state"] == "error":
                for number in row["shown"].values():
                    wrong.setdefault((number, page), f"{row['url']}: {finding['problem']}")
    async with database.begin() as tx:
        await tagchecks.keep(tx, pages, wrong, now_us=moments.micros(context.now()))


def _cases(web: webbook.WebBook, wish: Wish) -> tuple[list[webcases.Case], list[str]]:
    """What is opened; raises Failure and Misuse where that is nothing."""
    from gateway.core import webcases

    by_site: dict[str, list[str]] = {}
    for url in wish.urls:
        site = webcases.site_of(web, url)
        if site is None or not url.startswith(("https://", "http://")):
            hosts = sorted(host for one in web.sites.values() for host in one.hosts)
            raise failures.Misuse(f"{url[:200]}: no page of a site; the sites' hosts are {', '.join(hosts) or 'none'}")
        by_site.setdefault(site, []).append(url)
    if wish.site and wish.site not in web.sites:
        raise failures.Misuse(f"--site: there is no site '{wish.site[:40]}' with [site.web]; there are {_listed(web)}")
    if not wish.urls:
        by_site = {key: webcases.usual_pages(web, key) for key in web.sites if wish.site in (ALL_SITES, key)}
    if not by_site:
        raise failures.Failure("no site of the routing has pages ([site.web])")
    made = [webcases.of_site(web, site, pages) for site, pages in by_site.items()]
    return [case for one in made for case in one.cases], [name for one in made for name in one.left_out]


def _listed(web: webbook.WebBook) -> str:
    return ", ".join(web.sites) or "none"


@asynccontextmanager
async def _pass(database: store.Database) -> AsyncIterator[str]:
    """A pass for the time of the check."""
    from gateway.cli import moments
    from gateway.store import webchecks

    now_us = moments.micros(context.now())
    async with database.begin() as tx:
        pass_id = await webchecks.issue(tx, now_us=now_us, expires_us=now_us + PASS_SECONDS * 1_000_000)
    try:
        yield pass_id
    finally:
        async with database.begin() as tx:
            await webchecks.end(tx, pass_id)


def _row(web: webbook.WebBook, checked: webpages.Checked) -> dict[str, Any]:
    from gateway.core import webjudging

    case = checked.case
    findings = [{"state": one.level.value, "what": one.what, "problem": one.message} for one in checked.findings]
    shown = webjudging.shown_numbers(web, case, checked.seen)
    return {
        "state": findings[0]["state"] if findings else webjudging.Level.OK.value,
        "site": case.site,
        "case": case.name,
        "place": ", ".join(part for part in (case.city, case.country) if part) or None,
        "url": case.url,
        "referrer": case.referrer or None,
        "shown": shown,
        "seconds": round(checked.seconds, 1),
        "screenshot": str(checked.screenshot) if checked.screenshot is not None else None,
        "findings": findings,
    }


def _print(found: _Found, form: output.Format) -> None:
    if form is output.Format.JSON:
        output.json_document({**_counts(found.rows), "left_out": found.left_out, "pages": found.rows})
        return
    output.listing(list(_lines(found.rows)), COLUMNS, form)
    if form is output.Format.TABLE:
        counts = _counts(found.rows)
        for name in found.left_out:
            print(output.plain(f"Not checked: {name}: no visit could be made up for it"))
        print(f"{counts['checked']} pages: {counts['ok']} ok, {counts['warnings']} warnings, {counts['errors']} errors")


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    states = [row["state"] for row in rows]
    return {
        "checked": len(rows),
        "ok": states.count("ok"),
        "warnings": states.count("warning"),
        "errors": states.count("error"),
    }


def _lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each page, and one more for each further problem."""
    lines = []
    for row in rows:
        shown = {**row, "shown": " ".join(row["shown"].values())}
        for finding in row["findings"] or [{"state": "ok", "what": None, "problem": None}]:
            lines.append({**shown, **finding})
    return lines


def _picture(folder: Path | None, place: int, case: webcases.Case) -> Path | None:
    if folder is None:
        return None
    words = re.sub(r"[^a-z0-9]+", "-", f"{case.site} {case.name} {case.url.partition('//')[2]}".lower()).strip("-")
    return folder / f"{place:03}-{words[:80]}.png"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Asked by writing: root may write anywhere but on a filesystem that is read-only.
        (folder / ".dialmark").touch()
        (folder / ".dialmark").unlink()
    except OSError as error:
        raise failures.Failure(f"--screenshots: {folder}: {error.strerror}") from None
