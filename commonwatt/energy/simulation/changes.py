"""A town with other batteries, as a scenario states them."""

from dataclasses import replace

from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import ChangedBattery, Scenario
from commonwatt.town.town import Meter, Town

KWH = 10**6  # milliwatt-hours in a kilowatt-hour


def changed(town: Town, scenario: Scenario) -> Town:
    """Return a town with the batteries of a scenario.

    Raises:
        ConfigError: An outage names a microgrid that there is not, or an entry no battery.
    """
    if unknown := {one.microgrid for one in scenario.outage} - {"", *town.microgrids}:
        raise ConfigError(f"outage: there is no microgrid {min(unknown)}")
    for entry in scenario.battery:
        grids = {
            name: replace(grid, meters=tuple(_with(meter, entry) for meter in grid.meters))
            for name, grid in town.microgrids.items()
        }
        if grids == town.microgrids:
            raise ConfigError(
                f"battery: nothing changes at {entry.microgrid or 'every microgrid'}, {entry.place or 'all'}"
            )
        town = replace(town, microgrids=grids)
    return town


def _with(meter: Meter, entry: ChangedBattery) -> Meter:
    is_meant = entry.microgrid in ("", meter.microgrid) and entry.place in ("", meter.location)
    if meter.battery is None or not is_meant:
        return meter
    kept = entry.model_dump(include={"minimum_percent", "weight"}, exclude_none=True)
    capacity = meter.battery.capacity if entry.kwh is None else round(entry.kwh * KWH)
    return replace(meter, battery=replace(meter.battery, capacity=capacity, **kept))
