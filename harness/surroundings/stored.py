"""What tests have in a utility's database: readings, settled days, homes' energies; and folders of towns."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.calendar import parse_time
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, unsigned64
from commonwatt.town.loading import town_of
from commonwatt.town.town import Direction, Function, Meter, Town, TownFile
from harness.surroundings.messages import append
from utility.database.checks import row_crc
from utility.database.database import Database, open_database
from utility.database.postgres.partitions import make_partitions, month_of
from utility.energy.quarters import QUARTERS_A_DAY, Quantity
from utility.exports.store.exports import AskedExport, settled_export
from utility.exports.store.files import write_files
from utility.exports.writers import Format
from utility.jobs.plans import NEW_YORK
from utility.outbox.changes import Append
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.registry.layout import ids_of, installed_in, layout_of
from utility.registry.store.registration import fill_registry
from utility.registry.tables import controller, installed, meter
from utility.research.documents import FileColumn as ReleaseColumn
from utility.research.documents import ReleaseFacts, name_columns
from utility.research.homes import HomeMeasure, Homes
from utility.research.jobs.files import DataFile, write_release
from utility.research.release import AskedRelease, Tier
from utility.settlement.day import SettledDay
from utility.settlement.residual import DayResidual, SlotStretch
from utility.settlement.store.readings import Owner, owners
from utility.settlement.store.settled import save
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
        residuals={name: DayResidual(head=SlotStretch(residual=0, halves=0), fixed=0) for name in layouts},
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


def store_homes(database: Database, town: Town, homes: Homes, *, compacts: bool = True) -> None:
    """Register a town, and store the readings of its homes, compacted or not; unknown quarters are left out."""
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    end = homes.start + homes.known.shape[1] * QUARTER_S
    writer = Writer(database)
    for microgrid, blocks in readings_of(town, homes):
        made = append(blocks, sender=microgrid, received=end)
        writer.commit([type(made)(**{**vars(made), "owner": microgrid, "payloads": pack(blocks)})])
    compactor = Compactor(database)
    while compacts and (replacement := compactor.plan(end + 2 * QUARTER_S)) is not None:
        compactor.apply(replacement)


def readings_of(town: Town, homes: Homes) -> Iterator[tuple[str, Blocks]]:
    """Yield the blocks of each microgrid: energies spread evenly over the slots, levels from the quarter before on."""
    row_of = {(home.microgrid, home.place): row for row, home in enumerate(homes.homes)}
    for microgrid in town.microgrids.values():
        ours = [meter for meter in microgrid.meters if (microgrid.id, meter.location) in row_of]
        made = [_blocks_of(meter, homes, row_of[microgrid.id, meter.location]) for meter in ours]
        if made:
            keys = [key for one, _ in made for key in one]
            values = np.concatenate([one for _, one in made])
            yield microgrid.id, make_blocks(keys, values, np.full(values.shape, 2))


def _blocks_of(meter: Meter, homes: Homes, row: int) -> tuple[list[tuple[int, int, int]], np.ndarray]:
    first, known = homes.start // QUARTER_S, np.flatnonzero(homes.known[row])
    used, generated, taken, given = (homes.values[measure][row] for measure in HomeMeasure)
    if meter.direction is Direction.INCOMING:
        flows = {RecordType.THROUGH: taken}
    else:
        flows = {RecordType.GENERATION: generated, RecordType.THROUGH: given}
    keys = [(meter.id, int(kind), int(first + q)) for kind in flows for q in known]
    values = [_spread(values[known]) for values in flows.values()]
    if meter.battery is not None:
        level = np.cumsum(np.concatenate([[0], generated + taken - given - used]))
        level += 1000 - level.min()
        keys += [(meter.id, int(RecordType.STORED), int(first - 1)), *((meter.id, 2, int(first + q)) for q in known)]
        rising = level[:-1, None] + np.cumsum(_spread(np.diff(level)), axis=1)
        values += [np.full((1, SLOTS), level[0]), rising[known]]
    return keys, np.concatenate(values)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return whole energies by slot that sum up to each value, (n, 60)."""
    ends = values[:, None] * np.arange(SLOTS + 1) // SLOTS
    return np.asarray(np.diff(ends, axis=1))


LATER = 10**10  # a time at which every month is final


def make_exports(folder: Path, microgrids: int, seed: int, months: tuple[str, ...] = ("2026-10", "2026-11")) -> None:
    """Settle random days of a town of houses, five a microgrid, and export each month as the job does.

    Only the first three days of a month are settled, to keep tests short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = {"microgrid": [{"id": "r", "kind": "residential", "count": microgrids, "houses": 5}]}
    town = town_of(TownFile.model_validate(file), Path("town.toml"))
    with closing(open_database(f"sqlite:///{folder}/town.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
            members = list(owners(connection).values())
        for month in months:
            year, number = map(int, month.split("-"))
            start = parse_time(month, "", NEW_YORK)
            end = parse_time(f"{year + number // 12}-{number % 12 + 1:02}", "", NEW_YORK)
            for day in range(start // 86_400 + 1, start // 86_400 + 4):
                settle(database, members, random_day(members, day, seed, lost=0.01))
            out = folder / "exports" / f"settled-{month}"
            write_files(settled_export(database, AskedExport(start=start, end=end)), Format.PARQUET, out, LATER)


def make_release(folder: Path, release: str, tier: Tier, rows: Mapping[str, list[tuple[object, ...]]]) -> None:
    """Write a release with some rows of each of its files."""
    place = folder / "releases" / release
    place.mkdir(parents=True)
    asked = AskedRelease(tier=tier, start=0, end=900, agreement="" if tier is Tier.OPEN else "university")
    facts = ReleaseFacts(
        id=release, town="town", asked=asked, version="0", homes=1, left_out=0, known_percent=100.0, attacks=(), until=1
    )
    columns = {
        "groups": name_columns(Tier.OPEN),
        "homes": name_columns(Tier.HOMES),
        **{
            stem: [
                ReleaseColumn(name=name, kind="string", meaning="")
                for name in (who, "start", "used_wh", "generated_wh")
            ]
            for stem, who in (("sums", "group"), ("readings", "home"))
        },
    }
    write_release(place, facts, [DataFile(stem=stem, columns=columns[stem], rows=some) for stem, some in rows.items()])


def towns_table(file: Path, folders: Mapping[str, Path]) -> Path:
    """Write the table of the towns."""
    lines = [
        f'[towns.{name}]\ndatabase = "postgresql+psycopg:///{name}"\nfiles = "{folder}"\n'
        for name, folder in folders.items()
    ]
    file.write_text("\n".join(lines))
    return file
