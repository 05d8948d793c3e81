"""Receivers of events over HTTP: how they are, their last deliveries, a test, sending again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.core import receivers
from gateway.senders import jsonlines
from gateway.services import posting
from gateway.store import outbox, targets
from gateway.web import auth, parts, problems, routes, schemas, streams

TARGET = "{target:[a-z0-9_]{1,24}:[a-z0-9-]{1,24}}"
table = routes.Table()


class ReceiverState(schemas.Document):
    """One receiver. `off_since`: switched off; `failing_since`: the last attempt failed; null: not so."""

    target: str
    where: str
    events: list[str]
    enabled: bool
    waiting: int
    dead: int
    off_since: datetime | None
    off_reason: str | None
    failing_since: datetime | None
    last_error: str | None


class ReceiverList(schemas.Document):
    """All receivers of the routing in force, and those that something still waits for."""

    receivers: list[ReceiverState]


class Delivery(schemas.Document):
    """One attempt with what was sent and what came back."""

    at: datetime
    target: str
    event_id: str
    type: str
    call_id: str | None
    attempt: int
    is_test: bool
    state: str
    status: int | None
    milliseconds: int
    note: str
    request: str
    response: str


class DeliveryList(schemas.Document):
    """The last deliveries, newest first."""

    deliveries: list[Delivery]


class Counted(schemas.Document):
    """How many deliveries it was."""

    deliveries: int


class Replay(routes.Body):
    """Which events to send again: at least one field."""

    ids: list[str] | None = None
    call_id: str | None = None
    since: str | None = None
    until: str | None = None
    types: list[str] | None = None
    only_dead: bool = False


@table.get(
    "/api/v1/webhooks",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    out=ReceiverList,
    summary="Receivers of events and how they are",
    slugs=("unavailable",),
)
async def listreceivers(request: web.Request) -> web.StreamResponse:
    return routes.json_response({"receivers": await receiver_states(request.app[parts.PARTS])})


@table.get(
    f"/api/v1/webhooks/{TARGET}/deliveries",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    out=DeliveryList,
    summary="The last deliveries, with request and answer",
    slugs=("not-found", "unavailable"),
)
async def list_deliveries(request: web.Request) -> web.StreamResponse:
    target = await _target(request)
    async with request.app[parts.PARTS].database.read() as connection:
        found = await targets.last(connection, target)
    return routes.json_response({"deliveries": [delivery(one) for one in found]})


@table.post(
    f"/api/v1/webhooks/{TARGET}/test",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    out=Delivery,
    summary="Send a test event now",
    slugs=("not-found", "unavailable"),
)
async def test_receiver(request: web.Request) -> web.StreamResponse:
    return routes.json_response(delivery(await try_out(request)))


@table.post(
    f"/api/v1/webhooks/{TARGET}/retry",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    out=Counted,
    summary="Try at once what waits for its next attempt",
    slugs=("not-found", "unavailable"),
)
async def retry_deliveries(request: web.Request) -> web.StreamResponse:
    here, target = request.app[parts.PARTS], await _target(request)
    number = await posting.hurry(here.database, target, now_us=parts.micros(here.clock()))
    return routes.json_response({"deliveries": number})


@table.post(
    f"/api/v1/webhooks/{TARGET}/enable",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    out=ReceiverList,
    summary="Switch a receiver on again",
    slugs=("not-found", "unavailable"),
)
async def enable_receiver(request: web.Request) -> web.StreamResponse:
    here, target = request.app[parts.PARTS], await _target(request)
    async with here.database.begin() as tx:
        await targets.switch_on(tx, target)
    return routes.json_response({"receivers": await receiver_states(here)})


@table.post(
    f"/api/v1/webhooks/{TARGET}/replay",
    scope=auth.Scope.WEBHOOKS_MANAGE,
    body=Replay,
    out=Counted,
    summary="Send events again, with the ids they had",
    slugs=("not-found", "invalid-body", "unavailable"),
)
async def replay_events(request: web.Request) -> web.StreamResponse:
    here, target = request.app[parts.PARTS], await _target(request)
    asked = await routes.parse_body(Replay, request)
    if asked == Replay():
        raise problems.Problem("invalid-body", errors=[{"field": "body", "message": "says not which events"}])
    chosen = outbox.Chosen(
        event_ids=tuple(asked.ids) if asked.ids is not None else None,
        call_id=asked.call_id,
        since_us=_moment("since", asked.since, here),
        until_us=_moment("until", asked.until, here),
        types=tuple(asked.types) if asked.types else receivers.ALL,
    )
    now_us = parts.micros(here.clock())
    number = await posting.replay(here.database, target, chosen, now_us=now_us, only_dead=asked.only_dead)
    return routes.json_response({"deliveries": number})


async def try_out(request: web.Request) -> targets.Logged:
    """Sends a test to the target of the address. Raises Problem `not-found`."""
    here, target = request.app[parts.PARTS], await _target(request)
    adapter = here.adapter_of(target) if here.adapter_of is not None else None
    if adapter is None:
        raise problems.Problem("not-found")
    try:
        return await posting.try_out(here.database, adapter, node=here.node, now_us=parts.micros(here.clock()))
    finally:
        await posting.close(adapter)


async def _target(request: web.Request) -> str:
    """The target of the address. Raises Problem `not-found` for one that nobody knows."""
    target = request.match_info["target"]
    if target not in {one["target"] for one in await receiver_states(request.app[parts.PARTS])}:
        raise problems.Problem("not-found")
    return target


async def receiver_states(here: parts.AdminParts) -> list[dict[str, Any]]:
    """As in `ReceiverList`."""
    current = here.current_book()
    known = {one.target: one for one in current.receivers.everyone()} if current is not None else {}
    ours = set(here.targets) - {jsonlines.TARGET}
    async with here.database.read() as connection:
        states, counts = await targets.states(connection), await outbox.counts(connection)
    found = []
    for target in sorted({*known, *ours, *counts}):
        receiver, state = known.get(target), states.get(target, targets.State(target))
        waiting, dead = counts.get(target, (0, 0))
        found.append(
            {
                "target": target,
                "where": receivers.place(receiver),
                "events": list(receiver.events) if receiver is not None else [],
                "enabled": receiver.enabled if receiver is not None else target in here.targets,
                "waiting": waiting,
                "dead": dead,
                "off_since": _rfc3339(state.off_us),
                "off_reason": state.off_reason,
                "failing_since": _rfc3339(state.failing_us),
                "last_error": state.last_error,
            }
        )
    return found


def delivery(one: targets.Logged) -> dict[str, Any]:
    """As in `DeliveryList`."""
    return {
        "at": _rfc3339(one.at_us),
        "target": one.target,
        "event_id": one.event_id,
        "type": one.type,
        "call_id": one.call_id,
        "attempt": one.attempt,
        "is_test": one.is_test,
        "state": one.state,
        "status": one.status,
        "milliseconds": round(one.took_us / 1_000),
        "note": one.note,
        "request": one.request,
        "response": one.response,
    }


def _rfc3339(at_us: int | None) -> str | None:
    return None if at_us is None else streams.timestamp(parts.moment(at_us))


def _moment(name: str, text: str | None, here: parts.AdminParts) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise problems.Problem("invalid-body", errors=[{"field": name, "message": "not a time"}]) from None
    return parts.micros(at if at.tzinfo is not None else at.replace(tzinfo=here.zone))
