"""Faults at a month's end: what people do with bills, and what happens to the utility's two processes."""

from typing import TYPE_CHECKING

from commonwatt.model.exceptions import ConfigError, StoreError
from harness.world.faults import Faults, Kinds
from harness.world.month import money

if TYPE_CHECKING:
    from harness.world.month.world import MonthWorld


class MonthFaults(Faults):
    """The faults of a world at a month's end."""

    _world: "MonthWorld"

    def kinds(self) -> Kinds:
        """Return each kind of fault."""
        return {
            **super().kinds(),
            "bills issued": (self._issue, (300, 900)),
            "process pauses": (self._pause, (None, 600)),
            "process killed": (self._kill, (None, 600)),
        }

    def _issue(self) -> None:
        """Let two people issue what the service billed."""
        try:
            money.issue(self._world)
        except (ConfigError, StoreError) as error:
            self._world.tell("people", f"can't issue: {error}")

    def _pause(self) -> None:
        """Let a process pause for longer than its lease."""
        if self._world.utility.up:
            self._rng.choice(self._world.utility.processes).pause_s = self._rng.uniform(30, 300)

    def _kill(self) -> None:
        if self._world.utility.up:
            self._rng.choice(self._world.utility.processes).kill()
