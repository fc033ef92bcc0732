"""TLS as every part speaks it: version 1.2 at least, at our brokers 1.3, both names checked, nothing less as a way out.

Certificates are files, and may be replaced at any time: a context is made anew for each connection of a client, and
servers take over a file that changed.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import wall_clock

WARN_BEFORE_S = 21 * 86_400
"""Seconds before a certificate expires from which on the log says so every day."""

IGNORE_TIMES = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""

Stamp = tuple[tuple[int, int, int], ...]
"""What changes when files are replaced."""

_DAY_S = 86_400

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientTls:
    """How a client speaks TLS.

    Attributes:
        ca: The authority that vouches for the broker.
        certificate: Its own certificate with the key; ``None``: it shows none.
        revoked: That authority's list of revoked certificates; ``None``: it knows of none.
    """

    ca: Path
    certificate: Path | None = None
    revoked: Path | None = None

    @property
    def replaceable(self) -> tuple[Path, ...]:
        """The files whose replacement asks for a new connection."""
        return tuple(path for path in (self.certificate, self.revoked) if path is not None)

    def context(self) -> ssl.SSLContext:
        """Read the files, for one connection.

        Raises:
            ConfigError: One of them can't be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        trust(context, self.ca)
        if self.certificate is not None:
            own(context, self.certificate)
        if self.revoked is not None:
            trust(context, self.revoked, "no list of revoked certificates")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if wall_clock().now() < _begins(context):
            # A clock that is before its own authority can't judge anybody's times: so a machine that woke in 1970 still
            # gets through to where it can learn the time. Who signed the certificate, and for which name, is checked.
            log.warning("this machine's clock is before %s began: not judging expiry by it", self.ca)
            context.verify_flags |= IGNORE_TIMES
        return context


def client_tls(ca: Path | None, certificate: Path | None, revoked: Path | None = None) -> ClientTls | None:
    """Return how a part speaks TLS to a broker; ``None``: it speaks plain text.

    Raises:
        ConfigError: A file can't be used.
    """
    if ca is None:
        return None
    tls = ClientTls(ca, certificate, revoked)
    tls.context()
    return tls


def server_context(certificate: Path) -> ssl.SSLContext:
    """Make the context of a server.

    Every connection is a full handshake, which proves that the device has its key now. In version 1.2 Python can't
    keep a client from resuming what it shook hands on long ago; in TLS 1.3 a client without a ticket can't.

    Raises:
        ConfigError: The file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    own(context, certificate)
    return context


def own(context: ssl.SSLContext, certificate: Path) -> None:
    """Load a part's own certificate and key into a context.

    Raises:
        ConfigError: The file can't be used.
    """
    try:
        # The password is for a key that has one: ours have none, and a service can't prompt for one.
        context.load_cert_chain(certificate, password="")
    except (OSError, ValueError) as error:
        raise _unusable(certificate, "no certificate with its key", error) from error


def trust(context: ssl.SSLContext, ca: Path, otherwise: str = "no authority's certificate") -> None:
    """Let a context believe an authority, or a list of revocations (``otherwise``: what to say if it is none).

    Raises:
        ConfigError: The file can't be used.
    """
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise _unusable(ca, otherwise, error) from error


def stamp(*files: Path) -> Stamp:
    """Return what changes when one of ``files`` is replaced.

    Raises:
        ConfigError: One is missing.
    """
    try:
        stats = [path.stat() for path in files]
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    # The inode too: a file is replaced whole, perhaps twice within one tick of its clock and at one size.
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


class Expiry:
    """When the first of some files' certificates expires; read again when they change, and reported in time.

    Args:
        files: PEM files.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._stamp: Stamp = ()
        self._expires: float | None = None
        self._told = 0.0

    def look(self) -> float | None:
        """Return epoch seconds, those known before when a file can't be read; warn in the log, once a day.

        ``None``: there is no certificate.
        """
        if not self._files:
            return None
        now = wall_clock().now()
        try:
            if (seen := stamp(*self._files)) != self._stamp:
                self._expires, self._told = _first_to_expire(self._files), 0.0
                self._stamp = seen
        except (ConfigError, OSError) as error:
            log.error("can't tell when the certificate expires: %s", error)
        if self._expires is not None and self._expires - now < WARN_BEFORE_S and now - self._told > _DAY_S:
            self._told = now
            files = ", ".join(map(str, self._files))
            days = (self._expires - now) / _DAY_S
            when = f"expires in {days:.1f} days" if days > 0 else f"expired {-days:.1f} days ago"
            log.warning("a certificate in %s %s; renew it with: commonwatt enroll renew", files, when)
        return self._expires


def _first_to_expire(files: tuple[Path, ...]) -> float:
    # Loaded only where there is a certificate: the library that reads it takes 15 MiB.
    from commonwatt.identity.certificates import expires_at

    return float(min(expires_at(path.read_bytes()) for path in files))


def _begins(context: ssl.SSLContext) -> float:
    """Return when the oldest authority that a context trusts began."""
    begins = [ssl.cert_time_to_seconds(str(ca["notBefore"])) for ca in context.get_ca_certs()]
    return float(min(begins, default=0))


def _unusable(path: Path, what: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{path}: {what}: {reason}; make one with: commonwatt enroll")
