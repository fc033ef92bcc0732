"""The parts that run from a settings file."""

from commonwatt.config.host import HostSettings
from commonwatt.config.meters import MetersSettings
from commonwatt.config.settings import BrokerSettings, GatewaySettings, Settings
from commonwatt.config.utility import UtilitySettings

PARTS = ("adapter", "broker", "gateway", "host", "meters", "utility")  # the parts; each is the name of its table

_MODELS: dict[str, type[Settings]] = {
    "broker": BrokerSettings,
    "gateway": GatewaySettings,
    "host": HostSettings,
    "meters": MetersSettings,
    "utility": UtilitySettings,
}


def settings_of(part: str) -> type[Settings]:
    """Return the model of a part's settings."""
    if part == "adapter":
        # Imported here: its models would take memory in every other part.
        from commonwatt.config.adapter import AdapterSettings

        return AdapterSettings
    return _MODELS[part]


def command_of(part: str) -> str:
    """Return the command that runs a part, without its options."""
    return "commonwatt gateway host" if part == "host" else f"commonwatt {part} run"
