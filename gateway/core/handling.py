"""What a call gets beyond ringing: recording consent, whisper, acceptance, and what happens when nobody answers.

A route that asks for none of it costs nothing: its plans stay on the hot path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.core import book, callingback, consent, plans, prompts, rating, whisper

UNANSWERED_PROMPTS: Mapping[book.Unanswered, tuple[str, ...]] = {
    book.Unanswered.WAIT: ("wait",),
    book.Unanswered.CALLBACK: ("callback_offer", "callback_taken"),
    book.Unanswered.VOICEMAIL: ("leave_message", "message_taken"),
}
"""The prompt of each behaviour, and what is said when the caller did as asked."""


@dataclass(frozen=True, slots=True)
class Call:
    """What of a call decides on the services: where the caller is from, how the call came in, what is whispered."""

    region: consent.CallerRegion | None = None
    early_media: bool = False
    """The trunk carries audio before answer."""
    whisper: tuple[prompts.Wanted, ...] = ()
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """What a plan has beyond ringing; false when it has none, and the call takes the hot path."""

    consent: consent.Decision
    early_media: bool
    tell_agent: bool
    has_whisper: bool
    acceptance: plans.Acceptance | None
    unanswered: book.Unanswered
    rating: plans.Rating | None = None

    def __bool__(self) -> bool:
        records = self.consent.mode is not book.RecordingMode.OFF
        waits = self.unanswered is not book.Unanswered.MESSAGE
        return records or self.has_whisper or self.acceptance is not None or waits or self.rating is not None

    @property
    def why(self) -> Iterator[str]:
        """In plain words, a line for each service that the call gets."""
        if self.consent.why:
            yield self.consent.why
        if self.acceptance is not None:
            numbered = ", ".join(str(place) for place, asks in enumerate(self.acceptance.steps, start=1) if asks)
            detecting = ", and answering machines are looked for" if self.acceptance.detects_machine else ""
            yield f"who answers must press 1 in step {numbered}{detecting}"
        if self.unanswered is not book.Unanswered.MESSAGE:
            yield f"when nobody takes the call: {self.unanswered}"
        if self.rating is not None:
            asked = {rating.By.AGENT: "the agent", rating.By.CALLER: "the caller", rating.By.BOTH: "who is still there"}
            wish = self.rating.wish
            yield f"when the call is over {asked[wish.by]} is asked by keys: {', '.join(wish.questions)}"


def services(
    call: Call, routing: book.Book, route: book.Route, number: book.TrackingNumber, steps: tuple[plans.Step, ...]
) -> Services:
    """What this call gets beyond ringing through these steps."""
    asked = consent.OFF
    rules = rules_of(number, route, routing)
    if steps and rules.recording is not book.RecordingMode.OFF:
        asked = consent.decide(rules, call.region, routing.regions)
    accepting = tuple(_must_accept(route, step) for step in steps)
    return Services(
        consent=asked,
        early_media=call.early_media and asked.mode is book.RecordingMode.ANNOUNCE,
        tell_agent=route.tell_agent and asked.mode is not book.RecordingMode.OFF,
        has_whisper=bool(call.whisper) and bool(steps),
        acceptance=_acceptance(route, accepting),
        unanswered=_unanswered(route, call, steps),
        rating=_rating(route, steps),
    )


def _unanswered(route: book.Route, call: Call, steps: tuple[plans.Step, ...]) -> book.Unanswered:
    """Closed and with nobody to ring, the after-hours choice speaks; a route that only plays a message then ends."""
    if steps or not call.is_closed:
        return route.unanswered
    match route.after_hours:
        case book.AfterHours.CALLBACK:
            return book.Unanswered.CALLBACK
        case book.AfterHours.VOICEMAIL:
            return book.Unanswered.VOICEMAIL
    return book.Unanswered.MESSAGE


def _acceptance(route: book.Route, accepting: tuple[bool, ...]) -> plans.Acceptance | None:
    if not any(accepting):
        return None
    return plans.Acceptance(
        accepting, route.accept_repeats, route.accept_seconds, detects_machine=route.answering_machine_detection
    )


def _rating(route: book.Route, steps: tuple[plans.Step, ...]) -> plans.Rating | None:
    if route.rating is None or not steps:
        return None
    return plans.Rating(route.rating, tuple(_may_be_asked(route.rating, step) for step in steps))


def _may_be_asked(wish: rating.Wish, step: plans.Step) -> bool:
    """Dial has one option for all that ring together."""
    is_asked = rating.By.AGENT in wish.asked
    return is_asked and all(one.kind is not book.DestinationKind.LOCAL for one in step.destinations)


def _must_accept(route: book.Route, step: plans.Step) -> bool:
    """Dial has one subroutine for all that ring together: one who must accept makes all of them accept."""
    return any((one.accept or route.accept) is book.Acceptance.PRESS_1 for one in step.destinations)


def rules_of(number: book.TrackingNumber, route: book.Route, routing: book.Book) -> consent.Rules:
    """What the number, its route and its site say about recording."""
    return consent.rules_of(number, route, routing.sites[route.site])


def wants_recording(routing: book.Book) -> bool:
    """Whether calls to any number may be recorded, or messages be taken."""
    for number in routing.tracking_numbers.values():
        route = routing.routes[number.route]
        if rules_of(number, route, routing).recording is not book.RecordingMode.OFF:
            return True
        if route.unanswered is book.Unanswered.VOICEMAIL or route.after_hours is book.AfterHours.VOICEMAIL:
            return True
    return False


def whisper_of(
    route: book.Route, number: book.TrackingNumber, routing: book.Book, history: plans.History
) -> tuple[prompts.Wanted, ...]:
    """What may be whispered to who answers this call, best first; empty when the route whispers nothing."""
    language = language_of(number, route, routing)
    word = ""
    if history.calls_before is not None:
        word = routing.words.word("whisper_repeat" if history.calls_before else "whisper_first", language)
    source = routing.sources.get(number.source or "")
    facts = whisper.facts_of(number, source, first_or_repeat=word, city=history.city, visitor=history.visitor)
    return whisper.choices(route.whisper, language, facts)


def language_of(number: book.TrackingNumber | None, route: book.Route, routing: book.Book) -> str:
    """Of prompts and whispers: the number's, else the route's, else the site's."""
    own = number.language if number is not None else None
    return own or route.language or routing.sites[route.site].language


def whispers(number: book.TrackingNumber, routing: book.Book) -> Iterator[tuple[prompts.Wanted, ...]]:
    """Every whisper that calls to `number` can get from what is known beforehand: what is rendered ahead of time."""
    route = routing.routes[number.route]
    if not route.whisper:
        return
    histories = (plans.History(calls_before=before) for before in (None, 0, 1))
    yield from dict.fromkeys(whisper_of(route, number, routing, history) for history in histories)


def demands(routing: book.Book, codes: callingback.Rules = callingback.DEFAULT) -> Iterator[tuple[prompts.Wanted, ...]]:
    """All audio that plans of this book can name, each once, stage by stage: of each group one is enough, the first
    that fits. More of them than numbers, but texts repeat."""
    for stage in stages(routing, codes):
        yield from stage


def stages(
    routing: book.Book, codes: callingback.Rules = callingback.DEFAULT
) -> tuple[tuple[tuple[prompts.Wanted, ...], ...], ...]:
    """The demands, the most urgent first: what asks for consent, without which nothing is recorded; what else calls
    play; what agents hear of their codes, in whose place tones do; whispers, which can be thousands."""
    whispered = dict.fromkeys(_whisper_demands(routing))
    spoken = tuple(group for group in whispered if group[0].key == prompts.WHISPER)
    asking = {(one,) for one in _asking(routing, codes)}
    playing = {(one,) for one in _playing(routing)} | (whispered.keys() - set(spoken))
    told = {(one,) for one in callingback.demands(routing, codes)} - asking - playing
    return (_sorted(asking), _sorted(playing - asking), _sorted(told), spoken)


def _sorted(groups: Iterable[tuple[prompts.Wanted, ...]]) -> tuple[tuple[prompts.Wanted, ...], ...]:
    return tuple(sorted(groups, key=lambda group: (group[0].key, group[0].language)))


def _asking(routing: book.Book, codes: callingback.Rules) -> set[prompts.Wanted]:
    met = [(rules_of(number, route, routing), language) for number, route, language in _numbers(routing)]
    if callingback.is_possible(routing, codes):
        met += callingback.terms(routing)
    return {prompts.Wanted(key, language) for rules, language in met for key in _consent_keys(rules, routing)}


def _playing(routing: book.Book) -> set[prompts.Wanted]:
    records: dict[tuple[str, str], bool] = {}
    for number, route, language in _numbers(routing):
        is_off = rules_of(number, route, routing).recording is book.RecordingMode.OFF
        records[route.key, language] = not is_off or records.get((route.key, language), False)
    wanted = {
        prompts.Wanted(key, language)
        for (route, language), may_record in records.items()
        for key in _keys_of(routing.routes[route], routing, may_record=may_record)
    }
    for ban in routing.bans:
        named = prompts.named(ban.message, "")
        if named is None and ban.action is book.BanAction.CHALLENGE and ban.message is None:
            named = prompts.Wanted("ban_challenge", "")
        if named is not None:
            wanted |= {prompts.Wanted(named.key, language) for _, language in records}
    return wanted


def _numbers(routing: book.Book) -> Iterator[tuple[book.TrackingNumber, book.Route, str]]:
    """Every number with its route and its language."""
    for number in routing.tracking_numbers.values():
        route = routing.routes[number.route]
        yield number, route, language_of(number, route, routing)


def _consent_keys(rules: consent.Rules, routing: book.Book) -> frozenset[str]:
    """Of the prompts that calls by these rules can meet."""
    if rules.recording is book.RecordingMode.REGION:
        rows = {row.prompt_key for row in routing.regions.regions.values() if row.prompt_key}
        return frozenset(rows | set(consent.PROMPT_KEYS.values()))
    return frozenset(key for mode, key in consent.PROMPT_KEYS.items() if mode is rules.recording)


def _keys_of(route: book.Route, routing: book.Book, *, may_record: bool) -> Iterator[str]:
    if route.tell_agent and may_record:
        yield "agent_told"
    accepting = [one.accept for one in routing.destinations.values()]
    if book.Acceptance.PRESS_1 in (route.accept, *accepting):
        yield "accept"
    if route.whisper:
        yield "whisper_generic"
    for message in (route.unanswered_message, route.after_hours_message):
        if (named := prompts.named(message, "")) is not None:
            yield named.key
    if route.rating is not None:
        yield from (rating.PROMPT_KEYS[who][one] for who in route.rating.asked for one in route.rating.questions)
        yield rating.THANKS
    waits = {route.unanswered.value, route.after_hours.value if route.hours is not None else ""}
    for behaviour, keys in UNANSWERED_PROMPTS.items():
        if behaviour.value in waits:
            yield from keys


def _whisper_demands(routing: book.Book) -> Iterator[tuple[prompts.Wanted, ...]]:
    for number in routing.tracking_numbers.values():
        yield from whispers(number, routing)
