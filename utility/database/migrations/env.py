"""Alembic's entry point: runs the migrations on the connection that ``utility.database.migrate`` passes."""

from alembic import context

from utility.database.base import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll back changes of the schema if the transaction is begun explicitly, as the engine does.
    transactional_ddl=True,
)
context.run_migrations()
