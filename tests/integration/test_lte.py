"""What is counted of an LTE line, beside every packet weighed on a loopback where nobody else speaks."""

import json
from pathlib import Path

from tests.support.loopback import run_alone

SEGMENT = 72
"""IP bytes of a segment without content, IPv6: whether a FIN comes alone or with an acknowledgement can't be known."""


def test_connections_of_every_kind_cost_what_their_packets_weigh() -> None:
    for connection in json.loads(run_alone("tests.support.lte_sockets")):
        for counted in (connection["here"], connection["there"]):
            for count, weighed in zip(counted, connection["weighed"], strict=True):
                assert weighed - 1 <= count <= weighed + 2 * SEGMENT, connection


def test_a_controllers_line_is_counted_to_the_byte_over_kills_and_restarts(tmp_path: Path) -> None:  # req: C9
    told = json.loads(run_alone("tests.support.lte_world", [str(tmp_path)]))
    for side, weighed in told["weighed"].items():
        for way, count in told["gateway"]["sides"][side].items():
            # What is said after the last word of a part that is told to stop, and segments as above.
            assert abs(count - weighed[way]) <= 0.005 * weighed[way] + 10 * SEGMENT, (side, way, told)
    # The restart in the middle did not begin again.
    assert 0 < told["middle"]["utility"]["up"] < told["gateway"]["sides"]["utility"]["up"]
    # The utility knows it from the heartbeat, which came a little earlier.
    (line,) = told["utility"]
    used = dict(zip(("up", "down"), told["gateway"]["used"], strict=True))
    assert 0 < line["used_up"] <= used["up"]
    assert 0 < line["used_down"] <= used["down"]
    assert used == {way: sum(side[way] for side in told["gateway"]["sides"].values()) for way in used}
