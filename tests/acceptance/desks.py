"""Agents who call customers back, for tests with a real Asterisk: the phones of the desks dial as agents do, and the
carrier is where the customer answers.

    made = desks.site(make_node, ROUTING)
    with stages.up(made): ...
    miss, ticket = await desks.missed(stage, NUMBER)
    customer = stage.rig.callee("carrier-a")
    dialled = await desks.agent(stage, f"*28{ticket}")
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from tests.acceptance import sound, stages
from tests.acceptance.stages import Call, Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Behaviour, Callee, Caller
from tests.rig.sipp import Message
from tests.rig.waits import wait_until

DESKS = {"desk-1": "from-phones", "desk-2": "from-phones", "desk-4": "from-phones", "desk-3": "from-elsewhere"}
"""Phones that may dial, by context; `desk-4` is nobody's, and the context of `desk-3` is not the house's."""
TELLS = {
    "callback_no_ticket": 2600,
    "callback_closed": 2700,
    "callback_foreign": 2800,
    "callback_busy": 2900,
    "callback_no_number": 3000,
    "callback_unknown_agent": 3100,
    "callback_not_callable": 3200,
    "callback_not_a_phone": 3300,
    "callback_down": 3400,
    "callback_result": 1300,
}
"""What agents are told, as tones."""
NO_HZ, ON_HZ, OFF_HZ = 950, 440, 1000
"""First tone of "no" (indications.conf), on break, back."""
CLICKER, CLICKER_SECRET = "dialmark-click", "click-" + "0123456789abcdef" * 2
DIALPLAN = """
[from-phones]
include => dialmark-codes
include => dialmark-out-carrier-a

[from-elsewhere]
include => dialmark-codes
"""
ACCOUNT = f"""
[{CLICKER}]
secret = {CLICKER_SECRET}
deny = 0.0.0.0/0.0.0.0
permit = 127.0.0.1/255.255.255.255
read =
write = originate
"""


def site(make_node: NodeFactory, routing: str, *prompts: str, **options: Any) -> stages.Site:
    """A site that records and answers codes and clicks, not started. ``prompts``: of consent."""
    made = stages.Site(
        make_node,
        stages.SITE.replace('contexts = ["pbx"]', 'contexts = ["pbx", "from-phones"]') + routing,
        files={"extensions_site.conf": DIALPLAN},
        records=True,
        steady_ring=True,
        **options,
    )
    for key, hertz in {**TELLS, **{key: sound.PROMPTS[key] for key in prompts}}.items():
        made.daemon.give_prompt(key, sound.LANGUAGE, hertz)
    made.daemon.configure(
        {"callbacks": {"keyed_result": True, "click": True, "username": CLICKER, "secret": CLICKER_SECRET}}
    )
    let_dial(made.node)
    with (made.node.etc / "manager_site.conf").open("a") as accounts:
        accounts.write(ACCOUNT)
    return made


def until_codes_speak(site: stages.Site) -> None:
    wait_until(lambda: "/callback_down-" in site.node.cli("dialplan show globals"), 20, "prompts of codes")


def let_dial(node: AsteriskNode) -> None:
    """The desks' phones may call in, known by their address, each into its context."""
    file = node.etc / "pjsip_site.conf"
    text = file.read_text()
    for name, context in DESKS.items():
        text = text.replace(f"[{name}](dialmark-phone)\n", f"[{name}](dialmark-phone)\ncontext = {context}\n")
        text += f"[{name}]\ntype = identify\nendpoint = {name}\nmatch = {node.phones[name].host}\n\n"
        node.carriers[name] = node.phones[name]
    file.write_text(text)


async def missed(stage: Stage, number: str, **options: Any) -> tuple[Call, int]:
    """A call that nobody takes, and its ticket."""
    for desk in ("desk-1", "desk-2", "desk-4"):
        stage.phone(desk, Behaviour.BUSY)
    call = await stage.call(number, **options)
    found = await until_row(stage, "SELECT number FROM tickets WHERE caller = ?", call.caller)
    return call, int(found[0])


async def until_row(stage: Stage, query: str, *parameters: object, seconds: float = 30.0) -> tuple[Any, ...]:
    """The first row, once there is one."""
    await asyncio.to_thread(wait_until, lambda: bool(stage.daemon.query(query, *parameters)), seconds, query)
    return stage.daemon.query(query, *parameters)[0]


async def until_ticket(stage: Stage, ticket: int, state: str, result: str | None) -> None:
    """Return when it stands so."""
    query = "SELECT 1 FROM tickets WHERE number = ? AND state = ? AND coalesce(result, '') = ?"
    await until_row(stage, query, ticket, state, result or "")


async def agent(stage: Stage, code: str, desk: str = "desk-1", **options: Any) -> Caller:
    """An agent dials."""
    return await stage.dial(code.replace("#", "%23"), caller=desk, carrier=desk, **options)


async def until_invited(customer: Callee, number: int = 1) -> Message:
    """The customer's phone rings."""
    await asyncio.to_thread(wait_until, lambda: len(customer.invites) >= number, 10.0, "an INVITE to the customer")
    assert len(customer.invites) == number
    return customer.invites[-1]


class Page:
    """A program with a token."""

    def __init__(self, stage: Stage, name: str, scope: str) -> None:
        self._stage = stage
        said = stage.daemon.run("token", "add", name, "--scope", scope)
        self._token = next(word for word in said.split() if word.startswith("dm_"))

    async def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._ask, path, body)

    def _ask(self, path: str, body: object) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://{self._stage.daemon.admin}/api/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
