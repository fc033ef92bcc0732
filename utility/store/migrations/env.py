"""Alembic's entry: runs the migrations on the connection that ``utility.store.database`` hands over."""

from alembic import context

from utility.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll back changes of the schema, if it is told where the transaction begins (as the engine does).
    transactional_ddl=True,
)
context.run_migrations()
