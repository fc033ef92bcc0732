"""A host: the gateways of several controllers in one process, on one loop.

Each is opened and run by itself. One that fails is opened again, after a wait that grows; the others go on.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from commonwatt.config.host import HostSettings
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.units import ControllerId
from commonwatt.runtime.clock import Clock, load_clock
from commonwatt.runtime.service import only_one, until_stopped
from commonwatt.runtime.watchdog import Watchdog
from gateway.shell import Shell
from gateway.threads import THREADS

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0  # real seconds until a controller that stopped is opened again
ENDS_WITHIN_S = 4.0  # real seconds for the end of all
LIVED_S = 60.0  # real seconds of a run after which the wait begins anew

log = logging.getLogger(__name__)


class HostedController:
    """One controller of a host.

    Attributes:
        settings: Its settings.
        shell: Its running gateway; ``None``: it is stopped.
        why: Why it stopped last; empty: it never did.
        stops: How often it stopped.
    """

    def __init__(self, settings: GatewaySettings, clock: Clock, watchdog: Watchdog) -> None:
        self.settings = settings
        self.shell: Shell | None = None
        self.why, self.stops = "", 0
        self._clock, self._watchdog = clock, watchdog

    async def keep(self, stop: asyncio.Event) -> None:
        """Run it until ``stop`` is set; open it again when it stops."""
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
            shell = await THREADS.run(Shell.open, self.settings, self._clock)
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


async def run_host(
    settings: HostSettings, files: Mapping[ControllerId, GatewaySettings], stop: asyncio.Event, watchdog: Watchdog
) -> None:
    """Run the gateways of a host until ``stop`` is set.

    Args:
        settings: The host's settings.
        files: Those of each controller.

    Raises:
        ConfigError: The clock's file is missing or wrong.
        OSError: The address of ``http`` is in use.
    """
    clock = load_clock(settings.clock)
    controllers = {name: HostedController(one, clock, watchdog) for name, one in files.items()}
    tasks = [asyncio.create_task(each.keep(stop), name=name) for name, each in controllers.items()]
    watchdog.ready(f"{len(files)} controllers: {', '.join(list(files)[:10])}")
    try:
        await until_stopped(stop, tasks)
    finally:
        stop.set()
        await asyncio.wait(tasks, timeout=ENDS_WITHIN_S)
