"""The alert rules, as Prometheus itself evaluates them: each fires when it must, and only then (promtool test rules).

A case is what series do in the course of minutes, in promtool's notation (``0+1x30``: from 0, one more each minute,
thirty times; ``_``: no sample), and at which minutes its alert must fire and must not. Every alert has cases for: when
it must, after recovery, all well, a fresh start, a restart of the process (counters begin at 0 again), and nothing
there at all.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.alarms import KINDS as OF_GATEWAYS
from harness.docs.generate import RUNBOOKS
from harness.docs.marked import DOCS
from harness.docs.metrics import all_metrics
from harness.real.parts import real_part
from utility.alarms.alarm import KINDS as OF_UTILITY

RULES_FILE = DOCS.parent / "grafana" / "prometheus" / "rules.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]


@dataclass(frozen=True)
class Case:
    """What happens to series, and when an alert fires."""

    alert: str  # its name, without ``Commonwatt``
    what: str  # what happens
    series: dict[str, str]  # values by series
    fires: tuple[int, ...] = ()  # minutes at which it fires
    silent: tuple[int, ...] = ()  # minutes at which it does not


def of(part: str, place: str, name: str, **labels: str) -> str:
    """Return a series as it is scraped from a part."""
    every = {"instance": f"{place}:9100", "part": part, "place": place, **labels}
    text = ",".join(f'{key}="{value}"' for key, value in every.items())
    return f"{name}{{{text}}}"


def gateway(name: str, place: str = "r001", **labels: str) -> str:
    return of("gateway", place, f"commonwatt_gateway_{name}", **labels)


def utility(name: str, **labels: str) -> str:
    return of("utility", "utility", f"commonwatt_utility_{name}", **labels)


CERTIFICATE = of("broker", "r001", "commonwatt_broker_certificate_expiry_timestamp_seconds", use="mqtt")


def database(name: str, place: str) -> str:
    return of("patroni", place, f"patroni_{name}", scope="centertown")


OTHER_ACTIVE = of("utility", "utility-2", "commonwatt_utility_active")


def counting(alert: str, series: str, window: int) -> Iterator[Case]:
    """Cases of an alert on a counter that grew within so many minutes."""
    after = window + 15
    yield Case(alert, "one more", {series: f"0x9 1x{after + 30}"}, fires=(11,), silent=(9, after))
    yield Case(alert, "a restart: from 7 to 0", {series: "7x19 0x30"}, silent=(21, 40))
    yield Case(
        alert, "a restart, and one more before it is seen", {series: f"7x19 1x{after}"}, fires=(21,), silent=(19,)
    )
    yield Case(alert, "first seen as 5", {series: "_x9 5x60"}, silent=(11, 60))


def standing(alert: str, series: dict[str, str], first: int) -> Iterator[Case]:
    """Cases of an alert on what is wrong, with ``values`` that become so at 10 and are well again at 100."""
    yield Case(alert, "something is wrong, and mended", series, fires=(10 + first, 95), silent=(5, 9 + first, 101))


CASES = [
    *standing("UtilityCritical", {utility("alarms", alarm="GatewaySilent", severity="critical"): "0x9 2x89 0x30"}, 0),
    *standing("UtilityWarning", {utility("alarms", alarm="BacklogOld", severity="warning"): "0x9 1x89 0x30"}, 0),
    Case(
        "UtilityCritical",
        "a warning",
        {utility("alarms", alarm="BacklogOld", severity="warning"): "1x60"},
        silent=(60,),
    ),
    *standing("GatewayCritical", {gateway("alarms", alarm="NoRecords", severity="critical"): "0x9 1x89 0x30"}, 5),
    *standing("GatewayWarning", {gateway("alarms", alarm="DiskNearlyFull", severity="warning"): "0x9 1x89 0x30"}, 10),
    Case(
        "GatewayWarning",
        "connecting after a start",
        {gateway("alarms", alarm="GatewayDisconnected", severity="warning"): "_x5 1x5 0x20"},
        silent=(6, 20),
    ),
    *standing("NoActiveUtility", {utility("active"): "1x9 0x89 1x30"}, 1),
    Case("NoActiveUtility", "the other is active", {utility("active"): "0x30", OTHER_ACTIVE: "1x30"}, silent=(5, 20)),
    Case(
        "LeaseFlaps",
        "from 10 to 50 it changes each minute",
        {utility("active"): f"1x9{' 0 1' * 20} 1x200", OTHER_ACTIVE: "0x300"},
        fires=(20, 90),
        silent=(5, 14, 120),
    ),
    Case("LeaseFlaps", "one failover", {utility("active"): "1x9 0x90", OTHER_ACTIVE: "0x9 1x90"}, silent=(12, 60)),
    Case(
        "UtilityNotScraped",
        "its target is gone from 20 to 60",
        {of("utility", "utility", "up"): "1x20 _x39 1x30", of("gateway", "r001", "up"): "1x90"},
        fires=(40,),
        silent=(10, 25, 62),
    ),
    *(
        case
        for part in ("adapter", "broker", "gateway", "meters", "utility")
        for case in standing("PartDown", {of(part, "r001", "up"): "1x9 0x89 1x30"}, 5)
    ),
    Case("PartDown", "somebody else's", {'up{job="node",instance="x:9100"}': "0x60"}, silent=(30,)),
    Case(
        "Restarting",
        "it dies every five minutes",
        {of("gateway", "r001", "process_start_time_seconds"): "0x9 10x4 15x4 20x4 20x90"},
        fires=(25,),
        silent=(9, 14, 19, 100),
    ),
    Case("Restarting", "once", {of("gateway", "r001", "process_start_time_seconds"): "0x9 10x90"}, silent=(11, 60)),
    Case(
        "Restarting",
        "an adapter that dies every five minutes",
        {of("adapter", "r001", "process_start_time_seconds"): "0x9 10x4 15x4 20x4 20x90"},
        fires=(25,),
        silent=(9, 14, 19, 100),
    ),
    *counting("Stuck", of("adapter", "r001", "commonwatt_adapter_stuck_total", what="writer"), 15),
    *counting("Faults", of("adapter", "r001", "commonwatt_adapter_unhandled_exceptions_total"), 60),
    *counting("Stuck", of("meters", "r001", "commonwatt_meters_stuck_total", what="writer"), 15),
    *counting("Stuck", gateway("stuck_total", what="loop"), 15),
    *counting("Faults", of("broker", "r001", "commonwatt_broker_unhandled_exceptions_total"), 60),
    *counting("Faults", gateway("callback_failures_total"), 60),
    Case(
        "Faults",
        "of both kinds at once",
        {gateway("callback_failures_total"): "0x9 2x60", gateway("unhandled_exceptions_total"): "0x9 1x60"},
        fires=(12,),
    ),
    *standing(
        "NoPrimary",
        {database("primary", at): "0x200" for at in ("db2", "db3")} | {database("primary", "db1"): "1x9 0x89 1x60"},
        1,
    ),
    Case(
        "NoPrimary",
        "another machine takes over at once",
        {database("primary", "db1"): "1x9 _x60", database("primary", "db2"): "0x10 1x60"},
        silent=(9, 11, 12, 40),
    ),
    *standing("DatabaseMachineDown", {of("patroni", "db3", "up"): "1x9 0x89 1x60"}, 5),
    *standing("DatabaseMachineDown", {of("etcd", "db3", "up"): "1x9 0x89 1x60"}, 5),
    *standing("DatabaseMachineDown", {database("postgres_running", "db3"): "1x9 0x89 1x60"}, 5),
    Case(
        "ReplicationLag",
        "db3 stops at 10 and is back at 60",
        {
            database("primary", "db1"): "1x200",
            database("replica", "db3"): "1x200",
            database("xlog_location", "db1"): "0+100000000x200",
            database("xlog_received_location", "db3"): "0+100000000x9 900000000x49 6000000000+100000000x140",
            # Its own figures of the other role are 0.
            database("xlog_received_location", "db1"): "0x200",
            database("xlog_location", "db3"): "0x200",
            database("primary", "db3"): "0x200",
            database("replica", "db1"): "0x200",
        },
        fires=(25, 58),
        silent=(5, 20, 61, 100),
    ),
    Case(
        "Failovers",
        "three within an hour, while db1 stops and starts",
        {
            database("postgres_timeline", "db1"): "1x9 0x9 2x9 4x200",
            database("postgres_timeline", "db2"): "1x9 2x19 4x200",
        },
        fires=(31, 60),
        silent=(9, 25, 120),
    ),
    *standing("FailoverPaused", {database("is_paused", "db1"): "0x9 1x89 0x60"}, 60),
    *standing("EtcdNoLeader", {of("etcd", "db1", "etcd_server_has_leader"): "1x9 0x89 1x60"}, 1),
    *standing(
        "EtcdNearlyFull",
        {
            of("etcd", "db1", "etcd_mvcc_db_total_size_in_bytes"): "100x9 450x89 100x60",
            of("etcd", "db1", "etcd_server_quota_backend_bytes"): "500x200",
        },
        10,
    ),
    # Time begins at 0 here, so that a certificate's end is the seconds it has left.
    Case(
        "CertificateExpiring",
        "thirteen days are left, and it is renewed",
        {CERTIFICATE: f"{13 * 86400}x59 {90 * 86400}x60"},
        fires=(15, 59),
        silent=(5, 61),
    ),
    Case("CertificateExpiring", "fifteen days are left", {CERTIFICATE: f"{15 * 86400}x60"}, silent=(30, 60)),
    Case(
        "CertificateExpired",
        "a day is left at 60, and it is renewed at 120",
        {CERTIFICATE: f"{86400 + 3600}x119 {90 * 86400}x60"},
        fires=(62, 119),
        silent=(30, 59, 121),
    ),
]
OF_ALARMS = {f"commonwatt{part}{severity}" for part in ("utility", "gateway") for severity in ("critical", "warning")}
NAMES = [rule["alert"] for rule in RULES]


def firing(alert: str, labels: str = "") -> str:
    return f'count(ALERTS{{alertname="Commonwatt{alert}",alertstate="firing"{labels}}}) or vector(0)'


def promtool_test(case: Case) -> dict[str, Any]:
    """A test in promtool's form."""
    checks = [(minute, firing(case.alert, with_labels(case.alert)), 1) for minute in case.fires]
    checks += [(minute, firing(case.alert), 0) for minute in case.silent]
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for minute, expression, value in checks
        ],
    }


def with_labels(alert: str) -> str:
    """Ask for every label that the alert's texts name, so that none of them is left empty."""
    rule = next(rule for rule in RULES if rule["alert"] == f"Commonwatt{alert}")
    names = sorted(set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))))
    return "".join(f',{name}!=""' for name in names)


def promtool(*arguments: object) -> None:
    done = subprocess.run([real_part("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def written(file: Path, rules: Path, tests: list[dict[str, Any]]) -> Path:
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    return file


@pytest.mark.real
def test_rules_fire_when_they_must_and_only_then(tmp_path: Path) -> None:
    files = []
    for rule in RULES:
        alone = tmp_path / f"{rule['alert']}.rules.yml"  # all in one would be evaluated 28 times as often
        alone.write_text(json.dumps({"groups": [{"name": "one", "rules": [rule]}]}))
        cases = [promtool_test(case) for case in CASES if f"Commonwatt{case.alert}" == rule["alert"]]
        files.append(written(tmp_path / f"{rule['alert']}.yml", alone, cases))
    promtool("test", "rules", *files)


@pytest.mark.real
def test_rules_are_silent_where_there_is_nothing(tmp_path: Path) -> None:
    check = {"expr": "count(ALERTS) or vector(0)", "eval_time": "60m", "exp_samples": [{"labels": "{}", "value": 0}]}
    series = [{"series": 'up{part="utility"}', "values": "1x60"}]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [check]}
    promtool("test", "rules", written(tmp_path / "nothing.yml", RULES_FILE, [test]))


@pytest.mark.real
def test_prometheus_takes_the_files() -> None:
    promtool("check", "rules", RULES_FILE)
    promtool("check", "config", "--syntax-only", RULES_FILE.with_name("prometheus.yml"))


def test_every_rule_is_tested_both_ways() -> None:
    for name in NAMES:
        cases = [case for case in CASES if f"Commonwatt{case.alert}" == name]
        assert any(case.fires and case.silent and max(case.silent) > max(case.fires) for case in cases), (
            f"{name} recovers"
        )
    assert {f"Commonwatt{case.alert}" for case in CASES} == set(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_rule_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    address, _, page = rule["annotations"]["runbook_url"].partition(" }}/")
    assert address.startswith("{{ or $externalLabels.commonwatt_utility ")
    name = rule["alert"].lower()
    assert page == f"runbooks#{name if name not in OF_ALARMS else 'commonwatt{{ $labels.alarm | toLower }}'}"


def test_every_alarm_has_a_runbook() -> None:
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL))
    rules = {name.removeprefix("Commonwatt") for name in NAMES if name.lower() not in OF_ALARMS}
    alarms = rules | OF_UTILITY.keys() | OF_GATEWAYS.keys()
    assert sorted(sections) == sorted(f"Commonwatt{name}" for name in alarms)
    for name, text in sections.items():
        for heading in ("**Means.**", "**Look.**", "**Do.**"):
            assert heading in text, f"{name}: no {heading}"


@pytest.mark.parametrize(
    ("labels", "address"),
    [({}, "http://127.0.0.1:8080"), ({"commonwatt_utility": "https://utility.example"}, "https://utility.example")],
)
@pytest.mark.real
def test_an_alert_names_its_alarm_and_leads_to_its_runbook_at_the_utility(
    labels: dict[str, str], address: str, tmp_path: Path
) -> None:
    series = gateway("alarms", alarm="NoRecords", severity="critical")
    test = {
        "interval": "1m",
        "external_labels": labels,
        "input_series": [{"series": series, "values": "1x30"}],
        "alert_rule_test": [
            {
                "alertname": "CommonwattGatewayCritical",
                "eval_time": "10m",
                "exp_alerts": [
                    {
                        "exp_labels": labels_of(series),
                        "exp_annotations": {
                            "summary": "r001: No meter has delivered a reading for 15 minutes.",
                            "description": "Its page shows the figures. The console lists each alarm.",
                            "runbook_url": f"{address}/runbooks#commonwattnorecords",
                        },
                    }
                ],
            }
        ],
    }
    promtool("test", "rules", written(tmp_path / "test.yml", RULES_FILE, [test]))


def labels_of(series: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


def test_rules_name_metrics_that_exist() -> None:
    known = {info.name for metrics in all_metrics().values() for info in metrics}
    for rule in RULES:
        patterns = re.findall(r'__name__=~"([^"]+)"', rule["expr"])
        plain = re.sub(r'__name__=~"[^"]+"', "", rule["expr"])
        for pattern in patterns + re.findall(r"\b(?:commonwatt|process)_\w+\b", plain):
            assert any(re.fullmatch(pattern, name) for name in known), f"{rule['alert']}: no metric {pattern}"
