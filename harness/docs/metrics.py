"""Lists the metrics of every part, for ``docs/reference/metrics.md`` and the tests of dashboards and alerts."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from sqlalchemy import create_engine

from adapters.metrics import Figures as AdapterFigures
from adapters.metrics import adapter_metrics
from broker.metrics import BrokerMetrics
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control.supply import SupplyState
from commonwatt.runtime.metric_families import families
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.runtime.watchdog_metrics import ROWS as WATCHDOG
from gateway.controller import Controller
from gateway.host.shown import host_metrics
from gateway.shown.metrics import Figures as GatewayFigures
from gateway.shown.metrics import gateway_metrics
from gateway.store.store import Store
from meter_sim.metrics import Figures as FleetFigures
from meter_sim.metrics import PlantFigures, Power, TownFigures, fleet_metrics, town_metrics
from utility.alarms.metrics import own_alarms
from utility.assembly.metrics import UtilityMetrics
from utility.care.api.routes import requests_of
from utility.database.postgres.backups import Backups
from utility.lasting.jobs import metrics_of
from utility.overview.metrics import town_metrics as overview_metrics
from utility.readings.metrics import gateways_said
from utility.supply.metrics import plant_metrics
from utility.takeover.groups import Groups
from utility.takeover.metrics import takeover_metrics


@dataclass(frozen=True)
class MetricInfo:
    """One metric as Prometheus sees it."""

    name: str  # its name; a counter's ends in ``_total``
    kind: str  # counter, gauge or histogram
    labels: tuple[str, ...]  # names of its labels
    text: str  # its help text


def all_metrics() -> dict[str, list[MetricInfo]]:
    """Return the metrics of each part, from registries without a running service."""
    own = {
        "adapter": _infos(adapter_metrics(_no_adapter_figures(), Counter())),
        "broker": _of(BrokerMetrics().registry),
        "gateway": _gateway_metrics(),
        "host": _infos(host_metrics({})),
        "meters": _infos(fleet_metrics(FleetFigures(time=0), Counter())) + _infos(town_metrics(_no_town())),
        "utility": _utility_metrics(),
    }
    found = {part: metrics + _watchdog_metrics(part) for part, metrics in own.items()}
    return found | {"every part": _process_metrics()}


def _no_adapter_figures() -> AdapterFigures:
    return AdapterFigures(
        source_connected=False,
        source_dropped=0,
        meters=0,
        connected=0,
        made=0,
        acknowledged=0,
        gaps=0,
        disobeying=0,
        unsafe=0,
        unconfirmed=0,
        dropped=0,
        source_oversize=0,
    )


def _watchdog_metrics(part: str) -> list[MetricInfo]:
    return _infos(families(f"commonwatt_{part}", WATCHDOG, Watchdog(Notifier({}))))


def _process_metrics() -> list[MetricInfo]:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return [replace(info, text=info.text if info.text.endswith(".") else f"{info.text}.") for info in _of(registry)]


def _gateway_metrics() -> list[MetricInfo]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "gateway.db")
        found = _infos(gateway_metrics(Controller(GatewaySettings(microgrid="r001"), store, {}), GatewayFigures()))
        store.close()
    return found


def _utility_metrics() -> list[MetricInfo]:
    metrics = UtilityMetrics()
    metrics.watch_gateways(lambda: gateways_said({}, {}, (), 0.0), lambda: 0)
    metrics.watch(lambda: plant_metrics(None, 0.0))
    metrics.watch(lambda: overview_metrics(dict))
    metrics.watch(lambda: metrics_of({}))
    metrics.watch(lambda: takeover_metrics(Groups([], 0), {}, 0.0))
    Backups("", create_engine("sqlite://"), metrics)
    metrics.watch_health(list)
    metrics.watch(lambda: own_alarms({}))
    metrics.watch_disk(lambda: None)
    metrics.watch_notifications({})
    metrics.watch(lambda: requests_of({}))
    metrics.watch_connection(lambda: {"": True}, dict, lambda: 0, lambda: 0)
    return _of(metrics.registry)


def _no_town() -> TownFigures:
    plant = PlantFigures(
        level=0,
        capacity=0,
        battery_w=0,
        bought_w=0,
        price_permille=0,
        supply=SupplyState.NORMAL,
        voltage=True,
        connected=False,
    )
    return TownFigures(time=0, lag_s=0.0, microgrids=0, closed=0, power=Power(), plant=plant)


def _of(registry: CollectorRegistry) -> list[MetricInfo]:
    """List a registry's metrics; labels come from the collector if it has them, else from its samples."""
    found: list[MetricInfo] = []
    for collector in registry._collector_to_names:
        own: tuple[str, ...] | None = getattr(collector, "_labelnames", None)
        found += [_info(metric, own) for metric in collector.collect()]
    return found


def _infos(metrics: Iterable[Metric]) -> list[MetricInfo]:
    return [_info(metric, None) for metric in metrics]


def _info(metric: Metric, labels: tuple[str, ...] | None) -> MetricInfo:
    labels = tuple(getattr(metric, "_labelnames", ())) if labels is None else labels
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return MetricInfo(name, metric.type, labels, metric.documentation)
