"""The answers to `*28` and `*29`, and the click: one agent per ticket, tokens that hold once (R18, R30)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from gateway import store
from gateway.core import book, callingback, prompts, tickets
from gateway.pbx import agi
from gateway.services import callingback as service
from gateway.store import agents, calls
from gateway.store import tickets as stored_tickets
from tests.core import books
from tests.core import test_callingback as examples
from tests.services.outages import out_of_reach
from tests.store import examples as stored_examples

CALL_ID = "1b6b7f4e-0000-4000-8000-{:012}"
SECOND = 1_000_000
KEY = "5" * 32
START = 1_795_337_000 * SECOND


class House:
    """A service with a clock, and the phones that a click rang."""

    def __init__(self, database: store.Database, **fields: Any) -> None:
        self.database = database
        self.now_us = START
        self.rung: list[tuple[str, int, str, int]] = []
        self.rings = True
        self.calls = 0
        self.refusal: str | None = None
        self.service = service.CallingBack(
            database,
            rules=fields.pop("rules", callingback.Rules()),
            key=KEY,
            now_us=lambda: self.now_us,
            ring=self._ring,
            refusal=lambda: self.refusal,
            **fields,
        )
        self.service.use(examples.routing())

    async def _ring(self, endpoint: str, ticket: int, token: str, seconds: int) -> None:
        if not self.rings:
            raise ConnectionError("Asterisk is not there")
        self.rung.append((endpoint, ticket, token, seconds))

    async def open(self, **fields: Any) -> int:
        """A ticket, and its number."""
        async with self.database.begin() as tx:
            made = await stored_tickets.add(tx, replace(examples.ticket(), number=0, **fields))
        assert made is not None
        return made.number

    async def dials(
        self, ticket: int | str, phone: str = "phone-anna", context: str = "from-phones", token: str = ""
    ) -> dict[str, str]:
        """The answer to the dialplan, as it asks after `*28`."""
        self.calls += 1
        asked = agi.AgiRequest("callback", (KEY, CALL_ID.format(self.calls), str(ticket), phone, context, token))
        return await told(self.service.answer(asked))

    async def clicked(self, ticket: int, agent: str = "anna") -> str:
        """Clicks, and gives the token that the phone was rung with."""
        await self.service.click(ticket, agent)
        return self.rung[-1][2]


async def told(answer: Awaitable[agi.Pairs | None] | agi.Pairs | None) -> dict[str, str]:
    pairs = await answer if isinstance(answer, Awaitable) else answer
    assert pairs is not None
    # What crosses the border can be written as one MSet.
    assert agi.exec_mset(pairs)
    assert pairs[-1] == ("DM_OK", "1")
    return dict(pairs)


@pytest.fixture
def house(database: store.Database) -> House:
    return House(database)


async def test_an_agent_gets_the_customer(house: House) -> None:
    number = await house.open(owner="anna")
    found = await house.dials(number)
    wanted = {
        "DM_CB": "go",
        "DM_NR": "79161234567",
        "DM_OUT_TRUNK": "carrier-a",
        "DM_OUT_CALLERID": "74990000001",
        "DM_OF": examples.MISSED,
        "DM_RT": "sales",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert not {"DM_CM", "DM_KEYED", "DM_SAY"} & set(found)


async def test_consent_travels_with_the_answer_unless_nothing_can_be_recorded(house: House) -> None:
    house.service.use(examples.routing(books.route(recording=book.RecordingMode.OPT_IN)))
    number = await house.open()
    assert (await house.dials(number))["DM_CM"] == "opt_in"
    house.refusal = "the disk is full"
    assert "DM_CM" not in await house.dials(number)


async def test_what_is_said_is_what_is_ready(house: House) -> None:
    ready = prompts.Ready("callback_closed.ru", "/prompts/closed", "0", 1.0)
    house.service.use_prompts(prompts.Shelf({prompts.Wanted("callback_closed", "ru"): ready}))
    number = await house.open(state=tickets.State.CLOSED)
    assert await house.dials(number) == {"DM_CB": "told", "DM_SAY": "/prompts/closed", "DM_OK": "1"}
    assert await house.dials(number + 1) == {"DM_CB": "told", "DM_OK": "1"}


@pytest.mark.parametrize(
    ("phone", "context", "token"),
    [
        ("phone-anna", "from-elsewhere", ""),
        ("phone-anna", "", ""),
        ("phone-anna", "", "0" * 32),
        ("nobody", "from-phones", ""),
        ("", "from-phones", ""),
    ],
)
async def test_who_is_not_let_through(house: House, phone: str, context: str, token: str) -> None:
    number = await house.open()
    assert (await house.dials(number, phone, context, token))["DM_CB"] == "told"
    assert (await house.dials(number))["DM_CB"] == "go"


@pytest.mark.parametrize("arguments", [(), (KEY,), (KEY, "1", "phone-anna", "from-phones"), (KEY,) * 7])
async def test_a_question_of_another_shape_is_not_answered(house: House, arguments: tuple[str, ...]) -> None:
    assert house.service.answer(agi.AgiRequest("callback", arguments)) is None
    assert await house.service.break_answer(agi.AgiRequest("break", arguments)) is None


@pytest.mark.parametrize("key", ["", "x", KEY[:-1], KEY + "5", "ключ"])
async def test_a_program_that_is_not_the_dialplan_learns_nothing(house: House, key: str) -> None:
    """FastAGI knows nobody: who happens to run on the machine must not learn numbers of customers, or hold tickets."""
    number = await house.open()
    asked = (key, CALL_ID.format(9), str(number), "phone-anna", "from-phones", "")
    assert house.service.answer(agi.AgiRequest("callback", asked)) is None
    assert await house.service.break_answer(agi.AgiRequest("break", (key, "phone-anna", "from-phones"))) is None
    async with house.database.read() as connection:
        assert await agents.claim_of(connection, number) is None


async def test_of_two_at_once_one_gets_the_customer(house: House) -> None:
    number = await house.open()
    both = await asyncio.gather(*(house.dials(number, phone) for phone in ("phone-anna", "phone-boris")))
    assert sorted(one["DM_CB"] for one in both) == ["go", "told"]


async def test_a_claim_without_a_call_is_over_soon(house: House) -> None:
    """The agent put the phone down before the journal showed a call."""
    number = await house.open()
    assert (await house.dials(number, "phone-anna"))["DM_CB"] == "go"
    house.now_us += 29 * SECOND
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "told"
    assert (await house.dials(number, "phone-anna"))["DM_CB"] == "go"
    house.now_us += 31 * SECOND
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "go"


async def test_a_claim_lasts_as_long_as_its_call(house: House) -> None:
    """Hours, if they talk for hours; and not a second longer. Oneself cannot call the customer twice at once either."""
    number = await house.open()
    await house.dials(number, "phone-anna")
    made = stored_examples.call(call_id=CALL_ID.format(house.calls), direction="outbound", state="open")
    async with house.database.begin() as tx:
        await calls.save(tx, [made])
    house.now_us += 3_600 * SECOND
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "told"
    assert (await house.dials(number, "phone-anna"))["DM_CB"] == "told"
    async with house.database.begin() as tx:
        await calls.save(tx, [replace(made, state="closed", content_hash="another")])
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "go"


async def test_the_store_is_gone(house: House, database_url: str) -> None:
    """The session ends without an answer: the dialplan says that it is not possible, and nothing was written."""
    number = await house.open()
    with out_of_reach(database_url), pytest.raises(store.StoreUnavailable):
        await house.dials(number)
    assert (await house.dials(number))["DM_CB"] == "go"


# -- the click -------------------------------------------------------------------------------------------------------


async def test_a_click_holds_once(house: House) -> None:
    number = await house.open()
    token = await house.clicked(number)
    assert house.rung == [("phone-anna", number, token, 25)]
    async with house.database.read() as connection:
        claim = await agents.claim_of(connection, number)
    # Who reads the database cannot dial with what is in it.
    assert claim is not None and claim.token is not None and token not in claim.token
    assert (await house.dials(number, context="", token=token))["DM_CB"] == "go"
    assert (await house.dials(number, context="", token=token))["DM_CB"] == "told"


async def test_a_click_is_its_agents_and_its_tickets(house: House) -> None:
    number = await house.open()
    other = await house.open(ticket_id="b", caller="+79161234568")
    token = await house.clicked(number)
    assert (await house.dials(number, "phone-boris", "", token))["DM_CB"] == "told"
    assert (await house.dials(other, "phone-anna", "", token))["DM_CB"] == "told"
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "told"
    house.now_us += 41 * SECOND
    assert (await house.dials(number, "phone-anna", "", token))["DM_CB"] == "told"
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "go"


async def test_a_click_that_asterisk_does_not_take(house: House) -> None:
    """Nobody has to wait for a phone that does not ring."""
    number = await house.open()
    house.rings = False
    with pytest.raises(ConnectionError):
        await house.service.click(number, "anna")
    assert (await house.dials(number, "phone-boris"))["DM_CB"] == "go"


@pytest.mark.parametrize(
    ("agent", "fields", "error"),
    [
        ("anna", {"owner": "boris"}, service.Refused),
        ("anna", {"state": tickets.State.CLOSED}, service.Refused),
        ("nobody", {}, LookupError),
    ],
)
async def test_a_click_that_is_refused(
    house: House, agent: str, fields: dict[str, Any], error: type[Exception]
) -> None:
    number = await house.open(**fields)
    with pytest.raises(error):
        await house.service.click(number, agent)
    assert house.rung == []


async def test_clicks_are_off(database: store.Database) -> None:
    off = service.CallingBack(database, rules=callingback.Rules(), key=KEY, now_us=lambda: START)
    off.use(examples.routing())
    with pytest.raises(ConnectionError, match="switched off"):
        await off.click(1, "anna")


# -- the break -------------------------------------------------------------------------------------------------------


async def on_break(house: House, phone: str = "phone-anna", context: str = "from-phones") -> dict[str, str]:
    return await told(await house.service.break_answer(agi.AgiRequest("break", (KEY, phone, context))))


async def test_how_the_switch_stands(house: House) -> None:
    assert (await on_break(house))["DM_ON"] == "0"
    async with house.database.begin() as tx:
        await agents.switch(tx, [agents.Break("anna", True, START)])
    assert (await on_break(house))["DM_ON"] == "1"
    assert (await on_break(house, "phone-boris"))["DM_ON"] == "0"
    assert (await on_break(house, "nobody"))["DM_CB"] == "told"
    assert (await on_break(house, context="from-elsewhere"))["DM_CB"] == "told"


async def test_a_journal_that_is_read_again_turns_no_switch(database: store.Database) -> None:
    """Nor does an older row of another node's."""
    async with database.begin() as tx:
        await agents.switch(tx, [agents.Break("anna", True, 10), agents.Break("anna", False, 20)])
        await agents.switch(tx, [agents.Break("anna", True, 10), agents.Break("boris", True, 5)])
    async with database.read() as connection:
        assert await agents.on_break(connection) == {"boris"}
        assert (await agents.breaks(connection))["anna"] == agents.Break("anna", False, 20)


async def test_the_router_is_told_of_changes_alone(database: store.Database, database_url: str) -> None:
    seen: list[frozenset[str]] = []
    house = House(database, breaks_changed=seen.append)
    await house.service.look()
    async with database.begin() as tx:
        await agents.switch(tx, [agents.Break("anna", True, 10)])
    for _ in range(2):
        await house.service.look()
    with out_of_reach(database_url):
        await house.service.look()
    assert seen == [frozenset({"anna"})]
    assert house.service.on_break == {"anna"}
