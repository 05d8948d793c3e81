"""Pipedrive: call logs of persons; unknown callers become a person with a lead.

Rules: integrations.md 4.5. A call log has no id of ours: it stands in its note, and a log that may be there is looked
for by it, page by page.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from html import escape
from typing import Any

from gateway.core.outgoing import crm, talks
from gateway.core.outgoing.told import SECOND_US

WORLD = "https://api.pipedrive.com"
PERSON = "person"
LEAD = "lead"
"""Key of `known`: the lead that was made for an unknown caller."""

SKEW_US = 300 * SECOND_US
"""So much their clock and ours may differ."""

_PAGE = 100
_PAGES = 50
"""So far back a log that may be there is looked for: behind an outage there are many that came later."""


class Pipedrive:
    """One company."""

    kind = "pipedrive"
    logs_banned = False
    per_second = 5.0

    def __init__(self, base_url: str = WORLD, *, has_api_token: bool = True) -> None:
        """`has_api_token`: the token is a user's own, not one of OAuth."""
        self.base_url = base_url.rstrip("/") + "/v1"
        self.token_style = talks.TokenStyle.API_TOKEN if has_api_token else talks.TokenStyle.BEARER

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[crm.Contact | None]:
        """By telephone; attributes need a second question."""
        answer = yield talks.Request("GET", "/persons/search", query={"term": number, "fields": "phone", "limit": "20"})
        data = talks.expect_object(answer, 200).get("data") or {}
        people = [one.get("item", {}) for one in data.get("items", [])]
        person = next((one for one in people if any(crm.same_number(it, number) for it in one.get("phones", ()))), None)
        if person is None:
            return None
        attributes: dict[str, str] = {}
        if fields:
            answer = yield talks.Request("GET", f"/persons/{person['id']}")
            attributes = crm.words(talks.expect_object(answer, 200).get("data") or {}, fields)
        owner = (person.get("owner") or {}).get("id")
        return crm.Contact(PERSON, str(person["id"]), person.get("name"), str(owner) if owner else None, attributes)

    def ring(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """Pipedrive pops nothing for a server; our own card does."""
        yield from ()

    def create_lead(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[crm.Contact]:
        """First the person, then the lead of that person; a half of it is gone on with."""
        name = _name(task)
        if known.get(crm.HALF, crm.BEGUN) == crm.BEGUN:
            known[crm.HALF] = crm.BEGUN
            phone = [{"value": task.number, "primary": True, "label": "work"}]
            answer = yield talks.Request("POST", "/persons", json={"name": name, "phone": phone})
            known[crm.HALF] = str(talks.expect_object(answer, 200, 201)["data"]["id"])
        yield from self._lead(task, known[crm.HALF], known)
        return crm.Contact(PERSON, known[crm.HALF], name)

    def log(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """One call log, with the lead that the call made or else the person."""
        if task.is_retry:
            there = yield from self._logged(task.call.call_id)
            if there is not None:
                return there
            if contact is not None and (yield from self._is_ours(task, contact, known)):
                yield from self._lead(task, contact.id, known)
        call = task.call
        tracking = call.tracking_number or task.number
        body: dict[str, Any] = {
            "outcome": task.disposition.pipedrive,
            "from_phone_number": task.number if call.is_inbound else tracking,
            "to_phone_number": tracking if call.is_inbound else task.number,
            "start_time": _date_time(call.started_us),
            "end_time": _date_time(call.last_us),
            "duration": str(call.talk_seconds),
            "subject": crm.subject(task),
            "note": "<br>".join(escape(line) for line in crm.lines(task)),
        }
        if LEAD in known:
            body["lead_id"] = known[LEAD]
        elif contact is not None:
            body["person_id"] = int(contact.id)
        if task.user is not None:
            body["user_id"] = int(task.user)
        answer = yield talks.Request("POST", "/callLogs", json=body)
        return str(talks.expect_object(answer, 200, 201)["data"]["id"])

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """Pipedrive takes the sound itself and no address; the link to our page stands in the note."""
        yield from ()

    def _lead(self, task: crm.Task, person: str, known: dict[str, str]) -> talks.Talk[None]:
        """The lead of a person whom the call made."""
        if LEAD not in known and task.is_retry:
            answer = yield talks.Request("GET", "/leads", query={"person_id": person, "limit": "1"})
            there = talks.expect_object(answer, 200).get("data") or []
            if there:
                known[LEAD] = str(there[0]["id"])
        if LEAD not in known:
            body = {"title": crm.subject(task), "person_id": int(person)}
            answer = yield talks.Request("POST", "/leads", json=body)
            known[LEAD] = str(talks.expect_object(answer, 200, 201)["data"]["id"])

    def _is_ours(self, task: crm.Task, contact: crm.Contact, known: dict[str, str]) -> talks.Talk[bool]:
        """Whether an attempt that was killed made the person and had no time for the lead: nothing was kept of it, but
        the person has our name for them and is younger than the call."""
        if LEAD in known or not task.makes_leads or contact.name != crm.word(_name(task)):
            return False
        answer = yield talks.Request("GET", f"/persons/{contact.id}")
        added = str((talks.expect_object(answer, 200).get("data") or {}).get("add_time") or "")
        return added >= _date_time(task.call.started_us - SKEW_US)

    def _logged(self, call_id: str) -> talks.Talk[str | None]:
        for page in range(_PAGES):
            query = {"start": str(page * _PAGE), "limit": str(_PAGE)}
            answer = yield talks.Request("GET", "/callLogs", query=query)
            logs = talks.expect_object(answer, 200).get("data") or []
            found = next((str(one["id"]) for one in logs if call_id in str(one.get("note"))), None)
            if found is not None or len(logs) < _PAGE:
                return found
        return None


def _name(task: crm.Task) -> str:
    return task.call.caller_name or task.number


def _date_time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // SECOND_US, UTC).strftime("%Y-%m-%d %H:%M:%S")
