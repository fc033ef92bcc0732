"""The parts that run from a settings file."""

from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.settings import BrokerSettings, GatewaySettings, MetersSettings, Settings, UtilitySettings

PARTS: dict[str, type[Settings]] = {
    "adapter": AdapterSettings,
    "broker": BrokerSettings,
    "gateway": GatewaySettings,
    "meters": MetersSettings,
    "utility": UtilitySettings,
}
"""The settings of each part, by the name of its table."""
