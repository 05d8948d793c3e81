"""`dialmark agents`: who is on break, and the switch."""

from __future__ import annotations

from tests.cli.conftest import ROUTING, Operator

AGENTS = """
[[agent]]
key = "anna"
name = "Anna Orlova"
endpoint = "desk-1"
extension = "101"

[[agent]]
key = "boris"
"""


def test_the_switch(operator: Operator) -> None:
    operator.apply()
    assert operator("agents", "list").err.strip() == "The routing file names no [[agent]]."
    operator.apply(ROUTING + AGENTS)
    anna, boris = operator("agents", "list", "--format", "json").json
    assert (anna["name"], anna["endpoint"], anna["extension"], anna["state"]) == (
        "Anna Orlova",
        "desk-1",
        "101",
        "takes calls",
    )
    assert operator("agents", "break", "anna").out.strip() == "anna is on break."
    anna, boris = operator("agents", "list", "--format", "json").json
    assert (anna["state"], boris["state"]) == ("on break", "takes calls")
    assert anna["by"].startswith("cli:")
    assert "on break" in operator("agents", "list").out
    assert "on break, not rung: desk" in operator("explain", "+74990000001").out
    assert operator("agents", "back", "anna").out.strip() == "anna takes calls."
    assert "on break" not in operator("agents", "list").out
    audited = operator("audit", "list", "--format", "json").json
    assert {(one["action"], one["subject"]) for one in audited} >= {
        ("agent.break", "agent:anna"),
        ("agent.back", "agent:anna"),
    }


def test_an_agent_who_is_not_there(operator: Operator) -> None:
    operator.apply(ROUTING + AGENTS)
    assert "no agent 'nobody'" in operator("agents", "break", "nobody", code=2).err
