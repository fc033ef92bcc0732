"""Checks of certificates in files: readable, in date, of the right name, not revoked."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from commonwatt.doctor.findings import Finding, bad, good, warning
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.network.tls import WARN_BEFORE_S, server_context
from commonwatt.runtime.clock import wall_clock

_DAY_S = 86_400
_EXCHANGE = "exchange it with the meter; a new one is made at the office: commonwatt enroll device {} --out site"
RENEW = "renew it at the office: commonwatt site init; then copy this machine's folder again"
_COPY = "copy this machine's folder from the office again"


def certificate_findings(key: str, path: Path | None, *, named: str = "") -> Iterator[Finding]:
    """Yield the state of a service's own certificate, or of an authority's.

    Args:
        key: The setting that names the file.
        named: The identity that the certificate must have; empty: any.
    """
    if path is None:
        return
    is_authority = key.endswith(("_ca", ".ca"))
    # Loaded only where there is a certificate: the library that reads it takes 15 MiB.
    from commonwatt.identity.certificates import details_of

    try:
        if not is_authority:
            server_context(path)  # reads certificate and key
        found = min(details_of(path.read_bytes()), key=lambda details: details.ends)
    except (ConfigError, OSError) as error:
        yield bad(key, str(error), _COPY)
        return
    if named and found.names[:1] != (named,):
        yield bad(key, f"{path}: is of {', '.join(found.names)}, but this file is of {named}", _COPY)
    else:
        renew = "make a new authority at the office: docs/security.md" if is_authority else RENEW
        renew = _EXCHANGE.format(named) if named.isdecimal() else renew  # a meter's
        yield _dates(key, found.names, found.begins, found.ends, renew)


def _dates(key: str, names: Sequence[str], begins: EpochSeconds, ends: EpochSeconds, renew: str) -> Finding:
    now = wall_clock().now()
    days = (ends - now) / _DAY_S
    of = f"of {', '.join(names)}"
    if days <= 0:
        return bad(key, f"{of}: it expired {-days:.1f} days ago, on {moment(ends)}", renew)
    if now < begins:
        text = f"{of}: by this machine's clock it is valid only from {moment(begins)}"
        return bad(key, text, "set this machine's clock; see the line `clock`")
    if ends - now < WARN_BEFORE_S:
        return warning(key, f"{of}: it expires in {days:.1f} days, on {moment(ends)}", renew)
    return good(key, f"{of}: valid for {days:.0f} more days, until {moment(ends)[:10]}")


def revocation_findings(
    key: str, path: Path | None, authority: Path | None, certificate: Path | None
) -> Iterator[Finding]:
    """Yield whether a revocation list can be used, and whether it has the service's own certificate.

    Args:
        key: The setting that names the list.
        authority: The authority whose list it must be.
    """
    if path is None or authority is None:
        return
    from commonwatt.identity.certificates import details_of, revoked_serials

    try:
        revoked = revoked_serials(path.read_bytes(), authority.read_bytes())
        own = set() if certificate is None else {found.serial for found in details_of(certificate.read_bytes())}
    except (ConfigError, OSError) as error:
        yield bad(key, f"{path}: {error}", _COPY)
        return
    if own & revoked:
        yield bad(
            key,
            "this service's own certificate is revoked",
            "ask the office why; make a new one: commonwatt enroll device; docs/security.md describes it",
        )
    else:
        yield good(key, f"{len(revoked)} revoked")
