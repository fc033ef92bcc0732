"""A host: the gateways of several controllers in one process, on one loop. One that fails does not stop the others."""

import asyncio
import logging
from collections.abc import Mapping

from commonwatt.config.host import HostSettings
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.units import ControllerId
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.watchdog import Watchdog
from gateway.host.controller import SLOW_S, HostedController
from gateway.host.shown import serve

ENDS_WITHIN_S = 4.0  # real seconds for the end of all
LOOK_EVERY_S = 5.0  # real seconds between two looks for controllers that are slow

log = logging.getLogger(__name__)


async def run_host(
    settings: HostSettings, files: Mapping[ControllerId, GatewaySettings], stop: asyncio.Event, watchdog: Watchdog
) -> None:
    """Run the gateways of a host until ``stop`` is set.

    Raises:
        ConfigError: The clock's file is missing or wrong.
        OSError: The address of ``http`` is in use.
    """
    clock = load_clock(settings.clock)
    controllers = {
        name: HostedController(one, clock, watchdog, number / len(files))
        for number, (name, one) in enumerate(files.items())
    }
    http = serve(settings, controllers, watchdog)
    tasks = [asyncio.create_task(each.keep(stop), name=name) for name, each in controllers.items()]
    tasks.append(asyncio.create_task(_look(controllers), name="the look for slow controllers"))
    watchdog.ready(f"{len(files)} controllers: {', '.join(list(files)[:10])}")
    try:
        await until_stopped(stop, tasks)
    finally:
        stop.set()
        tasks.pop().cancel()
        if http is not None:
            http.stop()
        await asyncio.wait(tasks, timeout=ENDS_WITHIN_S)


async def _look(controllers: Mapping[ControllerId, HostedController]) -> None:
    """Log which controllers become slow, and cease to be."""
    slow: set[ControllerId] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for name, each in controllers.items():
            lag_s = each.lag_s
            if lag_s >= SLOW_S and name not in slow:
                slow.add(name)
                log.warning("%s is slow: its work is %.0f s late; the others go on", name, lag_s)
            elif lag_s < SLOW_S and name in slow:
                slow.remove(name)
                log.warning("%s is no longer slow", name)
