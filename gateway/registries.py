"""The registry files of the microgrids that a gateway hosts: its own, and beside it those that it may take over."""

from functools import lru_cache
from pathlib import Path

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import MicrogridId
from commonwatt.town.clique_file import beside
from commonwatt.town.registry import RegisteredMeter, load_registry

MOST_SHARED = 20_000  # most meters that the gateways of one process share


@lru_cache(MOST_SHARED)
def _shared(meter: RegisteredMeter) -> RegisteredMeter:
    """Return the one that an equal meter was before: the gateways of a clique each have the files of all."""
    return meter


class Registries:
    """The files, each read again when it changed."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._stamps: dict[MicrogridId, int] = {}

    def load(self, microgrid: MicrogridId) -> dict[MeterId, RegisteredMeter]:
        """Return the meters of a microgrid.

        Raises:
            ConfigError: Its file is missing, wrong, or of another microgrid.
        """
        path = self._path(microgrid)
        self._stamps[microgrid] = path.stat().st_mtime_ns if path.exists() else 0
        registry = load_registry(path)
        if registry.microgrid != microgrid:
            raise ConfigError(f"{path}: is for microgrid {registry.microgrid}, but this gateway needs {microgrid}'s")
        return {meter.id: _shared(meter) for meter in registry.meters}

    def changed(self, microgrid: MicrogridId) -> dict[MeterId, RegisteredMeter] | None:
        """Return the meters of a microgrid if its file changed since it was loaded; ``None``: it did not.

        Raises:
            ConfigError: The file is wrong.
            OSError: It is gone.
        """
        stamp = self._path(microgrid).stat().st_mtime_ns
        return None if stamp == self._stamps.get(microgrid) else self.load(microgrid)

    def _path(self, microgrid: MicrogridId) -> Path:
        registry = self._settings.registry
        return registry if microgrid == self._settings.microgrid else beside(registry, microgrid)
