"""A process that brings a month to its file, or back, is killed at random points: the month is always whole somewhere.

``make soak`` kills 50 times with each database.
"""

import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from commonwatt.model.blocks import concatenate, join, make_blocks
from commonwatt.runtime.files import sha256_of
from commonwatt.town.loading import load_town
from harness.real import databases, forks
from harness.real.jobs import compact
from harness.real.postgres import Postgres
from harness.worlds.sent import append
from utility.archive.store.months import month_at
from utility.database.database import Database, open_database
from utility.database.postgres.partitions import first_quarter
from utility.readings.store import reads
from utility.readings.store.archived import File, read_group
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.registry.store.registration import fill_registry

kind = databases.both_kinds

OLD, NEXT = first_quarter((2026, 11)), first_quarter((2026, 12))
NOW = (NEXT + 960) * 900
QUARTERS = range(OLD, NEXT, 4)
KILLS = int(os.environ.get("ARCHIVE_KILLS", "2"))
WAY = "from harness.real.killed_archive import main; main()"


@pytest.fixture
def url(tmp_path: Path, kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/utility.db"
    else:
        with Postgres(tmp_path) as server:
            yield server.url


@pytest.fixture
def database(tmp_path: Path, url: str) -> Iterator[Database]:
    """A database with ten meters' readings of a month, more blocks than go in one step."""
    (tmp_path / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 5}]\n')
    (tmp_path / "archive").mkdir()
    with closing(open_database(url, create=True)) as opened:
        town = load_town(tmp_path / "town.toml")
        with opened.writes.begin() as connection:
            fill_registry(connection, town)
        keys = [(meter.id, 3, quarter) for meter in town.meters for quarter in QUARTERS]
        values = np.random.default_rng(1).integers(0, 50_000, (len(keys), 60))
        given = make_blocks(keys, values, np.full(values.shape, 2))
        newest = make_blocks([(keys[0][0], 3, NEXT + 900)], values[:1], np.full((1, 60), 2))
        Writer(opened).commit([append(given), append(newest)])
        compact(opened, NOW)
        yield opened


def read_all(database: Database) -> tuple[object, object]:
    """Return what the utility reads of all months."""
    found = join([concatenate([*reads.all_blocks(database, OLD, NEXT + 960)])])
    return [*found.keys()], found.values.tolist()


def places(database: Database) -> dict[str, set[tuple[int, ...]]]:
    """Return the payloads of the month in the database, and in a file that readers use."""
    names = ("quarter", "meter_no", "record_type", "payload")
    with database.reads.begin() as connection:
        month = month_at(connection, OLD)
        wanted = select(*(compacted.c[name] for name in names)).where(compacted.c.quarter.between(OLD, NEXT - 1))
        found = {"database": {tuple(row) for row in connection.execute(wanted)}}
    if month is not None and month.state in ("leaving", "archived"):
        assert sha256_of(month.file) == month.sha256
        file = File.open(month.file)
        groups = [read_group(file, group, names) for group in range(file.groups)]
        found["file"] = {
            row for group in groups for row in zip(*(group[name].to_pylist() for name in names), strict=True)
        }
    return found


def test_month_is_whole_in_at_least_one_place_after_each_kill(database: Database, url: str, tmp_path: Path) -> None:
    before, whole = read_all(database), places(database)["database"]
    rng, killed, states = random.Random(5), 0, set()
    most = 0  # calls of the last whole way

    def run(last: int) -> int | None:
        """Go on; return the number of calls, or ``None``: it was killed."""
        words = [url, str(tmp_path / "archive"), str(OLD), str(NOW), str(last)]
        done = forks.run([sys.executable, "-c", WAY, *words])
        if done.returncode == -signal.SIGKILL:
            return None
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return int(done.stdout)

    for _ in range(2):  # there and back
        most = max(most, run(0) or 0)
        assert whole in places(database).values()
    while killed < KILLS:
        # Some runs end by themselves, so that the month goes both ways.
        is_killed = run(rng.randrange(1, 2 * most)) is None
        killed += is_killed
        found = places(database)
        assert whole in found.values()
        assert read_all(database) == before
        with database.reads.begin() as connection:
            month = month_at(connection, OLD)
        assert month is not None
        states.add(month.state)
    print(f"{killed} kills, in states {', '.join(sorted(states))}; a whole way has {most:,} calls")
