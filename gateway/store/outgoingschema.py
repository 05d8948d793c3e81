"""Tables of what leaves the house: targets, their last deliveries, what they know a call by, alarms; see `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table

from gateway.store.schema import PlainText, SerialKey, impersonal, metadata, personal

target_states = Table(
    "target_states",
    metadata,
    Column("target", PlainText, primary_key=True),
    Column("off_us", BigInteger, comment="switched off since; NULL: in use"),
    Column("off_reason", PlainText),
    Column("failing_us", BigInteger, comment="fails since; NULL: the last attempt went well"),
    Column("last_error", PlainText, info=impersonal("our own words and a status, no answer of the receiver")),
)

delivery_log = Table(
    "delivery_log",
    metadata,
    Column("log_id", SerialKey, primary_key=True),
    Column("target", PlainText, nullable=False),
    Column("event_id", PlainText, nullable=False),
    Column("type", PlainText, nullable=False),
    Column("call_id", PlainText),
    Column("attempt", Integer, nullable=False),
    Column("is_test", Boolean, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("took_us", BigInteger, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("status", Integer),
    Column("note", PlainText, nullable=False, info=personal("may repeat what the receiver answered")),
    Column("request", PlainText, nullable=False, info=personal("what was sent of the call")),
    Column("response", PlainText, nullable=False, info=personal("may repeat what it was sent")),
    Index("ix_delivery_log_target", "target", "log_id"),
    Index("ix_delivery_log_call", "call_id"),
    sqlite_autoincrement=True,
)

delivery_facts = Table(
    "delivery_facts",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("target", PlainText, primary_key=True),
    Column("name", PlainText, primary_key=True, info=impersonal("name of the fact, like contact_id")),
    Column("value", PlainText, nullable=False, info=personal("what the service calls the caller")),
    Column(
        "object_id",
        PlainText,
        nullable=False,
        info=personal("what the service calls the caller"),
        comment="the id in `value`, by which a deal finds its call",
    ),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_delivery_facts_at", "at_us"),
    Index("ix_delivery_facts_object", "object_id"),
    sqlite_with_rowid=False,
)

alarms = Table(
    "alarms",
    metadata,
    Column("kind", PlainText, primary_key=True),
    Column("subject", PlainText, primary_key=True, comment="which target, pool, site, node"),
    Column("pending_us", BigInteger, comment="its condition has held since; NULL: it does not hold"),
    Column("clearing_us", BigInteger, comment="raised, and its condition has not held since; NULL: it holds"),
    Column("raised_us", BigInteger, comment="NULL: not raised"),
    Column("told_us", BigInteger, comment="when somebody was told; NULL: nobody yet"),
    sqlite_with_rowid=False,
)
