"""Random settled days of a town in a utility's database, and the readings of its batteries that go with them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from commonwatt.model.ids import unsigned64
from commonwatt.model.records import RecordType
from commonwatt.settlement.residual import DayResidual, Stretch
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity
from commonwatt.town.town import Direction
from utility.database.database import Database
from utility.database.postgres.partitions import make_partitions, month_of
from utility.readings.tables import compacted
from utility.registry.layout import ids_of, installed_in, layout_of
from utility.registry.tables import controller, meter
from utility.settlement.day import SettledDay
from utility.settlement.store.settled import save
from utility.settlement.store.settlement_members import Owner
from utility.statistics.months import Month
from utility.statistics.packed import packed
from utility.statistics.store.usage import Scope, load_town_usage
from utility.statistics.tables import usage_month

_OWN = {
    Direction.INCOMING: (Quantity.IMPORTED, Quantity.SHARED_IN),
    Direction.OUTGOING: (Quantity.EXPORTED, Quantity.SHARED_OUT),
}


def random_day(owners: Sequence[Owner], day: int, seed: int = 0, *, lost: float = 0.0) -> SettledDay:
    """Return a settled day of some microgrids with random energies; a part ``lost`` of the quarter-hours is missing."""
    random = np.random.default_rng((seed, day))
    meters = sorted((m for owner in owners for m in owner.meters if installed_in(m, day).any()), key=lambda one: one.id)
    layouts = {owner.microgrid: layout_of(owner.microgrid, owner.meters, day) for owner in owners}
    inside = {i for layout in layouts.values() for i in ids_of((*layout.senders, *layout.takers))}
    shape = len(meters), QUARTERS_A_DAY
    has = {q: np.array([m.id in inside and q in _OWN[m.direction] for m in meters], np.bool_) for q in Quantity}
    energies = {
        q: random.integers(0, 4000, shape) * 100 * (random.random(shape) < 0.5) * has[q][:, None] for q in Quantity
    }
    quality = np.where(random.random(shape) < lost, 0, 4).astype(np.uint8)
    there = np.array([installed_in(m, day) for m in meters])
    return SettledDay(
        day=day,
        meters=np.array([m.id for m in meters], np.uint64),
        energies={q: values * there for q, values in energies.items()},
        has=has,
        quality=quality * there,
        residuals={name: DayResidual(head=Stretch(residual=0, halves=0), fixed=0) for name in layouts},
        missing=dict.fromkeys(layouts, int((quality == 0).sum())),
    )


def settle(database: Database, owners: Sequence[Owner], found: SettledDay) -> None:
    """Store a settled day as the job of settlement does."""
    with database.writes.begin() as connection:
        save(connection, found, list(owners), [], "pro_rata", (found.day + 1) * 86_400, is_over=True)


def store_batteries(database: Database, days: range, seed: int = 0) -> dict[tuple[int, int], tuple[int, int]]:
    """Store readings of generation and level of every battery; return (generated, level) by (meter's id, quarter)."""
    random = np.random.default_rng(seed)
    with database.reads.begin() as connection:
        statement = select(meter.c.no, meter.c.id, meter.c.battery_capacity, controller.c.number)
        statement = statement.join(controller, controller.c.id == meter.c.microgrid)
        batteries = connection.execute(statement.where(meter.c.battery_capacity.is_not(None))).all()
    quarters = range(days.start * QUARTERS_A_DAY, days.stop * QUARTERS_A_DAY)
    rows, found = [], {}
    for each in batteries:
        made = random.integers(0, 1000, len(quarters)).tolist()
        level = random.integers(0, each.battery_capacity, len(quarters)).tolist()
        for n, quarter in enumerate(quarters):
            key = {"quarter": quarter, "meter_no": each.no, "owner_no": each.number}
            for kind, value in ((RecordType.GENERATION, made[n]), (RecordType.STORED, level[n])):
                total = value if kind is RecordType.GENERATION else None
                rows.append(_reading(int(kind), value, total) | key)
            found[unsigned64(each.id), quarter] = made[n], level[n]
    with database.writes.begin() as connection:
        make_partitions(connection, {month_of(quarter) for quarter in (quarters[0], quarters[-1])})
        connection.execute(compacted.insert(), rows)
    return found


def _reading(kind: int, value: int, total: int | None) -> dict[str, object]:
    readings = dict.fromkeys(("first_reading", "last_reading", "min_reading", "max_reading"), value)
    counts = {"exact": 60, "averaged": 0, "conflicts": 0, "received_minute": 0, "sender_no": 0, "payload": b""}
    return {"record_type": kind, "total": total, **readings, **counts}


def store_months(database: Database, first: Month, count: int, seed: int = 0) -> None:
    """Store the usage of months with seasons, noise and growth: of every account, and all sums of them."""
    random = np.random.default_rng(seed)
    with database.reads.begin() as connection:
        town = load_town_usage(connection)
        held = {
            number: sorted({h.account for m in owner.meters for h in m.holdings})
            for number, owner in town.owners.items()
        }
    level = {account: random.lognormal(0, 0.4) for accounts in held.values() for account in accounts}
    day = 1 + np.sin(np.arange(48) % 24 / 24 * 2 * np.pi) / 2
    with database.writes.begin() as connection:
        for month in range(first, first + count):
            season = (1 + 0.3 * np.cos(month % 12 / 12 * 2 * np.pi)) * 1.002 ** (month - first)
            shapes: dict[tuple[Scope, int, int], NDArray[np.int64]] = {}
            for owner_no, accounts in held.items():
                for account in accounts:
                    shape = np.zeros((4, 48), np.int64)
                    power = level[account] * season * random.lognormal(0, 0.1)
                    shape[0] = (day * power * 9e6).astype(np.int64)
                    shape[2] = (day[::-1] * power * 2e6).astype(np.int64)
                    shapes[Scope.ACCOUNT, account, owner_no] = shape
                    class_no = town.class_of[owner_no]
                    for key in (
                        (Scope.MICROGRID, owner_no, owner_no), (Scope.CLASS, class_no, 0), (Scope.TOWN, 0, 0)
                    ):  # fmt: skip
                        shapes[key] = shapes.get(key, np.zeros((4, 48), np.int64)) + shape
            rows = [_month_row(month, *key, shape) for key, shape in shapes.items()]
            connection.execute(usage_month.insert(), rows)


def _month_row(month: Month, scope: Scope, subject: int, owner_no: int, shape: NDArray[np.int64]) -> dict[str, object]:
    sums = dict(zip(("imported", "shared_in", "exported", "shared_out"), shape.sum(axis=1).tolist(), strict=True))
    zeros = dict.fromkeys(
        ("slots", "wanted", "missing", "estimated", "reduced_s", "islanded_s", "computed", "peak_at"), 0
    )
    return {
        **sums,
        **zeros,
        "month": month,
        "scope": int(scope),
        "subject": subject,
        "owner_no": owner_no,
        "generated": 10**9,
        "used": sums["imported"] + 10**9,
        "peak": int(shape[0].max()),
        "quarters": 2976,
        "settled": 2976,
        "payload": packed(shape),
    }
