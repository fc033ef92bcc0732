"""``commonwatt utility supply`` and ``storm``: what is bought and why, which controllers are limited."""

import json
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption
from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import LOCAL_FORMS
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import flowing
from utility.control.decisions import announce_storm
from utility.supply.buying.situation import Storm
from utility.supply.store.supply_view import supply_view
from utility.webkit.cli.options import ConfigOption, from_file, local_actor, reading, time_option

app = typer.Typer()


@app.command()
@flowing
def supply(config: ConfigOption, limit: LimitOption = 12, as_json: JsonOption = False) -> None:
    """Show the town's plant, the newest purchases with their reasons, and the controllers that are limited.

    The state of the supply is the regional grid's, as the plant reports it. `planned` and `bought` are kilowatt-hours;
    `price` is a multiple of the price outside peak hours.
    """
    with reading(config) as (connection, now):
        found = supply_view(connection, now, limit)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(_plant_text(found["plant"]))
    if found["no_purchase"]:
        typer.echo(f"no purchase for this quarter-hour: {found['no_purchase']}")
    if found["storm"]:
        typer.echo("storm from {} to {}".format(*map(moment, found["storm"])))
    columns = ("start", "planned", "bought", "price", "policy", "state", "reason")
    show("purchases", [_purchase_row(row) for row in found["purchases"]], columns)
    show("rations", [_ration_row(row) for row in found["rations"]], ("controller", "supply", "limit", "reason"))


@app.command()
@flowing
def storm(
    config: ConfigOption,
    start: Annotated[int | None, time_option(f"When it is expected, else now: {LOCAL_FORMS}.")] = None,
    for_s: Annotated[int, typer.Option("--for", min=900, help="For how many seconds.")] = 43_200,
    off: Annotated[bool, typer.Option("--off", help="No storm is expected any more.")] = False,
) -> None:
    """Announce a storm: until its end homes' batteries give to others only what a nearly empty one needs.

    All gateways get the command `hold`; `commonwatt utility changes` shows their outcomes: a gateway of an earlier
    release answers `unsupported`. `planner` also has the plant's battery full when the storm comes, and holds it until
    its end. A later announcement replaces an earlier one.
    """
    with from_file(config) as (database, clock):
        now = int(clock.now())
        begin = now if start is None else start
        expected = None if off else Storm(start=begin, end=begin + for_s)
        if expected is not None and expected.end <= now:
            raise ConfigError(
                f"--start {moment(begin)}: this storm ended at {moment(expected.end)}; nothing was changed"
            )
        number = announce_storm(database, local_actor(), expected, now)
        if number is None:
            typer.echo("no microgrid is registered yet: the plant alone receives it")
        else:
            typer.echo(f"change {number} tells all gateways; see: commonwatt utility changes")
    typer.echo("no storm" if expected is None else f"storm from {moment(expected.start)} to {moment(expected.end)}")


def _plant_text(plant: dict[str, Any] | None) -> str:
    if plant is None:
        return "no plant has reported yet"
    level = 100 * plant["level_mwh"] / max(1, plant["capacity_mwh"])
    left = f" ({plant['hours_left']} h left, until {moment(plant['lasts_until'])})" if plant["lasts_until"] else ""
    return (
        f"plant: battery {level:.1f} % of {plant['capacity_mwh'] / 1e6:.0f} kWh{left}, "
        f"{_signed_kw(plant['battery_w'])} into it, {_signed_kw(plant['bought_w'])} bought, "
        f"line at most {plant['line_w'] / 1000:.0f} kW{'' if plant['voltage'] else ', without voltage'}; "
        f"supply {plant['supply']}, price {plant['price_permille'] / 1000:g}; "
        f"reported {counted(plant['age_s'], 'second')} ago"
    )


def _signed_kw(watts: int) -> str:
    return f"{watts / 1000:.0f} kW"


def _purchase_row(row: dict[str, Any]) -> dict[str, object]:
    bought = "" if row["ordered"] is None else f"{(row['ordered'] + row['needed']) / 1e6:.3f}"
    return row | {
        "start": moment(row["quarter"] * QUARTER_S),
        "planned": f"{row['energy'] / 1e6:.3f}",
        "bought": bought,
        "price": f"{row['price'] / 1000:g}",
    }


def _ration_row(row: dict[str, Any]) -> dict[str, object]:
    limit = "none" if row["import_limit_w"] is None else f"{row['import_limit_w']} W"
    return row | {"limit": limit}
