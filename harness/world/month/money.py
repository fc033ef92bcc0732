"""The invariant of money: what is billed for a month is what was measured, settled and billed again by plain means.

The readings are those that ``harness.world.ending`` compared with what meters measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.calendar import month_of
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, Quarter
from harness.billing.plain import Plain, PlainBill, energy_of
from harness.settlement.plain import RandomDay, settle_plainly
from harness.world.world import World
from utility.billing.bill import Bill, to_cents
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import bills_of_run, check_run, issue_run, issued_run, run_of, runs
from utility.energy.quarters import Quantity, SettledQuarters
from utility.readings.store.reads import all_blocks
from utility.registry.accounts import Installed
from utility.registry.store.accounts import load_dated_registry
from utility.settlement.store.settled import load_settled
from utility.tariffs.store import published

Array = npt.NDArray[Any]

LATER_S = 40 * 86_400  # seconds after the world when all days are final


def issue(world: World) -> None:
    """Check and issue the newest draft.

    Raises:
        ConfigError: It can't be issued now.
    """
    now = world.clock()
    with world.utility.database.writes.begin() as connection:
        for run in runs(connection, 1):
            if run["state"] == "draft":
                check_run(connection, run["no"], "anna", now)
                issue_run(connection, run["no"], "ben", now)
                world.tell("people", f"issued the bills of {run['month']}")
                world.story.count("bills issued")


def check(world: World, month: str, zone: ZoneInfo, moved: Quarter, month_end: Quarter, now: int) -> None:
    """Compare the bills of a month and of the next one with what was measured, once all is settled."""
    utility, first_month = world.utility, month
    with utility.database.reads.begin() as connection:
        registry = load_dated_registry(connection)
        tariffs = [each.canonical() for each in published(connection)]
    # Quarters in which a bill begins or ends.
    begins = {at + n for at in (moved, month_end) for n in (-1, 0)}
    truth, quarters = _truth(world, {m.id: m for m in registry.meters.values()}, begins)
    _check_settled(world, truth)
    beyond: dict[int, int] = {}  # cents that accounts are billed and do not owe
    for month in (first_month, month_of(month_end, zone)):
        plain = Plain(registry, tariffs, "town", {}, truth, month, zone.key)
        plain.quarters = [quarter for quarter in plain.quarters if quarter in quarters]
        expected = plain.run()
        number = utility.database.read(issued_run, month)
        if number is None:
            made = computed_run(utility.database, prepared(utility.database, month, "town", now))
            number = saved(utility.database, made, "anna", now)
            bills = {account: each.bill for account, each in made.billed.items()}
            for account, bill in bills.items():
                _check_energy(world, bill, expected.get(account))
        else:
            world.story.count("issued before the end")
            bills = {bill.account: bill for bill in utility.database.read(bills_of_run, number)}
        for account in bills.keys() | expected.keys():
            cents = sum(to_cents(line.amount) for line in bills[account].lines) if account in bills else 0
            owed = expected[account].cents if account in expected else 0
            beyond[account] = beyond.get(account, 0) + cents - owed
        if month == first_month:
            assert number is not None
            _issue_at_end(world, number, now)
    # What is in favour of an account waits for its next bill.
    if wrong := {account: cents for account, cents in beyond.items() if cents < 0 or (cents and account in bills)}:
        world.fail(f"M1: cents too much, by account: {wrong}")


def _issue_at_end(world: World, number: int, now: int) -> None:
    with world.utility.database.writes.begin() as connection:
        state = run_of(connection, number)["state"]
        if state == "draft":
            check_run(connection, number, "anna", now)
        if state != "issued":
            issue_run(connection, number, "ben", now)


def _check_energy(world: World, bill: Bill, expected: PlainBill | None) -> None:
    wanted = {} if expected is None else {key: energy for key, energy in expected.energy.items() if energy}
    if (found := energy_of(bill)) != wanted:
        world.fail(f"M1: of account {bill.account}, {bill.month}: {found}, measured {wanted}")


def _check_settled(world: World, truth: SettledQuarters) -> None:
    until = truth.first + truth.quality.shape[1]
    settled = world.utility.database.read(load_settled, truth.meters.tolist(), truth.first, until)
    for quantity in Quantity:
        wrong = np.flatnonzero((settled.of(quantity) != truth.of(quantity)).any(axis=1))
        for row in wrong.tolist():
            found, wanted = (one.of(quantity)[row].tolist() for one in (settled, truth))
            world.fail(
                f"M1: of meter {truth.meters[row]} {quantity.name} is settled from quarter "
                f"{truth.first} as {found}, and measured {wanted}"
            )


def _truth(world: World, meters: Mapping[int, Installed], begins: set[Quarter]) -> tuple[SettledQuarters, set[Quarter]]:
    """Settle what the utility has, one slot at a time; return it, and the quarters with readings or in ``begins``."""
    readings = _readings(world)
    quarters = sorted(begins | {quarter for _, _, quarter in readings})
    first, inside = quarters[0], sorted(number for number, one in meters.items() if one.function != "boundary")
    shape = len(inside), quarters[-1] + 1 - first
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    for microgrid in sorted({one.microgrid for one in meters.values()}):
        members = [one for one in meters.values() if one.microgrid == microgrid]
        found = settle_plainly(_day(members, readings, quarters), "pro_rata", len(quarters), resolution=None)
        for (quantity, meter, at), energy in found.energies.items():
            energies[quantity][inside.index(meter), quarters[at] - first] = energy
    truth = SettledQuarters(
        meters=np.array(inside, np.uint64),
        first=first,
        energies=energies,
        quality=np.zeros(shape, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )
    return truth, set(quarters)


Readings = Mapping[tuple[int, int, Quarter], tuple[Array, Array]]
"""Values and qualities of slots by meter, type and quarter."""


def _readings(world: World) -> Readings:
    return {
        blocks.key(row): (blocks.values[row], blocks.quality[row])
        for blocks in list(all_blocks(world.utility.database, 0, 2**32 // QUARTER_S))
        for row in range(len(blocks))
    }


def _day(members: Sequence[Installed], readings: Readings, quarters: Sequence[Quarter]) -> RandomDay:
    """Return the quarters that have readings as the first ones of a day; no meter changes hands in it."""
    day = RandomDay(meters=[replace(one, start=None, end=None) for one in members])
    nothing = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.uint8)
    for one in members:
        for kind in (RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED):
            of = [nothing, *(readings.get((one.id, int(kind), quarter), nothing) for quarter in quarters)]
            values, quality = (np.concatenate(column) for column in zip(*of, strict=True))
            day.values[one.id, kind], day.quality[one.id, kind] = np.where(quality > 0, values, -1), quality
    return day
