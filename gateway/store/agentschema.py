"""Tables of agents at work; see `schema` for the conventions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Table

from gateway.store.schema import ROUTING_KEY, PlainText, metadata, personal
from gateway.store.ticketschema import tickets

agent_breaks = Table(
    "agent_breaks",
    metadata,
    Column("agent", PlainText, primary_key=True, info=ROUTING_KEY),
    Column("is_on", Boolean, nullable=False),
    Column("at_us", BigInteger, nullable=False, comment="of the last change"),
    Column("changed_by", PlainText, nullable=False, info=personal("account, or `phone`")),
)

callback_claims = Table(
    "callback_claims",
    metadata,
    Column(
        "ticket",
        BigInteger,
        ForeignKey(tickets.c.number, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("agent", PlainText, nullable=False, info=ROUTING_KEY),
    Column("until_us", BigInteger, nullable=False, comment="or while the call is open"),
    Column("call_id", PlainText, comment="NULL: the agent's phone is still ringing"),
    Column("token", PlainText, comment="of a click that was not answered yet; SHA-256"),
)
