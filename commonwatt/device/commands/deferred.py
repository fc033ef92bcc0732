"""Commands that are answered later: those of a foreign device, whose adapter first sees whether it obeys."""

from commonwatt.device.commands.desired_states import DEFAULT
from commonwatt.protocol.commands import KINDS, Command, Kind
from commonwatt.protocol.device_states import DeviceState, ForeignDevice

_LONGEST = 80  # characters of an unused message that are kept
MOST_REASONS = 12


class Deferred:
    """The kinds of commands of a meter that are answered later, the last command of each, and what its device shows.

    Args:
        name: The device's name; empty: the meter is no foreign device.
        preset: What reads its messages.
        kinds: The kinds.
    """

    def __init__(self, name: str = "", preset: str = "", kinds: frozenset[Kind] = frozenset()) -> None:
        self.kinds = kinds  # the kinds
        self.states: dict[str, DeviceState] = {}  # what is known of each state that the device can be told
        self.ignored: dict[str, tuple[int, str]] = {}  # its values that were not used, by reason: how many, the last
        self.ended: set[Kind] = set()  # the kinds that a command ended, not their time, until that is handled
        self.heard: int | None = None  # when a message of the device came last, epoch seconds
        self._name, self._preset = name, preset
        self._last: dict[Kind, Command] = {}
        self._open: set[Kind] = set()

    @property
    def device(self) -> ForeignDevice | None:
        """What is known of the device, for outcomes; ``None``: the meter is no foreign device."""
        if not self._name:
            return None
        return ForeignDevice(
            name=self._name[:64],
            preset=self._preset,
            heard=self.heard,
            states=dict(self.states),
            ignored=dict(self.ignored),
        )

    def ignore(self, reason: str, text: str) -> None:
        """Count a value that is not used."""
        if reason in self.ignored or len(self.ignored) < MOST_REASONS:
            text = text[:_LONGEST].encode(errors="replace").decode()  # JSON may have half a surrogate pair
            self.ignored[reason] = self.ignored.get(reason, (0, ""))[0] + 1, text

    def takes(self, command: Command) -> bool:
        """Take a command that was accepted; return whether it is answered later."""
        desired = command.desired()
        if desired is None or desired[0] not in self.kinds:
            return False
        self._last[desired[0]] = command
        self._open.add(desired[0])
        (self.ended.add if desired[1] == DEFAULT[desired[0]] else self.ended.discard)(desired[0])
        return True

    def value(self, kind: Kind) -> str | None:
        """Return the value that the last command of a kind sets; ``None``: none came since the start."""
        desired = self._last[kind].desired() if kind in self._last else None
        return desired[1] if desired else None

    def is_open(self, kind: Kind) -> bool:
        """Return whether a command of a kind awaits its answer."""
        return kind in self._open

    def close(self, kind: Kind) -> tuple[str, str]:
        """Return id and name of a kind's last command, which is answered now; without an id: none since the start."""
        self._open.discard(kind)
        last = self._last.get(kind)
        return (last.id, last.cmd) if last else ("", next(cmd for cmd, of in KINDS.items() if of is kind))
