"""The plain tables of the routing file: sites, sources, agents, tracking numbers and bans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.config import handling, routes, tables, timetables, trunks
from gateway.core import book, numbers

_ENDPOINT = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_EXTENSION = re.compile(r"[0-9*#+]{1,20}")
_BAN_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}\*")


def read_site(table: tables.Table, key: str, read_trunks: Mapping[str, book.Trunk]) -> book.Site:
    """The site in `table`, without its default destination: destinations are read later."""
    for name in ("time_zone", "country"):
        if table.take(name) is None:
            table.wrong(name, "is missing")
    country = trunks.country(table, "")
    site = book.Site(
        key=key,
        name=table.text("name") or key,
        time_zone=timetables.time_zone(table, "time_zone") or "UTC",
        country=country,
        language=handling.language(table) or "en",
        default_destination="",
        outbound_trunk=table.reference("outbound_trunk", read_trunks, "trunk"),
        business_number=table.number("business_number", country),
        region=handling.region(table, country),
        recording=handling.recording(table),
        consent=handling.overrides(table),
    )
    if table.take("default_destination") is None:
        table.wrong("default_destination", "is missing: it takes the calls that nothing else routes")
    table.take("web")
    table.refuse_unknown()
    return site


def read_source(table: tables.Table, key: str, declared: frozenset[str]) -> book.Source:
    """The source in `table`; its campaign type follows from its channel unless it is said."""
    if table.take("channel") is None:
        table.wrong("channel", "is missing")
    channel = table.choice("channel", book.Channel, book.Channel.OTHER)
    offline = channel is book.Channel.OFFLINE
    source = book.Source(
        key=key,
        name=table.text("name") or key,
        channel=channel,
        campaign_type=table.choice(
            "campaign_type", book.CampaignType, book.CampaignType.OFFLINE if offline else book.CampaignType.CLICK
        ),
        medium=table.text("medium"),
        campaign=table.text("campaign"),
        parent=table.reference("parent", declared, "source"),
        cost_line=table.text("cost_line"),
    )
    table.refuse_unknown()
    return source


def refuse_circles(read_sources: Mapping[str, tuple[tables.Table, book.Source]]) -> None:
    """Note sources that are their own parent, directly or through others."""
    for key, (table, source) in read_sources.items():
        seen, parent = {key}, source.parent
        while parent is not None and parent in read_sources and parent not in seen:
            seen.add(parent)
            parent = read_sources[parent][1].parent
        if parent == key:
            table.wrong("parent", "leads back to this source")


def read_agent(table: tables.Table, key: str) -> book.Agent:
    """The agent in `table`."""
    agent = book.Agent(
        key=key,
        name=table.text("name") or key,
        extension=table.matching("extension", _EXTENSION, "1 to 20 digits"),
        endpoint=table.matching("endpoint", _ENDPOINT, "an endpoint's name of A-Z a-z 0-9 _ . + -"),
        languages=table.texts("languages"),
    )
    for index, language in enumerate(agent.languages):
        if not handling.LANGUAGE.fullmatch(language):
            table.wrong("languages", "must be language codes like ru or en-GB", index=index)
    table.refuse_unknown()
    return agent


def refuse_shared_endpoints(read_agents: Mapping[str, tuple[tables.Table, book.Agent]]) -> None:
    """Note two agents with one endpoint or extension: who answered could not be told."""
    for name in ("endpoint", "extension"):
        taken: dict[str, str] = {}
        for key, (table, agent) in read_agents.items():
            value = getattr(agent, name)
            if value is not None and taken.setdefault(value, key) != key:
                table.wrong(name, f"'{value}' is that of agent '{taken[value]}' already")


def read_tracking_number(
    table: tables.Table,
    routes_declared: frozenset[str],
    countries: Mapping[str, str],
    sources: Mapping[str, book.Source],
) -> book.TrackingNumber | None:
    """The number in `table`, None without a valid one; `countries` gives that of each route's site."""
    if table.take("route") is None:
        table.wrong("route", "is missing")
    route = table.reference("route", routes_declared, "route")
    written = table.required_text("number")
    country = countries.get(route or "", "")
    number = table.valid_number("number", written, country) if written else None
    source = table.reference("source", sources, "source")
    campaign, label = table.text("campaign"), table.text("label")
    limit = table.optional_whole("concurrency_limit", 1, 10_000)
    recording, overrides, language = handling.recording(table), handling.overrides(table), handling.language(table)
    table.refuse_unknown()
    if number is None or route is None:
        return None
    return book.TrackingNumber(
        number,
        route,
        source=source,
        campaign=campaign,
        label=label,
        concurrency_limit=limit,
        recording=recording,
        consent=overrides,
        language=language,
    )


def read_ban(table: tables.Table, site: book.Site) -> book.Ban | None:
    """The ban in `table`, None without a valid number; a day it expires on is the last day it holds, in the zone of
    `site`."""
    written = table.required_text("number")
    number: str | None = written
    if written.endswith("*"):
        if not _BAN_PREFIX.fullmatch(written):
            table.wrong("number", "a prefix must be + and digits before the *, like +7800*")
    elif written:
        number = _banned_number(table, written, site.country)
    action = table.choice("action", book.BanAction, book.BanAction.REFUSE)
    message = table.matching("message", routes.PROMPT, routes.PROMPT_SHAPE)
    if action is book.BanAction.MESSAGE and "message" not in table.raw:
        table.wrong("action", "needs a message")
    ban = book.Ban(
        number=number or "",
        action=action,
        reason=table.required_text("reason"),
        expires_at=_expiry(table, ZoneInfo(site.time_zone)),
        message=message,
    )
    table.refuse_unknown()
    return ban if ban.number else None


def _banned_number(table: tables.Table, written: str, country: str) -> str | None:
    """Unwanted callers often send numbers that no plan knows, so the shape is enough for one with `+`."""
    number = numbers.normalise(written, country, book.NumberForm.PLUS)
    if number is not None:
        return number
    if numbers.is_e164(written):
        return written
    return table.valid_number("number", written, country)


def _expiry(table: tables.Table, zone: ZoneInfo) -> datetime | None:
    value: Any = table.take("expires")
    if value is None:
        return None
    if isinstance(value, str):
        value = _from_text(value)
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo is not None else value.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, date):
            next_day = value + timedelta(days=1)
            return datetime(next_day.year, next_day.month, next_day.day, tzinfo=zone).astimezone(UTC)
    except OverflowError:
        value = None
    table.wrong("expires", "must be a day or a moment, like 2026-12-31 or 2026-12-31T18:00:00")
    return None


def _from_text(text: str) -> date | datetime | None:
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    return None
