"""A quarter-hour of one microgrid's batteries: from blocks and events to what each gave and received (C2, pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from commonwatt.energy.splits import Flags
from commonwatt.model.blocks import Blocks
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MeterId, MicrogridId, MilliwattHours, Quarter
from utility.energy.quarters import QUARTERS_A_DAY, applied, no_overlay, shared_by
from utility.registry.layout import Layout, ids_of
from utility.settlement.day import TYPES, DayGroup, QuarterTable, SettlementRules


@dataclass(frozen=True, kw_only=True)
class SharedQuarter:
    """What the batteries of a microgrid gave and received in a quarter-hour, milliwatt-hours, by meter number."""

    given: Mapping[int, MilliwattHours]  # by meter number, where not 0
    received: Mapping[int, MilliwattHours]  # by meter number, where not 0
    complete: bool  # whether every reading that it needs was there


@dataclass(frozen=True, kw_only=True)
class QuarterShare:
    """What a battery gave and received by sharing in a quarter-hour."""

    quarter: Quarter  # the quarter-hour
    meter: MeterId  # the battery's outgoing meter
    place: tuple[MicrogridId, str]  # where it is
    given: MilliwattHours  # to other batteries
    received: MilliwattHours  # from other batteries


NOTHING = SharedQuarter(given={}, received={}, complete=True)  # nothing was shared: no battery had the command


def sharing_slots(events: Iterable[tuple[int, EventRecord]], first: Quarter, quarters: int = 1) -> Flags:
    """Return in which slots of some quarters a meter had the command to share, at the slot's begin or end.

    Args:
        events: (log generation, event) of the meter: those of the time, the last one before and the first one after.
        first: The first quarter.
        quarters: How many there are.
    """
    ordered = sorted(events, key=lambda item: (item[1].time, item[0], item[1].record_id))
    slots, begin = quarters * SLOTS, first * QUARTER_S
    edges = begin + SLOT_S * np.arange(slots + 1)
    at = np.zeros(slots + 1, np.bool_)
    for _, event in ordered:
        at[edges >= event.time] = bool(event.new_state & State.SHARING)
    changed = [event.time for _, event in ordered if event.new_state & State.SHARING]
    within = np.zeros(slots, np.bool_)
    for time in changed:
        slot = (time - begin) // SLOT_S
        if 0 <= slot < slots:
            within[slot] = True
    return at[:-1] | at[1:] | within


def shared_in(
    layout: Layout,
    numbers: Mapping[MeterId, int],
    sharing: Mapping[MeterId, Flags],
    readings: Sequence[Blocks],
    quarter: Quarter,
    loss_permille: int,
) -> SharedQuarter:
    """Return what a microgrid's batteries shared in a quarter.

    A battery that lacks a reading in a slot gives and receives nothing in it, and the quarter is not complete.

    Args:
        layout: The microgrid, with the meters that were there in the quarter.
        numbers: The numbers of its meters.
        sharing: By meter, the slots in which it had the command to share; absent: in none.
        readings: The microgrid's blocks of the quarter before, for the levels before, and of the quarter.
        loss_permille: Part of a battery's charge that is lost, thousandths.
    """
    day, number = divmod(quarter, QUARTERS_A_DAY)
    meters = np.array(sorted(ids_of(layout.meters)), np.uint64)
    rules = SettlementRules(convention="sharing_first", battery_loss_permille=loss_permille)
    before, table = (QuarterTable(meters, applied(blocks, no_overlay()), *TYPES) for blocks in readings)
    of_day = {i: np.pad(at, (number * SLOTS, (QUARTERS_A_DAY - 1 - number) * SLOTS)) for i, at in sharing.items()}
    found, there = shared_by(DayGroup(day, [layout], meters, rules, of_day).readings(number, table, before))
    places = [numbers[layout.senders[place.sender].id] for place in layout.batteries]
    given, received = (
        {no: energy for no, energy in zip(places, energies.sum(axis=0).tolist(), strict=True) if energy}
        for energies in (found.given, found.received)
    )
    return SharedQuarter(given=given, received=received, complete=bool(there.all()))
