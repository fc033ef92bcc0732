"""How long homes of managed microgrids have energy if the line fails now; beside the core, as it decides nothing."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.controllers import Rules
from commonwatt.energy.hours_left import HoursLeft, hours_left
from commonwatt.energy.lasting import lasts
from commonwatt.energy.physics.places import Places
from commonwatt.energy.strategies import strategy_of
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.settlement.splits import Array, Flags
from gateway.control.manager import Manager
from gateway.control.meter_view import LEVEL_GOOD_FOR_S
from gateway.control.mode_changes import ModeChange
from gateway.core import HostedMicrogrid
from gateway.loop.hosted_store import HostedStore
from gateway.loop.threads import THREADS
from gateway.loop.work import Work
from gateway.shown.past import Past

TURN_S = 5  # seconds between two turns, each of which reads some hours of the past
EVERY_S = 300  # seconds between two projections

log = logging.getLogger(__name__)


class Lasting:
    """Projects how long each microgrid lasts, on other threads and at a pace that the controller's work allows."""

    def __init__(self, work: Work, zone: ZoneInfo) -> None:
        self._work, self._zone = work, zone
        self._pasts: dict[MicrogridId, Past] = {}

    async def turn(self) -> None:
        """Read some of the past of each microgrid, and project if it is time."""
        for name, store in list(self._work.stores.items()):
            before = store.figures.hours_left
            try:
                store.figures.hours_left = await self._turn(self._work.controller.hosted[name], store)
            except Exception as error:
                store.figures.hours_left = f"the projection failed: {error!r}"
                if store.figures.hours_left != before:
                    log.exception("how long %s lasts without the line can't be told", name)

    async def _turn(self, core: HostedMicrogrid, store: HostedStore) -> HoursLeft | str:
        """Return the figure, or why there is none."""
        now, manager, before = core.now, core.manager, store.figures.hours_left
        if not manager.epochs.commands:
            return "another controller manages the microgrid"
        if now.trust is Trust.NONE:
            return "the time is not known"
        past = self._pasts.get(core.microgrid)
        if past is None or past.meters is not core.meters:
            past = self._pasts[core.microgrid] = Past(core.microgrid, core.meters, self._zone)
        if not past.places.users.any():
            return "no home is registered"
        if hours := past.next(now):
            async with self._work.alone():
                if store.opening:
                    return "the store does not work"
                await THREADS.run(past.read, store.store, hours)
        if past.end - past.first < 24:
            return "the readings of the last day are being read"
        if isinstance(before, HoursLeft) and 0 <= now - before.at < EVERY_S:
            return before
        store.figures.answer = past.answer(reduced_hours(core.modes.changes.changes, now))
        rules = Rules(sharing=strategy_of(manager.strategy, alone=False), reduces=True, sheds=True)
        return await THREADS.run(projected, past, *levels(past, manager, now), int(now), rules)


def reduced_hours(changes: Iterable[ModeChange], now: EpochSeconds) -> list[int]:
    """Return the whole hours since 1970 in which all homes were asked to reduce."""
    told = [(each.time, each.value == "on") for each in changes if each.mode == "reducing"]
    spans = zip(told, [*told[1:], (now, False)], strict=False)
    return [hour for (start, is_on), (end, _) in spans if is_on for hour in range(-(-start // 3600), end // 3600)]


def levels(past: Past, manager: Manager, now: Now) -> tuple[Places, Array, Flags]:
    """Return the places with the minima that batteries have, their levels, and which are known: recent, not doubted."""
    minimum = past.places.minimum.copy()
    level, known = np.zeros_like(minimum), np.zeros(minimum.shape, np.bool_)
    good_for_s = max(LEVEL_GOOD_FOR_S, 2 * manager.put_s)
    for meter, battery in manager.batteries(now).items():
        if (column := past.columns.get(meter)) is not None:
            minimum[0, column], level[0, column] = battery.minimum, battery.level
            known[0, column] = battery.doubt is None and now - manager.meters[meter].level_heard <= good_for_s
    return replace(past.places, minimum=minimum), np.clip(level, 0, past.places.capacity), known


def projected(past: Past, places: Places, level: Array, known: Flags, now: EpochSeconds, rules: Rules) -> HoursLeft:
    """Return how long the homes have energy, with the reasons why it is less sure than usual."""
    expected, has_day = past.ahead(now)
    batteries = places.capacity > 0
    unknown, without = int((batteries & ~known).sum()), int((~has_day).sum())
    some = "" if without == len(has_day) else f" of {without} of {len(has_day)} places"
    reasons = [f"the level of {unknown} of {batteries.sum()} batteries is not known"] * (unknown > 0)
    reasons += [f"no day of readings{some} yet: average use, no sun"] * (without > 0)
    return hours_left(lasts(places, level, known, expected, now, rules), 0, now, reasons)
