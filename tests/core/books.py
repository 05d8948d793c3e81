"""Routing books for tests: a clinic with four phones, built by hand so that core tests need no file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any

from gateway.core import book, routing

DID = "74990000001"
CALLER = "79161234567"
WEDNESDAY_NOON = datetime(2026, 11, 11, 9, 0, tzinfo=UTC)
"""12:00 in Moscow."""
WEDNESDAY_NIGHT = datetime(2026, 11, 11, 20, 0, tzinfo=UTC)

OFFICE = book.BusinessHours(
    "office", "Europe/Moscow", tuple(book.OpeningTime(day, time(9), time(18)) for day in range(5))
)
NIGHT = book.BusinessHours(
    "night",
    "Europe/Moscow",
    tuple(
        opening
        for day in range(7)
        for opening in (book.OpeningTime(day, time(0), time(6)), book.OpeningTime(day, time(22), time.max))
    ),
)


def destination(key: str, **fields: Any) -> book.Destination:
    """A SIP endpoint named like its key."""
    return book.Destination(key=key, name=key, kind=book.DestinationKind.ENDPOINT, address=key, **fields)


def route(**fields: Any) -> book.Route:
    """The route of the one number: a desk, another in reserve, then a mobile."""
    defaults: dict[str, Any] = {"forward": ("desk-1",), "reserve": (("desk-2",), ("mobile",))}
    return book.Route(key="sales", site="clinic", **(defaults | fields))


def routing_book(
    the_route: book.Route | None = None,
    *,
    bans: tuple[book.Ban, ...] = (),
    number: dict[str, Any] | None = None,
    destinations: tuple[book.Destination, ...] = (),
    default_destination: str = "desk-1",
) -> book.Book:
    """A book of one route and one number, `DID`."""
    phones = [destination("desk-1", agent="anna"), destination("desk-2", agent="boris"), destination("desk-3")]
    phones += [
        book.Destination("mobile", "mobile", book.DestinationKind.TEL, "+79160000001", trunk="carrier-a"),
        *destinations,
    ]
    tracking = book.TrackingNumber(number=f"+{DID}", route="sales", **({"source": "radio-jazz"} | (number or {})))
    return book.Book(
        revision=7,
        sites={"clinic": book.Site("clinic", "Clinic", "Europe/Moscow", "RU", "ru", default_destination)},
        trunks={},
        sources={
            "radio-jazz": book.Source("radio-jazz", "Radio Jazz", book.Channel.OFFLINE, book.CampaignType.OFFLINE)
        },
        agents={key: book.Agent(key, key.title()) for key in ("anna", "boris")},
        destinations={phone.key: phone for phone in phones},
        hours={"office": OFFICE, "night": NIGHT},
        routes={"sales": the_route or route()},
        tracking_numbers={DID: tracking},
        bans=bans,
    )


def question(**fields: Any) -> routing.Question:
    """A call of a Moscow mobile to `DID` on a Wednesday noon."""
    asked = routing.Question("00000000-0000-4000-8000-000000000001", DID, CALLER, WEDNESDAY_NOON)
    return replace(asked, **fields)


def laid_out(plan: routing.Plan) -> list[str]:
    """The steps as text: `f desk-1+desk-2`, `r mobile`."""
    return [f"{step.kind[0]} {'+'.join(one.key for one in step.destinations)}" for step in plan.steps]
