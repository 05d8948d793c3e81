"""`pools list` and `pools simulate` (R96, R98, R100, R101, N5): the tables of attribution.md 2.3 come out of the
command's own functions, and a site's own visits are played again from the database."""

from __future__ import annotations

import asyncio
import math
import random
import struct
import xml.etree.ElementTree
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import store
from gateway.cli import context, moments, progress, simulating
from gateway.core import pool, poolmath, touches, traffic
from gateway.core.poolmath import Demand
from gateway.core.poolreplay import Policy, Visit
from gateway.store import leases, visits
from tests.cli.conftest import Operator
from tests.core import test_poolmath as tables
from tests.services import clinic

_T = TypeVar("_T")
MINUTE = 60_000_000
WEB = clinic.routing_book().web


# ---- attribution.md 2.3, every cell ----


@pytest.mark.parametrize(("rate", "stay", "freeze", "size", "load", "formula", "simulated"), tables.OVERFLOW)
def test_the_share_shown_the_overflow_number(
    rate: float, stay: float, freeze: float, size: int, load: float, formula: float, simulated: dict[str, float]
) -> None:
    asked = simulating.Pool(freeze, sizes=(size,), shares=())
    by_formula = simulating.by_formula(asked, Demand(rate, stay, freeze))
    assert share(by_formula, size) == pytest.approx(formula, abs=tables.WITHIN)
    assert asked.effective(by_formula.demand).erlangs == pytest.approx(load)
    for spread, expected in simulated.items():
        stream = tables.visits(rate, spread, stay, seed=4)
        played = simulating.by_replay(asked, stream, warm_up=0.1)
        assert share(played, size) == pytest.approx(expected, abs=tables.WITHIN), spread


@pytest.mark.parametrize(("case", "policy", "formula", "simulated", "gap", "simulated_gap"), tables.REISSUED)
def test_the_share_of_numbers_that_are_somebody_elses(
    case: tables.Case,
    policy: Policy,
    formula: tuple[float | None, ...],
    simulated: tuple[float, ...],
    gap: float,
    simulated_gap: float,
) -> None:
    rate, stay, freeze, size = case
    asked = simulating.Pool(freeze, policy=policy, sizes=(size,), shares=())
    by_formula = simulating.by_formula(asked, Demand(rate, stay, freeze))
    stream = tables.visits(rate, "lognormal", stay, seed=7, count=2 * tables.VISITS)
    played = simulating.by_replay(asked, stream, warm_up=0.1)
    for minutes, expected, found in zip(tables.MINUTES, formula, simulated, strict=True):
        if expected is not None and policy is not Policy.MOST_RECENT:
            assert risk(by_formula, size, minutes) == pytest.approx(expected, abs=tables.WITHIN), minutes
        elif policy is Policy.MOST_RECENT:
            assert math.isnan(risk(by_formula, size, minutes)), "there is no formula"
        assert risk(played, size, minutes) == pytest.approx(found, abs=tables.WITHIN), minutes
    assert outlook(by_formula, size).reissue_minutes == pytest.approx(gap, abs=0.05)
    assert outlook(played, size).reissue_minutes == pytest.approx(simulated_gap, abs=0.3)


@pytest.mark.parametrize(("freeze", "risks", "overflow"), tables.FREEZES)
def test_the_freeze_at_a_given_pool(freeze: float, risks: tuple[float, ...], overflow: float) -> None:
    asked = simulating.Pool(freeze, sizes=(30,))
    demand = Demand(1, 5, freeze)
    assert simulating.curve(asked, demand, 30, (15, 20, 25)) == pytest.approx(list(risks), abs=tables.WITHIN)
    assert share(simulating.by_formula(asked, demand), 30) == pytest.approx(overflow, abs=tables.WITHIN)


def test_a_soft_freeze_by_formula_is_what_a_replay_finds() -> None:
    """Frozen numbers are to be had, so only visitors on the site hold theirs; the order in which numbers go stays."""
    asked = simulating.Pool(6, soft=True, sizes=(9, 18))
    by_formula = simulating.by_formula(asked, Demand(1, 5, 6))
    played = simulating.by_replay(asked, tables.visits(1, "lognormal", 5, seed=4), warm_up=0.1)
    for size in asked.sizes:
        assert share(played, size) == pytest.approx(share(by_formula, size), abs=tables.WITHIN)
        for minutes in poolmath.RISK_MINUTES:
            assert risk(played, size, minutes) == pytest.approx(risk(by_formula, size, minutes), abs=0.015), minutes
    assert by_formula.needed == {0.01: 11, 0.001: 14}
    assert played.needed[0.01] == pytest.approx(11, abs=1)


def test_a_size_for_late_calls() -> None:
    """attribution.md 2.2: a number is somebody else's after c/λ - E[S] on average, whatever the freeze."""
    found = simulating.by_formula(simulating.Pool(6, late_minutes=30), Demand(1, 5, 6))
    assert found.late_size == 35
    assert outlook(found, 35).reissue_minutes >= 30


def outlook(found: simulating.Outcome, size: int) -> poolmath.Outlook:
    return next(one for one in found.outlooks if one.size == size)


def share(found: simulating.Outcome, size: int) -> float:
    return outlook(found, size).overflow_share


def risk(found: simulating.Outcome, size: int, minutes: float) -> float:
    """Of the table's minutes; those between are on the curve."""
    return dict(outlook(found, size).risks)[minutes]


# ---- Figures ----


def simulate(operator: Operator, *arguments: object) -> Any:
    return operator("pools", "simulate", *arguments, "--format", "json").json


def test_figures_need_neither_settings_nor_database(operator: Operator) -> None:
    operator.config.unlink()
    found = simulate(operator, "--visits-per-hour", 300, "--stay", 4, "--numbers", 40, "--price", 150)
    assert (found["by"], found["freeze"], found["freeze_minutes"]) == ("formula", "auto", pytest.approx(4.8))
    assert found["needed"] == {"1 %": 57, "0.1 %": 64}
    assert [(one["numbers"], one["for"], one["monthly_cost"]) for one in found["sizes"]] == [
        (40, "asked", 6_000),
        (57, "1 %", 8_550),
        (64, "0.1 %", 9_600),
    ]
    assert found["sizes"][0]["overflow_share"] == pytest.approx(poolmath.erlang_b(40, 44))


@pytest.mark.parametrize(("hourly", "total", "after", "twenty"), tables.HOLDS)
def test_the_operators_table(operator: Operator, hourly: int, total: int, after: int, twenty: int) -> None:
    """attribution.md 2.4: by the kind of freeze."""
    for freeze, expected in (("0.8", total), ("auto", after), ("20", twenty)):
        found = simulate(operator, "--visits-per-hour", hourly, "--stay", 4, "--freeze", freeze)
        assert found["needed"]["1 %"] == expected


def test_the_table_for_people_says_what_it_means(operator: Operator) -> None:
    said = operator("pools", "simulate", "--visits-per-hour", 60, "--stay", 5, "--freeze", 6, "--numbers", 18)
    assert "60 visits an hour, 5.0 min on site, freeze 6.0 min (fixed)" in said.lines[0]
    row = next(line.split() for line in said.lines if line.split()[:1] == ["18"])
    assert row[:8] == ["18", "asked", "1.5", "%", "0.0", "%", "22.6", "%"]
    assert row[-2:] == ["13.3", "min"]
    csv = operator("pools", "simulate", "--visits-per-hour", 60, "--stay", 5, "--format", "csv").lines
    assert csv[0] == (
        "numbers,for,overflow_share,reissued_5_min,reissued_10_min,reissued_15_min,reissued_20_min,reissued_30_min,"
        "reissued_60_min,reissue_minutes"
    )
    assert len(csv) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give figures"),
        (("--stay", "4"), "belong together"),
        (("--visits-per-hour", "300"), "belong together"),
        (("--visits-per-hour", "-1", "--stay", "4"), "--visits-per-hour: -1 is not between"),
        (("--visits-per-hour", "nan", "--stay", "4"), "--visits-per-hour: nan is not between"),
        (("--visits-per-hour", "300", "--stay", "inf"), "--stay: inf is not between"),
        (("--visits-per-hour", "1000000", "--stay", "1440"), "more than 100000 numbers"),
        (("--visits-per-hour", "300", "--stay", "4", "--freeze", "long"), "'long' is none of auto, whole"),
        (("--visits-per-hour", "300", "--stay", "4", "--freeze", "nan"), "is none of auto, whole"),
        (("--visits-per-hour", "300", "--stay", "4", "--numbers", "0"), "--numbers: 0 is not between 1 and"),
        (("--visits-per-hour", "300", "--stay", "4", "--price", "-2"), "--price: -2 is not"),
        (("--visits-per-hour", "300", "--stay", "4", "--plot", "a.gif"), "neither with .svg nor with .png"),
        (("--pool", "moscow", "--site", "clinic"), "choose one"),
        (("--pool", "mosow"), "--pool: there is no 'mosow'; there are moscow"),
        (("--site", "nowhere"), "--site: there is no 'nowhere'; there are clinic"),
        (("--pool", "moscow", "--from", "soon"), "--from: 'soon' is not a time"),
        (("--pool", "moscow", "--from", "today", "--to", "2d"), "--from: is not before --to"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_arguments(operator: Operator, arguments: tuple[str, ...], message: str) -> None:
    operator.apply(clinic.ROUTING)
    said = operator("pools", "simulate", *arguments, code=2)
    assert message in said.err and said.out == ""


# ---- The site's own visits ----


class Site:
    """An operator of a clinic with a pool of two numbers, and visits in its database."""

    def __init__(self, operator: Operator, url: str, routing: str = clinic.ROUTING) -> None:
        self.operator = operator
        self.url = url
        operator.config.write_text(operator.config.read_text().replace(f"sqlite:///{operator.folder}/dialmark.db", url))
        operator.apply(routing)
        self.now_us = moments.micros(context.now())

    def run(self, work: Callable[[store.Database], Coroutine[Any, Any, _T]]) -> _T:
        async def with_database() -> _T:
            database = await store.Database.open(self.url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(with_database())

    def put(self, *made: visits.Visit) -> None:
        """Visits, as the daemon stores them."""

        async def save(database: store.Database) -> None:
            people = {
                one.touch.visitor_id: visits.Person(one.touch.visitor_id, one.site, one.touch.at_us, one.seen_us)
                for one in made
            }
            async with database.begin() as tx:
                await visits.save(tx, list(people.values()), made, [])

        self.run(save)


def visit(
    at_us: int, stay: float, visitor: str, url: str = clinic.PAGE, *, number: int = 0, is_touch: bool = True
) -> visits.Visit:
    """One of `stay` minutes."""
    landing = traffic.landing(url, "", {}, WEB.traffic)
    came = traffic.classify(landing, WEB.traffic, ("clinic.example",))
    touch = touches.Touch(at_us, f"visit-{number:06}-{visitor}", visitor, came, None, url, None)
    return visits.Visit(touch, landing, "clinic", at_us + round(stay * MINUTE), is_touch=is_touch)


@pytest.fixture
def site(operator: Operator, database_url: str) -> Site:
    return Site(operator, database_url)


def test_a_replay_of_what_happened(site: Site) -> None:
    """On both engines: more visits than are read at a time, with the share of the table's case."""
    dice, at, made, streamed = random.Random(11), 0.0, [], []
    began_us = site.now_us - 9 * 1_440 * MINUTE
    for number in range(simulating.PAGE + 1_000):
        at += dice.expovariate(1)
        stay = dice.expovariate(1 / 5)
        made.append(visit(began_us + round(at * MINUTE), stay, f"v{number}", number=number))
        streamed.append(Visit(at, stay))
    site.put(*made)
    found = simulate(site.operator, "--pool", "moscow", "--from", "10d", "--freeze", "6", "--numbers", 18)
    assert (found["by"], found["visits"], found["pool"], found["site"]) == ("replay", len(made), "moscow", "clinic")
    assert found["stay_minutes"] == pytest.approx(5, abs=0.3)
    sizes = {one["numbers"]: one for one in found["sizes"]}
    assert sizes[2]["for"] == "the pool" and sizes[2]["overflow_share"] > 0.7
    assert sizes[18]["overflow_share"] == pytest.approx(0.0148, abs=tables.WITHIN)
    direct = simulating.by_replay(simulating.Pool(6, sizes=(18,)), streamed)
    assert sizes[18]["overflow_share"] == pytest.approx(share(direct, 18))
    assert sizes[18]["reissued_20_min"] == pytest.approx(risk(direct, 18, 20), abs=0.001)
    assert found["needed"] == {"1 %": direct.needed[0.01], "0.1 %": direct.needed[0.001]}
    busiest = Demand(found["visits_per_busiest_hour"] / 60, found["stay_minutes"], 6)
    assert sizes[18]["busiest_hour_share"] == pytest.approx(poolmath.erlang_b(18, busiest.erlangs))


def test_only_visits_that_the_rules_send_to_the_pool_are_played(site: Site) -> None:
    """A visit that went on where an earlier one was is judged by that one, also when it lies before the time asked."""
    leaflet = "https://clinic.example/leaflet"
    site.put(
        visit(site.now_us - 3_000 * MINUTE, 1, "old-leaflet", leaflet, number=1),
        visit(site.now_us - 3_000 * MINUTE, 1, "old-pool", number=2),
        visit(site.now_us - 100 * MINUTE, 1, "old-leaflet", number=3, is_touch=False),
        visit(site.now_us - 90 * MINUTE, 1, "old-pool", leaflet, number=4, is_touch=False),
        visit(site.now_us - 80 * MINUTE, 1, "new-leaflet", leaflet, number=5),
        visit(site.now_us - 70 * MINUTE, 1, "new-pool", number=6),
        visit(site.now_us - 60 * MINUTE, 1, "new-leaflet", number=7, is_touch=False),
        visit(site.now_us - 50 * MINUTE, 1, "new-leaflet", number=8),
    )

    def played(*options: object) -> int:
        return int(simulate(site.operator, *options, "--from", "1d")["visits"])

    assert played("--pool", "moscow") == 3
    assert played("--site", "clinic") == 6
    assert played("--site", "clinic", "--to", "65m") == 4


def test_a_pool_lends_its_settings_to_figures(site: Site) -> None:
    site.operator.apply(
        clinic.ROUTING.replace(
            'overflow_source = "leftover"', 'overflow_source = "leftover"\nfreeze_seconds = 600\nfreeze_soft = true'
        ).replace('name = "Leftover"', 'name = "Leftover"\ncost_line = "4711-web"')
    )
    found = simulate(site.operator, "--pool", "moscow", "--visits-per-hour", 60, "--stay", 5)
    assert (found["by"], found["freeze_minutes"], found["freeze_soft"]) == ("formula", 10, True)
    assert (found["cost_line"], found["sizes"][0]["numbers"], found["sizes"][0]["for"]) == ("4711-web", 2, "the pool")
    assert found["erlangs"] == pytest.approx(5)
    hard = simulate(site.operator, "--pool", "moscow", "--visits-per-hour", 60, "--stay", 5, "--hard", "--freeze", 1)
    assert (hard["freeze_minutes"], hard["freeze_soft"], hard["erlangs"]) == (1, False, pytest.approx(6))


def test_nothing_to_replay(site: Site) -> None:
    said = site.operator("pools", "simulate", "--pool", "moscow", code=1)
    assert "send no visit from" in said.err and "give figures" in said.err
    assert "had no visits" in site.operator("pools", "simulate", "--site", "clinic", code=1).err


def test_long_replays_say_how_far_they_are(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PIPED_SECONDS", 0.0)
    site.put(*(visit(site.now_us - number * MINUTE, 1, f"v{number}", number=number) for number in range(1, 30)))
    said = site.operator("pools", "simulate", "--pool", "moscow", "--format", "json")
    assert "playing 29 visits with 2 numbers: 0 %" in said.err
    assert said.json["visits"] == 29


# ---- Pictures ----


def size_of_png(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("options", [(), ("--pool", "moscow")], ids=["formula", "pool"])
def test_a_picture_as_svg_and_png(site: Site, options: tuple[str, ...]) -> None:
    figures = ("--visits-per-hour", 300, "--stay", 4, *options)
    first, second, third = (site.operator.folder / name for name in ("a.svg", "b.SVG", "c.png"))
    for path in (first, second, third):
        assert f"plot: {path}" in site.operator("pools", "simulate", *figures, "--plot", path).err
    assert xml.etree.ElementTree.parse(first).getroot().tag.endswith("svg")
    assert first.read_bytes() == second.read_bytes(), "the same question, the same file"
    assert size_of_png(third)[0] >= 1_500


def test_a_picture_of_a_replay(site: Site) -> None:
    site.put(*(visit(site.now_us - number * MINUTE, 7, f"v{number}", number=number) for number in range(1, 200)))
    path = site.operator.folder / "replay.png"
    site.operator("pools", "simulate", "--pool", "moscow", "--from", "1d", "--plot", path)
    assert size_of_png(path)[0] >= 1_500
    # One visit, one number, and policies that have no formula.
    for policy in Policy:
        site.operator(
            *("pools", "simulate", "--visits-per-hour", 1, "--stay", 0, "--freeze", 0, "--policy", policy.value),
            *("--plot", path),
        )


def test_a_picture_cannot_be_written(site: Site) -> None:
    figures = ("pools", "simulate", "--visits-per-hour", 300, "--stay", 4, "--plot")
    assert "there is no folder" in site.operator(*figures, site.operator.folder / "no" / "a.svg", code=1).err
    (site.operator.folder / "d.svg").mkdir()
    assert "Is a directory" in site.operator(*figures, site.operator.folder / "d.svg", code=1).err


# ---- How pools stand ----


def test_how_the_pools_stand(site: Site) -> None:
    """R96, R98, R100: from the very tables that the daemon lends by, on both engines."""
    (row,) = site.operator("pools", "list", "--format", "json").json
    assert (row["pool"], row["site"], row["numbers"], row["free"], row["calls_up"]) == ("moscow", "clinic", 2, 2, 0)
    assert (row["freeze"], row["freeze_seconds"], row["overflow"]) == ("auto", 360, clinic.OVERFLOW)
    site.put(visit(site.now_us - 60 * MINUTE, 10, "v1"))

    async def lend(database: store.Database) -> None:
        lending = clinic.Clinic(database, now_us=site.now_us)
        first = await lending.open()
        await lending.open()
        for _ in range(3):
            await lending.open()
        await lending.leave(first)
        async with database.begin() as tx:
            read = await leases.slot_of(tx, clinic.FIRST)
            assert read is not None
            await leases._write(tx, [(read[1], pool.with_calls(read[1], 1, site.now_us, pool.Terms(360)))])

    site.run(lend)
    (row,) = site.operator("pools", "list", "--format", "json").json
    assert row["overflow_visits_24h"] == 3 and row["exhausted_at"] is not None
    assert (row["free"], row["lent"] + row["frozen"], row["called"], row["calls_up"]) == (0, 2, 0, 1)
    assert row["freeze_seconds"] < 720
    table = site.operator("pools", "list", "--site", "clinic").lines
    assert table[0].split()[:4] == ["Pool", "Site", "Numbers", "Free"] and clinic.OVERFLOW in table[1]
    assert "there is no 'nowhere'" in site.operator("pools", "list", "--site", "nowhere", code=2).err


def test_without_routing_or_pools(operator: Operator) -> None:
    assert "database not available" in operator("pools", "list", code=1).err
    operator.apply()
    said = operator("pools", "list")
    assert "There are no pools" in said.err and said.out == ""
    assert "there are none" in operator("pools", "simulate", "--pool", "moscow", code=2).err
