"""Options that commands of several parts have."""

from typing import Annotated

import typer

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most rows to show.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
