"""Number pools with their leases, visitors with their visits, and who called."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "pool_numbers",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True, comment="NULL: in no pool any more"),
        sa.Column("lease_id", sa.Text(), nullable=True),
        sa.Column("visitor_id", sa.Text(), nullable=True),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("living_until_us", sa.BigInteger(), nullable=False),
        sa.Column("held_until_us", sa.BigInteger(), nullable=False),
        sa.Column("used_us", sa.BigInteger(), nullable=False),
        sa.Column("call_until_us", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_pool_numbers")),
        sa.UniqueConstraint("pool", "visitor_id", name=op.f("uq_pool_numbers_pool_visitor_id")),
    )
    op.create_index("ix_pool_numbers_lease", "pool_numbers", ["lease_id"], unique=False)
    op.create_index("ix_pool_numbers_turn", "pool_numbers", ["pool", "used_us", "number"], unique=False)
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("visitor_id", sa.Text(), nullable=False),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column(
            "gone_us",
            sa.BigInteger(),
            nullable=True,
            comment="NULL: the number is still lent, and knows when its visitor was seen",
        ),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_leases")),
    )
    op.create_index("ix_leases_issued", "leases", ["issued_us"], unique=False)
    op.create_index("ix_leases_number", "leases", ["number", "issued_us"], unique=False)
    op.create_index("ix_leases_visitor", "leases", ["visitor_id", "issued_us"], unique=False)
    op.create_table(
        "visitors",
        sa.Column("visitor_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("ids", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("visitor_id", name=op.f("pk_visitors")),
    )
    op.create_index("ix_visitors_seen", "visitors", ["seen_us"], unique=False)
    op.create_table(
        "visits",
        sa.Column("visit_id", sa.Text(), nullable=False),
        sa.Column("visitor_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("is_touch", sa.Boolean(), nullable=False, comment="false: a direct return or a way within the site"),
        sa.Column("book_source", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("came_from", sa.Text(), nullable=False),
        sa.Column("medium", sa.Text(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=True),
        sa.Column("term", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("landing_page", sa.Text(), nullable=False),
        sa.Column("referrer", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("browser", sa.Text(), nullable=True),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["visitor_id"], ["visitors.visitor_id"], name=op.f("fk_visits_visitor_id_visitors"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("visit_id", name=op.f("pk_visits")),
    )
    op.create_index("ix_visits_site", "visits", ["site", "started_us"], unique=False)
    op.create_index("ix_visits_visitor", "visits", ["visitor_id", "started_us"], unique=False)
    op.create_table(
        "page_views",
        sa.Column("visit_id", sa.Text(), nullable=False),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["visit_id"], ["visits.visit_id"], name=op.f("fk_page_views_visit_id_visits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("visit_id", "place", name=op.f("pk_page_views")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "clicks",
        sa.Column("click_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("visitor_id", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("click_id", name=op.f("pk_clicks")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_clicks_number", "clicks", ["number", "at_us"], unique=False)
    op.create_index("ix_clicks_visitor", "clicks", ["visitor_id"], unique=False)
    op.create_table(
        "attributions",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("visitor_id", sa.Text(), nullable=True),
        sa.Column("lease_id", sa.Text(), nullable=True),
        sa.Column("idle_seconds", sa.Double(), nullable=True),
        sa.Column(
            "link_confidence", sa.Double(), nullable=True, comment="the call shows that caller and visitor are one"
        ),
        sa.Column("due_us", sa.BigInteger(), nullable=True, comment="when it is looked at again; NULL: settled"),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_attributions")),
    )
    op.create_index("ix_attributions_caller", "attributions", ["caller", "at_us"], unique=False)
    op.create_index(
        "ix_attributions_due",
        "attributions",
        ["due_us"],
        unique=False,
        sqlite_where=sa.text("due_us IS NOT NULL"),
        postgresql_where=sa.text("due_us IS NOT NULL"),
    )
    op.create_index("ix_attributions_number", "attributions", ["number", "at_us"], unique=False)
    op.create_index("ix_attributions_visitor", "attributions", ["visitor_id", "at_us"], unique=False)
    op.create_table(
        "pool_states",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("beat_us", sa.BigInteger(), nullable=False, comment="when some process last took signs of life"),
        sa.Column("law", sa.Text(), nullable=True, comment="when visitors of this pool call, as last fitted; JSON"),
        sa.Column("exhausted_us", sa.BigInteger(), nullable=True, comment="last alarm that nothing was free"),
        sa.Column("leak_us", sa.BigInteger(), nullable=True, comment="last alarm of leaked numbers"),
        sa.Column("leaked", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_pool_states")),
    )
    op.create_table(
        "pool_overflows",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("hour_us", sa.BigInteger(), autoincrement=False, nullable=False, comment="beginning of the hour"),
        sa.Column("visits", sa.Integer(), nullable=False, comment="that began without a number of the pool"),
        sa.PrimaryKeyConstraint("pool", "hour_us", name=op.f("pk_pool_overflows")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "web_checks",
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the pass of a running `verify --web`"),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_web_checks")),
    )
