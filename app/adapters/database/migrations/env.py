"""How Alembic runs here: on the connection and in the transaction that the engine has opened."""

from __future__ import annotations

from alembic import context

from app.adapters.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # on SQLite too: the engine begins its transactions itself
)
with context.begin_transaction():
    context.run_migrations()
