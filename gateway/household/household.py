"""The household of a gateway: what it publishes of one place, and the totals it stores. Pure.

It reads committed data and the meters' reports to the manager; it decides nothing about meters.
"""

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Write
from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.units import MicrogridId
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.control.meter_view import LEVEL_GOOD_FOR_S, MeterView
from gateway.control.modes import Modes
from gateway.control.rates import KeptRates
from gateway.household.discovery import BatteryLevel, Town, discovery, state, topics_of
from gateway.household.prices import prices
from gateway.household.totals import Keeper, quantities_of
from gateway.stored import Stored


class Household:
    """The place that a gateway publishes; without ``[gateway.household]`` it does nothing.

    Attributes:
        keeper: Counts the energy of the place; ``None``: no place is published.
        meters: The registered meters of the place.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        microgrid: MicrogridId,
        store: Stored,
        registry: dict[MeterId, RegisteredMeter],
        modes: Modes,
        rates: KeptRates,
    ) -> None:
        self._microgrid = microgrid
        # The place is one of the controller's own microgrid.
        self._settings = settings.household if microgrid == settings.microgrid else None
        self._modes, self._manager, self._rates = modes, modes.manager, rates
        self.keeper = None if self._settings is None else Keeper(store, self._settings.place)
        self.register(registry)

    def register(self, registry: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        place = None if self._settings is None else self._settings.place
        self.meters = [meter for meter in registry.values() if meter.location == place]
        self._quantities = quantities_of(self.meters)

    def save(self, *, acknowledged: bool) -> list[Effect[Change]]:
        """Count what is committed; store the totals with an acknowledgement of the utility, or when it is time."""
        if self.keeper is None:
            return []
        return [Write(setting) for setting in self.keeper.save(self._quantities, changed=acknowledged)]

    def messages(self, now: Now, version: str) -> dict[str, bytes]:
        """Return the present retained messages, which name ``version``, by topic; empty if the place has no meter."""
        if self._settings is None or self.keeper is None or not self.meters:
            return {}
        place = self._settings.place
        topics = topics_of(self._microgrid, place, self._settings.prefix)
        # At a time that may be wrong there is no price.
        tariffs = self._rates.stretches(now) if now.trust > Trust.NONE else {}
        return {
            topics.discovery: discovery(topics, place, self.meters, version),
            topics.state: state(self.keeper.count(self._quantities), self._batteries(now), self._town(now)),
            topics.prices: prices(tariffs, self._settings.tariff, now),
        }

    def _town(self, now: Now) -> Town:
        """Return what the town asks; another controller knows it while it manages the microgrid."""
        if not self._manager.epochs.commands:
            return Town()
        until = self._modes.states.less_until(now)
        return Town(use_less=until is not None, use_less_until=until, island=self._modes.is_island(now))

    def _batteries(self, now: Now) -> BatteryLevel | None:
        """Return the state of the batteries of the place together; ``None``: it has none."""
        present = (meter for meter in self.meters if not meter.replaced)
        capacities = {m.id: m.battery_capacity_mwh for m in present if m.battery_capacity_mwh is not None}
        if not capacities:
            return None
        views = [self._manager.meters[meter] for meter in capacities]
        good_for_s = max(LEVEL_GOOD_FOR_S, 2 * self._manager.put_s)
        levels = [view.level if now - view.level_heard <= good_for_s else None for view in views]
        known = [level for level in levels if level is not None]
        return BatteryLevel(
            level=sum(known) if len(known) == len(views) else None,
            capacity=sum(capacities.values()),
            sharing=any(view.bits & State.SHARING for view in views)
            if all(_heard(view, now, good_for_s) for view in views)
            else None,
        )


def _heard(view: MeterView, now: Now, good_for_s: int) -> bool:
    """Return whether a meter's state bits are its own, and recent."""
    return view.answered and view.heard is not None and now - view.heard <= good_for_s
