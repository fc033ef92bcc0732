"""The utility's own alarms are those of Prometheus's rules, in name, severity, wait and words."""

import re
from typing import Any

import pytest
import yaml

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.time.now import Trust
from commonwatt.protocol.plant_messages import PlantReport
from harness.docs.marked import DOCS
from harness.worlds.utility import a_heartbeat
from utility.alarms.conditions import Counted, Facts, JobFacts, conditions, is_judged
from utility.alarms.lifecycle import Condition

RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DOCS.parent / "grafana" / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
GB = 10**9
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def report(**fields: Any) -> PlantReport:
    well: dict[str, Any] = {"level_mwh": 50, "keep_mwh": 20, "supply": SupplyState.NORMAL}
    return PlantReport.model_construct(**(well | fields))


def line(used: int, expected: int | None = None) -> dict[str, Any]:
    month = {"used": (used, 0), "allowance": GB}
    return month if expected is None else month | {"expected": (0, expected)}


WELL = Facts(
    silent_s={"r001": 300, "r002": 20},
    managed_by={"r001": "r002"},
    unmanaged_s={"r001": 60},
    said={
        "r001": a_heartbeat(trust=Trust.NETWORK, lte=line(GB, GB)),
        "r002": a_heartbeat(trust=Trust.HARDWARE, cert_days=21),
    },
    plant=(300.0, report()),
    disk=(20, 100),
    certificates={"mqtt": 15 * 86_400},
    counted=Counted(jobs=(JobFacts(name="gaps"),), findings={"spike": 0}),
)
BAD = Facts(
    trusted=False,
    silent_s={"r001": 301, "r002": 20},
    managed_by={"r002": "r003"},
    unmanaged_s={"r001": 61},
    stopped={"r001": "KeyError: 7"},
    head_ends={"10.0.0.1:1884": True, "10.0.0.2:1884": False},
    said={"r001": a_heartbeat(trust=Trust.METERS, backlog_age_s=86_401, lte=line(GB + 1, GB + 1), cert_days=2)},
    over_quota={"r001": "dead_letters_full"},
    plant=(301.0, report(level_mwh=19, supply=SupplyState.LOW)),
    damaged=True,
    full=True,
    waits=True,
    disk=(9, 100),
    certificates={"mqtt": 86_399},
    counted=Counted(
        jobs=(JobFacts(name="gaps", error="disk I/O error", late_s=5), JobFacts(name="bills", paused_s=86_400)),
        quarantined=3,
        findings={"spike": 4},
        refused=("eve: run 1", "eve: tariff town"),
        broken=("root@this-machine: bills run 2026-10",),
        residuals=("r001", "r002", "r003", "r004"),
        archive=("/archive/blocks-2026-11.parquet: is missing",),
    ),
)


def found(facts: Facts) -> dict[str, Condition]:
    listed = list(conditions(facts))
    names = {one.alarm.name: one for one in listed}
    assert len({one.alarm.key for one in listed}) == len(listed), "each alarm has a key of its own"
    return names


GONE = {"10.0.0.1:1884": False, "10.0.0.2:1884": False}
EVERY = found(BAD) | found(Facts(head_ends=GONE, plant=(0.0, report(supply=SupplyState.LOW))))


def test_nothing_is_raised_while_all_is_well_or_not_known_yet() -> None:
    assert found(WELL) == {}
    assert found(Facts()) == {}


def test_silence_is_not_told_of_gateways_while_the_head_end_is_gone() -> None:
    gone = Facts(head_ends=GONE, silent_s={"r001": 9_999}, plant=(9_999.0, report()))
    assert set(found(gone)) == {"CommonwattUtilityDisconnected"}
    silent = EVERY["CommonwattGatewaySilent"].alarm
    assert (is_judged(silent, gone), is_judged(silent, WELL)) == (False, True)
    assert is_judged(EVERY["CommonwattResidual"].alarm, gone)


def test_supply_that_was_short_before_the_plant_fell_silent_stays_an_alarm_that_says_how_old_it_is() -> None:
    reports = [(20.0, True), (290.0, True), (310.0, True), (20.0, True), (2_000.0, True), (20.0, False)]
    seen = [
        found(Facts(plant=(age_s, report(supply=SupplyState.LOW if short else SupplyState.NORMAL))))
        for age_s, short in reports
    ]
    alarms = [one.get("CommonwattSupplyShort") for one in seen]
    assert [one is not None for one in alarms] == [short for _, short in reports]
    assert ["ago" in one.alarm.description for one in alarms if one is not None] == [False, False, True, False, True]


@pytest.mark.parametrize("name", sorted(EVERY))
def test_own_alarm_is_as_its_rule(name: str) -> None:
    one, rule = EVERY[name], RULES[name]
    assert one.alarm.severity == rule["labels"]["severity"]
    # Prometheus counts a job's failures within an hour, which is a wait by itself.
    text = "15m" if name == "CommonwattJobFailing" else rule.get("for", "0s")
    assert one.for_s == int(text[:-1]) * SECONDS[text[-1]]
    words = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: one.alarm.labels[m[1]], rule["annotations"]["summary"])
    assert one.alarm.summary == words.replace("{{ $value }}", "4")
    assert one.alarm.description.endswith(".")


def test_rules_that_the_utility_can_see_by_itself_are_raised() -> None:
    unseen = set(RULES) - set(EVERY)
    assert unseen == {
        # Of other parts, or of figures whose past is needed.
        *(f"Commonwatt{name}" for name in (
            "BacklogGrowing", "BatchesRefused", "BoundaryDisagrees", "BoundaryUnknown", "ClockContradicted",
            "Conflicts", "DeadLetters", "Faults", "GapsGrowing", "GatewayDisconnected", "Handovers", "MessagesDropped",
            "NoRecords", "PartDown", "Restarting", "StoreErrors", "StoreQuarantined", "Stuck", "UtilityNotScraped",
            "DatabaseWentBack", "LeaseFlaps", "LogKept", "NoActiveUtility",
            # Of the database's server and of pgBackRest, which are asked only for the metrics.
            "ArchiveFails", "BackupOld",
            # Of a cluster's databases.
            "DatabaseMachineDown", "EtcdNearlyFull", "EtcdNoLeader", "FailoverPaused", "Failovers", "NoPrimary",
            "NoSynchronousStandby", "ReplicationLag",
        )),
    }  # fmt: skip
