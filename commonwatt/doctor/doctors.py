"""The services' own examinations, found by entry point, so that this package imports no service."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from commonwatt.doctor.findings import Check, Finding
from commonwatt.doctor.running import Running
from commonwatt.model.exceptions import ConfigError, SettingError

GROUP = "commonwatt.doctors"  # entry points of the services' doctors


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """A service's examination."""

    # Returns the checks of the service with these settings, in an order in which a cause stands before its effects.
    checks: Callable[[Any, Running], Sequence[Check]]
    # Returns what the content of a running service's /status shows.
    judge: Callable[[dict[str, Any]], Iterable[Finding]]
    # Raises ``SettingError`` for faults that the settings' model can't find; ``None``: it finds all.
    check_settings: Callable[[Any], object] | None = None


def doctor_of(part: str) -> Doctor:
    """Load the doctor of a part.

    Raises:
        ModuleNotFoundError: A package that the part needs is not installed.
    """
    doctor = next(entry for entry in entry_points(group=GROUP) if entry.name == part).load()
    assert isinstance(doctor, Doctor)
    return doctor


def check_settings(part: str, settings: Any, place: Callable[..., str]) -> None:
    """Check the settings that only the part itself can check; ``place`` returns the words for a key, as ``place_of``.

    Raises:
        ConfigError: A setting is wrong; names its place.
        ModuleNotFoundError: A package that the part needs is not installed.
    """
    try:
        if (check := doctor_of(part).check_settings) is not None:
            check(settings)
    except SettingError as error:
        raise ConfigError(f"{place(*error.keys)}: {error}") from error
