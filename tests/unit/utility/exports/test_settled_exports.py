"""Exports of settled quarter-hours and of bills."""

import csv
import io
import json
import time
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from commonwatt.model.time.times import parse_time
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Direction
from harness.real.jobs import compact
from harness.surroundings.sent import append, blocks
from utility.billing.bill import Bill, Line, LineKind
from utility.database.database import Database
from utility.exports.cli import app
from utility.exports.columns import Coded, Rows
from utility.exports.holdings import Held
from utility.exports.readings import Grids
from utility.exports.resolutions import Resolution
from utility.exports.settled import settled_rows
from utility.exports.store import exports
from utility.jobs.calendar_periods import NEW_YORK
from utility.readings.store.writer import Writer
from utility.settlement.cli.settlement import app as settlement

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


def reference(settled: SettledQuarters, resolution: str, held: list[Held]) -> list[tuple[Any, ...]]:
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
    monkeypatch.setattr("utility.exports.settled.QUARTERS_AT_A_TIME", 1)  # A day at a time.
    settled = random_settled()
    held = [
        Held(meter=METERS[0], direction=Direction.INCOMING, first=FIRST + 37, end=END),
        Held(meter=METERS[1], direction=Direction.OUTGOING, first=FIRST, end=FIRST + 161),
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
        Line(
            kind=LineKind.IMPORT, text="Import, peak", period="peak", energy=7_000_001, rate=Decimal("0.310"),
            amount=Decimal("2.17"),
        ),
        Line(kind=LineKind.CREDIT, text='Credit, "off-peak"', amount=Decimal("-0.10")),
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
