"""What a run counts: energies, money, levels, and what the mechanisms of a policy decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from commonwatt.energy.places import Places
from commonwatt.energy.plant import PlantOrder, PlantStep
from commonwatt.energy.splits import Array, Flags
from commonwatt.energy.step import NO_LIMIT_W, Cause, Inputs, MicrogridsStep, StepFlows
from commonwatt.model.units import EpochSeconds, MilliwattHours

MECHANISMS = ("sharing", "reduction", "turns", "rationing", "purchases ahead", "use of the reserve")

# Of each mechanism, in how many steps it acted, and a checksum of its decisions with their times.
Decided = Mapping[str, Sequence[int]]
NOTHING: Decided = dict.fromkeys(MECHANISMS, (0, 0))  # no mechanism acted


def added(
    decided: Decided,
    time: EpochSeconds,
    inputs: Sequence[Inputs],
    limits: Sequence[Array],
    order: PlantOrder,
    level: int,
) -> Decided:
    """Return what was decided with one more step; the reserve is used if the plant's ``level`` ends at or below it."""
    decisions: tuple[Sequence[Array | Flags | None], ...] = (
        [given.weights for given in inputs],
        [given.reducing for given in inputs],
        [given.isolated for given in inputs],
        [np.where(limit_w < NO_LIMIT_W, limit_w + 1, 0) for limit_w in limits],
        [np.array([order.buy])],
        [np.array([order.keep if level <= order.keep else 0])],
    )
    steps_and_checks = {}
    for (name, (steps, check)), arrays in zip(decided.items(), decisions, strict=True):
        some = [(row, array) for row, array in enumerate(arrays) if array is not None and array.any()]
        made = b"".join(f"{time} {row} ".encode() + array.tobytes() for row, array in some)
        steps_and_checks[name] = steps + bool(some), crc32(made, check)
    return steps_and_checks


def equal_rows(rows: Sequence[Mapping[str, object]], decided: Mapping[str, Decided]) -> list[str]:
    """Return a sentence for each row (a policy's name, and its figures) that is equal to an earlier one: why it is."""
    first: dict[tuple[object, ...], str] = {}
    sentences = []
    for row in rows:
        name, *figures = row.values()
        other = first.setdefault(tuple(figures), str(name))
        if other != name:
            sentences.append(f"{name} is equal to {other}: {_reason(decided[str(name)], decided[other])}.")
    return sentences


def _reason(first: Decided, other: Decided) -> str:
    acted = [name for name in MECHANISMS if first[name][0] or other[name][0]]
    if differing := [name for name in acted if first[name] != other[name]]:
        steps = (f"{name} ({first[name][0]} steps, not {other[name][0]})" for name in differing)
        return f"different decisions on {', '.join(steps)} change less than the table shows"
    idle = ", ".join(name for name in MECHANISMS if name not in acted) or "none"
    return f"the same decisions in every step on {', '.join(acted) or 'nothing'}; never acted: {idle}"


class EnergyTally:
    """The energies of each place of one layout's microgrids over a run, milliwatt-hours, (M, P)."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._wanted, self._short = (np.zeros(places.shape, dtype=np.int64) for _ in range(2))

    def add(self, flows: StepFlows, load: Array) -> None:
        """Add a step with the ordinary ``load``."""
        self._wanted += load
        self._short += flows.unserved

    @property
    def members(self) -> int:
        """Number of places that wanted energy."""
        return int((self._wanted > 0).sum())

    @property
    def short_members(self) -> int:
        """Number of places that did not get all that they wanted."""
        return int((self._short > 0).sum())

    @property
    def by_minimum(self) -> dict[int, tuple[MilliwattHours, MilliwattHours]]:
        """What places wanted and what they did not get, by their batteries' sharing minimum in percent."""
        has = self.places.capacity > 0
        percent = np.where(has, self.places.minimum * 100 // np.maximum(self.places.capacity, 1), -1)
        return {
            int(minimum): (int(self._wanted[percent == minimum].sum()), int(self._short[percent == minimum].sum()))
            for minimum in np.unique(percent[has])
        }


KINDS = ("residential", "apartment", "public")


@dataclass(kw_only=True)
class KindSums:
    """The sums of one kind of microgrid, milliwatt-hours."""

    wanted: MilliwattHours = 0  # ordinary load of places, before any command to reduce
    cold: MilliwattHours = 0  # what places asked for beyond it after they had no energy
    reduced: MilliwattHours = 0  # the part of both that they did not use, by command
    served: MilliwattHours = 0  # load met
    unserved: Counter[str] = field(default_factory=Counter)  # load not met, by cause
    sun: MilliwattHours = 0  # sun used or exported
    curtailed: Counter[str] = field(default_factory=Counter)  # sun not used, by cause
    imported: MilliwattHours = 0  # energy taken from the town
    exported: MilliwattHours = 0  # energy given to the town
    shared: MilliwattHours = 0  # energy that batteries gave to other batteries
    lost: MilliwattHours = 0  # losses of charging
    level_begin: MilliwattHours = 0  # level of all batteries at the beginning
    level_end: MilliwattHours = 0  # the same at the end

    def add(self, step: MicrogridsStep, ordinary: Array, load: Array) -> None:
        """Add a step with the ``ordinary`` load, and the ``load`` that places asked for."""
        flows, exchange = step.flows, step.exchange
        self.wanted += int(ordinary.sum())
        self.cold += int((load - ordinary).sum())
        self.reduced += int((load - flows.served - flows.unserved).sum())
        self.served += int(flows.served.sum())
        for cause in Cause:
            self.unserved[cause.name.lower()] += int(exchange.short[cause].sum())
            self.curtailed[cause.name.lower()] += int(exchange.spilled[cause].sum())
        self.sun += int(flows.generation.sum())
        self.imported += int(exchange.imported.sum())
        self.exported += int(exchange.exported.sum())
        self.shared += int(flows.given.sum())
        self.lost += int(flows.lost.sum())
        self.level_end += int((flows.net - flows.lost).sum())


@dataclass(kw_only=True)
class HourSample:
    """The town at the end of an hour."""

    time: EpochSeconds  # the hour's end, UTC epoch seconds
    levels_percent: dict[str, float]  # mean level of the batteries, by kind of microgrid
    plant_percent: float  # level of the plant's battery
    bought: MilliwattHours  # energy bought in the hour, milliwatt-hours
    unserved: MilliwattHours  # load not met in the hour, milliwatt-hours
    islands: int  # microgrids that are off the grid
    price_percent: int  # the regional price


@dataclass(kw_only=True)
class RunFigures:
    """The figures of a run."""

    # The sums, by kind of microgrid.
    kinds: dict[str, KindSums] = field(default_factory=lambda: {kind: KindSums() for kind in KINDS})
    bought: MilliwattHours = 0  # energy bought from the region, milliwatt-hours
    bought_peak: MilliwattHours = 0  # the part of it in hours of a higher price
    cost: int = 0  # its cost, milliwatt-hours at the price outside peak hours
    sold: MilliwattHours = 0  # energy that the region took
    # The plant's battery: its losses, and its level at the beginning and the end.
    plant: dict[str, MilliwattHours] = field(default_factory=lambda: {"lost": 0, "level_begin": 0, "level_end": 0})
    decided: Decided = field(default_factory=lambda: NOTHING)  # what the mechanisms of the policy decided
    highest_w: int = 0  # most that all microgrids together wanted from the town in a step, watts
    switches: int = 0  # changes between sharing and not sharing, of all batteries
    samples: list[HourSample] = field(default_factory=list)  # the town at the end of each hour
    tallies: list[EnergyTally] = field(default_factory=list)  # the energies of each place, by layout of microgrids

    def add(
        self,
        blocks: list[Places],
        ordinary: list[Array],
        inputs: list[Inputs],
        steps: list[MicrogridsStep],
        plant: PlantStep,
        price: int,
    ) -> None:
        """Add a step of the whole town; ``ordinary``: its ordinary load; ``price``: the regional price, percent."""
        self.tallies = self.tallies or [EnergyTally(places) for places in blocks]
        for places, usual, given, step, tally in zip(blocks, ordinary, inputs, steps, self.tallies, strict=True):
            self.kinds[places.kind].add(step, usual, given.load)
            tally.add(step.flows, usual)
        wanted = sum(int(step.exchange.imported.sum() + step.exchange.short[Cause.TOWN].sum()) for step in steps)
        self.highest_w = max(self.highest_w, wanted * 3600 // (1000 * blocks[0].step_s))
        self.bought += plant.bought
        self.bought_peak += plant.bought if price > 100 else 0
        self.cost += plant.bought * price // 100
        self.sold += plant.sold
        self.plant["lost"] += plant.lost
        self.plant["level_end"] = plant.level

    @property
    def plant_gain(self) -> MilliwattHours:
        """What the plant's battery has gained since the beginning."""
        return self.plant["level_end"] - self.plant["level_begin"]

    @property
    def balance(self) -> dict[str, MilliwattHours]:
        """The town's energy. Two sums are equal: ``served`` to ``in batteries at the end``, and what follows."""
        kinds = self.kinds.values()
        return {
            "demand": sum(kind.wanted for kind in kinds),
            "cold load": sum(kind.cold for kind in kinds),
            "reduced by command": sum(kind.reduced for kind in kinds),
            "went short": self.unserved,
            "served": sum(kind.served for kind in kinds),
            "sold": self.sold,
            "lost": self.plant["lost"] + sum(kind.lost for kind in kinds),
            "in batteries at the end": self.plant["level_end"] + sum(kind.level_end for kind in kinds),
            "sun": sum(kind.sun for kind in kinds),
            "bought": self.bought,
            "in batteries at the beginning": self.plant["level_begin"] + sum(kind.level_begin for kind in kinds),
        }

    @property
    def net_cost(self) -> int:
        """The cost without what is left in the plant's battery, which is worth the price outside peak hours."""
        return self.cost - self.plant_gain

    @property
    def unserved(self) -> MilliwattHours:
        """Load that was not met."""
        return sum(kind.unserved.total() for kind in self.kinds.values())

    def members(self, kind: str) -> tuple[int, int]:
        """Return how many places of a kind of microgrid wanted energy, and how many of them went short."""
        tallies = [tally for tally in self.tallies if tally.places.kind == kind]
        return sum(tally.members for tally in tallies), sum(tally.short_members for tally in tallies)

    def by_minimum(self) -> dict[int, tuple[MilliwattHours, MilliwattHours]]:
        """Return what houses wanted and what they did not get, by their sharing minimum in percent."""
        sums: dict[int, tuple[MilliwattHours, MilliwattHours]] = {}
        for tally in self.tallies:
            if tally.places.kind == "residential":
                for percent, (wanted, short) in tally.by_minimum.items():
                    before = sums.get(percent, (0, 0))
                    sums[percent] = before[0] + wanted, before[1] + short
        return sums

    def mean_percent(self, kind: str) -> float:
        """Return the mean level of a kind's batteries over all hours, percent."""
        return float(np.mean([sample.levels_percent[kind] for sample in self.samples]))
