"""Yandex Metrica calls (R68, R114): files of calls, one for each kind of id, at most every 15 minutes.

Rules: integrations.md 4.2. An upload knows no doubles, so a file has a name (`comment`) that is kept before it goes:

    no batch ─▶ named ─▶ uploaded ─▶ done (PROCESSED)
                  │ cut off: their list of uploads is asked for the name first
                  └─────────────▶ dead (LINKAGE_FAILURE, or not processed in a day)

Each arrow is a delivery attempt of its own, so the state stands with the deliveries (`Settled.known`) and nowhere else.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from gateway.core.outgoing import adapters, dispositions, talks, told, worth
from gateway.core.outgoing.adapters import Attempt, Batching, Handed, Settled
from gateway.core.outgoing.told import DAY_US, SECOND_US

WORLD = "https://api-metrika.yandex.net"
MAX_VISIT_AGE_US = 21 * DAY_US
MAX_COMMENT = 255
EVERY_US = 15 * 60 * SECOND_US
ASK_AGAIN_US = 15 * 60 * SECOND_US
PROCESSED_WITHIN_US = DAY_US

BATCHES = uuid.UUID("0c4c5d5e-6a0e-5b5c-9d43-6fb1f4f9a7a1")

COLUMNS = (
    *("DateTime", "StaticCall", "Price", "Currency", "PhoneNumber", "TalkDuration", "HoldDuration"),
    *("CallMissed", "FirstTimeCaller", "Tag", "URL", "CallTrackerURL"),
)
"""Behind the column of the id."""

_Pair = tuple[Handed, Attempt]


@dataclass(frozen=True, slots=True)
class Account:
    """A counter. The OAuth token is the sender's."""

    counter_id: str
    goal_name: str = "Звонок"
    qualified_seconds: int = 30
    counts: worth.Counts = worth.Counts.QUALIFIED
    value: Decimal | None = None
    """Of a lead without a deal."""
    currency: str | None = None
    send_number: bool = False
    call_url: str | None = None
    """Address of our page of a call, with `{call_id}`."""


class Metrica:
    """One counter."""

    kind = "metrica"
    per_second = 5.0
    token_style = talks.TokenStyle.OAUTH
    wants = adapters.CLOSING
    needs_visitor = True
    batching = Batching(most=5_000, every_us=EVERY_US)

    def __init__(self, account: Account, base_url: str = WORLD) -> None:
        self._account = account
        self.base_url = base_url
        self._path = f"/management/v1/counter/{account.counter_id}/offline_conversions"

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """As `tell_many`, for one."""
        settled = yield from self.tell_many([(event, attempt)])
        return settled[0]

    def tell_many(self, events: Sequence[_Pair]) -> talks.Talk[list[Settled]]:
        """One step further for each: named, uploaded, or asked for."""
        settled: dict[str, Settled] = {}
        fresh: dict[str, list[_Pair]] = {}
        begun: list[_Pair] = []
        for event, attempt in events:
            call = told.call(event.data)
            why_not = _why_not(event, call, attempt)
            if why_not is not None:
                settled[event.event_id] = adapters.skipped(why_not)
            elif "uploading" in attempt.known or "batch" in attempt.known:
                begun.append((event, attempt))
            elif attempt.dry_run:
                begun.append((event, replace(attempt, known={"batch": event.event_id, "of": "1"})))
            else:
                fresh.setdefault(id_of(call, attempt)[0], []).append((event, attempt))
        for pairs in fresh.values():
            settled |= _named(pairs)
        for pairs in _by(begun, "uploading"):
            settled |= yield from self._guarded(pairs, self._asked(pairs))
        for pairs in _by([one for one in begun if "uploading" not in one[1].known], "batch"):
            settled |= yield from self._guarded(pairs, self._uploaded(pairs))
        return [settled[event.event_id] for event, _ in events]

    def _guarded(self, pairs: Sequence[_Pair], work: talks.Talk[dict[str, Settled]]) -> talks.Talk[dict[str, Settled]]:
        """One file's trouble is not the others'."""
        try:
            return (yield from work)
        except talks.Refused as refused:
            return {event.event_id: adapters.failed(refused, attempt.now_us) for event, attempt in pairs}

    def _uploaded(self, pairs: Sequence[_Pair]) -> talks.Talk[dict[str, Settled]]:
        batch = pairs[0][1].known["batch"]
        found: Mapping[str, Any] | None = None
        if any(attempt.is_unsure or attempt.number > 1 for _, attempt in pairs):
            found = yield from self._upload_named(batch)
        if found is None and len(pairs) != int(pairs[0][1].known["of"]):
            # A person took some of them away, or replays one: the name belongs to another set of calls.
            return _named(pairs)
        if found is None:
            found = yield from self._upload(batch, pairs)
        uploading = str(found["id"])
        note = f"upload {uploading}: {found.get('status')}"
        return {
            event.event_id: adapters.waiting(
                attempt.now_us + ASK_AGAIN_US,
                known={"uploading": uploading, "uploaded_us": str(attempt.now_us), "sent": event.event_id},
                note=note,
                external_id=uploading,
            )
            for event, attempt in pairs
        }

    def _upload(self, batch: str, pairs: Sequence[_Pair]) -> talks.Talk[Mapping[str, Any]]:
        kind = id_of(told.call(pairs[0][0].data), pairs[0][1])[0]
        rows = [row(told.call(event.data), attempt, self._account) for event, attempt in pairs]
        answer = yield talks.Request(
            "POST",
            f"{self._path}/upload_calls",
            query={"comment": _comment(batch), "new_goal_name": self._account.goal_name},
            upload=talks.Upload("file", f"{batch}.csv", table(kind, rows), "text/csv"),
        )
        return _uploading(talks.expect_object(answer, 200))

    def _upload_named(self, batch: str) -> talks.Talk[Mapping[str, Any] | None]:
        answer = yield talks.Request("GET", f"{self._path}/calls_uploadings")
        uploadings = talks.expect_object(answer, 200).get("uploadings", [])
        return next((one for one in uploadings if one.get("comment") == _comment(batch)), None)

    def _asked(self, pairs: Sequence[_Pair]) -> talks.Talk[dict[str, Settled]]:
        uploading = pairs[0][1].known["uploading"]
        answer = yield talks.Request("GET", f"{self._path}/calls_uploading/{uploading}")
        status = _uploading(talks.expect_object(answer, 200)).get("status")
        return {event.event_id: _after(str(status), uploading, attempt) for event, attempt in pairs}

    def switch_on(self) -> talks.Talk[None]:
        """Tells Metrica once that calls will come for this counter."""
        answer = yield talks.Request("POST", f"{self._path}/calls_extended_threshold")
        talks.expect(answer, 200)


def id_of(call: told.Call, attempt: Attempt) -> tuple[str, str]:
    """Column and value of the id; the column is empty without one."""
    if attempt.visitor is not None and attempt.visitor.ym_client_id is not None:
        return "ClientId", attempt.visitor.ym_client_id
    yclid = call.click_ids.get("yclid")
    return ("Yclid", yclid) if yclid and attempt.visitor is not None else ("", "")


def row(call: told.Call, attempt: Attempt, account: Account) -> dict[str, str]:
    """One call. Without what is not known; the file has an empty field there."""
    column, value = id_of(call, attempt)
    missed = dispositions.of(call.outcome).yandex_missed
    found: dict[str, str | int | None] = {
        column: value,
        "DateTime": call.started_us // SECOND_US,
        "StaticCall": 0,
        "PhoneNumber": call.caller_number if account.send_number else None,
        "TalkDuration": call.talk_seconds,
        # What Metrica shows as the time before the answer (R114); ours is the wait, its name notwithstanding.
        "HoldDuration": call.wait_seconds,
        "CallMissed": missed,
        "FirstTimeCaller": None if call.first_time is None else int(call.first_time),
        "Tag": call.campaign or call.source,
        "URL": call.landing_page,
        "CallTrackerURL": account.call_url.format(call_id=call.call_id) if account.call_url else None,
    }
    if worth.is_lead(call, account) and (money := worth.money(call, account)) is not None:
        found |= {"Price": format(money[0], "f"), "Currency": money[1]}
    # A line break in a campaign's name would be two rows to most readers of CSV.
    return {name: " ".join(str(value).split()) for name, value in found.items() if value is not None}


def table(kind: str, rows: Iterable[Mapping[str, str]]) -> bytes:
    """The file: UTF-8, a line of names, then one line for each call."""
    lines = _Lines([])
    writer = csv.DictWriter(lines, (kind, *COLUMNS), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return "".join(lines.written).encode()


@dataclass(frozen=True, slots=True)
class _Lines:
    """As much of a file as `csv` needs: the core opens none."""

    written: list[str]

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def _why_not(event: Handed, call: told.Call, attempt: Attempt) -> str | None:
    if "sent" in attempt.known:
        return None if attempt.known["sent"] == event.event_id else "sent before: Metrica takes no corrections"
    if not call.is_inbound:
        return "outbound"
    if call.is_spam:
        return "marked as spam"
    if dispositions.of(call.outcome).yandex_missed is None:
        return "banned caller"
    if attempt.visitor is None or not id_of(call, attempt)[0]:
        return "no ClientId or Yclid: no visitor, or no consent"
    if attempt.visitor.session_started_us > call.started_us:
        return "the visit began after the call"
    if attempt.now_us - attempt.visitor.session_started_us > MAX_VISIT_AGE_US:
        return "the visit is older than 21 days"
    return None


def _named(pairs: Sequence[_Pair]) -> dict[str, Settled]:
    batch = str(uuid.uuid5(BATCHES, "/".join(sorted(event.event_id for event, _ in pairs))))
    known = {"batch": batch, "of": str(len(pairs))}
    return {event.event_id: adapters.waiting(attempt.now_us, known=known) for event, attempt in pairs}


def _by(pairs: Iterable[_Pair], key: str) -> list[list[_Pair]]:
    found: dict[str, list[_Pair]] = {}
    for event, attempt in pairs:
        if key in attempt.known:
            found.setdefault(attempt.known[key], []).append((event, attempt))
    return list(found.values())


def _comment(batch: str) -> str:
    return f"dialmark {batch}"[:MAX_COMMENT]


def _uploading(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found = body.get("uploading")
    if not isinstance(found, dict) or "id" not in found:
        raise talks.Refused(talks.Kind.LATER, "answered 200 without an upload")
    return found


def _after(status: str, uploading: str, attempt: Attempt) -> Settled:
    note = f"upload {uploading}: {status}"
    if status == "PROCESSED":
        return adapters.done(uploading, note=note)
    if status == "LINKAGE_FAILURE":
        return adapters.dead(f"{note}: none of its calls fits a visit")
    if attempt.now_us - int(attempt.known["uploaded_us"]) > PROCESSED_WITHIN_US:
        return adapters.dead(f"{note}, a day after it was sent")
    return adapters.waiting(attempt.now_us + ASK_AGAIN_US, known={}, note=note, external_id=uploading)
