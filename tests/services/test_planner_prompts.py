"""The generated default plan follows the prompts that are ready (N2), on a real store and a real speech program."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import store
from gateway.config import routingfile, shipped
from gateway.core import prompts
from gateway.pbx import planfile, promptfiles, speech
from gateway.services import planner, prompter
from gateway.store import routing as revisions
from tests.config import files

TEXT = files.with_line('key = "sales"', 'recording = "opt_in"\nlanguage = "ko"\nwhisper = "{source}"')


async def test_the_default_plan_is_written_anew_when_prompts_are_ready(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("p")
    database = await store.Database.open(f"sqlite+aiosqlite:///{tmp_path / 'dialmark.db'}")
    try:
        async with database.begin() as connection:
            await revisions.add(
                connection, document=TEXT, applied_at=datetime.now(UTC), applied_by="test", comment="", based_on=None
            )
        shelf = prompts.EMPTY

        def changed(new: prompts.Shelf, is_planned: bool) -> None:
            nonlocal shelf
            shelf = new
            if is_planned:
                follower.write_again()

        spoken = prompter.Prompter(
            promptfiles.PromptFolder(tmp_path / "p"),
            prompter.Sources(shipped.catalogue(), speech.find("espeak-ng")),
            changed,
        )
        follower = planner.Planner(
            database,
            parse=routingfile.parse,
            render=lambda made: {planfile.FILE_NAME: planfile.render(made, shelf)},
            folder=tmp_path,
            in_force=spoken.use,
        )
        await follower.follow()
        before = written(tmp_path)
        assert "DM_CM=opt_in" in before
        assert "DM_CP=" not in before
        await spoken.make_ready()
        await follower.follow()
        after = written(tmp_path)
        (path,) = re.findall(r"DM_CP=([^,]+),DM_CI=consent_opt_in\.ko,", after)
        assert path.startswith(str(tmp_path))
        assert playable(path)
        await follower.follow()
        assert written(tmp_path) == after
    finally:
        await database.close()


def written(folder: Path) -> str:
    return (folder / planfile.FILE_NAME).read_text("utf-8")


def playable(path: str) -> bool:
    return Path(f"{path}.ulaw").is_file() and Path(f"{path}.alaw").is_file()
