"""What each export consists of: its tables, its pieces, and the rows of each piece."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from commonwatt.model.blocks import join
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.model.words import moment
from utility.exports.account import AccountQuarters, from_readings
from utility.exports.columns import EVENTS_TABLE, SLOTS_TABLE, SUMS_TABLE, Rows, Table
from utility.exports.events import event_rows
from utility.exports.holdings import Held, HeldBlocks, held_by
from utility.exports.readings import Grids, Source, quarters_at_a_time, slot_rows, sum_rows
from utility.exports.resolutions import Piece, Resolution, cut, pieces
from utility.exports.selection import Selection, check_registered, quarters
from utility.store.accounts import load_dated_registry
from utility.store.database import Database
from utility.store.exports import BlockSource, ExportedMeter, exported_meters

MAX_ACCOUNT_QUARTERS = 2 * 366 * 96
"""Most quarter-hours of an account's file: two years."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export that is ready to be written.

    Attributes:
        table: The table of its rows.
        name: The beginning of its files' names.
        described: What it is of, for the manifest.
        pieces: Its files, in order of time.
        rows: Yields the rows of a piece; between two yields a caller may show progress.
        most: The most rows that it can have.
        damaged: Returns how many damaged parts were found and quarantined.
    """

    table: Table
    name: str
    described: Mapping[str, object]
    pieces: tuple[Piece, ...]
    rows: Callable[[Piece], Iterator[Rows]]
    most: int
    damaged: Callable[[], int] = lambda: 0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person or program asks for.

    Attributes:
        start: The first second.
        end: The second after the last.
        selection: Which meters.
        resolution: The length of a row's interval.
        names: The names of the options for start, end, meter, microgrid and account, for errors.
    """

    start: EpochSeconds
    end: EpochSeconds
    selection: Selection = field(default_factory=Selection)
    resolution: Resolution = Resolution.QUARTER
    names: tuple[str, str, str, str, str] = ("--from", "--to", "--meter", "--microgrid", "--account")

    def picked(self, database: Database) -> "Picked":
        """Return the selected meters.

        Raises:
            ConfigError: One of the selected is not registered.
        """
        accounts = self.selection.accounts
        with database.reads.begin() as connection:
            registered = exported_meters(connection)
            dated = load_dated_registry(connection) if accounts else None
        held: list[Held] | None = None
        if dated is not None:
            check_registered(self.names[4], zip(accounts, accounts, strict=True), dated.accounts)
            held = held_by(dated, accounts, self.start // QUARTER_S, -(-self.end // QUARTER_S))
        meters = self.selection.of(registered, {one.meter for one in held or ()}, self.names[2:4])
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
    """The meters that were selected.

    Attributes:
        meters: The meters.
        registered: How many are registered.
        held: When the selected accounts had their meters; ``None``: no account was selected.
    """

    meters: list[ExportedMeter]
    registered: int
    held: list[Held] | None

    def source(self, database: Database) -> tuple[BlockSource, Source]:
        """Return what reads the meters' blocks, and what gives those of the selected accounts' time."""
        source = BlockSource(database, self.meters, self.registered)
        return source, source if self.held is None else HeldBlocks(source, self.held)


def grids_of(meters: list[ExportedMeter]) -> Grids:
    """Return the microgrids of some meters."""
    return Grids.of({one.id: one.microgrid for one in meters})


def readings_export(database: Database, asked: Asked) -> Export:
    """Return the export of readings.

    Raises:
        ConfigError: The time range or the selection is wrong.
    """
    first, end = quarters(asked.start, asked.end, asked.resolution, asked.names[:2])
    picked = asked.picked(database)
    meters, grids = picked.meters, grids_of(picked.meters)
    blocks, source = picked.source(database)
    series = sum(one.series for one in meters)
    length = quarters_at_a_time(series)
    slots = asked.resolution is Resolution.SLOT
    per_quarter = {"15s": 60, "15min": 1, "1h": 1 / 4, "1d": 1 / 92}[asked.resolution]

    def rows(piece: Piece) -> Iterator[Rows]:
        begin, stop = piece.start // QUARTER_S, piece.end // QUARTER_S
        if slots:
            return slot_rows(source, grids, begin, stop, length)
        return sum_rows(source, grids, begin, stop, length, asked.resolution)

    return Export(
        table=SLOTS_TABLE if slots else SUMS_TABLE,
        name=f"readings-{asked.resolution}",
        described=asked.described("readings", database),
        pieces=tuple(pieces(asked.start, asked.end, by_day=slots)) if meters else (),
        rows=rows,
        most=int(series * (end - first) * per_quarter) + series,
        damaged=lambda: blocks.damaged,
    )


def events_export(database: Database, asked: Asked) -> Export:
    """Return the export of events; the resolution plays no part.

    Raises:
        ConfigError: The time range or the selection is wrong.
    """
    quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2])
    picked = asked.picked(database)
    meters = picked.meters
    return Export(
        table=EVENTS_TABLE,
        name="events",
        described=asked.described("events", database) | {"resolution": None},
        pieces=tuple(pieces(asked.start, asked.end, by_day=False)) if meters else (),
        rows=lambda piece: event_rows(database, meters, piece, picked.held),
        most=len(meters) * (asked.end - asked.start) // QUARTER_S,
    )


def account_quarters(database: Database, asked: Asked) -> AccountQuarters:
    """Return the quarter-hours of the one account that is asked for, as sums of its readings.

    Raises:
        ConfigError: The time range is wrong, there is no such account, or it had no meter then.
    """
    first, end = quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2])
    if end - first > MAX_ACCOUNT_QUARTERS:
        raise ConfigError(f"{asked.names[1]}: an account's file is of at most two years; give less")
    (number,) = asked.selection.accounts
    picked = asked.picked(database)
    if not picked.held:
        raise ConfigError(f"account {number} had no meter between {moment(asked.start)} and {moment(asked.end)}")
    _, source = picked.source(database)
    length = quarters_at_a_time(sum(one.series for one in picked.meters))
    found = [source.read(begin, stop) for begin, stop in cut(first, end, length)]
    return from_readings(number, join(found), picked.held, first, end)
