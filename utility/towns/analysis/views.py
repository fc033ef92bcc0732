"""The tables that SQL over towns may read: sums in which no meter stands out, and open releases.

Each table is made whole from a town's files before the SQL runs, so that no SQL reaches the rows behind it, and no
two queries differ by one home.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from utility.research.groups import MAX_SHARE_PERCENT, MIN_HOMES, UNIT

# A home has at most two meters, one for each direction; files don't say which meters are of one home.
MIN_METERS = 2 * MIN_HOMES


class ViewColumn(NamedTuple):
    """A column of a table."""

    name: str  # its name, with the unit
    kind: str  # DuckDB's type
    made_by: str  # the SQL that makes it from the files' columns
    meaning: str  # for people


@dataclass(frozen=True)
class View:
    """A table that SQL may read."""

    about: str  # what a row is
    columns: tuple[ViewColumn, ...]  # its columns, in order
    ending: str = ""  # the end of the statement that makes it

    def made_from(self, rows: str) -> str:
        """Return the statement that makes it of what stands after FROM."""
        cells = ", ".join(f"CAST({one.made_by} AS {one.kind}) AS {one.name}" for one in self.columns)
        return f"SELECT {cells} FROM {rows} {self.ending}"  # noqa: S608 - constants, and paths in quotes

    @property
    def empty(self) -> str:
        """The statement that makes it without rows."""
        cells = ", ".join(f"CAST(NULL AS {one.kind}) AS {one.name}" for one in self.columns)
        return f"SELECT {cells} WHERE false"


def _sum(source: str, rule: str = "true") -> str:
    return f"CASE WHEN count(*) >= {MIN_METERS} AND ({rule}) THEN {source} END"


def _energy(name: str, source: str, meaning: str) -> ViewColumn:
    """Return a sum by the rules of open releases: rounded, and left out if one meter has too much of it."""
    rounded = f"(sum({source}) + {UNIT // 2}) // {UNIT} * {UNIT}"
    rule = f"100 * max(abs({source})) <= {MAX_SHARE_PERCENT} * sum({source}) OR {rounded} = 0"
    return ViewColumn(f"{name}_milliwatt_hours", "BIGINT", _sum(rounded, rule), meaning)


def _count(name: str, source: str, meaning: str) -> ViewColumn:
    return ViewColumn(name, "BIGINT", _sum(f"sum({source})"), meaning)


_GROUPED = "GROUP BY ALL ORDER BY ALL"
_METERS = ViewColumn("meters", "BIGINT", "count(*)", f"Meters; below {MIN_METERS} the following columns are empty.")
_START = "Start of the quarter-hour, UTC."

VIEWS: Mapping[str, View] = {
    "settled": View(
        "A row for each settled quarter-hour of the town, from its exports.",
        (
            ViewColumn("start_utc", "TIMESTAMP", "start_utc AT TIME ZONE 'UTC'", _START),
            _METERS,
            _energy("imported", "imported_milliwatt_hours", "Taken from the town."),
            _energy("shared_in", "shared_in_milliwatt_hours", "Taken from other places of the microgrid."),
            _energy("exported", "exported_milliwatt_hours", "Given to the town."),
            _energy("shared_out", "shared_out_milliwatt_hours", "Given to other places of the microgrid."),
            _count("estimated", "CAST(quality = 'estimated' AS INTEGER)", "Meters with an estimate."),
            _count("missing", "CAST(quality = 'missing' AS INTEGER)", "Meters that lack readings."),
        ),
        _GROUPED,
    ),
    "open_sums": View(
        "A row for each group and step of each open release.",
        (
            ViewColumn("release", "VARCHAR", "release", "The release's id."),
            ViewColumn("group_name", "VARCHAR", '"group"', "The group; the same in all releases of the town."),
            ViewColumn("function", "VARCHAR", "function", "house, apartment, or home: both."),
            ViewColumn("homes", "BIGINT", "homes", "Homes of the group."),
            ViewColumn("start_utc", "TIMESTAMP", "start", "Start of the step, UTC."),
            ViewColumn("used_wh", "DOUBLE", "used_wh", "Used, Wh; empty: not published."),
            ViewColumn("generated_wh", "DOUBLE", "generated_wh", "Generated, Wh; empty: not published."),
        ),
    ),
}
"""Every table that SQL may read, by name."""
