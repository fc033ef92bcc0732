"""The residual: what a microgrid's members took and sent beside what passed its boundary (B2).

Readings are rounded down to the meters' resolution, and the rest is carried to the next slot. So the residual of a slot
says little, but the *cumulated* residual stays within a bound, however long it is cumulated. A residual beyond it is
energy that a meter did not read: theft, a damaged meter, or wrong settings.

It is cumulated over a stretch: slots in which every reading is there. A gap or an exchange of a meter ends it.
"""

from dataclasses import dataclass

import numpy as np

from commonwatt.energy.splits import Array, Flags
from commonwatt.model.units import MilliwattHours
from utility.energy.quarters import FlowReadings, QuarterReadings, SettledQuality, signed_intake


@dataclass(frozen=True, kw_only=True, eq=False)
class Balance:
    """Members against the boundary, of M microgrids, (M, slots)."""

    residual: Array  # what the members took beyond what they sent and what the town gave, milliwatt-hours
    known: Flags  # whether every reading is there
    averaged: Array  # how many readings are averaged
    charging: Array  # how many batteries without an incoming meter were charged with a loss: its rounding is not known
    turns: Array  # how many of them began to be charged: after a fall of the level, or first in the span
    passed: Array  # what the members took, milliwatt-hours

    def halves(self, allowed: "Tolerance") -> Array:
        """Return what the residual of each slot adds to the bound, halves of a milliwatt-hour, (M, slots)."""
        batteries = allowed.charging * self.charging + allowed.turn * self.turns
        return np.asarray(self.averaged + 2 * (batteries + allowed.loop_permille * np.maximum(self.passed, 0) // 1000))


def balance(readings: QuarterReadings, imported: FlowReadings, exported: FlowReadings) -> Balance:
    """Compare the members of alike microgrids with their boundary meters, (M, slots, boundary meters)."""
    derived = readings.batteries.unmetered
    taken = _sums(readings.taken.values) + _sums(signed_intake(readings))
    net = taken - _sums(readings.sent.values)
    battery_quality = readings.batteries.quality[:, :, derived]
    level_quality = readings.batteries.level.quality[:, :, derived]
    flows = (readings.sent, readings.taken, imported, exported)
    known = np.logical_and.reduce([_all(flow.there) for flow in flows])
    known &= _all(battery_quality > SettledQuality.MISSING)
    # An averaged level is not that of its slot's end.
    exact_levels = _all(level_quality != SettledQuality.AVERAGED)
    known &= exact_levels[:, 1:] & exact_levels[:, :-1]
    known &= bool(imported.values.shape[2]) and bool(exported.values.shape[2])
    counted = [*(flow.quality for flow in flows), readings.batteries.generation.quality[:, :, derived]]
    level = readings.batteries.level.values[:, :, derived]
    change = np.sign(np.diff(level, axis=1))
    has_loss = bool(readings.batteries.loss_permille)
    return Balance(
        residual=net - _sums(imported.values) + _sums(exported.values),
        known=known,
        averaged=sum((_sums(each == SettledQuality.AVERAGED) for each in counted), np.zeros_like(net)),
        charging=_sums(change > 0) * has_loss,
        turns=_sums((change > 0) & (_before(change) <= 0)) * has_loss,
        passed=taken,
    )


def _all(flags: Flags) -> Flags:
    """Return in which slots all flags are set, (M, slots): mostly in all."""
    return np.full(flags.shape[:2], fill_value=True) if flags.all() else np.asarray(flags.all(axis=2))


def _sums(values: Array | Flags) -> Array:
    """Return the sums over the meters, (M, slots): of few in a row, in a fifth of the time of ``sum``."""
    return np.asarray(np.einsum("ijk->ij", values, dtype=np.int64))


def _before(change: Array) -> Array:
    """Return the last change of each level before each slot that was not 0; 0: there was none."""
    slots = np.arange(1, change.shape[1] + 1)[:, None]
    last = np.maximum.accumulate(np.where(change != 0, slots, 0), axis=1)
    last = np.concatenate([np.zeros_like(last[:, :1]), last[:, :-1]], axis=1)
    found = np.take_along_axis(change, np.maximum(last - 1, 0), axis=1)
    return np.where(last > 0, found, 0)


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What the cumulated residual may be."""

    # The resolution, by the flow meters and twice the batteries without an incoming meter; milliwatt-hours.
    fixed: MilliwattHours
    charging: MilliwattHours  # more for each slot in which such a battery was charged with a loss: the loss is rounded
    # More for each time such a battery began to be charged: a level that rises by a step of the resolution and falls
    # back costs the loss of the step.
    turn: MilliwattHours
    loop_permille: int  # the stated loss of the loop, thousandths of what the members took


def tolerance(meters: int, unmetered: int, resolution: MilliwattHours, loss: int, loop_loss: int) -> Tolerance:
    """Return what the cumulated residual of a microgrid may be.

    Args:
        meters: Its flow meters, those of the boundary included.
        unmetered: Its batteries without an incoming meter.
        resolution: The meters' resolution, milliwatt-hours.
        loss: Part of a battery's charge that is lost, thousandths.
        loop_loss: The stated loss of the loop, thousandths.
    """
    return Tolerance(
        fixed=(meters + 2 * unmetered) * resolution,
        charging=1 if loss else 0,
        turn=-(-resolution * loss // (1000 - loss)),
        loop_permille=loop_loss,
    )


@dataclass(frozen=True, kw_only=True)
class SlotStretch:
    """A stretch of slots without a gap."""

    residual: MilliwattHours = 0  # its cumulated residual, milliwatt-hours
    halves: int = 0  # what it may be beyond the fixed part, in halves of a milliwatt-hour

    def then(self, later: "SlotStretch") -> "SlotStretch":
        """Return this stretch continued by another."""
        return SlotStretch(residual=self.residual + later.residual, halves=self.halves + later.halves)

    def excess(self, fixed: MilliwattHours) -> MilliwattHours:
        """Return by how much the residual is beyond its bound; not above 0: it is within."""
        return abs(self.residual) - fixed - self.halves // 2


@dataclass(frozen=True, kw_only=True)
class DayResidual:
    """The residual of a microgrid in a span of time; spans in sequence are added by ``then``."""

    head: SlotStretch  # the stretch before the first gap; the whole span without a gap
    tail: SlotStretch | None = None  # the stretch after the last gap; ``None``: there is no gap
    worst: MilliwattHours | None = None  # the largest excess of the stretches between two gaps; ``None``: there is none
    fixed: MilliwattHours  # the fixed part of the bound

    def then(self, later: "DayResidual") -> "DayResidual":
        """Return this span and the one after it as one."""
        fixed = max(self.fixed, later.fixed)
        if self.tail is None:
            return DayResidual(head=self.head.then(later.head), tail=later.tail, worst=later.worst, fixed=fixed)
        joined = self.tail.then(later.head)
        if later.tail is None:
            return DayResidual(head=self.head, tail=joined, worst=self.worst, fixed=fixed)
        between = [each for each in (self.worst, joined.excess(fixed), later.worst) if each is not None]
        return DayResidual(head=self.head, tail=later.tail, worst=max(between), fixed=fixed)

    @property
    def excess(self) -> MilliwattHours:
        """The largest excess of any stretch; not above 0: every residual is within its bound."""
        found = [self.head.excess(self.fixed)]
        found += [self.tail.excess(self.fixed)] if self.tail is not None else []
        return max(found + ([self.worst] if self.worst is not None else []))


def residual_of(found: Balance, row: int, allowed: Tolerance, begins: Flags) -> DayResidual:
    """Return the residual of one microgrid.

    Args:
        found: The balance of alike microgrids.
        row: The microgrid's number.
        begins: The slots at whose start a meter was exchanged: a new stretch begins.
    """
    known = found.known[row]
    residual = found.residual[row]
    halves = found.halves(allowed)[row]
    number = np.cumsum(~known | begins)
    sums = np.zeros((2, int(number[-1]) + 1), np.int64)
    for row_of, values in zip(sums, (residual, halves), strict=True):
        np.add.at(row_of, number, values * known)
    between = np.abs(sums[0, 1:-1]) - allowed.fixed - sums[1, 1:-1] // 2
    return DayResidual(
        head=_stretch(sums[:, 0]),
        tail=_stretch(sums[:, -1]) if sums.shape[1] > 1 else None,
        worst=int(between.max()) if between.size else None,
        fixed=allowed.fixed,
    )


def _stretch(sums: Array) -> SlotStretch:
    return SlotStretch(residual=int(sums[0]), halves=int(sums[1]))
