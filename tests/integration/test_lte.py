"""The count of an LTE line, compared with all packets of a loopback in a network namespace of its own."""

import json
import sys
from pathlib import Path

from harness.network.loopback import run_alone
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'

SEGMENT = 72
"""IP bytes of a segment without content, IPv6: whether a FIN comes alone or with an acknowledgement can't be known."""


def test_connections_of_every_kind_cost_what_their_packets_weigh() -> None:
    for connection in json.loads(run_alone("harness.network.lte_sockets")):
        # The client retransmits because the acknowledgement was dropped, and so is not in its count.
        ends = ("here",) if "repeated" in connection["kind"] else ("here", "there")
        for counted in (connection[end] for end in ends):
            for count, weighed in zip(counted, connection["weighed"], strict=True):
                assert weighed - 1 <= count <= weighed + 2 * SEGMENT, connection


def test_a_controllers_line_is_counted_to_the_byte_over_kills_and_restarts(tmp_path: Path) -> None:  # req: C9
    told = json.loads(run_alone("harness.network.lte_world", [str(tmp_path)]))
    for side, weighed in told["weighed"].items():
        for way, count in told["gateway"]["sides"][side].items():
            # Packets after the last count of a part that is stopped, and segments as above. On a busy machine
            # acknowledgements are late and segments come twice; the kernel does not tell how long those were.
            repeated = told["repeated"][side] if way == "down" else 0
            assert abs(count - weighed[way]) <= 0.005 * weighed[way] + 10 * SEGMENT + repeated, (side, way, told)
    # The restart did not reset the count.
    assert 0 < told["middle"]["utility"]["up"] < told["gateway"]["sides"]["utility"]["up"]
    # The utility has the values of the heartbeat, which came a little earlier.
    (line,) = told["utility"]
    used = dict(zip(("up", "down"), told["gateway"]["used"], strict=True))
    assert 0 < line["used_up"] <= used["up"]
    assert 0 < line["used_down"] <= used["down"]
    assert used == {way: sum(side[way] for side in told["gateway"]["sides"].values()) for way in used}


def test_a_controller_behind_mosquitto_counts_its_interface_and_says_when_the_plan_is_used_up(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=1) as site:
        config = site.layout.part("r001 gateway").config
        config.write_text(config.read_text() + 'lte_interface = "lo"\nlte_allowance_bytes = 1\n')
        site.start("r001 gateway")
        # The first request begins the count; the requests of the status are the loopback's traffic meanwhile.
        site.stop("r001 gateway")
        site.start("r001 gateway")
        told = (site.status("r001 gateway") or {})["lte"]
        assert set(told["sides"]) == {"interface"}
        assert told["sides"]["interface"] == dict(zip(("up", "down"), told["used"], strict=True))
        assert min(told["used"]) > 0
        assert told["level"] == "exceeded"
        eventually(lambda: site.log("r001 gateway").count("the LTE line is exceeded") == 1)
        assert site.metric("r001 gateway", 'commonwatt_gateway_lte_month_bytes{direction="up"}') >= told["used"][0]
        assert site.metric("r001 gateway", "commonwatt_gateway_lte_allowance_bytes") == 1
        site.stop("r001 gateway")
        command = [sys.executable, "-m", "commonwatt", "gateway", "lte", "--config", str(config)]
        shown = forks.run(command, check=True).stdout
    level, up, down, *days = shown.splitlines()
    assert level == "exceeded"
    assert up.startswith("up: 0.0")
    assert down.endswith("forecast not known yet, 0.000 GB allowed")
    assert any("interface" in line for line in days)
