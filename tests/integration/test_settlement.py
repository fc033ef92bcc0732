"""Settlement on real processes: killed with SIGKILL at a commit, it goes on where it was (row 20 of the faults)."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from commonwatt.town.loading import load_town
from harness.network.waiting import eventually
from harness.surroundings.stored import DAY, FIRST, SOON, store, town_blocks
from utility.database.database import Database, open_database
from utility.energy.quarters import Quantity
from utility.registry.store.registration import fill_registry
from utility.settlement.store.settled import load_settled
from utility.settlement.tables import settled

DAYS = 4


def rows(database: Database) -> list[tuple[int, int, int]]:
    with database.reads.begin() as connection:
        c = settled.c
        return [
            (row.day, row.meter_no, row.version) for row in connection.execute(select(c.day, c.meter_no, c.version))
        ]


def test_a_killed_settlement_leaves_nothing_half_and_nothing_twice(tmp_path: Path) -> None:  # req: row 20
    (tmp_path / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    (tmp_path / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{tmp_path}/utility.db"\n')
    town = load_town(tmp_path / "town.toml")
    command = [sys.executable, "-m", "commonwatt", "settlement", "run", "--config", str(tmp_path / "utility.toml")]
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        store(database, town_blocks(town, range(FIRST, FIRST + DAYS * 96)), SOON + DAYS * 86_400)
        process = subprocess.Popen(command)
        eventually(lambda: len(rows(database)) >= 8)
        process.kill()
        process.wait()
        left = rows(database)
        whole = {day for day, _, _ in left}
        assert len(left) == 8 * len(whole), "each day whole, or not at all"
        subprocess.run(command, check=True)
        assert sorted(rows(database)) == sorted({(day, no, 1) for day in range(DAY, DAY + DAYS) for _, no, _ in left})
        with database.reads.begin() as connection:
            found = load_settled(connection, None, FIRST, FIRST + DAYS * 96)
        assert (found.of(Quantity.SHARED_IN).sum(axis=0) == found.of(Quantity.SHARED_OUT).sum(axis=0)).all()
