"""Events of meters in words; pure."""

from commonwatt.model.records import KNOWN_STATES, State

_BEGINS = {
    State.INITIALIZED: "started",
    State.OFF_GRID: "left the power net",
    State.LOSSLESS: "began to aggregate without loss",
    State.LOSSY: "began to aggregate by averages",
    State.SHARING: "began to share",
    State.REDUCING: "reduced its demand",
    State.ISOLATED: "was isolated by command",
    State.DEAD_FEEDER: "the feeder lost its voltage",
    State.SWITCH_OPEN: "the boundary switch opened",
}
_ENDS = {
    State.INITIALIZED: "shut down",
    State.OFF_GRID: "came back to the power net",
    State.LOSSLESS: "stopped aggregating without loss",
    State.LOSSY: "stopped aggregating by averages",
    State.SHARING: "stopped sharing",
    State.REDUCING: "stopped reducing its demand",
    State.ISOLATED: "is no longer isolated",
    State.DEAD_FEEDER: "the feeder has voltage again",
    State.SWITCH_OPEN: "the boundary switch closed",
}


def event_words(previous: int, new: int) -> str:
    """Return what changed between two states of a meter."""
    begun = [_BEGINS[state] for state in State if new & ~previous & state]
    ended = [_ENDS[state] for state in State if previous & ~new & state]
    unknown = ["an unknown state changed"] if (previous ^ new) & ~KNOWN_STATES else []
    return "; ".join([*begun, *ended, *unknown]) or "nothing changed"
