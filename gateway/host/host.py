"""A host: the gateways of several controllers in one process, on one loop, and what it shows of them."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from prometheus_client.metrics_core import Metric

from commonwatt.config.files import load_settings
from commonwatt.config.settings import GatewaySettings, HostSettings
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.units import ControllerId
from commonwatt.network.addresses import is_loopback
from commonwatt.network.http_server import HttpRequest, HttpServer, Response
from commonwatt.runtime.clock import Clock, load_clock
from commonwatt.runtime.metric_families import MetricRow, counter, families, gauge, register_process, registry_of
from commonwatt.runtime.service import only_one, until_stopped
from commonwatt.runtime.watchdog import Watchdog
from gateway.loop.machine import THREADS
from gateway.shell import Shell


def file_of(config: Path, controller: ControllerId) -> Path:
    """Return the settings file of a controller of the host with the file ``config``."""
    return (config.parent / f"../{controller}/gateway.toml").resolve()


def hosted(config: Path, settings: HostSettings) -> dict[ControllerId, GatewaySettings]:
    """Return the settings of each controller of a host.

    Raises:
        ConfigError: A file is wrong, of another controller or clock, or has the store of another one.
    """
    gateways: dict[ControllerId, GatewaySettings] = {}
    stores: dict[Path, ControllerId] = {}
    for name in settings.controllers:
        path = file_of(config, name)
        gateway = load_settings(path, "gateway", GatewaySettings)
        if gateway.controller != name:
            raise ConfigError(f"{path}: is of {gateway.controller}, but {config} names it for {name}")
        if (gateway.clock and gateway.clock.resolve()) != (settings.clock and settings.clock.resolve()):
            raise ConfigError(f"{path}: its clock is another file than the clock of {config}; give both the same path")
        other = stores.setdefault(gateway.store.resolve(), name)
        if other != name:
            raise ConfigError(f"{path}: {gateway.store} is the store of {other} too; give each controller its own")
        gateways[name] = gateway
    return gateways


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


STATUS = "/status"

Controllers = Mapping[ControllerId, HostedController]


def status(controllers: Controllers) -> dict[str, object]:
    """Return the host's status as JSON: a line for each controller."""
    return {"controllers": {name: controller.line() for name, controller in controllers.items()}}


def serve(settings: HostSettings, controllers: Controllers, watchdog: Watchdog) -> HttpServer | None:
    """Serve the metrics and the status of a host; ``None``: its settings have no address for them.

    Raises:
        OSError: The address is in use.
    """
    if settings.http is None:
        return None
    registry = registry_of(lambda: host_metrics(controllers))
    register_process(registry, "host", watchdog)

    def pages(request: HttpRequest) -> Response | None:
        """Answer for one controller; nothing of ``/status`` leaves this machine, since no password protects it."""
        if request.method != "GET":
            return Response(status=405, body="nothing can be sent here\n")
        if not request.path.startswith(STATUS):
            return None
        if not is_loopback(f"{request.address}:0" if "." in request.address else f"[{request.address}]:0"):
            return Response(status=403, body="ask on the host itself: commonwatt status --config FILE\n")
        if request.path == STATUS:
            return None
        controller = controllers.get(request.path.removeprefix(f"{STATUS}/"))
        shell = None if controller is None else controller.shell
        if shell is None:
            return Response(status=404, body="no such controller runs here; see /status\n")
        return Response(body=json.dumps(shell.shown.status()), content_type="application/json")

    http = HttpServer(settings.http, registry, lambda: status(controllers), settings.http_hosts, pages=pages)
    watchdog.thread("http", http.start())
    return http


_ROWS: tuple[MetricRow[Controllers], ...] = (
    gauge("up", "1 while the controller's gateway runs.",
          lambda c: {name: controller.state != "stopped" for name, controller in c.items()}, "controller"),
    gauge("lag_seconds", "Real seconds by which a controller's work is late.",
          lambda c: {name: controller.lag_s for name, controller in c.items()}, "controller"),
    counter("stops", "Times a controller's gateway stopped by a failure.",
            lambda c: {name: controller.stops for name, controller in c.items()}, "controller"),
    counter("store_failures", "Times a store of a controller failed.",
            lambda c: {name: 0 if controller.shell is None else controller.shell.shown.store_failures
                       for name, controller in c.items()}, "controller"),
)  # fmt: skip


def host_metrics(controllers: Controllers) -> Iterator[Metric]:
    """Yield the metrics of a host, with a sample for each controller."""
    yield from families("commonwatt_host", _ROWS, controllers)


ENDS_WITHIN_S = 4.0  # real seconds for the end of all
LOOK_EVERY_S = 5.0  # real seconds between two looks for controllers that are slow


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
        name: HostedController(gateway, clock, watchdog, number / len(files))
        for number, (name, gateway) in enumerate(files.items())
    }
    http = serve(settings, controllers, watchdog)
    tasks = [asyncio.create_task(controller.keep(stop), name=name) for name, controller in controllers.items()]
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
        for name, controller in controllers.items():
            lag_s = controller.lag_s
            if lag_s >= SLOW_S and name not in slow:
                slow.add(name)
                log.warning("%s is slow: its work is %.0f s late; the others go on", name, lag_s)
            elif lag_s < SLOW_S and name in slow:
                slow.remove(name)
                log.warning("%s is no longer slow", name)
