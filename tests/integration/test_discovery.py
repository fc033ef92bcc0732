"""From the utility's question to the cards of ten homes' devices in its database, over real parts and a Mosquitto."""

import sys
from pathlib import Path
from typing import Any

from commonwatt.config.files import load_settings
from commonwatt.doctor.running import ask_service, local_headers
from harness.foreign.neighbours import ROOF, Neighbours
from harness.network.waiting import PATIENCE_S, eventually, free_ports
from harness.real import brokers, forks
from harness.real.site import Site
from utility.settings import UtilitySettings

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 0\nboundary = false\n'
GRIDS = ("tasmota-sml grid{} 0", "shelly-em1 shellyproem50-{} 0", "zigbee2mqtt grid{} 0")
ROLES = {
    "sunspec cellar/battery 0": "battery",
    "evcc evcc 0": "battery",
    "zendure HOA1NPN4N1 0": "battery",
    "victron c0619ab1/battery/512 276": "battery",
    "tasmota boiler 0": "load",
    "shelly-pm shellyplus1pm-a0 0": "load",
    "esphome washer/sensor/total_energy relay": "load",
    "zigbee2mqtt cellar/heat pump 0": "load",
    "openwb 4 0": "load",
} | {GRIDS[n % 3].format(n + 1): "grid" for n in range(10)}
TOLD = {
    "sunspec cellar/battery 0": ("cellar/battery/704/set", "watchdog", 180),
    "evcc evcc 0": ("evcc/site/batteryMode/set", "watchdog", 100),
    "zendure HOA1NPN4N1 0": ("Zendure/number/HOA1NPN4N1/outputLimit/set", "will", 45),
    "victron c0619ab1/battery/512 276": ("W/c0619ab1/vebus/276/Hub4/L1/AcPowerSetpoint", "watchdog", 60),
    "tasmota boiler 0": ("cmnd/boiler/Backlog", "watchdog", 180),
    "shelly-pm shellyplus1pm-a0 0": ("shellyplus1pm-a0/rpc", "watchdog", 180),
    "esphome washer/sensor/total_energy relay": ("washer/switch/relay/command", "will", 45),
    "zigbee2mqtt cellar/heat pump 0": ("zigbee2mqtt/cellar/heat pump/set", "will", 45),
    "openwb 4 0": ("openWB/set/chargepoint/4/set/manual_lock", "will", 45),
}


def test_what_ten_homes_publish_is_at_the_utility_as_cards(tmp_path: Path) -> None:
    """# req: K5, K2, C2"""
    port, http = free_ports(2)
    folder = brokers.open_to_all(tmp_path / "mosquitto", "127.0.0.1", port)
    source = brokers.Mosquitto(folder, ("127.0.0.1", port), tmp_path / "mosquitto.log")
    with Site(tmp_path / "site", TOWN, speed=5) as site:
        site.add_setting("r001 gateway", f'adapter = "127.0.0.1:{http}"')
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        config, broker = site.folder / "r001" / "adapter.toml", ":".join(map(str, site.address("r001 broker")))
        config.write_text(
            f'[adapter]\nmicrogrid = "r001"\nbroker = "{broker}"\nhttp = "127.0.0.1:{http}"\nclock = "../clock.json"\n'
            f'\n[[source]]\naddress = "127.0.0.1:{port}"\n'
        )
        command = [sys.executable, "-m", "commonwatt", "adapter", "run", "--config", str(config)]
        adapter = forks.start(command, tmp_path / "adapter.log")
        player = Neighbours(port, site.folder / "clock.json")
        part = site.layout.part("utility")
        headers = local_headers(load_settings(part.config, "utility", UtilitySettings))

        def answer() -> dict[str, Any]:
            assert part.http is not None
            code, body = ask_service(part.http, None, headers, "POST", "/discovery/r001")
            assert code == 200, body
            return site.ask("utility", "/discovery/r001")

        def cards() -> dict[str, dict[str, Any]]:
            return {card["key"]: card for card in answer()["cards"]}

        def are_all_there() -> bool:
            found = cards()
            return {*ROLES, *TOLD} <= found.keys() and all(found[key]["share"] or found[key]["reduce"] for key in TOLD)

        try:
            eventually(are_all_there, PATIENCE_S * 4)
            found = cards()
            (roof,) = [card for card in found.values() if card["title"] == f"OpenDTU {ROOF}"]
            assert {key: card["role"] for key, card in found.items() if card is not roof} == ROLES
            assert (roof["role"], roof["power_w"], roof["name"]) == ("sun", 1_900.0, ROOF)
            for key, told in TOLD.items():
                said = found[key]["share"] or found[key]["reduce"]
                assert (said["topic"], said["ends"], said["ends_s"]) == told
            assert answer()["sources"] == [
                {"name": "", "address": f"127.0.0.1:{port}", "connected": True, "complaint": ""}
            ]
        finally:
            player.close()
            adapter.kill()
            adapter.wait()
            source.kill()
