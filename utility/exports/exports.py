"""What each export consists of: its tables, its pieces, and the rows of each piece."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.exports.columns import EVENTS_TABLE, SLOTS_TABLE, SUMS_TABLE, Rows, Table
from utility.exports.events import event_rows
from utility.exports.readings import Grids, quarters_at_a_time, slot_rows, sum_rows
from utility.exports.resolutions import Piece, Resolution, pieces
from utility.exports.selection import Selection, quarters
from utility.store.database import Database
from utility.store.exports import BlockSource, ExportedMeter, exported_meters


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

    def meters(self, database: Database) -> tuple[list[ExportedMeter], int]:
        """Return the selected meters, and how many are registered."""
        with database.reads.begin() as connection:
            registered = exported_meters(connection)
        return self.selection.of(registered, self.names[2:]), len(registered)

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


def grids_of(meters: list[ExportedMeter]) -> Grids:
    """Return the microgrids of some meters."""
    return Grids.of({one.id: one.microgrid for one in meters})


def readings_export(database: Database, asked: Asked) -> Export:
    """Return the export of readings.

    Raises:
        ConfigError: The time range or the selection is wrong.
    """
    first, end = quarters(asked.start, asked.end, asked.resolution, asked.names[:2])
    meters, registered = asked.meters(database)
    source, grids = BlockSource(database, meters, registered), grids_of(meters)
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
        damaged=lambda: source.damaged,
    )


def events_export(database: Database, asked: Asked) -> Export:
    """Return the export of events; the resolution plays no part.

    Raises:
        ConfigError: The time range or the selection is wrong.
    """
    quarters(asked.start, asked.end, Resolution.QUARTER, asked.names[:2])
    meters, _ = asked.meters(database)
    return Export(
        table=EVENTS_TABLE,
        name="events",
        described=asked.described("events", database) | {"resolution": None},
        pieces=tuple(pieces(asked.start, asked.end, by_day=False)) if meters else (),
        rows=lambda piece: event_rows(database, meters, piece),
        most=len(meters) * (asked.end - asked.start) // QUARTER_S,
    )
