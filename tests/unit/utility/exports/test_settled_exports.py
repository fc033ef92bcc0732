"""Exports of settled quarter-hours and of bills, and the files that jobs write each night and month."""

import asyncio
import csv
import io
import json
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from commonwatt.config.files import check_named_files
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.town.town import Direction
from harness.docs.marked import DOCS
from harness.surroundings.messages import append, blocks, compact
from utility.assembly.backup.backup import restore
from utility.billing.bill import Bill, BillLine, LineKind
from utility.database.database import Database, open_database
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.cli import app
from utility.exports.columns import Coded, Rows
from utility.exports.jobs import back_up, backup_plan, export_month
from utility.exports.rows import Grids, settled_rows
from utility.exports.selection import HeldMeter, Resolution
from utility.exports.store import exports
from utility.jobs.plans import NEW_YORK, LocalDay, LocalMonth, Period, catalogue
from utility.jobs.store import NotYetError, Turn
from utility.jobs.tables import settled_day, usage_due
from utility.readings.store import reads
from utility.readings.store.writer import Writer
from utility.settings import BackupSettings, ExportSettings, UtilitySettings
from utility.settlement.cli import app as settlement

FROM, TO = "2026-10-31", "2026-11-03"
FIRST, END = (parse_time(text, "", NEW_YORK) // 900 for text in (FROM, TO))
METERS = (10001, 10002)


def random_settled(seed: int = 5) -> SettledQuarters:
    rng = np.random.default_rng(seed)
    shape = len(METERS), END - FIRST
    return SettledQuarters(
        meters=np.array(METERS, np.uint64),
        first=FIRST,
        energies={quantity: rng.integers(0, 10**6, shape) for quantity in list(Quantity)[:3]},
        quality=rng.integers(0, 5, shape).astype(np.uint8),
        provisional=rng.random(shape) < 0.3,
        version=rng.integers(0, 4, shape).astype(np.int32),
    )


def part_of(settled: SettledQuarters, meters: Collection[int], first: int, end: int) -> SettledQuarters:
    rows = np.array([METERS.index(meter) for meter in sorted(meters)])
    some = np.ix_(rows, np.arange(first - settled.first, end - settled.first))
    return SettledQuarters(
        meters=settled.meters[rows],
        first=first,
        energies={quantity: values[some] for quantity, values in settled.energies.items()},
        quality=settled.quality[some],
        provisional=settled.provisional[some],
        version=settled.version[some],
    )


def plain(rows: Rows) -> list[tuple[Any, ...]]:
    columns = [
        [one.labels[code] for code in one.codes] if isinstance(one, Coded) else list(one)
        for name, one in rows.items()
        if name != "microgrid"
    ]
    return [
        tuple(getattr(cell, "item", lambda cell=cell: cell)() for cell in row) for row in zip(*columns, strict=True)
    ]


def reference(settled: SettledQuarters, resolution: str, held: list[HeldMeter]) -> list[tuple[Any, ...]]:
    by: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, meter in enumerate(METERS):
        for column in range(END - FIRST):
            quarter = FIRST + column
            mine = any(one.meter == meter and one.first <= quarter < one.end for one in held)
            if mine and settled.version[row, column] > 0:
                start = quarter * 900
                if resolution == "1h":
                    start -= start % 3600
                if resolution == "1d":
                    start = int(datetime.fromtimestamp(start, NEW_YORK).replace(hour=0, minute=0, fold=0).timestamp())
                by.setdefault((meter, start), []).append((row, column))
    return [
        (
            meter,
            start,
            *(sum(int(settled.of(quantity)[place]) for place in places) for quantity in Quantity),
            SettledQuality(min(settled.quality[place] for place in places)).name.lower(),
            any(settled.provisional[place] for place in places),
            max(settled.version[place] for place in places),
            len(places),
        )
        for (meter, start), places in sorted(by.items())
    ]


@pytest.mark.parametrize("resolution", ["15min", "1h", "1d"])
def test_sums_are_those_of_a_plain_reference(resolution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utility.exports.rows.QUARTERS_AT_A_TIME", 1)  # A day at a time.
    settled = random_settled()
    held = [
        HeldMeter(meter=METERS[0], direction=Direction.INCOMING, first=FIRST + 37, end=END),
        HeldMeter(meter=METERS[1], direction=Direction.OUTGOING, first=FIRST, end=FIRST + 161),
    ]
    grids = Grids.of(dict.fromkeys(METERS, "r001"))
    found = settled_rows(
        lambda meters, first, end: part_of(settled, meters, first, end),
        METERS,
        grids,
        FIRST,
        END,
        Resolution(resolution),
        NEW_YORK,
        held,
    )
    assert sorted(row for rows in found for row in plain(rows)) == reference(settled, resolution, held)


@pytest.fixture
def export(tmp_path: Path, url: str, database: Database) -> Callable[..., str]:
    del database
    config = tmp_path / "utility.toml"
    save_clock(tmp_path / "clock.json", Clock(origin=END * 900, monotonic_origin=time.monotonic()))
    config.write_text(f'[utility]\ndatabase = "{url}"\nclock = "clock.json"\n')

    def run(*words: str, code: int = 0, of: Any = app) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(of, [*words, "--config", str(config)])
        assert done.exit_code == code, done.output + repr(done.exception)
        return done.output

    return run


def test_what_is_settled_is_exported_and_written_again_while_it_is_provisional(
    export: Callable[..., str], database: Database, tmp_path: Path
) -> None:
    quarter = FIRST + 20
    Writer(database).commit([append(blocks(dict.fromkeys(range(60), 7), quarter=quarter))])
    compact(database, END * 900)
    export(of=settlement)
    words = ("settled", "--from", FROM, "--to", TO, "--meter", "10001")
    rows = list(csv.DictReader(io.StringIO(export(*words, "--format", "csv"))))
    (row,) = [row for row in rows if parse_time(row["start_utc"], "") == quarter * 900]
    assert int(row["exported_milliwatt_hours"]) + int(row["shared_out_milliwatt_hours"]) == 420
    assert row["version"] == "1"
    out = tmp_path / "out"
    assert "file" in export(*words, "--out", str(out), "--resolution", "1d")
    assert "were there already" not in export(*words, "--out", str(out), "--resolution", "1d")
    manifest = json.loads((out / "export.json").read_text())
    assert not any(facts["closed"] for facts in manifest["files"].values())
    assert pd.read_parquet(out / "settled-1d-2026-10.parquet").exported_milliwatt_hours.dtype == np.int64
    assert "give 15min, 1h or 1d" in export(*words, "--resolution", "15s", "--format", "csv", code=2)
    feed = export("account", "1", "--from", FROM, "--to", TO)
    assert "<defaultQuality>17</defaultQuality>" in feed
    assert "<value>420</value>" in feed
    nothing = export("account", "1", "--from", "2026-10-01", "--to", "2026-10-02", code=2)
    assert "give --of readings" in nothing


BILL = Bill(
    account=1,
    month="2026-10",
    start=FIRST,
    end=END,
    tariff=("town v1", "town v2"),
    policy="spec",
    lines=(
        BillLine(
            kind=LineKind.IMPORT, text="Import, peak", period="peak", energy=7_000_001, rate=Decimal("0.310"),
            amount=Decimal("2.17"),
        ),
        BillLine(kind=LineKind.CREDIT, text='Credit, "off-peak"', amount=Decimal("-0.10")),
    ),
    total=Decimal("2.07"),
    estimated=3,
)  # fmt: skip


def test_the_lines_of_issued_bills_are_exported_exactly(
    export: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bills(_: object, run: int, account: int | None = None) -> list[Bill]:
        assert run == 5
        return [BILL] if account in (None, 1) else []

    monkeypatch.setattr(exports, "issued_run", lambda _, month: 5 if month == "2026-10" else None)
    monkeypatch.setattr(exports, "bills_of_run", bills)
    monkeypatch.setattr(exports, "refuse_altered", lambda *_: None)
    monkeypatch.setattr(exports, "issued_bill", lambda _, run, account: next(iter(bills(None, run, account)), None))
    words = ("bills", "--from", "2026-09", "--to", "2026-12")
    rows = list(csv.DictReader(io.StringIO(export(*words, "--format", "csv"))))
    assert [row["amount_dollars"] for row in rows] == ["2.17", "-0.10"]
    assert (rows[0]["rate_dollars_per_kilowatt_hour"], rows[0]["tariff"]) == ("0.310", "town v1, town v2")
    assert (rows[1]["text"], rows[1]["energy_milliwatt_hours"], rows[1]["line"]) == ('Credit, "off-peak"', "", "2")
    out = tmp_path / "out"
    assert "1 file with 2 rows" in export(*words, "--out", str(out), "--account", "1")
    frame = pd.read_parquet(out / "bills-2026-10.parquet")
    assert frame.amount_dollars.tolist() == [Decimal("2.17"), Decimal("-0.10")]
    assert frame.amount_dollars.sum() == frame.total_dollars[0]
    assert frame.energy_milliwatt_hours[0] == 7_000_001
    assert pd.isna(frame.energy_milliwatt_hours[1])
    assert "--account: 77 is not registered" in export(*words, "--account", "77", "--format", "csv", code=2)
    assert export(*words, "--account", "2", "--format", "csv").count("\n") == 1


NOW = 1_800_000_000


def turn(job: str, period: Period) -> Turn:
    return Turn(job=job, period=period, attempt=1, now=NOW)


def settings(url: str, folder: Path) -> UtilitySettings:
    folder.mkdir(exist_ok=True)
    return UtilitySettings(
        database=url,
        exports=ExportSettings(folder=folder, what=("settled", "usage", "events"), format="csv"),
        backup=BackupSettings(folder=folder, keep=2),
    )


def test_every_job_is_on_the_page(url: str, tmp_path: Path) -> None:
    page = (DOCS / "operations.md").read_text()
    for plan in catalogue(settings(url, tmp_path / "files")):
        assert f"| `{plan.name}` |" in page, "describe it in docs/operations.md"
        assert all(name in page for name in plan.also)


def test_jobs_of_files_are_there_only_with_a_folder(url: str, tmp_path: Path) -> None:
    names = {plan.name for plan in catalogue(settings(url, tmp_path / "files"))}
    assert names - {plan.name for plan in catalogue(UtilitySettings())} == {"exports", "backup"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '[utility.exports]\nwhat = ["bills"]',
            "line 3: utility.exports.what.*'settled', 'usage', 'readings' or 'events'",
        ),
        (
            '[utility.backup]\nfolder = "nowhere"',
            "line 3: utility.backup.folder: .*nowhere: No such file or directory; The folder",
        ),
        (
            'database = "postgresql+psycopg:///town"\n[utility.backup]\nfolder = "."',
            "remove backup.folder, which is for an SQLite file; a PostgreSQL database is backed up by pgBackRest, see ",
        ),
    ],
)
def test_wrong_setting_is_told_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "utility.toml"
    file.write_text(f"[utility]\n{text}\n")
    with pytest.raises(ConfigError, match=why):
        check_named_files(file, "utility")


def test_the_newest_backups_are_kept_and_can_be_restored(url: str, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    made = settings(url, folder)
    for name in ("2026-12-30.db", "2027-01-12.db", "2027-01-13.db", "2027-01-10.db.part"):
        (folder / f"utility-{name}").touch()
    (folder / "notes.db").touch()
    night = turn("backup", LocalDay().period_at(NOW))
    asyncio.run(back_up(made, night))
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["notes.db", "utility-2027-01-13.db", "utility-2027-01-15.db"]
    target = folder / "utility-2027-01-15.db"
    was = target.stat().st_mtime_ns
    asyncio.run(back_up(made, night))
    assert target.stat().st_mtime_ns == was, "after a kill between the backup and its mark it is not made again"
    other = tmp_path / "other.db"
    restore(other, target, NOW, Path("utility.toml"), replace=False, tell=lambda *_: None)
    with closing(open_database(f"sqlite:///{other}", create=False)) as restored, restored.reads.begin() as connection:
        assert len(reads.meter_rows(connection, None, 0, 100, 0)) > 0


def test_a_backup_is_never_deleted_for_ones_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    made = settings("sqlite:///town.db", folder)
    for day in ("2027-01-12", "2027-01-13", "2031-01-01", "2031-01-02"):
        (folder / f"utility-{day}.db").touch()
    plan = backup_plan(made, "2027-01-14")
    assert [path.name[8:-3] for path in plan.old] == ["2031-01-01", "2031-01-02", "2027-01-12"]
    assert plan.target not in backup_plan(made, "2026-12-31").old


def test_backup_that_cannot_be_made_says_why_and_deletes_nothing(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del database
    folder = tmp_path / "backups"
    made = settings(url, folder)
    old = [folder / f"utility-2026-12-{n}.db" for n in (10, 11, 12)]
    for path in old:
        path.touch()
    night = turn("backup", LocalDay().period_at(NOW))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
        with pytest.raises(StoreError, match=r"1 MB are free, and it may need 6[78] MB"):
            asyncio.run(back_up(made, night))
    assert all(path.exists() for path in old)
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match=r"No such file or directory; see backup\.folder"):
        asyncio.run(back_up(made, night))


def test_a_month_is_exported_once_when_its_days_are_final(url: str, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    made = settings(url, folder)
    month = LocalMonth().period_at(NOW)
    day = {"owner_no": 1, "convention": "pro_rata", "computed": 0, "missing": 1, "residual": "{}"}
    with database.writes.begin() as connection:
        days = range(month.start // 86_400, -(-month.end // 86_400))
        connection.execute(settled_day.insert(), [day | {"day": n, "final": n > days.start} for n in days])
    asyncio.run(export_month(made, database, turn("exports", LocalMonth().period_at(month.start - 90 * 86_400))))
    assert not list(folder.iterdir()), "that was before the town's first day"
    with pytest.raises(NotYetError, match="readings missing in 1 settled day") as waiting:
        asyncio.run(export_month(made, database, turn("exports", month)))
    assert waiting.value.until > NOW
    assert not list(folder.iterdir())
    with database.writes.begin() as connection:
        connection.execute(settled_day.update().values(final=True))
        connection.execute(usage_due.insert().values(day=days.start, owner_no=1, marks=1))
    with pytest.raises(NotYetError, match="not in the months' usage yet"):
        asyncio.run(export_month(made, database, turn("exports", month)))
    with database.writes.begin() as connection:
        connection.execute(usage_due.delete())
    asyncio.run(export_month(made, database, turn("exports", month)))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.csv")}
    assert [name for name in sorted(files) if not name.startswith("usage")] == [
        "events-2027-01/events-2027-01.csv",
        "settled-2027-01/settled-15min-2027-01.csv",
    ]
    usage = files["usage-2027-01/account-five_years.csv"].read_text()
    assert usage.startswith("scope,name,period,imported_kwh")
    manifest = json.loads((folder / "settled-2027-01" / "export.json").read_text())
    assert manifest["complete"] is True
    assert (manifest["export"]["start"], manifest["export"]["end"]) == (month.start, month.end)
