"""GA4, Metrica, Google Ads and Meta on loopback; rules quoted from integrations.md 4.1 to 4.4."""

from __future__ import annotations

import csv
import io
import re
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.fakes.peer import Asked, Peer, Reply, digits, equal, fields, holds, number, one_of, sha256, text, whole

MONTH_SECONDS = 31 * 86_400
NOW_SECONDS = 1_795_260_720
"""What `handing.NOW_US` is."""


class Ga4(Peer):
    """A data stream."""

    now_seconds = NOW_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[dict[str, Any]] = []
        self.messages: list[dict[str, str]] = []
        """What its own check says."""

    @property
    def names(self) -> list[str]:
        """Of all events that were counted."""
        return [one["name"] for body in self.counted for one in body["events"]]

    def answer(self, asked: Asked) -> Reply:
        # POST …/mp/collect?measurement_id=G-…&api_secret=…
        holds(asked.method == "POST", "POST")
        holds(asked.path in ("/mp/collect", "/debug/mp/collect"), "POST /mp/collect")
        holds(set(asked.query) == {"measurement_id", "api_secret"}, "?measurement_id=G-…&api_secret=…")
        holds(re.fullmatch(r"G-[A-Z0-9]+", asked.query["measurement_id"]), "measurement_id=G-…")
        holds(asked.headers["content-type"] == "application/json", "JSON")
        # body < 130 kB
        holds(len(asked.body) < 130_000, "body < 130 kB")
        self._check(asked.json(), is_debug=asked.path.startswith("/debug"))
        if asked.path.startswith("/debug"):
            # → {"validationMessages":[{fieldPath,description,validationCode}]}
            return Reply(200, {"validationMessages": self.messages})
        self.counted.append(asked.json())
        # answers 204 for anything
        return Reply(204)

    def _check(self, body: Any, *, is_debug: bool) -> None:
        fields(
            body,
            {
                # client_id (required, from _ga)
                "client_id": lambda value: re.fullmatch(r"\d+\.\d+", value) is not None,
                # events:[…], ≤ 25 events/request
                "events": lambda value: 1 <= len(value) <= 25,
                # timestamp_micros: backdating ≤ 72 h
                "timestamp_micros": lambda value: whole(value) and 0 <= self.now_seconds - value / 1e6 <= 72 * 3600,
                "consent": lambda value: (
                    set(value) == {"ad_user_data", "ad_personalization"}
                    and set(value.values()) <= {"GRANTED", "DENIED"}
                ),
            },
            {
                # user_data:{sha256_phone_number:[…]} hex lower
                "user_data": lambda value: (
                    set(value) == {"sha256_phone_number"} and all(map(sha256, value["sha256_phone_number"]))
                ),
                # "validation_behavior":"ENFORCE_RECOMMENDATIONS" there only
                **({"validation_behavior": equal("ENFORCE_RECOMMENDATIONS")} if is_debug else {}),
            },
        )
        for event in body["events"]:
            fields(event, {"name": one_of("phone_call", "generate_lead"), "params": lambda value: len(value) <= 25})
            fields(event["params"], *_PARAMS[event["name"]])
            # values ≤ 100 chars
            holds(all(len(str(value)) <= 100 for value in event["params"].values()), "values ≤ 100 chars")
            # generate_lead {currency, value, …}
            holds(("value" in event["params"]) == ("currency" in event["params"]), "a value has its currency")


def iso4217(value: Any) -> bool:
    """Three capital letters."""
    return isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value) is not None


_SESSION = {"engagement_time_msec": equal(1)}
_PARAMS: dict[str, Any] = {
    # params: session_id (string of the cookie), engagement_time_msec: 1, call_id, call_outcome, talk_seconds,
    # tracking_number_label, first_time_caller, attribution_confidence
    "phone_call": (
        {**_SESSION, "call_id": text, "call_outcome": text, "talk_seconds": whole, "wait_seconds": whole},
        {
            "session_id": digits,
            "tracking_number_label": text,
            "first_time_caller": one_of(0, 1),
            "attribution_confidence": lambda value: number(value) and 0 <= value <= 1,
        },
    ),
    # generate_lead {currency, value, lead_source}
    "generate_lead": (
        {**_SESSION, "call_id": text},
        {"session_id": digits, "currency": iso4217, "value": number, "lead_source": text},
    ),
}


class Metrica(Peer):
    """A counter; `statuses` are what an upload goes through, each time it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, str]] = []
        self.is_on = False
        self.statuses = ["UPLOADED", "EXPORTED", "MATCHED", "PROCESSED"]

    def answer(self, asked: Asked) -> Reply:
        # header Authorization: OAuth <token>
        if asked.headers.get("authorization") != f"OAuth {self.token}":
            return Reply(401, {"code": 401})
        base = "/management/v1/counter/98765/offline_conversions"
        match asked.method, asked.path.removeprefix(base).split("/")[1:]:
            case "POST", ["upload_calls"]:
                return self._uploaded(asked)
            case "POST", ["calls_extended_threshold"]:
                # switch on once POST …/offline_conversions/calls_extended_threshold
                holds(asked.body == b"" and not asked.query, "nothing but the address")
                self.is_on = True
                return Reply(200, {"success": True})
            case "GET", ["calls_uploadings"]:
                return Reply(200, {"uploadings": list(self.uploads.values())})
            case "GET", ["calls_uploading", uploading] if uploading in self.uploads:
                if self.statuses:
                    self.uploads[uploading]["status"] = self.statuses.pop(0)
                return Reply(200, {"uploading": self.uploads[uploading]})
        holds(False, "an address of the table")
        raise AssertionError

    def _uploaded(self, asked: Asked) -> Reply:
        # ?comment=≤255&new_goal_name=Звонок
        holds(set(asked.query) == {"comment", "new_goal_name"}, "?comment=…&new_goal_name=…")
        holds(len(asked.query["comment"]) <= 255, "comment=≤255")
        holds(asked.query["new_goal_name"] == "Звонок", "new_goal_name=Звонок")
        file = multipart(asked)["file"]
        rows = list(csv.DictReader(io.StringIO(file.decode("utf-8"), newline="")))
        holds(rows, "a file with calls")
        for row in rows:
            self._check(row)
        self.rows += rows
        uploading = str(1000 + len(self.uploads))
        self.uploads[uploading] = {
            "id": int(uploading),
            "comment": asked.query["comment"],
            "source_quantity": len(rows),
            "line_quantity": len(rows),
            "status": "PREPARED",
        }
        return Reply(200, {"uploading": self.uploads[uploading]})

    def _check(self, row: dict[str, str]) -> None:
        names = set(row)
        # UserId | ClientId | Yclid: exactly one kind per file
        kinds = names & {"UserId", "ClientId", "Yclid"}
        holds(len(kinds) == 1 and row[kinds.pop()], "exactly one kind per file")
        given = {name: value for name, value in row.items() if value}
        flag = one_of("0", "1")
        fields(
            given,
            # DateTime: yes, Unix s, UTC
            {"DateTime": lambda value: digits(value) and 0 < NOW_SECONDS - int(value) < MONTH_SECONDS},
            {
                "ClientId": digits,
                "Yclid": digits,
                "UserId": text,
                # StaticCall 1 static / 0 dynamic (static is not tied to visits)
                "StaticCall": equal("0"),
                # Price, Currency: decimal point; ISO 4217
                "Price": lambda value: re.fullmatch(r"\d+(\.\d+)?", value) is not None,
                "Currency": iso4217,
                # PhoneNumber +70123456789
                "PhoneNumber": lambda value: re.fullmatch(r"\+\d{7,15}", value) is not None,
                "TalkDuration": digits,
                "HoldDuration": digits,
                "CallMissed": flag,
                "FirstTimeCaller": flag,
                "Tag": text,
                "URL": lambda value: value.startswith("https://"),
                "CallTrackerURL": lambda value: value.startswith("https://"),
            },
        )


class GoogleAds(Peer):
    """A conversion action; `failing` are codes of a partial failure, answered once each."""

    def __init__(self) -> None:
        super().__init__()
        self.orders_seen: dict[str, dict[str, Any]] = {}
        self.failing: list[str] = []

    def answer(self, asked: Asked) -> Reply:
        # headers Authorization: Bearer, developer-token, login-customer-id
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        holds(asked.headers.get("developer-token") == "dev-token", "developer-token")
        holds(digits(asked.headers.get("login-customer-id")), "login-customer-id")
        # POST …/v24/customers/{cid}:uploadClickConversions
        holds(
            asked.method == "POST" and asked.path == "/v24/customers/1112223333:uploadClickConversions", "the address"
        )
        body = asked.json()
        fields(
            body,
            # partialFailure:true
            {"conversions": lambda value: len(value) == 1, "partialFailure": equal(True)},
            {"validateOnly": one_of(True, False), "jobId": whole},
        )
        one = body["conversions"][0]
        # gclid | gbraid | wbraid
        clicks = {"gclid", "gbraid", "wbraid"} & set(one)
        holds(len(clicks) == 1, "gclid | gbraid | wbraid")
        fields(
            {name: value for name, value in one.items() if name not in clicks},
            {
                "conversionAction": equal("customers/1112223333/conversionActions/444"),
                # conversionDateTime:"yyyy-mm-dd hh:mm:ss+|-hh:mm"
                "conversionDateTime": lambda value: (
                    re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", value) is not None
                ),
                "orderId": text,
                "consent": lambda value: value == {"adUserData": "GRANTED", "adPersonalization": "GRANTED"},
            },
            {
                "conversionValue": number,
                "currencyCode": iso4217,
                # userIdentifiers:[{hashedPhoneNumber}] (≤ 5)
                "userIdentifiers": lambda value: (
                    len(value) <= 5
                    and all(set(it) == {"hashedPhoneNumber"} and sha256(it["hashedPhoneNumber"]) for it in value)
                ),
            },
        )
        if self.failing:
            return self._failed(self.failing.pop(0))
        if one["orderId"] in self.orders_seen:
            # orderId unique per action = idempotency
            return self._failed("CLICK_CONVERSION_ALREADY_EXISTS")
        self.orders_seen[one["orderId"]] = one
        # → {partialFailureError?, results[], jobId}
        return Reply(200, {"results": [{name: one[name] for name in clicks}], "jobId": "1"})

    def _failed(self, code: str) -> Reply:
        errors = [{"errorCode": {"conversionUploadError": code}, "message": "Not taken."}]
        detail = {"@type": "type.googleapis.com/google.ads.googleads.v24.errors.GoogleAdsFailure", "errors": errors}
        return Reply(200, {"partialFailureError": {"code": 3, "message": "…", "details": [detail]}, "results": [{}]})


class Meta(Peer):
    """A dataset."""

    now_seconds = NOW_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[tuple[str, str], dict[str, Any]] = {}

    def answer(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(400, {"error": {"code": 190, "message": "Invalid OAuth access token"}})
        # POST …/v{N}/{dataset_id}/events
        holds(asked.method == "POST" and re.fullmatch(r"/v\d+\.0/1234567890/events", asked.path), "the address")
        body = asked.json()
        fields(body, {"data": lambda value: len(value) == 1}, {"test_event_code": text})
        event = body["data"][0]
        fields(
            event,
            {
                # event_name:"Lead"|"Contact"
                "event_name": one_of("Lead", "Contact"),
                # event_time in seconds and ≤ 7 days old
                "event_time": lambda value: whole(value) and 0 <= self.now_seconds - value <= 7 * 86_400,
                "event_id": text,
                "action_source": equal("phone_call"),
                "user_data": lambda value: isinstance(value, dict),
                "custom_data": lambda value: isinstance(value, dict),
            },
            {"event_source_url": lambda value: value.startswith("https://")},
        )
        hashes = lambda value: isinstance(value, list) and all(map(sha256, value))  # noqa: E731 - a check like those above
        plain = lambda value: re.fullmatch(r"fb\.1\.\d+\.\S+", value) is not None  # noqa: E731 - a check like those above
        # ph:[sha256], country:[sha256]; Do not hash fbc, fbp, IP, UA
        fields(
            event["user_data"],
            {},
            {"ph": hashes, "country": hashes, "external_id": hashes, "fbc": plain, "fbp": plain},
        )
        # custom_data:{currency,value,…}
        worth = {"currency": iso4217, "value": number}
        fields(event["custom_data"], {"call_outcome": text, "talk_seconds": whole}, worth)
        holds(set(worth) & set(event["custom_data"]) in (set(), set(worth)), "a value has its currency")
        # event_id+event_name de-duplicates
        self.events[event["event_name"], event["event_id"]] = event
        # → {events_received,messages,fbtrace_id}
        return Reply(200, {"events_received": 1, "messages": [], "fbtrace_id": "Trace"})


def multipart(asked: Asked) -> dict[str, bytes]:
    """Fields of a form with files."""
    head = f"Content-Type: {asked.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + asked.body)
    found: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found[str(name)] = payload
    return found
