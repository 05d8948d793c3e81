"""Executed by alembic: runs the migrations on the connection, and inside the transaction, that `upgrade` was given."""

from __future__ import annotations

from alembic import context

from gateway.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,
    compare_type=True,
    compare_server_default=True,
)
context.run_migrations()
