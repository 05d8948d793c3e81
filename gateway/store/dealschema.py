"""Tables of what is said about calls afterwards, of what they cost, and of days whose figures changed; see `schema`.

Amounts are whole ten-thousandths (`_e4`), days are yyyymmdd of the site (`_local`, `_on`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table

from gateway.store.schema import PlainText, SerialKey, calls, metadata, personal

_WHO = "token, source or account of who said it"

call_results = Table(
    "call_results",
    metadata,
    Column("call_id", PlainText, ForeignKey(calls.c.call_id, ondelete="CASCADE"), primary_key=True),
    Column("qualified", Boolean),
    Column("spam", Boolean),
    Column("goal_reached", Boolean),
    Column("lead_status", PlainText, info=personal("what the CRM says of the caller")),
    Column("note", PlainText, info=personal("words about the caller")),
    Column("tags", PlainText, nullable=False, info=personal("words about the caller, a JSON list")),
    Column("deal_id", PlainText, info=personal("the caller's deal in the CRM")),
    Column("deal_state", PlainText, info=personal("open, won or lost")),
    Column("deal_stage", PlainText, info=personal("where the caller's deal stands")),
    Column("value_e4", BigInteger, info=personal("what the caller pays")),
    Column("currency", PlainText),
    Column("closed_on", Integer),
    Column("changes", Integer, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("changed_by", PlainText, nullable=False, info=personal(_WHO)),
    Column("way", PlainText, nullable=False),
    Index("ix_call_results_deal", "deal_id"),
)

result_changes = Table(
    "result_changes",
    metadata,
    Column("change_id", SerialKey, primary_key=True),
    Column("call_id", PlainText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("changed_by", PlainText, nullable=False, info=personal(_WHO)),
    Column("way", PlainText, nullable=False),
    Column("said", PlainText, nullable=False, info=personal("fields before and after, JSON")),
    Index("ix_result_changes_call", "call_id", "change_id"),
    sqlite_autoincrement=True,
)

inbound_messages = Table(
    "inbound_messages",
    metadata,
    Column("source", PlainText, primary_key=True),
    Column("message_id", PlainText, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_inbound_messages_at", "at_us"),
    sqlite_with_rowid=False,
)

restated_days = Table(
    "restated_days",
    metadata,
    Column("day_local", Integer, primary_key=True, autoincrement=False),
    Column("site", PlainText, primary_key=True, comment="empty: of all sites"),
    Column("kind", PlainText, primary_key=True, comment="results, spend or wages"),
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("changes", Integer, nullable=False),
    sqlite_with_rowid=False,
)

spend = Table(
    "spend",
    metadata,
    Column("day_local", Integer, primary_key=True, autoincrement=False),
    Column("source", PlainText, primary_key=True),
    Column("campaign", PlainText, primary_key=True, comment="empty: of the source as a whole"),
    Column("entry", PlainText, primary_key=True, comment="empty: the whole amount; else one of several that add up"),
    Column("amount_e4", BigInteger, nullable=False),
    Column("currency", PlainText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("changed_by", PlainText, nullable=False, info=personal(_WHO)),
    sqlite_with_rowid=False,
)

wages = Table(
    "wages",
    metadata,
    Column("agent", PlainText, primary_key=True, info=personal("key of the agent whose wage this is")),
    Column("from_day", Integer, primary_key=True, autoincrement=False),
    Column("hourly_e4", BigInteger, nullable=False, info=personal("what an agent earns")),
    Column("currency", PlainText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("changed_by", PlainText, nullable=False, info=personal(_WHO)),
    sqlite_with_rowid=False,
)

staffed_hours = Table(
    "staffed_hours",
    metadata,
    Column("agent", PlainText, primary_key=True, info=personal("key of the agent who worked")),
    Column("day_local", Integer, primary_key=True, autoincrement=False),
    Column("minutes", Integer, nullable=False, info=personal("how long an agent worked")),
    Column("at_us", BigInteger, nullable=False),
    Column("changed_by", PlainText, nullable=False, info=personal(_WHO)),
    sqlite_with_rowid=False,
)
