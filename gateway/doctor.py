"""The gateway's examination for ``commonwatt doctor``, and what its status page shows for ``commonwatt status``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.checks import (
    Check,
    Finding,
    Level,
    bad,
    certificate_findings,
    clock_findings,
    disk_findings,
    good,
    revocation_findings,
    warning,
)
from commonwatt.doctor.connection import ReportedConnection, Target, connection_findings
from commonwatt.doctor.running import Doctor, Running, port_findings
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted, moment
from commonwatt.protocol.topics import all_meters_up, gateway_down
from commonwatt.runtime.clock import load_clock, machine_s, wall_clock
from commonwatt.sqlite import read_log
from commonwatt.town.registry import load_registry
from gateway.controller import GOOD_TIME
from gateway.line.line import in_words, line_of
from gateway.links import HEAD_END, METERS, own_token
from gateway.store.released import IF_UNUSED, RELEASED
from gateway.store.store import Store, reading
from gateway.timekeeper import MAX_ERROR_S, KeptTime

_SET_CLOCK = "set this machine's clock, and start NTP: sudo timedatectl set-ntp true; then see: timedatectl"
_READ_LOG = "see the gateway's log: journalctl -u 'commonwatt-gateway@*' --since -1h"


def checks(settings: GatewaySettings, running: Running) -> Sequence[Check]:
    """Return the checks of a gateway."""
    own = [("broker", METERS, settings.broker, all_meters_up(settings.microgrid))]
    down = gateway_down(settings.controller, "+")
    own += [("head_end", HEAD_END, address, down) for address in settings.head_end]
    return (
        Check("clock", partial(_clock, settings, running)),
        Check("disk", partial(disk_findings, settings.store)),
        Check("store", partial(_store, settings, running)),
        Check("certificate", partial(_certificates, settings)),
        Check("registry", partial(_registry, settings, running)),
        Check("port", partial(port_findings, settings, running)),
        *(Check(key, partial(_connection, settings, running, key, *more)) for key, *more in own),
        Check("LTE", partial(_line, settings, running)),
        Check("alarms", partial(_alarms, running.answer)),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield the alarms that a running gateway's status has."""
    for alarm in answer["alarms"]:
        level, found = Level(alarm["level"]), alarm["title"].removesuffix(".")
        yield Finding(check=alarm["check"], level=level, found=found, remedy=alarm["remedy"])
    if not answer["alarms"]:
        yield good("alarms", "none")


def _alarms(answer: dict[str, Any] | None) -> Iterator[Finding]:
    """Yield the alarms of which no other check finds the cause; those of an earlier release are not known."""
    if answer is not None and "alarms" in answer:
        yield from (finding for finding in judge(answer) if finding.check not in _LOOKED_INTO)


_LOOKED_INTO = frozenset({"broker", "head_end", "certificate", "disk", "LTE"})


def _clock(settings: GatewaySettings, running: Running) -> Iterator[Finding]:
    yield from clock_findings(settings.clock)
    if running.answer is not None:
        off_s = machine_s() - int(running.answer["time"])
        if settings.clock is None and abs(off_s) > MAX_ERROR_S:
            side = "ahead of" if off_s > 0 else "behind"
            yield bad(
                "clock offset",
                f"this machine's clock, which judges certificates, is {abs(off_s)} s {side} the gateway's time",
                _SET_CLOCK,
            )
        return
    if settings.clock is None and settings.store.exists():
        with examined(settings.store, runs=running.runs) as store:
            kept = store.setting(GOOD_TIME)
        now = wall_clock().now()
        if kept is not None and (last := KeptTime.model_validate_json(kept).time) > now + MAX_ERROR_S:
            yield bad(
                "clock offset",
                f"this machine's clock is at least {last - now:.0f} s behind: the store has seen {moment(int(last))}",
                _SET_CLOCK,
            )


def _store(settings: GatewaySettings, running: Running) -> Iterator[Finding]:
    try:
        with examined(settings.store, runs=running.runs) as store:
            parts, events, dead_letters = store.backlog()
            damaged, released = len(store.damaged), store.setting(RELEASED)
    except ConfigError as error:
        yield (
            good("store", f"{settings.store}: not there yet; the gateway makes it")
            if not running.runs
            else bad("store", str(error), "restart the gateway; it writes its data to a new store")
        )
    except StoreError as error:
        yield bad(
            "store",
            str(error),
            "if it is damaged, start the gateway: it copies the sound data to a new store, and keeps this file beside"
            " it; then see whether the disk fails: dmesg",
        )
    else:
        waits = f"{counted(parts, 'part')}, {counted(events, 'event')}, {counted(dead_letters, 'dead letter')}"
        found = f"{settings.store}: passes its check; waiting for the utility: {waits}"
        if released:
            yield bad("store", f"{settings.store}: was released", IF_UNUSED)
        elif damaged:
            yield warning("store", f"{found}; {counted(damaged, 'damaged row')}", "the running gateway removes them")
        else:
            yield good("store", found)


def _certificates(settings: GatewaySettings) -> Iterator[Finding]:
    yield from certificate_findings("certificate", settings.certificate, named=settings.controller)
    for key in ("broker", "head_end"):
        authority = getattr(settings, f"{key}_ca")
        yield from certificate_findings(f"{key}_ca", authority)
        revoked = getattr(settings, f"{key}_revoked")
        yield from revocation_findings(f"{key}_revoked", revoked, authority, settings.certificate)


def _registry(settings: GatewaySettings, running: Running) -> Iterator[Finding]:
    registry = load_registry(settings.registry)
    meters = {str(meter.id) for meter in registry.meters}
    if registry.microgrid != settings.microgrid:
        yield bad(
            "registry",
            f"{settings.registry}: is of microgrid {registry.microgrid}, but this gateway is of {settings.microgrid}",
            "correct microgrid in the file, or copy the folder of this microgrid from the office again",
        )
    elif running.answer is not None and running.answer["meters"]["registered"] != len(meters):
        loaded = counted(running.answer["meters"]["registered"], "meter")
        yield warning(
            "registry",
            f"{settings.registry}: {counted(len(meters), 'meter')}, but the running gateway has {loaded}",
            f"it reads a changed file within 5 s; if this line stays, {_READ_LOG}",
        )
    else:
        yield good("registry", f"{counted(len(meters), 'meter')} of {registry.microgrid}")


def _connection(
    settings: GatewaySettings, running: Running, key: str, name: str, address: str, subscribe: str
) -> Iterator[Finding]:
    target = Target(
        setting=key,
        address=address,
        ca=getattr(settings, f"{key}_ca"),
        certificate=settings.certificate,
        revoked=getattr(settings, f"{key}_revoked"),
        identity=settings.controller,
        token=partial(own_token, settings),
        subscribe=subscribe,
        is_one_of_two=key == "head_end" and len(settings.head_end) > 1,
    )
    reported = ReportedConnection(connected=None) if running.runs else None
    if running.answer is not None:
        if target.is_one_of_two and running.answer.get("head_end") != address:
            return connection_findings(target, None)  # It has no session there that a login could end.
        complaint = running.answer["connection_failures"].get(name, "")
        reported = ReportedConnection(connected=running.answer["connected"][name], complaint=complaint)
    return connection_findings(target, reported)


def _line(settings: GatewaySettings, running: Running) -> Iterator[Finding]:
    if not settings.store.exists():
        return
    now = int(load_clock(settings.clock).now())
    with examined(settings.store, runs=running.runs) as store:
        month = line_of(settings, store).month(now)
    level = "unknown" if month is None else month.level
    remedy = "let the utility command aggregation, or buy more; see: commonwatt gateway lte --config FILE"
    if level in ("exceeded", "at_risk"):
        yield (bad if level == "exceeded" else warning)("LTE", "; ".join(in_words(month)), remedy)
    else:
        yield good("LTE", "; ".join(in_words(month)))


DOCTOR = Doctor(checks=checks, judge=judge)


@contextmanager
def examined(path: Path, *, runs: bool) -> Iterator[Store]:
    """Open a store that passes the checks of a gateway's start; a running gateway's log is not read.

    Raises:
        ConfigError: The store is missing.
        StoreError: It is damaged, can't be opened, or is of another program or a newer release.
    """
    found = None if runs else read_log(path)
    if found is not None and found.damage:
        raise StoreError(f"{path}: is damaged: {found.damage}")
    with reading(path) as store:
        store.check(path.stat().st_size)
        yield store
