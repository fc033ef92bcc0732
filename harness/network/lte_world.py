"""Runs a small town on a separate loopback; prints the gateway's count of its LTE line and the packets' bytes.

The test runs ``python -m harness.network.lte_world FOLDER`` in its own network namespace.
"""

import json
import sys
from pathlib import Path
from typing import Any

from harness.commands import shown
from harness.network.loopback import Scales, bring_up, ports_of
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 3\n'


def main() -> None:
    """Run the town, kill its meters, restart its gateway; stop all before reading both counts."""
    bring_up()
    forks.enable()
    scales = Scales()
    with Site(Path(sys.argv[1]) / "site", TOWN, plain_text=False) as site:
        broker, head_end = site.address("r001 broker")[1], site.address("head-end")[1]
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        # The gateway's count begins with the first report that it receives.
        eventually(lambda: _sides(site)["meters"] is not None)
        gateways = ports_of(site.processes["r001 gateway"].pid)
        site.start("r001 meters")
        eventually(lambda: _relayed(site) > 60)
        site.kill("r001 meters")
        site.stop("r001 gateway")
        middle = _shown(site, "gateway", "lte")
        site.start("r001 gateway", "r001 meters")
        eventually(lambda: _relayed(site) > 150 and site.metric("r001 gateway", "commonwatt_gateway_connections") == 2)
        gateways |= ports_of(site.processes["r001 gateway"].pid)
        eventually(lambda: _told(site) is not None)
        site.stop("r001 meters")
        site.stop("r001 broker")
        # The broker's last report may still be on its way to the gateway.
        eventually(lambda: _sides(site)["meters"]["up"] > 0)
        site.stop("r001 gateway")
        meters, utility = scales.byte_count(broker, without=gateways), scales.byte_count(head_end, only=gateways)
        print(
            json.dumps(
                {
                    "middle": middle["sides"],
                    "gateway": _shown(site, "gateway", "lte"),
                    "utility": shown(site.layout.part("utility").config, "lines")["lines"],
                    "weighed": {
                        "meters": {"up": meters.sent, "down": meters.received},
                        "utility": {"up": utility.received, "down": utility.sent},
                    },
                    # Retransmitted content that arrived at the counting end.
                    "repeated": {
                        "meters": scales.repeats(broker, without=gateways).received,
                        "utility": scales.repeats(head_end, only=gateways).sent,
                    },
                }
            )
        )


def _sides(site: Site) -> dict[str, Any]:
    sides: dict[str, Any] = (site.status("r001 gateway") or {})["lte"]["sides"]
    return sides


def _relayed(site: Site) -> int:
    return int((site.status("r001 gateway") or {}).get("relayed_slots", 0))


def _told(site: Site) -> object:
    return (site.status("utility") or {})["microgrids"]["r001"]["heartbeat"]["lte"]


def _shown(site: Site, part: str, command: str) -> Any:
    name = "utility" if part == "utility" else f"r001 {part}"
    words = [
        sys.executable,
        "-m",
        "commonwatt",
        part,
        command,
        "--json",
        "--config",
        str(site.layout.part(name).config),
    ]
    return json.loads(forks.run(words, check=True).stdout)


if __name__ == "__main__":
    main()
