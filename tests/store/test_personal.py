"""Every column with personal data is registered for erasure (design.md, "Storage rules")."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, MetaData, Table, Text

from gateway.store import personal, schema


def test_every_column_that_sounds_personal_is_judged() -> None:
    assert personal.unjudged_columns(schema.metadata) == []


def test_a_column_that_is_not_judged_is_found() -> None:
    metadata = MetaData()
    Table(
        "visits",
        metadata,
        Column("visit_id", Text),
        Column("caller_name", Text),
        Column("body", LargeBinary),
        Column("phone", Text, info=schema.personal("visitor's number")),
        Column("agent", Text, info=schema.impersonal("key")),
        Column("line", Text, info=schema.impersonal("")),
    )
    assert personal.unjudged_columns(metadata) == ["visits.caller_name", "visits.body", "visits.line"]
    assert personal.personal_columns(metadata) == [personal.PersonalColumn("visits", "phone", "visitor's number")]


def test_the_register_names_where_callers_are() -> None:
    registered = {(column.table, column.column) for column in personal.personal_columns()}
    assert registered >= {
        ("calls", "caller"),
        ("calls", "record"),
        ("events", "payload"),
        ("open_rows", "line"),
        ("damaged_rows", "raw"),
        ("routing_revisions", "document"),
    }
