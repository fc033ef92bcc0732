"""The broker's examination for ``commonwatt doctor``, and what its status page shows for ``commonwatt status``."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from commonwatt.config.settings import BrokerSettings
from commonwatt.doctor.checks import (
    Check,
    Finding,
    bad,
    certificate_findings,
    clock_findings,
    good,
    revocation_findings,
    warning,
)
from commonwatt.doctor.running import Doctor, Running, port_findings
from commonwatt.identity.devices import load_devices
from commonwatt.model.text import counted


def checks(settings: BrokerSettings, running: Running) -> Sequence[Check]:
    """Return the checks of a broker."""
    return (
        Check("clock", partial(clock_findings, None)),
        Check("certificate", partial(_certificates, settings)),
        Check("devices", partial(_devices, settings)),
        Check("port", partial(port_findings, settings, running)),
        Check("connections", lambda: () if running.answer is None else judge(running.answer)),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a running broker's status shows."""
    if answer["devices_file_errors"]:
        yield warning(
            "devices",
            f"the devices file could not be read {answer['devices_file_errors']:.0f} times since the start",
            "copy this machine's folder from the office again; the broker's log names the fault",
        )
    connected = f"{counted(answer['connections'], 'connection')} of {counted(answer['devices'], 'device')} now"
    if answer["connections"]:
        yield good("connections", connected)
    else:
        yield warning(
            "connections",
            connected,
            "start the devices; if they run, see whether they have this address and port, and see the broker's log for"
            " refusals",
        )


def _certificates(settings: BrokerSettings) -> Iterator[Finding]:
    yield from certificate_findings("certificate", settings.certificate)
    yield from certificate_findings("clients_ca", settings.clients_ca)
    yield from revocation_findings("clients_revoked", settings.clients_revoked, settings.clients_ca, None)


def _devices(settings: BrokerSettings) -> Iterator[Finding]:
    devices = load_devices(settings.devices)
    roles = Counter(device.role for device in devices.values())
    revoked = sum(bool(device.revoked) for device in devices.values())
    found = ", ".join(counted(number, str(role)) for role, number in roles.items())
    if devices:
        yield good("devices", f"{settings.devices}: {found}{f', {revoked} of them revoked' if revoked else ''}")
    else:
        yield bad("devices", f"{settings.devices}: no device", "copy this machine's folder from the office again")


DOCTOR = Doctor(checks=checks, judge=judge)
