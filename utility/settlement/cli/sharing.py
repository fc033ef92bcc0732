"""``commonwatt utility sharing``: who gave and received by sharing."""

import json
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption, SinceOption
from commonwatt.cli.tables import show
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.protocol.dead_letter_words import wanted
from commonwatt.runtime.service import flowing
from utility.control.store.control_changes import kinds_of
from utility.settlement.store.sharing import recorded
from utility.webkit.cli.options import ConfigOption, check_named, from_file

app = typer.Typer()


@app.command()
@flowing
def sharing(
    config: ConfigOption,
    microgrid: Annotated[str | None, typer.Option(help="Only of this microgrid.")] = None,
    since: SinceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show which batteries gave and received by sharing, by microgrid and quarter-hour, in kilowatt-hours.

    It is computed from the stored readings, when they are all there or two hours after the quarter-hour, and again as a
    new version when late ones come. Quarter-hours without sharing are not shown.

    Examples: `sharing --microgrid r001 --since 24h`, `sharing --limit 100 --json`.
    """
    with from_file(config) as (database, clock):
        first = wanted(None, None, since, int(clock.now()), "").since // QUARTER_S
        with database.reads.begin() as connection:
            check_named("--microgrid", microgrid, kinds_of(connection))
            rows = recorded(connection, first, MAX_EPOCH // QUARTER_S, microgrid, limit)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        columns = ("start", "microgrid", "meter", "given", "received", "version", "complete")
        show("sharing", [_meter_row(row, meter) for row in rows for meter in row["meters"]], columns)


def _meter_row(row: dict[str, Any], meter: dict[str, Any]) -> dict[str, object]:
    energies = {name: f"{meter[name] / 1e6:.3f}" for name in ("given", "received")}
    return row | meter | energies | {"complete": "yes" if row["complete"] else "no"}
