"""Five CRMs on loopback, with memory; rules quoted from integrations.md 4.5."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from tests.fakes.handing import CALLER
from tests.fakes.peer import Asked, Peer, Reply, digits, equal, fields, holds, one_of, text, whole

TRACKING = "+74990000001"


class CrmPeer(Peer):
    """What all have: people by number, leads, and calls by our call id (each logged one, so that doubles show)."""

    def __init__(self) -> None:
        super().__init__()
        self.people: dict[str, str] = {}
        """Id by number."""
        self.leads: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        """What stands beside a call where the call itself has no text."""
        self.recordings: list[str] = []
        self.shown: list[str] = []
        """Calls whose card was shown."""

    def knows(self, number: str = CALLER) -> None:
        """Somebody with this number is in the CRM."""
        self.people[number] = "501"

    def answer(self, asked: Asked) -> Reply:
        if not self.is_authorised(asked):
            return self.unauthorised()
        return self.served(asked)

    def is_authorised(self, asked: Asked) -> bool:
        return asked.headers.get("authorization") == f"Bearer {self.token}"

    def unauthorised(self) -> Reply:
        return Reply(401, {"status": "error"})

    def served(self, asked: Asked) -> Reply:
        raise NotImplementedError


class Bitrix24(CrmPeer):
    """A portal."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: dict[str, str] = {}

    def is_authorised(self, asked: Asked) -> bool:
        # Works only in app context: the token of OAuth, as `auth`
        return bool(asked.json().get("auth") == self.token)

    def unauthorised(self) -> Reply:
        return Reply(401, {"error": "expired_token", "error_description": "…"})

    def served(self, asked: Asked) -> Reply:
        holds(asked.method == "POST", "POST {portal}/rest/{method}")
        given = {name: value for name, value in asked.json().items() if name != "auth"}
        match asked.path:
            case "/rest/telephony.externalCall.searchCrmEntities":
                fields(given, {"PHONE_NUMBER": text})
                id_ = self.people.get(given["PHONE_NUMBER"])
                entity = "LEAD" if id_ == "901" else "CONTACT"
                found = {"CRM_ENTITY_TYPE": entity, "CRM_ENTITY_ID": id_, "NAME": "Ivan", "ASSIGNED_BY_ID": "7"}
                return Reply(200, {"result": [found] if id_ else []})
            case "/rest/crm.contact.get":
                fields(given, {"id": equal("501")})
                return Reply(200, {"result": {"ID": "501", "UF_AGE": "41", "UF_EMPTY": ""}})
            case "/rest/telephony.externalCall.register":
                return self._register(given)
            case "/rest/telephony.externalCall.finish":
                return self._finish(given)
            case "/rest/crm.timeline.comment.list":
                # filter: ENTITY_ID and ENTITY_TYPE are required
                fields(given, {"filter": _is_place, "select": lambda value: "COMMENT" in value}, {"order": bool})
                return Reply(200, {"result": [one for one in self.comments if given["filter"].items() <= one.items()]})
            case "/rest/crm.timeline.comment.add":
                # fields: ENTITY_ID integer, ENTITY_TYPE lead|deal|contact|company|order, COMMENT string
                fields(given, {"fields": lambda value: set(value) == {"ENTITY_ID", "ENTITY_TYPE", "COMMENT"}})
                fields({name: given["fields"][name] for name in ("ENTITY_ID", "ENTITY_TYPE")}, _PLACE)
                holds("[" not in given["fields"]["COMMENT"], "a text without mark-up")
                self.comments.append({**given["fields"], "ID": str(len(self.comments))})
                return Reply(200, {"result": len(self.comments)})
            case "/rest/telephony.externalCall.attachRecord":
                # {CALL_ID, FILENAME, FILE_CONTENT|RECORD_URL}
                fields(given, {"CALL_ID": text, "FILENAME": text, "RECORD_URL": text})
                self.recordings.append(given["RECORD_URL"])
                return Reply(200, {"result": {"FILE_ID": 1}})
        holds(False, "a method of the table")
        raise AssertionError

    def _register(self, given: dict[str, Any]) -> Reply:
        fields(
            given,
            {
                # USER_ID|USER_PHONE_INNER*, PHONE_NUMBER*
                "USER_ID": digits,
                "PHONE_NUMBER": text,
                # TYPE* 1 out 2 in 3 in-redirected 4 callback 5 info
                "TYPE": one_of(1, 2),
                # CALL_START_DATE ISO-8601 with zone
                "CALL_START_DATE": lambda value: datetime.fromisoformat(value).utcoffset() is not None,
                "CRM_CREATE": one_of(0, 1),
                "CRM_SOURCE": text,
                "SHOW": one_of(0, 1),
                # LINE_NUMBER (send the tracking number)
                "LINE_NUMBER": equal(TRACKING),
                "EXTERNAL_CALL_ID": text,
            },
            {"CRM_ENTITY_TYPE": one_of("CONTACT", "LEAD", "COMPANY"), "CRM_ENTITY_ID": digits},
        )
        key = given["EXTERNAL_CALL_ID"]
        result: dict[str, Any] = {"CRM_CREATED_LEAD": None, "CRM_CREATED_ENTITIES": []}
        if given["SHOW"]:
            self.shown.append(key)
        if key not in self.registered:
            # same key within 30 min returns the old CALL_ID
            self.registered[key] = f"externalCall.{len(self.registered) + 1}"
        if given["CRM_CREATE"] and given["PHONE_NUMBER"] not in self.people:
            self.people[given["PHONE_NUMBER"]] = "901"
            self.leads.append(given)
            result["CRM_CREATED_LEAD"] = "901"
        id_ = self.people.get(given["PHONE_NUMBER"])
        kind = "LEAD" if id_ == "901" else "CONTACT"
        result |= {"CALL_ID": self.registered[key], "CRM_ENTITY_TYPE": kind if id_ else "", "CRM_ENTITY_ID": id_}
        return Reply(200, {"result": result})

    def _finish(self, given: dict[str, Any]) -> Reply:
        fields(
            given,
            # {CALL_ID*, USER_ID|USER_PHONE_INNER*, DURATION s, …, STATUS_CODE, …}
            {"CALL_ID": text, "USER_ID": digits, "DURATION": whole, "STATUS_CODE": text, "ADD_TO_CHAT": one_of(0, 1)},
            {"FAILED_REASON": text},
        )
        holds(given["CALL_ID"] in self.registered.values(), "a call that was registered")
        self.calls = [one for one in self.calls if one["CALL_ID"] != given["CALL_ID"]] + [given]
        return Reply(200, {"result": {"CALL_ID": given["CALL_ID"]}})


_PLACE = {"ENTITY_ID": whole, "ENTITY_TYPE": one_of("lead", "contact", "company")}


def _is_place(value: Any) -> bool:
    fields(value, _PLACE)
    return True


class AmoCrm(CrmPeer):
    """An account."""

    def served(self, asked: Asked) -> Reply:
        match asked.method, asked.path:
            case "GET", "/api/v4/contacts":
                return self._search(asked)
            case "GET", "/api/v4/leads/unsorted":
                # limit ≤ 250, page from 1
                size, page = int(asked.query["limit"]), int(asked.query["page"])
                holds(asked.query["filter[category][]"] == "sip" and 0 < size <= 250 and page > 0, "a page of sip")
                shown = self.leads[(page - 1) * size : page * size]
                unsorted = [{"uid": one["uid"], "metadata": one["metadata"]} for one in shown]
                return Reply(200, {"_embedded": {"unsorted": unsorted}}) if unsorted else Reply(204)
            case "GET", "/api/v4/contacts/501/notes":
                notes = [{"id": one["id"], "params": {"uniq": one["uniq"]}} for one in self.calls]
                return Reply(200, {"_embedded": {"notes": notes}}) if notes else Reply(204)
            case "POST", "/api/v4/calls":
                return self._logged(asked.json())
            case "POST", "/api/v4/leads/unsorted/sip":
                return self._unsorted(asked.json())
        # GET is 405 (write-only)
        holds(False, "an address of the table")
        raise AssertionError

    def _search(self, asked: Asked) -> Reply:
        wanted = asked.query["query"]
        # Their search finds parts of numbers and of names.
        found = [{"id": 499, "name": "Other", "custom_fields_values": [_phone("+7495123456700")]}]
        for number, id_ in self.people.items():
            if wanted in number:
                shown = f"8 ({number[2:5]}) {number[5:8]}-{number[8:10]}-{number[10:]}"
                values = [_phone(shown), {"field_name": "Age", "values": [{"value": "41"}]}]
                found.append({"id": int(id_), "name": "Ivan", "responsible_user_id": 7, "custom_fields_values": values})
        return Reply(200, {"_embedded": {"contacts": found}}) if found else Reply(204)

    def _logged(self, body: Any) -> Reply:
        # JSON array
        holds(isinstance(body, list) and len(body) == 1, "JSON array")
        fields(
            body[0],
            {
                # direction inbound|outbound*, duration* s (int), source* (non-empty, blank → 400), phone*
                "direction": one_of("inbound", "outbound"),
                "duration": whole,
                "source": text,
                "phone": text,
            },
            {
                "uniq": text,
                "link": lambda value: value.startswith("https://"),
                "call_result": text,
                "call_status": one_of(*range(1, 9)),
                # call_responsible (int id; a string is taken as a name)
                "responsible_user_id": whole,
                "call_responsible": whole,
                "created_at": whole,
                "request_id": text,
            },
        )
        if body[0]["phone"] not in self.people:
            # when none exists it goes to errors
            errors = [{"title": "Entity not found", "detail": "Entity not found", "request_id": "0"}]
            return Reply(200, {"_total_items": 0, "errors": errors, "_embedded": {"calls": []}})
        self.calls.append({**body[0], "id": 7000 + len(self.calls)})
        made = {"id": self.calls[-1]["id"], "entity_id": 501, "entity_type": "contact", "request_id": "0"}
        return Reply(200, {"_total_items": 1, "errors": [], "_embedded": {"calls": [made]}})

    def _unsorted(self, body: Any) -> Reply:
        holds(isinstance(body, list) and len(body) == 1, "JSON array")
        fields(
            body[0],
            {"source_name": text, "source_uid": text, "metadata": lambda value: isinstance(value, dict)},
            {"created_at": whole, "_embedded": lambda value: set(value) <= {"leads", "contacts", "companies"}},
        )
        # metadata{phone, call_responsible, called_at, duration, link, service_code, uniq, is_call_event_needed}
        fields(
            body[0]["metadata"],
            {
                "from": text,
                "phone": text,
                "called_at": whole,
                "duration": whole,
                "link": lambda value: isinstance(value, str),
                "service_code": text,
                "uniq": text,
                "is_call_event_needed": equal(True),
            },
            {"call_responsible": whole},
        )
        self.leads.append({**body[0], "uid": f"uid-{len(self.leads)}"})
        # The unsorted lead holds its call.
        self.calls.append({"id": 0, "uniq": body[0]["metadata"]["uniq"], **body[0]["metadata"]})
        return Reply(200, {"_embedded": {"unsorted": [{"uid": self.leads[-1]["uid"]}]}})


def _phone(number: str) -> dict[str, Any]:
    return {"field_code": "PHONE", "field_name": "Phone", "values": [{"value": number, "enum_code": "WORK"}]}


class HubSpot(CrmPeer):
    """A portal."""

    def served(self, asked: Asked) -> Reply:
        match asked.method, asked.path:
            case "POST", "/crm/v3/objects/contacts/search":
                return self._search(asked.json())
            case "POST", "/crm/v3/objects/calls/search":
                wanted = asked.json()["filterGroups"][0]["filters"][0]
                holds(wanted["propertyName"] == "hs_call_external_id", "searched by our id")
                found = [{"id": one["id"]} for one in self.calls if one["hs_call_external_id"] == wanted["value"]]
                return Reply(200, {"total": len(found), "results": found})
            case "POST", "/crm/v3/objects/contacts":
                fields(asked.json(), {"properties": lambda value: value["phone"].startswith("+")})
                self.leads.append(asked.json()["properties"])
                self.people[asked.json()["properties"]["phone"]] = "901"
                return Reply(201, {"id": "901"})
            case "POST", "/crm/v3/objects/calls":
                return self._logged(asked.json())
            case "PATCH", path if path.startswith("/crm/v3/objects/calls/"):
                # hs_call_recording_url (https, reachable)
                fields(asked.json(), {"properties": lambda value: set(value) == {"hs_call_recording_url"}})
                self.recordings.append(asked.json()["properties"]["hs_call_recording_url"])
                return Reply(200, {"id": path.rpartition("/")[2]})
        holds(False, "an address of the table")
        raise AssertionError

    def _search(self, body: Any) -> Reply:
        holds(len(body["filterGroups"]) <= 5, "at most five groups")
        wanted = {one["filters"][0]["propertyName"]: one["filters"][0]["value"] for one in body["filterGroups"]}
        found = []
        for number, id_ in self.people.items():
            if number == wanted["phone"] or number.endswith(wanted["hs_searchable_calculated_phone_number"]):
                known = {"firstname": "Ivan", "phone": number, "hubspot_owner_id": "7", "age": "41"}
                found.append({"id": id_, "properties": {name: known.get(name) for name in body["properties"]}})
        return Reply(200, {"total": len(found), "results": found})

    def _logged(self, body: Any) -> Reply:
        fields(body, {"properties": lambda value: isinstance(value, dict)}, {"associations": bool})
        fields(
            body["properties"],
            {
                # hs_timestamp (ms or ISO, required)
                "hs_timestamp": lambda value: re.fullmatch(r"\d{13}", value) is not None,
                "hs_call_title": text,
                "hs_call_body": text,
                # INBOUND|OUTBOUND
                "hs_call_direction": one_of("INBOUND", "OUTBOUND"),
                "hs_call_status": one_of("COMPLETED", "NO_ANSWER", "CANCELED", "BUSY", "FAILED"),
                # hs_call_duration (ms)
                "hs_call_duration": lambda value: digits(value) and int(value) % 1000 == 0,
                "hs_call_from_number": text,
                "hs_call_to_number": text,
                # hs_call_source INTEGRATIONS_PLATFORM (needed for recording/transcript)
                "hs_call_source": equal("INTEGRATIONS_PLATFORM"),
                "hs_call_external_id": text,
            },
            {
                # hs_call_disposition (GUID)
                "hs_call_disposition": lambda value: (
                    re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value) is not None
                ),
                "hubspot_owner_id": digits,
            },
        )
        # associations:[{to:{id},types:[{associationCategory:"HUBSPOT_DEFINED",associationTypeId:194}]}]
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}
        for one in body.get("associations", ()):
            fields(one, {"to": lambda value: digits(value["id"]), "types": equal([kind])})
        self.calls.append({**body["properties"], "id": str(7000 + len(self.calls)), "to": body.get("associations")})
        return Reply(201, {"id": self.calls[-1]["id"]})


class Salesforce(CrmPeer):
    """An organisation with both external ids."""

    def served(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/services/data/v64.0")
        holds(path != asked.path, "{instance}/services/data/v{N}/…")
        match asked.method, path.split("/")[1:]:
            case "GET", ["search", ""]:
                return self._search(asked.query["q"])
            case "GET", ["sobjects", "Lead", "Dialmark_Number__c", number]:
                there = [one for one in self.leads if one["key"] == number]
                return Reply(200, {"Id": "00Q1", "Name": "x"}) if there else Reply(404, [{"errorCode": "NOT_FOUND"}])
            case "PATCH", ["sobjects", "Lead", "Dialmark_Number__c", number]:
                body = asked.json()
                fields(
                    body,
                    {"LastName": text, "Company": text, "Phone": text, "LeadSource": text, "Description": text},
                    {"OwnerId": text},
                )
                if not any(one["key"] == number for one in self.leads):
                    self.leads.append({**body, "key": number})
                return Reply(201, {"id": "00Q1", "success": True, "created": True})
            case "PATCH", ["sobjects", "Task", "Dialmark_Call__c", call_id]:
                return self._task(call_id, asked.json())
            case "GET", ["sobjects", "Task", "Dialmark_Call__c", call_id]:
                task = next(one for one in self.calls if one["key"] == call_id)
                return Reply(200, {"Description": task["Description"]})
        holds(False, "an address of the table")
        raise AssertionError

    def _search(self, asked: str) -> Reply:
        match = re.match(r"FIND \{\*(\d+)\} IN PHONE FIELDS RETURNING Contact\(", asked)
        holds(match, "FIND {*digits} IN PHONE FIELDS")
        assert match is not None
        found = [
            {
                "attributes": {"type": "Contact"},
                "Id": "003A",
                "Name": "Ivan",
                "OwnerId": "005B",
                "Phone": number,
                "Age__c": 41,
            }
            for number in self.people
            if number.endswith(match[1])
        ]
        return Reply(200, {"searchRecords": found})

    def _task(self, call_id: str, body: dict[str, Any]) -> Reply:
        there = next((one for one in self.calls if one["key"] == call_id), None)
        if there is not None and set(body) == {"Description"}:
            self.recordings.append(body["Description"].rpartition("Recording: ")[2])
            there |= body
            return Reply(204)
        fields(
            body,
            {
                # {Subject, TaskSubtype:"Call", CallType:"Inbound", CallDurationInSeconds (int, s), CallDisposition,
                # CallObject (external id ≤ 255), WhoId, WhatId, ActivityDate, Status:"Completed", Priority,
                # Description}
                "Subject": lambda value: text(value) and len(value) <= 255,
                "TaskSubtype": equal("Call"),
                "CallType": one_of("Inbound", "Outbound"),
                "CallDurationInSeconds": whole,
                "CallDisposition": text,
                "CallObject": lambda value: text(value) and len(value) <= 255,
                "ActivityDate": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None,
                "Status": equal("Completed"),
                "Priority": equal("Normal"),
                "Description": text,
            },
            {"WhoId": one_of("003A", "00Q1"), "OwnerId": text},
        )
        # Idempotency: custom external-id field + PATCH …/Task/Ext__c/{call_id}
        if there is not None:
            there |= body
            return Reply(200, {"id": "00T1", "success": True, "created": False})
        self.calls.append({**body, "key": call_id})
        return Reply(201, {"id": "00T1", "success": True, "created": True})


class Pipedrive(CrmPeer):
    """A company."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}

    def is_authorised(self, asked: Asked) -> bool:
        return asked.headers.get("x-api-token") == self.token

    def served(self, asked: Asked) -> Reply:
        match asked.method, asked.path:
            case "GET", "/v1/persons/search":
                holds(asked.query["fields"] == "phone", "searched by telephone")
                items = [
                    {
                        "item": {
                            "id": int(id_),
                            "name": self.names.get(id_, "Ivan"),
                            "phones": [number],
                            "owner": {"id": 7},
                        }
                    }
                    for number, id_ in self.people.items()
                    if number == asked.query["term"]
                ]
                return Reply(200, {"success": True, "data": {"items": items}})
            case "GET", "/v1/persons/501":
                known = {"id": 501, "age": 41, "add_time": "2020-01-01 00:00:00"}
                return Reply(200, {"success": True, "data": known})
            case "GET", path if path.startswith("/v1/persons/"):
                # add_time in UTC
                return Reply(200, {"success": True, "data": {"id": int(path[12:]), "add_time": "2026-11-21 11:32:00"}})
            case "POST", "/v1/persons":
                fields(asked.json(), {"name": text, "phone": lambda value: value[0]["value"].startswith("+")})
                made = 901 + sum(id_ != "501" for id_ in self.people.values())
                self.people[asked.json()["phone"][0]["value"]] = str(made)
                self.names[str(made)] = asked.json()["name"]
                return Reply(201, {"success": True, "data": {"id": made}})
            case "POST", "/v1/leads":
                fields(asked.json(), {"title": text, "person_id": whole})
                holds(str(asked.json()["person_id"]) in self.people.values(), "a person who is there")
                self.leads.append({**asked.json(), "id": "adf21080-0e10-11eb-879b-05d71fb426ec"})
                return Reply(201, {"success": True, "data": self.leads[-1]})
            case "GET", "/v1/leads":
                there = [one for one in self.leads if str(one["person_id"]) == asked.query["person_id"]]
                return Reply(200, {"success": True, "data": there})
            case "GET", "/v1/callLogs":
                start, size = int(asked.query["start"]), int(asked.query["limit"])
                holds(start >= 0 and 0 < size <= 100, "a page of at most 100")
                return Reply(200, {"success": True, "data": self.calls[start : start + size] or None})
            case "POST", "/v1/callLogs":
                return self._logged(asked.json())
        holds(False, "an address of the table")
        raise AssertionError

    def _logged(self, body: dict[str, Any]) -> Reply:
        stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        fields(
            body,
            {
                # outcome*: connected|no_answer|left_message|left_voicemail|wrong_number|busy, to_phone_number*,
                # start_time*, end_time* (UTC YYYY-MM-DD HH:MM:SS)
                "outcome": one_of("connected", "no_answer", "left_message", "left_voicemail", "wrong_number", "busy"),
                "to_phone_number": text,
                "start_time": lambda value: re.fullmatch(stamp, value) is not None,
                "end_time": lambda value: re.fullmatch(stamp, value) is not None,
            },
            {
                "from_phone_number": text,
                # duration (string s)
                "duration": digits,
                "subject": text,
                "person_id": whole,
                # deal_id or lead_id
                "lead_id": text,
                "user_id": whole,
                # note (HTML)
                "note": lambda value: text(value) and "<script" not in value,
            },
        )
        self.calls.append({**body, "id": f"log-{len(self.calls)}"})
        return Reply(200, {"success": True, "data": self.calls[-1]})
