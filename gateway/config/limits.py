"""Whether every plan that a book can give fits the answer's line and the journal's rows.

Bytes are counted for the longest plan of each route with every optional variable set, so a plan that passes here can
always be sent; the codec at the border measures again. Sources: `design.md`, Asterisk's AGI line (4,096) and CEL's
cut of a row's user field at 1,023 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.core import book, routing

MAX_ANSWER_BYTES = 3_500
MAX_PAYLOAD_BYTES = 600
MAX_VALUE_BYTES = 400

_ANSWER_FRAME = len(
    'EXEC MSet "DM_SRC=default,DM_REV=2147483647,DM_RT=,DM_ACT=ban_challenge,DM_WAIT=900,DM_LIMIT=10000,'
    'DM_MSG=,DM_ANS=1,DM_OK=1"\n'
)
_PROMPT_PATH = 130
"""Longest path of a rendered prompt: the folder 64, key 40, language 5, hash 16 and separators (`promptfiles`)."""

_SERVICES_FRAME = (
    len(
        "DM_CM=announce_opt_out,DM_CG=US-CA,DM_CP=,DM_CI=,DM_CV=,DM_CE=1,DM_CA=1,DM_CT=,DM_W=,"
        "DM_AC=11111111,DM_AP=,DM_AR=5,DM_AS=15,DM_AD=1,DM_UN=voicemail,DM_UP=,DM_UT=,DM_UI=,DM_UV=,DM_CL=en-GB,"
    )
    + len("consent_announce_opt_out.en-GB")
    + len("leave_message.en-GB")
    + 2 * 32
    + 6 * _PROMPT_PATH
)
"""Consent, whisper, acceptance and unanswered behaviour, all of them at once."""

_RATING_FRAME = (
    len("DM_QA=11111111,DM_QO=,DM_QG=,DM_QS=,DM_PO=,DM_PG=,DM_PS=,DM_QE=,DM_QN=9-9,DM_QT=10,DM_QM=3600,")
    + 7 * _PROMPT_PATH
)
"""Rating by keys, asked of agent and caller."""

_STEP_FRAME = len("DM_S1=,DM_K1=,DM_T1=300,DM_R1=f,DM_F1=123456789012345,DM_L1=,")
_BRANCH = len("DM_N1=8888,")
_UUID = "00000000-0000-4000-8000-000000000000"
_STEP_PAYLOAD_FRAME = len(f"i={_UUID}&s=8&k=f&t=300&d=&src=default&rev=2147483647&rt=&agi=NOTFOUND")
_MISS_PAYLOAD_FRAME = len(f"i={_UUID}&s=8&st=CHANUNAVAIL&hc=127&r=300000&p=300000&x=")
_CHANNEL_SUFFIX = "-0000abcd;1~486"


def is_whole(route: book.Route, routing_book: book.Book) -> bool:
    """Whether all that `route` refers to was read, so that its plans can be laid out and measured."""
    groups = [*route.reserve, *route.after_hours_destinations]
    for by_cause in route.reserve_by_cause.values():
        groups += by_cause
    forwards = [route.forward]
    for exception in route.exceptions:
        forwards.append(exception.forward)
        groups += exception.reserve or ()
    named = {key for group in (*groups, *forwards) for key in group}
    return all(forwards) and named <= routing_book.destinations.keys()


def problems(route: book.Route, routing_book: book.Book, number: book.TrackingNumber | None) -> Iterator[str]:
    """What does not fit of `route`, in words for its telecom admin; `number` is that with the longest source name."""
    did = number.number.lstrip("+") if number is not None else ""
    told: set[str] = set()
    for name, steps in routing.layouts(route, routing_book, did):
        for message in _layout_problems(route, routing_book, steps):
            if message not in told:
                told.add(message)
                yield message if name == "the route" else f"{name}: {message}"


def _layout_problems(route: book.Route, routing_book: book.Book, steps: Sequence[routing.Step]) -> Iterator[str]:
    if len(steps) > book.MAX_STEPS:
        sticky = ", one of them for the sticky agent" if route.sticky_days else ""
        yield f"has {len(steps)} steps{sticky}; at most {book.MAX_STEPS} are possible"
        return
    for number, step in enumerate(steps, start=1):
        longest = max(len(dial_string(step)), len(journal_members(step)))
        if longest > MAX_VALUE_BYTES:
            yield f"step {number} needs {longest} bytes of at most {MAX_VALUE_BYTES}: shorten keys, names or the group"
        payload = payload_bytes(route, step)
        if payload > MAX_PAYLOAD_BYTES:
            yield f"step {number} needs {payload} bytes of a journal row's {MAX_PAYLOAD_BYTES}: ring fewer together"
    answer = answer_bytes(route, routing_book, steps)
    if answer > MAX_ANSWER_BYTES:
        yield f"its plan needs {answer} bytes of the {MAX_ANSWER_BYTES} that one answer can have: use fewer steps"


def dial_string(step: routing.Step) -> str:
    """The first argument of `Dial` for a step."""
    return "&".join(destination.dial_string for destination in step.destinations)


def journal_members(step: routing.Step) -> str:
    """The members of a step as the journal carries them: `key:peer` joined by `|`."""
    return "|".join(f"{destination.key}:{destination.peer}" for destination in step.destinations)


def answer_bytes(route: book.Route, routing_book: book.Book, steps: Sequence[routing.Step]) -> int:
    """At most how many bytes the answer's line with these steps has."""
    messages = [route.after_hours_message, route.unanswered_message, *(ban.message for ban in routing_book.bans)]
    total = _ANSWER_FRAME + len(route.key) + max(len(message or "") for message in messages)
    total += _PROMPT_PATH + _SERVICES_FRAME if _has_services(route, routing_book) else 0
    total += _RATING_FRAME if route.rating is not None else 0
    for step in steps:
        total += _STEP_FRAME + len(dial_string(step)) + len(journal_members(step))
        total += routing.MAX_LABEL_BYTES if step.caller_label else 0
        total += _BRANCH if step.next_after is not None else 0
    return total


def _has_services(route: book.Route, routing_book: book.Book) -> bool:
    """Whether any plan of the route could carry more than steps and messages."""
    silent = (None, book.RecordingMode.OFF)
    return (
        route.recording not in silent
        or any(site.recording not in silent for site in routing_book.sites.values())
        or bool(route.whisper)
        or route.accept is not book.Acceptance.NONE
        or route.unanswered is not book.Unanswered.MESSAGE
        or route.rating is not None
        or any(one.accept is book.Acceptance.PRESS_1 for one in routing_book.destinations.values())
        or any(one.recording not in silent for one in routing_book.tracking_numbers.values())
    )


def payload_bytes(route: book.Route, step: routing.Step) -> int:
    """At most how many bytes the longest user event of a step carries."""
    channels = sum(_encoded(f"PJSIP/{one.peer}{_CHANNEL_SUFFIX}|") for one in step.destinations)
    members = _encoded(journal_members(step))
    return max(_STEP_PAYLOAD_FRAME + len(route.key) + members, _MISS_PAYLOAD_FRAME + channels)


def _encoded(text: str) -> int:
    """The length with every other character than a letter, digit, `-`, `_` or `.` as `%XX`."""
    return sum(1 if character.isalnum() or character in "-_." else 3 for character in text)
