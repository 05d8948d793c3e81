"""The routing decision: a question about one call, answered with the whole plan of that call (C1-C3).

`decide` is the only place where a route is chosen: the daemon, `dialmark explain` and the generated default plan call
it. The answer needs nobody any more: the dialplan rings its steps, falls back and ends the call by itself (N2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import quote

from gateway.core import banlist, book, handling, strategies, whisper
from gateway.core import hours as business_hours
from gateway.core import numbers as phone_numbers
from gateway.core.plans import Acceptance, Action, DefaultPlan, History, LookUps, Plan, Question, Rating, Step

__all__ = [
    "Acceptance",
    "Action",
    "DefaultPlan",
    "History",
    "LookUps",
    "Plan",
    "Question",
    "Rating",
    "Step",
    "caller_label",
    "decide",
    "default_plan",
    "layouts",
    "look_ups",
]

MAX_LABEL_BYTES = 60
"""Of `Step.caller_label`, percent-encoded: what one caller-name prefix may take of the answer's line."""

DEFAULT_RING_SECONDS = 60
"""Ring time of a site's default destination, which is the only one there and so rings long."""

_MAX_CACHED_PLANS = 4096
_NO_EXCEPTION = -1
_PLAIN = handling.Call()
_OF_VISITOR = frozenset({"source", "campaign", "keyword", "city"})
"""Placeholders of whispers that a visitor fills."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """Everything about a call that changes its plan, so that equal choices share one plan."""

    did: str
    exception: int = _NO_EXCEPTION
    closed: bool = False
    order: tuple[str, ...] = ()
    sticky: str | None = None
    call: handling.Call = _PLAIN
    away: frozenset[str] = frozenset()
    """Lines of agents on break."""


@dataclass(slots=True)
class _Compiled:
    bans: banlist.BanList
    agents: dict[str, tuple[book.Destination, ...]]
    plans: dict[_Choice, Plan] = field(default_factory=dict)


_Group = tuple[str, ...]


def decide(question: Question, routing: book.Book, history: History) -> Plan:
    """The plan of one call: ban list, then the number's route with its exceptions, hours, sticky agent and strategy.

    Total for every consistent book: an unknown number goes to the default site's default destination.
    """
    compiled = _compiled(routing)
    ban = compiled.bans.about(question.caller, question.at)
    number = routing.tracking_numbers.get(question.did)
    if number is None:
        plan = _unknown_number(question.did, routing)
    else:
        plan = _planned(_choice(question, routing, history, number, compiled), routing, number, compiled)
    return plan if ban is None else _banned(plan, ban)


def default_plan(number: book.TrackingNumber | None, routing: book.Book) -> DefaultPlan:
    """The plan of `number` without daemon: no ban list, no sticky agent, first turn of every strategy; None gives the
    plan of numbers that the book does not know.

    An exception that names hours holds here only where these are the route's own hours, since the dialplan looks at
    one timetable per number; exceptions about the caller's region never hold.
    """
    if number is None:
        return DefaultPlan(_unknown_number("", routing))
    did = number.number.lstrip("+")
    route = routing.routes[number.route]
    open_plan = _plan(_default_choice(did, route, number, routing, closed=False), routing, number)
    if route.hours is None:
        return DefaultPlan(open_plan)
    closed_plan = _plan(_default_choice(did, route, number, routing, closed=True), routing, number)
    return DefaultPlan(open_plan, closed_plan, routing.hours[route.hours])


def look_ups(did: str, routing: book.Book) -> LookUps:
    """What `decide` wants to know for a call to `did` (digits): most routes want nothing and need no database."""
    number = routing.tracking_numbers.get(did)
    if number is None:
        return LookUps()
    route = routing.routes[number.route]
    conditions = [exception.condition for exception in route.exceptions]
    spoken = whisper.names(route.whisper)
    used = {route.strategy, *(exception.strategy or route.strategy for exception in route.exceptions)}
    return LookUps(
        calls_before="first_or_repeat" in spoken or any(one.first_time is not None for one in conditions),
        last_agent=route.sticky_days > 0,
        turns=bool(used & {book.Strategy.ROUND_ROBIN, book.Strategy.WEIGHTED}),
        idle_since=book.Strategy.LONGEST_IDLE in used,
        region=any(_is_region_name(region) for condition in conditions for region in condition.regions),
        consent_region=handling.rules_of(number, route, routing).recording is book.RecordingMode.REGION,
        city=handling.language_of(number, route, routing) if "city" in spoken else None,
        visitor=number.kind is not book.TrackingKind.STATIC and bool(spoken & _OF_VISITOR) and bool(routing.web.sites),
    )


def layouts(route: book.Route, routing: book.Book, did: str) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """The largest lists of steps that calls to `did` can get by `route`, each with a name: what `apply` measures."""
    number = routing.tracking_numbers.get(did)
    for index in range(_NO_EXCEPTION, len(route.exceptions)):
        name = "the route" if index == _NO_EXCEPTION else f"exception {index + 1}"
        for sticky in _possible_sticky(route, routing):
            yield name, _steps(_Layout(route, routing, did, number, index, _forward(route, index), sticky))
    if route.hours is not None:
        yield "after hours", _steps(_Layout(route, routing, did, number, _NO_EXCEPTION, (), None, closed=True))


def _possible_sticky(route: book.Route, routing: book.Book) -> Iterator[book.Destination | None]:
    """None, each agent's line of the route, which takes no new step, and of the others the longest, which does."""
    yield None
    if not route.sticky_days:
        return
    own = {*route.forward, *(key for group in route.reserve for key in group)}
    lines = [line for line in routing.destinations.values() if line.agent is not None]
    yield from (line for line in lines if line.key in own)
    yield from sorted((line for line in lines if line.key not in own), key=_written_length)[-1:]


def caller_label(name: str) -> str:
    """`name` on one line, cut to `MAX_LABEL_BYTES` as percent-encoded UTF-8 (10 Cyrillic letters, 60 Latin ones)."""
    printable = "".join(character if character.isprintable() else " " for character in name).strip()
    while len(quote(printable, safe="")) > MAX_LABEL_BYTES:
        printable = printable[:-1]
    return printable.strip()


def _compiled(routing: book.Book) -> _Compiled:
    found = routing.compiled.get(__name__)
    if isinstance(found, _Compiled):
        return found
    agents: dict[str, tuple[book.Destination, ...]] = {}
    for destination in routing.destinations.values():
        if destination.agent is not None:
            agents[destination.agent] = (*agents.get(destination.agent, ()), destination)
    made = routing.compiled[__name__] = _Compiled(banlist.BanList(routing.bans), agents)
    return made


def _choice(
    question: Question, routing: book.Book, history: History, number: book.TrackingNumber, compiled: _Compiled
) -> _Choice:
    route = routing.routes[number.route]
    exception = _NO_EXCEPTION
    if route.exceptions:
        exception = _holding(route, number, question, routing, history)
    closed = _is_closed(route, exception, question.at, routing)
    order: tuple[str, ...] = ()
    sticky = None
    away = _away(history, compiled)
    if not closed:
        order = _ordered(route, exception, history, routing)
        if route.sticky_days and history.last_agent not in history.on_break:
            sticky = _sticky_destination(route, exception, question.at, history, compiled)
    trunk = routing.trunks.get(question.trunk or "")
    return _Choice(
        question.did,
        exception,
        closed,
        order,
        sticky,
        away=away,
        call=handling.Call(
            region=history.consent_region,
            early_media=trunk is not None and trunk.early_media,
            whisper=handling.whisper_of(route, number, routing, history) if route.whisper else (),
            is_closed=closed,
        ),
    )


def _away(history: History, compiled: _Compiled) -> frozenset[str]:
    if not history.on_break:
        return frozenset()
    return frozenset(line.key for agent in history.on_break for line in compiled.agents.get(agent, ()))


def _default_choice(
    did: str, route: book.Route, number: book.TrackingNumber, routing: book.Book, *, closed: bool
) -> _Choice:
    exception = _NO_EXCEPTION
    for index, candidate in enumerate(route.exceptions):
        condition = candidate.condition
        in_hours = condition.hours is None or (condition.hours == route.hours and not closed)
        if in_hours and not condition.regions and condition.first_time is not False and _is_source(condition, number):
            exception = index
            break
    order = () if closed else _ordered(route, exception, History(), routing)
    said = handling.whisper_of(route, number, routing, History()) if route.whisper else ()
    return _Choice(did, exception, closed, order, call=handling.Call(whisper=said, is_closed=closed))


def _holding(
    route: book.Route, number: book.TrackingNumber, question: Question, routing: book.Book, history: History
) -> int:
    first_time = not history.calls_before
    for index, exception in enumerate(route.exceptions):
        condition = exception.condition
        if (
            (condition.first_time is None or condition.first_time is first_time)
            and _is_source(condition, number)
            and (not condition.regions or _is_from(condition.regions, question.caller, history))
            and (condition.hours is None or business_hours.is_open(routing.hours[condition.hours], question.at))
        ):
            return index
    return _NO_EXCEPTION


def _is_source(condition: book.Condition, number: book.TrackingNumber) -> bool:
    return not condition.sources or number.source in condition.sources


def _is_from(regions: frozenset[str], caller: str, history: History) -> bool:
    if not caller:
        return False
    country = history.caller_country or phone_numbers.country_of(f"+{caller}")
    if country in regions:
        return True
    name = (history.caller_region or "").casefold()
    return any(
        caller.startswith(region[1:]) if region.startswith("+") else bool(name) and region.casefold() == name
        for region in regions
    )


def _is_region_name(region: str) -> bool:
    """Neither a country code nor an area code; only names need the geocoder."""
    return len(region) > 2 and not region.startswith("+")


def _is_closed(route: book.Route, exception: int, at: datetime, routing: book.Book) -> bool:
    if route.hours is None or _speaks_of_time(route, exception):
        return False
    return not business_hours.is_open(routing.hours[route.hours], at)


def _speaks_of_time(route: book.Route, exception: int) -> bool:
    """An exception with hours of its own is meant for that time, whatever the route's hours say."""
    return exception != _NO_EXCEPTION and route.exceptions[exception].condition.hours is not None


def _forward(route: book.Route, exception: int) -> _Group:
    return route.forward if exception == _NO_EXCEPTION else route.exceptions[exception].forward


def _strategy(route: book.Route, exception: int) -> book.Strategy:
    if exception == _NO_EXCEPTION:
        return route.strategy
    return route.exceptions[exception].strategy or route.strategy


def _ordered(route: book.Route, exception: int, history: History, routing: book.Book) -> tuple[str, ...]:
    forward, strategy = _forward(route, exception), _strategy(route, exception)
    if strategy is book.Strategy.ALL or strategy is book.Strategy.IN_ORDER or len(forward) == 1:
        return forward
    destinations = [routing.destinations[key] for key in forward]
    turn = history.turns.get(route.key, 0)
    return tuple(one.key for one in strategies.order(strategy, destinations, turn, history.idle_since))


def _sticky_destination(
    route: book.Route, exception: int, at: datetime, history: History, compiled: _Compiled
) -> str | None:
    """The line of the agent who last answered the caller: one of the route's own before any other of that agent."""
    if history.last_agent is None or history.last_agent_at is None:
        return None
    age_seconds = (at - history.last_agent_at).total_seconds()
    if age_seconds > route.sticky_days * 86_400:
        return None
    lines = compiled.agents.get(history.last_agent, ())
    if not lines:
        return None
    own = (*_forward(route, exception), *(key for group in route.reserve for key in group))
    return min(lines, key=lambda line: own.index(line.key) if line.key in own else len(own)).key


def _planned(choice: _Choice, routing: book.Book, number: book.TrackingNumber, compiled: _Compiled) -> Plan:
    plan = compiled.plans.get(choice)
    if plan is None:
        if len(compiled.plans) >= _MAX_CACHED_PLANS:
            compiled.plans.clear()
        plan = compiled.plans[choice] = _plan(choice, routing, number)
    return plan


def _plan(choice: _Choice, routing: book.Book, number: book.TrackingNumber) -> Plan:
    route = routing.routes[number.route]
    sticky = routing.destinations[choice.sticky] if choice.sticky is not None else None
    layout = _Layout(route, routing, choice.did, number, choice.exception, choice.order, sticky, choice.closed)
    # Everybody who could be rung is on break: they ring, since a caller must not be lost for that.
    present = replace(layout, away=choice.away)
    steps = _steps(present)
    layout, steps = (present, steps) if steps else (layout, _steps(layout))
    limit = number.concurrency_limit or route.concurrency_limit
    prepares = limit is not None or any(step.caller_number or step.caller_label for step in steps)
    message = route.unanswered_message
    if choice.closed:
        message = route.after_hours_message or message
    services = handling.services(choice.call, routing, route, number, steps)
    action = Action.FULL if services else Action.PREPARE if prepares else Action.DIAL
    if not steps:
        action = Action.AFTER_HOURS if choice.closed else Action.NO_ROUTE
    return Plan(
        revision=routing.revision,
        route=route.key,
        action=action,
        steps=steps,
        longest_wait_seconds=route.longest_wait_seconds,
        concurrency_limit=limit,
        message=message,
        answer_for_message=route.answer_for_message,
        why=(*_reasons(layout, limit, steps), *services.why),
        consent=services.consent,
        early_media=services.early_media,
        language=handling.language_of(number, route, routing),
        tell_agent=services.tell_agent,
        whisper=choice.call.whisper if steps else (),
        acceptance=services.acceptance,
        unanswered=services.unanswered,
        rating=services.rating,
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the steps are laid out from. `order` are the forwarding destinations, already in ringing order."""

    route: book.Route
    routing: book.Book
    did: str
    number: book.TrackingNumber | None
    exception: int
    order: tuple[str, ...]
    sticky: book.Destination | None
    closed: bool = False
    away: frozenset[str] = frozenset()
    """Lines that are not rung."""

    @property
    def reserve(self) -> tuple[_Group, ...]:
        own = None if self.exception == _NO_EXCEPTION else self.route.exceptions[self.exception].reserve
        return self.present(self.route.reserve if own is None else own)

    def present(self, groups: Iterable[_Group]) -> tuple[_Group, ...]:
        """The groups without lines of agents on break, and without groups that leaves empty."""
        if not self.away:
            return tuple(groups)
        left = (tuple(key for key in group if key not in self.away) for group in groups)
        return tuple(group for group in left if group)

    @property
    def reserve_by_cause(self) -> Mapping[book.MissCause, tuple[_Group, ...]]:
        """An exception that brings its own reserve replaces the lists by cause too."""
        if self.exception != _NO_EXCEPTION and self.route.exceptions[self.exception].reserve is not None:
            return {}
        return {cause: self.present(groups) for cause, groups in self.route.reserve_by_cause.items()}


def _steps(layout: _Layout) -> tuple[Step, ...]:
    route = layout.route
    if layout.closed:
        return _closed_steps(layout)
    together = _strategy(route, layout.exception) is book.Strategy.ALL
    groups = [layout.order] if together else [(key,) for key in layout.order]
    forward = _without(layout.present(groups), layout.sticky)
    if layout.sticky is not None:
        forward.insert(0, (layout.sticky.key,))
    steps = [_step(layout, book.StepKind.FORWARD, group) for group in forward]
    if not layout.reserve_by_cause or not steps:
        # With nobody to forward to there is no cause either.
        steps += [_step(layout, book.StepKind.RESERVE, group) for group in _without(layout.reserve, layout.sticky)]
        return tuple(steps)
    return tuple(_with_reserve_by_cause(layout, steps))


def _closed_steps(layout: _Layout) -> tuple[Step, ...]:
    match layout.route.after_hours:
        case book.AfterHours.MESSAGE | book.AfterHours.CALLBACK | book.AfterHours.VOICEMAIL:
            return ()
        case book.AfterHours.RESERVE:
            return tuple(_step(layout, book.StepKind.RESERVE, group) for group in layout.reserve)
        case book.AfterHours.DESTINATIONS:
            groups = layout.present(layout.route.after_hours_destinations)
            first = tuple(_step(layout, book.StepKind.FORWARD, group) for group in groups[:1])
            return (*first, *(_step(layout, book.StepKind.RESERVE, group) for group in groups[1:]))


def _with_reserve_by_cause(layout: _Layout, forward: list[Step]) -> list[Step]:
    """Put the reserve lists behind each other; the last forwarding step branches, the last step of each list ends."""
    starts: dict[tuple[_Group, ...], int] = {(): 0}
    steps = list(forward)
    target: dict[book.MissCause, int] = {}
    for cause in book.MissCause:
        groups = tuple(_without(layout.reserve_by_cause.get(cause, layout.reserve), layout.sticky))
        if groups not in starts:
            starts[groups] = len(steps) + 1
            reserve = [_step(layout, book.StepKind.RESERVE, group) for group in groups]
            reserve[-1] = replace(reserve[-1], next_after=dict.fromkeys(book.MissCause, 0))
            steps += reserve
        target[cause] = starts[groups]
    last = len(forward) - 1
    steps[last] = replace(steps[last], next_after=target)
    return steps


def _without(groups: Iterable[_Group], sticky: book.Destination | None) -> list[_Group]:
    """The groups without the sticky agent's line, which has already rung, and without groups it leaves empty."""
    if sticky is None:
        return list(groups)
    left = (tuple(key for key in group if key != sticky.key) for group in groups)
    return [group for group in left if group]


def _step(layout: _Layout, kind: book.StepKind, keys: _Group) -> Step:
    route, routing = layout.route, layout.routing
    destinations = tuple(routing.destinations[key] for key in keys)
    seconds = route.ring_seconds if kind is book.StepKind.FORWARD else route.reserve_ring_seconds
    source = routing.sources.get(layout.number.source or "") if layout.number is not None else None
    return _made_step(
        kind, destinations, min(seconds, route.longest_wait_seconds), layout.did, source.name if source else None
    )


def _made_step(
    kind: book.StepKind, destinations: tuple[book.Destination, ...], seconds: int, did: str, source: str | None
) -> Step:
    shows_tracking = destinations[0].caller_id is book.CallerIdPolicy.TRACKING
    labels = source is not None and destinations[0].label_source
    return Step(
        kind=kind,
        destinations=destinations,
        ring_seconds=seconds,
        caller_number=did if shows_tracking and did.isascii() and did.isdigit() else None,
        caller_label=caller_label(source) or None if labels and source else None,
    )


def _written_length(destination: book.Destination) -> int:
    return len(destination.key) + len(destination.peer) + len(destination.dial_string)


def _unknown_number(did: str, routing: book.Book) -> Plan:
    site = next(iter(routing.sites.values()), None)
    destination = routing.destinations.get(site.default_destination) if site is not None else None
    if site is None or destination is None:
        return Plan(
            revision=routing.revision,
            route=None,
            action=Action.NO_ROUTE,
            why=("the dialled number is no tracking number, and there is no default destination",),
        )
    step = _made_step(book.StepKind.FORWARD, (destination,), DEFAULT_RING_SECONDS, did, None)
    return Plan(
        revision=routing.revision,
        route=None,
        action=Action.PREPARE if step.caller_number else Action.DIAL,
        steps=(step,),
        why=(f"the dialled number is no tracking number: default destination {destination.key} of site {site.key}",),
    )


def _banned(plan: Plan, ban: book.Ban) -> Plan:
    until = "" if ban.expires_at is None else f" until {ban.expires_at.isoformat(timespec='minutes')}"
    reason = f"the caller is on the ban list ({ban.action}{until}): {ban.reason}"
    if ban.action is book.BanAction.CHALLENGE:
        # Without steps there is nobody to be put through to by pressing 1: the caller hears what everybody hears.
        action = Action.BAN_CHALLENGE if plan.steps else plan.action
        message = ban.message if plan.steps else plan.message
        return replace(plan, action=action, message=message, why=(reason, *plan.why))
    action = {
        book.BanAction.REFUSE: Action.BAN_REFUSE,
        book.BanAction.BUSY: Action.BAN_BUSY,
        book.BanAction.MESSAGE: Action.BAN_MESSAGE,
    }[ban.action]
    return Plan(
        plan.revision,
        plan.route,
        action,
        message=ban.message,
        why=(reason,),
        language=plan.language,
        longest_wait_seconds=plan.longest_wait_seconds,
        answer_for_message=plan.answer_for_message,
    )


def _reasons(layout: _Layout, limit: int | None, steps: tuple[Step, ...]) -> Iterator[str]:
    route, number = layout.route, layout.number
    if number is not None:
        source = f" of source {number.source}" if number.source else ""
        yield f"tracking number {number.number}{source} goes by route {route.key}"
    if layout.exception != _NO_EXCEPTION:
        condition = route.exceptions[layout.exception].condition
        yield f"exception {layout.exception + 1} of the route holds: {_described(condition)}"
    if route.hours is not None and not _speaks_of_time(route, layout.exception):
        yield from _hours_reason(layout)
    if not_rung := sorted(layout.away & _lines_of(layout)):
        yield f"on break, not rung: {', '.join(not_rung)}"
    if layout.sticky is not None:
        yield (
            f"agent {layout.sticky.agent} answered this caller within the last {route.sticky_days} days:"
            f" {layout.sticky.key} rings first"
        )
    if not layout.closed and len(layout.order) > 1:
        yield f"strategy {_strategy(route, layout.exception)}: {', '.join(layout.order)}"
    if limit is not None:
        yield f"at most {limit} calls at once on this number"
    if not steps and not layout.closed:
        yield "no step is left to ring"


def _lines_of(layout: _Layout) -> frozenset[str]:
    """All lines that the route names."""
    route = layout.route
    groups = [layout.order, *route.reserve, *route.after_hours_destinations]
    groups += [group for lists in route.reserve_by_cause.values() for group in lists]
    return frozenset(key for group in groups for key in group)


def _hours_reason(layout: _Layout) -> Iterator[str]:
    route = layout.route
    if not layout.closed:
        yield f"open by business hours {route.hours}"
        return
    what = {
        book.AfterHours.RESERVE: "the reserve destinations ring" if layout.reserve else "there is no reserve to ring",
        book.AfterHours.DESTINATIONS: "the after-hours destinations ring",
        book.AfterHours.MESSAGE: "the after-hours message is played",
        book.AfterHours.CALLBACK: "a call-back is offered",
        book.AfterHours.VOICEMAIL: "the caller may leave a message",
    }[route.after_hours]
    yield f"closed by business hours {route.hours}: {what}"


def _described(condition: book.Condition) -> str:
    parts: list[str] = []
    if condition.first_time is not None:
        parts.append("first-time caller" if condition.first_time else "repeat caller")
    if condition.regions:
        parts.append(f"caller from {' or '.join(sorted(condition.regions))}")
    if condition.sources:
        parts.append(f"source {' or '.join(sorted(condition.sources))}")
    if condition.hours is not None:
        parts.append(f"inside the hours {condition.hours}")
    return ", ".join(parts)
