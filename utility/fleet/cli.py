"""``commonwatt fleet``: releases, settings and reports of many controllers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.options import show
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import counted, printable
from commonwatt.protocol.reports import read_report
from utility.care import store as packages
from utility.control.changes import Asked, Chosen
from utility.control.decisions import make_change, put_back, title
from utility.control.preview import in_words
from utility.control.store import find_change, kinds_of, newest_changes
from utility.fleet.fleet import KEYS, action_of, chosen_by, last_of
from utility.fleet.store import reports_of
from utility.readings.store.gateways import last_heartbeats
from utility.webkit.cli import Commands, ConfigOption, ask, from_file, load, local_actor

app = Commands(no_args_is_help=True, help="Care for many controllers: upgrade them, set what is safe from afar.")

_COLUMNS = ("controller", "step", "verdict", "minutes", "why")
_LOOKED = 200  # newest changes among which one is put back


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="The release file, made at the office by `commonwatt site sign`.")],
    config: ConfigOption,
) -> None:
    """Take a signed release into the utility's folder."""
    settings, _ = load(config)
    if settings.head_end_ca is None:
        raise ConfigError(f"{config}: has no head_end_ca, by which a release is checked")
    manifest = packages.publish(file, settings.packages, settings.head_end_ca)
    typer.echo(f"Next: commonwatt fleet upgrade {manifest.version}")


@app.command()
def upgrade(
    config: ConfigOption,
    release: Annotated[str, typer.Argument(help="The version.")] = "",
    first: Annotated[str | None, typer.Option(help="The controller that is upgraded before all others.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="As a second person: let others follow.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Begin no further controller.")] = False,
) -> None:
    """Upgrade all controllers: one, then a twentieth, then the rest; it stops at the first that goes back.

    Each step waits for the verdicts of the last one, and never two members of a clique are upgraded at once. After the
    first controller a second person approves the others. `commonwatt fleet status` shows the verdicts.

    Examples: `fleet upgrade 0.4.1 --first r001`, `fleet upgrade 0.4.1 --approve`, `fleet upgrade --stop`.
    """
    if bool(release) == stop or (approve and not release):
        raise ConfigError("name a release, to approve it, too; or use --stop alone")
    if approve:
        seen = next(iter(ask(config, "GET", "/fleet/rollouts")["rollouts"]), None)
        if seen is None or seen["release"] != release:
            raise ConfigError(f"{release}: no rollout of it runs", "look: commonwatt fleet status")
        _show(ask(config, "POST", "/fleet/rollouts/approve", {"no": seen["no"], "sha256": seen["sha256"]}))
    elif stop:
        _show(ask(config, "POST", "/fleet/rollouts/stop", {}))
    else:
        _show(ask(config, "POST", "/fleet/rollouts", {"release": release, "first": first}))


@app.command()
def withdraw(release: Annotated[str, typer.Argument(help="The version.")], config: ConfigOption) -> None:
    """Withdraw a bad release: controllers that have not fetched all of it get no more.

    Controllers that have it keep it until the next release.
    """
    packages.withdraw(load(config)[0].packages, release)
    typer.echo(f"{release} is withdrawn. Next: commonwatt fleet upgrade --stop")


@app.command()
def status(config: ConfigOption) -> None:
    """Show the newest rollout, and the verdict of each controller."""
    _show(ask(config, "GET", "/fleet/rollouts", by_file=True))


def _show(answer: dict[str, Any]) -> None:
    for one in answer["rollouts"]:
        typer.echo(f"rollout {one['no']}: {one['release']}, {one['state']}{': ' if one['why'] else ''}{one['why']}")
        show("controllers", one["controllers"], _COLUMNS)
    if not answer["rollouts"]:
        typer.echo("no rollout yet")


@app.command(name="set")
def set_key(
    key: Annotated[str, typer.Argument(help=f"What to set: {', '.join(KEYS)}.")],
    config: ConfigOption,
    value: Annotated[str, typer.Argument(help="Its value; `file`: what each gateway's file says.")] = "file",
    where: Annotated[
        list[str] | None, typer.Option(help="Which controllers: kind=, release= or name=; several: all must fit.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Put back what was in force before the last change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Set a key that is safe from afar at many controllers, after a preview; --back puts it back.

    Addresses, identities and files are set by the office and a bundle, never from afar.

    Examples: `fleet set relay_s 900 --where kind=residential`, `fleet set relay_s --back`.
    """
    action, fields = action_of(key, value)
    with from_file(config) as (database, clock):
        if back:
            last = last_of(database.read(newest_changes, _LOOKED), {"cmd": action, **fields})
            number = put_back(database, local_actor(), last, int(clock.now()))
        else:
            with database.reads.begin() as connection:
                names = chosen_by(where or [], kinds_of(connection), last_heartbeats(connection))
            for line in (
                *in_words({"cmd": action, **fields}),
                f"{counted(len(names), 'controller')}: {' '.join(names)}",
            ):
                typer.echo(line)
            if not yes:
                typer.confirm("Set it?", abort=True)
            asked = Asked(action=action, fields=fields, chosen=Chosen(microgrids=tuple(names)))
            number = make_change(database, local_actor(), asked, int(clock.now()))
        change = database.read(find_change, number)
    typer.echo(f"change {number}: {title(change)}, {counted(change.microgrids, 'microgrid')}")


@app.command()
def report(
    controller: Annotated[str, typer.Argument(help="The controller, such as r001.")], config: ConfigOption
) -> None:
    """Print the newest report of a controller: alarms, doctor's findings, versions, machine, ends of logs.

    To ask for a new one: `commonwatt utility command r001 report`. Reports are kept for 90 days.
    """
    with from_file(config) as (database, _):
        found = database.read(reports_of, controller, 1)
    if not found:
        ask = f"commonwatt utility command {controller} report --config {config}"
        raise CommonwattError(f"{controller}: there is no report; ask for one: {ask}")
    # What a controller wrote must not steer this terminal.
    for line in read_report(found[0].text).splitlines():
        typer.echo(printable(line.expandtabs()))
