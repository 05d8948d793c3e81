"""Table of what CRMs said of callers; see `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table

from gateway.store.schema import PlainText, impersonal, metadata, personal

caller_attributes = Table(
    "caller_attributes",
    metadata,
    Column("caller", PlainText, primary_key=True, info=personal("number of the person")),
    Column("target", PlainText, primary_key=True, comment="the CRM"),
    Column("name", PlainText, primary_key=True, info=impersonal("our word for the attribute, of the routing file")),
    Column("value", PlainText, nullable=False, info=personal("an attribute of the person: age, income, …")),
    Column("at_us", BigInteger, nullable=False, comment="when the CRM said it last"),
    Index("ix_caller_attributes_at", "at_us"),
    sqlite_with_rowid=False,
)
