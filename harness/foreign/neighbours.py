"""Ten homes as they are before Commonwatt comes: devices of ten makers on one broker, each with a grid meter.

Four have batteries, five have loads that can be switched off, one has a roof whose inverter announces itself to Home
Assistant. One battery is below any minimum, so that there is need. ``python -m harness.foreign.neighbours PORT`` plays
them on a broker by the machine's clock, until Ctrl-C: a street to set up by hand.
"""

import argparse
import json
import re
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from harness.foreign.commanded import MAKERS, Commanded
from harness.foreign.commanded import Message as Said
from harness.foreign.street import HOMES, Home, Player

ZONE = ZoneInfo("Europe/Berlin")
USES_W, SUN_W = 400, 1_900
NEEDY = "zendure"  # the preset of the battery that is nearly empty
_HOMES = [key for key in HOMES if key[0] != "homeassistant-statestream"]
ROOF = "114172220143"  # the serial number of the inverter on the tenth home's roof


def homes() -> list[Home]:
    """Return the homes that have a device which takes commands."""
    made = [Home(n, key, Commanded(MAKERS[key])) for n, key in enumerate(_HOMES, 1)]
    for home in made:
        if home.key[0] == NEEDY:
            home.level_wh = 3_000
    return made


def place_of(card: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the home and the role of a discovered device; ``None``: it belongs to no home."""
    source = str(card["meter"]["source"])
    if ROOF in f"{source} {card['name']} {card['title']}":
        return f"Home {len(_HOMES) + 1}", "sun"
    if number := re.fullmatch(r"(?:grid|shellyproem50-)(\d+)", source):
        return f"Home {number[1]}", "grid"
    for n, key in enumerate(_HOMES, 1):
        if MAKERS[key].source == source and key[0] == card["meter"]["preset"]:
            return f"Home {n}", "battery" if key[1] == "share" else "load"
    return None


class Neighbours(Player):
    """Plays the ten homes on their broker; each grid meter counts what its home takes and gives."""

    def __init__(self, port: int, clock_file: Path | None = None) -> None:
        count = len(_HOMES) + 1
        self.taken_wh, self.given_wh = [8_412_600.0] * count, [120_000.0] * count
        self._counted_at: float | None = None
        self.devices = 2 * count  # those that belong to a home: each has a grid meter and one more
        super().__init__(homes(), port, clock_file)

    def told(self, now: float) -> Iterator[Said]:
        """Yield what all meters publish every 15 s."""
        yield from super().told(now)
        passed_h = 0.0 if self._counted_at is None else (now - self._counted_at) / 3600
        self._counted_at = now
        for n in range(len(self.taken_wh)):
            net = USES_W - (SUN_W if n == len(self.homes) else self._gives_w(n))
            self.taken_wh[n] += max(0.0, net) * passed_h
            self.given_wh[n] += max(0.0, -net) * passed_h
            yield _grid(n, self.taken_wh[n], self.given_wh[n], now)
        total_wh = 1_000_000 + self.taken_wh[0] - 8_412_600
        yield from _loads({home.key[0]: home.device.value for home in self.homes}, total_wh, now)
        for name, config in _ANNOUNCED.items():
            yield Said(f"homeassistant/sensor/{ROOF}/{name}/config", json.dumps(config), True)
        yield Said(f"solar/{ROOF}/0/power", str(SUN_W), False)
        yield Said(f"solar/{ROOF}/0/yieldtotal", f"{5_000 + self.given_wh[-1] / 1000:.3f}", False)
        # Another client keeps the Victron awake, as its own display does.
        yield Said("N/c0619ab1/vebus/276/Ac/ActiveIn/L1/P", json.dumps({"value": -self._gives_w(0)}), False)
        yield Said("garage/counter/total", str(int(now) // 5 % 10**8), False)

    def refill(self) -> None:
        """Charge all batteries to where they began, but the needy one."""
        super().refill()
        with self._lock:
            for home in self.homes:
                if home.key[0] == NEEDY:
                    home.level_wh = 3_000

    def _gives_w(self, n: int) -> int:
        home = self.homes[n]
        return home.device.value if home.is_battery else 0


def _grid(n: int, taken_wh: float, given_wh: float, now: float) -> Said:
    """Return what a home's grid meter publishes: of three makers in turn."""
    match n % 3:
        case 0:
            time = datetime.fromtimestamp(now, UTC).astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")
            totals = {"Total_in": round(taken_wh / 1000, 4), "Total_out": round(given_wh / 1000, 4)}
            return Said(f"tele/grid{n + 1}/SENSOR", json.dumps({"Time": time, "SML": totals}), False)
        case 1:
            counted = {"id": 0, "total_act_energy": round(taken_wh, 2), "total_act_ret_energy": round(given_wh, 2)}
            return Said(f"shellyproem50-{n + 1}/status/em1data:0", json.dumps(counted), False)
        case _:
            counted = {"energy": round(taken_wh / 1000, 3), "produced_energy": round(given_wh / 1000, 3)}
            return Said(f"zigbee2mqtt/grid{n + 1}", json.dumps(counted), False)


def _loads(off: dict[str, int], total_wh: float, now: float) -> Iterator[Said]:
    """Yield the totals of the loads, and whether each is off; ``off``: by preset."""
    time = datetime.fromtimestamp(now, UTC).astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")
    energy = {"TotalStartTime": "2026-01-01T00:00:00", "Total": round(total_wh / 1000, 3), "Power": USES_W}
    yield Said("tele/boiler/SENSOR", json.dumps({"Time": time, "ENERGY": energy}), False)
    switch = {"id": 0, "apower": USES_W, "output": not off["shelly-pm"], "aenergy": {"total": round(total_wh, 3)}}
    yield Said("shellyplus1pm-a0/status/switch:0", json.dumps(switch), False)
    yield Said("washer/sensor/total_energy/state", f"{total_wh / 1000:.3f}", False)
    yield Said("washer/switch/relay/state", "OFF" if off["esphome"] else "ON", True)
    pump = {"energy": round(total_wh / 1000, 2), "power": USES_W, "state": "OFF" if off["zigbee2mqtt"] else "ON"}
    yield Said("zigbee2mqtt/cellar/heat pump", json.dumps(pump), False)
    yield Said("openWB/chargepoint/4/get/imported", f"{total_wh:.0f}", True)


_DEVICE = {"identifiers": [ROOF], "name": f"OpenDTU {ROOF}", "manufacturer": "OpenDTU", "model": "HM-600"}
_ANNOUNCED = {
    "power": {
        "name": "Power",
        "unique_id": f"{ROOF}_power",
        "state_topic": f"solar/{ROOF}/0/power",
        "unit_of_measurement": "W",
        "device_class": "power",
        "state_class": "measurement",
        "device": _DEVICE,
    },
    "yieldtotal": {
        "name": "YieldTotal",
        "unique_id": f"{ROOF}_yieldtotal",
        "state_topic": f"solar/{ROOF}/0/yieldtotal",
        "unit_of_measurement": "kWh",
        "device_class": "energy",
        "state_class": "total_increasing",
        "device": _DEVICE,
    },
}


def main() -> None:
    """Play the homes until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="The port of a broker on this machine.")
    player = Neighbours(parser.parse_args().port)
    try:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        player.close()


if __name__ == "__main__":
    main()
