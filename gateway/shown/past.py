"""What is expected of a microgrid's places, by the readings that its store has of the last weeks; bounded."""

from collections.abc import Iterable, Mapping
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.lasting import Usual
from commonwatt.energy.physics.places import streets_of
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.shedding import DAY_H
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.time.local_time import load_cells
from commonwatt.model.units import SLOTS, EpochSeconds, MicrogridId
from commonwatt.settlement.splits import Flags
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Battery, Direction, Meter, Microgrid
from gateway.relay.outbox import load
from gateway.stored import Stored

KEPT_H = 28 * 24  # hours of use and sun that are kept: whole weeks
AT_ONCE = 4000  # most blocks of one read, an hour's at least: other work waits for the store meanwhile
SETTLED_S = 1800  # seconds after an hour's end at which its readings have come, also with the longest period of puts
LEAST_SLOTS = 54  # slots of a quarter-hour with which its energy is known: the others are as their mean
LEAST_PART, MOST_PART = 0.5, 2.0  # bounds of the last day as a part of the usual
USUAL_MINIMUM_PERCENT = 50  # sharing minimum of a battery that has not told it

_READ = (RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED)


class Past:
    """Use and sun of the places of a microgrid by the hour."""

    def __init__(self, microgrid: MicrogridId, meters: Mapping[MeterId, RegisteredMeter], zone: ZoneInfo) -> None:
        self.meters, self._zone = meters, zone  # the registry that the places are of
        present = [one for one in meters.values() if not one.replaced]
        installed = tuple(_installed(microgrid, one) for one in present)
        street = Microgrid(id=microgrid, number=1, kind="", address="", meters=installed)
        (self.places,) = streets_of([street], 3600)
        columns = {location: column for column, location in enumerate(self.places.names[0])}
        self.columns = {one.id: columns[one.location] for one in present if one.location in columns}  # by meter
        self._flows = [(one, kind) for one in self.columns for kind in meters[one].record_types if kind in _READ]
        self._at_once_h = max(1, AT_ONCE // (4 * len(self._flows) + 1))
        # Use and sun, watts, by the hour since 1970 modulo ``KEPT_H``; not a number: not read, or a reading is missing.
        self._power = np.full((2, KEPT_H, len(columns)), np.nan, np.float32)
        self.first = self.end = 0  # the first hour that was read, and that after the last one

    def next(self, now: EpochSeconds) -> range:
        """Return the hours to read next, since 1970: the newest, with what came late, else earlier; empty: none."""
        end = (now - SETTLED_S) // 3600
        # After a clock that was ahead all is read again.
        is_ahead = self.end > end + 1 or not self.end
        self.first, self.end = (end, end) if is_ahead else (self.first, max(self.end, end - KEPT_H))
        stop = self.first if self.end >= end else min(end, self.end + self._at_once_h)
        return range(max(stop - self._at_once_h, end - KEPT_H), stop)

    def read(self, store: Stored, hours: range) -> None:
        """Take the readings of hours: use is what came in less what went out, plus sun, less the battery's gain."""
        quarters = range(4 * hours.start - 1, 4 * hours.stop)
        blocks = load(store.block_parts((meter, kind, quarter) for quarter in quarters for meter, kind in self._flows))
        found = np.zeros((2, len(hours), len(self.places.users)))
        wanted, seen = np.zeros(found.shape[2], np.int64), np.zeros(found.shape[1:], np.int64)
        for meter, kind in self._flows:
            wanted[self.columns[meter]] += 2 if kind is RecordType.STORED else 4
        place = np.array([self.columns[meter] for meter in blocks.meter.tolist()], np.intp)
        is_out = [self.meters[meter].direction is Direction.OUTGOING for meter in blocks.meter.tolist()]
        hour, good = blocks.quarter.astype(np.int64) // 4 - hours.start, blocks.quality > 0
        is_sun, is_level = blocks.record_type == RecordType.GENERATION, blocks.record_type == RecordType.STORED
        flows, ends = (good.sum(axis=1) >= LEAST_SLOTS) & ~is_level, good[:, -1] & is_level & (blocks.quarter % 4 == 3)
        energy, level = blocks.values.sum(axis=1) * SLOTS / np.maximum(good.sum(axis=1), 1), blocks.values[:, -1]
        for what, rows, at, value in (
            (0, flows, hour, np.where(np.array(is_out, np.bool_) & ~is_sun, -energy, energy)),
            (0, ends, hour, -level),
            (0, ends, hour + 1, level),
            (1, flows & is_sun, hour, energy),
        ):
            rows = rows & (at >= 0) & (at < len(hours))
            np.add.at(found[what], (at[rows], place[rows]), value[rows] / 1000)
            np.add.at(seen, (at[rows], place[rows]), 1 - what)
        found[0] = np.maximum(found[0], 0) * self.places.users
        self._power[:, np.array(hours) % KEPT_H] = np.where((seen == wanted) & (wanted > 0), found, np.nan)
        self.first, self.end = min(self.first, hours.start), max(self.end, hours.stop)

    def ahead(self, now: EpochSeconds) -> tuple[Inputs, Flags]:
        """Return what is expected of the hours from now, and of which places a whole day is known, (P,).

        The others have the average use, by the batteries' capacity (without batteries 1 W), and no sun.
        """
        window = np.arange(self.end - KEPT_H, self.end)
        cells, power = load_cells(window * 4, self._zone), self._power[:, window % KEPT_H]
        known, users = ~np.isnan(power[0]), self.places.users
        power = np.where(known, power, 0)
        days, sums = np.zeros((48, len(users))), np.zeros((48, 2, len(users)))
        np.add.at(days, cells, known)
        np.add.at(sums, cells, power.swapaxes(0, 1))
        of_all = days.reshape(2, 24, -1).sum(axis=0)
        has_day = (of_all > 0).all(axis=0)
        mean = sums.reshape(2, 24, 2, -1).sum(axis=0) / np.maximum(of_all, 1)[:, None]
        use = np.where(days > 0, sums[:, 0] / np.maximum(days, 1), np.tile(mean[:, 0], (2, 1)))
        average = max(self.places.capacity.sum() / 1000 / DAY_H / max(users.sum(), 1), 1) * users
        usual = Usual(use=np.where(has_day, use, average)[:, None], sun=np.where(has_day, mean[:, 1], 0)[:, None])
        last = cells[-24:]
        counts, as_usual = known[-24:] & has_day, np.stack([usual.use[last, 0], usual.sun[last % 24, 0]])
        was, usually = ((each * counts).sum(axis=(1, 2)) for each in (power[:, -24:], as_usual))
        part = np.clip(np.divide(was, usually, out=np.ones(2), where=usually > 0), LEAST_PART, MOST_PART)
        return usual.ahead(now, self._zone, part[:1], part[1:]), has_day

    def answer(self, reduced: Iterable[int]) -> tuple[int, int] | None:
        """Return by how many percent homes used less in some hours than in those of other days, and of how many hours.

        ``None``: no such hour is known.
        """
        window = np.arange(max(self.first, self.end - KEPT_H), self.end)
        use, hour = self._power[0][window % KEPT_H], load_cells(window * 4, self._zone) % 24
        is_asked = np.isin(window, list(reduced))
        known = ~np.isnan(use)
        days, sums = np.zeros((24, use.shape[1])), np.zeros((24, use.shape[1]))
        np.add.at(days, hour[~is_asked], known[~is_asked])
        np.add.at(sums, hour[~is_asked], np.where(known, use, 0)[~is_asked])
        both = known & is_asked[:, None] & (days[hour] > 0)
        usual = (sums[hour] / np.maximum(days[hour], 1))[both].sum()
        hours = int(both.any(axis=1).sum())
        return (round(100 - 100 * float(use[both].sum()) / float(usual)), hours) if hours and usual > 0 else None


def _installed(microgrid: MicrogridId, one: RegisteredMeter) -> Meter:
    capacity = one.battery_capacity_mwh
    return Meter(
        **one.model_dump(exclude={"battery_capacity_mwh", "replaced"}),
        microgrid=microgrid,
        battery=None if capacity is None else Battery(capacity=capacity, minimum_percent=USUAL_MINIMUM_PERCENT),
    )
