"""Authorities and certificates for tests, with any lifetime."""

import time
from pathlib import Path

from commonwatt.identity.authority import Authority, Wanted
from commonwatt.identity.certificates import Kind

DAY_S = 86_400


def authority(out: Path, *, name: str = "test", at: int | None = None) -> Authority:
    """Make an authority in ``out``, valid from now, or from another time."""
    return Authority.create(out, name, now() if at is None else at)


def certificate(
    made: Authority, kind: Kind, name: str, *, lifetime_s: int = DAY_S, file: str | None = None, at: int | None = None
) -> Path:
    """Issue one certificate; a broker's has the addresses of this machine."""
    addresses = ("127.0.0.1", "localhost") if kind is Kind.BROKER else ()
    file = f"{kind}-{name}/certificate.pem" if file is None else file
    wanted = Wanted(kind=kind, name=name, file=file, lifetime_s=lifetime_s, addresses=addresses)
    made.issue([wanted], now() if at is None else at)
    return made.out / file


def now() -> int:
    """Return the machine's time, which TLS compares with dates."""
    return int(time.time())
