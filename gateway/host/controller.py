"""One controller of a host: its gateway is opened and run by itself, and opened again when it stopped."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Literal

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import CommonwattError
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.service import only_one
from commonwatt.runtime.watchdog import Watchdog
from gateway.loop.threads import THREADS
from gateway.shell import Shell

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0  # real seconds until a gateway that stopped is opened again
LIVED_S = 60.0  # real seconds of a run after which the wait begins anew
SLOW_S = 5.0  # real seconds of lag from which a controller is called slow

log = logging.getLogger(__name__)


class HostedController:
    """One controller.

    Args:
        phase: By which share of each period its periodic work is later than the first controller's, 0 to 1.
    """

    def __init__(self, settings: GatewaySettings, clock: Clock, watchdog: Watchdog, phase: float) -> None:
        self.settings = settings
        self.shell: Shell | None = None  # its running gateway; ``None``: it is stopped
        self.why = "it is being opened"  # why it stopped last
        self.stops = 0  # times it stopped by a failure
        self._clock, self._watchdog, self._phase = clock, watchdog, phase

    async def keep(self, stop: asyncio.Event) -> None:
        """Run it until ``stop`` is set; open it again when it stops, after a wait that grows."""
        wait_s = FIRST_WAIT_S
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._run(stop)
            except (CommonwattError, OSError) as error:
                self._stopped(str(error))
            except Exception as error:
                log.exception("%s failed", self.settings.controller)
                self._stopped(repr(error))
            if time.monotonic() - began >= LIVED_S:
                wait_s = FIRST_WAIT_S
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _run(self, stop: asyncio.Event) -> None:
        with only_one(self.settings.store, "another gateway"):
            shell = await THREADS.run(Shell.open, self.settings, self._clock, self._phase)
            self.shell = shell
            try:
                await shell.run(stop, self._watchdog, alone=False)
            finally:
                self.shell = None
                await shell.settled()

    def _stopped(self, why: str) -> None:
        self.why = why
        self.stops += 1
        log.error("%s is stopped (%s); the others go on", self.settings.controller, why)

    @property
    def lag_s(self) -> float:
        """Real seconds by which its work is late."""
        return 0.0 if self.shell is None else self.shell.shown.lag_s

    @property
    def state(self) -> Literal["running", "slow", "stopped"]:
        """Whether it works."""
        if self.shell is None or self.shell.shown.failing:
            return "stopped"
        return "slow" if self.lag_s >= SLOW_S else "running"

    def line(self) -> dict[str, object]:
        """Return its line of the host's status, as JSON."""
        shell = self.shell
        if shell is None:
            return {"state": "stopped", "why": self.why, "stops": self.stops, "lag_s": 0.0}
        shown, committed_s = shell.shown, shell.shown.committed_s
        return {
            "state": self.state,
            "why": shown.failing,
            "stops": self.stops,
            "lag_s": round(self.lag_s, 1),
            "committed_s": None if committed_s is None else round(committed_s),
            "store_failures": shown.store_failures,
        }
