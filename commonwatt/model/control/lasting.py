"""When the energy in batteries is used up, at their mean discharge."""

from commonwatt.model.units import EpochSeconds, MilliwattHours


def lasts_until(now: EpochSeconds, energy: MilliwattHours, since: EpochSeconds, used: MilliwattHours) -> int | None:
    """Return when ``energy`` is used up, if ``used`` was used from ``since`` to ``now``.

    ``None``: nothing was used, less than a quarter-hour is known, or it lasts for more than 30 days.
    """
    if used <= 0 or now - since < 900:
        return None
    left_s = max(energy, 0) * (now - since) // used
    return now + left_s if left_s <= 30 * 86_400 else None
