"""Commands that are answered later: those of a foreign device, whose adapter first sees whether it obeys."""

from commonwatt.protocol.commands import Command, Kind
from commonwatt.protocol.device_states import DeviceState


class Deferred:
    """The kinds of commands that are answered later, and the last command of each."""

    def __init__(self) -> None:
        self.kinds: frozenset[Kind] = frozenset()  # the kinds
        self.states: dict[Kind, DeviceState] = {}  # what is known of the device, for every outcome
        self._last: dict[Kind, Command] = {}
        self._open: set[Kind] = set()

    def takes(self, command: Command) -> bool:
        """Take a command that was accepted; return whether it is answered later."""
        desired = command.desired()
        if desired is None or desired[0] not in self.kinds:
            return False
        self._last[desired[0]] = command
        self._open.add(desired[0])
        return True

    def is_open(self, kind: Kind) -> bool:
        """Return whether a command of a kind awaits its answer."""
        return kind in self._open

    def close(self, kind: Kind) -> tuple[str, str]:
        """Return id and name of a kind's last command, which is answered now; without an id: none since the start."""
        self._open.discard(kind)
        last = self._last.get(kind)
        return ("", "get") if last is None else (last.id, last.cmd)
