"""The adapter's examination for ``commonwatt doctor``, and what its status page shows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from adapters.commands import UNSAFE, commands_of
from adapters.mapping.readers import OWN_PRESET, readers_of, replaced_by
from adapters.source import REFUSED, password_of
from adapters.store import CHANNELS
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.device.store import damage_of
from commonwatt.doctor.checks import (
    Check,
    Finding,
    bad,
    certificate_findings,
    clock_findings,
    disk_findings,
    good,
    warning,
)
from commonwatt.doctor.connection import ReportedConnection, Target, connection_findings
from commonwatt.doctor.meters import meter_certificate_findings, meter_target, store_findings
from commonwatt.doctor.running import Doctor, Running, port_findings
from commonwatt.identity.devices import load_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from commonwatt.protocol.commands import DeviceState, Stage

_SILENT = "compare its topic and preset with what the device publishes: commonwatt adapter test --config FILE --live"

_FAILING = "see its remedy: commonwatt doctor --config FILE"

_UNSAFE = "use a preset with a watchdog, or failsafe = 'will' in its [[command]]; see docs/adapters.md#commands"


def checks(settings: AdapterSettings, running: Running) -> Sequence[Check]:
    """Return the checks of an adapter."""
    damage = partial(damage_of, settings.store, CHANNELS)
    return (
        Check("clock", partial(clock_findings, settings.clock)),
        Check("disk", partial(disk_findings, settings.store)),
        Check("store", partial(store_findings, settings.store, running, "adapter", damage)),
        Check("certificate", partial(_certificates, settings)),
        Check("mapping", partial(_mapping, settings)),
        Check("port", partial(port_findings, settings, running)),
        Check("source", partial(_source, settings, running)),
        Check("broker", partial(_broker, settings, running)),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what the status of a running adapter shows."""
    for source in answer["sources"]:
        name = f"source {source['name']}".strip()
        if source["connected"] and REFUSED in source["limits"]:
            yield bad(
                name,
                f"{source['address']} refuses a subscription: {source['limits'][REFUSED]}",
                "allow the adapter's user there to read the topics of the devices",
            )
        elif source["connected"]:
            yield good(name, f"connected to {source['address']}; its limits: {words_of(source['limits'])}")
        else:
            yield bad(name, f"not connected to {source['address']}: {source['complaint']}", _FAILING)
    connected, meters = answer["connected"], len(answer["meters"])
    found = f"{connected} of {counted(meters, 'meter')} connected to the microgrid's broker"
    yield good("broker", found) if connected == meters else warning("broker", found, "see the log of the adapter")
    for meter, state in answer["meters"].items():
        values = state["values"]
        if not any(value["at"] for value in values.values()):
            yield warning(f"meter {meter}", f"no value of {state['source']} since the start", _SILENT)
        device = state["device"] or {"states": {}}
        for kind, one in device["states"].items():
            yield from _obedience(f"meter {meter}", kind, DeviceState.model_validate(one))
        for kind, value in values.items():
            if value["other_unit"]:
                yield bad(
                    f"meter {meter}",
                    f"{kind} is 10, 100 or 1,000 times what it was: another unit; nothing counts",
                    "correct unit or scale of its rule, or set exchanged if the device was replaced",
                )
    if answer["unreadable"]:
        last = answer["unreadable"][-1]
        yield warning("messages", f"unreadable, such as {last['topic']}: {last['fault']}", _SILENT)


def _obedience(meter: str, kind: str, state: DeviceState) -> Iterator[Finding]:
    if state.stage is Stage.DISOBEYS:
        yield bad(meter, f"{kind}: {state.finding}", "see the device: its mode, its own schedule, its connection")
    if state.is_unsafe:
        yield warning(meter, f"{kind}: nothing ends it if the adapter is gone", _UNSAFE)
    if state.stage is Stage.UNCONFIRMED:
        yield warning(meter, f"{kind}: unconfirmed, the device shows nothing", "add confirm to its [[command]]")


def words_of(limits: Mapping[str, object]) -> str:
    """Return what a broker reported of its limits, for people."""
    return ", ".join(f"{name} {value}" for name, value in limits.items()) or "not reported (MQTT 3.1.1)"


def _certificates(settings: AdapterSettings) -> Iterator[Finding]:
    yield from meter_certificate_findings(settings, [meter.id for meter in settings.meter])
    for source in settings.source:
        yield from certificate_findings("source.ca", source.ca)
        yield from certificate_findings("source.certificate", source.certificate)


def _mapping(settings: AdapterSettings) -> Iterator[Finding]:
    try:
        readers, commands = readers_of(settings), commands_of(settings)
    except ConfigError as error:
        yield bad("mapping", str(error), "correct the file; the presets stand in docs/adapters.md")
        return
    for name in replaced_by(settings):
        yield warning("mapping", OWN_PRESET % name, "name yours otherwise, to have Commonwatt's again")
    for command in commands:
        if command.is_refused:
            yield warning(
                f"meter {command.meter}", f"{command.kind}: {UNSAFE}", f"{_UNSAFE}; or set accept_unsafe = true"
            )
    tokens = {} if settings.tokens is None else load_tokens(settings.tokens)
    without = [meter.id for meter in settings.meter if meter.token is None and str(meter.id) not in tokens]
    if without:
        found = f"no token of {counted(len(without), 'meter')}, such as {without[0]}"
        yield bad(
            "mapping", found, "add the meter to the town file, and register the town: commonwatt utility register"
        )
    elif not settings.meter:
        yield warning(
            "mapping", "no meter", "find out what the devices publish: commonwatt adapter discover --config FILE"
        )
    else:
        yield good("mapping", f"{counted(len(settings.meter), 'meter')}, {counted(len(readers.all), 'rule')}")


def _source(settings: AdapterSettings, running: Running) -> Iterator[Finding]:
    """Yield the connections to the foreign brokers, by another client id: the adapter's own would end its session."""
    told = {} if running.answer is None else {one["name"]: one["connected"] for one in running.answer["sources"]}
    for source in settings.source:
        target = Target(
            setting="source.address",
            address=source.address,
            ca=source.ca,
            certificate=source.certificate,
            revoked=None,
            identity="commonwatt-doctor",
            token=partial(_password, source),
            subscribe="commonwatt-doctor/nothing",
            user=source.user or "",
        )
        yield from connection_findings(target, ReportedConnection(connected=True) if told.get(source.name) else None)


def _password(source: AdapterSource) -> str:
    return password_of(source) or ""


def _broker(settings: AdapterSettings, running: Running) -> Iterator[Finding]:
    """Yield the first meter's connection; a running adapter reports its own, unless there is none to disturb."""
    if not settings.meter:
        return
    meter = settings.meter[0]
    tokens = settings.tokens
    target = meter_target(
        settings, meter.id, lambda: meter.token or (load_tokens(tokens).get(str(meter.id), "") if tokens else "")
    )
    reported = ReportedConnection(connected=None) if running.runs else None
    if running.answer is not None:
        reported = ReportedConnection(connected=True) if running.answer["connected"] else None
    yield from connection_findings(target, reported)


def _check_settings(settings: AdapterSettings) -> None:
    readers_of(settings)
    commands_of(settings)


DOCTOR = Doctor(checks=checks, judge=judge, check_settings=_check_settings)
