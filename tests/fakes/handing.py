"""Events, visitors and the dispatcher's part: handing over until it is settled, keeping what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from gateway.core import deals, money, records
from gateway.core.outgoing import adapters, talks, told
from gateway.core.outgoing.adapters import Attempt, Handed, Settled, State
from gateway.senders import outside, service
from tests.web import material

SECOND = 1_000_000
STARTED = datetime(2026, 11, 21, 11, 30, tzinfo=UTC)
STARTED_US = round(STARTED.timestamp()) * SECOND
NOW_US = STARTED_US + 120 * SECOND
CALL_ID = "c639621d-dae1-4006-8f3b-c531a51116b3"
CALLER = material.CALLER
LOOPBACK = outside.Reach((ip_network("127.0.0.0/8"),))

VISITOR = told.Visitor(
    visitor_id="0f0c8f1e-9d3a-4a51-8b8e-0d5f2f3f9a10",
    session_started_us=STARTED_US - 600 * SECOND,
    session_seen_us=STARTED_US - 30 * SECOND,
    ga_client_id="1234567890.1763700000",
    ga_sessions={"ABC123DEF4": str(STARTED_US // SECOND - 590)},
    ym_client_id="1763700000123456789",
    fbp="fb.1.1763700000123.987654321",
    fbc="fb.1.1763700000123.IwAR0click",
    allows_ads=True,
    landing_page="https://clinic.example/implants?utm_source=google",
)


def record(**changes: Any) -> dict[str, Any]:
    """A record of an answered call, 74 s of talk, of a visitor who clicked an ad."""
    found = material.record(call_id=CALL_ID, started_at=STARTED, name="Ivan Petrov")
    found["attribution"] = {
        **found["attribution"],
        "method": "visitor",
        "confidence": 0.93,
        "source_name": "Google Ads",
        "visitor_id": VISITOR.visitor_id,
        "landing_page": VISITOR.landing_page,
        "term": "dental implants",
        "click_ids": {"gclid": "Cj0KCQ-test", "yclid": "987654321"},
        **changes.pop("attribution", {}),
    }
    found["caller"] = {**found["caller"], **changes.pop("caller", {})}
    return {**found, **changes}


def said(at_us: int = NOW_US, **fields: Any) -> dict[str, Any]:
    """`result` of a record: what was said of the call, and when. Fields as in `deals.Result`; `value` is a text."""
    if "value" in fields:
        fields["value_e4"] = money.amount(fields.pop("value"))
    return deals.document(
        deals.Result(**fields), changed_at=records.timestamp(at_us), changed_by="inbound:crm", way="webhook", changes=1
    )


def scored(score: int = 0, *, tags: Sequence[str] = (), **marks: bool | None) -> dict[str, Any]:
    """`scoring` of a record: what the rules made of the call."""
    return {
        "score": score,
        "qualified": marks.get("qualified"),
        "spam": marks.get("spam"),
        "tags": [{"tag": tag, "origin": "rule", "rule": "one"} for tag in tags],
        "rules": [{"rule": "one", "points": score}],
    }


def event(
    type_: str = "call.completed", *, event_id: str = "9c3c1095-31a0-59c5-8049-a63ff04cb992", **changes: Any
) -> Handed:
    """An event with such a record."""
    data = record(**changes)
    return Handed(event_id, type_, NOW_US, data, str(data["call_id"]))


def recorded() -> Handed:
    """`recording.ready` of the same call."""
    data = {"recording_id": "rec-1", "call_id": CALL_ID, "kind": "talk", "audio_url": "/api/v1/recordings/rec-1/audio"}
    return Handed("4d1f0a4e-0000-5000-8000-000000000001", "recording.ready", NOW_US, data, CALL_ID)


def attempt(**changes: Any) -> Attempt:
    """The first attempt, two minutes after the call began."""
    return replace(Attempt(NOW_US, visitor=VISITOR), **changes)


def first_request(talk: talks.Talk[Any]) -> talks.Request | None:
    """What a talk asks first; None when it ends without asking anything."""
    try:
        return next(talk)
    except StopIteration:
        return None


def result(talk: talks.Talk[Settled], *answers: talks.Response) -> Settled:
    """How a talk ends that is given these answers. Raises what it raises."""
    try:
        next(talk)
        for answer in answers:
            talk.send(answer)
    except StopIteration as stop:
        settled: Settled = stop.value
        return settled
    raise AssertionError("the talk asks for more")


def adapter(
    one: adapters.Service | adapters.BatchService, *, token: str | None = "token-1", seconds: float = 20.0
) -> service.ServiceAdapter:
    """A service driven over loopback at full speed."""
    http = service.Http(LOOPBACK, base_url=one.base_url, style=one.token_style, per_second=100_000.0, seconds=seconds)
    if token is not None:
        http.tokens = _Token(token)
    return service.ServiceAdapter(f"{one.kind}:test", one, http)


class _Token:
    """A token in a file."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self, refused: str | None = None) -> str:
        if refused is not None:
            raise talks.Refused(talks.Kind.TOKEN, "answered 401")
        return self._token


async def until_settled(
    one: service.ServiceAdapter, handed: Handed, *, most: int = 6, forgets: bool = False
) -> list[Settled]:
    """As the dispatcher does it: again until it is done, skipped or dead, keeping what was learned.

    `forgets`: the process is killed at the end of each attempt that does not succeed, so nothing is kept of it.
    """
    settled: list[Settled] = []
    known: dict[str, str] = {}
    now_us, number, is_unsure = NOW_US, 1, False
    for _ in range(most):
        found = await one.deliver(handed, attempt(now_us=now_us, number=number, known=known, is_unsure=is_unsure))
        settled.append(found)
        if found.state in (State.DONE, State.SKIPPED, State.DEAD):
            return settled
        if forgets:
            is_unsure = True
        else:
            known |= found.known
        number += found.state is State.FAILED
        now_us = max(now_us + SECOND, found.again_us or 0)
    raise AssertionError(f"not settled: {[one.note for one in settled]}")


def ended(settled: Sequence[Settled]) -> State:
    """How it ended."""
    return settled[-1].state
