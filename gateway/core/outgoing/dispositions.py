"""How our outcomes are called elsewhere: the table of integrations.md 4.0, one row for each outcome.

`unreachable` and `failed` share a row there, with a second Bitrix24 code in brackets: 480 is what an unreachable
destination is in SIP. "Invalid number" is no outcome of ours but Q.850 cause 28: `INVALID`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.outcomes import Outcome

CONNECTED_GUID = "f240bbac-87c9-4f6e-bf70-924b57d47db7"
NO_ANSWER_GUID = "73a0d17f-1163-4015-bdd5-ec830791da20"
BUSY_GUID = "9d9162e7-6cf3-4944-bf63-4dff82258764"
VOICEMAIL_GUID = "b2cf5968-551e-4856-9783-52b3da59a7d0"
WRONG_NUMBER_GUID = "17b47fee-58de-441e-a44c-c6300d46f273"
"""HubSpot's own; a portal may have others: `hubspot.Account.dispositions`."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """One outcome in each service's words. None: such a call is not sent there."""

    bitrix24: str
    amocrm: int
    hubspot_status: str | None
    hubspot_guid: str | None
    pipedrive: str | None
    yandex_missed: int | None
    salesforce: str | None


_FAILED = Disposition("503", 6, "FAILED", None, "no_answer", 1, "Failed")
_UNREACHABLE = Disposition("480", 6, "FAILED", None, "no_answer", 1, "Failed")
_ABANDONED = Disposition("603-S", 6, "CANCELED", NO_ANSWER_GUID, "no_answer", 1, "Abandoned")

INVALID = Disposition("404", 5, "FAILED", WRONG_NUMBER_GUID, "wrong_number", 1, "Wrong number")

DISPOSITIONS: Mapping[Outcome, Disposition] = {
    Outcome.ANSWERED: Disposition("200", 4, "COMPLETED", CONNECTED_GUID, "connected", 0, "Connected"),
    Outcome.NO_ANSWER: Disposition("304", 6, "NO_ANSWER", NO_ANSWER_GUID, "no_answer", 1, "No answer"),
    Outcome.ABANDONED: _ABANDONED,
    Outcome.LOST: _ABANDONED,
    Outcome.BUSY: Disposition("486", 7, "BUSY", BUSY_GUID, "busy", 1, "Busy"),
    Outcome.FAILED: _FAILED,
    Outcome.UNREACHABLE: _UNREACHABLE,
    Outcome.REJECTED: _FAILED,
    Outcome.AFTER_HOURS: _FAILED,
    Outcome.VOICEMAIL: Disposition("304", 1, "COMPLETED", VOICEMAIL_GUID, "left_voicemail", 1, "Voicemail"),
    Outcome.BANNED: Disposition("403", 8, None, None, None, None, None),
}


def of(outcome: Outcome | None) -> Disposition:
    """The row of an outcome; a call without one has failed."""
    return DISPOSITIONS[outcome or Outcome.FAILED]
