"""`explain`: why a call goes where it goes, by the very decision that the daemon takes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import attribution, book, routing, rules


def explain(
    number: Annotated[str, typer.Argument(help="The number that is dialled.", metavar="NUMBER")],
    caller: Annotated[str, typer.Option("--from", help="Who calls; nobody known if left out.", metavar="N")] = "",
    at: Annotated[str, typer.Option("--at", help="When: now, 2026-11-21T09:30 (zone of the site), …")] = "now",
    trunk: Annotated[str | None, typer.Option("--trunk", help="Through which trunk.", metavar="KEY")] = None,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show the way a call would take now: who rings, how long, what follows, and which rules said so.

    Asks the same code and the same history as the daemon, and shows what happens when the daemon is down.

    \b
    Examples:
        dialmark explain +74990000001
        dialmark explain 84990000001 --from +79161234567 --at 2026-11-22T03:00
    """
    context.run(_explain(context.settings(config), number, caller, at, trunk, form))


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """The decision with everything it was taken from."""

    question: routing.Question
    history: routing.History
    plan: routing.Plan
    default: routing.DefaultPlan
    number: book.TrackingNumber | None
    who: attribution.Attribution | None
    """Who would be named of a pool's number; None: the number alone tells."""
    zone: tzinfo
    rules: tuple[rules.Rule, ...] = ()
    """Those that may score the call."""


async def _explain(
    settings: Settings, number: str, caller: str, at: str, trunk: str | None, form: output.Format
) -> None:
    from gateway.cli import moments
    from gateway.core import plans, routing

    async with context.database(settings) as database:
        in_force = await context.book_in_force(database, settings)
        if in_force is None:
            raise failures.Failure("there is no routing yet: `dialmark apply routing.toml` makes the first revision")
        zone = await context.site_zone(database)
        if trunk is not None and trunk not in in_force.trunks:
            raise failures.Misuse(f"--trunk: there is no trunk '{trunk}'; there are {', '.join(in_force.trunks)}")
        moment = moments.parse(at, "--at", now=context.now(), zone=zone)
        country = in_force.default_site.country
        question = routing.Question(
            call_id="explain",
            did=_digits(number, country, "NUMBER"),
            caller=_digits(caller, country, "--from") if caller else "",
            at=moment,
            trunk=trunk,
        )
        history = await look_up(database, question, in_force)
        who = await _who(database, question, in_force)
    refusal = await asyncio.to_thread(_refusal, settings)
    plan = routing.decide(question, in_force, history)
    tracking = in_force.tracking_numbers.get(question.did)
    made = Explanation(
        question,
        history,
        plan if refusal is None else plans.unrecorded(plan, refusal),
        routing.default_plan(tracking, in_force),
        tracking,
        who,
        zone,
        _rules(question, history, plan, who, in_force),
    )
    if form is output.Format.TABLE:
        print("\n".join(output.plain(line) for line in _text(made)))
    elif form is output.Format.JSON:
        output.json_document(_document(made))
    else:
        columns = [output.Column(key) for key in ("step", "kind", "destination", "dial", "ring_seconds")]
        output.listing(_step_rows(made.plan), columns, form)


def _refusal(settings: Settings) -> str | None:
    """Why the running daemon has no new call recorded; None when it does, or when there is no daemon to ask."""
    from gateway.cli import service

    document, _ = service.readiness(settings)
    check = (document.get("checks") or {}).get("recordings") or {}
    is_off = (check.get("facts") or {}).get("recorded") is False
    return str(check.get("summary") or "") if is_off else None


def _digits(written: str, country: str, name: str) -> str:
    """E.164 digits as the dialplan would make them of a national or international number."""
    from gateway.core import book, numbers

    if written.lower() in ("", "anonymous", "unknown"):
        return ""
    normal = numbers.normalise(written, country, book.NumberForm.PLUS)
    if normal is not None:
        return normal.lstrip("+")
    digits = "".join(character for character in written if character.isascii() and character.isdigit())
    if not digits:
        raise failures.Misuse(f"{name}: '{written[:40]}' has no digits; write it with its country: +74990000001")
    return digits[:20]


async def look_up(database: store.Database, question: routing.Question, in_force: book.Book) -> routing.History:
    """What the router would know of the caller and the destinations when this call comes."""
    from gateway.cli import moments
    from gateway.core import consent, numbers, routing
    from gateway.services import attributing
    from gateway.store import agents, calls

    wanted = routing.look_ups(question.did, in_force)
    number = f"+{question.caller}" if question.caller else ""
    at_us = moments.micros(question.at)
    before = last = visitor = None
    idle: dict[str, datetime] = {}
    turns: dict[str, int] = {}
    async with database.read() as connection:
        if number:
            # Always asked: people want to see it, whether a rule needs it or not.
            before = await calls.calls_before(connection, number, at_us)
        if wanted.last_agent and number:
            days = max((route.sticky_days for route in in_force.routes.values()), default=0)
            since = question.at - timedelta(days=days)
            last = await calls.last_answering_agent(connection, number, moments.micros(since))
        if wanted.turns:
            turns = await calls.turns(connection, moments.micros(question.at - timedelta(days=1)))
        if wanted.idle_since:
            seen = await calls.idle_since(connection, list(in_force.destinations))
            idle = {key: moments.moment(one.ended_us) for key, one in seen.items() if one.ended_us is not None}
        if wanted.visitor:
            visitor = await attributing.visitor_of(connection, question, in_force)
        away = await agents.on_break(connection)
    return routing.History(
        calls_before=before,
        last_agent=last.agent if last else None,
        last_agent_at=moments.moment(last.answered_us) if last else None,
        turns=turns,
        idle_since=idle,
        on_break=away,
        caller_country=numbers.country_of(number) if number else None,
        caller_region=numbers.region_of(number, "en") if number else None,
        consent_region=consent.caller_region(number) if number else None,
        city=(numbers.region_of(number, wanted.city) or "") if number and wanted.city is not None else "",
        visitor=visitor,
    )


async def _who(
    database: store.Database, question: routing.Question, in_force: book.Book
) -> attribution.Attribution | None:
    from gateway.cli import moments
    from gateway.core import records
    from gateway.services import attributing

    number = in_force.tracking_numbers.get(question.did)
    if number is None or not attributing.is_ours(number, in_force):
        return None
    asked = attributing.Question(
        question.call_id, number.number, moments.micros(question.at), records.e164(question.caller)
    )
    async with database.read() as connection:
        found = await attributing.find(connection, asked, number, in_force)
    return found.attribution if found is not None else None


def _rules(
    question: routing.Question,
    history: routing.History,
    plan: routing.Plan,
    who: attribution.Attribution | None,
    in_force: book.Book,
) -> tuple[rules.Rule, ...]:
    """What the rules can say of such a call, as far as is known before it."""
    from gateway.core import attribution, records, scoring

    found = who or attribution.of_number(in_force.tracking_numbers.get(question.did), in_force)
    beforehand = {
        "direction": "inbound",
        "started_at": question.at.isoformat(),
        "route": plan.route,
        "attribution": records.attributed(found),
        "caller": {"first_time": None if history.calls_before is None else history.calls_before == 0},
    }
    return tuple(scoring.possible(beforehand, in_force))


def _text(made: Explanation) -> Iterator[str]:
    question, plan = made.question, made.plan
    caller = f"+{question.caller}" if question.caller else "an unknown caller"
    yield f"+{question.did or '?'} called by {caller} at {question.at.astimezone(made.zone):%A %Y-%m-%d %H:%M %Z}"
    if question.caller:
        yield f"  {_known(made.history)}"
    yield from _visitors(made)
    yield ""
    yield f"Route {plan.route or 'none'} (routing revision {plan.revision}): {_ACTIONS[plan.action.value]}"
    yield from (f"  {line}" for line in _steps(plan))
    yield ""
    yield "Why"
    yield from (f"  - {reason}" for reason in plan.why)
    yield ""
    if made.rules:
        yield "Rules that may score it"
        yield from (f"  - {rule.key}: {rule.when.words}: {rule.gives}" for rule in made.rules)
        yield ""
    yield from _default(made)


def _visitors(made: Explanation) -> Iterator[str]:
    if made.number is None or made.number.pool is None:
        return
    yield f"  {made.number.kind.value} number of pool {made.number.pool}"
    if made.who is not None and made.who.visitor_id is not None:
        came = ", ".join(word for word in (made.who.source_name, made.who.campaign, made.who.term) if word)
        yield f"  probably visitor {made.who.visitor_id} ({made.who.confidence:.0%}): {came or 'source not known'}"
    elif made.number.kind.value == "pool":
        yield f"  no visitor is named ({len(made.who.candidates) if made.who is not None else 0} may have called)"


def _known(history: routing.History) -> str:
    parts = []
    if history.calls_before is not None:
        before = history.calls_before
        parts.append("first-time caller" if not before else f"repeat caller, {before} calls before")
    place = ", ".join(part for part in (history.caller_region, history.caller_country) if part)
    if place:
        parts.append(f"number of {place}")
    if history.last_agent:
        parts.append(f"last answered by agent {history.last_agent}")
    return "; ".join(parts) or "nothing known of the caller"


_ACTIONS = {
    "dial": "rings",
    "prep": "rings, after the concurrency limit or the caller ID is seen to",
    "full": "rings, with consent, recording, whisper or acceptance as said below",
    "after_hours": "plays the after-hours message and ends",
    "no_route": "ends: nobody is there to ring",
    "ban_busy": "the caller hears busy",
    "ban_refuse": "the call is refused",
    "ban_message": "the caller hears a message, then the call ends",
    "ban_challenge": "the caller must press 1, then it rings",
}


def _steps(plan: routing.Plan) -> Iterator[str]:
    for number, step in enumerate(plan.steps, start=1):
        members = " + ".join(f"{one.key} ({one.dial_string})" for one in step.destinations)
        yield f"{number}. {step.kind:<7} {members}, {step.ring_seconds} s"
        shown = [f"shows {step.caller_number}"] if step.caller_number else []
        shown += [f'name begins with "{step.caller_label}"'] if step.caller_label else []
        if shown:
            yield f"     {', '.join(shown)}"
        if step.next_after is not None:
            yield "     then " + ", ".join(
                f"{cause}: {f'step {following}' if following else 'end'}"
                for cause, following in step.next_after.items()
            )
    if plan.steps:
        yield f"in all at most {plan.longest_wait_seconds} s"
    if plan.concurrency_limit is not None:
        yield f"at most {plan.concurrency_limit} calls at once, then busy"
    if plan.whisper and plan.whisper[0].text:
        yield f"the agent is told: {plan.whisper[0].text}"
    if plan.message is not None:
        how = "after answering" if plan.answer_for_message else "as early media"
        yield f"message {plan.message} {how} when nobody takes the call"


def _default(made: Explanation) -> Iterator[str]:
    plan = made.default
    if plan.closed is None or plan.hours is None:
        yield "When the daemon is down"
        yield from (f"  {line}" for line in _steps(plan.open) or ())
        if not plan.open.steps:
            yield f"  {_ACTIONS[plan.open.action.value]}"
        return
    for name, one in (("open", plan.open), ("closed", plan.closed)):
        yield f"When the daemon is down, business hours {plan.hours.key} {name}"
        yield from (f"  {line}" for line in _steps(one))
        if not one.steps:
            yield f"  {_ACTIONS[one.action.value]}"


def _document(made: Explanation) -> dict[str, Any]:
    from gateway.core import records

    default = made.default
    return {
        "number": f"+{made.question.did}",
        "caller": f"+{made.question.caller}" if made.question.caller else None,
        "at": made.question.at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "known": {
            "calls_before": made.history.calls_before,
            "country": made.history.caller_country,
            "region": made.history.caller_region,
            "last_agent": made.history.last_agent,
        },
        "source": made.number.source if made.number else None,
        "campaign": made.number.campaign if made.number else None,
        "pool": made.number.pool if made.number else None,
        "attribution": records.attributed(made.who) if made.who is not None else None,
        "rules": [{"rule": one.key, "when": one.when.words, "gives": one.gives} for one in made.rules],
        "plan": _plan_document(made.plan),
        "when_daemon_is_down": {
            "hours": default.hours.key if default.hours else None,
            "open": _plan_document(default.open),
            "closed": _plan_document(default.closed) if default.closed else None,
        },
    }


def _plan_document(plan: routing.Plan) -> dict[str, Any]:
    return {
        "revision": plan.revision,
        "route": plan.route,
        "action": plan.action.value,
        "steps": [
            {
                "kind": step.kind.value,
                "destinations": [{"key": one.key, "dial": one.dial_string} for one in step.destinations],
                "ring_seconds": step.ring_seconds,
                "next_after": {cause.value: to for cause, to in step.next_after.items()} if step.next_after else None,
                "caller_number": step.caller_number,
                "caller_label": step.caller_label,
            }
            for step in plan.steps
        ],
        "longest_wait_seconds": plan.longest_wait_seconds,
        "concurrency_limit": plan.concurrency_limit,
        "message": plan.message,
        "whisper": plan.whisper[0].text or None if plan.whisper else None,
        "why": list(plan.why),
    }


def _step_rows(plan: routing.Plan) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(plan.steps, start=1):
        for one in step.destinations:
            yield {
                "step": number,
                "kind": step.kind.value,
                "destination": one.key,
                "dial": one.dial_string,
                "ring_seconds": step.ring_seconds,
            }
