"""Makes the data dictionary in ``docs/exports.md`` from the tables' columns; a test compares the two."""

from harness.docs.marked import filled
from utility.exports.columns import TABLES, Table


def exports_page() -> str:
    """Return ``docs/exports.md`` as it is, with its data dictionary made anew."""
    return filled("exports.md", "columns", dictionary())


def dictionary() -> str:
    """Return the columns of every table."""
    return "\n".join(_section(table) for table in TABLES)


def _section(table: Table) -> str:
    lines = [
        f"### `{table.name}`",
        "",
        f"{table.about} Sorted by {', '.join(f'`{name}`' for name in table.order)}.",
        "",
    ]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    for column in table.columns:
        kind = f"{column.kind}{', or none' if column.nullable else ''}"
        lines.append(f"| `{column.name}` | {kind} | {column.meaning} |")
    return "\n".join(lines) + "\n"
