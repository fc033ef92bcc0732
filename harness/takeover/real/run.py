"""A run of the bench: a town, a fault, its end, and what was seen."""

import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from commonwatt.cliques.signs import BEAT_S
from commonwatt.protocol.topics import UTILITY
from harness.network.waiting import eventually
from harness.real.site import audited
from harness.takeover.real.faults import PAUSE_S, Fault
from harness.takeover.real.measures import (
    Times,
    granted_twice,
    handovers,
    managers,
    old_commands,
    refused,
    times,
    together_s,
)
from harness.takeover.real.town import NAMES, Town
from harness.takeover.real.watched import Commanded

ALL_METERS_S = 180.0  # seconds after the first meter within which the last one obeys the new manager
HOME_S = 150.0  # seconds within which all is as before the fault
TOGETHER_S = 15.0  # most seconds in which meters obey two
HANDOVERS = 3  # most handovers of a microgrid after a fault
_WRONG = ("conflicting", "unmade", "difference", "beyond_bound")  # what an audit counts besides what is missing
STEADY_S = 10.0  # seconds of calm at the end, in which nobody is refused


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one fault."""

    fault: Fault  # the fault
    times: Times  # when the microgrid's meters obeyed the new manager; with the old one, when they obeyed it again
    managers: tuple[str, ...]  # whom they obeyed, in turn
    old: tuple[int, int]  # old commands that came to meters, and those obeyed
    together_s: float  # seconds in which meters obeyed two
    home_s: float | None  # seconds from the mending until all were home; ``None``: not looked at
    broken: list[str]  # what did not hold


def run(folder: Path, fault: Fault, seed: int, *, home: bool) -> Seen:
    """Let a fault happen in a new town, at a random moment between two beats.

    Args:
        folder: The town's folder; made.
        fault: The fault.
        seed: Of the moment.
        home: Whether it is mended, and the return is waited for.
    """
    with closing(Town(folder)) as town:
        fault.prepared(town)
        town.start_all(utility=fault.utility)
        town.settle(utility=fault.utility)
        fault.before(town)
        time.sleep(Random(seed).random() * BEAT_S)
        return look(town, fault, home=home)


def look(town: Town, fault: Fault, *, home: bool, all_meters: bool = True) -> Seen:
    """Let a fault happen in a town that runs.

    Args:
        town: The town.
        fault: The fault.
        home: Whether it is mended, and the return is waited for.
        all_meters: Whether the last meter is waited for; otherwise the first one with a battery.
    """
    lost = time.monotonic()
    fault.happens(town)
    broken: list[str] = []
    # Without a new manager meters that need nothing get no commands for long.
    all_meters = all_meters and fault.moves and any(fault.managers.values())
    found = {grid: _taken(town, grid, fault, lost, broken, all_meters) for grid in fault.managers or {"r001"}}
    home_s = _come_home(town, fault, lost, broken) if home else None
    commanded = town.commanded()
    old = old_commands(commanded)
    # Boundary meters have their controller alone: an older release that was replaced commands them on.
    inside = set(town.meters())
    double_s = together_s([one for one in commanded if one.meter in inside])
    broken += _handed_over(town.commanded(lost), fault)
    broken += [f"I-a: {old[1]} old commands were obeyed"] if old[1] else []
    broken += [f"I-b: {words}" for words in granted_twice(commanded)]
    broken += [f"I-c: two were obeyed for {double_s:.1f} s"] if double_s > TOGETHER_S + fault.away_s else []
    broken += [f"{part} ended by itself" for part in town.died()]
    return Seen(
        fault=fault,
        times=next(iter(found.values())),
        managers=managers(commanded, next(iter(found))),
        old=old,
        together_s=double_s,
        home_s=home_s,
        broken=broken,
    )


def _taken(town: Town, grid: str, fault: Fault, lost: float, broken: list[str], all_meters: bool) -> Times:
    """Return when the meters of a microgrid obeyed its manager after the fault."""
    by = fault.managers.get(grid)
    meters = town.meters(grid)
    batteries = {meter.id for meter in town.town.microgrids[grid].meters if meter.battery is not None}

    def found() -> Times:
        return times(town.commanded(lost), lost, by, meters, batteries)

    try:
        eventually(
            lambda: (found().last_s if all_meters else found().battery_s) < math.inf, fault.within_s + ALL_METERS_S
        )
    except AssertionError:
        broken.append(f"I-d: not enough meters of {grid} obey {by or 'any'}")
    if found().first_s > fault.within_s:
        broken.append(f"I-d: the first meter of {grid} obeys {by or 'any'} after {found().first_s:.1f} s")
    return found()


def _handed_over(commanded: list[Commanded], fault: Fault) -> list[str]:
    """Return which microgrids others than expected managed, and which came and went."""
    broken = []
    for grid in NAMES:
        names, new = managers(commanded, grid), fault.managers.get(grid, grid)
        broken += [f"I-d: {grid} was managed by {names}"] if new is not None and set(names) - {grid, new} else []
        times = handovers(commanded, grid)
        broken += [f"I-d: {grid} was handed over {times} times"] if times > HANDOVERS else []
    return broken


def _come_home(town: Town, fault: Fault, lost: float, broken: list[str]) -> float:
    """Mend the fault, and return the seconds until each manages its own microgrid again."""
    time.sleep(max(0.0, lost + PAUSE_S - time.monotonic()))
    fault.mended(town)
    mended = time.monotonic()
    try:
        town.eventually_held_by({name: name for name in NAMES}, HOME_S)
    except AssertionError:
        broken.append(f"not home: {town.holders()}")
    home_s = time.monotonic() - mended
    calm = time.monotonic()
    time.sleep(STEADY_S)
    count = refused(town.commanded(), calm)
    broken += [f"I-e: {count} commands of the manager in force were refused"] if count else []
    if UTILITY in town.processes:
        audit = audited(town.folder)
        wrong = {name: audit.total(name) for name in _WRONG} | {"different events": audit.events_different}
        missing = {"missing": audit.total("missing"), "missing events": audit.events_missing}
        wrong |= {} if fault.loses else missing
        broken += [f"I-f: the audit finds {wrong}"] if any(wrong.values()) else []
    return home_s
