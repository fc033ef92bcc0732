"""The true voltage of a microgrid's feeder, on the town's side of its boundary."""

from commonwatt.model.units import SLOT_S, EpochSeconds


class Feeder:
    """One feeder; it dies and returns at the starts of slots."""

    def __init__(self) -> None:
        self._dead: list[tuple[EpochSeconds, EpochSeconds]] = []

    def fail(self, at: EpochSeconds, for_s: float) -> None:
        """Have no voltage from the next slot on, for at least one slot."""
        begin = -(-at // SLOT_S) * SLOT_S
        self._dead.append((begin, begin + max(1, round(for_s / SLOT_S)) * SLOT_S))

    def mend(self, at: EpochSeconds) -> None:
        """Have voltage again from the next slot on."""
        end = -(-at // SLOT_S) * SLOT_S
        self._dead = [(begin, min(until, end)) for begin, until in self._dead if begin < end]

    def alive(self, at: EpochSeconds) -> bool:
        """Return whether there is voltage in the slot that starts at ``at``."""
        return not any(begin <= at < until for begin, until in self._dead)

    def alive_s(self, at: EpochSeconds) -> float:
        """Return the seconds of voltage without a break before ``at``."""
        return at - max((until for _, until in self._dead if until <= at), default=float("-inf"))
