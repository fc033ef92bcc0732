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

from harness.docs.generate import RUNBOOKS
from harness.docs.marked import DOCS
from harness.docs.metrics import all_metrics
from harness.real.parts import real_part

RULES_FILE = DOCS.parent / "grafana" / "prometheus" / "rules.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
HOURS = 60
DAYS = 24 * HOURS


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


CERTIFICATE = utility("gateway_certificate_left_seconds", controller="r001")


def database(name: str, place: str) -> str:
    return of("patroni", place, f"patroni_{name}", scope="centertown")


HEAD_END, SECOND = (utility("head_end_connected", head_end=f"10.0.0.{n}:8883") for n in (1, 2))
UP = {HEAD_END: "1x600"}
OTHER_ACTIVE = of("utility", "utility-2", "commonwatt_utility_active")
SEEN = utility("gateway_last_seen_seconds", controller="r001")


def backlog(values: str, age: str) -> dict[str, str]:
    return {
        utility("gateway_backlog", controller="r001", kind="parts"): values,
        utility("gateway_backlog_age_seconds", controller="r001"): age,
    }


def line(what: str, values: str) -> dict[str, str]:
    """The LTE line of a controller that may carry 20 bytes a month."""
    return {
        utility(f"lte_{what}_bytes", controller="r001", direction="up"): values,
        utility(f"lte_{what}_bytes", controller="r001", direction="down"): "1x200",
        utility("lte_allowance_bytes", controller="r001"): "20x200",
    }


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
    # The gateway is silent from minute 10, for the utility from then on; at minute 40 it is back.
    Case(
        "GatewaySilent",
        "a gateway stops at 10 and is back at 40",
        {SEEN: "10x10 60+60x29 20x60"} | UP,
        fires=(20, 38),
        silent=(0, 10, 15, 41, 60),
    ),
    Case("GatewaySilent", "each is late at times", {SEEN: "250 20 280 10 270 5x60"} | UP, silent=(0, 2, 4, 30)),
    Case(
        "GatewaySilent",
        "the utility itself has no connection",
        {SEEN: "10+60x60", HEAD_END: "0x60"},
        silent=(20, 60),
    ),
    Case("GatewaySilent", "the utility was restarted after a day", {SEEN: "86400 15x60"} | UP, silent=(0, 1, 5)),
    # One that is registered and was never heard counts from the utility's start, here at 9, and at 59 once more.
    Case(
        "GatewaySilent",
        "a new controller with a wrong certificate, which is mended at 100",
        {SEEN: "_x9 0+60x49 0+60x40 20x60"} | UP,
        fires=(17, 58, 67, 99),
        silent=(10, 16, 60, 66, 101, 140),
    ),
    Case(
        "GatewaySilent",
        "restarts of the utility, while the gateway speaks every minute",
        {SEEN: "20 50 30 _x3 290 40 10 _x20 1500 60 5 55x60"} | UP,
        silent=(0, 6, 7, 30, 31, 32, 60),
    ),
    Case(
        "PlantSilent",
        "the plant stops at 10 and is back at 40",
        {utility("plant_last_seen_seconds"): "10x10 60+60x29 20x60"} | UP,
        fires=(20, 38),
        silent=(0, 10, 15, 41, 60),
    ),
    Case("PlantSilent", "there is no plant", UP, silent=(0, 30, 60)),
    Case(
        "PlantSilent",
        "the utility itself has no connection",
        {utility("plant_last_seen_seconds"): "10+60x60", HEAD_END: "0x60"},
        silent=(20, 60),
    ),
    Case(
        "PlantSilent",
        "the utility was restarted after a day",
        {utility("plant_last_seen_seconds"): "86400 15x60"} | UP,
        silent=(0, 1, 5),
    ),
    *standing(
        "PlantLow",
        {utility("plant_battery_joules"): "200x9 190x89 200x30", utility("plant_kept_joules"): "200x200"},
        5,
    ),
    Case(
        "PlantLow",
        "the battery waits at the level that is kept",
        {utility("plant_battery_joules"): "197x60", utility("plant_kept_joules"): "200x60"},
        silent=(10, 60),
    ),
    *standing(
        "SupplyShort",
        {
            utility("supply_state", state="CRITICAL"): "0x9 1x89 0x30",
            utility("supply_state", state="NORMAL"): "1x9 0x89 1x30",
            utility("plant_last_seen_seconds"): "20x200",
        },
        1,
    ),
    Case("SupplyShort", "all is well", {utility("supply_state", state="NORMAL"): "1x60"}, silent=(5, 60)),
    Case(
        "SupplyShort",
        "the plant fell silent while it was short: the last known state holds",
        {utility("supply_state", state="LOW"): "1x60", utility("plant_last_seen_seconds"): "0+60x60"},
        fires=(3, 8, 60),
    ),
    *standing("Unmanaged", {utility("unmanaged_seconds", controller="r001"): "0x9 61+60x89 0x30"}, 0),
    Case(
        "Unmanaged",
        "a takeover within seconds",
        {utility("unmanaged_seconds", controller="r001"): "0x9 4 0x30"},
        silent=(9, 10, 20),
    ),
    *standing("CliqueStopped", {utility("clique_stopped", controller="r001"): "0x9 1x89 0x30"}, 0),
    Case(
        "Handovers",
        "four within an hour, and then none",
        {utility("handovers_total", controller="r001"): "0x9 1x9 2x9 3x9 5x100"},
        fires=(42, 60),
        silent=(9, 20, 110),
    ),
    Case(
        "Handovers",
        "away for an upgrade and back",
        {utility("handovers_total", controller="r001"): "0x9 1x9 2x60"},
        silent=(20, 60),
    ),
    Case(
        "Handovers",
        "a restart of the utility",
        {utility("handovers_total", controller="r001"): "9x9 0x60"},
        silent=(11, 60),
    ),
    *standing(
        "ManagedByAnother", {utility("managed_by_another", controller="r001"): "0x9 1x89 0x30", SEEN: "20x200"} | UP, 30
    ),
    Case(
        "ManagedByAnother",
        "its own controller is dead",
        {utility("managed_by_another", controller="r001"): "0x9 1x89", SEEN: "20x9 60+60x89"} | UP,
        silent=(45, 90),
    ),
    Case(
        "ManagedByAnother",
        "back, and given back after a minute",
        {utility("managed_by_another", controller="r001"): "1x50 0x60", SEEN: "9000x48 20x60"} | UP,
        silent=(40, 50, 80),
    ),
    *standing("UtilityDisconnected", {HEAD_END: "1x9 0x89 1x30"}, 2),
    Case("UtilityDisconnected", "connecting after a start", {HEAD_END: "_x5 0 1x20"}, silent=(6, 9)),
    Case("UtilityDisconnected", "one of two is left", {HEAD_END: "1x9 0x89", SECOND: "1x99"}, silent=(20, 60)),
    *standing("HeadEndAway", {HEAD_END: "1x9 0x89 1x30", SECOND: "1x200"}, 5),
    Case("HeadEndAway", "the only one", {HEAD_END: "1x9 0x89"}, silent=(20, 60)),
    *standing("GatewayDisconnected", {gateway("connections"): "2x9 1x89 2x30"}, 10),
    Case("GatewayDisconnected", "connecting after a start", {gateway("connections"): "_x5 0 1 2x20"}, silent=(6, 20)),
    Case(
        "NoRecords",
        "meters are gone from 20 to 100",
        {gateway("records_total", type="through"): "0+80x20 1600x79 1680+80x30"},
        fires=(45, 99),
        silent=(10, 30, 103),
    ),
    Case(
        "NoRecords",
        "one type only",
        {gateway("records_total", type="through"): "0+80x90", gateway("records_total", type="event"): "5x90"},
        silent=(30, 90),
    ),
    Case("NoRecords", "just started", {gateway("records_total", type="through"): "0x2 5+80x60"}, silent=(1, 2, 3, 20)),
    Case(
        "NoRecords", "restarted", {gateway("records_total", type="through"): "900+80x20 0+80x60"}, silent=(20, 22, 40)
    ),
    Case(
        "BacklogGrowing",
        "the utility is away for two hours, and it drains",
        backlog("20x60 20+100x120 12000-1200x10 20x120", "0x60 0+60x120 7000x10 0x120"),
        fires=(120, 180),
        silent=(0, 60, 75, 195, 240),
    ),
    Case(
        "BacklogGrowing", "it comes and goes", backlog("0 300 600" + " 0 300 600" * 60, "0x180"), silent=(60, 120, 180)
    ),
    Case(
        "BacklogGrowing",
        "it waits for one meter that is not registered, and comes and goes",
        backlog("900 1200 1500" + " 900 1200 1500" * 80, "3600+60x240"),
        silent=(90, 180, 240),
    ),
    Case(
        "BacklogGrowing",
        "a gateway begins with what waits",
        backlog("_x30 50000-100x300", "_x30 90000x300"),
        silent=(40, 90, 300),
    ),
    Case(
        "BacklogOld",
        "a week waits, and drains at last",
        {utility("gateway_backlog_age_seconds", controller="r001"): "80000+60x700 0x100"},
        fires=(600, 700),
        silent=(100, 400, 702),
    ),
    Case(
        "BacklogOld",
        "a week drains in five hours",
        {utility("gateway_backlog_age_seconds", controller="r001"): "604800x300 0x300"},
        silent=(300, 400),
    ),
    Case(
        "BatchesRefused",
        "a meter is not registered, tried again every 15 minutes, until it is",
        {utility("refusals_total", reason="unknown_meter"): "0x9" + "".join(f" {n}x14" for n in range(1, 9)) + " 8x60"},
        fires=(45, 100),
        silent=(9, 25, 150),
    ),
    Case(
        "BatchesRefused", "once", {utility("refusals_total", reason="unknown_meter"): "0x9 1x90"}, silent=(11, 30, 60)
    ),
    *standing("GatewayOverQuota", {utility("gateway_over_quota", controller="r001"): "0x9 1x89 0x30"}, 0),
    Case(
        "BatchesRefused",
        "a quota, which is an alarm of its own",
        {utility("refusals_total", reason="dead_letters_full"): "0+1x90"},
        silent=(60,),
    ),
    Case("BatchesRefused", "a restart", {utility("refusals_total", reason="checksum"): "9x9 0x90"}, silent=(11, 45)),
    Case(
        "GapsGrowing",
        "more is missing each hour, until all is found",
        {utility("gaps_open_blocks"): "5x360 5+1x600 0x60"},
        fires=(800, 960),
        silent=(60, 360, 400, 965),
    ),
    Case(
        "GapsGrowing",
        "some are always missing",
        {utility("gaps_open_blocks"): "40 60 50" + " 40 60 50" * 200},
        silent=(370, 600),
    ),
    Case(
        "GapsGrowing",
        "a start: not counted yet",
        {utility("gaps_open_blocks"): "0x300 NaN 0x400"},
        silent=(301, 400, 600),
    ),
    *counting("MessagesDropped", gateway("overflowed_messages_total"), 15),
    *counting("MessagesDropped", utility("messages_total", result="dropped"), 15),
    Case(
        "MessagesDropped", "messages are stored", {utility("messages_total", result="stored"): "0+60x60"}, silent=(30,)
    ),
    *standing("AllowanceAtRisk", line("forecast", "15x9 25x89 15x30") | line("month", "10x200"), 60),
    Case("AllowanceAtRisk", "not known yet, as after a start", line("month", "10x90"), silent=(80,)),
    Case("AllowanceAtRisk", "a short burst", line("forecast", "15x9 25x20 15x90"), silent=(30, 80)),
    *standing("AllowanceExceeded", line("month", "10x9 21x89 0x30"), 0),
    Case("AllowanceExceeded", "only expected", line("forecast", "25x90") | line("month", "19x90"), silent=(80,)),
    *counting("DeadLetters", utility("dead_letters_total"), 60),
    *standing("Residual", {utility("settlement_residual_microgrids"): "0x9 2x89 0x30"}, 60),
    *standing("ReadingsQuarantined", {utility("quarantined_open_dead_letters"): "0x9 3x89 0x30"}, 60),
    *standing("SecondPersonRefused", {utility("refused_second_persons"): "0x9 3x89 0x30"}, 0),
    *standing("BreakGlass", {utility("break_glass_commands"): "0x9 3x89 0x30"}, 0),
    *standing("FindingsOpen", {utility("open_findings", check="spike"): "0x9 3x89 0x30"}, 60),
    *counting("Conflicts", utility("event_conflicts_total"), 60),
    Case("Conflicts", "slots", {utility("conflicting_slots"): "4x59 6x120"}, fires=(61, 110), silent=(59, 122)),
    Case(
        "Conflicts",
        "a start: not counted yet",
        {utility("conflicting_slots"): "4x59 _x5 NaN 4x120"},
        silent=(66, 68, 90),
    ),
    *standing(
        "GatewayCertificateExpiring",
        {CERTIFICATE: "2592000x9 1728000x89 6912000x30"},
        10,
    ),
    *standing(
        "GatewayCertificateExpired",
        {CERTIFICATE: "2592000x9 172800x89 6912000x30"},
        0,
    ),
    *standing("GatewayClockUntrusted", {utility("gateway_clock_trusted", controller="r001"): "1x9 0x89 1x30"}, 15),
    Case(
        "GatewayClockUntrusted",
        "a start without a network",
        {utility("gateway_clock_trusted", controller="r001"): "0x5 1x60"},
        silent=(5, 16, 40),
    ),
    *standing("UtilityClockUntrusted", {utility("clock_trusted"): "1x9 0x89 1x30"}, 15),
    *counting("ClockContradicted", gateway("time_contradictions_total"), 60),
    *standing("ArchiveDamaged", {utility("archive_damaged_files"): "0x9 1x89 0x30"}, 0),
    *standing("StoreDamaged", {utility("alarm", alarm="store_damaged"): "0x9 1x89 0x30"}, 0),
    Case(
        "BoundaryUnknown",
        "a gateway starts at 10, and the boundary reports at 40",
        {gateway("boundary_unknown_seconds"): "0x9 60+60x29 0x30"},
        fires=(21, 39),
        silent=(0, 10, 19, 41, 60),
    ),
    Case("BoundaryUnknown", "a restart", {gateway("boundary_unknown_seconds"): "0x9 30 0x60"}, silent=(10, 11, 40)),
    *standing("BoundaryDisagrees", {gateway("boundary_disagrees"): "0x9 1x89 0x30"}, 5),
    Case(
        "BoundaryDisagrees",
        "one reports before the other",
        {gateway("boundary_disagrees"): "0x9 1x2 0x60"},
        silent=(12, 30),
    ),
    *standing("StoreQuarantined", {gateway("damaged_stores"): "0x9 1x89 0x30"}, 0),
    Case("StoreQuarantined", "at its start", {gateway("damaged_stores"): "_x9 1x30"}, fires=(11, 30), silent=(8,)),
    *standing("LogKept", {utility("database_log_kept_bytes"): "0x9 11000000000x89 5x30"}, 5),
    *standing("CommitsWait", {utility("alarm", alarm="no_standby"): "0x9 1x89 0x30"}, 0),
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
    *standing("DiskFull", {utility("alarm", alarm="disk_full"): "0x9 1x89 0x30"}, 0),
    *standing("DiskFull", {gateway("refusing_records"): "0x9 1x89 0x30"}, 0),
    Case("DiskFull", "another alarm", {utility("alarm", alarm="store_damaged"): "1x30"}, silent=(20,)),
    *standing(
        "DiskNearlyFull",
        {gateway("disk_free_bytes"): "30x9 5x89 30x30", gateway("disk_size_bytes"): "64x200"},
        10,
    ),
    *standing(
        "DiskNearlyFull",
        {utility("disk_free_bytes"): "30x9 5x89 30x30", utility("disk_size_bytes"): "64x200"},
        10,
    ),
    Case(
        "DiskNearlyFull",
        "not looked at yet",
        {gateway("disk_free_bytes"): "0x60", gateway("disk_size_bytes"): "0x60"},
        silent=(30,),
    ),
    *counting("DatabaseWentBack", utility("database_went_back_total"), 60),
    Case(
        "BackupOld",
        "the newest is of 40 hours ago, and another is made at 60",
        {utility("backup_finished_timestamp_seconds", repository="2"): f"{-40 * 3600}x59 0x60"},
        fires=(16, 59),
        silent=(5, 61),
    ),
    Case(
        "BackupOld",
        "of last night",
        {utility("backup_finished_timestamp_seconds", repository="1"): "-9000x60"},
        (),
        (30,),
    ),
    *standing("ArchiveFails", {utility("archive_fails"): "0x9 1x89 0x30"}, 15),
    *counting("StoreErrors", gateway("store_failures_total"), 15),
    *counting("StoreErrors", utility("store_errors_total"), 15),
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
    Case(
        "JobFailing",
        "for an hour",
        {utility("job_failures_total", task="gaps"): "0x9 0+1x60 60x120"},
        fires=(20, 70),
        silent=(9, 11, 140),
    ),
    Case("JobFailing", "once", {utility("job_failures_total", task="gaps"): "0x9 1x90"}, silent=(12, 60)),
    Case("JobFailing", "a restart", {utility("job_failures_total", task="gaps"): "50x9 0x90"}, silent=(12, 60)),
    Case(
        "JobLate",
        "for an hour, until it is done",
        {utility("job_late_seconds", task="bills"): "0x9 60+60x60 0x60"},
        fires=(45, 65),
        silent=(9, 35, 80),
    ),
    Case(
        "JobLate",
        "made up for after a start",
        {utility("job_late_seconds", task="bills"): "_x9 86400x20 0x60"},
        silent=(12, 28, 60),
    ),
    Case(
        "JobPaused",
        "for over a day, until it is resumed",
        {utility("job_paused", task="bills"): f"0x9 1x{26 * HOURS} 0x60"},
        fires=(25 * HOURS,),
        silent=(9, 23 * HOURS, 27 * HOURS),
    ),
    Case("JobPaused", "a restart", {utility("job_paused", task="bills"): "1x60 _x5 0x60"}, silent=(30, 100)),
    # Time begins at 0 here, so that a certificate's end is the seconds it has left.
    Case(
        "CertificateExpiring",
        "thirteen days are left, and it is renewed",
        {gateway("certificate_expiry_timestamp_seconds", use="mqtt"): f"{13 * 86400}x59 {90 * 86400}x60"},
        fires=(15, 59),
        silent=(5, 61),
    ),
    Case(
        "CertificateExpiring",
        "fifteen days are left",
        {
            of(
                "broker", "r001", "commonwatt_broker_certificate_expiry_timestamp_seconds", use="mqtt"
            ): f"{15 * 86400}x60"
        },
        silent=(30, 60),
    ),
    Case(
        "CertificateExpired",
        "a day is left at 60, and it is renewed at 120",
        {utility("certificate_expiry_timestamp_seconds", use="http"): f"{86400 + 3600}x119 {90 * 86400}x60"},
        fires=(62, 119),
        silent=(30, 59, 121),
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
    *standing(
        "NoSynchronousStandby",
        {database("sync_standby", "db1"): "0x200", database("sync_standby", "db2"): "1x9 0x89 1x60"},
        1,
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
]
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
def test_rule_tells_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    address, _, page = rule["annotations"]["runbook_url"].partition(" }}/")
    assert address.startswith("{{ or $externalLabels.commonwatt_utility ")
    assert page == f"runbooks#{rule['alert'].lower()}"
    section = re.search(rf"^## {rule['alert']}\n\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    for heading in ("**Means.**", "**Look.**", "**Do.**"):
        assert heading in section[1], f"{rule['alert']}: no {heading}"


@pytest.mark.parametrize(
    ("labels", "address"),
    [({}, "http://127.0.0.1:8080"), ({"commonwatt_utility": "https://utility.example"}, "https://utility.example")],
)
@pytest.mark.real
def test_an_alert_leads_to_its_runbook_at_the_utility(labels: dict[str, str], address: str, tmp_path: Path) -> None:
    rule = next(rule for rule in RULES if rule["alert"] == "CommonwattUtilityDisconnected")
    case = next(case for case in CASES if case.alert == "UtilityDisconnected")
    series = next(series for series in case.series if "connected" in series)
    test = {
        "interval": "1m",
        "external_labels": labels,
        "input_series": [{"series": series, "values": case.series[series]}],
        "alert_rule_test": [
            {
                "alertname": rule["alert"],
                "eval_time": f"{case.fires[0]}m",
                "exp_alerts": [
                    {
                        "exp_labels": {**rule["labels"], **labels_of(utility(""))},
                        "exp_annotations": {
                            **rule["annotations"],
                            "runbook_url": f"{address}/runbooks#commonwattutilitydisconnected",
                        },
                    }
                ],
            }
        ],
    }
    promtool("test", "rules", written(tmp_path / "test.yml", RULES_FILE, [test]))


def labels_of(series: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


def test_every_runbook_is_of_a_rule() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(NAMES)


def test_rules_name_metrics_that_exist() -> None:
    known = {info.name for metrics in all_metrics().values() for info in metrics}
    for rule in RULES:
        patterns = re.findall(r'__name__=~"([^"]+)"', rule["expr"])
        plain = re.sub(r'__name__=~"[^"]+"', "", rule["expr"])
        for pattern in patterns + re.findall(r"\b(?:commonwatt|process)_\w+\b", plain):
            assert any(re.fullmatch(pattern, name) for name in known), f"{rule['alert']}: no metric {pattern}"
