"""What flowed in the emulated world, of the truth log of a fleet."""

import json
from collections.abc import Iterator

from commonwatt.device.store import DeviceStore
from meter_sim.truth import SlotEnergy


def true_energy(store: DeviceStore) -> Iterator[tuple[int, SlotEnergy]]:
    """Yield (slot end, what flowed in that slot), oldest first."""
    for slot_end, energy in store.connection.execute("SELECT slot_end, energy FROM truth_energy ORDER BY slot_end"):
        yield slot_end, json.loads(energy)
