"""A month ends in an outage, bills are issued, and its readings come afterwards: through the installed commands."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from commonwatt.town.town import Direction, load_town
from harness.real import forks
from harness.settlement.stored import store, town_blocks, without
from harness.town_month.month import TARIFF, register
from utility.store.database import open_database

FIRST = int(datetime(2026, 9, 30, tzinfo=UTC).timestamp()) // 900
"""Everybody has moved in at 20:00 local time on 29 September."""

DAYS = range(FIRST, FIRST + 2 * 96)
NIGHT = int(datetime(2026, 10, 1, 5, tzinfo=UTC).timestamp()) + 86_400

Command = Callable[..., str]


@pytest.fixture
def commonwatt(tmp_path: Path) -> Command:
    """Run a command of the utility; return its output. With ``refused`` it must fail, and tell why."""
    config = tmp_path / "utility.toml"
    config.write_text(
        f'[utility]\ndatabase = "sqlite:///{tmp_path}/utility.db"\n[utility.billing]\npeople = ["anna", "ben"]\n'
    )

    def run(*words: str, refused: bool = False) -> str:
        done = forks.run([sys.executable, "-m", "commonwatt", *words, "--config", str(config)])
        assert bool(done.returncode) is refused, done.stdout + done.stderr
        return done.stderr if refused else done.stdout

    return run


def test_rows_19_and_21_a_bill_marks_what_is_missing_and_late_readings_correct_the_next_one(
    tmp_path: Path, commonwatt: Command
) -> None:
    (tmp_path / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    tariff = tmp_path / "tariff.toml"
    tariff.write_text(TARIFF.read_text().replace("effective = 2026-10-01", "effective = 2026-09-01"))
    town = load_town(tmp_path / "town.toml")
    blocks = town_blocks(town, DAYS)
    (name, whole), (other, theirs) = blocks.items()
    away = next(m for m in town.microgrids[name].meters if m.direction is Direction.INCOMING and m.account)
    database = open_database(f"sqlite:///{tmp_path}/utility.db", create=True)
    register(database, town, FIRST, ZoneInfo("America/New_York"))
    store(database, {name: without(whole, away.id, range(FIRST + 60, FIRST + 100)), other: theirs}, NIGHT)
    database.close()
    commonwatt("settlement", "run")
    commonwatt("tariff", "propose", str(tariff), "--as", "anna")
    commonwatt("tariff", "approve", "town", "--as", "ben")

    told = commonwatt("bills", "run", "2026-09", "--as", "anna")
    assert "quarter-hours without data in 1 bill" in told
    commonwatt("bills", "check", "1", "--as", "anna")
    assert "anna" in commonwatt("bills", "issue", "1", "--as", "anna", refused=True), "another person issues"
    commonwatt("bills", "issue", "1", "--as", "ben")
    issued = commonwatt("bills", "show", "1", "--account", str(away.account), "--json")
    assert json.loads(issued)["missing"] == 40

    database = open_database(f"sqlite:///{tmp_path}/utility.db", create=False)
    store(database, {name: whole}, NIGHT)
    database.close()
    commonwatt("settlement", "run")
    assert "late readings" in commonwatt(
        "settlement", "show", "--meter", str(away.id), "--from", "2026-09-30", "--versions"
    )
    commonwatt("bills", "run", "2026-10", "--as", "anna")
    lines: list[dict[str, Any]] = json.loads(
        commonwatt("bills", "show", "2", "--account", str(away.account), "--json")
    )["lines"]
    corrections = [line for line in lines if line["kind"] == "correction"]
    assert corrections
    assert sum(float(line["amount"]) for line in corrections) > 0
    assert all(line["reason"] for line in corrections)
    assert commonwatt("bills", "show", "1", "--account", str(away.account), "--json") == issued, "it never changes"
    commonwatt("bills", "run", "2026-09", "--as", "anna", refused=True)
