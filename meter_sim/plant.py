"""The emulated plant in a fleet: its core, its store and its connection to the head-end, beside the world (T5, U4)."""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from commonwatt.config.meters import PlantSettings
from commonwatt.device.records import Tally
from commonwatt.device.shell import DeviceShell
from commonwatt.device.store import DeviceStore
from commonwatt.energy.plant import PlantStep, plant_of
from commonwatt.energy.step import PlantInputs
from commonwatt.identity.devices import load_tokens
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.network.mqtt import Liveness, MqttLink
from commonwatt.network.tls import client_tls
from commonwatt.protocol.topics import PLANT, gateway_down
from commonwatt.town.town import Town
from meter_sim.fleet_clock import FleetClock
from meter_sim.metrics import PlantFigures
from meter_sim.plant_core import PlantChange, PlantCore, PlantState, mean_watts
from meter_sim.store import load
from meter_sim.world import OutsideWorld, Region

BEGINS_AT_PERCENT = 75  # level of a new plant's battery
REOPEN_AFTER_S = 5.0  # real seconds until a store that failed is opened again
# Real seconds without a command after which it goes to the other of two head-ends: the utility buys each quarter-hour,
# and a head-end may be cut off from it. Reports have no answer.
NO_COMMAND_S = 1200.0
MAX_ARRIVED = 100  # most waiting commands; the utility sends a dropped one again

_log = logging.getLogger(__name__)


class EmulatedPlant:
    """The plant of a town."""

    def __init__(
        self,
        *,
        settings: PlantSettings,
        town: Town,
        clock: FleetClock,
        outside: OutsideWorld,
        open_store: Callable[[], DeviceStore],
    ) -> None:
        """Open its store, and read its token if it has a head-end.

        Raises:
            ConfigError: The plant has no token.
            StoreError: The store can't be opened.
        """
        self.tally: Tally = Counter()  # counts of its events
        self.physical = plant_of(town)  # its limits, for steps of a slot
        self._open_store = open_store
        self._store = open_store()
        state, quarters = load(self._store.connection)
        if state is None:
            percent = outside.level_percent(int(clock.machine()))
            begins = BEGINS_AT_PERCENT if percent is None else percent
            state = PlantState(level=self.physical.capacity * begins // 100)
        if state.level > self.physical.capacity:
            # The town file has changed.
            state = PlantState(level=self.physical.capacity, slot_end=state.slot_end)
        self.slot_end = state.slot_end  # end of the last slot that was counted; 0: none yet
        self._price_permille = outside.price_permille
        self._clock = clock
        self._core = PlantCore(self.physical, self._price_permille, state, quarters)
        self._arrived: deque[bytes] = deque()
        self._link = _link_of(settings, town, self._heard) if settings.head_end is not None else None
        self._has_two = settings.head_end is not None and len(settings.head_end) > 1
        self._liveness = Liveness(NO_COMMAND_S, NO_COMMAND_S)
        self._shell = DeviceShell(PLANT, self._store, self.tally, self._publish)
        self._effects: list[Effect[PlantChange]] = []
        self._written: PlantState | None = None
        self._last = PlantStep(level=state.level)
        self._told = PlantInputs(level=state.level)

    def told(self, at: EpochSeconds, region: Region) -> PlantInputs:
        """Return what the plant does in the slot that starts at ``at``."""
        self._told = PlantInputs(
            level=self._core.state.level,
            order=self._core.setpoint(at),
            supply=region.supply,
            alive=region.line_alive,
        )
        return self._told

    def happened(self, slot_end: EpochSeconds, step: PlantStep, *, measured: bool = True) -> None:
        """Count a slot of the world, and report if a report is due; the effects are done by ``run``."""
        self._last, self.slot_end = step, slot_end
        self._do(self._core.measured(slot_end - SLOT_S, step))
        if measured:
            self._do(self._core.report(self._told.supply, slot_end, voltage=self._told.alive))
        self._wake()

    def _do(self, effects: Iterable[Effect[PlantChange]]) -> None:
        """Queue effects; of many states, the last one is written, by ``due``."""
        self._effects += [one for one in effects if not (isinstance(one, Write) and isinstance(one.change, PlantState))]

    def due(self) -> list[Effect[PlantChange]]:
        """Carry out the commands that arrived; return and forget the effects to perform, with the newest state."""
        while self._arrived:
            self._do(self._core.receive(self._arrived.popleft(), self._clock.last_moment()))
        effects, self._effects = self._effects, []
        if self._core.state is not self._written:
            self._written = self._core.state
            effects.insert(0, Write(self._core.state))
        return effects

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; what happened is committed when it returns.

        A store that fails is opened again, and the plant goes on from what it knows.
        """
        link = None if self._link is None else asyncio.create_task(self._link.run())
        try:
            while not stop.is_set():
                try:
                    async with self._shell.running(stop):
                        while not stop.is_set():
                            await self._shell.perform(self.due())
                            await self._shell.rest(None)
                        # A slot may have passed during the last commit.
                        await self._shell.perform(self.due())
                except StoreError as error:
                    _log.error("%s", error)
                    await asyncio.sleep(REOPEN_AFTER_S)
                    self._reopen()
        finally:
            if link is not None:
                link.cancel()
                await asyncio.gather(link, return_exceptions=True)

    def _reopen(self) -> None:
        self._store.close()
        try:
            self._store = self._open_store()
        except StoreError as error:
            _log.error("%s", error)
        self._shell = DeviceShell(PLANT, self._store, self.tally, self._publish)
        self._written = None

    def close(self) -> None:
        """Close the store; the plant does not run any more."""
        self._store.close()

    def figures(self) -> PlantFigures:
        """Return the present figures; safe in any thread."""
        step, told = self._last, self._told
        return PlantFigures(
            level=step.level,
            capacity=self.physical.capacity,
            battery_w=mean_watts(step.charged - step.discharged),
            bought_w=mean_watts(step.bought - step.sold),
            price_permille=self._price_permille(self._clock.last_moment()),
            supply=told.supply,
            voltage=told.alive,
            connected=self._link is not None and self._link.connected,
        )

    def _publish(self, message: Publish) -> None:
        """Send a message; without a connection it is dropped: reports follow, and commands are sent again."""
        if self._link is None:
            return
        now = time.monotonic()
        if self._link.publish(message):
            self._liveness.expected(now)
        else:
            self._liveness.gone()
        if self._has_two and self._liveness.too_long(now):
            self._link.restart("silent", move=True)

    def _heard(self, _: str, payload: bytes) -> None:
        self._liveness.heard(time.monotonic())
        if len(self._arrived) < MAX_ARRIVED:
            self._arrived.append(payload)
            self._wake()

    def _wake(self) -> None:
        self._shell.wake()


def _link_of(settings: PlantSettings, town: Town, heard: Callable[[str, bytes], None]) -> MqttLink:
    assert settings.head_end is not None
    assert settings.tokens is not None
    token = load_tokens(settings.tokens).get(PLANT)
    if token is None:
        raise ConfigError(f"{settings.tokens}: has no token of {PLANT}; make one with: commonwatt utility register")
    return MqttLink(
        address=settings.head_end,
        identity=PLANT,
        token=token,
        subscribe=gateway_down(PLANT, "+"),
        on_message=heard,
        on_connect=lambda: None,
        rng=random.Random(f"{town.table.seed}/{PLANT}/link"),  # noqa: S311 - no secret
        tls=client_tls(settings.head_end_ca, settings.certificate, settings.head_end_revoked),
    )
