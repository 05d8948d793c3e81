"""Rendered prompts played by the real Asterisk, by the variables of the generated default plan (C4, C7, N2)."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import shipped
from gateway.core import book, prompts, routing
from gateway.pbx import dialvars, planfile, promptfiles, speech
from gateway.services import prompter
from tests.conftest import NodeFactory
from tests.core import books
from tests.rig import asterisk, waits

PLAYED = ("DM_CP", "DM_CT", "DM_W", "DM_AP", "DM_UP", "DM_UT", "DM_MSG")

HEAD = """\
[general]
static = yes
#include dialmark_plan.conf

[dialmark-act]
exten => full,1,Return()

[ask]
exten => s,1,Answer()
"""


async def test_every_variable_arrives_and_every_prompt_can_be_played(
    make_node: NodeFactory, request: pytest.FixtureRequest
) -> None:
    folder = asterisk.new_folder("prompts")
    request.addfinalizer(lambda: shutil.rmtree(folder))
    route = books.route(
        recording=book.RecordingMode.OPT_IN,
        tell_agent=True,
        whisper={"": "{source}"},
        accept=book.Acceptance.PRESS_1,
        unanswered=book.Unanswered.VOICEMAIL,
        unanswered_message="@nobody_answers",
    )
    one = replace(books.routing_book(route), regions=shipped.consent_regions(), words=shipped.catalogue())
    made = prompter.Prompter(
        promptfiles.PromptFolder(folder),
        prompter.Sources(shipped.catalogue(), speech.find("espeak-ng")),
        lambda _shelf, _planned: None,
    )
    made.use(one)
    await made.make_ready()
    assert made.problem is None
    wanted = dialvars.variables(routing.default_plan(one.tracking_numbers[books.DID], one).open, "plan", made.shelf)
    assert {name for name, _ in wanted} >= {*PLAYED, "DM_CM", "DM_CV", "DM_CI", "DM_CG", "DM_AC", "DM_UN", "DM_CL"}
    said = log_of(make_node, planfile.render(one, made.shelf), wanted)
    assert re.findall(r"VALUE (\w+)=(.*)=", said) == wanted
    assert re.findall(r"PLAYED (\w+) (\w+)", said) == [(name, "SUCCESS") for name in PLAYED]


def log_of(make_node: NodeFactory, plan: str, wanted: list[tuple[str, str]]) -> str:
    """What a call says that takes the default plan, logs each variable and plays each prompt."""
    lines = [f" same => n,Gosub(dialmark-plan,{books.DID},1)"]
    lines += [f" same => n,Log(NOTICE,VALUE {name}=${{{name}}}=)" for name, _ in wanted]
    for name in PLAYED:
        lines += [f" same => n,Playback(${{{name}}})", f" same => n,Log(NOTICE,PLAYED {name} ${{PLAYBACKSTATUS}})"]
    lines.append(" same => n,Log(NOTICE,PLAYED ALL)")
    node = make_node(
        dialplan={"extensions.conf": HEAD + "\n".join(lines) + "\n", planfile.FILE_NAME: plan},
        files={"modules_site.conf": "[modules](+)\nload = res_clioriginate.so\n", planfile.FILE_NAME: plan},
    )
    node.start()
    node.cli("channel originate Local/s@ask application Wait 60")
    log = Path(node.log / "messages.log")
    waits.wait_until(lambda: "PLAYED ALL" in log.read_text("utf-8", "replace"), 60, "PLAYED ALL")
    return log.read_text("utf-8", "replace")


def test_a_prompt_that_is_not_there_is_no_end_of_the_call() -> None:
    """What is not on the shelf is left out of the plan: the dialplan plays nothing and says so."""
    one = replace(books.routing_book(books.route(recording=book.RecordingMode.OPT_IN)), words=shipped.catalogue())
    plan = planfile.render(one, prompts.EMPTY)
    assert "DM_CM=opt_in" in plan
    assert "DM_CP" not in plan
