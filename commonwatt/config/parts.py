"""The parts that run from a settings file."""

from pkgutil import resolve_name

from commonwatt.config.settings import Settings

# Loaded when it is needed: the models of the other parts would take megabytes in each part.
_MODELS = {
    "adapter": "commonwatt.config.adapter:AdapterSettings",
    "broker": "commonwatt.config.settings:BrokerSettings",
    "gateway": "commonwatt.config.settings:GatewaySettings",
    "host": "commonwatt.config.host:HostSettings",
    "meters": "commonwatt.config.meters:MetersSettings",
    "utility": "commonwatt.config.utility:UtilitySettings",
}
PARTS = tuple(_MODELS)  # the parts; each is the name of its table


def settings_of(part: str) -> type[Settings]:
    """Return the model of a part's settings."""
    model: type[Settings] = resolve_name(_MODELS[part])
    return model


def command_of(part: str) -> str:
    """Return the command that runs a part, without its options."""
    return "commonwatt gateway host" if part == "host" else f"commonwatt {part} run"
