"""`[[rule]]`, `[scoring]` and a route's `rating`: read, refused with the place of each error, told as a difference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.config import limits, routingfile, weblint
from gateway.core import rating, rules
from gateway.core.rating import By, Question
from tests.config.files import SMALL, errors_of, with_line

RULES = """
[scoring]
lowest = -20
highest = 80
qualified_from = 40

[[rule]]
key = "hot"
direction = "inbound"
min_talk_seconds = 60
max_talk_seconds = 600
min_wait_seconds = 0
max_wait_seconds = 30
outcomes = ["answered"]
sources = ["radio"]
campaigns = ["ВЕСНА"]
channels = ["offline", "search"]
first_time = true
keys = ["goal=1", "consent=*"]
agents = ["anna"]
routes = ["sales"]
hours = "office"
score = 30
tags = ["hot", "горячий клиент"]
qualified = true

[[rule]]
key = "hangers"
outside_hours = "office"
max_talk_seconds = 0
score = -5
spam = true
stop = true
"""
ROUTE = 'reserve = ["second"]'


def test_all_of_it_is_read() -> None:
    """R60, R61"""
    found = routingfile.parse(SMALL + RULES, 1).scoring
    assert (found.lowest, found.highest, found.qualified_from) == (-20, 80, 40)
    hot, hangers = found.rules
    assert hot == rules.Rule(
        key="hot",
        when=rules.When(
            min_talk_seconds=60,
            max_talk_seconds=600,
            min_wait_seconds=0,
            max_wait_seconds=30,
            outcomes=frozenset({"answered"}),
            sources=frozenset({"radio"}),
            campaigns=frozenset({"весна"}),
            channels=frozenset({"offline", "search"}),
            first_time=True,
            keys=frozenset({("goal", "1"), ("consent", "*")}),
            agents=frozenset({"anna"}),
            routes=frozenset({"sales"}),
            hours="office",
        ),
        points=30,
        tags=("hot", "горячий клиент"),
        qualified=True,
    )
    assert (hangers.when.max_talk_seconds, hangers.points, hangers.spam, hangers.stop) == (0, -5, True, True)
    assert routingfile.parse(SMALL, 1).scoring == rules.Scoring()


def test_a_source_stands_for_its_sub_sources() -> None:
    """R106"""
    station = '\n[[source]]\nkey = "jazz"\nchannel = "offline"\nparent = "radio"\n'
    found = routingfile.parse(f"{SMALL}{station}{RULES}", 1).scoring.rules[0]
    assert found.when.sources == {"radio", "jazz"}


@pytest.mark.parametrize(
    ("line", "place", "message", "suggestion"),
    [
        ("talk_seconds = 5", "rule.r.talk_seconds", "there is no such key here", "min_talk_seconds"),
        ('min_talk_seconds = "60"', "rule.r.min_talk_seconds", "must be a whole number, not a text in quotes", None),
        (
            "min_talk_seconds = 60.0",
            "rule.r.min_talk_seconds",
            "must be a whole number, not a number with a point",
            None,
        ),
        ("min_wait_seconds = -1", "rule.r.min_wait_seconds", "must be from 0 to 86400", None),
        ("min_talk_seconds = 9\nmax_talk_seconds = 8", "rule.r.max_talk_seconds", "no call could have both", None),
        ('sources = ["radoi"]', "rule.r.sources", "there is no source 'radoi'", "radio"),
        ('sources = "radio"', "rule.r.sources", "must be a list in [brackets]", None),
        ("sources = []", "rule.r.sources", "must not be empty", None),
        ('channels = ["serach"]', "rule.r.channels", "there is no channel 'serach'", "search"),
        ('outcomes = ["answerd"]', "rule.r.outcomes", "there is no outcome 'answerd'", "answered"),
        ('agents = ["boris"]', "rule.r.agents", "there is no agent 'boris'", None),
        ('routes = ["slaes"]', "rule.r.routes", "there is no route 'slaes'", "sales"),
        ('hours = "offce"', "rule.r.hours", "there is no [[hours]] 'offce'", "office"),
        ('hours = "office"\noutside_hours = "office"', "rule.r.outside_hours", "no call could have both", None),
        ('keys = ["goal=3"]', "rule.r.keys", "must be a question and a key, like goal=1", "goal=2"),
        ('keys = ["price=1"]', "rule.r.keys", "questions are consent, callback, outcome, goal, solved", None),
        ('direction = "in"', "rule.r.direction", "must be one of inbound, outbound", None),
        ('first_time = "yes"', "rule.r.first_time", "must be true or false, not a text in quotes", None),
        ("score = 1001", "rule.r.score", "must be from -1000 to 1000", None),
        ("score = true", "rule.r.score", "must be a whole number, not true or false", None),
        ('tags = ["a", "a"]', "rule.r.tags", "'a' stands here twice", None),
        ('tags = [" a"]', "rule.r.tags", "must be 1 to 40 printable characters", None),
        ('tags = ["\\u202ea"]', "rule.r.tags", "must be 1 to 40 printable characters", None),
        (f"tags = {[str(one) for one in range(11)]}", "rule.r.tags", "there are 11; at most 10", None),
        ("tags = []", "rule.r.tags", "must not be empty", None),
    ],
)
def test_errors_have_their_place(line: str, place: str, message: str, suggestion: str | None) -> None:
    """The line of the file, the key, and a guess at what was meant."""
    text = f'{SMALL}\n[[rule]]\nkey = "r"\nqualified = true\n{line}\n'
    (error,) = errors_of(text)
    assert (error.key, error.line) == (place, text.count("\n"))
    assert message in error.message
    if suggestion is not None:
        assert error.suggestion == suggestion


def test_a_rule_that_gives_nothing() -> None:
    (error,) = errors_of(f'{SMALL}\n[[rule]]\nkey = "r"\nfirst_time = true\n')
    assert "does nothing: give score, tags, qualified, spam or stop" in error.message


def test_two_rules_of_one_key_and_too_many() -> None:
    one = '\n[[rule]]\nkey = "{}"\nscore = 1\n'
    (error,) = errors_of(SMALL + one.format("a") + one.format("a"))
    assert "there are two rule tables with key 'a'" in error.message
    (error,) = errors_of(SMALL + "".join(one.format(f"r{number}") for number in range(rules.MAX_RULES + 1)))
    assert "there are 101 rules; at most 100 are possible" in error.message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("lowest = 10\nhighest = 10", "scoring.highest"),
        ("lowest = 100", "scoring.lowest"),
        ("qualified_from = 101", "scoring.qualified_from"),
        ("top = 1", "scoring.top"),
    ],
)
def test_bounds_that_make_no_sense(text: str, place: str) -> None:
    (error,) = errors_of(f"{SMALL}\n[scoring]\n{text}\n")
    assert error.key == place


def test_the_difference_in_words() -> None:
    """N12: what `apply` would change."""
    old = routingfile.parse(SMALL, 1)
    new = routingfile.parse(SMALL + RULES, 2)
    lines = routingfile.difference(old, new)
    assert lines[0].startswith("+ rule hot: talk at least 60 s, talk at most 600 s, wait at least 0 s")
    assert lines[0].endswith("+30 points, tags hot, горячий клиент, qualified")
    assert lines[2:] == [
        "~ scoring: lowest 0 → -20",
        "~ scoring: highest 100 → 80",
        "~ scoring: qualified_from none → 40",
    ]
    changed = routingfile.parse(SMALL + RULES.replace("score = 30", "score = 31").replace("= 600", "= 601"), 3)
    points, when = sorted(routingfile.difference(new, changed))
    assert "rule hot: points 30 → 31" in points + when
    assert "talk at most 600 s" in points + when
    parts = RULES.split("[[rule]]")
    turned = routingfile.parse(SMALL + "[[rule]]".join([parts[0], parts[2] + "\n", parts[1]]), 4)
    assert routingfile.difference(new, turned) == ["~ order of rules: hangers, hot"]


# -- rating ------------------------------------------------------------------------------------------------------


def test_a_rating_is_read() -> None:
    """R73: off unless the route says it."""
    assert routingfile.parse(SMALL, 1).routes["sales"].rating is None
    said = (
        'rating = { by = "agent", questions = ["solved", "outcome"], outcomes = ["booked", "lost"], key_seconds = 3 }'
    )
    assert routingfile.parse(with_line(ROUTE, said), 1).routes["sales"].rating == rating.Wish(
        By.AGENT, (Question.OUTCOME, Question.SOLVED), ("booked", "lost"), key_seconds=3
    )
    plain = routingfile.parse(with_line(ROUTE, 'rating = { by = "both" }'), 1).routes["sales"].rating
    assert plain == rating.Wish(By.BOTH)


@pytest.mark.parametrize(
    ("said", "place", "message"),
    [
        ("{}", "route.sales.rating.by", "is missing: agent, caller or both"),
        ('{ by = "agnet" }', "route.sales.rating.by", "must be one of agent, caller, both"),
        ('{ by = "agent", questions = [] }', "route.sales.rating.questions", "must not be empty"),
        ('{ by = "agent", questions = ["gaol"] }', "route.sales.rating.questions", "there is no question 'gaol'"),
        ('{ by = "agent", outcomes = ["one"] }', "route.sales.rating.outcomes", "must be 2 to 9 names"),
        ('{ by = "agent", outcomes = ["a", "a"] }', "route.sales.rating.outcomes", "'a' stands here twice"),
        ('{ by = "agent", outcomes = ["A b", "c"] }', "route.sales.rating.outcomes", "must be 1 to 24 of a-z"),
        ('{ by = "both", outcomes = ["a", "b"] }', "route.sales.rating.outcomes", "have keys of their own"),
        (
            '{ by = "agent", questions = ["goal"], outcomes = ["a", "b"] }',
            "route.sales.rating.outcomes",
            "says nothing",
        ),
        ('{ by = "agent", key_seconds = 1 }', "route.sales.rating.key_seconds", "must be from 2 to 10"),
        ('{ by = "agent", seconds = 3 }', "route.sales.rating.seconds", "there is no such key here"),
        ('"agent"', "route.sales.rating", "must be a table"),
    ],
)
def test_errors_of_a_rating(said: str, place: str, message: str) -> None:
    text = with_line(ROUTE, f"rating = {said}")
    (error,) = errors_of(text)
    assert (error.key, error.line) == (place, text[: text.index("rating")].count("\n") + 1)
    assert message in error.message


def test_the_answer_has_room_for_the_prompts() -> None:
    """A plan with services that also asks for all that there is, of both, is measured with it."""
    whispering = with_line(ROUTE, 'whisper = "{source}"')
    plain, asking = (
        limits.answer_bytes(made.routes["sales"], made, ())
        for made in (
            routingfile.parse(whispering, 1),
            routingfile.parse(whispering.replace(ROUTE, ROUTE + '\nrating = { by = "both" }'), 1),
        )
    )
    assert asking - plain > 7 * 100


_values = some.one_of(
    some.integers(-2000, 2000).map(str),
    some.booleans().map(lambda value: str(value).lower()),
    some.text(some.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=8).map(
        lambda text: '"' + text.replace("\\", "").replace('"', "") + '"'
    ),
    some.lists(some.sampled_from(['"radio"', '"goal=1"', '"search"', '"anna"', "1", "[]", '""']), max_size=3).map(
        lambda items: f"[{', '.join(items)}]"
    ),
    some.just("{ by = 1 }"),
)
_names = some.sampled_from(
    [
        *(name for name in rules.When.__dataclass_fields__),
        "score",
        "tags",
        "qualified",
        "spam",
        "stop",
        "direction",
        "odd",
    ]
)


@given(some.dictionaries(_names, _values, max_size=6), some.dictionaries(_names, _values, max_size=3))
def test_whatever_a_rule_says(said: dict[str, str], bounds: dict[str, str]) -> None:
    """It is refused with errors that have a line, or it is a rule."""
    lines = "\n".join(f"{name} = {value}" for name, value in said.items())
    text = (
        f'{SMALL}\n[scoring]\n{chr(10).join(f"{n} = {v}" for n, v in bounds.items())}\n[[rule]]\nkey = "r"\n{lines}\n'
    )
    errors = errors_of(text)
    if not errors:
        (rule,) = routingfile.parse(text, 1).scoring.rules
        assert rule.when.words and abs(rule.points) <= rules.MAX_POINTS
    assert all(0 < error.line <= text.count("\n") + 1 and error.message for error in errors)


# -- what is hardly meant ----------------------------------------------------------------------------------------


def warned(text: str) -> list[str]:
    made = routingfile.parse(text, 1)
    return [f"{one.key}: {one.message}" for one in weblint.warnings(text, made, weblint.Places()) if "rule" in one.key]


def test_keys_that_nobody_is_asked_for() -> None:
    """A file with it is taken, and told of."""
    (said,) = warned(SMALL + RULES.replace('"goal=1", "consent=*"', '"goal=1"'))
    assert said == "rule.hot.keys: no route asks for goal: give `rating` to one, or this never holds"
    assert warned(SMALL + RULES) == [], "the other key may be pressed"
    asking = with_line(ROUTE, 'rating = { by = "agent", questions = ["goal"] }')
    assert warned(asking + RULES.replace('"goal=1", "consent=*"', '"goal=1"')) == []


def test_rules_behind_one_that_stops_all() -> None:
    one = '\n[[rule]]\nkey = "{}"\nscore = 1\n'
    (said,) = warned(SMALL + one.format("a") + one.format("all") + "stop = true\n" + one.format("b"))
    assert said == "rule.b: is never asked: rule all before it holds for every call and says stop"
