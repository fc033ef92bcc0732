"""``commonwatt meters``: runs emulated meters from their settings file, and prints their stored records."""

import asyncio
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.store import open_checked, reading_store
from commonwatt.identity.devices import load_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import moment
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.service import errors_reported, flowing, only_one, run_service
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.runtime.watchdog_metrics import register_process
from commonwatt.town.town import Microgrid, Town, load_town
from meter_sim.dump import held_lines, true_lines
from meter_sim.faults import Faults, path_of, save
from meter_sim.fleet import Fleet
from meter_sim.metrics import FleetMetrics
from meter_sim.truth import TRUTH

app = typer.Typer(help="Emulated meters: all of one microgrid, with their sun, loads and batteries.")

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The fleet's settings file (TOML), with one table: meters.", dir_okay=False),
]


@app.callback()
def meters() -> None:
    """Emulated meters: all of one microgrid, with their sun, loads and batteries."""


@app.command()
@flowing
def run(config: ConfigOption) -> None:
    """Run the meters of a microgrid until SIGTERM or Ctrl-C.

    Each meter records every 15 s, and keeps its records until the gateway has acknowledged them. One file (`store`)
    has their records, the levels of the batteries and the truth log. The process may be killed and started again at
    any time. The meters measure nothing while it is stopped; their events show this time as off.

    An example of the settings file: commonwatt config example meters
    """
    run_service(lambda stop, watchdog: _run(config, stop, watchdog))


@app.command()
@flowing
def dump(
    config: ConfigOption,
    truth: Annotated[
        bool, typer.Option("--truth", help="The truth log: all records and events ever made, acknowledged or not.")
    ] = False,
) -> None:
    """Print the blocks and events that the gateway has not acknowledged yet, as JSON lines.

    It prints the state of one moment, also while the meters run. A block is one meter, one record type and one
    quarter-hour; its values are in milliwatt-hours, one for each 15 s.
    """
    with errors_reported():
        settings = load_settings(config, "meters", MetersSettings)
        if not settings.store.exists():
            raise ConfigError(f"{settings.store}: does not exist; start the meters: commonwatt meters run -c {config}")
        with reading_store(settings.store) as store:
            for line in true_lines(store) if truth else held_lines(store):
                typer.echo(line)


class FeederState(StrEnum):
    """Whether the town's side of the boundary has voltage."""

    DEAD = "dead"
    ALIVE = "alive"


@app.command()
@flowing
def feeder(
    state: Annotated[FeederState, typer.Argument(help="`dead` or `alive`.")],
    config: ConfigOption,
    for_s: Annotated[int, typer.Option("--for", min=15, help="dead: for so many seconds of the town's time.")] = 43_200,
) -> None:
    """Cut the emulated feeder between the town and this microgrid, or make it alive again.

    The running meters see it at their next slot, within 15 s of the town's time: the boundary switch trips, and the
    boundary's meters tell the gateway.
    """
    with errors_reported():
        settings = load_settings(config, "meters", MetersSettings)
        now = int(load_clock(settings.clock).now())
        until = now + for_s if state is FeederState.DEAD else 0
        save(path_of(settings.store), Faults(feeder_dead_until=until))
        typer.echo(f"the feeder of {settings.microgrid} is {state}" + (f" until {moment(until)}" if until else ""))


async def _run(config: Path, stop: asyncio.Event, watchdog: Watchdog) -> None:
    settings = load_settings(config, "meters", MetersSettings)
    town = load_town(settings.town)
    microgrid = _microgrid(town, settings)
    tokens = load_tokens(settings.tokens)
    clock = load_clock(settings.clock)
    with (
        only_one(settings.store, "another fleet"),
        closing(open_checked(settings.store, int(clock.now()), TRUTH)) as store,
    ):
        fleet = Fleet(settings=settings, town=town, microgrid=microgrid, tokens=tokens, clock=clock, store=store)
        watchdog.watch("writer", fleet.writing.mark)
        http = _http(settings, fleet, watchdog)
        watchdog.ready(f"{len(microgrid.meters)} meters of {microgrid.id}")
        try:
            await fleet.run(stop)
        finally:
            if http is not None:
                http.stop()


def _microgrid(town: Town, settings: MetersSettings) -> Microgrid:
    microgrid = town.microgrids.get(settings.microgrid)
    if microgrid is None:
        known = ", ".join(list(town.microgrids)[:10])
        raise ConfigError(f"{settings.town}: has no microgrid {settings.microgrid}; it has: {known}")
    return microgrid


def _http(settings: MetersSettings, fleet: Fleet, watchdog: Watchdog) -> HttpServer | None:
    if settings.http is None:
        return None

    def status() -> dict[str, object]:
        now = fleet.figures()
        return {
            "microgrid": settings.microgrid,
            "time": now.time,
            "lag_s": now.lag_s,
            "made": now.made,
            "acknowledged": now.acknowledged,
            "held": now.held,
            "events_made": now.events_made,
            "events_held": now.events_held,
            "sharing": [str(meter) for meter in now.sharing],
            "meters": now.meters,
            "connected": now.connected,
        }

    registry = FleetMetrics(fleet.figures, fleet.tally).registry
    register_process(registry, "meters", watchdog)
    server = HttpServer(settings.http, registry, status, settings.http_hosts)
    watchdog.thread("http", server.start())
    return server
