"""`pools list` and `pools simulate`: how number pools stand, and how many numbers they need (R96, R98, R101, N5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output
from gateway.core.poolreplay import Policy

if TYPE_CHECKING:
    from gateway import store
    from gateway.cli import simulating
    from gateway.config.settings import Settings
    from gateway.core import book, webbook
    from gateway.core.pool import Freeze, Terms
    from gateway.core.poolmath import Outlook
    from gateway.services import poolwatch

app = typer.Typer(help="Number pools.", no_args_is_help=True)

STAY_DAYS = 28
"""As the daemon does for the freeze in force."""
DAY_US = 86_400 * 1_000_000

COLUMNS = (
    output.Column("pool", "Pool", is_whole=True),
    output.Column("site", "Site"),
    output.Column("route"),
    output.Column("numbers", "Numbers", is_number=True),
    output.Column("free", "Free", is_number=True),
    output.Column("lent", "Lent", is_number=True),
    output.Column("frozen", "Frozen", is_number=True),
    output.Column("called", "Called", is_number=True),
    output.Column("calls_up", "Calls up", is_number=True),
    output.Column("freeze", "Freeze", table_key="freeze_text"),
    output.Column("freeze_seconds"),
    output.Column("freeze_soft"),
    output.Column("overflow", "Overflow number"),
    output.Column("overflow_visits_24h", "Shown, 24 h", is_number=True),
    output.Column("exhausted_at", "Last alarm", table_key="exhausted"),
)


@app.callback()
def _group() -> None:
    """Number pools."""


@app.command("list", short_help="List the number pools in force, and how they stand.")
def list_pools(
    site: Annotated[str | None, typer.Option("--site", help="Only of this site.", metavar="KEY")] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List the number pools in force, and how they stand just now.

    Lent: a visitor is on the site. Frozen: kept for one who has left. Called: free of its visitor, but a call is up or
    a moment old. Shown: visits of the last 24 hours that began with the overflow number because nothing was free.
    """
    rows = context.run(_list(context.settings(config), site))
    output.listing(rows, COLUMNS, form, nothing="There are no pools: write [[pool]] into the routing file.")


@app.command(short_help="How many numbers a pool needs: by figures, or by the site's own visits.")
def simulate(
    visits_per_hour: Annotated[
        float | None, typer.Option("--visits-per-hour", help="Figures: visits in the busiest hour.", metavar="N")
    ] = None,
    stay: Annotated[float | None, typer.Option("--stay", help="Figures: mean time on site.", metavar="MINUTES")] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", help="Replay the visits that the rules send to this pool.", metavar="KEY")
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="Replay all visits of this site, whatever the rules.", metavar="KEY")
    ] = None,
    since: Annotated[str, typer.Option("--from", help="Replay: visits from then on.")] = "28d",
    until: Annotated[str, typer.Option("--to", help="Replay: visits before then.")] = "now",
    freeze: Annotated[
        str | None,
        typer.Option(
            "--freeze",
            help="auto (1.2 x the time on site), whole, or minutes. [default: the pool's, else auto]",
            metavar="FREEZE",
            show_default=False,
        ),
    ] = None,
    soft: Annotated[
        bool | None,
        typer.Option("--soft/--hard", help="Lend frozen numbers before the overflow number. [default: the pool's]"),
    ] = None,
    numbers: Annotated[
        list[int] | None, typer.Option("--numbers", help="A size to judge; may be repeated.", metavar="N")
    ] = None,
    late: Annotated[
        float | None,
        typer.Option("--late", help="Add the size that re-issues no number so soon, on average.", metavar="MINUTES"),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="Of one number a month, in your currency.", metavar="AMOUNT")
    ] = None,
    policy: Annotated[
        Policy, typer.Option("--policy", help="Which idle number goes first. The gateway knows the first only.")
    ] = Policy.LEAST_RECENT,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it, too: a name that ends with .svg or .png.", metavar="FILE")
    ] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """How many numbers a pool needs, what too few cost, and how often a late caller is taken for another visitor.

    By formula (Erlang B) from --visits-per-hour and --stay; or by playing the site's own visits again, with --pool or
    --site. Judged are the pool's size, each --numbers, and the sizes that show the overflow number to 1 % and to 0.1 %.

    \b
    Examples:
        dialmark pools simulate --visits-per-hour 300 --stay 4
        dialmark pools simulate --visits-per-hour 300 --stay 4 --freeze 20 --numbers 60 --price 150
        dialmark pools simulate --pool moscow --from 28d --plot moscow.svg
    """
    question = _Question(visits_per_hour, stay, pool, site, freeze, soft, tuple(numbers or ()), late, price, policy)
    question.check()
    if plot is not None:
        _check_plot(plot)
    if question.is_plain:
        answer = _by_figures(question, None)
    else:
        answer = context.run(_of_site(question, context.settings(config), since, until, with_curves=plot is not None))
    _print(answer, form)
    if plot is not None:
        _draw(answer, plot)


# ---- How pools stand ----


async def _list(settings: Settings, site: str | None) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.services import poolwatch

    now_us = moments.micros(context.now())
    async with context.database(settings) as database:
        in_force = await _book(settings, database)
        _known(site, in_force.sites, "--site")
        zone = await context.site_zone(database)
        async with database.read() as connection:
            standing = await poolwatch.standing(connection, in_force.web, now_us)
    return [_stands(one, zone) for one in standing if site in (None, one.pool.site)]


def _stands(one: poolwatch.PoolStands, zone: tzinfo) -> dict[str, Any]:
    from gateway.cli import moments

    return {
        "pool": one.pool.key,
        "site": one.pool.site,
        "route": one.pool.route,
        "numbers": one.now.size,
        "free": one.free,
        "lent": one.now.living,
        "frozen": one.now.frozen,
        "called": one.now.called,
        "calls_up": one.calls_up,
        "freeze": one.pool.freeze.mode.value,
        "freeze_seconds": round(one.terms.freeze_seconds),
        "freeze_soft": one.terms.soft,
        "freeze_text": _freeze_text(one.pool.freeze, one.terms),
        "overflow": one.pool.overflow,
        "overflow_visits_24h": one.overflow_visits,
        "exhausted_at": moments.rfc3339(one.exhausted_us),
        "exhausted": moments.shown(one.exhausted_us, zone),
    }


async def _terms(connection: store.Connection, site: str, freeze: Freeze, now_us: int) -> Terms:
    """What the pool goes by, worked out as the daemon does."""
    from gateway.core import pool
    from gateway.store import visits

    stay = await visits.mean_stay_seconds(connection, site, now_us - STAY_DAYS * DAY_US, now_us)
    return pool.terms(freeze, stay)


def _freeze_text(freeze: Freeze, terms: Terms) -> str:
    return f"{terms.freeze_seconds / 60:.1f} min, {freeze.mode.value}{', soft' if terms.soft else ''}"


async def _book(settings: Settings, database: store.Database) -> book.Book:
    found = await context.book_in_force(database, settings)
    if found is None:
        raise failures.Failure("there is no routing yet: `dialmark apply routing.toml` makes the first revision")
    return found


def _known(key: str | None, known: Any, option: str) -> None:
    if key is not None and key not in known:
        raise failures.Misuse(f"{option}: there is no '{key[:40]}'; there are {', '.join(list(known)[:20]) or 'none'}")


# ---- What is asked of the simulator ----


@dataclass(frozen=True, slots=True)
class _Question:
    visits_per_hour: float | None
    stay: float | None
    pool: str | None
    site: str | None
    freeze: str | None
    soft: bool | None
    numbers: tuple[int, ...]
    late: float | None
    price: float | None
    policy: Policy

    @property
    def has_figures(self) -> bool:
        return self.visits_per_hour is not None and self.stay is not None

    @property
    def is_plain(self) -> bool:
        """Needs no database."""
        return self.has_figures and self.pool is None and self.site is None

    def check(self) -> None:
        """Raises Misuse for what makes no sense."""
        from gateway.core import poolmath

        if (self.visits_per_hour is None) != (self.stay is None):
            raise failures.Misuse("--visits-per-hour and --stay belong together")
        if self.pool is not None and self.site is not None:
            raise failures.Misuse("--pool and --site: choose one; a pool knows its site")
        if not self.has_figures and self.pool is None and self.site is None:
            raise failures.Misuse(
                "give figures (--visits-per-hour 300 --stay 4), or --pool or --site to replay what happened"
            )
        options = (
            ("--visits-per-hour", self.visits_per_hour, 1e6),
            ("--stay", self.stay, 1_440.0),
            ("--late", self.late, 43_200.0),
            ("--price", self.price, 1e9),
        )
        for option, value, most in options:
            if value is not None and not 0 <= value <= most:
                raise failures.Misuse(f"{option}: {value:g} is not between 0 and {most:,.0f}")
        for size in self.numbers:
            if not 1 <= size <= poolmath.MAX_NUMBERS:
                raise failures.Misuse(f"--numbers: {size} is not between 1 and {poolmath.MAX_NUMBERS}")
        self.freeze_wanted(None)

    def freeze_wanted(self, of_pool: Freeze | None) -> Freeze:
        """The freeze that is meant. Raises Misuse."""
        from dataclasses import replace

        from gateway.core import pool

        found = of_pool if of_pool is not None else pool.Freeze()
        if self.freeze in ("auto", "whole"):
            found = replace(found, mode=pool.FreezeMode(self.freeze))
        elif self.freeze is not None:
            try:
                minutes = float(self.freeze)
            except ValueError:
                minutes = math.nan
            if not 0 <= minutes <= 1_440:
                raise failures.Misuse(f"--freeze: '{self.freeze[:40]}' is none of auto, whole and 0 to 1440 minutes")
            found = pool.Freeze(pool.FreezeMode.FIXED, minutes * 60, found.soft, 0.0, 86_400.0)
        return found if self.soft is None else replace(found, soft=self.soft)

    def of(self, terms: Terms, one: webbook.NumberPool | None) -> simulating.Pool:
        """The simulator's question."""
        from gateway.cli import simulating

        sizes = {*self.numbers, *([len(one.numbers)] if one is not None and one.numbers else [])}
        return simulating.Pool(
            terms.freeze_seconds / 60, terms.soft, self.policy, tuple(sorted(sizes)), self.price, self.late
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: simulating.Outcome
    about: str
    """Whose numbers, for headings."""
    question: _Question
    freeze: Freeze
    pool: webbook.NumberPool | None = None
    cost_line: str | None = None
    span: tuple[int, int] | None = None
    """Of a replay."""
    span_text: str = ""


def _by_figures(question: _Question, one: webbook.NumberPool | None, cost_line: str | None = None) -> _Answer:
    from gateway.cli import simulating
    from gateway.core import pool
    from gateway.core.poolmath import Demand

    assert question.visits_per_hour is not None and question.stay is not None
    freeze = question.freeze_wanted(one.freeze if one is not None else None)
    terms = pool.terms(freeze, question.stay * 60)
    demand = Demand(question.visits_per_hour / 60, question.stay, terms.freeze_seconds / 60)
    try:
        outcome = simulating.by_formula(question.of(terms, one), demand)
    except ValueError as error:
        raise failures.Misuse(f"{error}: check --visits-per-hour, --stay and --freeze") from None
    about = f"pool {one.key}" if one is not None else "a pool"
    return _Answer(outcome, about, question, freeze, one, cost_line)


async def _of_site(question: _Question, settings: Settings, since: str, until: str, *, with_curves: bool) -> _Answer:
    from gateway.cli import moments, progress, simulating

    async with context.database(settings) as database:
        in_force = await _book(settings, database)
        _known(question.pool, in_force.web.pools, "--pool")
        _known(question.site, in_force.web.sites, "--site")
        one = in_force.web.pools[question.pool] if question.pool is not None else None
        source = in_force.tracking_numbers.get((one.overflow or "")[1:]) if one is not None else None
        line = in_force.sources[source.source].cost_line if source is not None and source.source is not None else None
        if question.has_figures:
            return _by_figures(question, one, line)
        site = one.site if one is not None else question.site or ""
        zone = await context.site_zone(database)
        now = context.now()
        span = (
            moments.micros(moments.parse(since, "--from", now=now, zone=zone)),
            moments.micros(moments.parse(until, "--to", now=now, zone=zone)),
        )
        if span[0] >= span[1]:
            raise failures.Misuse("--from: is not before --to")
        freeze = question.freeze_wanted(one.freeze if one is not None else None)
        shown = progress.Progress()
        try:
            async with database.read() as connection:
                terms = await _terms(connection, site, freeze, moments.micros(now))
                found = await simulating.read_visits(
                    connection,
                    in_force,
                    site,
                    question.pool,
                    *span,
                    lambda _, read: shown.tell(f"{read:,} visits read"),
                )
            text = f"from {moments.shown(span[0], zone)} to {moments.shown(span[1], zone)}"
            if not found:
                raise failures.Failure(_nothing(question, text))
            outcome = simulating.by_replay(
                question.of(terms, one),
                found,
                with_curves=with_curves,
                progress=lambda size, done: shown.tell(
                    f"playing {len(found):,} visits with {size} numbers: {100 * done // len(found)} %"
                ),
            )
        finally:
            shown.end()
    about = f"pool {one.key} of {site}" if one is not None else f"all visits of {site}"
    return _Answer(outcome, about, question, freeze, one, line, span, text)


def _nothing(question: _Question, text: str) -> str:
    if question.pool is not None:
        return f"the rules in force send no visit {text} to pool {question.pool}; give figures, or another time"
    return f"site {question.site} had no visits {text}; give figures, or another time"


# ---- What is told ----


def _print(answer: _Answer, form: output.Format) -> None:
    rows = [_row(answer, place) for place in range(len(answer.outcome.outlooks))]
    if form is output.Format.JSON:
        output.json_document(_document(answer, rows))
        return
    if form is output.Format.TABLE:
        for line in _heading(answer):
            print(output.plain(line))
        print()
    output.listing(rows, _columns(answer), form)


def _heading(answer: _Answer) -> list[str]:
    outcome, demand = answer.outcome, answer.outcome.demand
    freeze = (
        f"freeze {demand.freeze_minutes:.1f} min ({answer.freeze.mode.value}{', soft' if answer.freeze.soft else ''})"
    )
    stay = f"{demand.stay_minutes:.1f} min on site, {freeze}"
    if outcome.visits is None:
        first = f"By formula, for {answer.about}: {demand.arrivals_per_minute * 60:g} visits an hour, {stay}"
    else:
        first = f"Replay of {answer.about}, {outcome.visits:,} visits {answer.span_text}"
    lines = [first]
    if outcome.visits is not None:
        lines.append(f"{demand.arrivals_per_minute * 60:g} visits in the busiest hour, {stay}")
    if answer.question.policy is not Policy.LEAST_RECENT:
        lines.append(f"Numbers are lent in another order than the gateway's: {answer.question.policy.value}")
    if answer.cost_line is not None:
        lines.append(f"Cost line: {answer.cost_line}")
    lines.append("Overflow: share of visits that are shown the overflow number. 5 min …: share of numbers that are")
    lines.append("another visitor's so long after theirs has left, so that a late call is taken for the other's.")
    return lines


def _columns(answer: _Answer) -> list[output.Column]:
    from gateway.core.poolmath import RISK_MINUTES

    columns = [
        output.Column("numbers", "Numbers", is_number=True),
        output.Column("for", "For", is_whole=True),
        output.Column("overflow_share", "Overflow", is_number=True, table_key="overflow_text"),
    ]
    if answer.outcome.busiest:
        columns.append(output.Column("busiest_hour_share", "Busiest hour", is_number=True, table_key="busiest_text"))
    columns += [
        output.Column(f"reissued_{minutes}_min", f"{minutes} min", is_number=True, table_key=f"text_{minutes}")
        for minutes in RISK_MINUTES
    ]
    columns.append(output.Column("reissue_minutes", "Lent again after", is_number=True, table_key="reissue_text"))
    if answer.question.price is not None:
        columns.append(output.Column("monthly_cost", "A month", is_number=True, table_key="cost_text"))
    return columns


def _row(answer: _Answer, place: int) -> dict[str, Any]:
    outcome = answer.outcome
    outlook = outcome.outlooks[place]
    row: dict[str, Any] = {
        "numbers": outlook.size,
        "for": ", ".join(_why(answer, outlook)),
        "overflow_share": outlook.overflow_share,
        "overflow_text": _percent(outlook.overflow_share),
        "reissue_minutes": _finite(outlook.reissue_minutes),
        "reissue_text": f"{outlook.reissue_minutes:.1f} min" if math.isfinite(outlook.reissue_minutes) else "never",
        "monthly_cost": outlook.monthly_cost,
        "cost_text": f"{outlook.monthly_cost:,.2f}" if outlook.monthly_cost is not None else None,
    }
    if outcome.busiest:
        share = outcome.busiest[place].overflow_share
        row |= {"busiest_hour_share": share, "busiest_text": _percent(share)}
    for minutes, risk in outlook.risks:
        row |= {f"reissued_{minutes:g}_min": _finite(risk), f"text_{minutes:g}": _percent(risk)}
    return row


def _why(answer: _Answer, outlook: Outlook) -> list[str]:
    outcome = answer.outcome
    found = ["the pool"] if answer.pool is not None and len(answer.pool.numbers) == outlook.size else []
    found += [f"{100 * share:g} %" for share, size in outcome.needed.items() if size == outlook.size]
    if outcome.late_size == outlook.size:
        found.append(f"calls {answer.question.late:g} min late")
    return found or ["asked"]


def _document(answer: _Answer, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from gateway.cli import moments

    outcome, demand = answer.outcome, answer.outcome.demand
    keys = [column.key for column in _columns(answer)]
    return {
        "by": "formula" if outcome.visits is None else "replay",
        "pool": answer.pool.key if answer.pool is not None else None,
        "site": answer.pool.site if answer.pool is not None else answer.question.site,
        "from": moments.rfc3339(answer.span[0]) if answer.span is not None else None,
        "to": moments.rfc3339(answer.span[1]) if answer.span is not None else None,
        "visits": outcome.visits,
        "visits_per_busiest_hour": demand.arrivals_per_minute * 60,
        "stay_minutes": demand.stay_minutes,
        "freeze": answer.freeze.mode.value,
        "freeze_minutes": demand.freeze_minutes,
        "freeze_soft": answer.freeze.soft,
        "policy": answer.question.policy.value,
        "erlangs": outcome.pool.effective(demand).erlangs,
        "price": answer.question.price,
        "cost_line": answer.cost_line,
        "needed": {f"{100 * share:g} %": size for share, size in outcome.needed.items()},
        "sizes": [{key: row.get(key) for key in keys} for row in rows],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


# ---- The plot ----


def _check_plot(path: Path) -> None:
    """Raises before a long replay what would be raised after it."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise failures.Misuse(f"--plot: {path.name[:60]} ends neither with .svg nor with .png")
    if not path.parent.is_dir():
        raise failures.Failure(f"--plot: there is no folder {path.parent}")
    try:
        from gateway.cli import poolplot  # noqa: F401 - whether its library is there
    except ImportError:
        raise failures.Failure("--plot needs matplotlib: pip install 'dialmark[plots]'") from None


def _draw(answer: _Answer, path: Path) -> None:
    from gateway.cli import poolplot

    size = len(answer.pool.numbers) if answer.pool is not None else None
    try:
        poolplot.draw(answer.outcome, path, about=answer.about, current=size)
    except OSError as error:
        raise failures.Failure(f"--plot: {path}: {error.strerror or error}") from None
    output.note(f"plot: {path}")
