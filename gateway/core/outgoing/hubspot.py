"""HubSpot: calls as engagements with a contact; unknown callers become contacts with the life-cycle stage of a lead.

Rules: integrations.md 4.5. `hs_call_external_id` is our call id; a call that may be there is looked for by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from gateway.core import numbers
from gateway.core.outgoing import crm, talks

WORLD = "https://api.hubapi.com"
CALL_TO_CONTACT = 194
"""Association type, HubSpot's own."""

_PHONES = ("phone", "mobilephone")
_SEARCHABLE = ("hs_searchable_calculated_phone_number", "hs_searchable_calculated_mobile_number")


@dataclass(frozen=True, slots=True)
class Account:
    """A portal."""

    dispositions: Mapping[str, str] = field(default_factory=dict)
    """The portal's GUIDs by HubSpot's own, where they differ (`/crm/v3/properties/calls/hs_call_disposition`)."""


class HubSpot:
    """One portal. The token is a private app's, or OAuth."""

    kind = "hubspot"
    logs_banned = False
    per_second = 10.0
    token_style = talks.TokenStyle.BEARER

    def __init__(self, account: Account | None = None, base_url: str = WORLD) -> None:
        self._account = account or Account()
        self.base_url = base_url

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[crm.Contact | None]:
        """By both telephone fields, as written and as HubSpot reads them: without the country code."""
        national = numbers.national_digits(number)
        groups = [_equals(name, number) for name in _PHONES] + [_equals(name, national) for name in _SEARCHABLE]
        properties = ["firstname", "lastname", "hubspot_owner_id", *_PHONES, *fields]
        asked = {"filterGroups": groups, "properties": properties, "limit": 20}
        answer = yield talks.Request("POST", "/crm/v3/objects/contacts/search", json=asked, asks_only=True)
        for one in talks.expect_object(answer, 200).get("results", []):
            known = one.get("properties", {})
            if any(crm.same_number(known[name], number) for name in _PHONES if known.get(name)):
                name = " ".join(known[part] for part in ("firstname", "lastname") if known.get(part))
                owner = known.get("hubspot_owner_id") or None
                return crm.Contact("contact", str(one["id"]), name or None, owner, crm.words(known, fields))
        return None

    def ring(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """HubSpot pops its card only in its own calling window; ours has the contact."""
        yield from ()

    def create_lead(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[crm.Contact]:
        """A contact in the stage `lead`; `find` looked for one of an earlier attempt."""
        properties = {"phone": task.number, "lifecyclestage": "lead", "hs_lead_status": "NEW"}
        if task.call.caller_name:
            properties["lastname"] = task.call.caller_name
        answer = yield talks.Request("POST", "/crm/v3/objects/contacts", json={"properties": properties})
        return crm.Contact("contact", str(talks.expect_object(answer, 200, 201)["id"]), task.call.caller_name)

    def log(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """One call engagement."""
        if task.is_retry:
            asked = {"filterGroups": [_equals("hs_call_external_id", task.call.call_id)], "limit": 1}
            answer = yield talks.Request("POST", "/crm/v3/objects/calls/search", json=asked, asks_only=True)
            there = talks.expect_object(answer, 200).get("results", [])
            if there:
                return str(there[0]["id"])
        body: dict[str, Any] = {"properties": self._properties(task)}
        if contact is not None:
            kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": CALL_TO_CONTACT}
            body["associations"] = [{"to": {"id": contact.id}, "types": [kind]}]
        answer = yield talks.Request("POST", "/crm/v3/objects/calls", json=body)
        return str(talks.expect_object(answer, 200, 201)["id"])

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """HubSpot fetches it by https."""
        body = {"properties": {"hs_call_recording_url": url}}
        answer = yield talks.Request("PATCH", f"/crm/v3/objects/calls/{external_id}", json=body)
        talks.expect(answer, 200)

    def _properties(self, task: crm.Task) -> dict[str, str]:
        call, disposition = task.call, task.disposition
        tracking = call.tracking_number or ""
        found: dict[str, str | None] = {
            "hs_timestamp": str(call.started_us // 1000),
            "hs_call_title": crm.subject(task),
            "hs_call_body": "<br>".join(escape(line) for line in crm.lines(task)),
            "hs_call_direction": "INBOUND" if call.is_inbound else "OUTBOUND",
            "hs_call_status": disposition.hubspot_status,
            "hs_call_duration": str(call.talk_seconds * 1000),
            "hs_call_from_number": task.number if call.is_inbound else tracking,
            "hs_call_to_number": tracking if call.is_inbound else task.number,
            "hs_call_source": "INTEGRATIONS_PLATFORM",
            "hs_call_external_id": call.call_id,
            "hubspot_owner_id": task.user,
        }
        guid = disposition.hubspot_guid
        if guid is not None:
            found["hs_call_disposition"] = self._account.dispositions.get(guid, guid)
        return {name: value for name, value in found.items() if value}


def _equals(name: str, value: str) -> dict[str, Any]:
    return {"filters": [{"propertyName": name, "operator": "EQ", "value": value}]}
