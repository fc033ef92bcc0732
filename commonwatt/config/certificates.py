"""Checks the certificates that a part's settings name; not in ``files``, which cores import, and this needs ``ssl``."""

from collections.abc import Iterator
from pathlib import Path

from commonwatt.config.files import load_settings, place_of
from commonwatt.config.parts import settings_of
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import server_context

_BROKER_CAS = ("ca", "broker_ca", "head_end_ca")
"""Settings with the authority of a broker, to which a part shows its own certificate."""


def check_certificates(path: Path, part: str) -> None:
    """Check that each certificate of a part has its key in its file, and is used.

    Raises:
        ConfigError: One line for each fault.
    """
    faults = [
        f"{place_of(path, part, *keys)}: {why}" for keys, why in _faults(load_settings(path, part, settings_of(part)))
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    cas = [ca for reach in settings.reaches if (ca := reach.tls_key) is not None and ca in _BROKER_CAS]
    has_tls = not cas or any(getattr(settings, ca) is not None for ca in cas)
    for key, value in settings:
        if isinstance(value, Settings):
            yield from (((key, *keys), why) for keys, why in _faults(value))
        elif key in ("certificate", "certificates") and value is not None and not has_tls:
            yield (key,), f"needs {' or '.join(cas)}: without it the connection is plain text"
        elif key in ("certificate", "http_certificate") and value is not None:
            try:
                server_context(value)
            except ConfigError as error:
                yield (key,), str(error)
