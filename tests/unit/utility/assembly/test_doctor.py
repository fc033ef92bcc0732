"""The examination of the utility's database, and what its status shows, for ``commonwatt doctor``."""

from functools import partial
from pathlib import Path

import pytest

from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.findings import Check, Finding, Level, run_check, worst
from commonwatt.doctor.running import Running
from utility.assembly.doctor import DOCTOR
from utility.database.database import Database

STOPPED = Running(part="utility", config=Path("utility.toml"), answer=None, failure="", runs=False)


def of_database(url: str) -> list[Finding]:
    checks = {check.name: check for check in DOCTOR.checks(UtilitySettings(database=url), STOPPED)}
    return list(run_check(checks["database"]))


@pytest.mark.parametrize("kind", ["postgresql"])  # the tests' server is fast, not durable
def test_a_server_that_loses_what_it_acknowledged_in_a_power_cut_is_bad(url: str, database: Database) -> None:
    assert database.store_id
    (found,) = of_database(url)
    assert found.level is Level.BAD
    assert "runs with fsync=off, full_page_writes=off, synchronous_commit=off: a power cut loses" in found.found


@pytest.mark.parametrize("kind", ["sqlite"])  # a durable server passes in tests/integration/test_postgres.py
def test_a_database_passes_while_it_is_in_use(url: str, database: Database) -> None:
    assert database.store_id
    first, gateways = of_database(url)
    assert (first.level, "2 microgrids" in first.found) == (Level.GOOD, True)
    assert (gateways.level, "0 of 2 gateways heard lately" in gateways.found) == (Level.WARNING, True)


def test_a_database_that_is_missing_or_another_programs_is_bad(tmp_path: Path) -> None:
    (missing,) = of_database(f"sqlite:///{tmp_path / 'none.db'}")
    assert (missing.level, "there is no database" in missing.found) == (Level.BAD, True)
    (tmp_path / "junk.db").write_bytes(b"junk" * 2000)
    assert of_database(f"sqlite:///{tmp_path / 'junk.db'}")[0].level is Level.BAD


def test_a_server_that_does_not_answer_is_bad() -> None:
    (found,) = of_database("postgresql+psycopg://u@127.0.0.1:1/none")
    assert (found.level, "no connection to the server" in found.found) == (Level.BAD, True)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, None, ""),
        ({"alarms": ["disk_full"]}, Level.BAD, "disk is full"),
        (
            {"alarms": ["database_away"], "database_away_since": 1_782_000_000, "totals": {}, "microgrids": {}},
            Level.BAD,
            "has not answered since 2026-06-21",
        ),
        ({"totals": {}, "microgrids": {}}, Level.BAD, "the database could not be read"),
        ({"alarms": ["store_damaged"], "totals": {}, "microgrids": {}}, Level.BAD, "damaged"),
        ({"microgrids": {}}, Level.WARNING, "no microgrid is registered"),
        ({"head_end_failure": "b:1: refused", "head_ends": {"a:1": True, "b:1": False}}, Level.WARNING, "b:1: refused"),
        ({"head_end_connected": False, "head_end_failure": "refused"}, Level.BAD, "no connection to head_end: refused"),
        ({"microgrids": {"r001": {"last_seen": 600}, "r002": {"last_seen": None}}}, Level.WARNING, "r002 (never)"),
    ],
)
def test_the_verdict(changes: dict[str, object], level: Level | None, words: str) -> None:
    well = {
        "time": 1000,
        "alarms": [],
        "head_end_connected": True,
        "head_end_failure": None,
        "head_ends": {"a:1": True},
        "totals": {"events": 0},
        "microgrids": {"r001": {"last_seen": 900}},
    }
    found = worst(DOCTOR.judge(well | changes))
    assert (None if found is None else found.level) is level
    assert found is None or words in found.found


def test_an_error_of_a_check_becomes_a_finding() -> None:
    def fail() -> list[Finding]:
        raise OSError(13, "Permission denied", "utility.pem")

    (found,) = run_check(Check("certificate", partial(fail)))
    assert (found.check, found.level, "utility.pem" in found.found) == ("certificate", Level.BAD, True)
