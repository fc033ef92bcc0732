"""How much of a large town's readings has arrived, and whether all have (pure)."""

from collections.abc import Collection, Mapping
from typing import Any

from commonwatt.model.units import EpochSeconds

Status = Mapping[str, Any]  # the last status of a part

QUIET_S = 60  # town seconds after the last slot from which a heartbeat tells that a gateway's backlog is empty
_BACKLOGS = ("backlog_parts", "backlog_events", "backlog_letters")  # of a gateway's heartbeat


def arrived(utility: Status, fleets: Collection[Status]) -> int:
    """Return how much has arrived: records at the gateways, and slots at the utility."""
    slots = utility.get("totals", {}).get("received_slots", 0)
    return int(slots + sum(one["acknowledged"] for one in fleets))


def is_drained(utility: Status, fleets: Collection[Status], last: EpochSeconds) -> bool:
    """Whether all meters' backlogs are empty after the last slot, and by their heartbeats those of all gateways."""
    heartbeats = [one["heartbeat"] for one in utility.get("microgrids", {}).values()]
    fresh = bool(heartbeats) and all(one is not None and one["time"] > last + QUIET_S for one in heartbeats)
    at_meters = any(one["held"] or one["events_held"] for one in fleets)
    return fresh and not at_meters and not any(one.get(key, 0) for one in heartbeats for key in _BACKLOGS)
