"""The emulated meters' examination for ``commonwatt doctor``, and what their status page shows."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from commonwatt.config.settings import MetersSettings
from commonwatt.device.store import damage_of
from commonwatt.doctor.certificates import certificate_findings, revocation_findings
from commonwatt.doctor.connection import Reported, Target, connection_findings
from commonwatt.doctor.doctors import Doctor
from commonwatt.doctor.findings import Check, Finding, bad, good, warning
from commonwatt.doctor.machine import clock_findings, disk_findings
from commonwatt.doctor.running import Running, port_findings
from commonwatt.identity.devices import load_tokens
from commonwatt.model.ids import MeterId
from commonwatt.model.words import counted
from commonwatt.protocol.topics import meter_down
from commonwatt.town.town import load_town
from meter_sim.truth import TRUTH

_COPY = "copy the folder of this microgrid from the office again"


def checks(settings: MetersSettings, running: Running) -> Sequence[Check]:
    """Return the checks of a fleet of emulated meters."""
    return (
        Check("clock", partial(clock_findings, settings.clock)),
        Check("disk", partial(disk_findings, settings.store)),
        Check("store", partial(_store, settings, running)),
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
        yield bad("broker", found, "find the step that fails: commonwatt doctor --config FILE")


def _store(settings: MetersSettings, running: Running) -> Iterator[Finding]:
    path = settings.store
    if running.runs:
        yield good("store", f"{path}: in use; checked at the next start")
    elif not path.exists():
        yield good("store", f"{path}: not there yet; the meters make it")
    elif why := damage_of(path, TRUTH):
        yield bad("store", f"{path}: {why}", "start the meters: they keep this file beside a new store, and begin anew")
    else:
        yield good("store", f"{path}: passes its check")


def _certificates(settings: MetersSettings) -> Iterator[Finding]:
    yield from certificate_findings("broker_ca", settings.broker_ca)
    yield from revocation_findings("broker_revoked", settings.broker_revoked, settings.broker_ca, None)
    if settings.certificates is not None:
        for meter in _meters(settings):
            yield from certificate_findings(
                f"certificate of {meter}", settings.certificates / f"{meter}.pem", named=str(meter)
            )


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
    microgrid = load_town(settings.town).microgrids.get(settings.microgrid)
    return [] if microgrid is None else [meter.id for meter in microgrid.meters]


def _connection(settings: MetersSettings, running: Running) -> Iterator[Finding]:
    """Yield the steps of the first meter's connection; running meters report theirs."""
    if running.answer is not None and running.answer["connected"]:
        yield from judge(running.answer)
        return
    meter = _meters(settings)[0]
    certificate = None if settings.certificates is None else settings.certificates / f"{meter}.pem"
    target = Target(
        setting="broker",
        address=settings.broker,
        ca=settings.broker_ca,
        certificate=certificate,
        revoked=settings.broker_revoked,
        identity=str(meter),
        token=lambda: load_tokens(settings.tokens)[str(meter)],
        subscribe=meter_down(settings.microgrid, meter, "+"),
    )
    yield from connection_findings(target, Reported(connected=None) if running.runs else None)


DOCTOR = Doctor(checks=checks, judge=judge)
