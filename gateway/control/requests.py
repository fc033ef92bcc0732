"""Requests to the meters that set no state: levels, records, state (C1, docs/control.md)."""

from collections.abc import Collection
from dataclasses import replace

from commonwatt.model.effects import Effect
from commonwatt.model.ids import MeterId
from commonwatt.model.time.now import Now
from gateway.changes import Change
from gateway.control.manager import Manager
from gateway.control.sharing import near_minimum

# A lost request, or a lost acknowledgement, is made good within a period: QoS 0 saves the PUBACK of MQTT.
LEVELS_QOS = COLLECT_QOS = 0
# Within so many thousandths of its capacity above its minimum a battery's level is asked for each time.
NEAR_PERMILLE = 50
COLLECTING = {"quiet": True}  # the put shows that the meter obeys; an outcome would be longer than the put


class Requests:
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
