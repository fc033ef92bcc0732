"""Random microgrids with a day of readings: missing, averaged and negative ones, exchanges, sharing."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks, Quality, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import GROUP_SLOTS, SLOTS
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Direction, Function
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
