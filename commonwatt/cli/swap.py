"""``commonwatt swap``: exchange a part of a running town, without a lost or doubled reading."""

from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import Commands
from commonwatt.cli.site import SiteOption, option_of, run_or_print, write_packed
from commonwatt.identity.authority import REVOKED_FILE
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import counted
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import machine_s
from commonwatt.site import exchange
from commonwatt.site.exchange import handover_name, release_commands
from commonwatt.site.machine import Machine
from commonwatt.site.unpack import installed_on

app = Commands(no_args_is_help=True, help="Exchange a part of a running town without a lost or doubled reading.")

controller = Commands(
    no_args_is_help=True,
    help="Replace a microgrid's controller by a new one: `begin` at the office, `release` on the old, then `finish`."
    "\n\nThe old controller's whole store moves to the new one: readings that the utility does not have yet, desired "
    "states, schedules, the line's byte counts; the store of its adapter too. `begin` prints every step.",
)

_STEPS = """\
1. Carry {place}.bundle to the new controller, and install the program there (docs/guides/technician.md).
2. On the old controller:  sudo commonwatt swap controller release
   It stops, and writes {place}.handover; carry that to the new controller. Meters keep their records meanwhile.
3. On the new controller, at the old one's address:
       sudo commonwatt site unpack {place}.bundle --handover {place}.handover \\
           --authority {authority}
4. Here, when `commonwatt status` shows it connected:  commonwatt swap controller finish {place}{site}

The old controller is dead: its card in another machine gives the handover, by step 2 with --root FOLDER. Without any
handover, leave out --handover: readings that the old one had acknowledged and not yet relayed are lost then, and the
utility lists their slots as missing."""


@app.callback()
def swap() -> None:
    """Exchange a part of a running town without a lost or doubled reading."""


@controller.command()
def begin(
    place: Annotated[str, typer.Argument(help="The microgrid whose controller is replaced.")],
    site: SiteOption = Path("site"),
) -> None:
    """At the office: make certificates for the new controller and its bundle; print the steps.

    The old controller works on, until it is released. Type it again to write the bundle again.
    """
    now = machine_s()
    exchange.begin(site, place, now)
    authority = write_packed(site, place, now)
    typer.echo(_STEPS.format(place=place, site=option_of(site), authority=authority))


@controller.command()
def release(
    root: Annotated[Path, typer.Option(help="The folder of the old controller's mounted card.")] = Path("/"),
) -> None:
    """On the old controller: stop its services for good, and write its store into a handover file, here.

    Its gateway never runs on this store again, unless `commonwatt gateway release --undo` allows it. Where
    systemd does not run, the commands are printed.
    """
    machine = Machine.at(root)
    installed = installed_on(machine)
    if installed is None or installed.manifest.place == UTILITY:
        raise ConfigError(
            f"{machine.state}: no controller was unpacked there. For one that was set up by hand, stop its "
            "services; then: commonwatt gateway release --config FILE --out FILE"
        )
    place = installed.manifest.place
    commands = release_commands(machine, place, mosquitto=installed.manifest.mosquitto)
    run_or_print(machine, commands, "To stop the controller and write its handover:")
    typer.echo(
        f"Next, on the new controller: commonwatt site unpack {place}.bundle --handover {handover_name(place)} "
        "--authority and the fingerprint that `begin` printed"
    )


@controller.command()
def finish(
    place: Annotated[str, typer.Argument(help="The microgrid whose controller was replaced.")],
    site: SiteOption = Path("site"),
    yes: Annotated[bool, typer.Option("--yes", help="The new controller is connected: neither look nor ask.")] = False,
) -> None:
    """At the office, at the end: revoke the old controller's certificates.

    First it connects to the broker at the controller's address, which must have the new controller's certificate.
    """
    if not yes:
        exchange.check_connected(site, place)
        typer.echo(f"The broker of {place} has the new certificate. Its gateway's connection is not seen from here.")
        typer.confirm("Does `commonwatt status` on the new controller show it connected to the head-end?", abort=True)
    revoked = exchange.finish(site, place, machine_s())
    typer.echo(f"{place}: {counted(len(revoked), 'certificate')} of the old controller revoked")
    typer.echo(f"Next: commonwatt site pack {UTILITY} {place}{option_of(site)}; unpack each on its machine. Then the")
    typer.echo("brokers refuse the old controller. Meters that check broker certificates need the new list too:")
    typer.echo(f"  {site / place / REVOKED_FILE}")


app.add_typer(controller, name="controller")
