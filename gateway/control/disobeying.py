"""Which devices of others did not obey, and when each is told again (docs/control.md)."""

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import KINDS, Kind, Outcome
from commonwatt.protocol.device_states import Stage

FIRST_S = 600  # seconds until a device that did not obey is told again; each further wait is twice as long
DOUBLED = 4  # so many times: the longest is 160 minutes


class Disobeying:
    """The states that devices refused by not obeying."""

    def __init__(self) -> None:
        self._until: dict[tuple[MeterId, Kind], tuple[int, EpochSeconds]] = {}

    def take(self, meter: MeterId, outcome: Outcome, now: EpochSeconds) -> bool:
        """Note whether a device obeys; return whether it just refused."""
        kind = KINDS.get(outcome.cmd)
        state = outcome.device.states.get(kind) if kind and outcome.device else None
        if kind is None or state is None:
            return False
        refuses = outcome.result == "refused" and state.stage is Stage.DISOBEYS
        if refuses and not self.waits(meter, kind, now):
            times = self._until.get((meter, kind), (0, 0))[0]
            self._until[meter, kind] = times + 1, now + (FIRST_S << min(times, DOUBLED))
        elif state.stage in (Stage.OBEYS, Stage.UNCONFIRMED):
            self._until.pop((meter, kind), None)
        return refuses

    def waits(self, meter: MeterId, kind: Kind, now: EpochSeconds) -> bool:
        """Return whether a device did not obey, and is not told again yet."""
        return (meter, kind) in self._until and now < self._until[meter, kind][1]

    def shift(self, by_s: int) -> None:
        """Shift all times after the clock was set by ``by_s``."""
        self._until = {key: (times, until + by_s) for key, (times, until) in self._until.items()}
