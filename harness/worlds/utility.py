"""What gateways say to a utility, for its tests."""

from commonwatt.protocol.heartbeats import Heartbeat


def a_heartbeat(**fields: object) -> Heartbeat:
    """A heartbeat of a gateway that has nothing to say, but for ``fields``."""
    nothing = {"time": 5, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate({**nothing, "aggregation": "none", **fields})
