"""The foreign devices for the utility: told when one changes, and each hour, since an LTE line is narrow."""

from collections.abc import Mapping

from commonwatt.model.time import Now
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import DeviceState, ForeignDevice

AGAIN_S = 3_600
MOST_BYTES = 8_000  # most bytes of devices in one heartbeat, half of what a message may have
MOST_REASONS = 3  # most reasons why values are not used, of a device


class DevicesTold:
    """What was last told of them."""

    def __init__(self) -> None:
        self._told: dict[MeterId, Mapping[str, DeviceState]] = {}
        self._told_at: EpochSeconds | None = None

    def due(self, devices: Mapping[MeterId, ForeignDevice], now: Now) -> dict[MeterId, ForeignDevice] | None:
        """Return the devices if they are to be told now; ``None``: they were told before.

        Of very many those that disobey come first, then those that can be told anything.
        """
        states: dict[MeterId, Mapping[str, DeviceState]] = {meter: device.states for meter, device in devices.items()}
        is_old = self._told_at is not None and not 0 <= now - self._told_at < AGAIN_S
        if states == self._told and not (is_old and devices):
            return None
        self._told, self._told_at = states, now
        found, left = {}, MOST_BYTES
        for meter in sorted(devices, key=lambda each: (_order(states[each]), each)):
            worst = sorted(devices[meter].ignored.items(), key=lambda one: -one[1][0])[:MOST_REASONS]
            device = devices[meter].model_copy(update={"ignored": dict(worst)})
            left -= len(device.model_dump_json().encode()) + 24
            if left >= 0:
                found[meter] = device
        return found


def _order(states: Mapping[str, DeviceState]) -> int:
    return 0 if any(state.finding for state in states.values()) else 1 if states else 2
