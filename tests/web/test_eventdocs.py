"""The schemas of events: as the models say, served, and true of what the product tells."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from gateway.core import events
from gateway.web import eventdocs
from tests import told


def test_every_event_has_a_schema_and_every_schema_an_event() -> None:
    assert set(eventdocs.DATA) == events.ALL_TYPES
    files = {path.stem for path in (eventdocs.FOLDER / eventdocs.VERSION).glob("*.json")}
    assert files == events.ALL_TYPES


@pytest.mark.parametrize("event_type", sorted(events.ALL_TYPES))
def test_the_files_are_what_the_models_say(event_type: str) -> None:
    """`python -m gateway.web.eventdocs` rewrites them."""
    written = (eventdocs.FOLDER / eventdocs.VERSION / f"{event_type}.json").read_text(encoding="utf-8")
    assert written == eventdocs.text(event_type)
    jsonschema.Draft202012Validator.check_schema(json.loads(written))


def test_a_wrong_event_is_found() -> None:
    good: dict[str, Any] = {
        "id": "0a57c6d4-9a0e-5c8b-8d5e-61b1f0f8c7a2",
        "type": "system.alert",
        "timestamp": "2026-11-22T05:00:00.000Z",
        "data": {"kind": "a", "message": "b", "node": "main", "call_id": None},
    }
    assert told.problems(good) == []
    assert told.problems({**good, "type": "system.alarm"})
    assert told.problems({**good, "id": 7})
    assert told.problems({**good, "more": 1})
    assert told.problems({**good, "data": {**good["data"], "secret": "x"}})
    assert told.problems({**good, "data": {"kind": "a"}})
