"""``commonwatt meters``: runs emulated meters, prints their records, sets faults of their world."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import typer

from commonwatt.cli.options import Commands
from commonwatt.codec.dumps import block_lines, event_lines
from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.records import Tally
from commonwatt.device.store import DeviceStore, open_checked, reading_store
from commonwatt.identity.devices import load_tokens
from commonwatt.identity.enrolment import METER_SECRETS
from commonwatt.model.blocks import Blocks, Quality, from_records, make_blocks
from commonwatt.model.control import SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import (
    MAX_EPOCH,
    QUARTER_S,
    SLOT_S,
    SLOTS,
    EpochSeconds,
    MeterId,
    MicrogridId,
    MilliwattHours,
)
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.files import read_object
from commonwatt.runtime.service import only_one, run_service
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.loading import load_town
from commonwatt.town.scenario import load as load_scenario
from commonwatt.town.town import Microgrid, Town
from meter_sim.faults import Factor, Faults, FaultsFile, MeterFault, Shortage, load, path_of, save
from meter_sim.fleet import Fleet, faults_path, hosted, of_one, servers
from meter_sim.fleet_clock import FleetClock
from meter_sim.meters import MicrogridMeters
from meter_sim.plant import EmulatedPlant
from meter_sim.store import PLANT_TABLES, TRUTH, true_events, true_records
from meter_sim.world import NOT_PLAYED, OutsideWorld

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The fleet's settings file (TOML), with one table: meters.", dir_okay=False),
]
ConfigsOption = Annotated[
    list[Path], typer.Option("--config", "-c", help="The settings file of one fleet's meters; may be given again.")
]
ForOption = Annotated[int, typer.Option("--for", min=15, help="For so many seconds of the town's time.")]

HALF_A_DAY_S = 43_200


class _World:
    """The faults of a fleet's world, as a command changes them."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.settings = load_settings(config, "meters", MetersSettings)
        self.now = int(load_clock(self.settings.clock).now())
        self.path = faults_path(config, self.settings)
        try:
            self.faults = load(self.path)
        except ConfigError as error:
            typer.echo(f"{error}; it is replaced", err=True)
            self.faults = Faults()

    @property
    def names(self) -> str:
        """The microgrids, for a sentence."""
        one = self.settings.microgrid
        return one if one is not None else ", ".join(self.settings.microgrids[:10])

    @property
    def town(self) -> Town:
        """The town."""
        return load_town(self.settings.town)

    def until(self, for_s: int, *, begins: bool = True) -> EpochSeconds:
        """Return the end of a fault that begins now; 0: it ends now."""
        return min(self.now + for_s, MAX_EPOCH) if begins else 0

    def change(self, said: str, until: EpochSeconds = 0, **changes: Any) -> None:
        """Save the faults with changes, and say so."""
        save(self.path, self.faults.model_copy(update=changes))
        typer.echo(said + (f" until {moment(until)}" if until else ""))

    def need_plant(self) -> None:
        """Refuse the file of meters without the plant."""
        if self.settings.plant is None:
            raise ConfigError(f"{self.config}: has no plant; name the file with [meters.plant], plant/meters.toml")


def feeder(
    state: Annotated[Literal["dead", "alive"], typer.Argument(help="`dead` or `alive`.")],
    config: ConfigOption,
    for_s: ForOption = HALF_A_DAY_S,
) -> None:
    """Cut the emulated feeder between the town and this microgrid, or make it alive again.

    The running meters see it at their next slot, within 15 s of the town's time: the boundary switch trips, and the
    boundary's meters tell the gateway. With the file of several microgrids, it is the feeder of each.
    """
    world = _World(config)
    until = world.until(for_s, begins=state == "dead")
    world.change(f"the feeder of {world.names} is {state}", until, feeder_dead_until=until)


def line(
    state: Annotated[Literal["dead", "alive"], typer.Argument(help="`dead` or `alive`.")],
    config: ConfigOption,
    for_s: ForOption = HALF_A_DAY_S,
) -> None:
    """Cut the emulated line between the plant and the regional grid, or make it alive again.

    Nothing is then bought or sold: the town lives on its sun and batteries. Only with the file that has the plant.
    """
    world = _World(config)
    world.need_plant()
    until = world.until(for_s, begins=state == "dead")
    world.change(f"the regional line is {state}", until, line_dead_until=until)


def supply(
    state: Annotated[SupplyState, typer.Argument(help="NORMAL, LOW, CRITICAL or EMPTY.")],
    config: ConfigOption,
    for_s: ForOption = HALF_A_DAY_S,
) -> None:
    """Set what the regional grid reports of its supply, which limits the plant's line.

    The plant reports it to the utility, which rations. Only with the file that has the plant.
    """
    world = _World(config)
    world.need_plant()
    until = world.until(for_s, begins=state is not SupplyState.NORMAL)
    world.change(f"the regional supply is {state}", until, supply=Shortage(state=state, until=until))


def lte(
    state: Annotated[Literal["dead", "lossy", "alive"], typer.Argument(help="`dead`, `lossy` or `alive`.")],
    config: ConfigOption,
    for_s: ForOption = 3600,
) -> None:
    """Cut the network between the meters and their controller, have it lose messages, or make it work again.

    dead: the meters go on measuring, and deliver what they kept when it works again. lossy: a third of all messages is
    lost, both ways. The utility's broadband is not emulated here: stop the head-end for that.
    """
    world = _World(config)
    until = world.until(for_s, begins=state != "alive")
    ends = {f"lte_{each}_until": until if state == each else 0 for each in ("dead", "lossy")}
    world.change(f"the meters' network of {world.names} is {state}", until, **ends)


def weather(
    percent: Annotated[int, typer.Argument(min=0, max=100, help="Sun that clouds let through, percent.")],
    config: ConfigOption,
    for_s: ForOption = HALF_A_DAY_S,
) -> None:
    """Put clouds before the sun, beside the weather of the day; 100: none.

    Example, a dark half-day: `meters weather 15`.
    """
    world = _World(config)
    until = world.until(for_s, begins=percent != 100)
    said = f"clouds let {percent} % of the sun through, at {world.names},"
    world.change(said, until, sun=Factor(percent=percent, until=until))


def demand(
    percent: Annotated[int, typer.Argument(min=0, max=1000, help="Load as a percentage of the ordinary load.")],
    config: ConfigOption,
    for_s: ForOption = HALF_A_DAY_S,
) -> None:
    """Multiply the load of all places; 100: as usual.

    Example, a heat wave's evening: `meters demand 200 --for 14400`.
    """
    world = _World(config)
    until = world.until(for_s, begins=percent != 100)
    said = f"the places of {world.names} use {percent} % of their ordinary load"
    world.change(said, until, demand=Factor(percent=percent, until=until))


def meter(
    number: Annotated[int, typer.Argument(metavar="ID", help="The meter's id.")],
    state: Annotated[
        Literal["frozen", "lying", "silent", "well"], typer.Argument(help="`frozen`, `lying`, `silent` or `well`.")
    ],
    config: ConfigOption,
    for_s: ForOption = 3600,
    by_wh: Annotated[int, typer.Option(help="lying: watt-hours added to its level or, without a battery, energy.")] = 0,
) -> None:
    """Make a meter wrong, or well again; the energy behind it flows as before.

    frozen: it reports the readings of one slot again and again. lying: it reports a level that is off by `--by-wh`; a
    meter without a battery, an energy of each slot. silent: it measures, and sends and receives nothing until its end.
    """
    world = _World(config)
    _check_meter(world, number)
    if (state == "lying") != bool(by_wh):
        raise ConfigError("lying needs --by-wh, such as --by-wh -2000; the other states have none")
    rest = {one: fault for one, fault in world.faults.meters.items() if one != str(number)}
    if state == "well":
        return world.change(f"meter {number} is well", meters=rest)
    until = world.until(for_s)
    fault = MeterFault(what=state, until=until, by_mwh=by_wh * 1000)
    return world.change(f"meter {number} is {state}", until, meters={**rest, str(number): fault})


def play(
    config: ConfigOption,
    name: Annotated[
        str | None, typer.Argument(metavar="SCENARIO", help="A name of `scenario list`, or a file.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End the scenario that is played.")] = False,
) -> None:
    """Play a scenario's phases on running meters, from the town's present hour on.

    Feeders, the regional line, supply, prices, clouds and demand follow the scenario. Its date and the levels at its
    beginning are left out: the town's clock and batteries go on. So are outages of broadband and of controllers, which
    are other processes.

    Example: `meters play storm --config data/plant/meters.toml`.
    """
    world = _World(config)
    if (name is None) != stop:
        raise ConfigError("give a scenario, such as storm, or --stop")
    if name is None:
        return world.change("no scenario is played", scenario=None)
    local = datetime.fromtimestamp(world.now, ZoneInfo(world.town.table.timezone))
    scenario = load_scenario(name).model_copy(update={"start": local.date(), "start_hour": local.hour})
    world.change(f"playing for {counted(scenario.days, 'day')}: {scenario.title}", scenario=scenario)
    if left := sorted({one.what for one in scenario.outage} & set(NOT_PLAYED)):
        typer.echo(f"left out: outages of {' and '.join(left)}")
    return None


COMMANDS = (feeder, line, supply, lte, weather, demand, meter, play)  # the commands


def _check_meter(world: _World, number: MeterId) -> None:
    town = world.town
    names = [world.settings.microgrid] if world.settings.microgrid is not None else world.settings.microgrids
    known = [
        one.id for name in names if name in town.microgrids for one in town.microgrids[name].meters if one.emulated
    ]
    if number not in known:
        raise ConfigError(f"{number} is no emulated meter of {world.names}; such as {', '.join(map(str, known[:5]))}")


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
