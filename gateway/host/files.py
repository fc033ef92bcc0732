"""The settings files of a host's controllers."""

from pathlib import Path

from commonwatt.config.files import load_settings
from commonwatt.config.host import HostSettings
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId


def file_of(config: Path, settings: HostSettings, controller: ControllerId) -> Path:
    """Return the settings file of a controller of the host with the file ``config``."""
    return (config.parent / settings.files.replace("{controller}", controller)).resolve()


def hosted(config: Path, settings: HostSettings) -> dict[ControllerId, GatewaySettings]:
    """Return the settings of each controller of a host.

    Raises:
        ConfigError: A file is wrong, of another controller or clock, or has the store of another one.
    """
    found: dict[ControllerId, GatewaySettings] = {}
    stores: dict[Path, ControllerId] = {}
    for name in settings.controllers:
        path = file_of(config, settings, name)
        one = load_settings(path, "gateway", GatewaySettings)
        if one.controller != name:
            raise ConfigError(f"{path}: is of {one.controller}, but {config} names it for {name}")
        if (one.clock and one.clock.resolve()) != (settings.clock and settings.clock.resolve()):
            raise ConfigError(f"{path}: its clock is another file than the clock of {config}; give both the same path")
        other = stores.setdefault(one.store.resolve(), name)
        if other != name:
            raise ConfigError(f"{path}: {one.store} is the store of {other} too; give each controller its own")
        found[name] = one
    return found
