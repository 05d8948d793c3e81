"""What leaves the house: states of targets, the last deliveries, facts of calls at services, alarms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables."""
    op.add_column(
        "calls",
        sa.Column("score", sa.Integer(), nullable=True, comment="by the rules; NULL: none, or the call is up"),
    )
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
        sa.Column("object_id", sa.Text(), nullable=False, comment="the id in `value`, by which a deal finds its call"),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "target", "name", name=op.f("pk_delivery_facts")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_delivery_facts_at", "delivery_facts", ["at_us"], unique=False)
    op.create_index("ix_delivery_facts_object", "delivery_facts", ["object_id"], unique=False)
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
    _make_tickets()
    _agents()
    _profiles()


def _profiles() -> None:
    op.create_table(
        "caller_attributes",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="the CRM"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False, comment="when the CRM said it last"),
        sa.PrimaryKeyConstraint("caller", "target", "name", name=op.f("pk_caller_attributes")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_caller_attributes_at", "caller_attributes", ["at_us"], unique=False)


def _agents() -> None:
    op.create_table(
        "agent_breaks",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False, comment="of the last change"),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent", name=op.f("pk_agent_breaks")),
    )
    op.create_table(
        "callback_claims",
        sa.Column("ticket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False, comment="or while the call is open"),
        sa.Column("call_id", sa.Text(), nullable=True, comment="NULL: the agent's phone is still ringing"),
        sa.Column("token", sa.Text(), nullable=True, comment="of a click that was not answered yet; SHA-256"),
        sa.ForeignKeyConstraint(
            ["ticket"], ["tickets.number"], name=op.f("fk_callback_claims_ticket_tickets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ticket", name=op.f("pk_callback_claims")),
    )


def _make_tickets() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "tickets",
        sa.Column("number", serial, nullable=False),
        sa.Column("ticket_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("caller", sa.Text(), nullable=True),
        sa.Column("caller_name", sa.Text(), nullable=True),
        sa.Column("call_id", sa.Text(), nullable=True, comment="the missed call; NULL: a request on a page"),
        sa.Column("last_call_id", sa.Text(), nullable=True),
        sa.Column("tracking_number", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("site", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("campaign", sa.Text(), nullable=True),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("consent_mode", sa.Text(), nullable=True),
        sa.Column("consent_region", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("before_round", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("last_miss_us", sa.BigInteger(), nullable=False),
        sa.Column("round_us", sa.BigInteger(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("next_due_us", sa.BigInteger(), nullable=True),
        sa.Column("reminded_us", sa.BigInteger(), nullable=True),
        sa.Column("escalated_us", sa.BigInteger(), nullable=True),
        sa.Column("first_attempt_us", sa.BigInteger(), nullable=True),
        sa.Column("last_attempt_us", sa.BigInteger(), nullable=True),
        sa.Column("closed_us", sa.BigInteger(), nullable=True),
        sa.Column("timer_us", sa.BigInteger(), nullable=True, comment="when time alone changes it; NULL: never"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tickets")),
        sa.UniqueConstraint("ticket_id", name=op.f("uq_tickets_ticket_id")),
        sqlite_autoincrement=True,
    )
    is_open, is_due = sa.text("state <> 'closed'"), sa.text("timer_us IS NOT NULL")
    op.create_index(
        "ix_tickets_open_caller", "tickets", ["caller"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_index("ix_tickets_caller", "tickets", ["caller"], unique=False)
    op.create_index("ix_tickets_opened", "tickets", ["opened_us"], unique=False)
    op.create_index("ix_tickets_call", "tickets", ["call_id"], unique=False)
    op.create_index(
        "ix_tickets_timer", "tickets", ["timer_us"], unique=False, sqlite_where=is_due, postgresql_where=is_due
    )
    op.create_table(
        "ticket_calls",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("ticket", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False, comment="miss, attempt or reached: what the call did to it, once"),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ticket"], ["tickets.number"], name=op.f("fk_ticket_calls_ticket_tickets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_ticket_calls")),
    )
    op.create_index("ix_ticket_calls_ticket", "ticket_calls", ["ticket"], unique=False)
    op.create_table(
        "missed_causes",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False, comment="class of the missed call"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("ticket", sa.BigInteger(), nullable=True, comment="NULL: it gave none"),
        sa.Column("skipped", sa.Text(), nullable=True, comment="why it gave none"),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_missed_causes")),
    )
    op.create_index("ix_missed_causes_at", "missed_causes", ["at_us", "cause"], unique=False)
    op.create_table(
        "tag_checks",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False, comment="site, case and address that were checked"),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", "page", name=op.f("pk_tag_checks")),
    )
    op.create_table(
        "ticket_history",
        sa.Column("entry", serial, nullable=False),
        sa.Column("ticket", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["ticket"], ["tickets.number"], name=op.f("fk_ticket_history_ticket_tickets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_ticket_history")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ticket_history_ticket", "ticket_history", ["ticket", "entry"], unique=False)
    _deals()


def _deals() -> None:
    """What is said about calls afterwards, what they cost, days whose figures changed."""
    op.create_table(
        "call_results",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("qualified", sa.Boolean(), nullable=True),
        sa.Column("spam", sa.Boolean(), nullable=True),
        sa.Column("goal_reached", sa.Boolean(), nullable=True),
        sa.Column("lead_status", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("deal_id", sa.Text(), nullable=True),
        sa.Column("deal_state", sa.Text(), nullable=True),
        sa.Column("deal_stage", sa.Text(), nullable=True),
        sa.Column("value_e4", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("closed_on", sa.Integer(), nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("way", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["call_id"], ["calls.call_id"], name=op.f("fk_call_results_call_id_calls"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_call_results")),
    )
    op.create_index("ix_call_results_deal", "call_results", ["deal_id"], unique=False)
    op.create_table(
        "result_changes",
        sa.Column("change_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("way", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_result_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_result_changes_call", "result_changes", ["call_id", "change_id"], unique=False)
    op.create_table(
        "inbound_messages",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "message_id", name=op.f("pk_inbound_messages")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_inbound_messages_at", "inbound_messages", ["at_us"], unique=False)
    op.create_table(
        "restated_days",
        sa.Column("day_local", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("site", sa.Text(), nullable=False, comment="empty: of all sites"),
        sa.Column("kind", sa.Text(), nullable=False, comment="results, spend or wages"),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day_local", "site", "kind", name=op.f("pk_restated_days")),
        sqlite_with_rowid=False,
    )
    _costs()


def _costs() -> None:
    op.create_table(
        "spend",
        sa.Column("day_local", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False, comment="empty: of the source as a whole"),
        sa.Column(
            "entry", sa.Text(), nullable=False, comment="empty: the whole amount; else one of several that add up"
        ),
        sa.Column("amount_e4", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day_local", "source", "campaign", "entry", name=op.f("pk_spend")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "wages",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("from_day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hourly_e4", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "from_day", name=op.f("pk_wages")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "staffed_hours",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("day_local", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "day_local", name=op.f("pk_staffed_hours")),
        sqlite_with_rowid=False,
    )
