"""Settlement of quarter-hours: readings as corrected, microgrids that are alike, and what each meter exchanged.

Each slot is settled by itself. A group of ten slots in which a reading is averaged is settled as one, since nobody
knows when in the group its energy flowed. A member without a reading in a slot has no part in the slot: nothing is
settled for it, and the others share without it.

Readings with the corrections that are in force: what settlement takes as the energy of each slot (B4).
A person's value replaces a reading; an estimate does not. A reading that comes later takes the place of an estimate by
itself, and never the place of a person's value. Readings themselves are never changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.splits import Array, Flags
from commonwatt.model.blocks import Blocks, Keys, Quality, empty
from commonwatt.model.units import GROUP_SLOTS, SLOTS, Quarter
from utility.energy.sharing import CONVENTIONS, BatteryReadings, Members, SharedSlots, intake, shared

QUARTERS_A_DAY = 96  # quarter-hours of a settled day; the day is of UTC: it never has 92 or 100
Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours, (meters, quarters)


class Quantity(IntEnum):
    """What is settled for a meter; an incoming meter has the first two, an outgoing one the last two.

    The outgoing meter of a place with a battery but without an incoming meter (a building, the farm) has all four.
    """

    IMPORTED = 1  # taken from the town
    SHARED_IN = 2  # taken from other places of the microgrid
    EXPORTED = 3  # given to the town
    SHARED_OUT = 4  # given to other places of the microgrid


QUANTITY_WORDS: Mapping[Quantity, str] = {
    Quantity.IMPORTED: "taken from the town",
    Quantity.SHARED_IN: "received from neighbours",
    Quantity.EXPORTED: "given to the town",
    Quantity.SHARED_OUT: "given to neighbours",
}
"""Each quantity for people, on every page and bill."""


class SettledQuality(IntEnum):
    """The worst quality of the readings that a settled quarter-hour was made of."""

    # A slot has no reading and no estimate: nothing is settled of it; the energies are those of the other slots.
    MISSING = 0
    ESTIMATED = 1
    EDITED = 2  # a person entered it
    AVERAGED = 3
    MEASURED = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledQuarters:
    """Settled quarter-hours: a row for each meter, a column for each quarter."""

    meters: NDArray[np.uint64]  # the ids, ascending, (meters)
    first: Quarter  # the first quarter; the columns follow it without a gap
    # By quantity, milliwatt-hours, never negative; a quantity that no meter has may be absent.
    energies: dict[Quantity, Energies]
    quality: NDArray[np.uint8]  # ``SettledQuality`` of each quarter, (meters, quarters), uint8
    provisional: NDArray[np.bool_]  # whether a reading may still come, (meters, quarters)
    version: NDArray[np.int32]  # the version of the settled day, from 1; 0: not settled yet, (meters, quarters), int32

    def of(self, quantity: Quantity) -> Energies:
        """Return the energies of a quantity; zeros where no meter has it."""
        found = self.energies.get(quantity)
        return np.zeros(self.quality.shape, np.int64) if found is None else found


Qualities = NDArray[np.uint8]  # ``SettledQuality`` of readings

_Kind = TypeVar("_Kind", bound=np.generic)
_GROUPS = SLOTS // GROUP_SLOTS


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowReadings:
    """Readings of energy, (microgrids, slots, meters): milliwatt-hours, and their ``SettledQuality``.

    A reading below zero is none, as in ``commonwatt.model.validation``.
    """

    values: Array
    quality: Qualities

    @classmethod
    def of(cls, values: Array, quality: Qualities) -> "FlowReadings":
        """Make a flow of readings; what is missing or negative is 0 and missing."""
        if quality.all() and values.min(initial=0) >= 0:
            return cls(values=values, quality=quality)
        quality = np.where(values < 0, np.uint8(0), quality)
        return cls(values=np.where(quality > 0, values, 0), quality=quality)

    @property
    def there(self) -> Flags:
        """Which readings are there."""
        return np.asarray(self.quality > SettledQuality.MISSING)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupBatteries:
    """The batteries of alike microgrids: B batteries of M microgrids."""

    sender: NDArray[np.intp]  # the number of each battery's outgoing meter among the senders, (B)
    own: Flags  # which takers are the incoming meter of the battery's place, (B, takers)
    behind: Flags  # which takers are at places behind the battery's building or farm, (B, takers)
    capacity: Array  # capacity, milliwatt-hours, (M, B)
    generation: FlowReadings  # generation, (M, slots, B)
    level: FlowReadings  # level at each slot's end, then at the end of the slot before the first, (M, slots + 1, B)
    sharing: Flags  # whether the battery had the command to share, (M, slots, B)
    loss_permille: int  # part of a battery's charge that is lost, thousandths

    @property
    def unmetered(self) -> NDArray[np.intp]:
        """The batteries whose place has no incoming meter: a building's, the farm's."""
        return np.flatnonzero(~self.own.any(axis=1))

    @property
    def quality(self) -> Qualities:
        """The worst of the generation and both levels of each slot, (M, slots, B)."""
        levels = np.minimum(self.level.quality[:, 1:], self.level.quality[:, :-1])
        return np.minimum(self.generation.quality, levels)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuarterReadings:
    """The readings of a quarter-hour of M alike microgrids."""

    sent: FlowReadings  # through the outgoing meters, (M, slots, senders)
    taken: FlowReadings  # through the incoming meters, (M, slots, takers)
    # The batteries that settlement needs: those without an incoming meter; all for ``sharing_first``.
    batteries: GroupBatteries


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledSlots:
    """Settled slots of M alike microgrids, milliwatt-hours; a group that is settled as one is in its first slot.

    The takers are the incoming meters, then the places of the unmetered batteries.
    """

    sent: Array  # what each sender sent, (M, slots, senders)
    taken: Array  # what each taker took, (M, slots, takers)
    shared_out: Array  # of ``sent``, what stayed inside the microgrid
    shared_in: Array  # of ``taken``, what came from inside
    quality_out: Qualities  # the worst quality of each sender's readings in the quarter, (M, senders)
    quality_in: Qualities  # the same of the takers, (M, takers)


def settle(readings: QuarterReadings, convention: str = "pro_rata") -> SettledSlots:
    """Settle a quarter-hour of alike microgrids by a convention of ``CONVENTIONS``."""
    grouped = _groups_as_one(readings)
    batteries = grouped.batteries
    rows, slots = grouped.sent.values.shape[:2]
    sent, taken = grouped.sent.values, grouped.taken.values
    there = _battery_there(grouped)
    derived = batteries.unmetered
    if derived.size:
        taken = np.concatenate([taken, np.maximum(signed_intake(grouped), 0) * there[:, :, derived]], axis=2)
    members = Members(sent=_flat(sent), taken=_flat(taken))
    if convention == "sharing_first" and batteries.sharing.any():
        members = _with_sharing(members, grouped)
    split = CONVENTIONS[convention](members)
    return SettledSlots(
        sent=sent,
        taken=taken,
        shared_out=split.shared_out.reshape(rows, slots, -1),
        shared_in=split.shared_in.reshape(rows, slots, -1),
        quality_out=_of_quarter(readings.sent.quality),
        quality_in=_of_quarter(
            np.concatenate([readings.taken.quality, battery_quality(readings)[:, :, derived]], axis=2)
        ),
    )


def _of_quarter(quality: Qualities) -> Qualities:
    """Return the worst quality of each meter, (M, meters): mostly there is but one."""
    if quality.min(initial=SettledQuality.MEASURED) == SettledQuality.MEASURED:
        return np.full((len(quality), quality.shape[2]), SettledQuality.MEASURED, np.uint8)
    return np.asarray(quality.min(axis=1, initial=SettledQuality.MEASURED))


def signed_intake(readings: QuarterReadings) -> Array:
    """Return what the places of unmetered batteries took in, (M, slots, batteries); below 0 by rounded readings."""
    batteries, which = readings.batteries, readings.batteries.unmetered
    level = batteries.level.values[:, :, which]
    return intake(
        readings.sent.values[:, :, batteries.sender[which]],
        batteries.generation.values[:, :, which],
        level[:, :-1],
        level[:, 1:],
        batteries.loss_permille,
    )


def battery_quality(readings: QuarterReadings) -> Qualities:
    """Return the worst quality of the readings of each battery in each slot, (M, slots, B)."""
    outgoing = readings.sent.quality[:, :, readings.batteries.sender]
    return np.minimum(outgoing, readings.batteries.quality)


def _battery_there(readings: QuarterReadings) -> Flags:
    return battery_quality(readings) > SettledQuality.MISSING


def _flat(values: NDArray[_Kind]) -> NDArray[_Kind]:
    """Return (M, slots, meters) as rows of meters."""
    return values.reshape(-1, values.shape[2])


def shared_by(readings: QuarterReadings) -> tuple[SharedSlots, Flags]:
    """Return who gave and received by sharing, and which batteries have all readings for it, (M, slots, B).

    A battery that lacks one in a slot gives and receives nothing in it. The slots follow each other: (M * slots, B).
    """
    batteries, there = readings.batteries, _battery_there(readings)
    taken, taken_there = readings.taken.values, readings.taken.there
    for takers in (batteries.own, batteries.behind):
        there = there & ((~taken_there).astype(np.int64) @ takers.T.astype(np.int64) == 0)
    slots = there.shape[1]
    level = batteries.level.values
    found = shared(
        BatteryReadings(
            sharing=_flat(batteries.sharing & there),
            metered_in=np.asarray(batteries.own.any(axis=1)),
            outgoing=_flat(readings.sent.values[:, :, batteries.sender] * there),
            incoming=_flat((taken @ batteries.own.T.astype(np.int64)) * there),
            generation=_flat(batteries.generation.values * there),
            capacity=np.repeat(batteries.capacity, slots, axis=0),
            before=_flat(level[:, :-1] * there),
            after=_flat(level[:, 1:] * there),
            behind=_flat((taken @ batteries.behind.T.astype(np.int64)) * there),
            loss_permille=batteries.loss_permille,
        )
    )
    return found, there


def _with_sharing(members: Members, readings: QuarterReadings) -> Members:
    """Add what each member gave and received by sharing, as ``utility.energy.sharing`` tells it."""
    batteries, takers = readings.batteries, readings.taken.values.shape[2]
    found, _ = shared_by(readings)
    given, received = np.zeros_like(members.sent), np.zeros_like(members.taken)
    given[:, batteries.sender] = found.given
    for battery in np.flatnonzero(batteries.own.any(axis=1)).tolist():
        rest = found.received[:, battery]
        # A place has two incoming meters in a quarter in which they are exchanged.
        for taker in np.flatnonzero(batteries.own[battery]).tolist():
            received[:, taker] = np.minimum(members.taken[:, taker], rest)
            rest = rest - received[:, taker]
    received[:, takers:] = found.received[:, batteries.unmetered]
    return replace(members, given=given, received=received)


def _groups_as_one(readings: QuarterReadings) -> QuarterReadings:
    """Put the energy of each group with an averaged reading into its first slot; levels become that of its end."""
    averaged = [flow.quality == SettledQuality.AVERAGED for flow in _flows(readings)]
    if not any(each.any() for each in averaged):
        return readings
    groups = np.logical_or.reduce([_by_group(each).any(axis=(2, 3)) for each in averaged])
    batteries = readings.batteries
    level = batteries.level
    ends = _by_group(level.values[:, 1:])
    values = np.where(groups[:, :, None, None], ends[:, :, -1:], ends).reshape(level.values[:, 1:].shape)
    flags = _by_group(batteries.sharing)
    sharing = np.where(groups[:, :, None, None], flags.any(axis=2, keepdims=True), flags)
    return QuarterReadings(
        sent=_summed(readings.sent, groups),
        taken=_summed(readings.taken, groups),
        batteries=replace(
            batteries,
            # What a group's intake is made of must be there in all of its slots.
            generation=FlowReadings(
                values=_sums(batteries.generation.values, groups), quality=_worst(batteries.quality, groups)
            ),
            level=FlowReadings(values=np.concatenate([level.values[:, :1], values], axis=1), quality=level.quality),
            sharing=sharing.reshape(batteries.sharing.shape),
        ),
    )


def _flows(readings: QuarterReadings) -> tuple[FlowReadings, ...]:
    level = readings.batteries.level
    last = FlowReadings(values=level.values[:, 1:], quality=level.quality[:, 1:])
    return readings.sent, readings.taken, readings.batteries.generation, last


def _by_group(values: NDArray[_Kind]) -> NDArray[_Kind]:
    """Return (M, slots, n) as (M, groups, slots of a group, n)."""
    return values.reshape(len(values), _GROUPS, GROUP_SLOTS, values.shape[2])


def _summed(flow: FlowReadings, groups: Flags) -> FlowReadings:
    return FlowReadings(values=_sums(flow.values, groups), quality=_worst(flow.quality, groups))


def _sums(values: Array, groups: Flags) -> Array:
    """Return the values with the sums of the groups in their first slots."""
    by_group = np.array(_by_group(values))
    by_group[:, :, 0] = np.where(groups[:, :, None], by_group.sum(axis=2), by_group[:, :, 0])
    by_group[:, :, 1:] *= ~groups[:, :, None, None]
    return np.asarray(by_group.reshape(values.shape))


def _worst(quality: Qualities, groups: Flags) -> Qualities:
    by_group = _by_group(quality)
    found = np.where(groups[:, :, None, None], by_group.min(axis=2, keepdims=True), by_group)
    return np.asarray(found.reshape(quality.shape))


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """The corrections in force of some blocks, each block once."""

    blocks: Blocks  # their values; the quality of a slot without a correction is ``MISSING``
    method: NDArray[np.uint8]  # ``Method`` of each slot's value, 0 without one, uint8 (n, 60)
    edited: NDArray[np.bool_]  # whether a person entered the value, (n, 60)

    def of(self, quarter: Quarter) -> "Overlay":
        """Return the corrections of a quarter."""
        rows = np.flatnonzero(self.blocks.quarter == quarter)
        return Overlay(blocks=self.blocks.take(rows), method=self.method[rows], edited=self.edited[rows])


def no_overlay() -> Overlay:
    """Return an overlay of no corrections."""
    return Overlay(blocks=empty(), method=np.zeros((0, SLOTS), np.uint8), edited=np.zeros((0, SLOTS), np.bool_))


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrected:
    """Blocks with their corrections: those with readings in their order, then those with corrections alone."""

    keys: Keys  # meter, record type and quarter, (n)
    values: NDArray[np.int64]  # milliwatt-hours; 0 where missing, (n, 60)
    quality: NDArray[np.uint8]  # ``SettledQuality`` of each slot, uint8 (n, 60)


def applied(raw: Blocks, overlay: Overlay) -> Corrected:
    """Return the readings with the corrections in force.

    Args:
        raw: Joined readings, each block once.
        overlay: Corrections of any blocks.
    """
    # Bytes are translated in a tenth of the time of looking each up in an array.
    quality = np.frombuffer(raw.quality.tobytes().translate(_MEASURED), np.uint8).reshape(raw.quality.shape)
    if not len(overlay.blocks):
        return Corrected(keys=raw.keys(), values=raw.values, quality=quality)
    rows, alone = _places(raw, overlay.blocks)
    keys, more = raw.keys(), overlay.blocks.keys().take(alone)
    nothing = np.zeros((len(alone), SLOTS), np.int64)
    values = np.concatenate([raw.values, nothing])
    quality = np.concatenate([quality, nothing.astype(np.uint8)])
    corrected = overlay.blocks.quality > Quality.MISSING
    taken = corrected & (overlay.edited | (quality[rows] == SettledQuality.MISSING))
    made = np.where(overlay.edited, np.uint8(SettledQuality.EDITED), np.uint8(SettledQuality.ESTIMATED))
    values[rows] = np.where(taken, overlay.blocks.values, values[rows])
    quality[rows] = np.where(taken, made, quality[rows])
    every = Keys(
        np.concatenate([keys.meter, more.meter]),
        np.concatenate([keys.record_type, more.record_type]),
        np.concatenate([keys.quarter, more.quarter]),
    )
    return Corrected(keys=every, values=values, quality=quality)


_MEASURED = bytes.maketrans(
    bytes([Quality.AVERAGED, Quality.EXACT]), bytes([SettledQuality.AVERAGED, SettledQuality.MEASURED])
)


def _places(raw: Blocks, corrected: Blocks) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row of each corrected block in the result, and which of them have no reading."""
    # Corrections are few, readings a town's: only blocks of the same meters are looked at one by one.
    near = np.flatnonzero(np.isin(raw.meter, corrected.meter)).tolist()
    there = {raw.key(row): row for row in near}
    rows = np.array([there.get(corrected.key(row), -1) for row in range(len(corrected))], np.intp)
    alone = np.flatnonzero(rows < 0)
    rows[alone] = len(raw) + np.arange(len(alone))
    return rows, alone
