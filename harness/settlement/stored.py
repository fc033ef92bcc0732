"""Days of readings in a utility's database, as gateways relay them."""

from typing import Any

import numpy as np
from sqlalchemy import select, update

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS
from commonwatt.town.town import Direction, Function, Meter, Town
from harness.surroundings.sent import append
from utility.database.checks import row_crc
from utility.database.database import Database
from utility.outbox.changes import Append
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.registry.tables import installed

DAY = 20_700
FIRST = DAY * 96
SOON = (DAY + 1) * 86_400 + 4 * 3600


def town_blocks(town: Town, quarters: range = range(FIRST, FIRST + 96), seed: int = 0) -> dict[str, Blocks]:
    """Readings of every meter; the boundary shows exactly what the members do."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, microgrid in town.microgrids.items():
        members = [meter for meter in microgrid.meters if meter.function is not Function.BOUNDARY]
        boundary = {m.direction: m for m in microgrid.meters if m.function is Function.BOUNDARY}
        size = len(members), len(quarters), SLOTS
        values = rng.integers(0, 50, size) * 100 * (rng.random((len(members), len(quarters), 1)) < 0.6)
        signs = np.array([1 if meter.direction is Direction.INCOMING else -1 for meter in members])
        net = (values * signs[:, None, None]).sum(axis=0)
        rows: list[tuple[Meter, Any]] = [
            *zip(members, values, strict=True),
            (boundary[Direction.INCOMING], np.maximum(net, 0)),
            (boundary[Direction.OUTGOING], np.maximum(-net, 0)),
        ]
        keys = [(m.id, int(RecordType.THROUGH), quarter) for m, _ in rows for quarter in quarters]
        whole = np.concatenate([each for _, each in rows])
        found[name] = make_blocks(keys, whole, np.full(whole.shape, 2))
    return found


def sent(name: str, blocks: Blocks) -> Append:
    made = append(blocks, sender=name, received=SOON)
    return Append(**{**vars(made), "owner": name, "payloads": pack(blocks)})


def without(blocks: Blocks, meter: int, quarters: range) -> Blocks:
    lost = (blocks.meter == meter) & np.isin(blocks.quarter, list(quarters))
    return blocks.take(np.flatnonzero(~lost))


def remove_meter(database: Database, meter: int, until: int) -> None:
    """Give a meter its first quarter without it."""
    with database.writes.begin() as connection:
        of = installed.c.meter == meter
        row = connection.execute(select(installed).where(of)).mappings().one()
        changed = dict(row) | {"until": until}
        connection.execute(update(installed).where(of).values(changed | {"crc": row_crc(installed, changed)}))


def store(database: Database, blocks: dict[str, Blocks], now: int = SOON) -> None:
    Writer(database).commit([sent(name, some) for name, some in blocks.items()])
    compactor = Compactor(database)
    while (replacement := compactor.plan(now)) is not None:
        compactor.apply(replacement)
