"""Messages of gateways, for tests of the utility."""

from commonwatt.protocol.heartbeats import Heartbeat


def a_heartbeat(**fields: object) -> Heartbeat:
    """Return the heartbeat of an idle gateway, with ``fields``."""
    nothing = {"time": 5, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate({**nothing, "aggregation": "none", **fields})
