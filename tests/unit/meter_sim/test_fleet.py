"""A fleet without connections: slots on the clock, restarts, failures, a store that can't be written."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from commonwatt.config.meters import MetersSettings
from commonwatt.device import shell as shell_module
from commonwatt.device.changes import Delete, MeterChange
from commonwatt.device.records import Tally
from commonwatt.device.store import DeviceStore, open_store, reading_store
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import EventRecord, Log, State, unpack_history
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Kind
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.surroundings.fleet import true_energy
from meter_sim.fleet import Fleet
from meter_sim.fleet_clock import FleetClock
from meter_sim.meters import MicrogridMeters, _can_wait
from meter_sim.store import TRUTH, Slot, true_events, true_records
from meter_sim.world import MAX_CATCH_UP_S

T = 1_790_000_100
TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
houses = 2

[[meter]]
microgrid = "r"
id = 77
"""


@dataclass
class ManualClock(Clock):
    """A clock whose time the test sets."""

    origin: float = 0
    monotonic_origin: float = 0
    time: list[float] = field(default_factory=lambda: [T + 2.0])

    def now(self) -> float:
        return self.time[0]


class Bench:
    """A fleet on files of its own; each start is a new process as far as memory goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "town.toml").write_text(TOWN)
        self.town = load_town(path / "town.toml")
        self.clock = ManualClock()
        self.failures_per_day = 0.0
        self.store: DeviceStore | None = None

    def start(self, **tokens: str) -> None:
        self.stop()
        self.store = open_store(self.path / "meters.db", TRUTH)
        microgrid = self.town.microgrids["r"]

        def open_meters(_: str, clock: FleetClock, tally: Tally) -> MicrogridMeters:
            assert self.store is not None
            return MicrogridMeters(
                settings=MetersSettings(microgrid="r", failures_per_day=self.failures_per_day),
                microgrid=microgrid,
                seed=1,
                tokens=tokens or {str(meter.id): "token" for meter in microgrid.meters if meter.id != 77},
                secrets={str(meter.id): "secret" for meter in microgrid.meters},
                clock=clock,
                store=self.store,
                tally=tally,
            )

        self.fleet = Fleet(town=self.town, microgrids=("r",), open_meters=open_meters, clock=self.clock)
        self.meters = self.fleet.members["r"]
        asyncio.run(self.fleet.start(asyncio.Event()))
        asyncio.run(self.meters.boot())

    def stop(self) -> None:
        if self.store is not None:
            self.store.close()

    def at(self, now: float, turns: int = 1) -> None:
        """Let the worker take its turns at a time."""
        self.clock.time[0] = now
        for _ in range(turns):
            self.fleet.pass_slot()
            asyncio.run(self.meters._shell.perform(self.meters.turn(now)))

    def slots(self) -> list[int]:
        """Return the ends of the slots measured, checking that each was by the meters that are up."""
        with reading_store(self.path / "meters.db") as reader:
            found = list(true_records(reader))
        for end, data in found:
            assert {unpack_history(data[at : at + 36]).end for at in range(0, len(data), 36)} == {end}
        return [end for end, _ in found]

    def events(self, meter: int) -> list[EventRecord]:
        with reading_store(self.path / "meters.db") as reader:
            return [event for _, event in true_events(reader) if event.meter_id == meter]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        yield bench
    finally:
        bench.stop()


def test_a_fleet_measures_every_slot_at_its_end(bench: Bench) -> None:
    bench.start()
    bench.at(T + 14.9)
    assert bench.slots() == []
    bench.at(T + 15.0)
    bench.at(T + 16.0)
    assert bench.slots() == [T + 15]
    assert 77 not in bench.meters.meters
    assert bench.meters.figures().made == 2 * 4 + 2  # two houses of four records, two boundary meters of one


def test_a_battery_below_its_minimum_is_told_at_the_end_of_the_slot_without_a_request(bench: Bench) -> None:
    bench.start()
    told = []
    for now in (T + 15, T + 30):
        bench.clock.time[0] = now
        bench.fleet.pass_slot()
        effects = bench.meters.turn(now)
        told.append([e.topic for e in effects if isinstance(e, Publish) and e.topic.endswith(topics.LEVELS)])
    low = [
        topics.meter_up("r", meter, topics.LEVELS)
        for meter, core in bench.meters.meters.items()
        if (battery := core.description.battery) is not None and core.state.level is not None
        if core.state.level * 100 < battery.capacity * battery.minimum_percent
    ]
    assert low  # one home begins near 25 %
    assert told == [low, []]


def test_a_fleet_keeps_what_flowed_in_every_slot_that_it_measured(bench: Bench) -> None:
    bench.start()
    bench.at(T + 30.0, turns=2)
    bench.clock.time[0] = T + 1000.0
    bench.start()
    bench.at(T + 1005.0)
    with reading_store(bench.path / "meters.db") as reader:
        energies = dict(true_energy(reader))
    assert list(energies) == bench.slots() == [T + 15, T + 30, T + 1005]
    for energy in energies.values():
        assert len(energy["served"]) == 2
        assert "short" not in energy


def test_a_store_of_an_earlier_release_gets_the_table_of_energy(bench: Bench) -> None:
    bench.start()
    assert bench.store is not None
    bench.store.connection.execute("DROP TABLE truth_energy")
    bench.start()
    bench.at(T + 15.0)
    with reading_store(bench.path / "meters.db") as reader:
        assert [end for end, _ in true_energy(reader)] == [T + 15]


def test_a_fleet_that_is_late_makes_every_slot_in_order(bench: Bench) -> None:
    bench.start()
    bench.at(T + 62.0, turns=5)
    assert bench.slots() == [T + 15, T + 30, T + 45, T + 60]
    bench.at(T + 200.0)
    assert bench.meters.figures().lag_s == pytest.approx(200 - 75 - 15)


def test_no_slot_ends_after_the_meters_stop(bench: Bench) -> None:
    bench.clock = ManualClock(meters_stop_at=T + 40)
    bench.start()
    bench.at(T + 100.0, turns=9)
    assert bench.slots() == [T + 15, T + 30]
    assert bench.meters.figures().lag_s == 0.0


def test_time_without_the_fleet_is_not_measured_and_its_events_say_so(bench: Bench) -> None:
    bench.start()
    bench.at(T + 15.0)
    level = dict(bench.fleet._world.levels["r"])
    bench.clock.time[0] = T + 1000.0
    bench.start()
    bench.at(T + 1005.0)
    assert bench.slots() == [T + 15, T + 1005]
    assert bench.fleet._world.levels["r"] != level
    up = State.INITIALIZED
    assert [(e.previous_state, e.new_state, e.time) for e in bench.events(10_001)] == [
        (0, up, T + 2),
        (up, 0, T + 15),
        (0, up, T + 1000),
    ]


def test_a_restart_within_a_slot_misses_nothing_and_says_nothing(bench: Bench) -> None:
    bench.start()
    bench.at(T + 15.0)
    bench.clock.time[0] = T + 29.0
    bench.start()
    bench.at(T + 30.0)
    assert bench.slots() == [T + 15, T + 30]
    assert len(bench.events(10_001)) == 1
    assert bench.meters.meters[10_001].history.first_id == 1


def test_a_meter_that_fails_measures_nothing_until_it_is_back(bench: Bench) -> None:
    bench.failures_per_day = 1000.0
    bench.start()
    first = min(bench.meters._failing._heap)
    meter = first[1]
    slots = 0
    while not bench.meters.tally["failure", "recovered"]:
        slots += 1
        bench.at(T + 15.0 * slots)
        down = meter in bench.meters._down
    assert not down
    assert first[0] <= T + 15 * slots <= first[0] + 45
    history = [e.new_state for e in bench.events(meter)]
    assert history == [State.INITIALIZED, 0, State.INITIALIZED]
    assert bench.meters.meters[meter].state.generation == T + 2


def test_nothing_is_published_while_the_store_cannot_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    monkeypatch.setattr(shell_module, "COMMIT_RETRY_S", 0.0)
    assert bench.store is not None
    commit, failures = bench.store.commit, [sqlite3.OperationalError("database or disk is full")] * 3

    def failing(changes: list[MeterChange]) -> None:
        if failures:
            tried.append(bench.meters.figures().dropped)
            raise failures.pop()
        commit(changes)

    monkeypatch.setattr(bench.store, "commit", failing)
    tried: list[int] = []
    bench.at(T + 75.0)
    assert tried == [0, 0, 0]
    assert bench.meters.tally["commit", "failed"] == 3
    assert bench.slots() == [T + 15]
    assert bench.meters.figures().dropped > 0  # tried to publish, without a connection
    bench.meters._shell._stop.set()
    failures.append(sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(StoreError, match="disk is full"):
        bench.at(T + 76.0)


def test_a_meter_without_a_token_is_told_before_anything_runs(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="meter 10001 has no token"):
        bench.start(other="x")


def test_a_switch_that_is_open_at_a_restart_remembers_which_command_opened_it(bench: Bench) -> None:
    bench.start()
    isolate = {"v": 1, "id": "a", "cmd": "isolate", "issuer": "r", "epoch": [2, 1], "seq": 7, "until": T + 20}
    (boundary,) = [m for m in bench.meters.meters.values() if Kind.IMPORT_LIMIT in m.description.commandable]
    asyncio.run(bench.meters._shell.perform(boundary.receive(topics.COMMANDS, json.dumps(isolate).encode(), T + 2)))
    bench.at(T + 47.0, turns=5)
    assert bench.meters._switch.kept == (True, ((2, 1), 7))
    bench.start()
    assert bench.meters._switch.kept == (True, ((2, 1), 7))


def told(bench: Bench, offset_s: int) -> None:
    """The gateway has sent every meter the time."""
    for meter in bench.meters.meters.values():
        meter._set(offset_s=offset_s, trust=3)


def test_a_place_that_is_cold_at_a_restart_stays_so_for_the_rest_of_its_time(bench: Bench) -> None:
    bench.start()
    bench.fleet._world.cold = {"r": {"house 1": -600}}
    bench.at(T + 15.1, turns=2)
    assert bench.fleet._world.cold == {"r": {"house 1": 600}}
    bench.clock.time[0] = T + 15 * 5 + 2
    bench.start()
    assert bench.fleet._world.cold == {"r": {"house 1": 600 - 15 * 4}}


def test_a_fleet_an_hour_behind_goes_on_at_once_and_leaves_no_slot_out(bench: Bench) -> None:
    bench.start()
    bench.at(T + 15.0)
    bench.stop()
    bench.clock.time[0] = T + 20.0 - 3600
    bench.start()
    bench.at(T + 30.0 - 3600)
    assert bench.slots() == [T + 15]
    told(bench, 3600)
    bench.at(T + 62.0 - 3600, turns=9)
    assert bench.slots() == [T + 15, T + 30, T + 45, T + 60]
    assert bench.meters.figures().time == T + 62


def test_a_fleet_an_hour_ahead_goes_back_and_records_each_slot_once(bench: Bench) -> None:
    bench.start()
    bench.at(T + 15.0)
    bench.stop()
    bench.clock.time[0] = T + 20.0 + 3600
    bench.start()
    bench.at(T + 30.0 + 3600)
    told(bench, -3600)
    bench.at(T + 45.0 + 3600, turns=3)
    assert bench.slots() == [T + 15, T + 3630]
    bench.at(T + 3700.0 + 3600, turns=300)
    # What was measured before it knew better stands under the time it was taken for, and is not measured again then.
    assert bench.slots() == [T + 15, *range(T + 60, T + 3700, 15)]


def test_a_fleet_whose_store_is_ahead_goes_back_once_it_is_told_the_time(bench: Bench) -> None:
    bench.clock.time[0] = T + 2.0 + 86_400
    bench.start()
    bench.at(T + 15.0 + 86_400)
    bench.clock.time[0] = T + 2.0
    bench.start()
    bench.at(T + 20.0)
    assert bench.slots() == [T + 86_415], "the store may be right, and the clock behind"
    told(bench, 0)
    bench.at(T + 31.0)
    bench.at(T + 46.0, turns=2)
    assert bench.slots() == [T + 45, T + 86_415]


def test_a_fleet_keeps_a_corrected_clock_while_no_meter_knows_the_time(bench: Bench) -> None:
    bench.start()
    told(bench, 3600)
    bench.at(T + 15.0)
    assert bench.meters.figures().time == T + 3615
    for meter in bench.meters.meters.values():
        meter._set(offset_s=0, trust=0)
    bench.at(T + 16.0, turns=300)
    assert bench.meters.figures().time == T + 3616


def test_a_fleet_whose_new_store_began_in_1970_does_not_measure_the_years_since(bench: Bench) -> None:
    bench.clock.time[0] = 100.0
    bench.start()
    bench.at(106.0)
    told(bench, T)
    bench.at(107.0)
    assert bench.slots()[-1] == (T + 107) // 15 * 15 - MAX_CATCH_UP_S + 15


@pytest.mark.parametrize(("behind_s", "slot_s"), [(30, 13.5), (-30, 16.5)])
def test_a_fleet_that_is_wrong_by_less_than_a_minute_has_shorter_or_longer_slots_for_a_while(
    bench: Bench, behind_s: int, slot_s: float
) -> None:
    bench.start()
    bench.at(T + 15.0)
    told(bench, behind_s)
    ends: list[float] = []
    for tenth in range(150, 800):
        slot = bench.fleet._world.slot_end
        bench.at(T + tenth / 10)
        if bench.fleet._world.slot_end > slot:
            ends.append(tenth / 10)
    # The first of them still had its length.
    assert [round(b - a, 1) for a, b in pairwise(ends)] == [slot_s] * (len(ends) - 1)
    assert len(ends) >= 3
    assert bench.slots() == [T + 15 * (n + 1) for n in range(len(ends) + 1)]


def test_only_the_end_of_a_delivery_waits_for_the_next_commit() -> None:
    deleted = Write(Delete(meter=10001, log=Log.HISTORY, last_id=7))
    assert _can_wait([])
    assert _can_wait([deleted]), "the gateway has it, and a put that is sent again changes nothing"
    assert not _can_wait([deleted, Publish("cw1/r001/10001/u/rec", b"")]), "a message says what is durable"
    assert not _can_wait([deleted, Write(Slot(T, {}))])
