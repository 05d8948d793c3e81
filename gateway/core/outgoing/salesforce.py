"""Salesforce: calls as completed tasks of type Call; unknown callers become leads.

Rules: integrations.md 4.5. Both objects have a custom external-id field (text, unique): writing the same one twice
writes one object. The administrator makes the two fields once; docs/integrations.md says how.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core import numbers
from gateway.core.outgoing import crm, talks
from gateway.core.outgoing.told import SECOND_US

MAX_CALL_OBJECT = 255
MAX_SUBJECT = 255
MAX_LAST_NAME = 80


@dataclass(frozen=True, slots=True)
class Account:
    """An organisation."""

    version: str = "v64.0"
    call_field: str = "Dialmark_Call__c"
    """External id of Task."""
    lead_field: str = "Dialmark_Number__c"
    """External id of Lead: the caller's digits."""
    company: str = "-"
    """Leads must have one."""
    lead_source: str = "Phone"


class Salesforce:
    """One organisation, at its instance's address."""

    kind = "salesforce"
    logs_banned = False
    per_second = 10.0
    token_style = talks.TokenStyle.BEARER

    def __init__(self, base_url: str, account: Account | None = None) -> None:
        self._account = account or Account()
        self.base_url = f"{base_url.rstrip('/')}/services/data/{self._account.version}"

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[crm.Contact | None]:
        """Contacts before leads. The question holds digits and names of fields only."""
        extra = "".join(f",{name}" for name in fields if name.replace("_", "").isalnum())
        columns = f"Id,Name,OwnerId,Phone,MobilePhone{extra}"
        digits = numbers.national_digits(number)
        asked = (
            f"FIND {{*{digits}}} IN PHONE FIELDS RETURNING Contact({columns}),"
            f"Lead({columns} WHERE IsConverted = false) LIMIT 20"
        )
        answer = yield talks.Request("GET", "/search/", query={"q": asked})
        found = [
            one
            for one in talks.expect_object(answer, 200).get("searchRecords", [])
            if any(crm.same_number(one[name], number) for name in ("Phone", "MobilePhone") if one.get(name))
        ]
        found.sort(key=lambda one: one.get("attributes", {}).get("type") != "Contact")
        if not found:
            return None
        first = found[0]
        entity = str(first.get("attributes", {}).get("type", "Contact")).lower()
        return crm.Contact(entity, first["Id"], first.get("Name"), first.get("OwnerId"), crm.words(first, fields))

    def ring(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """Salesforce pops screens from a softphone in the browser only; our own card does."""
        yield from ()

    def create_lead(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[crm.Contact]:
        """One lead for a number, however often it calls before the search knows it."""
        place = f"/sobjects/Lead/{self._account.lead_field}/{task.number.lstrip('+')}"
        there = yield talks.Request("GET", place, query={"fields": "Id,Name,OwnerId"})
        if there.status != 404:
            known_lead = talks.expect_object(there, 200)
            return crm.Contact("lead", known_lead["Id"], known_lead.get("Name"), known_lead.get("OwnerId"))
        call = task.call
        fields: dict[str, Any] = {
            "LastName": (call.caller_name or task.number)[:MAX_LAST_NAME],
            "Company": self._account.company,
            "Phone": task.number,
            "LeadSource": self._account.lead_source,
            "Description": "\n".join(crm.lines(task)),
        }
        if task.user is not None:
            fields["OwnerId"] = task.user
        answer = yield talks.Request("PATCH", place, json=fields)
        return crm.Contact("lead", talks.expect_object(answer, 200, 201)["id"], call.caller_name)

    def log(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """The task, by our call id: again is the same again."""
        call = task.call
        fields: dict[str, Any] = {
            "Subject": crm.subject(task)[:MAX_SUBJECT],
            "TaskSubtype": "Call",
            "CallType": "Inbound" if call.is_inbound else "Outbound",
            "CallDurationInSeconds": call.talk_seconds,
            "CallDisposition": task.disposition.salesforce,
            "CallObject": call.call_id[:MAX_CALL_OBJECT],
            "ActivityDate": _date(call.started_us, call.time_zone),
            "Status": "Completed",
            "Priority": "Normal",
            "Description": "\n".join(crm.lines(task)),
        }
        if contact is not None:
            fields["WhoId"] = contact.id
        if task.user is not None:
            fields["OwnerId"] = task.user
        answer = yield talks.Request("PATCH", self._place(call.call_id), json=fields)
        talks.expect(answer, 200, 201, 204)
        return call.call_id

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """Into the description, whatever else stands there by now."""
        answer = yield talks.Request("GET", self._place(external_id), query={"fields": "Description"})
        text = str(talks.expect_object(answer, 200).get("Description") or "")
        if url in text:
            return
        answer = yield talks.Request(
            "PATCH", self._place(external_id), json={"Description": f"{text}\nRecording: {url}".strip()}
        )
        talks.expect(answer, 200, 201, 204)

    def _place(self, call_id: str) -> str:
        return f"/sobjects/Task/{self._account.call_field}/{call_id}"


def _date(at_us: int, time_zone: str) -> str:
    return datetime.fromtimestamp(at_us // SECOND_US, UTC).astimezone(ZoneInfo(time_zone)).date().isoformat()
