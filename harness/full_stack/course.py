"""What was seen of a scenario on real processes: islands, energy, the audit; as JSON and as tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from commonwatt.audit.comparison import Audit
from commonwatt.demo.view import Status
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.conditions import Conditions
from commonwatt.town.town import Town
from gateway.control.islanding import Phase
from meter_sim.truth import SlotEnergy

# Most seconds from a feeder's return to the end of an island: a stable voltage, then at most half an hour (C5).
RETURN_WITHIN_S = 300 + 1800
# Most seconds from a feeder's death until a gateway says that it is an island: a second of a fast clock.
ISLAND_WITHIN_S = 300
KWH = 10**6  # milliwatt-hours in a kilowatt-hour


@dataclass
class Island:
    """A microgrid's way through an outage of its feeder; town seconds, as seen once in a real second."""

    microgrid: MicrogridId  # the microgrid
    dead_s: int  # how long the feeder was dead
    # From the feeder's death until its gateway said that it is an island; ``None``: it never did.
    islanded_after_s: int | None = None
    # From the feeder's return until its gateway said that it is connected; ``None``: it never did.
    back_after_s: int | None = None
    # Whether its gateway was heard while the feeder was dead, later than ``ISLAND_WITHIN_S`` after its death.
    heard: bool = False


@dataclass
class Energy:
    """Energy of the microgrids of a kind, from the meters' truth logs; milliwatt-hours."""

    served: MilliwattHours = 0  # load that was met
    short: MilliwattHours = 0  # load that was not met
    shared: MilliwattHours = 0  # energy that batteries gave by sharing

    def add(self, slot: SlotEnergy) -> None:
        """Add what flowed in a slot."""
        self.served += sum(_values(slot, "served"))
        self.short += sum(_values(slot, "unserved"))
        self.shared += sum(moved for moved in _values(slot, "shared") if moved > 0)


def _values(slot: SlotEnergy, name: str) -> list[MilliwattHours]:
    values = slot.get(name, [])
    return list(values.values()) if isinstance(values, dict) else values


@dataclass
class Course:
    """What was seen of a run."""

    islands: list[Island] = field(default_factory=list)  # one for each feeder that died
    # Microgrids that were seen islanded while their feeder was alive, after the time to return.
    strays: set[MicrogridId] = field(default_factory=set)
    energy: dict[str, Energy] = field(default_factory=dict)  # by kind of microgrid
    audit: Audit = field(default_factory=Audit)  # the comparison of what was made with what is stored
    drained: bool = False  # whether all data reached the utility in time

    @property
    def good(self) -> bool:
        """Whether nothing was lost or counted twice, and islands were where feeders died, and returned in time."""
        formed = all(one.islanded_after_s is not None or not one.heard for one in self.islands)
        returned = all(one.back_after_s is not None and one.back_after_s <= RETURN_WITHIN_S for one in self.islands)
        return self.audit.good and self.drained and formed and returned and not self.strays


class Watcher:
    """Follows the phases of the microgrids through the outages of their feeders."""

    def __init__(self, town: Town, conditions: Conditions) -> None:
        self._feeders = list(_feeders(town, conditions))
        # What was seen so far.
        self.course = Course(islands=[Island(name, end - begin) for name, begin, end in self._feeders])

    def look(self, seen: Mapping[str, Status]) -> None:
        """Take the last status of each part."""
        for part, status in seen.items():
            name, _, kind = part.rpartition(" ")
            if kind == "gateway":
                self._look(name, int(status["time"]), status["modes"]["phase"])

    def _look(self, name: MicrogridId, now: EpochSeconds, phase: str | None) -> None:
        excused = False
        for island, (microgrid, begin, end) in zip(self.course.islands, self._feeders, strict=True):
            if microgrid != name or now < begin:
                continue
            excused = excused or now < end + RETURN_WITHIN_S
            island.heard = island.heard or begin + ISLAND_WITHIN_S < now < end
            if now < end and phase == Phase.ISLANDED and island.islanded_after_s is None:
                island.islanded_after_s = now - begin
            if now >= end and phase == Phase.CONNECTED and island.back_after_s is None:
                island.back_after_s = now - end
        if phase == Phase.ISLANDED and not excused:
            self.course.strays.add(name)


def _feeders(town: Town, conditions: Conditions) -> Iterator[tuple[MicrogridId, EpochSeconds, EpochSeconds]]:
    """Yield (microgrid, begin, end) of each outage of a feeder."""
    residential = [name for name, grid in town.microgrids.items() if grid.kind == "residential"]
    for outage in conditions.scenario.outage:
        if outage.what == "feeder":
            begin = conditions.begin + int(outage.from_hour * 3600)
            out = conditions.out("feeder", begin, len(residential))
            end = begin + int(outage.for_hours * 3600)
            met = [name for name, dead in zip(residential, out, strict=True) if dead]
            yield from ((name, begin, end) for name in ([outage.microgrid] if outage.microgrid else met))


def as_json(title: str, course: Course, facts: Mapping[str, object]) -> str:
    """Return what was seen as JSON; energies in milliwatt-hours, times in town seconds."""
    audit = course.audit
    content = {
        "scenario": title,
        **facts,
        "good": course.good,
        "audit": {name: audit.total(name) for name in ("made", "missing", "conflicting", "unmade", "difference")},
        "drained": course.drained,
        "islands": [asdict(island) for island in course.islands],
        "strays": sorted(course.strays),
        "energy": {kind: asdict(energy) for kind, energy in course.energy.items()},
    }
    return json.dumps(content, indent=1) + "\n"


def tables(course: Course) -> dict[str, list[dict[str, object]]]:
    """Return the tables for people, by title."""
    islands: list[dict[str, object]] = [
        {
            "microgrid": island.microgrid,
            "feeder dead": f"{island.dead_s / 3600:g} h",
            "an island after": _minutes(island.islanded_after_s),
            "back after": _minutes(island.back_after_s),
        }
        for island in course.islands
    ]
    energy: list[dict[str, object]] = [
        {
            "microgrids": kind,
            "used kWh": f"{one.served / KWH:,.1f}",
            "went short kWh": f"{one.short / KWH:,.1f}",
            "shared kWh": f"{one.shared / KWH:,.1f}",
        }
        for kind, one in course.energy.items()
    ]
    return {"islands": islands, "energy": energy}


def _minutes(seconds: int | None) -> str:
    return "never" if seconds is None else f"{seconds / 60:.1f} min"
