"""What aggregation loses of emulated readings: lossless nothing, averages of ten the detail within a group (M7, C6)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from commonwatt.device.records.aggregation import average, consolidate
from commonwatt.model.records import HistoryRecord, RecordType
from commonwatt.model.units import SLOT_S
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.town import Direction, Function, Meter, Town
from harness.answers.runs import table
from harness.energy.alone import Alone
from harness.worlds.records import a_record

DAY_SLOTS = 86_400 // SLOT_S
QUARTER_SLOTS = 60

DAYS = {"June": 1_781_913_600, "December": 1_797_724_800}  # a midnight (UTC) in each season

TOWN = {
    "microgrid": [
        {"id": "r", "kind": "residential", "count": 1},
        {"id": "apt", "kind": "apartment"},
        {"id": "pub", "kind": "public"},
    ]
}

Series = NDArray[np.int64]  # the readings of one meter and type, one a slot, milliwatt-hours


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What aggregation makes of a series."""

    exact: Series  # the readings
    averaged: Series  # those that averages stand for
    changed: int  # how many readings lossless changed
    left_minute: int  # records that lossless leaves of puts once a minute
    left_quarter: int  # the same of puts once a quarter-hour


def batched(records: Sequence[HistoryRecord], size: int) -> Iterator[Sequence[HistoryRecord]]:
    """Return records in puts of a size."""
    return (records[first : first + size] for first in range(0, len(records), size))


def emulated(begin: int, slots: int) -> dict[tuple[Meter, RecordType], Series]:
    """Return the readings of a house microgrid, apartments and public places from a time on, each beside the town."""
    town = town_of(TownFile.model_validate(TOWN), Path("town.toml"))
    return {key: series for name in town.microgrids for key, series in _microgrid(town, name, begin, slots).items()}


def _microgrid(town: Town, name: str, begin: int, slots: int) -> dict[tuple[Meter, RecordType], Series]:
    microgrid = town.microgrids[name]
    physics = Alone(town, microgrid)
    meters = {m.id: m for m in microgrid.meters if m.emulated and m.function is not Function.BOUNDARY}
    found: dict[tuple[Meter, RecordType], list[int]] = defaultdict(list)
    levels = physics.initial_levels(begin)
    for slot in range(slots):
        step = physics.step(levels, begin + slot * SLOT_S, {})
        levels = step.levels
        for meter, of in meters.items():
            for kind, reading in step.readings[meter].items():
                found[of, kind].append(reading)
    return {key: np.array(values, dtype=np.int64) for key, values in found.items()}


def records_of(meter: Meter, kind: RecordType, begin: int, series: Series) -> list[HistoryRecord]:
    """Return readings as a meter's records."""
    return [
        a_record(begin + n * SLOT_S, reading, meter=meter.id, record_id=n + 1, kind=kind, account=meter.account)
        for n, reading in enumerate(series.tolist())
    ]


def expanded(records: Sequence[HistoryRecord]) -> Series:
    """Return the readings that records stand for, one a slot."""
    slots = [(record.end - record.start) // SLOT_S for record in records]
    return np.repeat(np.array([record.reading for record in records], dtype=np.int64), slots)


def detail(begin: int, slots: int = DAY_SLOTS) -> list[list[str]]:
    """Return a row for each class of readings: what lossless and what averages change in a day."""
    classes: dict[str, list[Measured]] = defaultdict(list)
    for (meter, kind), series in emulated(begin, slots).items():
        records = records_of(meter, kind, begin, series)
        joined = consolidate(records)
        one = Measured(
            exact=series,
            averaged=expanded(average(records)),
            changed=int((expanded(joined) != series).sum()),
            left_minute=sum(len(consolidate(put)) for put in batched(records, 60 // SLOT_S)),
            left_quarter=len(joined),
        )
        classes[_words(meter, kind)].append(one)
    return [[words, *_errors(words, members)] for words, members in sorted(classes.items())]


def detail_table(days: Mapping[str, int] = DAYS, slots: int = DAY_SLOTS) -> str:
    """Return the errors of each class of readings on each day."""
    head = ["day", "readings", "series", "changed by lossless", "records left, once a minute",
            "records left, quarter-hours", "averages: 15-s value, mean error", "99 %", "largest",
            "quarter-hour, largest error"]  # fmt: skip
    return table(head, [[day, *row] for day, begin in days.items() for row in detail(begin, slots)])


def _words(meter: Meter, kind: RecordType) -> str:
    if kind is RecordType.GENERATION:
        return "sun"
    if kind is RecordType.STORED:
        return "levels of batteries"
    where = {Function.HOUSE: "house", Function.APARTMENT: "apartment"}.get(meter.function, "building or public place")
    return f"{where}, {'out' if meter.direction is Direction.OUTGOING else 'intake'}"


def _errors(words: str, members: Sequence[Measured]) -> list[str]:
    exact = np.array([member.exact for member in members])
    averaged = np.array([member.averaged for member in members])
    off = np.abs(averaged - exact)
    if words == "levels of batteries":
        # A level is read at the end of the quarter-hour, a flow is its sum.
        quarter = off[:, QUARTER_SLOTS - 1 :: QUARTER_SLOTS].max()
    else:
        sums = (values.reshape(len(members), -1, QUARTER_SLOTS).sum(axis=2) for values in (exact, averaged))
        quarter = np.abs(np.subtract(*sums)).max()
    mean = exact.mean()
    part = f" ({100 * off.mean() / mean:.1f} %)" if mean else ""
    return [
        f"{len(members)}",
        f"{sum(member.changed for member in members)}",
        f"{100 * sum(member.left_minute for member in members) / exact.size:.0f} %",
        f"{100 * sum(member.left_quarter for member in members) / exact.size:.0f} %",
        f"{off.mean() / 1000:,.2f} Wh{part}",
        f"{np.percentile(off, 99) / 1000:,.2f} Wh",
        f"{off.max() / 1000:,.2f} Wh",
        f"{quarter:,} mWh",
    ]
