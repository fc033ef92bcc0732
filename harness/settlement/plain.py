"""Random microgrid-days, and settlement as the page says it: one slot at a time, in integers and fractions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks, Quality, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import GROUP_SLOTS, SLOTS
from commonwatt.town.town import Direction, Function
from utility.energy.quarters import QUARTERS_A_DAY, Quantity, SettledQuality
from utility.registry.accounts import Installed

DAY = 20_700
MICROGRID = "r"

Key = tuple[int, RecordType]


@dataclass
class RandomDay:
    """A microgrid's day. Readings begin a quarter before the day; quality is ``Quality``, 0 where nothing was read."""

    meters: list[Installed] = field(default_factory=list)
    values: dict[Key, NDArray[np.int64]] = field(default_factory=dict)
    quality: dict[Key, NDArray[np.uint8]] = field(default_factory=dict)
    sharing: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    loss_permille: int = 0

    def blocks(self, quarter: int) -> Blocks:
        """The joined blocks of a quarter."""
        at = (quarter - DAY * QUARTERS_A_DAY + 1) * SLOTS
        rows = [
            ((meter, int(kind), quarter), values[at : at + SLOTS], self.quality[meter, kind][at : at + SLOTS])
            for (meter, kind), values in self.values.items()
        ]
        return make_blocks(*(list(column) for column in zip(*rows, strict=True)))


def random_day(seed: int, quarters: int = QUARTERS_A_DAY) -> RandomDay:
    """A random microgrid; only the first ``quarters`` of its day have readings."""
    return _Maker(seed, quarters).made


class _Maker:
    def __init__(self, seed: int, quarters: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.slots = (1 + quarters) * SLOTS
        self.made = RandomDay(loss_permille=int(self.rng.choice([0, 0, 50, 333])))
        self.damage = float(self.rng.choice([0, 0, 0.02, 0.3]))
        kind = self.rng.integers(0, 3)
        getattr(self, ("_houses", "_buildings", "_public")[kind])()
        for direction in Direction:
            self._meter("boundary", Function.BOUNDARY, direction)

    def _houses(self) -> None:
        for n in range(int(self.rng.integers(1, 7))):
            self._meter(f"house {n}", Function.HOUSE, Direction.OUTGOING, battery=True)
            if self.rng.random() < 0.25:
                swap = DAY * QUARTERS_A_DAY + int(self.rng.integers(1, 4))
                self._meter(f"house {n}", Function.HOUSE, Direction.INCOMING, end=swap)
                self._meter(f"house {n}", Function.HOUSE, Direction.INCOMING, start=swap)
            else:
                self._meter(f"house {n}", Function.HOUSE, Direction.INCOMING)

    def _buildings(self) -> None:
        for b in range(int(self.rng.integers(1, 4))):
            self._meter(f"building {b}", Function.BUILDING, Direction.OUTGOING, battery=True)
            for a in range(int(self.rng.integers(1, 5))):
                place = f"building {b} apartment {a}"
                self._meter(place, Function.APARTMENT, Direction.INCOMING, building=f"building {b}")

    def _public(self) -> None:
        for function in (Function.HOSPITAL, Function.POLICE, Function.FIRE):
            self._meter(function.value, function, Direction.INCOMING)
        self._meter("solar farm", Function.SOLAR_FARM, Direction.OUTGOING, battery=True)

    def _meter(
        self,
        place: str,
        function: Function,
        direction: Direction,
        *,
        building: str | None = None,
        battery: bool = False,
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        number = 100 + len(self.made.meters)
        capacity = int(self.rng.integers(1, 10**7)) if battery else None
        meter = Installed(
            id=number,
            microgrid=MICROGRID,
            place=place,
            building=building,
            function=function,
            direction=direction,
            capacity=capacity,
            start=start,
            end=end,
        )
        self.made.meters.append(meter)
        self._readings((number, RecordType.THROUGH), self._energy())
        if capacity is not None:
            self._readings((number, RecordType.GENERATION), self._energy())
            steps = self.rng.integers(-3000, 3000, self.slots).cumsum() + capacity // 2
            self._readings((number, RecordType.STORED), np.clip(steps, 0, capacity))
            on = np.repeat(self.rng.random(QUARTERS_A_DAY * 4) < 0.5, SLOTS // 4)
            self.made.sharing[number] = on

    def _energy(self) -> NDArray[np.int64]:
        size = 10 ** int(self.rng.integers(0, 6))
        values = self.rng.integers(0, size + 1, self.slots)
        return np.asarray(values * (self.rng.random(self.slots) < self.rng.choice([0.2, 0.9, 1.0])))

    def _readings(self, key: Key, values: NDArray[np.int64]) -> None:
        quality = np.full(self.slots, Quality.EXACT, np.uint8)
        if self.rng.random() < 0.3:
            self._average(key[1], values, quality)
        quality[self.rng.random(self.slots) < self.damage * self.rng.random()] = Quality.MISSING
        if self.rng.random() < 0.1:
            values[self.rng.random(self.slots) < 0.05] = -7
        pad = QUARTERS_A_DAY * SLOTS + SLOTS - self.slots
        self.made.values[key] = np.pad(values, (0, pad))
        self.made.quality[key] = np.pad(quality, (0, pad))

    def _average(self, kind: RecordType, values: NDArray[np.int64], quality: NDArray[np.uint8]) -> None:
        del kind
        for at in range(0, self.slots, GROUP_SLOTS):
            if self.rng.random() < 0.4:
                group = slice(at, at + GROUP_SLOTS)
                values[group] = (2 * int(values[group].sum()) + GROUP_SLOTS) // (2 * GROUP_SLOTS)
                quality[group] = Quality.AVERAGED


QUALITY = (SettledQuality.MISSING, SettledQuality.AVERAGED, SettledQuality.MEASURED)
THROUGH, GENERATION, STORED = RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED


@dataclass
class Plain:
    """What was settled: by (quantity, meter, quarter of the day), and the quality by (meter, quarter)."""

    energies: Counter[tuple[Quantity, int, int]] = field(default_factory=Counter)
    quality: dict[tuple[int, int], SettledQuality] = field(default_factory=dict)
    excess: int = -(10**18)


class Slot:
    """The readings of a day, by meter, type and slot of the day; slot -1 is the last one before it."""

    def __init__(self, day: RandomDay) -> None:
        self.day = day
        self.installed = {meter.id: meter for meter in day.meters}
        self.values = {key: values.tolist() for key, values in day.values.items()}
        self.qualities = {key: quality.tolist() for key, quality in day.quality.items()}

    def is_there(self, meter: int, slot: int) -> bool:
        entry, quarter = self.installed[meter], DAY * QUARTERS_A_DAY + slot // SLOTS
        return (entry.start or 0) <= quarter and (entry.end is None or quarter < entry.end)

    def quality(self, meter: int, kind: RecordType, slot: int, of: int | None = None) -> SettledQuality:
        """``of``: the slot whose quarter says whether the meter was there, if another one."""
        if not self.is_there(meter, slot if of is None else of):
            return SettledQuality.MEASURED
        at = SLOTS + slot
        if self.values[meter, kind][at] < 0:
            return SettledQuality.MISSING
        return QUALITY[self.qualities[meter, kind][at]]

    def value(self, meter: int, kind: RecordType, slot: int) -> int:
        if not self.is_there(meter, slot) and slot >= 0:
            return 0
        return int(self.values[meter, kind][SLOTS + slot]) if self.quality(meter, kind, slot) else 0


def settle_plainly(day: RandomDay, convention: str, quarters: int, resolution: int | None = 100) -> Plain:
    """Settle the first quarters of a day; without a resolution no excess is computed."""
    found = Plain()
    settler = _Settler(day, convention, found)
    for group in range(quarters * SLOTS // GROUP_SLOTS):
        slots = range(group * GROUP_SLOTS, (group + 1) * GROUP_SLOTS)
        if settler.is_averaged(slots):
            settler.settle(slots)
        else:
            for slot in slots:
                settler.settle([slot])
    for quarter in range(quarters):
        settler.judge(quarter)
    if resolution is not None:
        found.excess = settler.excess(resolution)
    return found


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    exact = [Fraction(total * weight, whole) for weight in weights]
    parts = [int(share) for share in exact]
    order = sorted(range(len(parts)), key=lambda n: (parts[n] - exact[n], n))
    for n in order[: total - sum(parts)]:
        parts[n] += 1
    return parts


class _Settler:
    def __init__(self, day: RandomDay, convention: str, found: Plain) -> None:
        self.read = Slot(day)
        self.loss, self.convention, self.found, self.day = day.loss_permille, convention, found, day
        inside = [meter for meter in day.meters if meter.function is not Function.BOUNDARY]
        self.senders = [meter for meter in inside if meter.direction is Direction.OUTGOING]
        self.takers = [meter for meter in inside if meter.direction is Direction.INCOMING]
        self.own = {m.id: [t.id for t in self.takers if t.place == m.place] for m in self.senders}
        self.unmetered = [meter for meter in self.senders if not self.own[meter.id]]
        self.batteries = self.senders if convention == "sharing_first" else self.unmetered

    def is_averaged(self, slots: Sequence[int]) -> bool:
        keys = [(meter.id, THROUGH) for meter in (*self.senders, *self.takers)]
        keys += [(meter.id, kind) for meter in self.batteries for kind in (GENERATION, STORED)]
        return any(self.read.quality(*key, slot) is SettledQuality.AVERAGED for key in keys for slot in slots)

    def energy(self, meter: int, kind: RecordType, slots: Sequence[int]) -> int:
        return sum(self.read.value(meter, kind, slot) for slot in slots)

    def battery_is_there(self, meter: int, slots: Sequence[int]) -> bool:
        flows = all(self.read.quality(meter, kind, slot) for kind in (THROUGH, GENERATION, STORED) for slot in slots)
        return flows and bool(self.read.quality(meter, STORED, slots[0] - 1, of=slots[0]))

    def level_before(self, meter: int, slot: int) -> int:
        return self.read.value(meter, STORED, slot - 1) if self.read.is_there(meter, slot) else 0

    def signed_intake(self, meter: int, slots: Sequence[int]) -> int:
        change = self.read.value(meter, STORED, slots[-1]) - self.level_before(meter, slots[0])
        charge = change
        if change > 0:
            charge = int(Fraction(change * 1000, 1000 - self.loss)) - 2
            while charge - charge * self.loss // 1000 < change:
                charge += 1
        return charge + self.energy(meter, THROUGH, slots) - self.energy(meter, GENERATION, slots)

    def settle(self, slots: Sequence[int]) -> None:
        sent = [self.energy(meter.id, THROUGH, slots) for meter in self.senders]
        taken = [self.energy(meter.id, THROUGH, slots) for meter in self.takers]
        taken += [
            max(0, self.signed_intake(meter.id, slots)) if self.battery_is_there(meter.id, slots) else 0
            for meter in self.unmetered
        ]
        shared = min(sum(sent), sum(taken))
        given, received = [0] * len(sent), [0] * len(taken)
        if self.convention == "sharing_first":
            given, received = self.by_sharing(slots, taken)
        rest = shared - sum(given)
        out = largest_remainder(rest, [a - b for a, b in zip(sent, given, strict=True)])
        into = largest_remainder(rest, [a - b for a, b in zip(taken, received, strict=True)])
        quarter = slots[0] // SLOTS
        ids = [meter.id for meter in (*self.takers, *self.unmetered)]
        for meter, whole, part, got in zip(ids, taken, into, received, strict=True):
            self.found.energies[Quantity.SHARED_IN, meter, quarter] += part + got
            self.found.energies[Quantity.IMPORTED, meter, quarter] += whole - part - got
        for entry, whole, part, gave in zip(self.senders, sent, out, given, strict=True):
            self.found.energies[Quantity.SHARED_OUT, entry.id, quarter] += part + gave
            self.found.energies[Quantity.EXPORTED, entry.id, quarter] += whole - part - gave

    def by_sharing(self, slots: Sequence[int], taken: Sequence[int]) -> tuple[list[int], list[int]]:
        gives, takes = [0] * len(self.senders), [0] * len(taken)
        columns = {meter.id: n for n, meter in enumerate((*self.takers, *self.unmetered))}
        for n, meter in enumerate(self.senders):
            behind = self._behind(meter)
            needed = [*self.own[meter.id], *behind]
            if not self.battery_is_there(meter.id, slots) or not all(
                self.read.quality(taker, THROUGH, slot) for taker in needed for slot in slots
            ):
                continue
            after = self.read.value(meter.id, STORED, slots[-1])
            if any(self.day.sharing[meter.id][slot] for slot in slots):
                beyond = self.energy(meter.id, THROUGH, slots) - sum(self.energy(t, THROUGH, slots) for t in behind)
                gives[n] = min(max(beyond, 0), max((meter.capacity or 0) - after, 0))
            if gives[n]:
                continue
            own = self.own[meter.id]
            if own:
                rest = min(sum(self.energy(taker, THROUGH, slots) for taker in own), after)
                for taker in own:
                    takes[columns[taker]] = min(self.energy(taker, THROUGH, slots), rest)
                    rest -= takes[columns[taker]]
            else:
                takes[columns[meter.id]] = max(0, self.signed_intake(meter.id, slots))
        total = min(sum(gives), sum(takes))
        return largest_remainder(total, gives), self._by_battery(total, takes, columns)

    def _by_battery(self, total: int, takes: list[int], columns: dict[int, int]) -> list[int]:
        """Divide among batteries; what a battery with two incoming meters received fills the first one first."""
        places = [self.own[meter.id] or [meter.id] for meter in self.senders]
        parts = largest_remainder(total, [sum(takes[columns[i]] for i in ids) for ids in places])
        received = [0] * len(takes)
        for ids, part in zip(places, parts, strict=True):
            for i in ids:
                received[columns[i]] = min(part, takes[columns[i]])
                part -= received[columns[i]]
        return received

    def _behind(self, meter: Installed) -> list[int]:
        places = {sender.place for sender in self.senders}
        if meter.function is Function.SOLAR_FARM:
            return [taker.id for taker in self.takers if taker.place not in places]
        return [taker.id for taker in self.takers if taker.building == meter.place]

    def judge(self, quarter: int) -> None:
        slots = range(quarter * SLOTS, (quarter + 1) * SLOTS)
        for meter in (*self.senders, *self.takers):
            if not self.read.is_there(meter.id, slots[0]):
                self.found.quality[meter.id, quarter] = SettledQuality.MISSING
                continue
            found = [self.read.quality(meter.id, THROUGH, slot) for slot in slots]
            if meter in self.unmetered:
                found += [self.read.quality(meter.id, kind, slot) for kind in (GENERATION, STORED) for slot in slots]
                found.append(self.read.quality(meter.id, STORED, slots[0] - 1, of=slots[0]))
            self.found.quality[meter.id, quarter] = min(found)

    def excess(self, resolution: int) -> int:
        """The largest excess of any stretch of the day, in whole numbers."""
        boundary = [meter for meter in self.day.meters if meter.function is Function.BOUNDARY]
        members = [*self.senders, *self.takers]
        fixed = (len(members) + len(boundary) + 2 * len(self.unmetered)) * resolution
        loss = self.loss if self.unmetered else 0
        step = -(-resolution * loss // (1000 - loss))
        dates = {date for meter in self.day.meters for date in (meter.start, meter.end) if date is not None}
        worst, residual, halves = -(10**18), 0, 0
        for slot in range(QUARTERS_A_DAY * SLOTS):
            known = all(self.read.quality(meter.id, THROUGH, slot) for meter in (*members, *boundary))
            known = known and all(self._level_is_exact(meter.id, slot) for meter in self.unmetered)
            if not known or DAY * QUARTERS_A_DAY + slot / SLOTS in dates:
                worst = max(worst, abs(residual) - fixed - halves // 2)
                residual, halves = 0, 0
            if known:
                residual += self._residual(slot, boundary)
                halves += self._averaged(slot, [*members, *boundary])
                rising = [meter.id for meter in self.unmetered if loss and self._change(meter.id, slot) > 0]
                halves += 2 * sum(1 + step * self._is_turn(meter, slot) for meter in rising)
        return max(worst, abs(residual) - fixed - halves // 2)

    def _level_is_exact(self, meter: int, slot: int) -> bool:
        levels = [self.read.quality(meter, STORED, at, of=slot) for at in (slot, slot - 1)]
        return self.battery_is_there(meter, [slot]) and SettledQuality.AVERAGED not in levels

    def _change(self, meter: int, slot: int) -> int:
        return self.read.value(meter, STORED, slot) - self.level_before(meter, slot)

    def _is_turn(self, meter: int, slot: int) -> bool:
        """Whether the level did not rise when it last changed within the quarter."""
        earlier = [self._change(meter, at) for at in range(slot // SLOTS * SLOTS, slot)]
        return next((change < 0 for change in reversed(earlier) if change), True)

    def _residual(self, slot: int, boundary: Sequence[Installed]) -> int:
        taken = sum(self.energy(meter.id, THROUGH, [slot]) for meter in self.takers)
        taken += sum(self.signed_intake(meter.id, [slot]) for meter in self.unmetered)
        sent = sum(self.energy(meter.id, THROUGH, [slot]) for meter in self.senders)
        through = {meter.direction: self.energy(meter.id, THROUGH, [slot]) for meter in boundary}
        return taken - sent - through[Direction.INCOMING] + through[Direction.OUTGOING]

    def _averaged(self, slot: int, meters: Sequence[Installed]) -> int:
        keys = [(meter.id, THROUGH) for meter in meters] + [(meter.id, GENERATION) for meter in self.unmetered]
        return sum(self.read.quality(*key, slot) is SettledQuality.AVERAGED for key in keys)
