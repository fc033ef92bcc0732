"""A month ends in an outage, bills are issued, and its readings come afterwards: through the installed commands."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.blocks import Blocks
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Meter
from harness.commands import WHO, run_as, shown
from harness.network.waiting import eventually, free_port
from harness.real import forks
from harness.real.parts import FakeClock
from harness.surroundings.stored import store, town_blocks, without
from harness.town_month.month import TARIFF, register
from utility.database.database import open_database

FIRST = int(datetime(2026, 9, 30, tzinfo=UTC).timestamp()) // 900
"""Everybody has moved in at 20:00 local time on 29 September."""

DAYS = range(FIRST, FIRST + 2 * 96)
NIGHT = int(datetime(2026, 10, 1, 5, tzinfo=UTC).timestamp()) + 86_400

COMMONWATT = [sys.executable, "-m", "commonwatt"]
IMPATIENT = "import utility.assembly.service as s; s.TICK_S = 1\nfrom commonwatt.cli.main import main; main()"
"""A service that looks every second at what is due."""


@dataclass(frozen=True)
class Month:
    """A town whose month ends in an outage."""

    folder: Path  # the folder of the utility
    blocks: dict[str, Blocks]  # all readings of the month's last two days, by microgrid
    away: Meter  # a meter
    lacking: dict[str, Blocks]  # the readings that came in time: those of the meter's outage are missing

    def store(self, blocks: dict[str, Blocks]) -> None:
        """Store readings, as gateways relay them."""
        database = open_database(f"sqlite:///{self.folder}/utility.db", create=False)
        store(database, blocks, NIGHT)
        database.close()

    def run(self, *words: str, refused: bool = False) -> str:
        """Run a command of the utility; return its output. With ``refused`` it must fail, and tell why."""
        if WHO in words and not refused:
            return run_as(self.folder / "utility.toml", *words)
        done = forks.run([*COMMONWATT, *words, "--config", str(self.folder / "utility.toml")])
        assert bool(done.returncode) is refused, done.stdout + done.stderr
        return done.stderr if refused else done.stdout

    def bill(self, number: int) -> dict[str, Any]:
        """Return the bill of the meter's account of a run."""
        found: dict[str, Any] = self.shown("runs", str(number), "bills", str(self.away.account))
        return found

    def shown(self, *words: str) -> Any:
        """Return what the service would answer to a clerk."""
        return shown(self.folder / "utility.toml", *words, WHO, "anna")

    def reasons(self) -> set[str]:
        """Return why the versions of the meter's night were made."""
        found = self.shown("settlement", "versions", f"meter={self.away.id}", "start=2026-09-30T00:00Z")["versions"]
        return {version["why"] for version in found}

    def issue(self, number: int) -> None:
        """Let two people check and issue a run."""
        self.run("do", f"runs/{number}/check", "--as", "anna")
        with pytest.raises(SystemExit):
            self.run("do", f"runs/{number}/issue", "--as", "anna")
        self.run("do", f"runs/{number}/issue", "--as", "ben")


@pytest.fixture
def month(tmp_path: Path) -> Month:
    (tmp_path / "utility.toml").write_text(
        f'[utility]\ndatabase = "sqlite:///{tmp_path}/utility.db"\ntokens = "{tmp_path}/tokens.json"\n'
        f'http = "127.0.0.1:{free_port()}"\nhead_end = "127.0.0.1:9"\nclock_is_right = true\n'
    )
    (tmp_path / "tokens.json").write_text('{"utility": "not asked by anybody here"}')
    (tmp_path / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    tariff = tmp_path / "tariff.toml"
    tariff.write_text(TARIFF.read_text().replace("effective = 2026-10-01", "effective = 2026-09-01"))
    town = load_town(tmp_path / "town.toml")
    blocks = town_blocks(town, DAYS)
    (name, whole), (other, theirs) = blocks.items()
    away = next(m for m in town.microgrids[name].meters if m.direction is Direction.INCOMING and m.account)
    database = open_database(f"sqlite:///{tmp_path}/utility.db", create=True)
    register(database, town, FIRST, ZoneInfo("America/New_York"))
    database.close()
    lacking = {name: without(whole, away.id, range(FIRST + 60, FIRST + 100)), other: theirs}
    made = Month(folder=tmp_path, blocks=blocks, away=away, lacking=lacking)
    made.store(lacking)
    made.run("tariff", "propose", str(tariff), "--as", "anna")
    made.run("do", "tariffs/town/1/approve", "--as", "ben")
    return made


def test_row_21_late_readings_correct_the_next_bill_and_the_issued_one_stays(month: Month) -> None:
    month.run("settlement", "run")
    assert "quarter-hours without data in 1 bill" in month.run("do", "runs", "month=2026-09", "--as", "anna")
    month.issue(1)
    issued = month.bill(1)
    assert issued["missing"] == 40

    month.store(month.blocks)
    month.run("settlement", "run")
    assert "late readings" in month.reasons()
    month.run("do", "runs", "month=2026-10", "--as", "anna")
    corrections = [line for line in month.bill(2)["lines"] if line["kind"] == "correction"]
    assert corrections
    assert sum(float(line["amount"]) for line in corrections) > 0
    assert all(line["reason"] for line in corrections)
    assert month.bill(1) == issued, "it never changes"
    with pytest.raises(SystemExit):
        month.run("do", "runs", "month=2026-09", "--as", "anna")


@contextmanager
def serving(month: Month, clock: FakeClock, begins: str) -> Iterator[None]:
    """Run the utility's service from a local time on, and stop it."""
    clock.set(datetime.fromisoformat(begins).replace(tzinfo=ZoneInfo("America/New_York")).timestamp() - time.time())
    command = [sys.executable, "-c", IMPATIENT, "utility", "run", "--config", str(month.folder / "utility.toml")]
    with (
        (month.folder / "log").open("ab") as log,
        subprocess.Popen(command, stderr=log, env=os.environ | clock.environment) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
    assert process.returncode == 0, (month.folder / "log").read_text()


def test_row_19_a_service_that_was_down_over_the_months_end_bills_after_the_deadline(month: Month) -> None:
    clock = FakeClock(month.folder, "utility")

    def runs() -> list[Any]:
        # Not by the command: the service, which it asks, is away or just starts.
        with closing(sqlite3.connect(f"file:{month.folder}/utility.db?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT no FROM bill_run").fetchall()

    def waits_for() -> str:
        jobs = month.shown("jobs")["jobs"]
        return next(job["waits_for"] or "" for job in jobs if job["name"] == "bills")

    with serving(month, clock, "2026-10-02 05:00"):
        eventually(lambda: "they may come until the deadline" in waits_for())
        assert runs() == []
    with serving(month, clock, "2026-10-08 02:00"):
        eventually(runs)
    assert month.bill(1)["missing"] == 40
    month.issue(1)
    issued = month.bill(1)

    month.store(month.blocks)
    with serving(month, clock, "2026-10-08 03:30"):
        eventually(lambda: "late readings" in month.reasons())
    assert month.bill(1) == issued, "it never changes"
    assert "ERROR" not in (month.folder / "log").read_text()
