"""`dialmark audiences …` (R11, R12)."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import Any

import pytest

from gateway import store
from gateway.core.outgoing import hashing
from tests.cli.conftest import ROUTING, Operator
from tests.services.test_audiences import People, number

AUDIENCES = """
[[audience]]
key = "lost"
platform = "meta"
days = 2
sources = ["google-ads"]
""".replace("google-ads", "radio")


@pytest.fixture
def site(operator: Operator) -> Operator:
    """Two who were missed and agreed, one who did not agree, and a call without a number."""
    operator.apply(ROUTING + AUDIENCES)
    started: dict[str, Any] = {"started_us": round((time.time() - 3_600) * 1e6), "source": "radio"}
    people = People()
    people.add(1, **started)
    people.add(2, **started)
    people.add(3, "", **started)
    people.add(4, None, caller=None, **started)

    async def save() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        await people.save(database)
        await database.close()

    asyncio.run(save())
    return operator


def test_list_try_and_export(site: Operator) -> None:
    out = site.folder / "lost.csv"
    assert site("audiences", "list", "--format", "json").json[0]["exported_at"] is None
    tried = site("audiences", "try", "lost")
    assert "2 people would be in lost" in tried.out
    assert "1 have not agreed to advertising" in tried.out
    assert "1 calls without a number" in tried.out
    assert "meta serves no list of fewer than 100 people" in tried.err
    assert "2 people written" in site("audiences", "export", "lost", "-o", out).out
    assert out.read_text() == "phone\n" + "".join(f"{one}\n" for one in sorted(map(hashing.meta, map(number, (1, 2)))))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    (listed,) = site("audiences", "list", "--format", "json").json
    assert (listed["audience"], listed["people"], listed["by"][:4]) == ("lost", 2, "cli:")
    assert "audience.exported" in site("audit", "list").out
    assert "are whole" in site("audit", "verify").out


def test_figures_for_programs(site: Operator) -> None:
    (made,) = site("audiences", "try", "lost", "--format", "json").json
    assert (made["people"], made["too_small"], made["left_no_consent"], made["left_spam"]) == (2, True, 1, 0)
    assert site("audiences", "try", "lost", "--format", "csv").lines[0].startswith("audience,platform,people")


def test_a_file_is_whole_or_not_there(site: Operator) -> None:
    """One that is there stays unless told otherwise; what cannot be written leaves nothing, and no audit row."""
    out = site.folder / "lost.csv"
    out.write_text("mine")
    assert "--force" in site("audiences", "export", "lost", "-o", out, code=1).err
    assert out.read_text() == "mine"
    site("audiences", "export", "lost", "-o", out, "--force")
    assert len(out.read_text().splitlines()) == 3
    before = site("audit", "list", "--format", "json").json
    assert "No such file" in site("audiences", "export", "lost", "-o", site.folder / "none" / "x.csv", code=1).err
    assert site("audit", "list", "--format", "json").json == before
    assert [path.name for path in site.folder.iterdir() if ".part" in path.name] == []


def test_a_planted_link_is_not_followed(site: Operator) -> None:
    mine = site.folder / "mine"
    mine.write_text("mine")
    (site.folder / f".lost.csv.{os.getpid()}.part").symlink_to(mine)
    assert "File exists" in site("audiences", "export", "lost", "-o", site.folder / "lost.csv", code=1).err
    assert mine.read_text() == "mine"


def test_unknown_names(site: Operator) -> None:
    assert "but lost" in site("audiences", "try", "losd", code=2).err
    site.apply(ROUTING)
    assert "names no [[audience]]" in site("audiences", "list").err


def test_before_any_routing(operator: Operator) -> None:
    operator.apply()
    assert "no [[audience]]" in operator("audiences", "export", "lost", "-o", operator.folder / "x", code=2).err
