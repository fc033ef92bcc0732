"""What all meters are asked: how they aggregate and put, and requests that set no state (C1, A5, M7, C9)."""

from collections.abc import Collection
from dataclasses import replace

from commonwatt.model.control import PUT_S
from commonwatt.model.effects import Effect, Write
from commonwatt.model.time import Now
from commonwatt.model.units import MeterId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import MetersMode
from gateway.control.manager import Manager
from gateway.control.sharing import near_minimum
from gateway.store.changes import Change, KeptSettings, Setting

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


# A lost request, or a lost acknowledgement, is made good within a period: QoS 0 saves the PUBACK of MQTT.
LEVELS_QOS = COLLECT_QOS = 0
# Within so many thousandths of its capacity above its minimum a battery's level is asked for each time.
NEAR_PERMILLE = 50
COLLECTING = {"quiet": True}  # the put shows that the meter obeys; an outcome would be longer than the put


class MeterRequests:
    """Makes the requests to the meters that the manager commands."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._probed = 0

    def levels(self, now: Now, levels_s: int) -> list[Effect[Change]]:
        """Request levels of batteries near their minimum, and of others whose level is older than ``levels_s``.

        Two such periods without a level exclude a battery from sharing.
        """
        self._manager.levels_s = levels_s
        near = near_minimum(self._manager.batteries(now), NEAR_PERMILLE)
        return [
            replace(self._manager.command(meter, "get", what="levels"), qos=LEVELS_QOS)
            for meter, view in self._manager.meters.items()
            if not self._manager.epochs.is_fenced(meter)
            and view.info is not None
            and view.info.capacity is not None
            and (meter in near or now - view.level_heard >= levels_s)
        ]

    def records(self, meters: Collection[MeterId]) -> list[Effect[Change]]:
        """Request records and events of meters that send only on request."""
        return [
            replace(self._manager.command(meter, "get", what=what, **COLLECTING), qos=COLLECT_QOS)
            for meter in meters
            for what in ("records", "events")
            if not self._manager.epochs.is_fenced(meter)
            if (view := self._manager.meters.get(meter)) and view.info is not None and not view.info.push
        ]

    def probe(self, count: int) -> list[Effect[Change]]:
        """Request the state of some meters: of the one heard last, which answers if any does, and of others in turn."""
        views = self._manager.meters
        meters = [meter for meter in views if not self._manager.epochs.is_fenced(meter)]
        last = max(meters, key=lambda meter: views[meter].heard or 0, default=None)
        others = [meter for meter in meters if meter != last]
        asked = [others[(self._probed + n) % len(others)] for n in range(min(count - 1, len(others)))]
        self._probed += len(asked)
        return self.states(asked if last is None else [last, *asked])

    def states(self, meters: Collection[MeterId], name: str = "") -> list[Effect[Change]]:
        """Request the state of meters; ``name`` is the requests' id, empty: a number for each."""
        is_fenced = self._manager.epochs.is_fenced
        named = {"id": name} if name else {}
        return [self._manager.command(meter, "get", what="state", **named) for meter in meters if not is_fenced(meter)]
