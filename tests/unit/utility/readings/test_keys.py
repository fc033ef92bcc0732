"""Whatever is asked for by keys is looked up by an index, however many keys there are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.schema import CreateTable

from commonwatt.protocol.dead_letters import Wanted
from harness.real import databases
from utility.database.database import Database
from utility.database.keys import listed
from utility.database.postgres.partitions import make_partitions
from utility.readings.store import batches, gap_finder, writer
from utility.readings.store import quarantine as quarantined
from utility.readings.store.dead_letters import dead_letters

kind = databases.both_kinds

STATEMENTS: dict[str, Any] = {
    "parts": gap_finder._PARTS_OF,
    "full": gap_finder._FULL,
    "watched": gap_finder._WATCHED,
    "found": gap_finder._FOUND,
    "held": quarantined._QUARANTINED,
    "events": writer._EVENTS_OF,
}
TABLES = ("compacted", "part", "gap", "held", "event")


def plan(connection: Connection, execute: Callable[[], object]) -> list[str]:
    """Return the lines of the plan of what is executed first."""
    seen: list[tuple[str, Any]] = []

    def note(_: object, __: object, sql: str, values: Any, *rest: object) -> None:
        seen.append((sql, values))

    event.listen(connection, "before_cursor_execute", note)
    execute()
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return [str(row[-1]).strip() for row in connection.exec_driver_sql(f"{explain} {seen[0][0]}", seen[0][1])]


@pytest.mark.parametrize("name", STATEMENTS)
def test_keys_are_looked_up_by_an_index(database: Database, name: str) -> None:
    with database.writes.begin() as connection:
        make_partitions(connection, [(2027, month) for month in range(1, 8)])
        connection.execute(CreateTable(batches.arrived))
        if connection.dialect.name == "postgresql":
            # It would read a table whole that is nearly empty.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        keys = [[(2**31 - 1 - n, 2**62 + n, n) for n in range(number)] for number in (2, 300)]
        few, many = (plan(connection, partial(connection.execute, STATEMENTS[name], listed(some))) for some in keys)
    assert len(few) == len(many)
    for table in TABLES:
        assert not [line for line in many if f"SCAN {table}" in line or f"Seq Scan on {table}" in line], many


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(
    "execute",
    [
        quarantined.count_quarantined,
        lambda connection: dead_letters(connection, 10, Wanted(state=quarantined.QUARANTINED)),
    ],
)
def test_dead_letters_that_wait_are_found_by_their_index(
    database: Database, execute: Callable[[Connection], object]
) -> None:
    with database.reads.begin() as connection:
        found = plan(connection, partial(execute, connection))
    assert [line for line in found if "ix_letter_state" in line], found
