"""R60, R61, R73: what rules and keys say of a call, over HTTP and on the page, whatever is written in tags."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from tests.web import material
from tests.web.browser import Opened
from tests.web.listener import Listener
from tests.web.test_api import get

HOSTILE = "<b onclick=alert(1)>горячий</b>"


def scored(score: int | None, **changes: Any) -> dict[str, Any]:
    """A record whose rules gave so many points."""
    scoring = None
    if score is not None:
        scoring = {
            "score": score,
            "qualified": score >= 50,
            "spam": None,
            "tags": [{"tag": HOSTILE, "origin": "rule", "rule": "long"}],
            "rules": [{"rule": "long", "points": score}],
        }
    return {**material.record(**changes), "scoring": scoring}


@pytest.mark.parametrize(("least", "wanted"), [(60, {60, 100}), (101, set()), (-1000, {0, 60, 100})])
async def test_calls_from_a_score_on(
    listener: Listener, http: aiohttp.ClientSession, least: int, wanted: set[int]
) -> None:
    """Calls without a score are in no such list."""
    await listener.store_calls([scored(score) for score in (None, 0, 60, 100)])
    found = await get(listener, http, f"/api/v1/calls?min_score={least}")
    assert {one["scoring"]["score"] for one in found["calls"]} == wanted
    assert len((await get(listener, http, "/api/v1/calls"))["calls"]) == 4


async def test_score_tags_and_rating_on_the_page(opened: Opened, listener: Listener) -> None:
    """A tag is text, whoever wrote it."""
    rating = {"by": "agent", "outcome": "booked", "goal_reached": True, "solved": False}
    rating |= {"keys": {"outcome": "1", "goal": "1", "solved": "2"}, "at": "2026-11-21T11:31:00.000Z"}
    record = {**scored(60), "rating": rating}
    await listener.store_calls([record])
    async with opened(listener) as watched:
        await watched.log_in()
        await watched.page.goto(f"{listener.url}/calls/{record['call_id']}")
        facts = watched.page.locator(".facts")
        await expect(facts).to_contain_text("outcome booked, goal reached, not solved at first contact")
        await expect(facts).to_contain_text("60 qualified")
        await expect(facts).to_contain_text("long +60")
        await expect(facts.locator(".tag")).to_have_text(HOSTILE)


async def test_a_record_of_before_has_a_page(opened: Opened, listener: Listener) -> None:
    """Records that were stored without rating and scoring are shown as they are."""
    record = material.record()
    assert not {"rating", "scoring"} & set(record)
    await listener.store_calls([record])
    async with opened(listener) as watched:
        await watched.log_in()
        await watched.page.goto(f"{listener.url}/calls/{record['call_id']}")
        facts = watched.page.locator(".facts")
        await expect(facts).to_contain_text(record["call_id"])
        await expect(facts).not_to_contain_text("Score")
