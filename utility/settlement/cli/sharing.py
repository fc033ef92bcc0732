"""``commonwatt utility sharing``: who gave and received by sharing."""

from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption, SinceOption
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.protocol.dead_letter_words import wanted
from commonwatt.runtime.service import flowing
from utility.control.store.control_changes import kinds_of
from utility.settlement.store.sharing import recorded
from utility.webkit.cli.listing import print_rows
from utility.webkit.cli.options import ConfigOption, check_named, reading

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
    with reading(config) as (connection, now):
        first = wanted(None, None, since, now, "").since // QUARTER_S
        check_named("--microgrid", microgrid, kinds_of(connection))
        rows = recorded(connection, first, MAX_EPOCH // QUARTER_S, microgrid, limit)
    if not as_json:
        rows = [_meter_row(row, meter) for row in rows for meter in row["meters"]]
    columns = ("start", "microgrid", "meter", "given", "received", "version", "complete")
    print_rows("sharing", rows, columns, as_json=as_json)


def _meter_row(row: dict[str, Any], meter: dict[str, Any]) -> dict[str, object]:
    energies = {name: f"{meter[name] / 1e6:.3f}" for name in ("given", "received")}
    return row | meter | energies | {"complete": "yes" if row["complete"] else "no"}
