"""Checks of the two parts with meters: emulated meters, and an adapter."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.meters import MetersSettings
from commonwatt.doctor.checks import Finding, bad, certificate_findings, good, revocation_findings
from commonwatt.doctor.connection import Target
from commonwatt.doctor.running import Running
from commonwatt.model.units import MeterId
from commonwatt.protocol.topics import meter_down


def store_findings(path: Path, running: Running, part: str, damage: Callable[[], str | None]) -> Iterator[Finding]:
    """Yield the state of the meters' store.

    Args:
        running: The running service; the store is then in use and not checked.
        part: The name of the service in a sentence, such as ``adapter``.
        damage: Returns what is damaged in the store; ``None``: nothing.
    """
    if running.runs:
        yield good("store", f"{path}: in use; checked at the next start")
    elif not path.exists():
        yield good("store", f"{path}: not there yet; made at the first start")
    elif why := damage():
        remedy = f"start the {part}: the damaged file is kept beside a new store, which begins empty"
        yield bad("store", f"{path}: {why}", remedy)
    else:
        yield good("store", f"{path}: passes its check")


def meter_certificate_findings(
    settings: AdapterSettings | MetersSettings, meters: Sequence[MeterId]
) -> Iterator[Finding]:
    """Yield the state of the broker's authority, its revocation list, and each meter's certificate."""
    yield from certificate_findings("broker_ca", settings.broker_ca)
    yield from revocation_findings("broker_revoked", settings.broker_revoked, settings.broker_ca, None)
    for meter in meters:
        yield from certificate_findings(f"certificate of {meter}", _certificate(settings, meter), named=str(meter))


def meter_target(settings: AdapterSettings | MetersSettings, meter: MeterId, token: Callable[[], str]) -> Target:
    """Return the connection of one meter to the microgrid's broker."""
    assert settings.microgrid is not None
    return Target(
        setting="broker",
        address=settings.broker,
        ca=settings.broker_ca,
        certificate=_certificate(settings, meter),
        revoked=settings.broker_revoked,
        identity=str(meter),
        token=token,
        subscribe=meter_down(settings.microgrid, meter, "+"),
    )


def _certificate(settings: AdapterSettings | MetersSettings, meter: MeterId) -> Path | None:
    return None if settings.certificates is None else settings.certificates / f"{meter}.pem"
