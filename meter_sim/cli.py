"""``commonwatt meters``: runs emulated meters from their settings file, prints their records, sets faults."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from commonwatt.cli.options import Commands
from commonwatt.codec.dumps import block_lines, event_lines
from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.records.delivery import Tally
from commonwatt.device.store import DeviceStore, open_checked, reading_store
from commonwatt.identity.devices import load_tokens
from commonwatt.identity.enrolment import METER_SECRETS
from commonwatt.model.blocks import Blocks, Quality, from_records, make_blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MicrogridId, MilliwattHours
from commonwatt.model.words import counted
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.files import read_object
from commonwatt.runtime.service import only_one, run_service
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.loading import load_town
from commonwatt.town.town import Microgrid, Town
from meter_sim.faults import FaultsFile, path_of
from meter_sim.fleet import Fleet
from meter_sim.fleet_clock import FleetClock
from meter_sim.hosting import faults_path, hosted, of_one, servers
from meter_sim.meters import MicrogridMeters
from meter_sim.outside import OutsideWorld
from meter_sim.plant import EmulatedPlant
from meter_sim.plant_store import PLANT_TABLES
from meter_sim.truth import TRUTH, true_events, true_records
from meter_sim.world_cli import COMMANDS, ConfigOption, ConfigsOption

RECORD = np.dtype(
    [
        ("type", ">u1"),
        ("lossy", ">u1"),
        ("id", ">u8"),
        ("meter", ">u8"),
        ("account", ">u2"),
        ("start", ">u4"),
        ("end", ">u4"),
        ("reading", ">i8"),
    ]
)
"""The 36 bytes of a history record (M2)."""

app = Commands(help="Emulated meters of one microgrid or several, with their sun, loads and batteries.")


def held_lines(store: DeviceStore) -> Iterator[str]:
    """Yield the blocks and events that the gateway has not acknowledged."""
    for records in store.held_records():
        yield from block_lines(from_records(records))
    yield from event_lines(store.held_events())


def true_lines(store: DeviceStore) -> Iterator[str]:
    """Yield all blocks and events ever made; each block comes once and complete."""
    for _, slots in groupby(true_records(store), lambda slot: (slot[0] - SLOT_S) // QUARTER_S):
        yield from block_lines(_blocks(b"".join(records for _, records in slots)))
    yield from event_lines(true_events(store))


def _blocks(data: bytes) -> Blocks:
    """Make blocks of the records of one quarter; each record covers one slot, and each slot has one record."""
    records = np.frombuffer(data, RECORD)
    meters, number = np.unique(records["meter"].astype(np.uint64), return_inverse=True)
    # One sortable number: ids of a table of places may have all of their 64 bits.
    keys, row = np.unique(number * 256 + records["type"], return_inverse=True)
    quarter = int(records["start"][0]) // QUARTER_S
    slot = records["start"].astype(np.int64) % QUARTER_S // SLOT_S
    values = np.zeros((len(keys), SLOTS), np.int64)
    quality = np.zeros((len(keys), SLOTS), np.uint8)
    values[row, slot] = records["reading"]
    quality[row, slot] = Quality.EXACT
    return make_blocks([(int(meters[key // 256]), int(key % 256), quarter) for key in keys], values, quality)


@app.callback()
def meters() -> None:
    """Emulated meters of one microgrid or several, with their sun, loads and batteries."""


@app.command()
def run(config: ConfigOption) -> None:
    """Run the meters of one microgrid, or of several with one physics, until SIGTERM or Ctrl-C.

    Each meter records every 15 s, and keeps its records until the gateway has acknowledged them. One file of each
    microgrid (`store`) has their records, the levels of the batteries and the truth log. The process may be killed and
    started again at any time. The meters measure nothing while it is stopped; their events show this time as off.

    A file with `microgrids` names several, each with a file of its own, and perhaps the town's plant.

    An example of the settings file: commonwatt config example meters
    """
    run_service(lambda stop, watchdog: _run(config, stop, watchdog))


@app.command()
def dump(
    config: ConfigsOption,
    truth: Annotated[
        bool, typer.Option("--truth", help="The truth log: all records and events ever made, acknowledged or not.")
    ] = False,
) -> None:
    """Print the blocks and events that the gateway has not acknowledged yet, as JSON lines.

    It prints the state of one moment, also while the meters run. A block is one meter, one record type and one
    quarter-hour; its values are in milliwatt-hours, one for each 15 s. Several files are dumped one after the other.
    """
    for path in config:
        settings = of_one(path)
        if not settings.store.exists():
            raise ConfigError(f"{settings.store}: does not exist; start the meters: commonwatt meters run -c {path}")
        with reading_store(settings.store) as store:
            for line in true_lines(store) if truth else held_lines(store):
                typer.echo(line)


for _command in COMMANDS:
    app.command()(_command)


async def _run(config: Path, stop: asyncio.Event, watchdog: Watchdog) -> None:
    settings = load_settings(config, "meters", MetersSettings)
    files = hosted(config, settings)
    town = load_town(settings.town)
    for name in files:
        _microgrid(town, settings, name)
    tokens = {name: load_tokens(one.tokens) for name, one in files.items()}
    secrets = {name: load_tokens(one.tokens.with_name(METER_SECRETS)) for name, one in files.items() if one.brokers}

    def open_meters(name: MicrogridId, clock: FleetClock, tally: Tally) -> MicrogridMeters:
        one = files[name]
        return MicrogridMeters(
            settings=one,
            microgrid=town.microgrids[name],
            seed=town.table.seed,
            tokens=tokens[name],
            secrets=secrets.get(name),
            clock=clock,
            store=open_checked(one.store, int(clock.machine()), TRUTH),
            tally=tally,
            faults=FaultsFile(path_of(one.store)) if settings.microgrids else None,
        )

    def open_plant(clock: FleetClock, outside: OutsideWorld) -> EmulatedPlant:
        assert settings.plant is not None
        path = settings.plant.store
        return EmulatedPlant(
            settings=settings.plant,
            town=town,
            clock=clock,
            outside=outside,
            open_store=lambda: open_checked(path, int(clock.machine()), PLANT_TABLES),
        )

    with ExitStack() as stack:
        for store in [*(one.store for one in files.values()), *([settings.plant.store] if settings.plant else [])]:
            stack.enter_context(only_one(store, "another fleet"))
        # Not on the loop: hundreds of stores take long on a busy disk.
        fleet = await asyncio.to_thread(
            Fleet,
            town=town,
            microgrids=tuple(files),
            open_meters=open_meters,
            clock=load_clock(settings.clock),
            open_plant=None if settings.plant is None else open_plant,
            faults=FaultsFile(faults_path(config, settings)),
            levels=first_levels(settings.levels),
        )
        stack.callback(fleet.close)
        if settings.microgrid is not None:
            # Of several microgrids, a store that hangs stops no other: it shows as a lag.
            watchdog.watch("writer", fleet.members[settings.microgrid].writing.mark)
        for server in servers(settings, files, fleet, watchdog):
            stack.callback(server.stop)
        watchdog.ready(f"{counted(len(files), 'microgrid')}: {', '.join(list(files)[:10])}")
        await fleet.run(stop)


def _microgrid(town: Town, settings: MetersSettings, name: MicrogridId) -> Microgrid:
    microgrid = town.microgrids.get(name)
    if microgrid is None:
        known = ", ".join(list(town.microgrids)[:10])
        raise ConfigError(f"{settings.town}: has no microgrid {name}; it has: {known}")
    return microgrid


def first_levels(path: Path | None) -> dict[MeterId, MilliwattHours]:
    """Return the levels of batteries at the first start, from their file."""
    if path is None:
        return {}
    content = read_object(path, "levels of batteries", "leave out the key `levels`")
    try:
        return {int(meter): int(str(level)) for meter, level in content.items()}
    except ValueError as error:
        raise ConfigError(f"{path}: no levels of batteries: {error}") from error
