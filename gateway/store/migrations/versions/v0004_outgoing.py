"""What leaves the house: states of targets, the last deliveries, facts of calls at services, alarms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables."""
    op.add_column(
        "deliveries",
        sa.Column(
            "is_unsure",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="an attempt ended without a word",
        ),
    )
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["target"],
        unique=False,
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_table(
        "target_states",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("off_us", sa.BigInteger(), nullable=True, comment="switched off since; NULL: in use"),
        sa.Column("off_reason", sa.Text(), nullable=True),
        sa.Column(
            "failing_us", sa.BigInteger(), nullable=True, comment="fails since; NULL: the last attempt went well"
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_target_states")),
    )
    op.create_table(
        "delivery_log",
        sa.Column("log_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("is_test", sa.Boolean(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("took_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_delivery_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_delivery_log_call", "delivery_log", ["call_id"], unique=False)
    op.create_index("ix_delivery_log_target", "delivery_log", ["target", "log_id"], unique=False)
    op.create_table(
        "delivery_facts",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "target", "name", name=op.f("pk_delivery_facts")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_delivery_facts_at", "delivery_facts", ["at_us"], unique=False)
    op.create_table(
        "alarms",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="which target, pool, site, node"),
        sa.Column(
            "pending_us",
            sa.BigInteger(),
            nullable=True,
            comment="its condition has held since; NULL: it does not hold",
        ),
        sa.Column(
            "clearing_us",
            sa.BigInteger(),
            nullable=True,
            comment="raised, and its condition has not held since; NULL: it holds",
        ),
        sa.Column("raised_us", sa.BigInteger(), nullable=True, comment="NULL: not raised"),
        sa.Column("told_us", sa.BigInteger(), nullable=True, comment="when somebody was told; NULL: nobody yet"),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_alarms")),
        sqlite_with_rowid=False,
    )
