"""What a host shows: a line and a few metrics for each of its controllers, and a controller's own status."""

import json
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from commonwatt.config.host import HostSettings
from commonwatt.model.units import ControllerId
from commonwatt.network.addresses import is_loopback
from commonwatt.network.http_pages import Request, Response
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.metric_families import Row, counter, families, gauge, registry_of
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.runtime.watchdog_metrics import register_process
from gateway.host.controller import HostedController

STATUS = "/status"

Controllers = Mapping[ControllerId, HostedController]


def status(controllers: Controllers) -> dict[str, object]:
    """Return the host's status as JSON: a line for each controller."""
    return {"controllers": {name: each.line() for name, each in controllers.items()}}


def serve(settings: HostSettings, controllers: Controllers, watchdog: Watchdog) -> HttpServer | None:
    """Serve the metrics and the status of a host; ``None``: its settings have no address for them.

    Raises:
        OSError: The address is in use.
    """
    if settings.http is None:
        return None
    registry = registry_of(lambda: host_metrics(controllers))
    register_process(registry, "host", watchdog)

    def pages(request: Request) -> Response | None:
        """Answer for one controller; nothing of ``/status`` leaves this machine, since no password protects it."""
        if request.method != "GET":
            return Response(status=405, body="nothing can be sent here\n")
        if not request.path.startswith(STATUS):
            return None
        if not is_loopback(f"{request.address}:0" if "." in request.address else f"[{request.address}]:0"):
            return Response(status=403, body="ask on the host itself: commonwatt status --config FILE\n")
        if request.path == STATUS:
            return None
        one = controllers.get(request.path.removeprefix(f"{STATUS}/"))
        shell = None if one is None else one.shell
        if shell is None:
            return Response(status=404, body="no such controller runs here; see /status\n")
        return Response(body=json.dumps(shell.shown.status()), content_type="application/json")

    http = HttpServer(settings.http, registry, lambda: status(controllers), settings.http_hosts, pages=pages)
    watchdog.thread("http", http.start())
    return http


_ROWS: tuple[Row[Controllers], ...] = (
    gauge("up", "1 while the controller's gateway runs.",
          lambda c: {name: one.state != "stopped" for name, one in c.items()}, "controller"),
    gauge("lag_seconds", "Real seconds by which a controller's work is late.",
          lambda c: {name: one.lag_s for name, one in c.items()}, "controller"),
    counter("stops", "Times a controller's gateway stopped by a failure.",
            lambda c: {name: one.stops for name, one in c.items()}, "controller"),
    counter("store_failures", "Times a store of a controller failed.",
            lambda c: {n: 0 if one.shell is None else one.shell.shown.store_failures for n, one in c.items()},
            "controller"),
)  # fmt: skip


def host_metrics(controllers: Controllers) -> Iterator[Metric]:
    """Yield the metrics of a host, with a sample for each controller."""
    yield from families("commonwatt_host", _ROWS, controllers)
