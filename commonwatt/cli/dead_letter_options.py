"""Options and output of the commands that show dead letters, shared by gateway and utility."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from commonwatt.cli.tables import is_wide, show
from commonwatt.model.time.times import FORMS
from commonwatt.protocol.dead_letter_words import counts_of, row_of
from commonwatt.protocol.dead_letters import Kept

MeterOption = Annotated[str | None, typer.Option("--meter", help="Only dead letters of this meter.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only this reason, by name or number, such as `implausible`.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help=f"Only what came since then: an age (90m, 24h, 7d), {FORMS}."),
]
CountsOption = Annotated[bool, typer.Option("--counts", help="Only the number of dead letters, by reason.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most rows to show.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_STATES = ("state", "decided")


def show_dead_letters(dead_letters: Sequence[Kept], *, as_json: bool, columns: Sequence[str]) -> None:
    """Print dead letters, newest first.

    Args:
        as_json: Print JSON with every byte, as hexadecimal text.
        columns: The first columns of the table; the reason and the content follow.
    """
    rows = [row_of(dead_letter) for dead_letter in dead_letters]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    decided = [name for name in _STATES if any(row[name] for row in rows)] if is_wide() else []
    for row in rows:
        row["reason"] = f"{row['reason_text']} ({row['state']})" if row["state"] and not decided else row["reason_text"]
    show("dead letters", rows, [*columns, "reason", *decided, "told"])


def show_counts(rows: Sequence[tuple[int, str, int]], *, as_json: bool) -> None:
    """Print the number of dead letters by reason and state."""
    counts = counts_of(rows)
    if as_json:
        typer.echo(json.dumps(counts, indent=1))
    else:
        show("dead letters by reason", counts, ("reason", "state", "dead_letters"))
