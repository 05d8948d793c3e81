"""Tables of both engines. Times are microseconds since the epoch, UTC, in columns that end in `_us`.

Each column says whether it holds personal data: `personal(what)` registers it for erasure, `impersonal(why)` declares
that it does not though its name sounds so. `gateway.store.personal` reads both.

Tables without rowid are one tree in SQLite instead of two; they are those that are mostly looked up by their key.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

HEAD = "0004"
"""Revision of the newest migration: lets a start see without alembic that there is nothing to do."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class PlainText(TypeDecorator[str]):
    """Text that either engine can store whatever a caller sent: NUL and lone surrogates become U+FFFD.

    PostgreSQL refuses the first, both drivers the second, and a refused row would stop all records behind it. Enums
    are stored as their value (psycopg would take the member's name).
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if type(value) is not str:
            value = str(value)
        if value.isprintable():
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


SerialKey = BigInteger().with_variant(Integer(), "sqlite")
"""A key that counts by itself; SQLite does so for INTEGER only."""


def personal(what: str) -> dict[str, Any]:
    """`Column.info` of personal data; `what` for the register of processing."""
    return {"personal": what}


def impersonal(why: str) -> dict[str, Any]:
    """`Column.info` of a column that sounds personal and is not."""
    return {"impersonal": why}


ROUTING_KEY = impersonal("key of the routing book")
OUR_OWN = impersonal("made by Asterisk or by us, not by a person")

routing_revisions = Table(
    "routing_revisions",
    metadata,
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("document", PlainText, nullable=False, info=personal("names of agents, numbers of banned callers")),
    Column("applied_us", BigInteger, nullable=False),
    Column("applied_by", PlainText, nullable=False, info=personal("account of the administrator")),
    Column("comment", PlainText, nullable=False),
    Column("based_on", Integer),
)

calls = Table(
    "calls",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("node", PlainText, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("direction", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("answered_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("last_row_us", BigInteger, nullable=False),
    Column("day_local", Integer, nullable=False),
    Column("hour_local", SmallInteger, nullable=False),
    Column("site", PlainText, nullable=False),
    Column("trunk", PlainText),
    Column("route", PlainText),
    Column("route_source", PlainText),
    Column("plan_revision", Integer),
    Column("did", PlainText, nullable=False, info=personal("number called, of an outbound call a person's")),
    Column("caller", PlainText, info=personal("caller's number")),
    Column("caller_country", PlainText, info=impersonal("a country")),
    Column("caller_region", PlainText, info=impersonal("a region")),
    Column("source", PlainText),
    Column("campaign", PlainText),
    Column("outcome", PlainText),
    Column("cause", PlainText),
    Column("missed", Boolean, nullable=False),
    Column("ended_by", PlainText),
    Column("agent", PlainText, info=ROUTING_KEY),
    Column("destination", PlainText, info=ROUTING_KEY),
    Column("wait_seconds", Double, nullable=False),
    Column("ring_seconds", Double, nullable=False),
    Column("talk_seconds", Double, nullable=False),
    Column("hold_seconds", Double, nullable=False),
    Column("calls_before", Integer),
    Column("score", Integer, comment="by the rules; NULL: none, or the call is up"),
    Column("linked_id", PlainText, nullable=False),
    Column("unique_id", PlainText, nullable=False),
    Column("sip_call_id", PlainText, info=personal("made by the caller's phone, may hold its address")),
    Column("content_hash", PlainText, nullable=False),
    Column("attempts_hash", PlainText, nullable=False),
    Column("announced", PlainText, nullable=False),
    Column("record", PlainText, nullable=False, info=personal("the whole record")),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_calls_started", "started_us", "call_id"),
    Index("ix_calls_caller", "caller", "started_us"),
    Index("ix_calls_did", "did", "started_us"),
    Index("ix_calls_outcome", "outcome", "started_us"),
    Index("ix_calls_day", "day_local"),
    Index(
        "ix_calls_open",
        "started_us",
        "call_id",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("call_id", PlainText, ForeignKey(calls.c.call_id, ondelete="CASCADE"), primary_key=True),
    Column("number", SmallInteger, primary_key=True, autoincrement=False, info=impersonal("1, 2, 3 within the call")),
    Column("step", SmallInteger, nullable=False),
    Column("destination", PlainText, nullable=False, info=ROUTING_KEY),
    Column("kind", PlainText, nullable=False),
    Column("agent", PlainText, info=ROUTING_KEY),
    Column("outcome", PlainText),
    Column("started_us", BigInteger, nullable=False),
    Column("answered_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("ring_seconds", Double, nullable=False),
    Column("talk_seconds", Double, nullable=False),
    Column("sip_code", SmallInteger),
    Column("q850_cause", SmallInteger),
    Column("whisper_played", Boolean, nullable=False),
    Column("accepted", Boolean),
    Index(
        "ix_attempts_talked",
        "destination",
        "ended_us",
        sqlite_where=text("answered_us IS NOT NULL"),
        postgresql_where=text("answered_us IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

journal_files = Table(
    "journal_files",
    metadata,
    Column("file_id", Integer, primary_key=True),
    Column("node", PlainText, nullable=False),
    Column("device", PlainText, nullable=False),
    Column("inode", PlainText, nullable=False),
    Column("fingerprint", PlainText, nullable=False),
    Column("name", PlainText, nullable=False, info=OUR_OWN),
    Column("size", BigInteger, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("first_row_us", BigInteger),
    Column("last_row_us", BigInteger),
    UniqueConstraint("node", "device", "inode", "fingerprint"),
    sqlite_autoincrement=True,
)

journal_positions = Table(
    "journal_positions",
    metadata,
    Column("node", PlainText, primary_key=True),
    Column("file_id", Integer, ForeignKey(journal_files.c.file_id), nullable=False),
    Column("file_offset", BigInteger, nullable=False),
)

open_rows = Table(
    "open_rows",
    metadata,
    Column("file_id", Integer, ForeignKey(journal_files.c.file_id), primary_key=True, autoincrement=False),
    Column("file_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("node", PlainText, nullable=False),
    Column("group_key", PlainText, nullable=False),
    Column("line", LargeBinary, nullable=False, info=personal("journal row: number and name of the caller")),
    Index("ix_open_rows_group", "node", "group_key"),
    sqlite_with_rowid=False,
)

closings = Table(
    "closings",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", PlainText, nullable=False),
)

damaged_rows = Table(
    "damaged_rows",
    metadata,
    Column(
        "file_id",
        Integer,
        ForeignKey(journal_files.c.file_id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("file_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False, info=personal("part of a journal row")),
    Column("reason", PlainText, nullable=False),
    Column("found_us", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", SerialKey, primary_key=True),
    Column("event_id", PlainText, nullable=False, unique=True),
    Column("type", PlainText, nullable=False),
    Column("call_id", PlainText),
    Column("revision", Integer),
    Column("created_us", BigInteger, nullable=False),
    Column("payload", PlainText, nullable=False, info=personal("the record of the call")),
    Column("late", Boolean, nullable=False),
    Index("ix_events_created", "created_us"),
    Index("ix_events_call", "call_id"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column(
        "seq",
        BigInteger,
        ForeignKey(events.c.seq, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("target", PlainText, primary_key=True),
    Column("call_id", PlainText),
    Column("state", PlainText, nullable=False),
    Column("due_us", BigInteger, comment="next attempt, or end of the lease while claimed; NULL when done or dead"),
    Column("attempts", Integer, nullable=False),
    Column("claim", PlainText),
    Column("settled_us", BigInteger),
    Column("last_error", PlainText, info=personal("answer of the receiver, may repeat what it was sent")),
    Column("is_unsure", Boolean, nullable=False, server_default=false(), comment="an attempt ended without a word"),
    Index(
        "ix_deliveries_due",
        "target",
        "seq",
        "due_us",
        sqlite_where=text("due_us IS NOT NULL"),
        postgresql_where=text("due_us IS NOT NULL"),
    ),
    Index(
        "ix_deliveries_call",
        "call_id",
        "target",
        "seq",
        sqlite_where=text("due_us IS NOT NULL"),
        postgresql_where=text("due_us IS NOT NULL"),
    ),
    Index(
        "ix_deliveries_dead",
        "target",
        sqlite_where=text("state = 'dead'"),
        postgresql_where=text("state = 'dead'"),
    ),
    sqlite_with_rowid=False,
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_id", Integer, primary_key=True),
    Column("name", PlainText, nullable=False, unique=True, info=impersonal("name of the token, for the log")),
    Column("digest", PlainText, nullable=False, unique=True),
    Column("scopes", PlainText, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("last_used_us", BigInteger),
    Column("revoked_us", BigInteger),
    sqlite_autoincrement=True,
)

recordings = Table(
    "recordings",
    metadata,
    Column("recording_id", PlainText, primary_key=True, info=OUR_OWN),
    Column("call_id", PlainText, nullable=False),
    Column("node", PlainText, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("parts", PlainText, nullable=False),
    Column("audio_bytes", BigInteger, nullable=False),
    Column("peaks_bytes", Integer, nullable=False),
    Column("digest", PlainText, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("why", PlainText),
    Column("held_us", BigInteger),
    Column("held_why", PlainText, info=personal("reason of a legal hold, in an administrator's words")),
    Column("condemned_us", BigInteger),
    Column("shredded_us", BigInteger),
    Column("analysis", PlainText, info=personal("what a program found in the talk, perhaps all its words")),
    Column("analysed_us", BigInteger),
    Index("ix_recordings_call", "call_id"),
    Index("ix_recordings_state", "state", "started_us"),
)

recording_keys = Table(
    "recording_keys",
    metadata,
    Column(
        "recording_id",
        PlainText,
        ForeignKey(recordings.c.recording_id, ondelete="CASCADE"),
        primary_key=True,
        info=OUR_OWN,
    ),
    Column("key_id", PlainText, nullable=False),
    Column("wrapped", LargeBinary, nullable=False, info=impersonal("a random key, encrypted")),
    Index("ix_recording_keys_key", "key_id"),
)

vault_secrets = Table(
    "vault_secrets",
    metadata,
    Column("name", PlainText, primary_key=True, info=OUR_OWN),
    Column("key_id", PlainText, nullable=False),
    Column("wrapped", LargeBinary, nullable=False, info=impersonal("a random key, encrypted")),
)

receipts = Table(
    "receipts",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("what", PlainText, primary_key=True),
    Column("document", PlainText, nullable=False, info=impersonal("the caller is a salted digest in it")),
    Column("signature", PlainText, nullable=False),
    Column("key_id", PlainText, nullable=False),
    Column("salt", PlainText, info=personal("with it the caller's digest can be compared with a number")),
    Column("created_us", BigInteger, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("key_id", PlainText, primary_key=True),
    Column("public_key", PlainText, nullable=False),
    Column("node", PlainText, nullable=False),
    Column("first_us", BigInteger, nullable=False),
)

reviews = Table(
    "reviews",
    metadata,
    Column("recording_id", PlainText, primary_key=True, info=OUR_OWN),
    Column("call_id", PlainText, nullable=False),
    Column("week", PlainText, nullable=False),
    Column("agent", PlainText, nullable=False, info=ROUTING_KEY),
    Column("score", SmallInteger),
    Column("note", PlainText, info=personal("a reviewer's words about a talk")),
    Column("reviewer", PlainText, info=personal("account or token of who reviewed")),
    Column("drawn_us", BigInteger, nullable=False, info=impersonal("a time")),
    Column("reviewed_us", BigInteger),
    Index("ix_reviews_week", "week", "agent"),
    Index("ix_reviews_call", "call_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", PlainText, nullable=False, info=personal("token or account of who did it, kept as proof")),
    Column("action", PlainText, nullable=False),
    Column("subject", PlainText, nullable=False),
    Column("details", PlainText, nullable=False),
    Column("person_digest", PlainText, info=impersonal("salted digest of a number; nothing once the salt is gone")),
    Column("previous", PlainText, nullable=False),
    Column("hash", PlainText, nullable=False),
    Column("person_salt", PlainText, info=personal("with it the digest can be compared with a number")),
    Index("ix_audit_at", "at_us"),
    Index("ix_audit_subject", "subject"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("digest", PlainText, primary_key=True, info=impersonal("keyed hash of a number; the key is wrapped")),
    Column("pseudonym", PlainText, nullable=False),
    Column("erased_us", BigInteger, nullable=False),
)

forgotten_calls = Table(
    "forgotten_calls",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("pseudonym", PlainText, nullable=False),
    Column("why", PlainText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
