"""The commands of ``commonwatt meters`` that set faults of the emulated world while meters run (docs/islanding.md)."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import MAX_EPOCH, EpochSeconds
from commonwatt.model.words import counted, moment
from commonwatt.runtime.clock import load_clock
from commonwatt.town.loading import load_town
from commonwatt.town.scenario import load as load_scenario
from commonwatt.town.town import Town
from meter_sim.faults import Factor, Faults, MeterFault, Shortage, load, save
from meter_sim.hosting import faults_path
from meter_sim.outside import NOT_PLAYED

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
