"""The emulated meters' examination for ``commonwatt doctor``, and what their status page shows."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.config.meters import MetersSettings
from commonwatt.device.store import Extension, damage_of
from commonwatt.doctor.checks import Check, Finding, bad, clock_findings, disk_findings, good, warning
from commonwatt.doctor.connection import ReportedConnection, connection_findings
from commonwatt.doctor.meters import meter_certificate_findings, meter_target, store_findings
from commonwatt.doctor.running import Doctor, Running, port_findings
from commonwatt.identity.devices import load_tokens
from commonwatt.model.text import counted
from commonwatt.model.units import MeterId
from commonwatt.town.loading import load_town
from meter_sim.fleet import hosted
from meter_sim.store import PLANT_TABLES, TRUTH

_COPY = "copy the folder of this microgrid from the office again"


def checks(settings: MetersSettings, running: Running) -> Sequence[Check]:
    """Return the checks of a fleet of emulated meters; of several microgrids, each has checks of its own file."""
    if settings.microgrids:
        plant = settings.plant
        return (
            Check("clock", partial(clock_findings, settings.clock)),
            *(() if plant is None else (_stored("plant", plant.store, PLANT_TABLES, running),)),
            Check("microgrids", partial(_files, settings, running)),
            Check("port", partial(port_findings, settings, running)),
        )
    return (
        Check("clock", partial(clock_findings, settings.clock)),
        Check("disk", partial(disk_findings, settings.store)),
        _stored("store", settings.store, TRUTH, running),
        Check("certificate", partial(_certificates, settings)),
        Check("tokens", partial(_tokens, settings)),
        Check("port", partial(port_findings, settings, running)),
        Check("broker", partial(_connection, settings, running)),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what the status of running meters shows."""
    connected, meters = answer["connected"], answer["meters"]
    found = f"{connected} of {counted(meters, 'meter')} connected"
    if connected == meters:
        yield good("broker", found)
    elif connected:
        yield warning("broker", found, "a meter that fails returns within 15 s; otherwise see the log of the meters")
    else:
        yield bad("broker", found, "see its remedy: commonwatt doctor --config FILE")


def _files(settings: MetersSettings, running: Running) -> Iterator[Finding]:
    town = load_town(settings.town)
    for name, one in hosted(running.config, settings).items():
        if name not in town.microgrids:
            yield bad(name, f"{settings.town}: has no microgrid {name}", "correct microgrids in the file")
        else:
            yield from _tokens(one)


def _stored(name: str, store: Path, extension: Extension, running: Running) -> Check:
    return Check(name, partial(store_findings, store, running, "meters", partial(damage_of, store, extension)))


def _certificates(settings: MetersSettings) -> Iterator[Finding]:
    return meter_certificate_findings(settings, _meters(settings) if settings.certificates is not None else [])


def _tokens(settings: MetersSettings) -> Iterator[Finding]:
    meters, tokens = _meters(settings), load_tokens(settings.tokens)
    without = [str(meter) for meter in meters if str(meter) not in tokens]
    if not meters:
        yield bad("tokens", f"{settings.town}: has no microgrid {settings.microgrid}", "correct microgrid in the file")
    elif without:
        found = f"{settings.tokens}: no token of {counted(len(without), 'meter')}, such as {without[0]}"
        yield bad("tokens", found, _COPY)
    else:
        yield good("tokens", f"of {counted(len(meters), 'meter')} of {settings.microgrid}")


def _meters(settings: MetersSettings) -> list[MeterId]:
    microgrid = load_town(settings.town).microgrids.get(settings.microgrid or "")
    return [] if microgrid is None else [meter.id for meter in microgrid.meters]


def _connection(settings: MetersSettings, running: Running) -> Iterator[Finding]:
    """Yield the first meter's connection; running meters report theirs, unless there is none to disturb."""
    if running.answer is not None and running.answer["connected"]:
        yield from judge(running.answer)
        return
    meter = _meters(settings)[0]
    target = meter_target(settings, meter, lambda: load_tokens(settings.tokens).get(str(meter), ""))
    seems_to_run = running.runs and running.answer is None
    yield from connection_findings(target, ReportedConnection(connected=None) if seems_to_run else None)


DOCTOR = Doctor(checks=checks, judge=judge)
