"""The migration that says who made each person reads the audit log once."""

from importlib import import_module

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

migration = import_module("utility.database.migrations.versions.v0025_second_person")


def test_makers_from_before_are_those_of_the_audit_log_and_else_who_invited() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE person (name VARCHAR(32), created BIGINT, created_by VARCHAR(32))",
            "CREATE TABLE audit (no INTEGER, time BIGINT, person TEXT, action TEXT, subject TEXT)",
            "INSERT INTO person VALUES ('ann', 1, 'this-machine'), ('ben', 2, 'ann')",
            (
                "INSERT INTO audit VALUES (1, 5, 'ann', 'person.link', 'ben'), (2, 6, 'ida', 'person.link', 'ben'),"
                " (3, 7, 'ben', 'person.roles', 'ben'), (4, 8, 'ida', 'person.second-factor', 'ben')"
            ),
        ):
            connection.exec_driver_sql(statement)
        with Operations.context(MigrationContext.configure(connection)):
            migration.upgrade()
        rows = connection.exec_driver_sql("SELECT * FROM person ORDER BY name").all()
    assert [tuple(row) for row in rows] == [
        ("ann", 1, "this-machine", "this-machine", 1, "this-machine", 1, None, None),
        ("ben", 2, "ann", "ida", 6, "ann", 2, "ida", 8),
    ]
