"""The command ``commonwatt audit``, and its table."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from commonwatt.audit.comparison import Audit
from commonwatt.audit.folder import audit_folder
from commonwatt.model.records import RecordType
from commonwatt.model.text import moment
from commonwatt.runtime.service import EXIT_FAILED, progress_bar

MEASURES = {
    "made": "made",
    "stored_exact": "stored exactly",
    "stored_averaged": "stored as averages",
    "held": "on the way",
    "missing": "missing",
    "conflicting": "conflicting",
    "unmade": "stored, never made",
    "difference": "off by, mWh",
    "beyond_bound": "averages beyond bound",
}
"""The table headings of an audit line's fields."""


def table_of(audit: Audit) -> Table:
    """Draw the audit table: a column for each record type."""
    table = Table(title="What was made, and what of it is stored", box=SIMPLE_HEAD)
    types = sorted({line.record_type for line in audit.lines})
    for heading in ("", *map(_type_name, types)):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, measure in MEASURES.items():
        sums = (sum(getattr(one, name) for one in audit.lines if one.record_type == kind) for kind in types)
        table.add_row(measure, *(f"{number:,}" for number in sums))
    table.caption = (
        f"events: {audit.events_made:,} made, {audit.events_stored:,} stored, {audit.events_held:,} on the way, "
        f"{audit.events_missing:,} missing, {audit.events_different:,} different"
        + (f"; of other makers' meters: {audit.foreign_slots:,} slots, not compared" if audit.foreign_slots else "")
    )
    return table


def left_out(audit: Audit) -> str:
    """Return what an audit does not compare, in a sentence; empty: it compares everything."""
    if audit.since is None:
        return ""
    return f"left out: the town's emulated past, which is everything before {moment(audit.since)}"


def _type_name(record_type: int) -> str:
    return (
        RecordType(record_type).name.lower()
        if record_type in RecordType.__members__.values()
        else f"type {record_type}"
    )


def audit_command(
    data: Annotated[Path, typer.Option(help="A demonstration's data folder; its parts are asked by their commands.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare every generated slot with the utility's database; exit 1 if a slot is lost or counted twice."""
    with progress_bar() as progress:
        audit = audit_folder(data, progress)
    if as_json:
        print(json.dumps({**asdict(audit), "good": audit.good}))
    else:
        Console(width=None if sys.stdout.isatty() else 150).print(table_of(audit))
        if audit.since is not None:
            print(left_out(audit))
        print(
            "nothing lost, nothing counted twice"
            if audit.good
            else "NOT GOOD: see missing, conflicting, unmade, difference"
        )
    if not audit.good:
        raise SystemExit(EXIT_FAILED)
