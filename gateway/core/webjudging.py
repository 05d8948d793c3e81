"""What a browser saw of a page, judged against what the rules say (R28, R40, R46)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core import displayrules, numberformats, traffic, webcases
from gateway.core.displayrules import Reason
from gateway.core.webbook import WebBook
from gateway.core.webcases import Case

SLOW_SCRIPT_SECONDS = 1.0
"""A script that needs longer finds visitors who have read the site's number already."""
PASSING = frozenset(("page_failed", "timeout", "refused", "slow", "script_slow", "not_asked"))
"""What may be otherwise in a moment."""
LISTED = 3
"""Places that a message names."""

_NUMBER = re.compile(r"\+?\(?\d[\d\s().\-/\u2010-\u2015\u2212\u00ad\u2060]{5,40}\d")


class Level(StrEnum):
    """How bad it is; an error means that calls are counted for nobody, or for somebody else."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `what` is for programs (docs/cli.md)."""

    level: Level
    what: str
    message: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A script of ours that the page asked for. `status` None: it did not come, `failure` says why."""

    url: str
    site: str
    status: int | None = None
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the script for its numbers. `answer`: by the site's numbers what is shown instead, E.164."""

    url: str
    referrer: str
    status: int | None = None
    failure: str = ""
    reason: str = ""
    answer: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as it stood in the browser. Texts are lines; links are addresses (`tel:+74951234567`)."""

    status: int | None = None
    failure: str = ""
    """Why the page did not come, or was not done in time."""
    html: str = ""
    """As the server sent it."""
    scripts: tuple[Fetched, ...] = ()
    asked: tuple[Asked, ...] = ()
    state: str = ""
    """`dialmark.status().state`; "" without the script."""
    faults: tuple[str, ...] = ()
    """Errors that our script threw."""
    blocked: tuple[str, ...] = ()
    """Requests to us that the page's own content security policy forbade."""
    texts: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    json_ld: tuple[str, ...] = ()


def judge(web: WebBook, case: Case, seen: Seen) -> list[Finding]:
    """All that is wrong with a page, the worst first; nothing when visitors see what the rules say."""
    found = [*_page(seen), *_script(case, seen)]
    if seen.asked and not any(one.level is Level.ERROR for one in found):
        found += [*_visit(web, case, seen.asked[-1]), *_numbers(web, case, seen)]
    found += [*_printed(web, case, seen), *_structured(web, case, seen)]
    return sorted(found, key=lambda one: one.level is not Level.ERROR)


def shown_numbers(web: WebBook, case: Case, seen: Seen) -> dict[str, str]:
    """The number that stood on the page in place of each of the site's; its own where it stayed."""
    answer = seen.asked[-1].answer if seen.asked and seen.state == "ready" else {}
    return {target: answer.get(target, target) for target in web.sites[case.site].targets}


# ---- The page and the script ----


def _page(seen: Seen) -> Iterator[Finding]:
    if seen.status is None:
        yield _error("page_failed", f"the page does not open: {seen.failure or 'no answer'}")
    elif seen.status >= 400:
        yield _error("page_failed", f"the page answers HTTP {seen.status}")
    elif seen.failure:
        yield _error("timeout", f"the page was not done: {seen.failure}")


def _script(case: Case, seen: Seen) -> Iterator[Finding]:
    for url in seen.blocked:
        yield _error("csp", f"the page's content security policy forbids {url}")
    if seen.status is None or seen.status >= 400:
        return
    if not seen.scripts:
        if not seen.blocked:
            yield _error("script_missing", f"the page does not load /dni/v1/{case.site}.js")
        return
    for other in {one.site for one in seen.scripts} - {case.site}:
        yield _error("other_site", f"the page loads the script of {other}, not of {case.site}")
    if len({one.url for one in seen.scripts}) > 1:
        yield _warning("script_twice", "the page loads several scripts: " + ", ".join(one.url for one in seen.scripts))
    if all(one.status != 200 for one in seen.scripts):
        first = seen.scripts[0]
        why = first.failure or f"HTTP {first.status}"
        if not seen.blocked:
            yield _error("script_failed", f"{first.url} does not load: {why}")
        return
    slowest = max(seen.scripts, key=lambda one: one.seconds)
    if slowest.seconds > SLOW_SCRIPT_SECONDS:
        yield _warning("script_slow", f"{slowest.url} took {slowest.seconds:.1f} s")
    for fault in seen.faults:
        yield _error("script_error", f"the script failed on this page: {fault}")
    yield from _answered(seen)


def _answered(seen: Seen) -> Iterator[Finding]:
    if seen.failure and (not seen.asked or seen.asked[-1].status is None):
        # Said already: there was no time for it.
        return
    if not seen.asked:
        if not seen.faults and not seen.blocked:
            yield _error("not_asked", "the script is there but did not ask for numbers")
        return
    last = seen.asked[-1]
    if last.status == 403:
        yield _error("refused", "the gateway refuses this page (HTTP 403): is its host in the site's hosts?")
    elif last.status != 200:
        yield _error("refused", f"the gateway gives no numbers: {last.failure or f'HTTP {last.status}'}")
    elif last.reason == Reason.BOT.value:
        yield _error("not_admitted", "the gateway did not know this check: does it run on the same database?")
    elif seen.state == "slow":
        yield _error("slow", f"the gateway answered after {last.seconds:.1f} s, when the page had given up")
    elif last.reason == Reason.CONSENT.value:
        yield _warning("consent", "the page says that consent is denied, whatever the visitor does")


# ---- What is shown ----


def _visit(web: WebBook, case: Case, asked: Asked) -> Iterator[Finding]:
    """Whether tags and referrer came through the site's redirects."""
    wanted = traffic.landing(case.url, "", {}, web.traffic).parameters
    came = traffic.landing(asked.url, "", {}, web.traffic).parameters
    lost = [name for name, value in wanted.items() if came.get(name) != value]
    if lost:
        yield _error("tags_lost", f"{', '.join(lost)} did not reach the script: the site's redirect drops them")
    if case.referrer and not asked.referrer:
        yield _warning("referrer_lost", "the page hides where its visitors come from")
    clicks = sorted(wanted.keys() & web.traffic.parameters.keys())
    if case.name == webcases.AS_GIVEN and clicks and any(name.startswith("utm_") for name in wanted):
        yield _warning("double_tags", f"the link has {clicks[0]} and manual tags: {clicks[0]} decides")


def _numbers(web: WebBook, case: Case, seen: Seen) -> Iterator[Finding]:
    if seen.state != "ready" or seen.asked[-1].reason == Reason.CONSENT.value:
        return
    answer = seen.asked[-1].answer
    for target, rule in webcases.expected(web, case).items():
        number = answer.get(target)
        wrong = list(_as_the_rules_say(web, target, rule, number))
        yield from wrong
        if not wrong or wrong[0].level is Level.WARNING:
            yield from _stands(seen, target, number, web.sites[case.site].targets[target])


def _as_the_rules_say(web: WebBook, target: str, rule: displayrules.Shown, number: str | None) -> Iterator[Finding]:
    said = f"rule {rule.rule} says"
    if rule.reason is Reason.STATIC and number != rule.number:
        yield _error("wrong_number", f"{number or target} is shown where {said} {rule.number}")
    elif rule.reason is Reason.POOL and rule.pool is not None:
        pool = web.pools[rule.pool]
        if number is None and pool.overflow is None:
            yield _warning("exhausted", f"pool {pool.key} is exhausted and has no overflow number")
        elif number is not None and number == pool.overflow:
            yield _warning("exhausted", f"pool {pool.key} is exhausted: its overflow number {number} is shown")
        elif number not in pool.numbers:
            yield _error("wrong_number", f"{number or target} is shown where {said} a number of pool {pool.key}")
    elif rule.reason is Reason.RULE_NONE and number is not None:
        yield _error("wrong_number", f"{number} is shown where no rule holds and {target} should stay")


def _stands(seen: Seen, target: str, number: str | None, writings: tuple[str, ...]) -> Iterator[Finding]:
    """Whether the number stands on the page, and the site's own nowhere any more."""
    if number is None or number == target:
        if not _places(seen, target, writings):
            yield _warning("no_number", f"the site's number {target} does not stand on the page")
        return
    if not _places(seen, number):
        if _places(seen, target, writings):
            yield _error("not_shown", f"{number} was given to the page, and {target} still stands there")
        else:
            yield _warning("no_number", f"the site's number {target} does not stand on the page")
        return
    left = _places(seen, target, writings)
    if left:
        yield _error("left", f"{target} still stands on the page: {_listed(left)}")


def _places(seen: Seen, number: str, writings: tuple[str, ...] = ()) -> list[str]:
    """Texts and links in which a number stands, in any writing."""
    target = numberformats.target(number)
    if target is None:
        return []
    pattern = re.compile(numberformats.pattern(target))
    found = [text for text in seen.texts if _has(pattern, text)]
    found += [text for text in seen.texts if any(word.casefold() in text.casefold() for word in writings)]
    # A link is the number's if swapping it would change it.
    return found + [link for link in seen.links if numberformats.swap_href(link, target, _OTHER) != link]


_OTHER = "+12015550123"
"""Some number that no site has."""


def _has(pattern: re.Pattern[str], text: str) -> bool:
    for match in pattern.finditer(text):
        start = match.start() + (match[0].startswith("(") and ")" not in match[0])
        if not numberformats.is_part_of_more(text, start, match.end()):
            return True
    return False


# ---- What should not be there ----


def _printed(web: WebBook, case: Case, seen: Seen) -> Iterator[Finding]:
    """Numbers of pools in the page as the server sent it: everybody sees them, and calls would be some visitor's."""
    if not seen.html or (seen.status or 0) >= 400:
        return
    runs = [(re.sub(r"\D", "", match[0]), match) for match in _NUMBER.finditer(seen.html)]
    for pool in web.pools.values():
        for number in (*pool.numbers, *((pool.overflow,) if pool.overflow else ())):
            if _is_in(seen.html, runs, number):
                what = "the overflow number" if number == pool.overflow else "a number"
                yield _error("pool_printed", f"{number}, {what} of pool {pool.key}, is written into the page itself")


def _is_in(html: str, runs: list[tuple[str, re.Match[str]]], number: str) -> bool:
    target = numberformats.target(number)
    if target is None:
        return False
    # Looking for digits is cheap, and a pool may have thousands of numbers; the pattern is asked only where they are.
    near = (html[max(0, run.start() - 2) : run.end() + 2] for digits, run in runs if target.significant in digits)
    return any(_has(re.compile(numberformats.pattern(target)), text) for text in near)


def _structured(web: WebBook, case: Case, seen: Seen) -> Iterator[Finding]:
    """JSON-LD is for search engines, who must go on seeing the site's own number."""
    lent = set(shown_numbers(web, case, seen).values()) - web.sites[case.site].targets.keys()
    for text in seen.json_ld:
        digits = {re.sub(r"\D", "", match[0]) for match in _NUMBER.finditer(text)}
        for number in sorted(lent):
            if any(each.endswith(number[1:]) for each in digits):
                yield _error("json_ld", f"{number} stands in the page's JSON-LD: something copies it there")


def _listed(places: list[str]) -> str:
    texts = [f"“{' '.join(place.split())[:60]}”" for place in places[:LISTED]]
    return ", ".join(texts) + (f" and {len(places) - LISTED} more" if len(places) > LISTED else "")


def _error(what: str, message: str) -> Finding:
    return Finding(Level.ERROR, what, message)


def _warning(what: str, message: str) -> Finding:
    return Finding(Level.WARNING, what, message)
