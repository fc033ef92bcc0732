"""Exports beside a plain reference, read by the programs that people read them with, and the same by the API."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest
from greenbutton_objects.parse import parse_feed
from sqlalchemy import text
from typer.testing import CliRunner

from commonwatt.model.blocks import Blocks, join, make_blocks
from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.records import EventRecord, State
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.town.town import Town
from harness.console import Client
from harness.real import forks
from harness.surroundings.messages import append, blocks, compact, register_in
from utility.access.people import Actor, Role, on_machine
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.exports import api as exports
from utility.exports import rows as readings
from utility.exports.cli import app
from utility.exports.columns import EVENTS_TABLE
from utility.jobs.plans import NEW_YORK
from utility.readings.store.writer import Writer
from utility.registry.accounts import Holding
from utility.registry.store.accounts import load_dated_registry, save_dated_registry
from utility.webkit.rights import Gate
from utility.webkit.services import Api

on_both = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])

FROM, TO = "2026-10-31", "2026-11-03"
FIRST, END = (parse_time(text, "", NEW_YORK) // 900 for text in (FROM, TO))  # 25 hours on 1 November
HOUSE, SOLAR = 10001, 10002
SERIES = ((HOUSE, 3), (SOLAR, 1), (SOLAR, 2), (SOLAR, 3))
Slots = dict[tuple[int, int, int], tuple[int, int]]
"""Value and quality by meter, record type and the slot's first second."""


def random_parts(seed: int) -> list[Blocks]:
    """Blocks of four series over three days, with gaps, averages and conflicts; some in two parts."""
    rng = np.random.default_rng(seed)
    keys = [(meter, kind, quarter) for meter, kind in SERIES for quarter in range(FIRST, END) if rng.random() < 0.9]
    values = rng.integers(0, 50_000, (len(keys), 60))
    quality = np.repeat(rng.integers(0, 3, (len(keys), 6)), 10, axis=1)
    whole = rng.random(len(keys)) < 0.7
    quality[whole] = 2
    parts = [make_blocks(keys, values, quality)]
    other = rng.random(len(keys)) < 0.02
    again = [key for key, one in zip(keys, other, strict=True) if one]
    parts.append(make_blocks(again, values[other] + rng.integers(0, 2, (len(again), 60)), quality[other]))
    return parts


def slots_of(parts: list[Blocks]) -> Slots:
    joined = join(parts)
    found: Slots = {}
    for row in range(len(joined)):
        meter, record_type, quarter = joined.key(row)
        for slot in range(60):
            if joined.quality[row, slot]:
                at = quarter * 900 + slot * 15
                found[meter, record_type, at] = int(joined.values[row, slot]), int(joined.quality[row, slot])
    return found


def begin_of(time: int, resolution: str) -> int:
    if resolution == "1d":
        local = datetime.fromtimestamp(time, NEW_YORK)
        return int(local.replace(hour=0, minute=0, second=0, fold=0).timestamp())
    return time - time % {"15s": 15, "15min": 900, "1h": 3600}[resolution]


def reference(slots: Slots, resolution: str) -> list[tuple[Any, ...]]:
    """Meter, type, start, energy, last, lowest and highest level, exact and averaged slots: one slot at a time."""
    by: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for (meter, record_type, at), reading in sorted(slots.items()):
        by.setdefault((meter, record_type, begin_of(at, resolution)), []).append(reading)
    rows: list[tuple[Any, ...]] = []
    for (meter, record_type, start), found in by.items():
        values, qualities = [value for value, _ in found], [quality for _, quality in found]
        counts = qualities.count(2), qualities.count(1)
        figures = (sum(values), None, None, None) if record_type != 2 else (None, values[-1], min(values), max(values))
        rows.append((str(meter), {1: "generation", 2: "stored", 3: "through"}[record_type], start, *figures, *counts))
    return sorted(rows)


@pytest.fixture
def parts(database: Database) -> list[Blocks]:
    made = random_parts(1)
    day_before = END * 900 - 86_400
    Writer(database).commit([append(one, received=day_before - 900) for one in made])
    compact(database, day_before)  # The last day is not compacted yet.
    return made


@pytest.fixture
def export(tmp_path: Path, url: str, kind: str, database: Database) -> Callable[..., str]:
    """Run an export, which must exit with ``code``; return what it prints."""
    del database
    config = tmp_path / "utility.toml"
    if kind == "postgresql":
        url = url.replace("@", ":secret@")
    save_clock(tmp_path / "clock.json", Clock(origin=END * 900, monotonic_origin=time.monotonic()))
    config.write_text(f'[utility]\ndatabase = "{url}"\nclock = "clock.json"\n')

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--config", str(config)])
        assert done.exit_code == code, done.output + repr(done.exception)
        return done.output

    return run


def by_duckdb(query: str) -> list[list[Any]]:
    """Return the rows of a query; in a process of its own, since DuckDB complains at the end of one with tests."""
    code = "import duckdb, json, sys; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))"
    rows: list[list[Any]] = json.loads(forks.run([sys.executable, "-c", code, query], check=True).stdout)
    return rows


NUMBERS = ("_milliwatt_hours", "_slots", "_bits", "log_generation")  # ends of columns with numbers


def exported(text: str) -> list[dict[str, Any]]:
    return [
        {name: (int(cell) if cell else None) if name.endswith(NUMBERS) else cell for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


@pytest.mark.parametrize("resolution", ["15min", "1h", "1d"])
def test_sums_are_those_of_a_plain_reference(
    export: Callable[..., str], parts: list[Blocks], resolution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "ROWS_AT_A_TIME", 50)  # Intervals are then summed over several reads.
    monkeypatch.setattr(readings, "BLOCKS_AT_A_TIME", 100)
    rows = exported(export("readings", "--from", FROM, "--to", TO, "--format", "csv", "--resolution", resolution))
    names = ("energy", "last_level", "min_level", "max_level")
    found = [
        (
            row["meter_id"],
            row["record_type"],
            parse_time(row["start_utc"], ""),
            *(row[f"{name}_milliwatt_hours"] for name in names),
            row["exact_slots"],
            row["averaged_slots"],
        )
        for row in rows
    ]
    assert sorted(found) == reference(slots_of(parts), resolution)
    length = {"15min": 60, "1h": 240}
    for row in rows:
        day = 6000 if row["start_utc"].startswith("2026-11-01") else 5760
        assert row["exact_slots"] + row["averaged_slots"] + row["missing_slots"] == length.get(resolution, day)
    joined = join(parts)
    conflicting = len(np.unique(joined.extras[["row", "slot"]]))
    assert conflicting > 0
    assert sum(row["conflict_slots"] for row in rows) == conflicting


def test_times_of_options_and_days_are_those_of_the_town(
    export: Callable[..., str], parts: list[Blocks], database: Database, town: Town, tmp_path: Path
) -> None:
    del parts
    register_in("America/Los_Angeles", database, town)
    words = ("readings", "--format", "csv", "--meter", str(HOUSE))
    day = ("--from", "2026-11-01T07:00Z", "--to", "2026-11-02T08:00Z")  # 25 hours
    (row,) = exported(export(*words, *day, "--resolution", "1d"))
    assert row["start_utc"] == "2026-11-01T07:00:00Z"
    assert row["exact_slots"] + row["averaged_slots"] + row["missing_slots"] == 6000
    same = ("--from", "2026-11-01", "--to", "2026-11-02")
    assert exported(export(*words, *same, "--resolution", "1d")) == [row]
    export(*words, *day, "--resolution", "15s", "--out", str(tmp_path / "out"))
    assert [path.stem for path in (tmp_path / "out").glob("*.csv")] == ["readings-15s-2026-11-01"]


@on_both
def test_slots_are_those_that_were_stored(export: Callable[..., str], parts: list[Blocks]) -> None:
    text = export("readings", "--from", FROM, "--to", TO, "--format", "csv", "--resolution", "15s")
    found: Slots = {}
    conflicts = 0
    kinds = {"generation": 1, "stored": 2, "through": 3}
    for row in csv.DictReader(io.StringIO(text)):
        kind = kinds[row["record_type"]]
        value, other = row["energy_milliwatt_hours"], row["level_milliwatt_hours"]
        assert bool(value) != bool(other) and bool(other) == (kind == 2)  # noqa: PT018 - one fact
        quality = {"exact": 2, "averaged": 1}[row["quality"]]
        found[int(row["meter_id"]), kind, parse_time(row["start_utc"], "")] = int(value or other), quality
        conflicts += row["conflict"] == "true"
        assert row["microgrid"] == "r001"
    assert found == slots_of(parts)
    assert conflicts == len(np.unique(join(parts).extras[["row", "slot"]]))


@pytest.mark.parametrize("resolution", ["15s", "15min"])
def test_pandas_duckdb_and_polars_read_the_same(
    export: Callable[..., str],
    database: Database,
    parts: list[Blocks],
    tmp_path: Path,
    resolution: str,
) -> None:
    out = tmp_path / "out"
    export("readings", "--from", FROM, "--to", TO, "--out", str(out), "--resolution", resolution)
    files = sorted(out.glob("*.parquet"))
    days = ["2026-10-31", "2026-11-01", "2026-11-02"] if resolution == "15s" else ["2026-10", "2026-11"]
    assert [file.stem for file in files] == [f"readings-{resolution}-{day}" for day in days]
    expected = [row for row in reference(slots_of(parts), resolution) if row[1] != "stored"]
    energy, count = sum(row[3] for row in expected), len(expected)

    by_pandas = pd.concat([pd.read_parquet(file) for file in files])
    assert by_pandas.dtypes["meter_id"] == np.uint64
    assert str(by_pandas.dtypes["start_utc"]) == "datetime64[ms, UTC]"
    flows = by_pandas[by_pandas.record_type != "stored"]
    assert (int(flows.energy_milliwatt_hours.sum()), len(flows)) == (energy, count)
    assert by_pandas.energy_milliwatt_hours.notna().sum() == count

    figures = (
        "sum(energy_milliwatt_hours)::BIGINT, count(*), epoch(min(start_utc))::BIGINT, typeof(any_value(meter_id))"
    )
    query = f"SELECT {figures} FROM '{out}/*.parquet' WHERE record_type <> 'stored'"
    assert by_duckdb(query) == [[energy, count, min(row[2] for row in expected), "UBIGINT"]]

    by_polars = pl.read_parquet(files).filter(pl.col("record_type").cast(pl.String) != "stored")
    assert by_polars.select(pl.sum("energy_milliwatt_hours"), pl.len()).row(0) == (energy, count)


def test_a_selection_is_by_meter_microgrid_and_account(
    export: Callable[..., str], parts: list[Blocks], monkeypatch: pytest.MonkeyPatch
) -> None:
    del parts
    words = ("readings", "--from", FROM, "--to", TO, "--format", "csv", "--resolution", "1d")

    def meters(*selected: str) -> set[str]:
        return {row["meter_id"] for row in csv.DictReader(io.StringIO(export(*words, *selected)))}

    for scanned in (8, 0):  # By looking up each block, and by reading all of them.
        monkeypatch.setattr("utility.exports.store.exports.SCANNED_FROM", scanned)
        assert meters("--meter", "10001") == {"10001"}
        assert meters("--meter", "10001", "--meter", "10002") == {"10001", "10002"}
        assert meters("--microgrid", "r001") == {"10001", "10002"}
        assert meters("--microgrid", "r002") == set()
        assert meters("--meter", "10001", "--microgrid", "r002") == set()
        assert meters("--account", "1") == {"10001", "10002"}
    assert export(*words, "--microgrid", "r002").startswith("meter_id,microgrid,")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", TO, "--to", FROM), "--to: 2026-10-31 04:00:00Z is not after --from"),
        (("--from", FROM, "--to", FROM), "is not after --from"),
        (("--from", "2026-11-01T01:30", "--to", TO), "2026-11-01T01:30 exists twice in America/New_York"),
        (("--from", FROM, "--to", "2027-03-14T02:00"), "does not exist in America/New_York"),
        (("--from", "2026-11-01T05:07:00Z", "--to", TO), "--from: 2026-11-01 05:07:00Z is within a quarter-hour"),
        (("--from", "2026-11-01T05:15:00Z", "--to", TO, "--resolution", "1h"), "is within an hour"),
        (("--from", "2026-11-01T05:00:00Z", "--to", TO, "--resolution", "1d"), "is within a local day"),
        (("--from", "soon", "--to", TO), "'soon' is no time; give ISO 8601"),
        (("--from", FROM, "--to", TO, "--meter", "77"), "--meter: '77' is not registered"),
        (("--from", FROM, "--to", TO, "--meter", "x"), "--meter: 'x' is not registered"),
        (("--from", FROM, "--to", TO, "--microgrid", "z"), "--microgrid: 'z' is not registered"),
        (("--from", FROM, "--to", TO, "--account", "0"), "--account: 0 is not registered"),
        (("--from", FROM, "--to", TO, "--format", "parquet"), "--out: Parquet needs a folder"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(
    export: Callable[..., str], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = () if "parquet" in words else ("--out", str(tmp_path / "out"))
    assert said in export("readings", *words, *out, code=2)
    assert not (tmp_path / "out").exists()


def test_without_pyarrow_csv_works_and_parquet_says_what_to_install(
    export: Callable[..., str], parts: list[Blocks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del parts
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = ("readings", "--from", FROM, "--to", TO, "--resolution", "1d", "--out", str(tmp_path / "out"))
    assert "pip install 'commonwatt[export]'" in export(*words, code=2)
    assert "2 files with" in export(*words, "--format", "csv")


def test_a_second_export_of_the_same_is_equal_byte_for_byte(
    export: Callable[..., str], parts: list[Blocks], tmp_path: Path
) -> None:
    del parts
    folders = [tmp_path / "a", tmp_path / "b"]
    for out in folders:
        export("readings", "--from", FROM, "--to", TO, "--out", str(out))
    first, second = ({path.name: path.read_bytes() for path in out.iterdir()} for out in folders)
    assert first == second
    assert {"export.json", "readings-15min-2026-10.parquet", "readings-15min-2026-11.parquet"} <= first.keys()


def test_a_folder_of_something_else_is_refused(export: Callable[..., str], parts: list[Blocks], tmp_path: Path) -> None:
    del parts
    out = tmp_path / "out"
    words = ("readings", "--from", FROM, "--out", str(out), "--format", "csv")
    export(*words, "--to", TO)
    assert "has another export" in export(*words, "--to", "2026-11-02", code=2)
    (out / "export.json").write_text('{"export"')
    assert "export.json" in export(*words, "--to", TO, code=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("mine")
    words = ("readings", "--from", FROM, "--to", TO, "--out", str(tmp_path / "mine"))
    assert "has other files, such as thesis.doc" in export(*words, code=2)


def test_a_full_disk_is_named_and_a_file_is_whole_or_not_there(
    export: Callable[..., str], parts: list[Blocks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del parts
    out = tmp_path / "out"
    words = ("readings", "--from", FROM, "--to", TO, "--out", str(out), "--format", "csv")
    expected = tmp_path / "expected"
    export("readings", "--from", FROM, "--to", TO, "--out", str(expected), "--format", "csv")

    with monkeypatch.context() as patched:
        from utility.exports.store import files as folder

        write, room = folder.Hashed.write, [40_000]

        def cramped(self: Any, data: bytes) -> int:
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(28, "No space left on device")
            return write(self, data)

        patched.setattr(folder.Hashed, "write", cramped)
        said = export(*words, code=1)
    assert "no space left on the device. Make room" in said
    assert [path.name for path in sorted(out.iterdir()) if path.suffix == ".csv"] == ["readings-15min-2026-10.csv"]
    assert "2 files with" in export(*words)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in expected.iterdir()}


@on_both
def test_damaged_parts_are_quarantined_and_reported(
    export: Callable[..., str], parts: list[Blocks], database: Database
) -> None:
    quarter = int(join(parts).quarter[5])
    damage = text("UPDATE compacted SET payload = :junk WHERE quarter = :quarter")
    with database.writes.begin() as connection:
        count = connection.execute(damage, {"junk": b"junk", "quarter": quarter}).rowcount
    words = ("readings", "--from", FROM, "--to", TO, "--format", "csv")
    shown = export(*words, code=1)
    assert f"{count} stored part" in shown and "quarantined" in shown  # noqa: PT018 - one text
    assert not any(row["start_utc"] == iso(quarter * 900) for row in exported(export(*words)))


def test_a_file_has_its_damaged_parts_again_after_the_next_command(
    export: Callable[..., str], parts: list[Blocks], database: Database, tmp_path: Path
) -> None:
    words = ("readings", "--from", FROM, "--to", TO, "--format", "csv", "--out")
    export(*words, str(tmp_path / "expected"))
    lost = join(parts).take([5])
    with database.writes.begin() as connection:
        junk = text("UPDATE compacted SET payload = :junk WHERE quarter = :quarter AND record_type = :kind")
        connection.execute(junk, {"junk": b"junk", "quarter": int(lost.quarter[0]), "kind": int(lost.record_type[0])})
    assert "quarantined" in export(*words, str(tmp_path / "out"), code=1)
    Writer(database).commit([append(parts[0])])  # The gateway sends it again.
    assert "2 files with" in export(*words, str(tmp_path / "out"))
    names = [f"readings-15min-2026-{month}.csv" for month in (10, 11)]
    assert all((tmp_path / "out" / name).read_text() == (tmp_path / "expected" / name).read_text() for name in names)


def test_events_have_their_states_in_words(export: Callable[..., str], database: Database, tmp_path: Path) -> None:
    times = [FIRST * 900 + 5, END * 900 - 1, END * 900]
    told = [
        EventRecord(
            previous_state=State.INITIALIZED,
            new_state=State.INITIALIZED | State.OFF_GRID | 0x8000,
            record_id=2**63 + number,
            meter_id=HOUSE,
            time=time,
        )
        for number, time in enumerate(times)
    ]
    Writer(database).commit([append(blocks({0: 5}), events=[(1, one) for one in told])])
    rows = exported(export("events", "--from", FROM, "--to", TO, "--format", "csv"))
    assert [parse_time(row["time_utc"], "") for row in rows] == times[:2]
    assert rows[0] | {"time_utc": ""} == {
        "meter_id": "10001",
        "microgrid": "r001",
        "time_utc": "",
        "log_generation": 1,
        "event_id": str(2**63),
        "previous_state_bits": 1,
        "new_state_bits": 0x8003,
        "new_state": "initialized off_grid 0x8000",
        "sender": "r001",
    }
    export("events", "--from", FROM, "--to", TO, "--out", str(tmp_path / "out"))
    stored = pl.read_parquet(tmp_path / "out" / "*.parquet").sort("time_utc")
    assert stored["event_id"].to_list() == [2**63, 2**63 + 1]
    assert stored["new_state"].to_list() == ["initialized off_grid 0x8000"] * 2


def test_a_damaged_event_is_left_out_and_reported(
    export: Callable[..., str], database: Database, tmp_path: Path
) -> None:
    event = EventRecord(
        previous_state=State.INITIALIZED, new_state=State.OFF_GRID, record_id=1, meter_id=HOUSE, time=END * 900 - 1
    )
    Writer(database).commit([append(blocks({0: 5}), events=[(1, event)])])
    with database.writes.begin() as connection:
        connection.execute(text("UPDATE event SET new_state = 0"))
    words = ("events", "--from", FROM, "--to", TO, "--format", "csv", "--out", str(tmp_path / "out"))
    assert "1 event damaged and left out" in export(*words, code=1)
    files = json.loads((tmp_path / "out/export.json").read_text())["files"]
    assert [(file["rows"], file["closed"]) for file in files.values()] == [(0, True), (0, False)]


@on_both
def test_an_account_has_what_its_meters_measured_while_it_had_them(
    export: Callable[..., str], parts: list[Blocks], database: Database, tmp_path: Path
) -> None:
    move = FIRST + 100
    with database.writes.begin() as connection:
        before = load_dated_registry(connection)
        moved = replace(
            before.meters[HOUSE],
            holdings=(Holding(account=1, start=0, end=move), Holding(account=9, start=move)),
        )
        accounts = {**before.accounts, 9: replace(before.accounts[1], number=9)}
        after = replace(before, meters={**before.meters, HOUSE: moved}, accounts=accounts)
        save_dated_registry(connection, before, after, "anna", END * 900, NEW_YORK)
    words = ("--from", FROM, "--to", TO)

    def starts(*selected: str) -> list[int]:
        text = export("readings", *words, "--format", "csv", "--meter", str(HOUSE), *selected)
        return [parse_time(row["start_utc"], "") // 900 for row in csv.DictReader(io.StringIO(text))]

    assert starts("--account", "1") == [quarter for quarter in starts() if quarter < move]
    assert starts("--account", "9") == [quarter for quarter in starts() if quarter >= move]

    file = tmp_path / "seven.xml"
    assert "account 9" in export("account", "9", *words, "--of", "readings", "--out", str(file))
    (point,) = parse_feed(file)
    found = sorted(one.timePeriod.start.timestamp() // 900 for mr in point.meterReadings for one in mr.intervalReadings)
    assert set(starts("--account", "9")) <= set(found)
    assert min(found) >= move
    sheet = export("account", "9", *words, "--of", "readings", "--format", "spreadsheet")
    assert sheet.startswith("Date,Begin,End,UTC offset,Received from you (kWh),Quality")
    assert "account 9 had no meter between" in export(
        "account", "9", "--from", "2026-10-30", "--to", FROM, "--of", "readings", code=2
    )
    assert "--account: 77 is not registered" in export("account", "77", *words, code=2)
    del parts


KILLED = """
import os, sys
from pathlib import Path
from utility.exports.store import files
from utility.exports import writers
from utility.exports.cli import app
left = int(sys.argv.pop(1))

def counted(step):
    def then(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return step(*arguments, **options)
    return then

writers.CsvWriter.write = counted(writers.CsvWriter.write)
writers.CsvWriter.close = counted(writers.CsvWriter.close)
files.replace_file = counted(files.replace_file)
app(sys.argv[1:])
"""
"""Exports, and is killed before a step: rows, the end of a file, a manifest."""


def test_an_export_killed_at_any_step_has_no_half_file_and_is_made_whole_by_the_same_command(
    export: Callable[..., str], parts: list[Blocks], tmp_path: Path
) -> None:
    del parts
    words = ["readings", "--from", FROM, "--to", TO, "--format", "csv", "--resolution", "1h"]
    export(*words, "--out", str(tmp_path / "whole"))
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    config = ["--config", str(tmp_path / "utility.toml")]
    for steps in range(100):
        out = tmp_path / f"killed-{steps}"
        command = [sys.executable, "-c", KILLED, str(steps), *words, "--out", str(out), *config]
        code = forks.start(command, tmp_path / "log").wait(60)
        if code == 0:
            break
        assert code == -9, (tmp_path / "log").read_text()
        assert {path.name for path in out.glob("*.csv")} <= whole.keys()
        assert all(path.read_bytes() == whole[path.name] for path in out.glob("*.csv")), "a half file has its name"
        export(*words, "--out", str(out))
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert steps == 6  # The first manifest; two files, each of rows and an end; the last manifest.


def test_a_file_whose_time_was_not_over_is_written_again(
    export: Callable[..., str], parts: list[Blocks], database: Database, tmp_path: Path
) -> None:
    words = ["readings", "--from", FROM, "--to", "2027-02-01", "--out", str(tmp_path / "out"), "--format", "csv"]
    words += ["--resolution", "1d", "--meter", str(HOUSE)]
    del parts
    export(*words)
    before = (tmp_path / "out" / "readings-1d-2026-12.csv").read_bytes()
    december = parse_time("2026-12-05", "", NEW_YORK) // 900
    Writer(database).commit([append(blocks({0: 5}, quarter=december))])
    export(*words)
    assert (tmp_path / "out" / "readings-1d-2026-12.csv").read_bytes() != before


BEGIN = 2_000_000 * 900
EVENT = EventRecord(previous_state=1, new_state=3, record_id=7, meter_id=10001, time=BEGIN + 7)


@pytest.fixture
def client(database: Database) -> Client:
    parts = [
        append(blocks({0: 5, 1: 7}, meter=meter, quarter=2_000_000 + n)) for meter in (10001, 10002) for n in (0, 1)
    ]
    Writer(database).commit([*parts, append(events=[(1, EVENT)])])
    clock = Clock(origin=BEGIN + 5000, monotonic_origin=0, speed=0)
    return Client(make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None))))


def ask(client: Client, what: str = "readings", **params: Any) -> httpx.Response:
    return client.get(f"/export/{what}", params={"start": BEGIN, "end": BEGIN + 3600} | params)


def test_sums_of_several_meters_are_csv_and_parquet(client: Client) -> None:
    answer = ask(client, meter=["10001", "10002"], resolution="1h")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="readings-1h.csv"'
    lines = answer.text.splitlines()
    assert [line.split(",")[:5] for line in lines[1:]] == [
        [meter, "r001", "through", "2027-01-15T08:00:00Z", "24"] for meter in ("10001", "10002")
    ]
    parquet = pl.read_parquet(
        io.BytesIO(ask(client, meter=["10001", "10002"], resolution="1h", format="parquet").content)
    )
    assert parquet["energy_milliwatt_hours"].to_list() == [24, 24]
    assert parquet["missing_slots"].to_list() == [236, 236]


def test_slots_and_events_are_there_too(client: Client) -> None:
    slots = ask(client, resolution="15s", meter="10001").text.splitlines()
    assert len(slots) == 1 + 4
    events = ask(client, "events", microgrid="r001").text.splitlines()
    assert events[0] == ",".join(column.name for column in EVENTS_TABLE.columns)
    assert events[1] == "10001,r001,2027-01-15T08:00:07Z,1,7,1,3,initialized off_grid,r001"
    assert len(events) == 2


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"end": BEGIN}, "end: 2027-01-15 08:00:00Z is not after start"),
        ({"end": BEGIN + 60}, "end: 2027-01-15 08:01:00Z is within a quarter-hour"),
        ({"meter": "77"}, "meter: '77' is not registered"),
        ({"meter": "x"}, "String should match pattern"),
        ({"format": "xls"}, "Input should be 'parquet' or 'csv'"),
        ({"start": "2026-11-01T01:30"}, "exists twice in America/New_York"),
        ({"start": 0, "end": 4_000_000_500, "resolution": "15s"}, "commonwatt export"),
    ],
)
def test_asked_wrongly_it_says_what_is_wrong(client: Client, params: dict[str, Any], said: str) -> None:
    answer = ask(client, **params)
    assert answer.status_code == 422
    assert said in answer.json()["detail"] if isinstance(answer.json()["detail"], str) else answer.text


def test_a_person_has_one_export_at_a_time_and_keeps_nobody_else_from_theirs(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, meanwhile = iter(("vera", "vera", "otto", "vera")), list[httpx.Response]()
    content = exports._content

    def busy(*arguments: Any) -> Any:
        if not meanwhile:
            meanwhile.append(ask(client))
            meanwhile.append(ask(client))
        return content(*arguments)

    def identify(*_: Any) -> Actor:
        return replace(on_machine(next(names)), roles=frozenset({Role.VIEWER}))

    monkeypatch.setattr(exports, "_content", busy)
    monkeypatch.setattr(Gate, "identify", identify)
    assert ask(client).status_code == 200
    assert [answer.status_code for answer in meanwhile] == [503, 200]
    assert "an export of yours is running" in meanwhile[0].text
    assert ask(client).status_code == 200, "places are given back"
