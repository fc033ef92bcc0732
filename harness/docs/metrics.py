"""The metrics of every part, Grafana's dashboards, and Prometheus' rules that are made from the alarms."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from sqlalchemy import create_engine

from adapters.metrics import AdapterFigures, adapter_metrics
from broker.metrics import BrokerMetrics
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control import SupplyState
from commonwatt.runtime.metric_families import WATCHDOG_ROWS, families
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from gateway.alarms import KINDS as OF_GATEWAYS
from gateway.controller import Controller
from gateway.host.host import host_metrics
from gateway.shown.metrics import ShellFigures as GatewayFigures
from gateway.shown.metrics import gateway_metrics
from gateway.store.store import Store
from grafana.generator.__main__ import FOLDER
from harness.docs.marked import DOCS
from meter_sim.metrics import FleetFigures, PlantFigures, SlotPower, TownFigures, fleet_metrics, town_metrics
from utility.alarms.alarm import KINDS as OF_UTILITY
from utility.alarms.metrics import own_alarms
from utility.assembly.metrics import UtilityMetrics
from utility.care.api.routes import requests_of
from utility.cliques.cliques import Cliques
from utility.cliques.metrics import takeover_metrics
from utility.database.postgres.backups import Backups
from utility.lasting.jobs import metrics_of
from utility.overview.metrics import town_metrics as overview_metrics
from utility.readings.metrics import gateways_said
from utility.supply.metrics import plant_metrics


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
    return _infos(families(f"commonwatt_{part}", WATCHDOG_ROWS, Watchdog(Notifier({}))))


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
    metrics.watch(lambda: takeover_metrics(Cliques([], 0), {}, 0.0))
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
    return TownFigures(time=0, lag_s=0.0, microgrids=0, closed=0, power=SlotPower(), plant=plant)


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


def dashboards() -> dict[str, dict[str, Any]]:
    """Return each dashboard by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows and panels from top to bottom, with those inside folded rows."""
    return [each for panel in dashboard["panels"] for each in (panel, *panel.get("panels", ()))]


RULES = DOCS.parent / "grafana" / "prometheus" / "rules.yml"
MARK = (
    "  # The rules below are made by `make docs`: the alarms that the utility and the gateways raise by themselves.\n"
)
URL = '{{ or $externalLabels.commonwatt_utility "http://127.0.0.1:8080" }}'

_LEFT_OUT = ("controller", "head_end", "reason", "task", "repository", "check", "state")
_LABELS = dict.fromkeys(_LEFT_OUT, "…")


def rules_file() -> str:
    """Return ``grafana/prometheus/rules.yml``: its text up to the mark, and the rules made from the alarms."""
    head, _, _ = RULES.read_text(encoding="utf-8").partition(MARK)
    utility = {name: (kind.severity.value, kind.summary.format(**_LABELS)) for name, kind in OF_UTILITY.items()}
    gateways = {name: (kind.severity, kind.title) for name, kind in OF_GATEWAYS.items() if not kind.is_heard}
    rules = [
        _rule("Utility", "utility", severity, "0s", "", utility, "Alarms that wait for a person: {{ $value }}.")
        for severity in ("critical", "warning")
    ] + [
        # Conditions of a gateway stand at once: what passes by itself in these minutes needs no person.
        _rule("Gateway", "gateway", severity, wait, "{{ $labels.place }}: ", gateways, "Its page shows the figures.")
        for severity, wait in (("critical", "5m"), ("warning", "10m"))
    ]
    return head + MARK + "  - name: commonwatt-alarms\n    rules:\n" + "\n".join(rules)


def _rule(
    title: str, part: str, severity: str, wait: str, where: str, kinds: Mapping[str, tuple[str, str]], text: str
) -> str:
    words = [(name, summary) for name, (each, summary) in sorted(kinds.items()) if each == severity]
    chosen = [f'{{{{- else if eq $labels.alarm "{name}" }}}}{where}{summary}' for name, summary in words]
    chosen[0] = chosen[0].replace("{{- else if", "{{ if")
    return "\n".join(
        (
            f"      - alert: Commonwatt{title}{severity.capitalize()}",
            f'        expr: commonwatt_{part}_alarms{{severity="{severity}"}} > 0',
            f"        for: {wait}",
            f"        labels: {{severity: {severity}}}",
            "        annotations:",
            "          summary: >-",
            *(f"            {each}" for each in chosen),
            "            {{- end }}",
            f'          description: "{text} The console lists each alarm."',
            f"          runbook_url: '{URL}/runbooks#commonwatt{{{{ $labels.alarm | toLower }}}}'",
            "",
        )
    )
