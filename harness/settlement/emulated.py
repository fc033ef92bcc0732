"""A town of the emulator under a scenario: what its meters read, and what really flowed, slot by slot."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.places import Places, places_of
from commonwatt.energy.step import Boundary, StepFlows
from commonwatt.model.blocks import Keys
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MeterId, MicrogridId, Quarter
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import Conditions, Scenario, load
from commonwatt.town.town import Direction, Function, Microgrid, Town, TownFile
from scenarios.simulation import emulated
from utility.energy.quarters import Corrected, SettledQuality
from utility.registry.accounts import Installed
from utility.registry.layout import Layout, layout_of
from utility.supply.simulated import POLICIES

Array = NDArray[np.int64]
THROUGH, GENERATION, STORED = RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED

SMALL: Mapping[str, Any] = {
    "microgrid": [
        {"id": "r", "kind": "residential", "count": 3, "houses": 5},
        {"id": "apt", "kind": "apartment", "buildings": 2, "apartments": 4},
        {"id": "pub", "kind": "public"},
    ]
}
"""A town with one microgrid of each kind, and three of houses."""


def small_town(loss_permille: int = 0, **more: Any) -> Town:
    """The small town."""
    file = {**SMALL, "town": {"charging_loss_permille": loss_permille, **more}}
    return town_of(TownFile.model_validate(file), Path("town.toml"))


def installed_of(microgrid: Microgrid) -> list[Installed]:
    """The meters of a microgrid as the dated registry has them."""
    buildings = {meter.location for meter in microgrid.meters if meter.function is Function.BUILDING}
    return [
        Installed(
            id=meter.id,
            microgrid=microgrid.id,
            place=meter.location,
            building=next((b for b in buildings if meter.location.startswith(f"{b} ")), None),
            function=meter.function,
            direction=meter.direction,
            capacity=meter.battery.capacity if meter.battery is not None else None,
        )
        for meter in microgrid.meters
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Flowed:
    """What flowed in a microgrid, (slots): out of its places, into them, from the town and to it."""

    sent: Array
    taken: Array
    imported: Array
    exported: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EmulatedQuarter:
    """A quarter-hour: readings, the truth by microgrid, and by meter in which slots it had the command to share."""

    quarter: Quarter
    readings: Corrected
    truth: Mapping[MicrogridId, Flowed]
    sharing: Mapping[MeterId, NDArray[np.bool_]]
    steps: list[list[StepFlows]]
    boundaries: list[list[Boundary]]  # by step and layout
    names: list[tuple[MicrogridId, ...]]  # the microgrids of each layout


class EmulatedTown:
    """A town of the emulator under a scenario, at 15 s; the energy of longer steps is spread over their slots."""

    def __init__(
        self,
        town: Town,
        scenario: str | Scenario,
        *,
        resolution: int = 100,
        tampered: Mapping[MeterId, float] | None = None,
        step_s: int = SLOT_S,
    ) -> None:
        it = scenario if isinstance(scenario, Scenario) else load(scenario)
        conditions = Conditions(scenario=it, zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
        self.town, self.begin, self.days = town, conditions.begin, it.days
        self._simulation = emulated(town, conditions, POLICIES["spec"], step_s)
        self._step_s = step_s
        self._layouts = [_Meters(town, grids.places) for grids in self._simulation.grids]
        self._resolution, self._tampered = resolution, tampered or {}
        self._rest: Array | None = None
        self._levels: Array | None = None  # the levels at the end of the last step, where steps are longer than slots

    def go_on_from(self, other: "EmulatedTown") -> None:
        """Begin with the levels at which another emulation of the same town is."""
        for ours, theirs in zip(self._simulation.grids, other._simulation.grids, strict=True):
            ours.level, ours.is_open, ours.stable_since = theirs.level, theirs.is_open, theirs.stable_since
            ours.cold_s, ours.delay_s = theirs.cold_s, theirs.delay_s
        self._simulation.plant_level = other._simulation.plant_level

    def layouts(self, day: int) -> list[Layout]:
        return [layout_of(name, installed_of(one), day) for name, one in self.town.microgrids.items()]

    def quarters(self, first: Quarter, start_hour: int = 0) -> Iterator[EmulatedQuarter]:
        """Step the town by a quarter-hour each time, from the scenario's hour on; the first is called ``first``."""
        for number in count():
            yield self._quarter(self.begin + start_hour * 3600 + number * QUARTER_S, first + number)

    def _quarter(self, time: int, quarter: Quarter) -> EmulatedQuarter:
        flows: list[list[StepFlows]] = [[] for _ in self._layouts]
        passed: list[list[tuple[Array, Array]]] = [[] for _ in self._layouts]
        shares: list[list[NDArray[np.bool_]]] = [[] for _ in self._layouts]
        boundaries: list[list[Boundary]] = []
        for begin in range(time, time + QUARTER_S, self._step_s):
            steps = self._simulation.step(begin)
            boundaries.append(self._simulation.boundaries)
            for n, step in enumerate(steps):
                flows[n].append(step.flows)
                passed[n].append((step.exchange.imported.copy(), step.exchange.exported.copy()))
                shares[n].append(self._simulation.grids[n].controllers.sharing.copy())
        parts = []
        truth: dict[MicrogridId, Flowed] = {}
        sharing: dict[MeterId, NDArray[np.bool_]] = {}
        for n, meters in enumerate(self._layouts):
            part, true = meters.read(flows[n], passed[n])
            parts.append(part)
            truth |= true
            sharing |= meters.by_outgoing(np.stack(shares[n], axis=2))
        meter, kind, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return EmulatedQuarter(
            quarter=quarter,
            readings=self._rounded(meter, kind, self._spread(kind, values)),
            truth=truth,
            sharing=sharing,
            steps=flows,
            boundaries=boundaries,
            names=[tuple(each._names) for each in self._layouts],
        )

    def _spread(self, kind: NDArray[np.uint8], values: Array) -> Array:
        """Spread steps evenly over their slots; levels change evenly from one step's end to the next one's."""
        slots = self._step_s // SLOT_S
        if slots == 1:
            return values
        is_level = (kind == STORED)[:, None]
        before = values[:, :1] if self._levels is None else self._levels
        self._levels = values[:, -1:].copy()
        begin = np.where(is_level, np.concatenate([before, values[:, :-1]], axis=1), 0)[:, :, None]
        whole = begin + (values[:, :, None] - begin) * np.arange(slots + 1) // slots
        found = np.where(is_level[:, :, None], whole[:, :, 1:], np.diff(whole, axis=2))
        return np.asarray(found.reshape(len(values), SLOTS))

    def _rounded(self, meter: NDArray[np.uint64], kind: NDArray[np.uint8], values: Array) -> Corrected:
        """Round as the meters do: flows with a carry, levels without."""
        flow = kind != STORED
        for id_, part in self._tampered.items():
            rows = (meter == id_) & flow
            values[rows] = (values[rows] * part).astype(np.int64)
        # The meters of a town are in the same order in every quarter.
        rest = np.zeros(len(meter), np.int64) if self._rest is None else self._rest
        total = values.cumsum(axis=1) + rest[:, None]
        whole = total // self._resolution * self._resolution
        self._rest = (total - whole)[:, -1]
        found = np.where(
            flow[:, None],
            np.diff(whole, axis=1, prepend=0),
            values // self._resolution * self._resolution,
        )
        quality = np.full(found.shape, SettledQuality.MEASURED, np.uint8)
        # Settlement asks for no quarter: it gets one after the other.
        keys = Keys(meter, kind, np.zeros(len(meter), np.uint32))
        return Corrected(keys=keys, values=found, quality=quality)


class _Meters:
    """The meters of the microgrids of one layout of the physics."""

    def __init__(self, town: Town, places: Places) -> None:
        self._names = places.microgrids
        rows = [places_of(town.microgrids[name]) for name in self._names]
        self._outgoing = [n for n, place in enumerate(rows[0]) if place.outgoing is not None]
        self._incoming = [n for n, place in enumerate(rows[0]) if place.incoming is not None]
        self._out_ids = np.array([[row[n].outgoing.id for n in self._outgoing] for row in rows], np.uint64)  # type: ignore[union-attr]
        self._in_ids = np.array([[row[n].incoming.id for n in self._incoming] for row in rows], np.uint64)  # type: ignore[union-attr]
        self._boundary = {
            direction: np.array(
                [
                    next(
                        meter.id
                        for meter in town.microgrids[name].meters
                        if meter.function is Function.BOUNDARY and meter.direction is direction
                    )
                    for name in self._names
                ],
                np.uint64,
            )
            for direction in Direction
        }

    def by_outgoing(self, values: NDArray[np.bool_]) -> dict[MeterId, NDArray[np.bool_]]:
        found = values[:, self._outgoing]
        return {int(i): found[row, n] for (row, n), i in np.ndenumerate(self._out_ids)}

    def read(
        self, flows: list[StepFlows], passed: list[tuple[Array, Array]]
    ) -> tuple[tuple[NDArray[np.uint64], NDArray[np.uint8], Array], dict[MicrogridId, Flowed]]:
        def of(which: Callable[[StepFlows], Array], columns: list[int]) -> Array:
            return np.stack([which(one)[:, columns] for one in flows], axis=2)

        sent = of(lambda f: f.surplus + f.pushed + f.given, self._outgoing)
        taken = of(lambda f: f.demand + f.received, self._incoming)
        everywhere = list(range(flows[0].level.shape[1]))
        received = of(lambda f: f.demand + f.received, everywhere)
        imported, exported = (np.stack(each, axis=1) for each in zip(*passed, strict=True))
        columns = [
            (self._out_ids.ravel(), THROUGH, sent),
            (self._out_ids.ravel(), GENERATION, of(lambda f: f.generation, self._outgoing)),
            (self._out_ids.ravel(), STORED, of(lambda f: f.level, self._outgoing)),
            (self._in_ids.ravel(), THROUGH, taken),
            (self._boundary[Direction.INCOMING], THROUGH, imported),
            (self._boundary[Direction.OUTGOING], THROUGH, exported),
        ]
        ids = np.concatenate([meter for meter, _, _ in columns])
        kinds = np.concatenate([np.full(len(meter), int(kind), np.uint8) for meter, kind, _ in columns])
        values = np.concatenate([each.reshape(-1, len(flows)) for _, _, each in columns])
        truth = {
            name: Flowed(
                sent=sent[row].sum(axis=0),
                taken=received[row].sum(axis=0),
                imported=imported[row],
                exported=exported[row],
            )
            for row, name in enumerate(self._names)
        }
        return (ids, kinds, values), truth


class Stream:
    """Gives ``settle_day`` its quarters in order, and keeps the last ones."""

    def __init__(self, quarters: Iterator[EmulatedQuarter]) -> None:
        self._quarters = quarters
        self.kept: deque[EmulatedQuarter] = deque(maxlen=97)

    def __call__(self, quarter: Quarter) -> Corrected:
        for one in self.kept:
            if one.quarter == quarter:
                return one.readings
        one = next(self._quarters)
        assert one.quarter == quarter
        self.kept.append(one)
        return one.readings
