"""A scenario on real processes: a small town's meters, brokers, gateways and utility on a scaled clock (N3).

The meters' process plays the weather, the demand, the feeders and the regional grid. What is played here is dead
processes: the head-end without the utility's broadband, a broker and a gateway without their controller.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from commonwatt.audit.folder import audit_folder
from commonwatt.demo.layout import BUILT_IN_TOWN, CLOCK_FILE, Layout, prepare
from commonwatt.demo.running import CONTROLLER, Run
from commonwatt.device.store import reading_store
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.town.conditions import Conditions
from commonwatt.town.loading import load_town
from commonwatt.town.scenario import Outage, Scenario, Shortage
from commonwatt.town.town import Town
from harness.full_stack.course import Course, Energy, Watcher
from harness.truth import true_energy
from meter_sim.faults import Faults, path_of, save

BEFORE_H, AFTER_H = 0.5, 1  # hours that are played before the first fault of a scenario and after the last one


def window(conditions: Conditions, days: int | None) -> tuple[EpochSeconds, EpochSeconds]:
    """Return when a run begins and ends: around the scenario's faults, or its first day, or the given days."""
    begin = conditions.begin
    faults: list[Outage | Shortage] = [*conditions.scenario.outage, *conditions.scenario.supply]
    if days is not None or not faults:
        return begin, conditions.end(days or 1)
    first = min(fault.from_hour for fault in faults) - BEFORE_H
    last = max(fault.from_hour + fault.for_hours for fault in faults) + AFTER_H
    return begin + int(max(0.0, first) * 3600), begin + int(last * 3600)


def ready(
    data: Path, town: Path | None, scenario: Scenario, speed: float, days: int | None
) -> tuple[Layout, Conditions]:
    """Prepare a town's folder for a scenario; the demonstration's town, if no file is given.

    Raises:
        ConfigError: The folder holds another run.
    """
    if (data / CLOCK_FILE).exists():
        raise ConfigError(f"{data}: holds a run already; choose another --data, or delete it")
    table = load_town(town or BUILT_IN_TOWN).table
    conditions = Conditions(scenario=scenario, zone=ZoneInfo(table.timezone), seed=table.seed)
    begin, end = window(conditions, days)
    layout = prepare(data, town, speed, (end - begin) / speed, starts_at=begin)
    save(path_of(layout.part("meters").config), Faults(scenario=scenario))
    return layout, conditions


def play(layout: Layout, conditions: Conditions, stop: threading.Event, tell: Callable[[float], None]) -> Course:
    """Play a scenario on the processes of a prepared town, and compare what was made with what is stored.

    Args:
        stop: Ends it early.
        tell: Takes the part that is done, 0 to 1.
    """
    run = Run(layout, stop)
    watcher = Watcher(layout.town, conditions)
    begin, end = layout.clock.origin, layout.clock.meters_stop_at
    assert end is not None

    def looked() -> None:
        now = run.layout.clock.now()
        run.dead = dead_parts(layout.town, conditions, int(now))
        watcher.look(run.observer.seen)
        tell(min(1.0, (now - begin) / (end - begin)))

    course = watcher.course
    try:
        run.begin()
        course.drained = run.watch(time.monotonic() + (end - begin) / layout.clock.speed, looked)
    finally:
        run.close()
    course.energy = energies(layout)
    course.audit = audit_folder(layout.data)
    return course


def dead_parts(town: Town, conditions: Conditions, now: EpochSeconds) -> set[str]:
    """Return the processes that a scenario keeps dead at a time."""
    residential = [name for name, grid in town.microgrids.items() if grid.kind == "residential"]
    out = conditions.out("controller", now, len(residential))
    dead = {f"{name} {kind}" for name, is_out in zip(residential, out, strict=True) if is_out for kind in CONTROLLER}
    return dead | ({"head-end"} if conditions.is_out("broadband", now) else set())


def energies(layout: Layout) -> dict[str, Energy]:
    """Return the energy by kind of microgrid, from the meters' truth logs."""
    sums: dict[str, Energy] = {}
    for name, grid in layout.town.microgrids.items():
        energy = sums.setdefault(grid.kind, Energy())
        with reading_store(layout.data / name / "meters.db") as store:
            for _, slot in true_energy(store):
                energy.add(slot)
    return sums
