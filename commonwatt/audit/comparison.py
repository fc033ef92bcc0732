"""The comparison of generated with stored records, slot by slot, from the exports of the parts' dump commands."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from commonwatt.codec.dumps import read_dump
from commonwatt.model.blocks import Blocks, Quality, empty, join
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import GROUP_SLOTS, QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MilliwattHours

LATE_EVENT_S = 60  # seconds by which an event may arrive late: a meter logs a power loss only when its power is back
Events = dict[tuple[int, int, int], EventRecord]  # events by (meter, log generation, id)
Export = tuple[Blocks, Events]  # the exported blocks and events of one kind of part


@dataclass
class AuditLine:
    """The audit's counts for the slots of one meter and record type."""

    meter: int  # the meter
    record_type: int  # the record type's number
    made: int = 0  # slots for which the meter made a record
    stored_exact: int = 0  # of these, stored exactly at the utility
    stored_averaged: int = 0  # of these, stored as averages
    at_meter: int = 0  # of these, slots still in the meter's log, stored or not
    held: int = 0  # of these, not stored, but still held by the meter or its gateway
    missing: int = 0  # of these, slots found nowhere
    conflicting: int = 0  # slots stored with more than one value
    unmade: int = 0  # slots stored without a record in the truth log
    # Sum of absolute differences between exact stored slots and the truth log, milliwatt-hours.
    difference: MilliwattHours = 0
    # Largest difference between a group of averaged slots and the truth log, milliwatt-hours.
    averaged_difference: MilliwattHours = 0
    beyond_bound: int = 0  # groups of averaged slots off by more than half a milliwatt-hour a slot, or not of one value

    @property
    def good(self) -> bool:
        """Whether every slot is stored or still on its way, without conflict, invention or difference."""
        return not (self.missing or self.conflicting or self.unmade or self.difference or self.beyond_bound)


@dataclass
class Audit:
    """The result of an audit."""

    lines: list[AuditLine] = field(default_factory=list)  # by meter and record type
    events_made: int = 0  # events in the truth log
    events_stored: int = 0  # of these, stored unchanged at the utility
    events_held: int = 0  # of these, not stored, but still held by the meter or its gateway
    events_missing: int = 0  # of these, events found nowhere
    events_different: int = 0  # stored events that differ from the truth log
    foreign_slots: int = 0  # stored slots of other makers' meters; they have no truth log and are not compared
    sharing_events: int = 0  # stored events that report the start of sharing by a battery
    # Where the audit begins: what is stored of earlier times is an emulated past; ``None``: there is none.
    since: EpochSeconds | None = None

    @property
    def good(self) -> bool:
        """Whether nothing acknowledged is lost and nothing counted twice."""
        return all(line.good for line in self.lines) and not self.events_missing and not self.events_different

    def add(self, other: "Audit") -> None:
        """Add the result of other meters."""
        self.lines += other.lines
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def total(self, name: str) -> int:
        """Return the sum of an attribute over all lines."""
        return sum(getattr(line, name) for line in self.lines)


_COUNTS = [one.name for one in fields(Audit) if one.name not in ("lines", "since")]


def compare(truths: Sequence[Export], meters: Export, gateways: Export, utility: Export) -> Audit:
    """Compare the truth logs with the utility's database and with the logs of meters and gateways.

    Args:
        truths: One truth log for each fleet of emulated meters. Slots after a truth log's last slot were
            made after its export; they are not compared. Meters without a truth log are not compared.
        meters: The unacknowledged data of the meters.
        gateways: The gateways' data that the utility has not acknowledged.
        utility: The utility's stored data; exported last.
    """
    horizons: dict[int, EpochSeconds] = {}
    for blocks, events in truths:
        horizon = max((event.time for event in events.values()), default=0)
        if len(blocks):
            last = blocks.quarter.max()
            slots = np.flatnonzero(blocks.quality[blocks.quarter == last].any(axis=0))
            horizon = int(last) * QUARTER_S + (int(slots.max()) + 1) * SLOT_S
        horizons |= dict.fromkeys({*blocks.meter.tolist(), *(meter for meter, _, _ in events)}, horizon)
    truth: Export = (join([blocks for blocks, _ in truths]), {k: v for _, events in truths for k, v in events.items()})
    stored, held = utility[1], meters[1] | gateways[1]
    lines, foreign = _compare_slots(truth[0], meters[0], gateways[0], utility[0], horizons)
    audit = Audit(lines=lines, events_made=len(truth[1]), foreign_slots=foreign)
    audit.sharing_events = sum(bool(e.new_state & ~e.previous_state & State.SHARING) for e in stored.values())
    for key, event in truth[1].items():
        if key in stored:
            audit.events_stored += stored[key] == event
            audit.events_different += stored[key] != event
        elif key in held:
            audit.events_held += 1
        else:
            audit.events_missing += 1
    for key in stored.keys() - truth[1].keys():
        audit.events_different += key[0] in horizons and stored[key].time < horizons[key[0]] - LATE_EVENT_S
    return audit


def _compare_slots(
    truth: Blocks, meters: Blocks, gateways: Blocks, stored: Blocks, horizons: dict[int, EpochSeconds]
) -> tuple[list[AuditLine], int]:
    """Bring all blocks into one order of keys, then compare whole arrays; count also the slots not compared."""
    known = np.isin(stored.meter, np.array(list(horizons), dtype=np.uint64))
    foreign = int((stored.quality[~known] > 0).sum())
    stored = stored.take(np.flatnonzero(known))
    keys = sorted({*truth.keys(), *stored.keys()})
    index = {key: row for row, key in enumerate(keys)}
    made_values, made_quality = _aligned(truth, index)
    values, quality = _aligned(stored, index)
    at_meter = _aligned(meters, index)[1] > 0
    held = at_meter | (_aligned(gateways, index)[1] > 0)
    made = made_quality > 0
    starts = np.array([quarter for _, _, quarter in keys], np.int64)[:, None] * QUARTER_S + np.arange(SLOTS) * SLOT_S
    horizon = np.array([horizons[meter] for meter, _, _ in keys], np.int64)
    exact = made & (quality == Quality.EXACT)
    averaged = made & (quality == Quality.AVERAGED)
    elsewhere = made & (quality == 0)
    conflicting = np.zeros(made.shape, np.bool_)
    rows = np.array([index[key] for key in stored.keys()], dtype=np.int64)  # noqa: SIM118 - not a dictionary
    conflicting[rows[stored.extras["row"]], stored.extras["slot"]] = True
    apart = np.where(exact, np.abs(values - made_values), 0)
    groups = _groups(np.where(averaged, values - made_values, 0))
    bound = _groups(averaged.astype(np.int64))
    columns = {
        "made": made,
        "at_meter": made & at_meter,
        "stored_exact": exact,
        "stored_averaged": averaged,
        "held": elsewhere & held,
        "missing": elsewhere & ~held,
        "conflicting": conflicting,
        "unmade": ~made & (quality > 0) & (starts < horizon[:, None]),
        "difference": apart,
        # The sum of a group that is not exported completely can't be compared.
        "beyond_bound": (2 * np.abs(groups) > bound) & (_groups((~made & (quality > 0)).astype(np.int64)) == 0)
        | _uneven(values, quality == Quality.AVERAGED),
    }
    lines: dict[tuple[int, int], AuditLine] = {}
    for row, (meter, record_type, _) in enumerate(keys):
        line = lines.setdefault((meter, record_type), AuditLine(meter, record_type))
        for name, column in columns.items():
            setattr(line, name, getattr(line, name) + int(column[row].sum()))
        line.averaged_difference = max(line.averaged_difference, int(np.abs(groups[row]).max()))
    return list(lines.values()), foreign


def _aligned(
    blocks: Blocks, index: dict[tuple[int, int, int], int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    values = np.zeros((len(index), SLOTS), np.int64)
    quality = np.zeros((len(index), SLOTS), np.uint8)
    rows = [(index[key], row) for row, key in enumerate(blocks.keys()) if key in index]
    if rows:
        to, of = np.array(rows).T
        values[to], quality[to] = blocks.values[of], blocks.quality[of]
    return values, quality


def _groups(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    sums: npt.NDArray[np.int64] = array.reshape(len(array), SLOTS // GROUP_SLOTS, GROUP_SLOTS).sum(axis=2)
    return sums


def _uneven(values: npt.NDArray[np.int64], averaged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the groups whose averaged slots differ from each other: errors that cancel in the group's sum."""
    shape = len(values), SLOTS // GROUP_SLOTS, GROUP_SLOTS
    extremes = np.iinfo(np.int64)
    highest = np.where(averaged, values, extremes.min).reshape(shape).max(axis=2)
    lowest = np.where(averaged, values, extremes.max).reshape(shape).min(axis=2)
    uneven: npt.NDArray[np.bool_] = highest > lowest
    return uneven


def audit_files(truth: list[Path], meters: list[Path], gateways: list[Path], utility: list[Path]) -> Audit:
    """Audit the output of ``meters dump --truth``, ``meters dump``, ``gateway dump`` and ``utility dump``."""
    return compare([_read([path]) for path in truth], _read(meters), _read(gateways), _read(utility))


def _read(paths: list[Path]) -> Export:
    blocks = [empty()]
    events: Events = {}
    for path in paths:
        with path.open(encoding="utf-8") as file:
            more, more_events = read_dump(file)
        blocks.append(more)
        events |= more_events
    return join(blocks), events
