"""Databases as benchmarks fill them: a utility's, and their peer with a row for each reading, in PostgreSQL."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import psycopg

from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.town.town import Town
from harness.real.postgres import Postgres
from utility.database.database import Database, open_database
from utility.registry.store.registration import fill_registry


@contextmanager
def utility_database(url: str, town: Town) -> Iterator[Database]:
    """Make a database with a town's registry."""
    with closing(open_database(url, create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        yield database


START = 1_800_000_000  # start of the first slot


class Peer:
    """One row for each reading, keyed (meter, type, start): a COPY into a temporary table, then an upsert."""

    def __init__(self, server: Postgres) -> None:
        self._connection = psycopg.connect(server.url.replace("+psycopg", ""))
        columns = "meter bigint, type smallint, start integer, value bigint, quality smallint"
        with self._connection.transaction():
            self._connection.execute(f"CREATE TEMPORARY TABLE came ({columns}) ON COMMIT DELETE ROWS")
            self._connection.execute("DROP TABLE IF EXISTS reading")
            self._connection.execute(f"CREATE TABLE reading ({columns}, PRIMARY KEY (meter, type, start))")

    def rate(self, rows: int, meters: int) -> float:
        """Return the rows a second that are made durable."""
        data = self._rows(rows, meters)
        began = time.perf_counter()
        for some in data:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                with cursor.copy("COPY came FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + some + b"\xff\xff")
                cursor.execute(
                    "INSERT INTO reading SELECT * FROM came ON CONFLICT (meter, type, start) DO UPDATE"
                    " SET value = excluded.value, quality = excluded.quality"
                    " WHERE excluded.quality > reading.quality"
                )
        return rows / (time.perf_counter() - began)

    @staticmethod
    def _rows(rows: int, meters: int) -> list[bytes]:
        """Return the rows in the order of arrival, in transactions of 60,000; all columns have one width."""
        at = np.arange(rows)
        values = {
            "meter": (">i8", 10_001 + at // SLOTS % meters),
            "type": (">i2", np.full(rows, 3)),
            "start": (
                ">i4",
                START + at // (SLOTS * meters) * QUARTER_S + at % SLOTS * SLOT_S,
            ),
            "value": (">i8", np.random.default_rng(5).integers(0, 20_000, rows)),
            "quality": (">i2", np.full(rows, 2)),
        }
        fields = [("count", ">i2")] + [
            f for name, (t, _) in values.items() for f in ((f"{name}.length", ">i4"), (name, t))
        ]
        made = np.empty(rows, np.dtype(fields))
        made["count"] = len(values)
        for name, (kind, column) in values.items():
            made[f"{name}.length"], made[name] = np.dtype(kind).itemsize, column
        return [made[at : at + 60_000].tobytes() for at in range(0, rows, 60_000)]

    def bytes_a_row(self, rows: int) -> float:
        """Return the bytes of a row, with its key."""
        size = self._connection.execute("SELECT pg_total_relation_size('reading')").fetchone()
        assert size is not None
        return float(size[0]) / rows

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
