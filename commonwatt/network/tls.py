"""TLS settings of every part: version 1.2 or later, 1.3 at our brokers, with both sides' names verified.

Certificate files may be replaced at any time: a client makes a new context for each connection, and
servers load a changed file.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MeterId
from commonwatt.runtime.clock import wall_clock

WARN_BEFORE_S = 21 * 86_400  # seconds before a certificate's expiry from which the log warns every day
IGNORE_TIMES = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
Stamp = tuple[tuple[int, int, int], ...]  # a stamp of files that changes when a file is replaced

_DAY_S = 86_400

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientTls:
    """The TLS files of a client."""

    ca: Path  # the authority that signed the broker's certificate
    certificate: Path | None = None  # the client's certificate with its key; ``None``: no client certificate
    revoked: Path | None = None  # that authority's revocation list; ``None``: no list

    @property
    def replaceable(self) -> tuple[Path, ...]:
        """The files whose replacement requires a new connection."""
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
            # A clock before the authority's start can't check expiry. So a machine that booted in 1970 still
            # connects and can get the time. The certificate's signature and name are checked.
            log.warning("this machine's clock is before %s began: not judging expiry by it", self.ca)
            context.verify_flags |= IGNORE_TIMES
        return context


def client_tls(ca: Path | None, certificate: Path | None, revoked: Path | None = None) -> ClientTls | None:
    """Return a part's TLS files for a broker; ``None``: plain text.

    Raises:
        ConfigError: A file can't be used.
    """
    if ca is None:
        return None
    tls = ClientTls(ca, certificate, revoked)
    tls.context()
    return tls


def meter_tls(ca: Path | None, certificates: Path | None, meter: MeterId, revoked: Path | None) -> ClientTls | None:
    """Return a meter's TLS files for a broker, with its certificate of a folder; the rest as ``client_tls``."""
    return client_tls(ca, None if certificates is None else certificates / f"{meter}.pem", revoked)


def server_context(certificate: Path) -> ssl.SSLContext:
    """Make the context of a server.

    Every connection does a full handshake, which proves that the device has its key. In TLS 1.2 Python can't
    stop a client from resuming an old session; in TLS 1.3 a client without a ticket can't resume.

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
        # Without this password OpenSSL would prompt for one if the key is encrypted; our keys are not.
        context.load_cert_chain(certificate, password="")
    except (OSError, ValueError) as error:
        raise _unusable(certificate, "no certificate with its key", error) from error


def trust(context: ssl.SSLContext, ca: Path, otherwise: str = "no authority's certificate") -> None:
    """Make a context trust an authority or a revocation list; ``otherwise`` is the error text for another file.

    Raises:
        ConfigError: The file can't be used.
    """
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise _unusable(ca, otherwise, error) from error


def stamp(*files: Path) -> Stamp:
    """Return a stamp that changes when one of ``files`` is replaced.

    Raises:
        ConfigError: One is missing.
    """
    try:
        stats = [path.stat() for path in files]
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    # The inode too: two replacements may have the same modification time and size.
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


class Expiry:
    """The earliest expiry of certificates in files; reads changed files again and warns before the expiry.

    Args:
        files: PEM files.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._stamp: Stamp = ()
        self._expires: float | None = None
        self._told = 0.0

    def look(self) -> float | None:
        """Return the expiry in epoch seconds, or the last known if a file can't be read; warn in the log once a day.

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
            log.warning("a certificate in %s %s; renew it with: commonwatt site init", files, when)
        return self._expires


def _first_to_expire(files: tuple[Path, ...]) -> float:
    # Loaded only where there is a certificate: the library that reads it takes 15 MiB.
    from commonwatt.identity.certificates import expires_at

    return float(min(expires_at(path.read_bytes()) for path in files))


def _begins(context: ssl.SSLContext) -> float:
    """Return the earliest start of validity of the authorities that a context trusts."""
    begins = [ssl.cert_time_to_seconds(str(ca["notBefore"])) for ca in context.get_ca_certs()]
    return float(min(begins, default=0))


def _unusable(path: Path, what: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{path}: {what}: {reason}; make one with: commonwatt enroll")
