"""Which epochs a meter takes: no lower one, no large step, no rank that raises it all day (docs/controllers.md).

A refused step names the meter's epoch, so that a lawful manager comes nearer in steps.
"""

from dataclasses import dataclass, field

from commonwatt.protocol.commands import EPOCH_STEP, RAISES, RAISES_WITHIN_S, Epoch

FIRST_BELOW = 2**31  # a meter that holds no epoch takes any counter below


@dataclass
class EpochGuard:
    """The epochs of one meter."""

    epoch: Epoch = (0, 0)  # the highest epoch taken; (0, 0): none
    raises: dict[int, list[float]] = field(default_factory=dict)  # by rank, when it raised the epoch, oldest first

    def why_not(self, epoch: Epoch, now: float) -> str | None:
        """Return why an epoch is not taken; ``None``: it is.

        Args:
            now: Seconds of a clock that never goes back.
        """
        if epoch <= self.epoch:
            return None if epoch == self.epoch else f"epoch {list(self.epoch)} was seen"
        if self.epoch == (0, 0):
            return None if epoch[0] < FIRST_BELOW else f"counter {epoch[0]} is not below {FIRST_BELOW}"
        if epoch[0] - self.epoch[0] > EPOCH_STEP:
            return f"counter {epoch[0]} is more than {EPOCH_STEP} above {self.epoch[0]}"
        if len(self._recent(epoch[1], now)) >= RAISES:
            return f"controller {epoch[1]} raised the epoch {RAISES} times within a day"
        return None

    def take(self, epoch: Epoch, now: float) -> None:
        """Take an epoch for which ``why_not`` is ``None``."""
        if epoch > self.epoch:
            self.raises[epoch[1]] = [*self._recent(epoch[1], now), now]
            self.epoch = epoch

    def _recent(self, rank: int, now: float) -> list[float]:
        return [time for time in self.raises.get(rank, []) if now - time < RAISES_WITHIN_S]
