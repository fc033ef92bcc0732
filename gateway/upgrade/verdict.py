"""The verdict of a new release on itself: whether it serves the meters and the utility as the one before did (pure)."""

from dataclasses import dataclass

JUDGES_AT, ENDS_AT = 0.8, 0.95  # parts of the time for a verdict: when it may be good, and when it is bad
RAN_AT_LEAST = 0.5  # part of that time for which a good release has run without an end
SERVED_SHARE = 0.9  # part of the meters served before that must be served now
FRESH_S = 1_800  # age of the oldest waiting data below which a backlog does not grow


@dataclass(frozen=True, kw_only=True)
class Meters:
    """How many meters a gateway serves."""

    served: int  # meters whose readings it stored since its start
    before: int  # meters with readings in the hour before its start


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a gateway sees of itself."""

    meters: Meters  # how many it serves
    backlog: int  # parts of blocks that the utility has not acknowledged
    backlog_age_s: int  # seconds since the oldest of them ended
    bad: frozenset[str] = frozenset()  # the checks of its bad alarms


def faults(first: Facts, now: Facts) -> list[str]:
    """Return what a release does worse than the one before.

    Args:
        first: The facts at its start.
    """
    found = []
    if now.meters.served < SERVED_SHARE * now.meters.before:
        found.append(f"{now.meters.served} meters are served, {now.meters.before} were before")
    if now.backlog_age_s > FRESH_S and now.backlog >= first.backlog:
        found.append(f"the backlog grew from {first.backlog} to {now.backlog} parts")
    return found + sorted(f"an alarm of {check}" for check in now.bad)


def verdict(first: Facts, now: Facts, ran_s: float, waited_s: float, limit_s: float) -> tuple[bool, str] | None:
    """Return whether a release is good, and why not; ``None``: it is too early.

    Args:
        first: The facts at its start.
        ran_s: Seconds since its start.
        waited_s: Seconds for which root's unit waits.
        limit_s: Seconds after which that goes back.
    """
    if waited_s < JUDGES_AT * limit_s:
        return None
    found = faults(first, now)
    if ran_s < RAN_AT_LEAST * limit_s:
        found.append(f"it started {ran_s:.0f} s ago")
    if not found:
        return True, ""
    return (False, "; ".join(found)) if waited_s >= ENDS_AT * limit_s else None
