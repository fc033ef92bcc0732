"""The changes of a microgrid's modes with their reasons, readable afterwards (C5, docs/islanding.md)."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from commonwatt.model.effects import Effect, Write
from commonwatt.model.time.now import Now
from commonwatt.model.units import EpochSeconds
from gateway.changes import Change, Setting

MODE_CHANGES = "mode_changes"  # setting that keeps the changes
MOST = 50  # most changes that are kept; the oldest are forgotten first


@dataclass(frozen=True, kw_only=True)
class ModeChange:
    """A change of a mode."""

    time: EpochSeconds  # when the gateway changed it
    mode: str  # the mode: ``phase``, ``places off``, ``reducing`` or ``import limit``
    value: str  # its value from then on, in words
    why: str  # the facts that changed it, in words

    def __str__(self) -> str:
        return f"{self.mode}: {self.value}" + (f" ({self.why})" if self.why else "")


_AT_FIRST = {"phase": "connected", "places off": "0", "reducing": "off", "import limit": "none"}


class ModeChanges:
    """The last changes, also of earlier runs of the gateway."""

    def __init__(self, kept: str | None) -> None:
        """Take what the setting keeps; ``None``: nothing."""
        # The changes, oldest first.
        self.changes = deque((ModeChange(**one) for one in json.loads(kept or "[]")), maxlen=MOST)
        self._values = _AT_FIRST | {change.mode: change.value for change in self.changes}
        self._unlogged: list[ModeChange] = []

    def note(self, modes: Mapping[str, tuple[str, str]], now: Now) -> list[Effect[Change]]:
        """Keep the modes (value and reason by name) whose values are others than before."""
        changed = [
            ModeChange(time=now, mode=mode, value=value, why=why)
            for mode, (value, why) in modes.items()
            if self._values.get(mode) != value
        ]
        if not changed:
            return []
        self._values |= {change.mode: change.value for change in changed}
        self.changes.extend(changed)
        self._unlogged = [*self._unlogged, *changed][-MOST:]
        return [Write(Setting(MODE_CHANGES, json.dumps([asdict(change) for change in self.changes])))]

    def take_unlogged(self) -> list[ModeChange]:
        """Return the changes since the last call, for the log."""
        unlogged, self._unlogged = self._unlogged, []
        return unlogged
