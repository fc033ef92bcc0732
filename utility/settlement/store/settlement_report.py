"""How far the conventions are from each other, and from the truth of the emulated meters, by account."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import select

from commonwatt.codec.dumps import read_dump
from commonwatt.model.blocks import Blocks, empty, join
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId, unsigned64
from commonwatt.model.records import EventRecord
from commonwatt.model.units import Quarter
from commonwatt.settlement.conventions import CONVENTIONS
from commonwatt.settlement.overlay import applied, no_overlay
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity
from utility.database.database import Database
from utility.readings.store.reads import numbers_of
from utility.registry.layout import ids_of, layout_of
from utility.registry.tables import meter
from utility.settlement.day import Rules, Settling
from utility.settlement.shared_quarter import sharing_slots
from utility.settlement.store.settlement_due import sharing_of_day
from utility.settlement.store.settlement_members import owners
from utility.settlement.store.settlement_readings import ReadingsOfQuarters
from utility.supply.store.rations import loss_permille

Report: TypeAlias = "dict[str, Any]"
Energy: TypeAlias = "dict[tuple[int, Quantity], int]"  # milliwatt-hours by account and quantity

_Read: TypeAlias = "Callable[[Sequence[Quarter]], Iterable[Blocks]]"

_TRUTH = "truth"
_BILLED = (Quantity.IMPORTED, Quantity.EXPORTED)


def report_of(database: Database, days: range, truth: Sequence[Path], tell: Callable[[float], object]) -> Report:
    """Settle some days by each convention, and compare the accounts; nothing is stored.

    Args:
        days: The days of UTC.
        truth: Files of ``commonwatt meters dump --truth``; without any, only the conventions are compared.
        tell: Takes the part that is done.

    Raises:
        ConfigError: The database has no meters.
    """
    with database.reads.begin() as connection:
        members = owners(connection)
        rules = Rules(battery_loss_permille=loss_permille(connection))
        numbers = numbers_of(connection, [meter.id for owner in members.values() for meter in owner.meters])
        account_of = {
            unsigned64(row.id): row.account for row in connection.execute(select(meter.c.id, meter.c.account))
        }
    if not members:
        raise ConfigError("no meter is registered", "see: commonwatt utility register")
    true_blocks, true_events = _read(truth)
    found: dict[str, Energy] = {name: {} for name in (*CONVENTIONS, *([_TRUTH] if truth else []))}
    for done, day in enumerate(days):
        layouts = [layout_of(owner.microgrid, owner.meters, day) for owner in members.values()]
        batteries = {numbers[i]: i for one in layouts for i in (one.senders[p.sender].id for p in one.batteries)}
        ours = {i: numbers[i] for one in layouts for i in ids_of(one.meters)}
        stored = database.read(sharing_of_day, batteries, day)
        first = day * QUARTERS_A_DAY
        true = {i: sharing_slots(some, first, QUARTERS_A_DAY) for i, some in true_events.items()}
        for name, energy in found.items():
            if name == _TRUTH:
                read, sharing, convention = _by_quarter(true_blocks), true, "sharing_first"
            else:
                read, sharing, convention = ReadingsOfQuarters(database, ours, list(batteries)).over, stored, name
            settling = Settling(day, layouts, replace(rules, convention=convention), sharing)
            _add(energy, _settled(settling, read), account_of)
        tell((done + 1) / len(days))
    return _compared(found)


def _settled(settling: Settling, read: _Read) -> Mapping[tuple[MeterId, Quantity], int]:
    for blocks in read(settling.quarters):
        settling.add(applied(blocks, no_overlay()))
    found = settling.finished()
    sums = {quantity: found.energies[quantity].sum(axis=1).tolist() for quantity in _BILLED}
    return {(i, q): sums[q][row] for row, i in enumerate(found.meters.tolist()) for q in _BILLED}


def _add(energy: Energy, settled: Mapping[tuple[MeterId, Quantity], int], account_of: Mapping[MeterId, int]) -> None:
    for (meter_id, quantity), value in settled.items():
        key = account_of[meter_id], quantity
        energy[key] = energy.get(key, 0) + value


def _compared(found: Mapping[str, Energy]) -> Report:
    reference = _TRUTH if _TRUTH in found else "sharing_first"
    names = [name for name in CONVENTIONS if name != reference]
    accounts = sorted({account for account, _ in found[reference] if account})
    rows = []
    off: dict[str, list[int]] = {name: [] for name in names}
    for account in accounts:
        row: dict[str, object] = {"account": account}
        for name in (*names, reference):
            for quantity in _BILLED:
                row[f"{name} {quantity.name.lower()}"] = f"{found[name].get((account, quantity), 0) / 1e6:.3f}"
        for name in names:
            distance = sum(abs(found[name][account, q] - found[reference][account, q]) for q in _BILLED)
            off[name].append(distance)
            row[f"{name} off by"] = f"{distance / 1e6:.3f}"
        rows.append(row)
    total = max(1, sum(value for (account, _), value in found[reference].items() if account))
    summary = [
        f"{name}: {sum(values) / 1e6:.3f} kWh from {reference} ({100 * sum(values) / total:.3f} % of what is billed), "
        f"an account at most {max(values, default=0) / 1e6:.3f} kWh"
        for name, values in off.items()
    ]
    worst = np.argsort([-max((off[name][n] for name in names), default=0) for n in range(len(rows))], kind="stable")
    return {"summary": summary, "accounts": [rows[n] for n in worst.tolist()]}


def _read(paths: Sequence[Path]) -> tuple[Blocks, dict[MeterId, list[tuple[int, EventRecord]]]]:
    blocks = [empty()]
    events: dict[MeterId, list[tuple[int, EventRecord]]] = {}
    for path in paths:
        with path.open(encoding="utf-8") as file:
            more, more_events = read_dump(file)
        blocks.append(more)
        for (meter_id, generation, _), event in more_events.items():
            events.setdefault(meter_id, []).append((generation, event))
    return join(blocks), events


def _by_quarter(blocks: Blocks) -> _Read:
    return lambda quarters: (blocks.take(np.flatnonzero(blocks.quarter == quarter)) for quarter in quarters)
