"""Sharing as the utility records it, from stored readings, beside what the emulator's physics moved."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from commonwatt.codec.packing import pack
from commonwatt.device.commands import Commanded
from commonwatt.model.blocks import make_blocks
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Microgrid, Town
from harness.console import local_headers
from harness.energy.worlds import Alone
from harness.surroundings import databases
from harness.surroundings.messages import append, exchange
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.outbox.changes import Append
from utility.readings.store.compactor import Compactor
from utility.readings.store.retention import Retention
from utility.readings.store.writer import Writer
from utility.registry.store.registration import fill_registry
from utility.settlement import jobs as sharing
from utility.settlement.jobs import DEADLINE_S
from utility.settlement.shared_quarter import sharing_slots
from utility.settlement.store.sharing import due, recorded
from utility.webkit.services import Api

QUARTER = 1_988_920  # 18:00 in New York, on a day in September: little sun

FIRST = QUARTER - 1
SOON = (QUARTER + 3) * QUARTER_S
Truth = Counter[tuple[int, str]]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text(
        "[town]\ncharging_loss_permille = 50\n"
        '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 6\n'
        '[[microgrid]]\nid = "apt"\nkind = "apartment"\nbuildings = 2\napartments = 3\n'
    )
    return load_town(path)


class Measured:
    """Three quarters of a microgrid: what its meters read, its events, and what really flowed by sharing.

    From 5 minutes into the second quarter on, all batteries above their minimum share.
    """

    def __init__(self, town: Town, microgrid: Microgrid, number: int) -> None:
        physics = Alone(town, microgrid)
        self.microgrid = microgrid
        batteries = [m for m in microgrid.meters if m.battery is not None]
        levels = {m.id: m.battery.capacity * (90, 12, 80)[i % 3] // 100 for i, m in enumerate(batteries) if m.battery}
        donors = [m.id for i, m in enumerate(batteries) if i % 3 != 1]
        begin = QUARTER * QUARTER_S + 300
        self.truth: Truth = Counter()
        values: dict[tuple[int, int], list[int]] = {}
        for at in range(FIRST * QUARTER_S, (QUARTER + 2) * QUARTER_S, SLOT_S):
            commanded = {meter: Commanded(sharing=True) for meter in donors} if at >= begin else {}
            step = physics.step(levels, at, commanded)
            levels = step.levels
            if at // QUARTER_S == QUARTER:
                for meter, moved in step.shared.items():
                    self.truth[meter, "given" if moved > 0 else "received"] += abs(moved)
            for meter, readings in step.readings.items():
                for kind, value in readings.items():
                    values.setdefault((meter, int(kind)), []).append(value)
        self.values = values
        on = State.INITIALIZED | State.SHARING
        self.events = [
            (1, EventRecord(previous_state=State.INITIALIZED, new_state=on, record_id=7, meter_id=meter, time=begin))
            for meter in donors
        ]
        self.number = number

    def exchange(self, database: Database) -> None:
        """Let every meter be another one since the first quarter."""
        new = {meter: meter + 10**9 for meter, _ in self.values}
        exchange(database, new, FIRST)
        self.values = {(new[meter], kind): values for (meter, kind), values in self.values.items()}
        self.events = [(log, replace(event, meter_id=new[event.meter_id])) for log, event in self.events]
        self.truth = Counter({(new[meter], kind): energy for (meter, kind), energy in self.truth.items()})

    def append(self, *, of: Callable[[int], bool] = lambda _: True, events: bool = True) -> Append:
        """What its gateway relays of some meters."""
        rows = [
            ((meter, kind, FIRST + n), values[n * SLOTS : (n + 1) * SLOTS], [2] * SLOTS)
            for (meter, kind), values in self.values.items()
            if of(meter)
            for n in range(3)
        ]
        blocks = make_blocks(*(list(column) for column in zip(*rows, strict=True)))
        name = self.microgrid.id
        made = append(blocks, sender=name, events=self.events if events else [], received=SOON)
        return Append(**{**vars(made), "owner": name, "payloads": pack(blocks)})


def compact(database: Database, now: int) -> None:
    compactor = Compactor(database)
    while (replacement := compactor.plan(now)) is not None:
        compactor.apply(replacement)


def run(database: Database, now: int = SOON) -> None:
    compact(database, now)
    period = Period(start=now, end=now + 300, name="now")
    asyncio.run(sharing.record_sharing(database, HERE, Turn(job="sharing", period=period, attempt=1, now=now)))


def found(database: Database, microgrid: str = "r001", quarter: int = QUARTER) -> dict[str, Any] | None:
    with database.reads.begin() as connection:
        rows = recorded(connection, quarter, quarter, microgrid, 10)
    assert len(rows) <= 1
    return rows[0] if rows else None


def of(row: dict[str, Any]) -> Truth:
    counts = {(int(m["meter"]), kind): m[kind] for m in row["meters"] for kind in ("given", "received")}
    return Counter({key: value for key, value in counts.items() if value})


@databases.on_both_kinds
@pytest.mark.parametrize("name", ["r001", "apt"])
@pytest.mark.parametrize("is_exchanged", [False, True])
def test_recorded_sharing_is_what_flowed(
    database: Database, town: Town, name: str, is_exchanged: bool
) -> None:  # req: C2
    measured = Measured(town, town.microgrids[name], 1)
    if is_exchanged:
        measured.exchange(database)
    Writer(database).commit([measured.append()])
    run(database)
    row = found(database, name)
    assert row is not None
    assert (row["version"], row["complete"]) == (1, True)
    recorded_ = of(row)
    wrong = sum(abs(recorded_[key] - measured.truth[key]) for key in {*recorded_, *measured.truth})
    moved = sum(value for (_, kind), value in measured.truth.items() if kind == "given")
    assert moved > 10**5
    assert wrong <= 1e-5 * 2 * moved, f"{wrong} of {moved} mWh"
    assert sum(m["given"] for m in row["meters"]) == sum(m["received"] for m in row["meters"]) == row["shared"]
    assert found(database, name, FIRST) is None, "nobody had the command"
    later = found(database, name, QUARTER + 1)
    assert later is not None
    assert later["shared"] > 0, "the command holds on"


def test_late_readings_make_a_new_version_and_the_same_ones_none(database: Database, town: Town) -> None:
    measured = Measured(town, town.microgrids["r001"], 1)
    late = next(meter for meter, kind in measured.truth if kind == "received")
    Writer(database).commit([measured.append(of=lambda meter: meter != late)])
    run(database)
    assert found(database) is None, "it waits for its readings"
    deadline = (QUARTER + 1) * QUARTER_S + DEADLINE_S
    run(database, deadline)
    first = found(database)
    assert first is not None
    assert (first["version"], first["complete"]) == (1, False)
    Writer(database).commit([measured.append(events=False)])
    run(database, deadline + 900)
    second = found(database)
    assert second is not None
    assert (second["version"], second["complete"], second["computed"]) == (2, True, deadline + 900)
    assert second["shared"] > first["shared"]
    # The same again, and a job that has nothing to do.
    Writer(database).commit([measured.append()])
    run(database, deadline + 1800)
    run(database, deadline + 2700)
    assert found(database) == second


def test_what_is_recorded_stays_when_its_readings_are_no_longer_kept(database: Database, town: Town) -> None:
    measured = Measured(town, town.microgrids["r001"], 1)
    Writer(database).commit([measured.append()])
    run(database)
    before = found(database), found(database, quarter=QUARTER + 1)
    retention = Retention(database, keep_months=1)
    while retention.apply(QUARTER + 1):
        pass
    late = next(meter for meter, kind in measured.truth if kind == "received")
    Writer(database).commit([measured.append(of=lambda meter: meter == late)])
    run(database, SOON + DEADLINE_S)
    assert (found(database), found(database, quarter=QUARTER + 1)) == before
    with database.reads.begin() as connection:
        assert due(connection, QUARTER + 2, (-1, -1)) == []


def test_late_events_are_counted_too(database: Database, town: Town) -> None:
    measured = Measured(town, town.microgrids["r001"], 1)
    Writer(database).commit([measured.append(events=False)])
    run(database)
    assert found(database) is None
    Writer(database).commit([append(events=measured.events, received=SOON + 600)])
    run(database, SOON + 900)
    for quarter in (QUARTER, QUARTER + 1):
        row = found(database, quarter=quarter)
        assert row is not None
        assert row["shared"] > 0


def test_readings_that_are_joined_while_a_quarter_is_computed_are_not_forgotten(
    database: Database, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(town, town.microgrids["r001"], 1)
    late = next(meter for meter, kind in measured.truth if kind == "received")
    Writer(database).commit([measured.append(of=lambda meter: meter != late)])
    computed = sharing._computed
    deadline = (QUARTER + 1) * QUARTER_S + DEADLINE_S

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        result = computed(*arguments)
        Writer(database).commit([measured.append(events=False)])
        compact(database, deadline)
        return result

    monkeypatch.setattr(sharing, "_computed", meanwhile)
    run(database, deadline)
    run(database, deadline + 300)
    row = found(database)
    assert row is not None
    assert (row["version"], row["complete"]) == (2, True)


def test_slots_with_the_command_are_those_from_its_begin_to_its_end() -> None:
    def event(at: int, *, on: bool) -> tuple[int, EventRecord]:
        states = (State.INITIALIZED, State.INITIALIZED | State.SHARING)
        record = EventRecord(
            previous_state=states[not on], new_state=states[on], record_id=at, meter_id=1, time=QUARTER * QUARTER_S + at
        )
        return 1, record

    def slots(*events: tuple[int, EventRecord]) -> list[int]:
        return np.flatnonzero(sharing_slots(events, QUARTER)).tolist()

    assert slots() == []
    assert slots(event(-100, on=True)) == list(range(60))
    assert slots(event(-100, on=True), event(0, on=False)) == []
    assert slots(event(20, on=True), event(50, on=False)) == [1, 2, 3]
    assert slots(event(31, on=True), event(44, on=False)) == [2]
    assert slots(event(890, on=True), event(2000, on=False)) == [59]


def test_people_and_programs_see_who_gave_and_received(database: Database, town: Town) -> None:
    measured = Measured(town, town.microgrids["r001"], 1)
    Writer(database).commit([measured.append()])
    run(database)
    clock = Clock(origin=SOON, monotonic_origin=0, speed=0)
    api = Api(database, clock, UtilityMetrics(), lambda: True, lambda: "", {}, Health(None))

    async def asked(query: str) -> httpx.Response:
        app = make_app(api)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=local_headers(app)
        ) as client:
            return await client.get(f"/sharing?{query}")

    begin = QUARTER * QUARTER_S
    rows = asyncio.run(asked(f"start={begin}&end={begin + 1800}&microgrid=r001")).json()["sharing"]
    assert [row["start"] for row in rows] == [begin + 900, begin]
    assert rows[1] == found(database)
    assert asyncio.run(asked(f"start={begin}&end={begin}")).status_code == 422
    assert asyncio.run(asked(f"start={begin}&end={begin + 900}&microgrid=r9")).status_code == 404


def test_a_town_registered_without_sharing_has_none(database: Database, town: Town) -> None:
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    run(database)
    assert found(database) is None
    assert RecordType.STORED in {kind for m in town.meters for kind in m.record_types}
