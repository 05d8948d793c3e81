"""The outcome table of integrations.md 4.0: a test for each cell (R41, R115)."""

from __future__ import annotations

import pytest

from gateway.core.outcomes import Outcome
from gateway.core.outgoing import dispositions

CONNECTED = "f240bbac-87c9-4f6e-bf70-924b57d47db7"
NO_ANSWER = "73a0d17f-1163-4015-bdd5-ec830791da20"
BUSY = "9d9162e7-6cf3-4944-bf63-4dff82258764"
VOICEMAIL = "b2cf5968-551e-4856-9783-52b3da59a7d0"

SERVICES = ("bitrix24", "amocrm", "hubspot_status", "hubspot_guid", "pipedrive", "yandex_missed", "salesforce")

# One line for each line of the contract; "failed, unreachable, rejected, after_hours" and "abandoned, lost" are several
# outcomes in one, and "503 (480)" names 480 for what could not be reached.
TABLE: dict[str, tuple[object, ...]] = {
    "answered": ("200", 4, "COMPLETED", CONNECTED, "connected", 0, "Connected"),
    "no_answer": ("304", 6, "NO_ANSWER", NO_ANSWER, "no_answer", 1, "No answer"),
    "abandoned": ("603-S", 6, "CANCELED", NO_ANSWER, "no_answer", 1, "Abandoned"),
    "lost": ("603-S", 6, "CANCELED", NO_ANSWER, "no_answer", 1, "Abandoned"),
    "busy": ("486", 7, "BUSY", BUSY, "busy", 1, "Busy"),
    "failed": ("503", 6, "FAILED", None, "no_answer", 1, "Failed"),
    "unreachable": ("480", 6, "FAILED", None, "no_answer", 1, "Failed"),
    "rejected": ("503", 6, "FAILED", None, "no_answer", 1, "Failed"),
    "after_hours": ("503", 6, "FAILED", None, "no_answer", 1, "Failed"),
    "voicemail": ("304", 1, "COMPLETED", VOICEMAIL, "left_voicemail", 1, "Voicemail"),
    "banned": ("403", 8, None, None, None, None, None),
}

INVALID = ("404", 5, "FAILED", "17b47fee-58de-441e-a44c-c6300d46f273", "wrong_number", 1, "Wrong number")

CELLS = [
    pytest.param(outcome, service, row[place], id=f"{outcome}-{service}")
    for outcome, row in TABLE.items()
    for place, service in enumerate(SERVICES)
]


@pytest.mark.parametrize(("outcome", "service", "word"), CELLS)
def test_an_outcome_in_the_words_of_a_service(outcome: str, service: str, word: object) -> None:
    assert getattr(dispositions.of(Outcome(outcome)), service) == word


@pytest.mark.parametrize(("service", "word"), list(zip(SERVICES, INVALID, strict=True)))
def test_a_number_that_does_not_exist(service: str, word: object) -> None:
    assert getattr(dispositions.INVALID, service) == word


def test_every_outcome_has_a_row() -> None:
    assert set(dispositions.DISPOSITIONS) == set(Outcome)
    assert set(TABLE) == {outcome.value for outcome in Outcome}


def test_a_call_without_an_outcome_has_failed() -> None:
    assert dispositions.of(None) is dispositions.of(Outcome.FAILED)
