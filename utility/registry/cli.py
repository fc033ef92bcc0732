"""``commonwatt accounts``: who has which meter since when, the terms of accounts, and their table in a spreadsheet."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from utility.database.town_zone import zone_of
from utility.registry.accounts import DatedRegistry, Installed
from utility.registry.changes import Difference, differences
from utility.registry.importing import apply_facts
from utility.registry.store.accounts import load_dated_registry, load_for_change, save_dated_registry
from utility.registry.table import read_table, write_table
from utility.webkit.cli import Commands, ConfigOption, check_named, from_file, local_actor, reading

app = Commands(no_args_is_help=True, help="Who has which meter since when, and the terms of accounts.")

MAX_BYTES = 32_000_000  # the largest table that is read

FileArgument = Annotated[Path, typer.Argument(help="The table (CSV); `commonwatt accounts export` writes one.")]

MicrogridOption = Annotated[str | None, typer.Option("--microgrid", help="Only of this microgrid.")]


@app.command("import")
def import_table(file: FileArgument, config: ConfigOption) -> None:
    """Take the dates of a table over into the registry, and print what changes.

    What the table says of a meter's place, of a meter's holders, or of a term of an account replaces all that the
    registry had of it; what it does not name stays. With any mistake in it, nothing changes: each is printed with its
    row and column. `commonwatt accounts check` does the same and changes nothing.
    """
    acting = local_actor().name
    with from_file(config) as (database, clock), database.writes.begin() as connection:
        zone = zone_of(connection)
        before = load_for_change(connection)
        after = _applied(file, before, zone)
        _print_changes(list(differences(before, after, zone)))
        changed = save_dated_registry(connection, before, after, acting, int(clock.now()), zone)
    typer.echo(f"{file}: {_counted(changed)} of the registry, by {acting}" if changed else f"{file}: nothing new")


@app.command()
def check(file: FileArgument, config: ConfigOption) -> None:
    """Check a table, and print what `commonwatt accounts import` would change; nothing changes."""
    zone, before = _loaded(config)
    found = list(differences(before, _applied(file, before, zone), zone))
    _print_changes(found)
    typer.echo(f"{file}: good; {_counted(len(found))} if imported")


@app.command()
def export(
    config: ConfigOption,
    microgrid: MicrogridOption = None,
    account: Annotated[
        int | None, typer.Option("--account", help="Only the meters that this account has or had.")
    ] = None,
) -> None:
    """Write the registry's dates as a table (CSV) that `commonwatt accounts import` takes back."""
    zone, registry = _loaded(config)
    check_named("--microgrid", microgrid, {meter.microgrid for meter in registry.meters.values()})
    check_named("--account", account, registry.accounts)

    def wants(meter: Installed) -> bool:
        is_there = microgrid in (None, meter.microgrid)
        return is_there and (account is None or any(held.account == account for held in meter.holdings))

    everything = microgrid is None and account is None
    sys.stdout.writelines(write_table(registry, zone, None if everything else wants))


def _loaded(config: Path) -> tuple[ZoneInfo, DatedRegistry]:
    with reading(config) as (connection, _):
        return zone_of(connection), load_dated_registry(connection)


def _applied(file: Path, before: DatedRegistry, zone: ZoneInfo) -> DatedRegistry:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file}: is no table: longer than {MAX_BYTES // 1_000_000} MB")
    after, faults = apply_facts(before, *read_table(content, zone), zone)
    if after is None:
        lines = [f"{file}: {fault}" for fault in faults]
        raise ConfigError("\n".join([*lines, f"{counted(len(faults), 'mistake')}; nothing changed"]))
    return after


def _counted(changes: int) -> str:
    return counted(changes, "meter or account") + (" changes" if changes == 1 else " change")


def _print_changes(changes: Sequence[Difference]) -> None:
    for change in changes:
        typer.echo(change.subject)
        for line in change.lines:
            typer.echo(f"  {line}")
