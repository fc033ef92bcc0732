"""A whole town in an SQLite database, with five years of settled days behind it, for the benchmark of the console.

A part of the payloads is made; the other rows are copies under other ids. The copies that jobs read, all blocks and the
last weeks' settled days, have checksums of their own; those of the others do not fit. The pages that are measured are
those of meters whose rows were made for them.
"""

import json
import sqlite3
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.databases import utility_database
from benchmarks.town import household, levels, solar
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, signed64
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import Direction, Meter, Town
from harness.surroundings.messages import a_heartbeat
from utility.energy.quarters import QUARTERS_A_DAY, Quantity
from utility.jobs.plans import Why
from utility.settlement.packed import MeterDays, contents, packed
from utility.settlement.residual import DayResidual, SlotStretch

NOW = 1_795_997_100  # 29 November 2026, 19:05 in New York: what is done every hour was done at the start

TODAY = NOW // 86_400
POOL = 500  # different payloads that the copies have in turn
# The day of the whole town that the jobs at the start settle again, count, and take into its month's usage.
DUE_DAY = TODAY - 2
_READ_DAYS = 40  # days back of which jobs read settled days: the present month
_UNSEARCHED = 4  # quarters that the gap finder has not searched yet

_MAKERS = {RecordType.THROUGH: household, RecordType.GENERATION: solar, RecordType.STORED: levels}
_BLOCKS = (
    "INSERT OR REPLACE INTO compacted (total, first_reading, last_reading, min_reading, max_reading, quarter, meter_no,"
    " received_minute, record_type, sender_no, owner_no, exact, averaged, conflicts, payload)"
)
_SETTLED = "INSERT OR REPLACE INTO settled (day, meter_no, computed_minute, version, why, payload)"
_OF_METER = "',' || meter.record_types || ',' LIKE '%,' || made.kind || ',%'"
_KEY_OF_DAY, _KEY_OF_BLOCK, _CHECK = struct.Struct(">QI"), struct.Struct(">QBI"), struct.Struct(">I")
_SERIES = "WITH RECURSIVE {name} (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM {name} WHERE n < {last})"


@dataclass(frozen=True)
class Size:
    """The extent of the town's data."""

    days: int  # settled days of every meter
    month_days: int  # days of readings of a tenth of the microgrids
    whole_days: int  # last days of readings of all microgrids
    measured: int  # meters whose pages are measured
    requests: int  # requests of each page
    browsers: int  # browsers that show the town at once
    poll_s: int  # seconds for which they show it
    quiet_s: int  # seconds that the utility's jobs at the start must be over


FULL = Size(days=5 * 365, month_days=31, whole_days=2, measured=20, requests=60, browsers=50, poll_s=60, quiet_s=8)
SMOKE = Size(days=10, month_days=2, whole_days=1, measured=2, requests=2, browsers=5, poll_s=1, quiet_s=1)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What was made."""

    path: Path  # the database
    meters: Sequence[Meter]  # the meters whose pages are measured
    settled_rows: int  # settled days
    blocks: int  # blocks


def filled(folder: Path, town: Town, size: Size) -> Filled:
    """Make the database."""
    path = folder / "utility.db"
    with utility_database(f"sqlite:///{path}", town):
        pass
    every = max(1, len(town.microgrids) // size.measured)
    chosen = [next(m for m in one.meters if m.battery) for one in list(town.microgrids.values())[::every]]
    measured = chosen[: size.measured]
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("PRAGMA journal_mode = OFF")
        raw.execute("PRAGMA cache_size = -200000")
        _settled(raw, size, measured)
        _blocks(raw, town, size, measured)
        _service(raw, town, size)
        raw.execute("PRAGMA journal_mode = WAL")
        rows, blocks = (
            int(raw.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in ("settled", "compacted")
        )
    return Filled(path=path, meters=measured, settled_rows=rows, blocks=blocks)


def _settled(raw: sqlite3.Connection, size: Size, measured: Sequence[Meter]) -> None:
    first = TODAY - size.days
    raw.execute("CREATE TEMP TABLE pool (n INTEGER PRIMARY KEY, payload BLOB)")
    pool = contents(_days(POOL, Direction.INCOMING))
    made = packed([(0, n) for n in range(POOL)], pool)
    raw.executemany("INSERT INTO pool VALUES (?, ?)", enumerate(made))
    raw.create_function("sealed_day", 3, _sealing_days(made, pool), deterministic=True)
    days = _SERIES.format(name="days", first=first, last=TODAY - 1)
    raw.execute(
        f"{days} {_SETTLED} SELECT days.n, meter.no, 0, 1, 1, CASE WHEN days.n < {TODAY - _READ_DAYS} "
        "THEN pool.payload ELSE sealed_day(pool.n, meter.id, days.n) END FROM days CROSS JOIN meter "
        f"CROSS JOIN pool ON pool.n = (meter.no * 31 + days.n * 7) % {POOL}"
    )
    for meter in measured:
        own = packed([(meter.id, first + n) for n in range(size.days)], contents(_days(size.days, meter.direction)))
        number = _number(raw, meter)
        raw.executemany(
            f"{_SETTLED} VALUES (?, ?, 0, 1, 1, ?)", [(first + n, number, one) for n, one in enumerate(own)]
        )
    raw.execute(
        f"{days} INSERT INTO settled_day SELECT days.n, controller.number, 'pro_rata', 0, 0, days.n < {TODAY - 40},"
        " ? FROM days CROSS JOIN controller",
        (json.dumps(asdict(DayResidual(head=SlotStretch(), fixed=0))),),
    )


def _sealing_days(made: Sequence[bytes], pool: Sequence[bytes]) -> Callable[[int, int, int], bytes]:
    """Return a function that gives a copy of a settled day the checksum of a meter and a day."""

    def sealed(n: int, meter_id: int, day: int) -> bytes:
        check = zlib.crc32(pool[n], zlib.crc32(_KEY_OF_DAY.pack(meter_id % 2**64, day)))
        return made[n][: -_CHECK.size] + _CHECK.pack(check)

    return sealed


def _sealed_block(payload: bytes, meter_id: int, kind: int, quarter: int) -> bytes:
    """Return a copy of a block with the checksum of its key."""
    body = payload[: -_CHECK.size]
    return body + _CHECK.pack(zlib.crc32(body, zlib.crc32(_KEY_OF_BLOCK.pack(meter_id % 2**64, kind, quarter))))


def _days(count: int, direction: Direction) -> MeterDays:
    rng = np.random.default_rng(count)
    shape = count, QUARTERS_A_DAY
    ours = (Quantity.IMPORTED, Quantity.SHARED_IN)
    ours = ours if direction is Direction.INCOMING else (Quantity.EXPORTED, Quantity.SHARED_OUT)
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    energies[ours[0]] = rng.integers(0, 4_000, shape) * 100
    return MeterDays(
        energies=energies,
        has={quantity: np.full(count, quantity in ours) for quantity in Quantity},
        quality=np.full(shape, 4, np.uint8),
    )


def _blocks(raw: sqlite3.Connection, town: Town, size: Size, measured: Sequence[Meter]) -> None:
    raw.execute("CREATE TEMP TABLE made (kind INTEGER, n INTEGER, total INTEGER, payload BLOB, PRIMARY KEY (kind, n))")
    rng, last = np.random.default_rng(1), NOW // QUARTER_S - 2
    for kind, make in _MAKERS.items():
        values = make(rng, POOL, 1)
        blocks = make_blocks([(1, int(kind), n) for n in range(POOL)], values, np.full(values.shape, 2))
        totals = values.sum(axis=1).tolist()
        rows = [(int(kind), n, total, one) for n, (total, one) in enumerate(zip(totals, pack(blocks), strict=True))]
        raw.executemany("INSERT INTO made VALUES (?, ?, ?, ?)", rows)
    raw.create_function("sealed_block", 4, _sealed_block, deterministic=True)
    spans = ((last - size.month_days * 96, "AND controller.number % 10 = 1"), (last - size.whole_days * 96, ""))
    for first, which in spans:
        quarters = _SERIES.format(name="quarters", first=first + 1, last=last)
        raw.execute(
            f"{quarters} {_BLOCKS} SELECT made.total, made.total / 60, made.total / 60, 0, made.total / 30, quarters.n,"
            " meter.no, 0, made.kind, controller.number, controller.number, 60, 0, 0, "
            "sealed_block(made.payload, meter.id, made.kind, quarters.n)"
            " FROM quarters CROSS JOIN meter CROSS JOIN controller ON controller.id = meter.microgrid"
            f" CROSS JOIN made ON made.n = (meter.no * 31 + quarters.n * 7) % {POOL}"
            f" WHERE {_OF_METER} {which}"
        )
        raw.execute(
            f"INSERT OR IGNORE INTO series SELECT meter.no, made.kind, {first + 1}, {first + 1}, {last - _UNSEARCHED}"
            " FROM meter CROSS JOIN controller ON controller.id = meter.microgrid"
            f" CROSS JOIN made ON made.n = 0 WHERE {_OF_METER} {which}"
        )
    shown = {meter.microgrid for meter in measured}
    whole = range(last - size.whole_days * 96 + 1, last + 1)
    for meter in town.meters:
        if meter.microgrid in shown and meter.battery:
            _own_blocks(raw, meter, (_number(raw, meter), _owner(raw, meter), int(RecordType.STORED)), whole)
    for meter in measured:
        owner, number = _owner(raw, meter), _number(raw, meter)
        for kind in meter.record_types:
            _own_blocks(raw, meter, (number, owner, int(kind)), range(last - size.month_days * 96 + 1, last + 1))


def _own_blocks(raw: sqlite3.Connection, meter: Meter, key: tuple[int, int, int], quarters: range) -> None:
    number, owner, kind = key
    values = _MAKERS[RecordType(kind)](np.random.default_rng(number), len(quarters), 1)
    blocks = make_blocks([(meter.id, kind, quarter) for quarter in quarters], values, np.full(values.shape, 2))
    rows = [
        (*map(int, (v.sum(), v[0], v[-1], v.min(), v.max())), quarter, number, 0, kind, owner, owner, 60, 0, 0, p)
        for v, quarter, p in zip(values, quarters, pack(blocks), strict=True)
    ]
    raw.executemany(f"{_BLOCKS} VALUES ({', '.join('?' * 15)})", rows)


def _service(raw: sqlite3.Connection, town: Town, size: Size) -> None:
    """Fill what the service itself stores: heartbeats, tallies, completeness of days."""
    for name, microgrid in town.microgrids.items():
        batteries = [meter.id for meter in microgrid.meters if meter.battery]
        said: Heartbeat = a_heartbeat(
            trust=3,
            periods={"collect_s": 60, "levels_s": 60, "relay_s": 60, "compact_s": 900},
            minima=dict.fromkeys(batteries, (40, NOW - 600)),
            sharing=dict.fromkeys(batteries, "no-need"),
            lte={"used": (120_435_678, 240_210_345), "expected": (310_222_111, 620_444_222), "allowance": 2 * 10**9},
        )
        raw.execute("INSERT INTO gateway_seen VALUES (?, ?, ?, 0)", (name, NOW - 20, said.pack().decode()))
        raw.execute("INSERT INTO tally VALUES (?, 9, 9, 9, 0, 0, 0, 0, ?)", (name, NOW - 30))
    _due(raw)
    days = _SERIES.format(name="days", first=TODAY - min(size.days, 366), last=TODAY - 1)
    raw.execute(
        f"{days} INSERT INTO complete_day SELECT days.n, number, 240000, 0, 0, 0, 0, number % 7, 0, {NOW}, 0"
        " FROM days CROSS JOIN controller"
    )


def _due(raw: sqlite3.Connection) -> None:
    """Leave a day of the whole town to the jobs at the start."""
    raw.execute("INSERT INTO setting VALUES ('complete_days_until', ?)", (str(DUE_DAY),))
    raw.execute(
        "INSERT INTO settlement_due (day, owner_no, marks, why) SELECT ?, number, 1, ? FROM controller",
        (DUE_DAY, int(Why.LATE)),
    )


def _number(raw: sqlite3.Connection, meter: Meter) -> int:
    return int(raw.execute("SELECT no FROM meter WHERE id = ?", (signed64(meter.id),)).fetchone()[0])


def _owner(raw: sqlite3.Connection, meter: Meter) -> int:
    return int(raw.execute("SELECT number FROM controller WHERE id = ?", (meter.microgrid,)).fetchone()[0])
