"""Meters that a person has stopped (M5): each is sent a stop until it answers, also after a restart."""

import json

from commonwatt.model.effects import Effect, Write
from commonwatt.model.ids import MeterId
from gateway.changes import Change, Setting
from gateway.control.manager import Manager
from gateway.stored import KeptSettings

_SETTING = "stopped_meters"


class StoppedMeters:
    """Keeps which meters are stopped; their manager sends them ``stop`` in place of ``initialize``."""

    def __init__(self, store: KeptSettings, manager: Manager) -> None:
        manager.stopped = frozenset(json.loads(store.setting(_SETTING) or "[]"))
        self._manager = manager

    def set(self, meter: MeterId, *, stopped: bool) -> list[Effect[Change]]:
        """Stop a meter, or start it again; one of another microgrid is left alone."""
        if (view := self._manager.meters.get(meter)) is None:
            return []
        others = self._manager.stopped - {meter}
        self._manager.stopped = others | {meter} if stopped else others
        view.answered, view.asked = False, None
        return [Write(Setting(_SETTING, json.dumps(sorted(self._manager.stopped))))]
