"""Bitrix24 telephony: register while it rings, finish when it is over, attach the record.

Rules: integrations.md 4.5. The methods work only for an application (OAuth), not for an inbound webhook. Registering
the same `EXTERNAL_CALL_ID` within 30 minutes returns the call of before; behind that `known` has it. A call there has
no text of ours, so channel, campaign and agent (R41) stand in a comment on the caller's timeline
(`crm.timeline.comment` of their REST reference), looked for by the call id before it is written again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.outgoing import crm, talks
from gateway.core.outgoing.told import SECOND_US

CALL_ID = "call_id"
"""Key of `known`: Bitrix24's CALL_ID, from the register on."""
FINISHED = "finished"
"""Key of `known`: the call was finished; what is left is the comment."""

_OUT, _IN = 1, 2


class Bitrix24:
    """One portal. `default_user` of the policy is required: a call must have a user."""

    kind = "bitrix24"
    logs_banned = True
    per_second = 2.0
    token_style = talks.TokenStyle.BODY

    def __init__(self, portal: str, source: str = "CALL") -> None:
        """`portal` is its address, `source` the CRM_SOURCE of its list of sources."""
        self.base_url = portal.rstrip("/") + "/rest"
        self._source = source

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[crm.Contact | None]:
        """By their own search; attributes need a second question."""
        found = yield from _ask("telephony.externalCall.searchCrmEntities", {"PHONE_NUMBER": number})
        first = next((one for one in found if isinstance(one, dict)), None) if isinstance(found, list) else None
        if first is None:
            return None
        entity, id_ = str(first["CRM_ENTITY_TYPE"]).lower(), str(first["CRM_ENTITY_ID"])
        attributes: dict[str, str] = {}
        if fields:
            attributes = crm.words((yield from _ask(f"crm.{entity}.get", {"id": id_})), fields)
        return crm.Contact(entity, id_, first.get("NAME"), _text(first.get("ASSIGNED_BY_ID")), attributes)

    def ring(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """Registers the call; Bitrix24 shows the card to the user."""
        yield from self._register(task, contact, known, show=True)

    def create_lead(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[crm.Contact]:
        """Bitrix24 makes it itself when the call is registered."""
        found = yield from self._register(task, None, known, show=False)
        entity, id_ = found.get("CRM_ENTITY_TYPE"), found.get("CRM_ENTITY_ID")
        if found.get("CRM_CREATED_LEAD"):
            entity, id_ = "LEAD", found["CRM_CREATED_LEAD"]
        if not entity or not id_:
            raise talks.Refused(talks.Kind.LATER, "registered without a CRM entity")
        return crm.Contact(str(entity).lower(), str(id_))

    def log(self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """Finishes the call, registered now if it was not when it rang, and says on the timeline where it came from."""
        if CALL_ID not in known:
            yield from self._register(task, contact, known, show=False)
        if FINISHED not in known:
            yield from self._finish(task, known)
        if contact is not None:
            yield from self._comment(task, contact)
        return known[CALL_ID]

    def _finish(self, task: crm.Task, known: dict[str, str]) -> talks.Talk[None]:
        fields: dict[str, Any] = {
            "CALL_ID": known[CALL_ID],
            "USER_ID": task.user,
            "DURATION": task.call.talk_seconds,
            "STATUS_CODE": task.disposition.bitrix24,
            "ADD_TO_CHAT": 0,
        }
        if not task.call.was_answered and task.call.outcome is not None:
            fields["FAILED_REASON"] = task.call.outcome.value
        yield from _ask("telephony.externalCall.finish", fields)
        known[FINISHED] = "yes"

    def _comment(self, task: crm.Task, contact: crm.Contact) -> talks.Talk[None]:
        place = {"ENTITY_ID": int(contact.id), "ENTITY_TYPE": contact.entity}
        if task.is_retry:
            asked = {"order": {"ID": "DESC"}, "filter": place, "select": ["ID", "COMMENT"]}
            there = yield from _ask("crm.timeline.comment.list", asked)
            if any(task.call.call_id in str(one.get("COMMENT")) for one in there or ()):
                return
        fields = {**place, "COMMENT": "\n".join(_plain(line) for line in crm.lines(task))}
        yield from _ask("crm.timeline.comment.add", {"fields": fields})

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """Bitrix24 fetches the file itself."""
        fields = {"CALL_ID": external_id, "FILENAME": f"{external_id}.mp3".replace("/", "_"), "RECORD_URL": url}
        yield from _ask("telephony.externalCall.attachRecord", fields)

    def _register(
        self, task: crm.Task, contact: crm.Contact | None, known: dict[str, str], *, show: bool
    ) -> talks.Talk[Mapping[str, Any]]:
        call = task.call
        creates = task.makes_leads and contact is None
        fields: dict[str, Any] = {
            "USER_ID": (contact.owner if contact else None) or task.policy.default_user,
            "PHONE_NUMBER": task.number,
            "TYPE": _IN if call.is_inbound else _OUT,
            "CALL_START_DATE": _date_time(call.started_us, call.time_zone),
            "CRM_CREATE": int(creates),
            "CRM_SOURCE": self._source,
            "SHOW": int(show),
            "LINE_NUMBER": call.tracking_number,
            "EXTERNAL_CALL_ID": call.call_id,
        }
        if contact is not None:
            fields |= {"CRM_ENTITY_TYPE": contact.entity.upper(), "CRM_ENTITY_ID": contact.id}
        found = yield from _ask("telephony.externalCall.register", fields)
        if not isinstance(found, dict) or not found.get("CALL_ID"):
            raise talks.Refused(talks.Kind.LATER, "registered without a CALL_ID")
        known[CALL_ID] = str(found["CALL_ID"])
        return found


def _ask(method: str, fields: Mapping[str, Any]) -> talks.Talk[Any]:
    asks_only = method.endswith((".get", ".list", ".searchCrmEntities"))
    answer = yield talks.Request("POST", f"/{method}", json=dict(fields), asks_only=asks_only)
    body = answer.body()
    error = body.get("error") if isinstance(body, dict) else None
    if error in ("expired_token", "invalid_token"):
        raise talks.Refused(talks.Kind.TOKEN, f"answered {answer.status}, {error}")
    if error in ("QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "INTERNAL_SERVER_ERROR"):
        raise talks.Refused(talks.Kind.LATER, f"answered {answer.status}, {error}", talks.retry_after_seconds(answer))
    if error and answer.status < 500 and answer.status not in (408, 429):
        raise talks.Refused(talks.Kind.NEVER, f"answered {answer.status}, {error}")
    return talks.expect_object(answer, 200).get("result")


def _plain(text: str) -> str:
    """Brackets are mark-up there, and a caller's text has none to give."""
    return text.replace("[", "(").replace("]", ")")


def _date_time(at_us: int, time_zone: str) -> str:
    return datetime.fromtimestamp(at_us // SECOND_US, UTC).astimezone(ZoneInfo(time_zone)).isoformat()


def _text(value: object) -> str | None:
    return str(value) if value else None
