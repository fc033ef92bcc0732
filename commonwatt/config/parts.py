"""The parts that run from a settings file."""

from commonwatt.config.meters import MetersSettings
from commonwatt.config.settings import BrokerSettings, GatewaySettings, Settings
from commonwatt.config.utility import UtilitySettings

PARTS = ("adapter", "broker", "gateway", "meters", "utility")  # the parts; each is the name of its table

_MODELS: dict[str, type[Settings]] = {
    "broker": BrokerSettings,
    "gateway": GatewaySettings,
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
