"""`report sources` and `report agents`: figures reckoned by hand, restated days (R8, R14-R16, R64, R70, R105)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway import store
from gateway.cli.dealreports import By
from gateway.core import dealfigures
from gateway.core.dealfigures import Line
from gateway.services import dealing, reporting
from gateway.store import calls
from tests.cli.conftest import ROUTING, Operator
from tests.store import examples
from tests.web import material

SPAN = ("--from", "2026-09-01", "--to", "2026-09-30")
AGENT = '[[agent]]\nkey = "anna"\nname = "Anna"\n'


def line(**changes: Any) -> Line:
    base: dict[str, Any] = dict.fromkeys(Line.__dataclass_fields__)
    return Line(**{**base, "group": "radio", "caller": "+7916", "answered": True, **changes})


def test_figures_reckoned_by_hand() -> None:
    """40 callers, 8 of them buy for 1,000 each, one is lost, one open; 6,000 spent; two spam calls count nowhere."""
    lines = [line(caller=f"+7{number}", qualified=number % 2 == 0) for number in range(30)]
    won = {"deal_state": "won", "value_e4": 1_000_0000, "currency": "RUB"}
    lines += [line(caller=f"+8{number}", days_to_close=number, **won) for number in range(8)]
    lines += [line(caller="+90", deal_state="lost"), line(caller="+91", deal_state="open", answered=False)]
    lines += [line(spam=True, **won)] * 2
    (one,) = dealfigures.figures(lines, {"radio": 6_000_0000}, "RUB").values()
    assert (one.calls, one.answered, one.qualified, one.spam) == (40, 39, 15, 2)
    assert (one.deals_open, one.deals_won, one.won_e4) == (1, 8, 8_000_0000)
    assert one.conversion_percent == 20.0
    assert one.average_deal_e4 == 1_000_0000
    assert one.median_days_to_close == 3.5
    # 39 answered, of which 15 were marked as not worth having (R64: sales calls).
    assert one.revenue_per_call_e4 == round(8_000_0000 / 24)
    assert one.cost_per_call_e4 == 150_0000
    assert one.cpa_e4 == 750_0000
    assert one.romi_percent == 33.3


def test_rows_are_by_what_there_is_a_report_of() -> None:
    """The command line has its own list, because the service takes long to import."""
    assert [one.value for one in By] == [one.value for one in reporting.By]


def test_too_few_cases_give_no_figure() -> None:
    one = dealfigures.figures([line(deal_state="won", value_e4=1, currency="RUB")], {}, "RUB")["radio"]
    assert (one.conversion_percent, one.average_deal_e4, one.romi_percent, one.cpa_e4) == (None, None, None, None)


def test_money_of_two_currencies_is_not_added() -> None:
    lines = [line(deal_state="won", value_e4=1, currency=code) for code in ("RUB", "EUR")]
    with pytest.raises(dealfigures.MixedCurrencies, match="EUR, RUB"):
        dealfigures.currency_of(lines, (), None)
    assert dealfigures.currency_of(lines[:1], ["RUB"], None) == "RUB"
    assert dealfigures.figures(lines, {}, "EUR")["radio"].won_e4 == 1


def fill(operator: Operator, *said: dict[str, object]) -> None:
    """Six calls of radio on 2026-09-21, the sixth marked as spam by a rule, and what is said about them."""

    async def work() -> None:
        database = await store.Database.open(f"sqlite:///{operator.folder}/dialmark.db")
        rows = []
        for number in range(1, 7):
            document = material.record(call_id=examples.call_id(number))
            if number == 6:
                document["scoring"] = {"score": -5, "qualified": None, "spam": True, "tags": [], "rules": []}
            caller = f"+7916123456{number}"
            rows.append(
                examples.call(number, record=json.dumps(document, separators=(",", ":")), source="radio", caller=caller)
            )
        async with database.begin() as tx:
            await calls.save(tx, rows)
        takes = dealing.Dealing(
            database, current_book=material.routing_book, targets=(), now_us=lambda: examples.NOON + 10**11
        )
        asked = [dealing.Asked(place, one) for place, one in enumerate(said)]
        await takes.take(asked, dealing.Source("token:crm", "api"))
        await database.close()

    asyncio.run(work())


def won(number: int, **more: object) -> dict[str, object]:
    said = {"deal_state": "won", "value": "100", "currency": "RUB", "closed_on": "2026-09-23"}
    return {"call_id": examples.call_id(number), **said, **more}


def test_a_late_deal_restates_the_report_with_a_mark(operator: Operator) -> None:
    operator.apply(f"{AGENT}\n{ROUTING}")
    fill(operator, *(won(number) for number in range(1, 6)))
    spend = operator.folder / "spend.csv"
    spend.write_text("day,source,amount,currency\n2026-09-21,radio,250,RUB\n")
    operator("spend", "import", spend)
    said = operator("report", "sources", *SPAN, "--format", "json")
    (row,) = said.json
    assert (row["group"], row["calls"], row["deals_won"], row["spam"]) == ("radio", 5, 5, 1)
    assert (row["won"], row["average_deal"], row["days_to_close"]) == ("500.00", "100.00", 2)
    assert (row["spend"], row["cost_per_call"], row["cpa"], row["romi_percent"]) == ("250.00", "50.00", "50.00", 100.0)
    assert row["restated"] is True
    assert "Restated: 6 changes came after the day was over" in said.err
    by_day = operator("report", "sources", *SPAN, "--by", "day", "--format", "json").json
    assert [(one["group"], one["restated"]) for one in by_day] == [("2026-09-21", True)]
    by_campaign = operator("report", "sources", *SPAN, "--by", "campaign", "--format", "json").json
    assert sorted(one["group"] for one in by_campaign) == ["radio / -"]
    assert "restated" in operator("report", "sources", *SPAN).out
    for of, wanted in ((["--source", "radio", "--campaign", "-"], [5]), (["--campaign", "spring"], [])):
        by_agent = operator("report", "sources", *SPAN, "--by", "agent", *of, "--format", "json").json
        assert [one["calls"] for one in by_agent] == wanted


def test_what_people_say_goes_before_what_rules_say(operator: Operator) -> None:
    operator.apply()
    fill(operator, {"call_id": examples.call_id(6), "spam": False}, {"call_id": examples.call_id(1), "spam": True})
    (row,) = operator("report", "sources", *SPAN, "--format", "json").json
    assert (row["calls"], row["spam"]) == (5, 1)


def test_several_currencies_must_be_chosen_from(operator: Operator) -> None:
    operator.apply()
    fill(operator, won(1), won(2, currency="EUR"))
    assert "EUR, RUB" in operator("report", "sources", *SPAN, code=1).err
    (row,) = operator("report", "sources", *SPAN, "--currency", "eur", "--format", "json").json
    assert (row["won"], row["currency"]) == ("100.00", "EUR")
    operator("report", "sources", *SPAN, "--currency", "QQQ", code=2)
    operator("report", "sources", "--from", "2026-09-30", "--to", "2026-09-01", code=2)
    assert "No calls" in operator("report", "sources", "--from", "2025-01-01", "--to", "2025-01-02").err


def test_cost_per_call_of_agents(operator: Operator) -> None:
    """R70: 8 hours at 30 for 6 calls: 40 a call."""
    operator.apply(f"{AGENT}\n{ROUTING}")
    fill(operator, {"call_id": examples.call_id(1), "qualified": True})
    path = operator.folder / "x.csv"
    path.write_text("agent,day,hours\nanna,2026-09-21,8\n")
    operator("wages", "import-hours", path)
    (row,) = operator("report", "agents", *SPAN, "--format", "json").json
    assert (row["cost_per_call"], row["note"]) == (None, "no wage for 8.0 hours")
    path.write_text("agent,from_day,hourly,currency\nanna,2026-09-01,30,RUB\n")
    operator("wages", "import", path)
    (row,) = operator("report", "agents", *SPAN, "--format", "json").json
    assert (row["agent"], row["calls"], row["hours"], row["cost"]) == ("anna", 6, 8.0, "240.00")
    assert (row["cost_per_call"], row["currency"], row["restated"]) == ("40.00", "RUB", True)
