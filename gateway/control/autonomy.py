"""Whether a microgrid decides alone, since the utility does not answer (P2, A5, docs/control.md).

A pong is anything that the utility sends: an acknowledgement or a command. A gateway decides about its microgrid by
itself at all times; without the utility it also prepares for a long silence, each strategy in its own way. Nothing here
concerns the boundary switch: a silent utility is no reason for an island.
"""

from dataclasses import dataclass

from commonwatt.model.units import EpochSeconds

NO_ANSWER_S = 180  # least seconds without an answer of the utility after which a microgrid decides alone
# The same in periods of relaying, each of which the utility answers: a demonstration's clock runs faster.
MISSED_RELAYS = 3
# The same, however seldom the gateway relays: a quiet connection is tested more often than that.
NO_ANSWER_AT_MOST_S = 3600


@dataclass(frozen=True, kw_only=True)
class Contact:
    """When the utility last answered."""

    heard: EpochSeconds  # the time of its last message; at first, of the gateway's start

    def is_lost(self, now: EpochSeconds, relay_s: int) -> bool:
        """Return whether the utility has not answered for too long.

        Args:
            relay_s: Seconds between two relays to the utility.
        """
        return now - self.heard > max(NO_ANSWER_S, min(MISSED_RELAYS * relay_s, NO_ANSWER_AT_MOST_S))

    def words(self, now: EpochSeconds, relay_s: int) -> str | None:
        """Return in words that the microgrid decides alone; ``None``: it does not."""
        if not self.is_lost(now, relay_s):
            return None
        return f"the utility has not answered for {(now - self.heard) // 60} min: the microgrid decides alone"
