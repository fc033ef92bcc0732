"""When a large town has drained."""

from typing import Any

from commonwatt.demo.large.draining import QUIET_S, arrived, is_drained

LAST = 1_000


def heartbeat(time: int = LAST + QUIET_S + 1, **backlog: int) -> dict[str, Any]:
    return {"time": time, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0} | backlog


def utility(**heartbeats: dict[str, Any] | None) -> dict[str, Any]:
    microgrids = {name: {"received_slots": 100, "heartbeat": one} for name, one in heartbeats.items()}
    return {"queue_s": 0.4, "totals": {"received_slots": 100 * len(microgrids)}, "microgrids": microgrids}


def fleet(**changed: Any) -> dict[str, Any]:
    idle = {"microgrids": ["r001", "r002"], "meters": 44, "connected": 44, "made": 500, "acknowledged": 480}
    return idle | {"held": 0, "events_held": 0, "lag_s": 0.0, "behind": 0, "worst": {}} | changed


def test_a_town_has_drained_when_each_gateway_says_so_after_the_last_slot() -> None:
    assert is_drained(utility(r001=heartbeat(), r002=heartbeat()), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat(), r002=None), [fleet()], LAST), "it never said anything"
    assert not is_drained(utility(r001=heartbeat(LAST + QUIET_S)), [fleet()], LAST), "parts may have come since"
    assert not is_drained(utility(r001=heartbeat(backlog_events=1)), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat()), [fleet(), fleet(held=1)], LAST)
    assert not is_drained({}, [fleet()], LAST)


def test_what_arrives_is_seen_at_gateways_and_at_the_utility() -> None:
    assert arrived(utility(r001=None, r002=None), [fleet(), fleet()]) == 200 + 2 * 480
