"""Tables of missed-call tickets; see `schema` for the conventions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, UniqueConstraint, text

from gateway.store.schema import ROUTING_KEY, PlainText, SerialKey, impersonal, metadata, personal

RUNNING = impersonal("running number of a ticket")
IS_OPEN = "state <> 'closed'"

tickets = Table(
    "tickets",
    metadata,
    Column("number", SerialKey, primary_key=True, info=RUNNING),
    Column("ticket_id", PlainText, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("result", PlainText),
    Column("caller", PlainText, info=personal("caller's number")),
    Column("caller_name", PlainText, info=personal("caller's name")),
    Column("call_id", PlainText, comment="the missed call; NULL: a request on a page"),
    Column("last_call_id", PlainText, info=impersonal("id of a call")),
    Column("tracking_number", PlainText, info=impersonal("one of our numbers")),
    Column("route", PlainText),
    Column("site", PlainText),
    Column("node", PlainText, nullable=False),
    Column("source", PlainText),
    Column("campaign", PlainText),
    Column("attribution", PlainText, nullable=False, info=personal("visitor and click ids; JSON")),
    Column("consent_mode", PlainText),
    Column("consent_region", PlainText),
    Column("cause", PlainText),
    Column("evidence", PlainText, nullable=False, comment="JSON"),
    Column("request", PlainText, nullable=False, info=personal("what was asked on a page; JSON")),
    Column("owner", PlainText, info=ROUTING_KEY),
    Column("misses", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("before_round", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("last_miss_us", BigInteger, nullable=False),
    Column("round_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False, info=impersonal("a time")),
    Column("next_due_us", BigInteger),
    Column("reminded_us", BigInteger),
    Column("escalated_us", BigInteger),
    Column("first_attempt_us", BigInteger),
    Column("last_attempt_us", BigInteger),
    Column("closed_us", BigInteger),
    Column("timer_us", BigInteger, comment="when time alone changes it; NULL: never"),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("ticket_id"),
    Index(
        "ix_tickets_open_caller",
        "caller",
        unique=True,
        sqlite_where=text(IS_OPEN),
        postgresql_where=text(IS_OPEN),
    ),
    Index("ix_tickets_caller", "caller"),
    Index("ix_tickets_opened", "opened_us"),
    Index("ix_tickets_call", "call_id"),
    Index(
        "ix_tickets_timer",
        "timer_us",
        sqlite_where=text("timer_us IS NOT NULL"),
        postgresql_where=text("timer_us IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

ticket_calls = Table(
    "ticket_calls",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("ticket", BigInteger, ForeignKey(tickets.c.number, ondelete="CASCADE"), nullable=False),
    Column("part", PlainText, nullable=False, comment="miss, attempt or reached: what the call did to it, once"),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_ticket_calls_ticket", "ticket"),
)

missed_causes = Table(
    "missed_causes",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("cause", PlainText, nullable=False, comment="class of the missed call"),
    Column("why", PlainText, nullable=False),
    Column("evidence", PlainText, nullable=False, comment="JSON"),
    Column("ticket", BigInteger, comment="NULL: it gave none"),
    Column("skipped", PlainText, comment="why it gave none"),
    Index("ix_missed_causes_at", "at_us", "cause"),
)

tag_checks = Table(
    "tag_checks",
    metadata,
    Column("number", PlainText, primary_key=True, info=impersonal("one of our numbers, as a page shows it")),
    Column("page", PlainText, primary_key=True, comment="site, case and address that were checked"),
    Column("at_us", BigInteger, nullable=False),
    Column("problem", PlainText, nullable=False),
)

ticket_history = Table(
    "ticket_history",
    metadata,
    Column("entry", SerialKey, primary_key=True),
    Column("ticket", BigInteger, ForeignKey(tickets.c.number, ondelete="CASCADE"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("what", PlainText, nullable=False),
    Column("actor", PlainText, nullable=False, info=personal("account of who did it")),
    Column("call_id", PlainText),
    Column("text", PlainText, info=personal("a note, or a name")),
    Index("ix_ticket_history_ticket", "ticket", "entry"),
    sqlite_autoincrement=True,
)
