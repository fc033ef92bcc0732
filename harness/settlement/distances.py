"""How far each convention is from what really flowed, by account: ``python -m harness.settlement --distances DAYS``.

What really flowed: energy commanded by sharing went to the batteries that received it; what a building's or the farm's
battery pushed went to the places behind it, in proportion to what they took; the sun that was left over was for the
other members in proportion to what they still took.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from commonwatt.energy.physics.places import places_of
from commonwatt.settlement.conventions import CONVENTIONS
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity
from commonwatt.settlement.splits import Array
from commonwatt.town.town import Function
from harness.settlement.emulated import EmulatedQuarter, EmulatedTown, Stream, installed_of
from harness.settlement.truth import DAY
from harness.settlement.whole_day import settle_day
from utility.settlement.day import Rules

Energy = Counter[tuple[int, Quantity]]  # milliwatt-hours by meter and quantity


@dataclass
class Distances:
    """By convention and kind of microgrid: the distance, and what was imported and exported in truth."""

    off: Counter[tuple[str, str]] = field(default_factory=Counter)
    billed: Counter[str] = field(default_factory=Counter)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)


def distances(town: EmulatedTown, days: int, loss_permille: int) -> Distances:
    """Settle some days by each convention beside what flowed."""
    stream = Stream(town.quarters(DAY * QUARTERS_A_DAY - 1))
    found: dict[str, Energy] = {name: Counter() for name in CONVENTIONS}
    truth: Energy = Counter()
    for day in range(DAY, DAY + days):
        for name in CONVENTIONS:
            rules = Rules(convention=name, battery_loss_permille=loss_permille)
            if name == "pro_rata":
                settle_day(day, town.layouts(day), stream, rules)  # steps the town
            sharing = _sharing(stream)
            one = settle_day(day, town.layouts(day), stream, rules, sharing)
            for quantity in (Quantity.IMPORTED, Quantity.EXPORTED):
                sums = one.energies[quantity].sum(axis=1).tolist()
                found[name] += Counter({(i, quantity): s for i, s in zip(one.meters.tolist(), sums, strict=True)})
        for quarter in list(stream.kept)[-QUARTERS_A_DAY:]:
            truth += _true(town, quarter)
    return _compared(town, found, truth)


def _sharing(stream: Stream) -> dict[int, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    quarters = list(stream.kept)[-QUARTERS_A_DAY:]
    return {meter: np.concatenate([one.sharing[meter] for one in quarters]) for meter in quarters[0].sharing}


def _true(town: EmulatedTown, quarter: EmulatedQuarter) -> Energy:
    """What each meter imported and exported in truth; fractions are rounded by meter and quarter."""
    found: Energy = Counter()
    for meters, flows in zip(town._layouts, quarter.steps, strict=True):

        def of(name: str, flows: list[object] = flows) -> Array:  # type: ignore[assignment]
            return np.stack([getattr(one, name) for one in flows], axis=1).astype(float)

        demand, surplus, pushed = of("demand"), of("surplus"), of("pushed")
        left = demand.copy()
        for source in town._simulation.grids[town._layouts.index(meters)].places.sources:
            whole = np.maximum(left[:, :, source.behind].sum(axis=2), 1)
            given = np.minimum(pushed[:, :, source.column], whole)
            left[:, :, source.behind] *= (1 - given / whole)[:, :, None]
        shared = np.minimum(surplus.sum(axis=2), left.sum(axis=2))
        imported = left * (1 - shared / np.maximum(left.sum(axis=2), 1e-9))[:, :, None]
        exported = surplus * (1 - shared / np.maximum(surplus.sum(axis=2), 1e-9))[:, :, None]
        for row, name in enumerate(meters._names):
            for column, place in enumerate(places_of(town.town.microgrids[name])):
                if place.incoming is not None:
                    found[place.incoming.id, Quantity.IMPORTED] += round(imported[row, :, column].sum())
                if place.outgoing is not None:
                    found[place.outgoing.id, Quantity.EXPORTED] += round(exported[row, :, column].sum())
    return found


def _compared(town: EmulatedTown, found: dict[str, Energy], truth: Energy) -> Distances:
    result = Distances()
    for microgrid in town.town.microgrids.values():
        places: dict[str, list[int]] = {}
        for meter in installed_of(microgrid):
            if meter.function is not Function.BOUNDARY:
                places.setdefault(meter.place, []).append(meter.id)
        for ids in places.values():
            real = sum(truth[i, q] for i in ids for q in (Quantity.IMPORTED, Quantity.EXPORTED))
            result.billed[microgrid.kind] += real
            for name, energy in found.items():
                off = sum(abs(energy[i, q] - truth[i, q]) for i in ids for q in (Quantity.IMPORTED, Quantity.EXPORTED))
                result.off[name, microgrid.kind] += off
                key = name, microgrid.kind
                result.worst[key] = max(result.worst.get(key, 0.0), off / 1e6)
    return result
