"""One record as text for people, with the raw codes of each attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

from gateway.cli import output

MAX_ANALYSIS = 300
"""Characters of an analysis; the whole is in the JSON."""
BAR_WIDTH = 20
SHOWN_PERCENT = 0.5
_RATED = ("outcome", "goal_reached", "solved")
_SAID = {"whisper_played": "whisper", "accepted": "pressed 1", "machine": "sounds like a machine"}


def render(record: Mapping[str, Any], zone: tzinfo, *, state: str) -> str:
    """The record of `design.md` as lines; what it does not hold is left out. `state` is open or closed."""
    return "\n".join(output.plain(line) for line in _lines(record, zone, state))


def one_line(record: Mapping[str, Any], zone: tzinfo) -> str:
    """The record on one line, for `calls tail`."""
    caller = _part(record, "caller")
    called = _part(record, "tracking").get("number") or record.get("did") or "?"
    parts = [
        _time(record.get("started_at"), zone),
        f"{str(record.get('call_id', ''))[:8]}",
        f"{caller.get('number') or 'anonymous'} → {called}",
        str(record.get("outcome") or "open") + (f" ({record['cause']})" if record.get("cause") else ""),
        f"wait {_seconds(record.get('wait_seconds'))}, talk {_seconds(record.get('talk_seconds'))}",
        _by(record),
        _source(record),
    ]
    return output.plain("  ".join(part for part in parts if part))


def _lines(record: Mapping[str, Any], zone: tzinfo, state: str) -> Iterator[str]:
    yield f"call        {record.get('call_id')}  (revision {record.get('revision')}, {state})"
    yield from _facts(record, zone)
    attempts = record.get("attempts") or []
    if attempts:
        yield ""
        yield "attempts"
    for number, attempt in enumerate(attempts, start=1):
        yield f"  {number}. {_attempt(attempt)}"
    yield from _reasons(record, zone)


def _facts(record: Mapping[str, Any], zone: tzinfo) -> Iterator[str]:
    caller, tracking = _part(record, "caller"), _part(record, "tracking")
    yield f"direction   {record.get('direction')}"
    yield f"caller      {_caller(caller)}"
    yield f"number      {tracking.get('number') or record.get('did') or '-'}" + (
        f"  ({tracking['kind']})" if tracking.get("kind") else ""
    )
    if source := _source(record):
        yield f"source      {source}"
    yield f"started     {_time(record.get('started_at'), zone)}"
    if record.get("answered_at"):
        yield f"answered    {_time(record['answered_at'], zone)}"
    if record.get("ended_at"):
        yield f"ended       {_time(record['ended_at'], zone)} by {record.get('ended_by') or 'nobody known'}"
    cause = f" ({record['cause']})" if record.get("cause") else ""
    missed = ", missed" if record.get("missed") else ""
    yield f"outcome     {record.get('outcome') or 'not yet'}{cause}{missed}"
    yield "seconds     " + ", ".join(
        f"{name} {_seconds(record.get(f'{name}_seconds'))}" for name in ("wait", "talk", "hold")
    )
    if record.get("route") or record.get("route_source"):
        plan = record.get("plan_revision") or record.get("routing_revision")
        said = f", revision {plan}" if plan is not None else ""
        yield f"route       {record.get('route') or '-'}  (plan from {record.get('route_source') or '-'}{said})"
    heard = _part(record, "experience")
    if heard:
        yield "heard       " + ", ".join(
            f"{name.removesuffix('_seconds').replace('_', ' ')} {_seconds(value)}" for name, value in heard.items()
        )
    yield from _judged(record)
    if record.get("sip_call_id"):
        yield f"SIP         {record['sip_call_id']}"
    yield from _recorded(record, zone)


def _judged(record: Mapping[str, Any]) -> Iterator[str]:
    """What was keyed in after the call, and what the rules say of it."""
    yield from _result_lines(_part(record, "result"))
    rating, scoring = _part(record, "rating"), _part(record, "scoring")
    if rating:
        said = [f"{name.replace('_', ' ')} {_word(rating[name])}" for name in _RATED if rating.get(name) is not None]
        yield f"rated       {', '.join(said) or 'no key'}  (by the {rating.get('by')})"
    if scoring:
        tags = [str(one.get("tag")) for one in scoring.get("tags") or []]
        marks = [f"{name} {_word(scoring[name])}" for name in ("qualified", "spam") if scoring.get(name) is not None]
        points = [f"{one.get('rule')} {one.get('points', 0):+d}" for one in scoring.get("rules") or []]
        yield f"score       {', '.join([str(scoring.get('score')), *marks])}  ({', '.join(points) or 'no rule holds'})"
        if tags:
            yield f"tags        {', '.join(tags)}"


def _result_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What was said about the call afterwards."""
    if not result:
        return
    flags = [f"{name.replace('_', ' ')} {_word(result[name])}" for name in _FLAGS if result.get(name) is not None]
    words = [*flags, *([str(result["lead_status"])] if result.get("lead_status") else []), *(result.get("tags") or [])]
    yield f"said        {', '.join(words) or '-'}  (by {result.get('changed_by')})"
    if deal := result.get("deal"):
        money = f"{deal['value']} {deal['currency']}" if deal.get("value") else None
        known = (deal.get(name) for name in ("deal_id", "state", "stage"))
        parts = [str(one) for one in (*known, money, deal.get("closed_on")) if one]
        yield f"deal        {', '.join(parts)}"
    if result.get("note"):
        yield f"note        {' '.join(str(result['note']).split())}"


_FLAGS = ("qualified", "spam", "goal_reached")


def _word(value: object) -> str:
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def _recorded(record: Mapping[str, Any], zone: tzinfo) -> Iterator[str]:
    """What was asked about recording, and what there is of it."""
    consent = _part(record, "recording_consent")
    if consent.get("mode") not in (None, "off"):
        yield f"consent     {_consent(consent)}"
    for pause in record.get("pauses") or []:
        until = _time(pause.get("to"), zone) if pause.get("to") else "the end"
        yield f"paused      {_time(pause.get('from'), zone)} to {until}"
    for one in record.get("recordings") or []:
        judged = one.get("review") or {}
        said = [one.get("kind"), one.get("state"), _seconds(one.get("duration_seconds"))]
        said += [f"score {judged['score']} by {judged.get('reviewer')}"] if judged.get("score") else []
        yield f"recording   {one.get('recording_id')}  {', '.join(str(part) for part in said)}"
        if one.get("analysis") is not None:
            yield f"analysis    {json.dumps(one['analysis'], ensure_ascii=False)[:MAX_ANALYSIS]}"
    for one in record.get("receipts") or []:
        yield (
            f"receipt     {one.get('what')}  {str(one.get('digest'))[:12]}, key {one.get('key_id')}, "
            f"signed {_time(one.get('signed'), zone)}"
        )


def _consent(consent: Mapping[str, Any]) -> str:
    by = f", region {consent['region']}" if consent.get("region") else ""
    parts = [f"{consent.get('result')} ({consent.get('mode')}{by})"]
    if consent.get("key"):
        parts.append(f"key {consent['key']}")
    if consent.get("prompt_id"):
        parts.append(f"{consent['prompt_id']} {str(consent.get('prompt_version') or '')[:12]}".rstrip())
    if consent.get("early_media"):
        parts.append("before the answer")
    if consent.get("announcement_in_recording"):
        parts.append("in front of the recording")
    return ", ".join(parts)


def _caller(caller: Mapping[str, Any]) -> str:
    parts = [caller.get("number") or "anonymous"]
    if caller.get("name"):
        parts.append(f'"{caller["name"]}"')
    place = ", ".join(str(caller[key]) for key in ("region", "country") if caller.get(key))
    if place:
        parts.append(f"({place})")
    if caller.get("calls_before") is not None:
        before = caller["calls_before"]
        parts.append("first call" if before == 0 else f"{before} calls before")
    return "  ".join(str(part) for part in parts)


def _attempt(attempt: Mapping[str, Any]) -> str:
    codes = [
        f"{label} {attempt[key]}"
        for label, key in (("SIP", "sip_code"), ("Q.850", "q850_cause"))
        if attempt.get(key) is not None
    ]
    codes += [said for key, said in _SAID.items() if attempt.get(key)]
    if attempt.get("accepted") is False:
        codes.append("not accepted")
    agent = f" by {attempt['agent']}" if attempt.get("agent") else ""
    return (
        f"step {attempt.get('step')} {attempt.get('kind')}: {attempt.get('destination')} "
        f"{attempt.get('outcome') or 'rings'}{agent}, rang {_seconds(attempt.get('ring_seconds'))}, "
        f"talked {_seconds(attempt.get('talk_seconds'))}" + (f"  [{', '.join(codes)}]" if codes else "")
    )


def _reasons(record: Mapping[str, Any], zone: tzinfo) -> Iterator[str]:
    """Who called and why we think so, each candidate with a bar, and the touches that are credited."""
    from gateway.web import attributionviews

    if not _part(record, "attribution"):
        return
    view = attributionviews.attribution_view(record)
    sure = f", {view.percent:.0f} % sure" if view.percent is not None else ""
    who = f", visitor {view.visitor_id}" if view.visitor_id else ""
    yield ""
    yield f"came by     {view.look.label.lower()}{sure}{who}"
    if view.sentence:
        yield f"            {view.sentence}"
    for name, value in view.facts:
        yield f"{name.lower():11} {value}"
    for place, one in enumerate(view.candidates):
        label = "candidates" if place == 0 else ""
        yield f"{label:11} {_bar(one.percent)} {one.percent:5.1f} %  {one.name}  {one.seen}".rstrip()
    if view.candidates and view.others_percent >= SHOWN_PERCENT:
        yield f"{'':11} {_bar(view.others_percent)} {view.others_percent:5.1f} %  others, or nobody"
    credit = record.get("credit")
    for place, part in enumerate(attributionviews.credit_views(credit)):
        label = "credit" if place == 0 else ""
        at = f"  {_time(part.at, zone)}" if part.at else ""
        yield f"{label:11} {_bar(part.percent)} {part.percent:5.1f} %  {part.source}  {part.detail}{at}".rstrip()
    if credit is not None:
        yield f"{'':11} by model {_part(record, 'credit').get('model')}"


def _bar(percent: float) -> str:
    filled = round(percent / 100 * BAR_WIDTH)
    return "#" * filled + "." * (BAR_WIDTH - filled)


def _source(record: Mapping[str, Any]) -> str:
    attribution = _part(record, "attribution")
    source = attribution.get("source") or _part(record, "tracking").get("source")
    return f"{source}" + (f" / {attribution['campaign']}" if attribution.get("campaign") else "") if source else ""


def _by(record: Mapping[str, Any]) -> str:
    for attempt in record.get("attempts") or []:
        if attempt.get("outcome") == "answered":
            return f"by {attempt.get('agent') or attempt.get('destination')}"
    return ""


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, Mapping) else {}


def _time(written: object, zone: tzinfo) -> str:
    if not isinstance(written, str):
        return "-"
    try:
        return f"{datetime.fromisoformat(written).astimezone(zone):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return written


def _seconds(value: object) -> str:
    return f"{value:.1f} s" if isinstance(value, int | float) else "-"
