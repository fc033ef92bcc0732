"""The live table of a large town: rows of processes, and the few that are slowest."""

import io
from typing import Any

from rich.console import Console

from commonwatt.demo.large.view import QUIET_S, arrived, is_drained, large_table

LAST = 1_000


def heartbeat(time: int = LAST + QUIET_S + 1, **backlog: int) -> dict[str, Any]:
    return {"time": time, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0} | backlog


def utility(**heartbeats: dict[str, Any] | None) -> dict[str, Any]:
    microgrids = {name: {"received_slots": 100, "heartbeat": one} for name, one in heartbeats.items()}
    return {"queue_s": 0.4, "totals": {"received_slots": 100 * len(microgrids)}, "microgrids": microgrids}


def fleet(**changed: Any) -> dict[str, Any]:
    idle = {"microgrids": ["r001", "r002"], "meters": 44, "connected": 44, "made": 500, "acknowledged": 480}
    return idle | {"held": 0, "events_held": 0, "lag_s": 0.0, "behind": 0, "worst": {}} | changed


def controller(state: str = "running", lag_s: float = 0.0) -> dict[str, Any]:
    return {"state": state, "lag_s": lag_s}


def drawn(*, hosts: dict[str, Any], fleets: dict[str, Any], at: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(large_table("Centertown", at, hosts, fleets, 90))
    return out.getvalue().splitlines()


def test_a_row_names_the_few_that_are_slowest_or_stopped() -> None:
    slow = {f"r00{n}": controller("slow", 10.0 * n) for n in range(1, 6)}
    hosts = {"host 1": {"controllers": slow | {"r006": controller(), "r007": controller("stopped")}}}
    fleets = {"fleet 1": fleet(behind=7, worst={"r001": 61, "r002": 99})}
    lines = drawn(hosts=hosts, fleets=fleets, at=utility(r001=heartbeat(backlog_parts=3), r002=None))
    names = ("fleet 1", "host 1", "utility")
    row = {name: line for name in names for line in lines if line.strip().startswith(name)}
    assert "5 behind: r005 50 s, r004 40 s, r003 30 s; stopped: r007" in row["host 1"]
    assert "7 " in row["host 1"]
    assert "3 parts" in row["host 1"]
    assert "7 behind: r002 99 s, r001 61 s" in row["fleet 1"]
    assert "44 of 44" in row["fleet 1"]
    assert "90" in row["utility"]


def test_a_table_is_drawn_before_anybody_answers() -> None:
    assert any("utility" in line for line in drawn(hosts={}, fleets={}, at={}))


def test_a_town_has_drained_when_each_gateway_says_so_after_the_last_slot() -> None:
    assert is_drained(utility(r001=heartbeat(), r002=heartbeat()), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat(), r002=None), [fleet()], LAST), "it never said anything"
    assert not is_drained(utility(r001=heartbeat(LAST + QUIET_S)), [fleet()], LAST), "parts may have come since"
    assert not is_drained(utility(r001=heartbeat(backlog_events=1)), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat()), [fleet(), fleet(held=1)], LAST)
    assert not is_drained({}, [fleet()], LAST)


def test_what_arrives_is_seen_at_gateways_and_at_the_utility() -> None:
    assert arrived(utility(r001=None, r002=None), [fleet(), fleet()]) == 200 + 2 * 480
