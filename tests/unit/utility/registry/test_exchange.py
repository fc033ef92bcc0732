"""`commonwatt swap meter`: one meter ends where the other begins, and no energy appears or counts twice (row 22)."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, event
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import from_records
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.real import databases
from harness.real.jobs import compact
from harness.surroundings.records import a_record
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.outbox.changes import Append
from utility.readings.store import reads
from utility.readings.store.replaced_meters import count_blocks
from utility.readings.store.writer import Writer
from utility.registry.dates import date_text
from utility.registry.store.accounts import accounts_at, load_dated_registry
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import load_snapshot

AT = 2_000_000
OLD, NEW = 10002, 77_000_000_123

Swap = Callable[..., str]


@pytest.fixture
def swap(tmp_path: Path, url: str, kind: str, database: Database) -> Swap:
    """Run the command with some options; return what it prints."""
    config = tmp_path / "utility.toml"
    url = url if kind == "sqlite" else url.replace("@", ":secret@")
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    with database.reads.begin() as connection:
        at = date_text(AT, zone_of(connection))
    good = {"old": str(OLD), "new": str(NEW), "at": at, "last-register": "8123.5", "first-register": "0.000001"}

    def run(*words: str, answer: str = "", code: int = 0, **options: str | None) -> str:
        given = good | {name.replace("_", "-"): value for name, value in options.items()}
        stated = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
        line = ["swap", "meter", "--config", str(config), *stated, *words]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(make_app("swap"), line, input=answer)
        assert done.exit_code == code, done.output
        return done.output

    return run


def store(database: Database, meter: int, quarters: range, reading: int) -> None:
    """Store a meter's readings of whole quarter-hours."""
    records = [
        a_record(quarter * QUARTER_S, reading, end=(quarter + 1) * QUARTER_S, meter=meter, account=0)
        for quarter in quarters
    ]
    blocks = from_records(records)
    append = Append(
        sender="r001", owner="r001", received=0, blocks=blocks, payloads=pack(blocks), events=[], dead_letters=[]
    )
    Writer(database).commit([append])


def test_quarters_of_a_meter_are_counted_without_reading_the_town(database: Database) -> None:
    quarters = range(2_000_000, 2_000_006)
    store(database, OLD, quarters, 600)
    compact(database, quarters[-1] * QUARTER_S)
    store(database, OLD, quarters[4:], 600)
    plans: list[str] = []

    def explain(connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(database.reads, "before_cursor_execute", explain)
    with database.reads.begin() as connection:
        counts = [count_blocks(connection, OLD, 0, quarters[2]), count_blocks(connection, OLD, quarters[2])]
        assert count_blocks(connection, NEW, 0, quarters[2]) == 0
    event.remove(database.reads, "before_cursor_execute", explain)
    assert counts == [2, 4]
    assert [plan for plan in plans if "(quarter<" in plan or "(quarter>" in plan] == []


def energy_of(database: Database, account: int) -> int:
    """Return the incoming energy of an account, milliwatt-hours: of each meter while the account had it."""
    with database.reads.begin() as connection:
        meters = load_dated_registry(connection).meters.values()
        numbers = {meter.id: reads.meter_number(connection, meter.id) for meter in meters}
    total = 0
    for meter in meters:
        number = numbers[meter.id]
        assert number is not None
        blocks = reads.readings(database, number, RecordType.THROUGH, AT - 10, AT + 10)
        held = [meter.account_at(int(quarter)) == account for quarter in blocks.quarter]
        total += int(blocks.values[np.array(held, np.bool_)].sum()) if len(blocks) else 0
    return total


@databases.on_both_kinds
def test_row_22_an_exchange_makes_no_phantom_energy(swap: Swap, database: Database) -> None:
    store(database, OLD, range(AT - 3, AT), 7)
    told = swap("--yes")
    assert f"meter {OLD}\n  - r001, house 1\n  - account 1\n  + r001, house 1 to " in told
    assert f"meter {NEW}\n  + r001, house 1 from " in told
    # The old one runs on in the workshop, and the new one was tested on the bench.
    store(database, OLD, range(AT, AT + 5), 9)
    store(database, NEW, range(AT - 2, AT), 1000)
    store(database, NEW, range(AT, AT + 4), 11)
    assert energy_of(database, 1) == 60 * (3 * 7 + 4 * 11)
    with database.reads.begin() as connection:
        old, new = (load_dated_registry(connection).meters[which] for which in (OLD, NEW))
        just_before, then = (accounts_at(connection, AT * QUARTER_S - s) for s in (1, 0))
        assert [when[which] for when in (just_before, then) for which in (OLD, NEW)] == [1, 0, 0, 1]
        listed = {row["id"]: row["account"] for row in reads.meters(connection, "r001", 0, 100, AT * QUARTER_S)}
        assert (listed[str(OLD)], listed[str(NEW)]) == (0, 1)
        snapshot = load_snapshot(connection)
    assert (old.last_register, new.first_register) == (8_123_500_000, 1), "a register that begins anew is no energy"
    assert (old.end, new.start, new.end, new.place, new.function) == (AT, AT, None, old.place, old.function)
    assert snapshot.meters[NEW].record_types == snapshot.meters[OLD].record_types


def test_readings_that_the_exchange_gives_to_nobody_are_told(swap: Swap, database: Database) -> None:
    store(database, OLD, range(AT - 3, AT + 2), 7)
    assert "note: 2 quarter-hours of the old meter from then on are stored and belong to no account" in swap("--yes")


def test_what_no_option_states_is_asked(swap: Swap, database: Database) -> None:
    unanswered = {"old": None, "new": None, "first_register": None}
    told = swap(answer=f"{OLD}\n{NEW}\n-\nn\n", code=1, **unanswered)
    assert "Id of the old meter: " in told
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    assert NEW not in before.meters, "not confirmed"
    swap(answer=f"{OLD}\n{NEW}\n-\ny\n", **unanswered)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection).meters[NEW].first_register is None
    assert "is not at house 1 at that time" in swap("--yes", new="5", code=2)


def test_the_steps_that_it_prints_enrol_the_new_meter(
    swap: Swap, database: Database, town: Town, tmp_path: Path
) -> None:
    del town
    told = swap("--yes")
    table = "\n".join(line.strip() for line in told.splitlines() if line.startswith("       "))
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n' + table)
    with database.writes.begin() as connection:
        registry = load_dated_registry(connection)
        assert fill_registry(connection, load_town(path), AT * QUARTER_S).new_meters == 0
        assert load_dated_registry(connection).meters == registry.meters
    commands = [line[line.index("commonwatt") :] for line in told.splitlines() if "  commonwatt" in line]
    assert [shlex.split(line)[1] for line in commands] == ["utility", "enroll"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"old": "99"}, "meter 99 is not registered"),
        ({"old": "x"}, "--old x: is no meter's id"),
        ({"new": "10003"}, "meter 10003 is already at house 2; each meter has one place"),
        ({"at": "2026-11-15T14:10"}, "--at: 2026-11-15T14:10 is not on a quarter-hour"),
        ({"at": "2027-03-14T02:30"}, "--at: 2027-03-14T02:30 does not exist in America/New_York"),
        ({"last_register": "1,5"}, "--last-register 1,5: is no register in kWh, such as 12345.678"),
        ({"last_register": "-2"}, "is no register in kWh"),
        ({"first_register": "0.0000001"}, "is no register in kWh"),
        ({"first_register": "nan"}, "is no register in kWh"),
        ({"first_register": "1e9999999"}, "is no register in kWh"),
    ],
)
def test_wrong_input_changes_nothing(swap: Swap, database: Database, wrong: dict[str, str], told: str) -> None:
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    assert told in swap("--yes", code=2, **wrong)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before


def test_registered_meter_of_another_kind_can_not_take_the_place(
    swap: Swap, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        f'[[meter]]\nmicrogrid = "r001"\nid = {NEW}\nreplaces = 10001\n'
    )
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path))
        assert NEW not in load_dated_registry(connection).meters, "it is installed by the exchange"
    assert "is registered with direction outgoing, and meter 10002 with incoming" in swap("--yes", code=2)
    swap("--yes", old="10001")
