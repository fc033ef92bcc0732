"""What each export consists of: its tables, pieces and their rows, from selected meters' blocks and events.

Each range is read in a transaction of its own, so that a long export holds back neither SQLite's log nor PostgreSQL's
clean-up. A block never changes between parts and their join, so the range is consistent; readings that come during an
export are in the ranges that are read later.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from commonwatt.model.blocks import Blocks, join
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import state_names
from commonwatt.model.text import moment
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MeterId, Quarter, signed64, unsigned64
from utility.billing.store.documents import issued_bill, refuse_altered
from utility.billing.store.runs import bills_of_run, issued_run, stored_run
from utility.database.database import Database
from utility.database.town_zone import town_zone
from utility.exports.columns import BILLS_TABLE, EVENTS_TABLE, SETTLED_TABLE, SLOTS_TABLE, SUMS_TABLE, ExportTable, Rows
from utility.exports.customer import AccountQuarters, CostedBill, costed, from_readings, from_settled
from utility.exports.rows import Grids, bill_rows, quarters_at_a_time, settled_rows, slot_rows, sum_rows
from utility.exports.selection import (
    ExportedMeter,
    ExportSelection,
    HeldMeter,
    Piece,
    Resolution,
    asked_quarters,
    check_registered,
    cut,
    held_by,
    is_held,
    pieces,
)
from utility.readings.store.gaps import sound_events
from utility.readings.store.parts import (
    MAX_IN,
    chunks,
    ids_by_number,
    read_payloads,
    reading,
    select_parts,
    select_payloads,
)
from utility.readings.tables import event
from utility.registry.store.accounts import load_dated_registry, load_registry_around
from utility.registry.tables import meter
from utility.settlement.store.settled import load_settled

SCANNED_FROM = 8
"""If more than one in so many meters is selected, all blocks of a range are read, and those of other meters dropped."""


def exported_meters(connection: Connection, ids: Collection[MeterId] | None = None) -> list[ExportedMeter]:
    """Return registered meters by id; without ``ids`` all."""
    statement = select(meter.c.no, meter.c.id, meter.c.microgrid, meter.c.record_types)
    if ids is not None:
        statement = statement.where(meter.c.id.in_([signed64(meter_id) for meter_id in ids]))
    meters = [
        ExportedMeter(
            number=row.no,
            id=unsigned64(row.id),
            microgrid=row.microgrid,
            series=row.record_types.count(",") + 1,
        )
        for row in connection.execute(statement)
    ]
    return sorted(meters, key=lambda m: m.id)


class BlockSource:
    """The joined blocks of some meters."""

    def __init__(
        self,
        database: Database,
        meters: Sequence[ExportedMeter],
        registered: int | None = None,
        held: Sequence[HeldMeter] | None = None,
    ) -> None:
        """Prepare the reading of some meters' blocks.

        Args:
            registered: How many meters are registered; ``None``: many more, so each block is looked up.
            held: The periods whose blocks are wanted; ``None``: all.
        """
        self.damaged = 0  # parts that were found damaged and quarantined
        self._database = database
        self._held = held
        self._scans = registered is not None and len(meters) * SCANNED_FROM > registered
        # The ids of the meters that one statement reads, by number.
        self._ids = [
            ids_by_number({m.id: m.number for m in some}) for some in ([meters] if self._scans else chunks(meters))
        ]

    def read(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the joined blocks of the quarters ``first`` to before ``end``, in the order of meter and type."""
        with self._database.reads.begin() as connection:
            loaded = [
                read_payloads(connection, _ALL if self._scans else _FEW, values, ids, range(first, end))
                for ids in self._ids
                for values in self._values(ids, first, end)
            ]
        sound = [blocks for blocks in loaded if blocks is not None]
        blocks = join(sound) if len(sound) == len(loaded) else self._repaired(first, end)
        if self._held is None:
            return blocks
        mine = is_held(blocks.meter, blocks.quarter.astype(np.int64), self._held)
        return blocks if mine.all() else blocks.take(np.flatnonzero(mine))

    def _values(self, ids: NDArray[np.uint64], first: Quarter, end: Quarter) -> Iterator[Mapping[str, object]]:
        if self._scans:
            yield {"first": first, "last": end - 1}
            return
        for quarters in chunks(range(first, end)):
            yield {"quarters": list(quarters), "numbers": np.flatnonzero(ids).tolist()}

    def _repaired(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the sound blocks of a range, and quarantine its damaged parts."""
        wanted = np.concatenate([ids[ids > 0] for ids in self._ids])
        with reading(self._database) as (connection, reader):
            statement = select_parts(lambda c: c.quarter.between(first, end - 1))
            parts = list(reader.stream(connection, statement, quarters=range(first, end)))
        self.damaged += reader.damaged
        blocks = join(parts)
        return blocks.take(np.flatnonzero(np.isin(blocks.meter, wanted)))


# Built once: building a statement takes longer than executing it.
_ALL = select_payloads(lambda c: c.quarter.between(bindparam("first"), bindparam("last")))
_FEW = select_payloads(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True)) & c.meter_no.in_(bindparam("numbers", expanding=True))
    )
)


def exported_events(
    connection: Connection,
    meters: Collection[ExportedMeter],
    start: EpochSeconds,
    end: EpochSeconds,
    tell: Callable[[Any], object],
) -> Iterator[Any]:
    """Yield the sound rows of ``event`` in ``[start, end)`` of some meters, by meter's number, time and id.

    ``tell`` is called with each damaged row.
    """
    order = (event.c.meter_no, event.c.time, event.c.generation, event.c.record_id)
    for numbers in chunks(sorted(m.number for m in meters), MAX_IN):
        statement = select(event).where(event.c.meter_no.in_(numbers), event.c.time >= start, event.c.time < end)
        rows = connection.execute(statement.order_by(*order), execution_options={"yield_per": 1_000})
        yield from sound_events(rows, tell)


# Seconds after which a settled day is final, and so is a file of such days: later than any deadline.
SETTLED_WITHIN_S = 40 * 86_400
LINES_A_BILL = 20  # lines that a bill has at most, about; a bound for answers of the API
MAX_ACCOUNT_QUARTERS = 2 * 366 * 96  # most quarter-hours of an account's file: two years


_ROWS_AT_A_TIME = 100_000  # events in one piece of rows


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export that is ready to be written."""

    table: ExportTable  # the table of its rows
    name: str  # the beginning of its files' names
    described: Mapping[str, object]  # what it is of, for the manifest
    pieces: Callable[[], Sequence[Piece]]  # returns its files, in order of time
    rows: Callable[[Piece], Iterator[Rows]]  # yields the rows of a piece; between two yields a caller may show progress
    most: int  # the most rows that it can have
    damaged: Callable[[], int] = lambda: 0  # returns how many damaged parts were found and quarantined
    left_out: Callable[[], int] = lambda: 0  # returns how many damaged events were found and left out
    quiet_s: int = 0  # seconds after a piece's end until its rows stay as they are, but for late readings


@dataclass(frozen=True, kw_only=True)
class AskedExport:
    """What a person or program asks for."""

    start: EpochSeconds  # the first second
    end: EpochSeconds  # the second after the last
    selection: ExportSelection = field(default_factory=ExportSelection)  # which meters
    resolution: Resolution = Resolution.QUARTER  # the length of a row's interval
    # The names of the options for start, end, meter, microgrid and account, for errors.
    names: tuple[str, str, str, str, str] = ("--from", "--to", "--meter", "--microgrid", "--account")

    def picked(self, database: Database) -> "Picked":
        """Return the selected meters."""
        accounts = self.selection.accounts
        with database.reads.begin() as connection:
            registered = exported_meters(connection)
            dated = load_dated_registry(connection) if accounts else None
        held: list[HeldMeter] | None = None
        if dated is not None:
            check_registered(self.names[4], zip(accounts, accounts, strict=True), dated.accounts)
            held = held_by(dated, accounts, self.start // QUARTER_S, -(-self.end // QUARTER_S))
        meters = self.selection.of(registered, {h.meter for h in held or ()}, self.names[2:4])
        return Picked(meters=meters, registered=len(registered), held=held)

    def described(self, what: str, database: Database) -> dict[str, object]:
        """Return the export's description for its manifest."""
        return {
            "what": what,
            "store": f"{database.store_id:x}",
            "start": self.start,
            "end": self.end,
            "resolution": self.resolution.value,
            "meters": sorted(self.selection.meters),
            "microgrids": sorted(self.selection.microgrids),
            "accounts": sorted(self.selection.accounts),
        }


@dataclass(frozen=True, kw_only=True)
class Picked:
    """The meters that were selected."""

    meters: list[ExportedMeter]  # the meters
    registered: int  # how many are registered
    held: list[HeldMeter] | None  # when the selected accounts had their meters; ``None``: no account was selected

    @property
    def grids(self) -> Grids:
        """Their microgrids."""
        return Grids.of({m.id: m.microgrid for m in self.meters})


def readings_export(database: Database, asked: AskedExport) -> Export:
    """Return the export of readings.

    Raises:
        ConfigError: The time range or the selection is wrong.
    """
    zone = town_zone(database)
    first, end = asked_quarters(asked.start, asked.end, asked.resolution, asked.names[:2], zone)
    picked = asked.picked(database)
    meters, grids = picked.meters, picked.grids
    blocks = BlockSource(database, meters, picked.registered, picked.held)
    series = sum(m.series for m in meters)
    length = quarters_at_a_time(series)
    slots = asked.resolution is Resolution.SLOT
    per_quarter = {"15s": 60, "15min": 1, "1h": 1 / 4, "1d": 1 / 92}[asked.resolution]

    def rows(piece: Piece) -> Iterator[Rows]:
        begin, stop = piece.start // QUARTER_S, piece.end // QUARTER_S
        if slots:
            return slot_rows(blocks.read, grids, begin, stop, length)
        return sum_rows(blocks.read, grids, begin, stop, length, asked.resolution, zone)

    return Export(
        table=SLOTS_TABLE if slots else SUMS_TABLE,
        name=f"readings-{asked.resolution}",
        described=asked.described("readings", database),
        pieces=lambda: [*pieces(asked.start, asked.end, by_day=slots, zone=zone)] if meters else [],
        rows=rows,
        most=int(series * (end - first) * per_quarter) + series,
        damaged=lambda: blocks.damaged,
    )


def events_export(database: Database, asked: AskedExport) -> Export:
    """Return the export of events; the resolution plays no part."""
    zone = town_zone(database)
    asked_quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2], zone)
    picked = asked.picked(database)
    meters = picked.meters
    left_out: list[Any] = []
    return Export(
        table=EVENTS_TABLE,
        name="events",
        described=asked.described("events", database) | {"resolution": None},
        pieces=lambda: [*pieces(asked.start, asked.end, by_day=False, zone=zone)] if meters else [],
        rows=lambda piece: event_rows(database, meters, piece, picked.held, left_out.append),
        most=len(meters) * (asked.end - asked.start) // QUARTER_S,
        left_out=lambda: len(left_out),
    )


def settled_export(database: Database, asked: AskedExport) -> Export:
    """Return the export of settled quarter-hours, or of their sums.

    Raises:
        ConfigError: The time range, the resolution or the selection is wrong.
    """
    if asked.resolution is Resolution.SLOT:
        raise ConfigError("resolution: settled are quarter-hours; give 15min, 1h or 1d")
    zone = town_zone(database)
    first, end = asked_quarters(asked.start, asked.end, asked.resolution, asked.names[:2], zone)
    picked = asked.picked(database)
    ids, grids = [m.id for m in picked.meters], picked.grids
    per_quarter = {"15min": 1, "1h": 1 / 4, "1d": 1 / 92}[asked.resolution]

    def rows(piece: Piece) -> Iterator[Rows]:
        begin, stop = piece.start // QUARTER_S, piece.end // QUARTER_S
        return settled_rows(
            lambda meters, first, end: database.read(load_settled, meters, first, end),
            ids,
            grids,
            begin,
            stop,
            asked.resolution,
            zone,
            picked.held,
        )

    return Export(
        table=SETTLED_TABLE,
        name=f"settled-{asked.resolution}",
        described=asked.described("settled", database),
        pieces=lambda: [*pieces(asked.start, asked.end, by_day=False, zone=zone)] if ids else [],
        rows=rows,
        most=int(len(ids) * (end - first) * per_quarter) + len(ids),
        quiet_s=SETTLED_WITHIN_S,
    )


def bills_export(database: Database, asked: AskedExport) -> Export:
    """Return the export of the lines of issued bills of the months in the time range; meters play no part."""
    zone = town_zone(database)
    asked_quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2], zone)
    accounts = asked.selection.accounts
    with database.reads.begin() as connection:
        known = load_dated_registry(connection).accounts
        check_registered(asked.names[4], zip(accounts, accounts, strict=True), known)
        months = pieces(asked.start, asked.end, by_day=False, zone=zone)
        runs = {month: run for month in months if (run := issued_run(connection, month.name)) is not None}

    def rows(piece: Piece) -> Iterator[Rows]:
        if not accounts:
            refuse_altered(database, runs[piece])
            return bill_rows(database.read(bills_of_run, runs[piece]))
        bills = [issued_bill(database, runs[piece], account) for account in sorted(set(accounts))]
        return bill_rows([bill for bill in bills if bill is not None])

    return Export(
        table=BILLS_TABLE,
        name="bills",
        described=asked.described("bills", database) | {"resolution": None},
        pieces=lambda: [*runs],
        rows=rows,
        most=len(runs) * (len(accounts) or len(known)) * LINES_A_BILL,
    )


def account_quarters(database: Database, asked: AskedExport, *, settled: bool) -> AccountQuarters:
    """Return the quarter-hours of the one account that is asked for, settled, or as sums of its readings.

    Raises:
        ConfigError: The time range is wrong, there is no such account, or it had no meter, or nothing settled, then.
    """
    zone = town_zone(database)
    first, end = asked_quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2], zone)
    if end - first > MAX_ACCOUNT_QUARTERS:
        raise ConfigError(f"{asked.names[1]}: an account's file is of at most two years; give less")
    (number,) = asked.selection.accounts
    with database.reads.begin() as connection:
        registry = load_registry_around(connection, number)
        check_registered(asked.names[4], [(number, number)], registry.accounts)
        held = held_by(registry, [number], first, end)
        meters = exported_meters(connection, {h.meter for h in held})
    if not held:
        raise ConfigError(f"account {number} had no meter between {moment(asked.start)} and {moment(asked.end)}")
    if settled:
        quarters = database.read(load_settled, [m.id for m in meters], first, end)
        if not (quarters.version > 0).any():
            nothing = f"nothing of account {number} is settled in that time; its readings may be there"
            raise ConfigError(nothing, "give --of readings for them")
        return replace(from_settled(number, quarters, held), bills=_costed_bills(database, number, first, end))
    source = BlockSource(database, meters, held=held)
    length = quarters_at_a_time(sum(m.series for m in meters))
    blocks = [source.read(begin, stop) for begin, stop in cut(first, end, length)]
    return from_readings(number, join(blocks), held, first, end)


def _costed_bills(database: Database, account: AccountNumber, first: Quarter, end: Quarter) -> tuple[CostedBill, ...]:
    """Return an account's issued bills whose whole time is in some quarters, the oldest first."""
    months = pieces(first * QUARTER_S, end * QUARTER_S, by_day=False, zone=town_zone(database))
    runs = [run for month in months if (run := database.read(issued_run, month.name)) is not None]
    bills = [(run, bill) for run in runs if (bill := issued_bill(database, run, account)) is not None]
    whole = [(run, bill) for run, bill in bills if first <= bill.start and bill.end <= end]
    return tuple(costed(bill, database.read(stored_run, run, account).inputs()) for run, bill in whole)


def event_rows(
    database: Database,
    meters: Sequence[ExportedMeter],
    piece: Piece,
    held: Sequence[HeldMeter] | None,
    tell: Callable[[Any], object],
) -> Iterator[Rows]:
    """Yield the rows of ``EVENTS_TABLE`` of some meters in a piece's time, and in the periods of ``held``.

    ``tell`` is called with each damaged event, which is left out.
    """
    by_number = {m.number: m for m in meters}
    with database.reads.begin() as connection:
        events = exported_events(connection, meters, piece.start, piece.end, tell)
        while some := list(islice(events, _ROWS_AT_A_TIME)):
            if held is not None:
                ids = np.array([by_number[row.meter_no].id for row in some], np.uint64)
                mine = is_held(ids, np.array([row.time for row in some], np.int64) // QUARTER_S, held)
                some = [row for row, is_mine in zip(some, mine, strict=True) if is_mine]
            yield {
                "meter_id": np.array([by_number[row.meter_no].id for row in some], np.uint64),
                "microgrid": [by_number[row.meter_no].microgrid for row in some],
                "time_utc": np.array([row.time for row in some], np.int64),
                "log_generation": np.array([row.generation for row in some], np.int64),
                "event_id": np.array([unsigned64(row.record_id) for row in some], np.uint64),
                "previous_state_bits": np.array([row.previous_state for row in some], np.int32),
                "new_state_bits": np.array([row.new_state for row in some], np.int32),
                "new_state": [" ".join(state_names(row.new_state)) for row in some],
                "sender": [row.sender for row in some],
            }
