"""How all meters aggregate their records, and how often they put them (A5, M7, C9): standing wishes of the schedule."""

from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.effects import Effect, Write
from commonwatt.model.time.now import Now
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import MetersMode
from gateway.changes import Change, Setting
from gateway.control.manager import Manager
from gateway.stored import KeptSettings

_SETTING = "meters_mode"
_MODES: dict[str, MetersMode] = {"none": "none", "lossless": "lossless"}


class KeptMetersMode:
    """Keeps every meter that has answered ``initialize`` at the wished aggregation and period of puts.

    A command ``aggregate`` of the utility to the meters holds until its end; then the wish holds again.
    """

    def __init__(self, of_file: MetersMode, store: KeptSettings, manager: Manager) -> None:
        # What a schedule of the utility set; ``None``: nothing.
        self.commanded: MetersMode | None = _MODES.get(store.setting(_SETTING) or "")
        self.of_file: MetersMode = of_file  # what the gateway's file says
        # Whether the gateway itself wants it, to save bytes. Its end is not commanded: it may be a person's by then.
        self.saves = False
        self._manager = manager

    @property
    def mode(self) -> MetersMode:
        """The wish in force: the schedule's, else the gateway's own, else the file's."""
        return self.commanded or ("lossless" if self.saves else self.of_file)

    def set(self, mode: MetersMode, now: Now) -> list[Effect[Change]]:
        """Change the wish; without a wish the meters get a stop, once."""
        before, self.commanded = self.mode, mode
        kept: list[Effect[Change]] = [Write(Setting(_SETTING, mode))]
        if mode == "none" and before == "lossless":
            return kept + [e for meter in self._manager.meters for e in self._keep(meter, now)]
        return kept + self.keep(now)

    def keep(self, now: Now) -> list[Effect[Change]]:
        """Command and renew the wished period and aggregation."""
        effects = self._put_periods(now)
        if self.mode == "none":
            return effects
        answered = [meter for meter, view in self._manager.meters.items() if view.answered]
        wanted = [meter for meter in answered if not self._is_commanded(meter, now)]
        return effects + [effect for meter in wanted for effect in self._keep(meter, now)]

    def _put_periods(self, now: Now) -> list[Effect[Change]]:
        """Command and renew the period of puts at the meters that accept one; those of earlier versions do not."""
        put_s = self._manager.put_s
        on = str(put_s) if put_s != PUT_S else False
        accepting = [meter for meter, view in self._manager.meters.items() if view.answered and view.put_s is not None]
        return [effect for meter in accepting for effect in self._manager.keep(meter, Kind.PUT_PERIOD, on, now)]

    def _keep(self, meter: int, now: Now) -> list[Effect[Change]]:
        return self._manager.keep(meter, Kind.AGGREGATION, self.mode == "lossless", now)

    def _is_commanded(self, meter: int, now: Now) -> bool:
        """Return whether a command of the utility is in force: averages, or an aggregation without an end."""
        desired = self._manager.desired(meter, Kind.AGGREGATION)
        if desired is None or desired.value in ("none", "unknown"):
            return False
        return desired.until is None or (desired.value == "lossy" and desired.until > now)
