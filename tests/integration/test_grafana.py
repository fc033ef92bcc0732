"""A real Prometheus scrapes a running town, every query returns data; Alertmanager's routes by its own tool."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from harness.docs.marked import DOCS
from harness.docs.metrics import all_metrics, dashboards, panels_of
from harness.network.waiting import eventually
from harness.real.parts import real_part
from harness.real.prometheus import SHIPPED, Prometheus
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
FILES = dashboards()
PANELS = [
    (name, panel["title"], target["expr"])
    for name, dashboard in FILES.items()
    for panel in panels_of(dashboard)
    for target in panel.get("targets", ())
]
OF_THE_SCRAPE = {"__name__", "job", "instance", "part", "place"}
OF_THE_RULES = {"alertname", "alertstate", "severity"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Prometheus]]:
    folder = tmp_path_factory.mktemp("grafana")
    with ExitStack() as stack:
        site = stack.enter_context(Site(folder / "town", TOWN, speed=60, plain_text=False))
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", site.folder / "prometheus-targets.json"))
        site.start(*(part.name for part in site.layout.processes))
        eventually(lambda: len(prometheus.ask("up == 1")) == len(site.layout.parts))
        # Joined once, with gaps looked for, and scraped often enough for rates.
        eventually(lambda: prometheus.ask("commonwatt_utility_slots_total > 300"))
        yield site, prometheus


def filled_in(expr: str) -> str:
    """Replace Grafana's variables by values."""
    for name, value in (("$__rate_interval", "10s"), ("$microgrid", "r001")):
        expr = expr.replace(name, value)
    assert not re.search(r"\$[^1]", expr), "an unknown variable"
    return expr


def values(samples: list[dict[str, Any]]) -> list[str]:
    """Return the values that are numbers."""
    return [sample["value"][1] for sample in samples if sample["value"][1] != "NaN"]


@pytest.mark.parametrize(("dashboard", "title", "expr"), PANELS, ids=[f"{d}: {t}" for d, t, _ in PANELS])
def test_every_panel_shows_data(town: tuple[Site, Prometheus], dashboard: str, title: str, expr: str) -> None:
    _, prometheus = town
    eventually(lambda: values(prometheus.ask(filled_in(expr))))
    # The part after this only makes a mostly empty panel show a text.
    eventually(lambda: values(prometheus.ask(filled_in(expr).partition(" > 0 or on () ")[0])))


@pytest.mark.parametrize("dashboard", FILES)
def test_what_can_be_chosen_is_there(town: tuple[Site, Prometheus], dashboard: str) -> None:
    _, prometheus = town
    for variable in FILES[dashboard]["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
            assert prometheus.get(f"label/{label}/values", **{"match[]": metric}) == ["r001"]


def test_rules_are_evaluated_and_silent_in_a_town_that_is_well(town: tuple[Site, Prometheus]) -> None:
    _, prometheus = town

    def evaluated() -> list[dict[str, Any]]:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    eventually(evaluated)
    rules = evaluated()
    shipped = yaml.safe_load((SHIPPED / "rules.yml").read_text())
    assert len(rules) == sum(len(group["rules"]) for group in shipped["groups"])
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert [alert["labels"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"] == []


# Of a PostgreSQL server; tests/unit/utility/database/test_database.py reads them.
OF_BACKUPS = {"commonwatt_utility_archive_fails", "commonwatt_utility_backup_finished_timestamp_seconds"}
# Of a town with care; tests/unit/utility/care/test_listener.py reads its counts.
OF_CARE = {"commonwatt_utility_care_requests_total"}
TAKEOVER = {
    "clique_stopped",
    "false_takeovers_total",
    "handovers_total",
    "managed_by_another",
    "managed_microgrids",
    "refused_datagrams_total",
    "takeovers_total",
    "unmanaged_seconds",
}


def test_what_is_documented_is_shown_and_what_is_shown_is_documented(town: tuple[Site, Prometheus]) -> None:
    _, prometheus = town
    # The town has no adapter and no host; test_adapter.py and tests/unit/gateway/test_host.py read their metrics.
    documented = {
        info.name: info for part, of in all_metrics().items() if part not in ("adapter", "host") for info in of
    }
    shown = prometheus.get("metadata")
    ours = {name for name in shown if name.startswith(("commonwatt_", "process_"))}
    # Nor controllers that take over for each other; tests/unit/utility/cliques/test_cliques.py reads theirs.
    of_takeover = {name for name in documented if name.removeprefix("commonwatt_utility_") in TAKEOVER}
    assert len(of_takeover) == len(TAKEOVER)
    assert ours == documented.keys() - of_takeover - OF_BACKUPS - OF_CARE == shown.keys()
    for name, (told, *others) in shown.items():
        said = documented[name]
        assert (told["type"], told["help"].removesuffix(".")) == (said.kind, said.text.removesuffix(".")), name
        assert others == [] or name.startswith("process_")


def test_labels_are_few_and_none_is_a_meter_or_an_account(town: tuple[Site, Prometheus]) -> None:
    site, prometheus = town
    documented = {label for metrics in all_metrics().values() for info in metrics for label in info.labels}
    labels = set(prometheus.get("labels"))
    assert labels <= documented | OF_THE_SCRAPE | OF_THE_RULES | {"le"}
    microgrid = site.layout.town.microgrids["r001"]
    private = {str(meter.id) for meter in microgrid.meters} | {str(meter.account) for meter in microgrid.meters}
    private -= {"0"}  # no account
    assert len(private) > 5
    for label in labels - OF_THE_SCRAPE:
        found = set(prometheus.get(f"label/{label}/values"))
        assert not found & private, f"{label} tells whose data it is"
    (most,) = values(prometheus.ask('max(count by (__name__, instance) ({__name__=~"commonwatt_.+"}))'))
    assert int(most) <= 60, "rows of one metric of one process"


def test_promtool_finds_no_fault_with_the_metrics(town: tuple[Site, Prometheus]) -> None:
    site, _ = town
    check = [str(real_part("promtool")), "check", "metrics"]
    for part in site.layout.parts:
        with urllib.request.urlopen(f"http://{part.http}/metrics", timeout=30) as answer:
            done = subprocess.run(check, input=answer.read(), capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), part.name


def test_an_alert_fires_with_its_texts_and_ends_when_somebody_has_acted(town: tuple[Site, Prometheus]) -> None:
    site, prometheus = town
    damaged = site.folder / "r001" / "gateway.db.damaged-20260620T140000Z"

    def firing() -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = prometheus.get("alerts")["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]

    damaged.touch()
    eventually(firing)
    (alert,) = firing()
    assert (alert["labels"]["alertname"], alert["labels"]["alarm"]) == ("CommonwattGatewayWarning", "StoreQuarantined")
    assert alert["labels"]["place"] == "r001"
    assert alert["annotations"]["summary"] == "r001: The store was found damaged."
    damaged.unlink()
    eventually(lambda: not firing())


ROUTES = DOCS.parent / "grafana" / "prometheus" / "alertmanager.yml"


def test_shipped_routes_are_sound_and_call_a_person_for_what_is_critical() -> None:
    amtool = str(real_part("amtool"))
    subprocess.run([amtool, "check-config", str(ROUTES)], check=True, capture_output=True)
    for severity, name, receiver in (
        ("critical", "GatewaySilent", "on-call"),
        ("warning", "Residual", "office"),
        ("warning", "BacklogOld", "office"),
    ):
        asked = [amtool, "config", "routes", "test", f"--config.file={ROUTES}"]
        told = subprocess.run(
            [*asked, "alertname=CommonwattUtilityWarning", f"alarm={name}", f"severity={severity}"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.strip() == receiver
