"""``commonwatt swap meter``: a meter exchanged."""

from decimal import Decimal, InvalidOperation, Overflow
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from commonwatt.model.units import MAX_ABS_READING, MeterId, MilliwattHours, Quarter, parse_id
from utility.database.town_zone import zone_of
from utility.readings.store.retention import count_blocks, register_replacement
from utility.registry.accounts import exchanged
from utility.registry.changes import differences, parse_quarter
from utility.registry.store.accounts import load_dated_registry, load_for_change, save_dated_registry
from utility.webkit.cli import Commands, ConfigOption, from_file, local_actor

_MILLIWATT_HOURS = 1_000_000  # in a kilowatt-hour

_STEPS = """\
Next:
1. Give the new meter a token. Append to the town file:
       [[meter]]
       microgrid = "{microgrid}"
       id = {new}
       replaces = {old}
   and register it:  commonwatt utility register --town town.toml --config {config} --out FOLDER
2. Take FOLDER/{microgrid}/registry.json and devices.json to the controller of {microgrid}, and the new meter's token,
   in FOLDER/{microgrid}/meter-tokens.json, to the meter.
3. Let the old meter deliver what it still has: `commonwatt show gaps --config {config}` lists what is missing.
4. Then revoke it:  commonwatt enroll revoke {old} --out FOLDER --reason exchanged"""


app = Commands(no_args_is_help=True, help="Exchange a meter without a lost or doubled reading.")


@app.callback()
def swap() -> None:
    """Exchange a meter without a lost or doubled reading."""


@app.command("meter")
def swap_meter(
    config: ConfigOption,
    old: Annotated[str, typer.Option("--old", prompt="Id of the old meter", help="The meter that is taken out.")],
    new: Annotated[str, typer.Option("--new", prompt="Id of the new meter", help="The meter in its place.")],
    at: Annotated[
        str,
        typer.Option(
            "--at",
            prompt="Time of the exchange, on a quarter-hour, such as 2026-11-15T14:15",
            help="The first moment of the new meter, on a quarter-hour: local time, or with an offset.",
        ),
    ],
    last_register: Annotated[
        str,
        typer.Option(
            "--last-register",
            prompt="Register of the old meter, kWh (unknown: -)",
            help="What the old meter's register shows at its end, kWh; - if it is not known.",
        ),
    ],
    first_register: Annotated[
        str,
        typer.Option(
            "--first-register",
            prompt="Register of the new meter, kWh (unknown: -)",
            help="What the new meter's register shows at its begin, kWh; - if it is not known.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the registry changes.")] = False,
) -> None:
    """Exchange a meter: the old one's place and account go over to the new one at a quarter-hour.

    Asks for what no option states, shows what changes in the registry, and prints the next steps. Readings of the old
    meter from then on, and of the new one before, stay stored and belong to no account: no energy counts twice. The two
    registers are kept for checks.
    """
    acting = local_actor().name
    ids = _meter("--old", old), _meter("--new", new)
    registers = _register("--last-register", last_register), _register("--first-register", first_register)
    with from_file(config) as (database, clock):
        with database.reads.begin() as connection:
            zone = zone_of(connection)
            quarter = _time(at, zone)
            before = load_dated_registry(connection)
            after = exchanged(before, *ids, quarter, *registers)
            for change in differences(before, after, zone):
                typer.echo("\n  ".join([change.subject, *change.lines]))
            _tell_strays(count_blocks(connection, ids[0], quarter), count_blocks(connection, ids[1], 0, quarter))
        # Outside of a transaction: a person may take long.
        if not yes:
            typer.confirm("Change the registry?", abort=True)
        with database.writes.begin() as connection:
            if load_for_change(connection) != before:
                raise ConfigError("the registry has changed meanwhile: type the command again")
            register_replacement(connection, *ids)
            save_dated_registry(connection, before, after, acting, int(clock.now()), zone)
    typer.echo(_STEPS.format(microgrid=after.meters[ids[0]].microgrid, old=ids[0], new=ids[1], config=config))


def _tell_strays(of_old: int, of_new: int) -> None:
    """Print how many quarter-hours are stored that the exchange gives to nobody: perhaps the time is wrong."""
    for number, which, when in ((of_old, "old", "from then on"), (of_new, "new", "before")):
        if number:
            held = counted(number, "quarter-hour")
            told = f"note: {held} of the {which} meter {when} are stored and belong to no account"
            typer.echo(f"{told}; is the time right?")


def _meter(option: str, text: str) -> MeterId:
    meter = parse_id(text.strip())
    if meter is None:
        raise ConfigError(f"{option} {text}: is no meter's id")
    return meter


def _time(text: str, zone: ZoneInfo) -> Quarter:
    try:
        return parse_quarter(text.strip(), zone)
    except ValueError as error:
        raise ConfigError(f"--at: {error}") from None


def _register(option: str, text: str) -> MilliwattHours | None:
    """Return a register in milliwatt-hours from kilowatt-hours."""
    if text.strip() == "-":
        return None
    try:
        energy = Decimal(text.strip()) * _MILLIWATT_HOURS
    except (InvalidOperation, Overflow):
        energy = Decimal(-1)
    if not (energy.is_finite() and 0 <= energy <= MAX_ABS_READING and energy == energy.to_integral_value()):
        raise ConfigError(f"{option} {text}: is no register in kWh, such as 12345.678; or - if it is not known")
    return int(energy)
