"""amoCRM / Kommo: calls are attached to whoever has the number; unknown callers go to the unsorted leads.

Rules: integrations.md 4.5. Calls can only be written, so one that may be there is looked for among the contact's
notes, by `uniq`. An unsorted SIP lead holds its call in itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.core.outgoing import crm, talks
from gateway.core.outgoing.told import SECOND_US

SERVICE = "dialmark"
UNSORTED = "unsorted"
_PAGE = 50
_UNSORTED_PAGE = 250
_UNSORTED_PAGES = 20
"""So far back an unsorted lead that may be there is looked for: behind an outage there are many that came later."""


class AmoCrm:
    """One account, `https://{sub}.amocrm.ru` or `https://{sub}.kommo.com`."""

    kind = "amocrm"
    logs_banned = True
    per_second = 7.0
    token_style = talks.TokenStyle.BEARER

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[crm.Contact | None]:
        """Their search knows parts of numbers: only who really has this one is taken."""
        answer = yield talks.Request(
            "GET", "/api/v4/contacts", query={"query": number.lstrip("+"), "order[id]": "asc", "limit": str(_PAGE)}
        )
        if answer.status == 204:
            return None
        for one in _embedded(talks.expect_object(answer, 200), "contacts"):
            values = _values(one)
            if any(crm.same_number(phone, number) for phone in values.get("PHONE", ())):
                attributes = crm.words({name: ", ".join(values[name]) for name in values}, fields)
                owner = one.get("responsible_user_id")
                return crm.Contact(
                    "contact", str(one["id"]), one.get("name"), str(owner) if owner else None, attributes
                )
        return None

    def ring(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """amoCRM pops nothing for the server's calls; our own card does."""
        yield from ()

    def create_lead(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[crm.Contact]:
        """An unsorted SIP lead; it is the call's log too."""
        if task.is_retry:
            there = yield from self._unsorted(task.call.call_id)
            if there is not None:
                return crm.Contact(UNSORTED, there)
        answer = yield talks.Request("POST", "/api/v4/leads/unsorted/sip", json=[_unsorted(task)])
        made = _embedded(talks.expect_object(answer, 200, 201), "unsorted")
        if not made:
            raise talks.Refused(talks.Kind.LATER, "answered without the unsorted lead")
        return crm.Contact(UNSORTED, str(made[0]["uid"]))

    def log(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """Logs the call for a contact who has the number."""
        if contact is not None and contact.entity == UNSORTED:
            return contact.id
        if contact is None:
            return None
        if task.is_retry:
            there = yield from self._logged(task, contact)
            if there is not None:
                return there
        answer = yield talks.Request("POST", "/api/v4/calls", json=[_call(task)])
        body = talks.expect_object(answer, 200, 201)
        made = _embedded(body, "calls")
        if not made:
            errors = body.get("errors") or [{}]
            raise talks.Refused(talks.Kind.NEVER, f"refused: {errors[0].get('detail', errors[0].get('title'))}")
        return str(made[0]["id"])

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """Calls cannot be changed; the link to our page went with the call."""
        yield from ()

    def _unsorted(self, call_id: str) -> talks.Talk[str | None]:
        for page in range(1, _UNSORTED_PAGES + 1):
            query = {"filter[category][]": "sip", "limit": str(_UNSORTED_PAGE), "page": str(page)}
            answer = yield talks.Request("GET", "/api/v4/leads/unsorted", query=query)
            found = [] if answer.status == 204 else _embedded(talks.expect_object(answer, 200), "unsorted")
            there = next((one for one in found if one.get("metadata", {}).get("uniq") == call_id), None)
            if there is not None:
                return str(there["uid"])
            if len(found) < _UNSORTED_PAGE:
                return None
        return None

    def _logged(self, task: crm.Task, contact: crm.Contact) -> talks.Talk[str | None]:
        answer = yield talks.Request(
            "GET",
            f"/api/v4/contacts/{contact.id}/notes",
            query={
                "filter[note_type][]": "call_in" if task.call.is_inbound else "call_out",
                "order[id]": "desc",
                "limit": str(_PAGE),
            },
        )
        notes = [] if answer.status == 204 else _embedded(talks.expect_object(answer, 200), "notes")
        found = (str(one["id"]) for one in notes if one.get("params", {}).get("uniq") == task.call.call_id)
        return next(found, None)


def _call(task: crm.Task) -> dict[str, Any]:
    call = task.call
    found: dict[str, Any] = {
        "direction": "inbound" if call.is_inbound else "outbound",
        "uniq": call.call_id,
        "duration": call.talk_seconds,
        "source": SERVICE,
        "link": task.policy.link_of(call),
        "phone": task.number,
        "call_result": "; ".join(crm.lines(task)),
        "call_status": task.disposition.amocrm,
        "created_at": call.started_us // SECOND_US,
        "request_id": call.call_id,
    }
    if task.user is not None:
        # A text would be taken for a name.
        found |= {"responsible_user_id": int(task.user), "call_responsible": int(task.user)}
    return {name: value for name, value in found.items() if value is not None}


def _unsorted(task: crm.Task) -> dict[str, Any]:
    call = task.call
    metadata: dict[str, Any] = {
        "from": task.number,
        "phone": call.tracking_number or task.number,
        "called_at": call.started_us // SECOND_US,
        "duration": call.talk_seconds,
        "link": task.policy.link_of(call) or "",
        "service_code": SERVICE,
        "uniq": call.call_id,
        "is_call_event_needed": True,
    }
    if task.user is not None:
        metadata["call_responsible"] = int(task.user)
    phone = {"field_code": "PHONE", "values": [{"value": task.number, "enum_code": "WORK"}]}
    return {
        "source_name": call.source_name or call.source or SERVICE,
        "source_uid": call.call_id,
        "created_at": call.started_us // SECOND_US,
        "metadata": metadata,
        "_embedded": {
            "leads": [{"name": "; ".join([crm.subject(task), *crm.lines(task)[:3]])[:255]}],
            "contacts": [{"name": call.caller_name or task.number, "custom_fields_values": [phone]}],
        },
    }


def _embedded(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return list(body.get("_embedded", {}).get(name, []))


def _values(entity: Mapping[str, Any]) -> dict[str, list[str]]:
    """Fields by code, or by name where they have none."""
    return {
        str(one.get("field_code") or one.get("field_name")): [str(value.get("value")) for value in one["values"]]
        for one in entity.get("custom_fields_values") or ()
    }
