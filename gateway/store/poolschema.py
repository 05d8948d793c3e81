"""Tables of number pools, visitors and attribution; see `schema` for the conventions.

IP addresses are not kept: what they told (country, city) is.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from gateway.store.schema import OUR_OWN, PlainText, SerialKey, impersonal, metadata, personal

LENT = impersonal("one of our numbers")
VISITOR = personal("random id that the visitor's browser keeps")

pool_numbers = Table(
    "pool_numbers",
    metadata,
    Column("number", PlainText, primary_key=True, info=LENT),
    Column("pool", PlainText, comment="NULL: in no pool any more"),
    Column("lease_id", PlainText),
    Column("visitor_id", PlainText, info=VISITOR),
    Column("issued_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("living_until_us", BigInteger, nullable=False),
    Column("held_until_us", BigInteger, nullable=False),
    Column("used_us", BigInteger, nullable=False),
    Column("call_until_us", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    UniqueConstraint("pool", "visitor_id"),
    Index("ix_pool_numbers_turn", "pool", "used_us", "number"),
    Index("ix_pool_numbers_lease", "lease_id"),
)

leases = Table(
    "leases",
    metadata,
    Column("lease_id", PlainText, primary_key=True),
    Column("pool", PlainText, nullable=False),
    Column("number", PlainText, nullable=False, info=LENT),
    Column("visitor_id", PlainText, nullable=False, info=VISITOR),
    Column("issued_us", BigInteger, nullable=False),
    Column("gone_us", BigInteger, comment="NULL: the number is still lent, and knows when its visitor was seen"),
    Index("ix_leases_number", "number", "issued_us"),
    Index("ix_leases_visitor", "visitor_id", "issued_us"),
    Index("ix_leases_issued", "issued_us"),
)

visitors = Table(
    "visitors",
    metadata,
    Column("visitor_id", PlainText, primary_key=True, info=VISITOR),
    Column("site", PlainText, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("ids", PlainText, nullable=False, info=personal("ids of web analytics, with consent")),
    Column("variables", PlainText, nullable=False, info=personal("what the site's own script told")),
    Index("ix_visitors_seen", "seen_us"),
)

visits = Table(
    "visits",
    metadata,
    Column("visit_id", PlainText, primary_key=True, info=OUR_OWN),
    Column(
        "visitor_id",
        PlainText,
        ForeignKey(visitors.c.visitor_id, ondelete="CASCADE"),
        nullable=False,
        info=VISITOR,
    ),
    Column("site", PlainText, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("is_touch", Boolean, nullable=False, comment="false: a direct return or a way within the site"),
    Column("book_source", PlainText),
    Column("kind", PlainText, nullable=False),
    Column("came_from", PlainText, nullable=False),
    Column("medium", PlainText, nullable=False),
    Column("campaign", PlainText),
    Column("term", PlainText, info=personal("what the visitor searched for")),
    Column("content", PlainText),
    Column("rule", PlainText, nullable=False),
    Column("version", PlainText, nullable=False),
    Column("landing_page", PlainText, nullable=False, info=personal("address with what it asks")),
    Column("referrer", PlainText, nullable=False, info=personal("address of the page before")),
    Column("raw", PlainText, nullable=False, info=personal("tags and click ids as they came")),
    Column("country", PlainText),
    Column("city", PlainText, info=personal("where the visitor was")),
    Column("browser", PlainText, info=personal("the visitor's browser")),
    Column("system", PlainText, info=personal("the visitor's operating system")),
    Column("device", PlainText, info=personal("the visitor's device")),
    Column("pages", Integer, nullable=False),
    Index("ix_visits_visitor", "visitor_id", "started_us"),
    Index("ix_visits_site", "site", "started_us"),
)

page_views = Table(
    "page_views",
    metadata,
    Column("visit_id", PlainText, ForeignKey(visits.c.visit_id, ondelete="CASCADE"), primary_key=True, info=OUR_OWN),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("url", PlainText, nullable=False, info=personal("page that the visitor saw")),
    sqlite_with_rowid=False,
)

clicks = Table(
    "clicks",
    metadata,
    Column("click_id", SerialKey, primary_key=True),
    Column("number", PlainText, nullable=False, info=LENT),
    Column("visitor_id", PlainText, nullable=False, info=VISITOR),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_clicks_number", "number", "at_us"),
    Index("ix_clicks_visitor", "visitor_id"),
    sqlite_autoincrement=True,
)

attributions = Table(
    "attributions",
    metadata,
    Column("call_id", PlainText, primary_key=True),
    Column("number", PlainText, nullable=False, info=LENT),
    Column("pool", PlainText),
    Column("kind", PlainText, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("caller", PlainText, info=personal("caller's number")),
    Column("method", PlainText, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("visitor_id", PlainText, info=VISITOR),
    Column("lease_id", PlainText),
    Column("idle_seconds", Double),
    Column("link_confidence", Double, comment="the call shows that caller and visitor are one"),
    Column("due_us", BigInteger, comment="when it is looked at again; NULL: settled"),
    Index("ix_attributions_number", "number", "at_us"),
    Index("ix_attributions_caller", "caller", "at_us"),
    Index("ix_attributions_visitor", "visitor_id", "at_us"),
    Index(
        "ix_attributions_due",
        "due_us",
        sqlite_where=text("due_us IS NOT NULL"),
        postgresql_where=text("due_us IS NOT NULL"),
    ),
)

pool_states = Table(
    "pool_states",
    metadata,
    Column("pool", PlainText, primary_key=True),
    Column("beat_us", BigInteger, nullable=False, comment="when some process last took signs of life"),
    Column("law", PlainText, comment="when visitors of this pool call, as last fitted; JSON"),
    Column("exhausted_us", BigInteger, comment="last alarm that nothing was free"),
    Column("leak_us", BigInteger, comment="last alarm of leaked numbers"),
    Column("leaked", PlainText, nullable=False, info=impersonal("our numbers that were told as leaked")),
)

pool_overflows = Table(
    "pool_overflows",
    metadata,
    Column("pool", PlainText, primary_key=True),
    Column("hour_us", BigInteger, primary_key=True, autoincrement=False, comment="beginning of the hour"),
    Column("visits", Integer, nullable=False, comment="that began without a number of the pool"),
    sqlite_with_rowid=False,
)

web_checks = Table(
    "web_checks",
    metadata,
    Column("digest", PlainText, primary_key=True, comment="SHA-256 of the pass of a running `verify --web`"),
    Column("expires_us", BigInteger, nullable=False),
)
