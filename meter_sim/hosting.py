"""The settings files of a fleet of several microgrids, and what its process serves over HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from prometheus_client.metrics_core import Metric

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MicrogridId
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.metric_families import registry_of
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.runtime.watchdog_metrics import register_process
from meter_sim.faults import path_of
from meter_sim.fleet import Fleet
from meter_sim.metrics import fleet_metrics, town_metrics

BEHIND_S = 60  # seconds of lag from which a microgrid's meters are behind
WORST = 5  # most microgrids that the status of several names as behind


def hosted(config: Path, settings: MetersSettings) -> dict[MicrogridId, MetersSettings]:
    """Return the settings of each microgrid of a fleet: its own file, or for several the files that it names.

    Raises:
        ConfigError: A file is wrong, or of another microgrid, town or clock.
    """
    if settings.microgrid is not None:
        return {settings.microgrid: settings}
    found = {}
    for name in settings.microgrids:
        path = (config.parent / settings.files.replace("{microgrid}", name)).resolve()
        one = of_one(path)
        if one.microgrid != name:
            raise ConfigError(f"{path}: is of microgrid {one.microgrid}, but {config} names it for {name}")
        for key in ("town", "clock"):
            theirs, ours = (getattr(each, key) for each in (one, settings))
            if (theirs and theirs.resolve()) != (ours and ours.resolve()):
                raise ConfigError(f"{path}: {key} differs from that of {config}: one process has one {key}")
        found[name] = one
    return found


def of_one(config: Path) -> MetersSettings:
    """Read the file of one microgrid's meters."""
    settings = load_settings(config, "meters", MetersSettings)
    if settings.microgrid is None:
        path = (config.parent / settings.files.replace("{microgrid}", settings.microgrids[0])).resolve()
        raise ConfigError(f"{config}: is of several microgrids; name the file of one, such as {path}")
    return settings


def faults_path(config: Path, settings: MetersSettings) -> Path:
    """Return the file of the faults of a fleet: beside its store, or for several microgrids beside its settings."""
    return path_of(config.resolve() if settings.microgrids else settings.store)


def servers(
    settings: MetersSettings, files: Mapping[MicrogridId, MetersSettings], fleet: Fleet, watchdog: Watchdog
) -> Iterator[HttpServer]:
    """Start and yield the HTTP servers of a fleet: one for each microgrid with an address, one for all of several."""
    alone = settings.microgrid is not None
    for name, one in files.items():
        if one.http is not None:
            registry = registry_of(partial(_metrics, fleet, name))
            if alone:
                register_process(registry, "meters", watchdog)
            server = HttpServer(one.http, registry, partial(_status, fleet, name), one.http_hosts)
            yield _started(server, watchdog, "" if alone else name)
    if settings.microgrids and settings.http is not None:
        registry = registry_of(lambda: town_metrics(fleet.town_figures()))
        register_process(registry, "meters", watchdog)
        server = HttpServer(settings.http, registry, partial(_town_status, fleet), settings.http_hosts)
        yield _started(server, watchdog, "")


def _metrics(fleet: Fleet, name: MicrogridId) -> Iterator[Metric]:
    return fleet_metrics(fleet.figures(name), fleet.tallies[name])


def _started(server: HttpServer, watchdog: Watchdog, name: str) -> HttpServer:
    watchdog.thread(f"http {name}".strip(), server.start())
    return server


def _status(fleet: Fleet, name: MicrogridId) -> dict[str, object]:
    now = fleet.figures(name)
    return {
        "microgrid": name,
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
        "without_broker": now.without_broker,
        "dark": now.dark,
        "power": asdict(fleet.power(name)),
    }


def _town_status(fleet: Fleet) -> dict[str, object]:
    now = fleet.town_figures()
    by_name = {name: fleet.figures(name) for name in fleet.tallies}
    figures = by_name.values()
    behind = {name: round(one.lag_s) for name, one in by_name.items() if one.lag_s > BEHIND_S}
    worst = sorted(behind, key=behind.__getitem__, reverse=True)[:WORST]
    return {
        "time": now.time,
        "lag_s": now.lag_s,
        "made": sum(one.made for one in figures),
        "acknowledged": sum(one.acknowledged for one in figures),
        "held": sum(one.held for one in figures),
        "events_held": sum(one.events_held for one in figures),
        "behind": len(behind),
        "worst": {name: behind[name] for name in worst},
        "meters": sum(one.meters for one in figures),
        "connected": sum(one.connected for one in figures),
        "microgrids": list(fleet.tallies),
        "closed": [name for name in fleet.tallies if name not in fleet.members],
        "power": asdict(now.power),
        "sun_percent": now.sun_percent,
        "plant": None if now.plant is None else asdict(now.plant),
    }
