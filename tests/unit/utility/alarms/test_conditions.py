"""The utility's own alarms: each raised by its condition, and by nothing else."""

import math
from typing import Any

from commonwatt.energy.hours_left import Band
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.time.now import Trust
from commonwatt.protocol.plant_messages import PlantReport
from harness.surroundings.utility import a_heartbeat
from utility.alarms.alarm import Severity
from utility.alarms.conditions import Counted, Facts, JobFacts, conditions, is_judged
from utility.alarms.kinds import KINDS
from utility.alarms.lifecycle import Condition
from utility.alarms.past import Past

GB = 10**9
SAFE, UNSAFE = (
    {"stage": "obeys", "since": 1, "failsafe": "watchdog", "failsafe_s": 60},
    {"stage": "disobeys", "since": 1, "failsafe": "none", "finding": "should be on, and shows 'idle'"},
)


def device(**states: dict[str, Any]) -> dict[str, Any]:
    return {"10001": {"name": "shed", "preset": "mine", "states": states}}


def report(**fields: Any) -> PlantReport:
    well: dict[str, Any] = {"level_mwh": 50, "keep_mwh": 20, "supply": SupplyState.NORMAL}
    return PlantReport.model_construct(**(well | fields))


def line(used: int, expected: int | None = None) -> dict[str, Any]:
    month = {"used": (used, 0), "allowance": GB}
    return month if expected is None else month | {"expected": (0, expected)}


def dark_after(hours: float | None) -> Band:
    return Band(low=0.5, middle=hours, high=None, alone=0.5, least=0.5)


WELL = Facts(
    silent_s={"r001": 300, "r002": 20},
    managed_by={"r001": ("r002", 1800.0)},
    unmanaged_s={"r001": 60},
    said={
        "r001": a_heartbeat(trust=Trust.NETWORK, lte=line(GB, GB), devices=device(sharing=SAFE)),
        "r002": a_heartbeat(trust=Trust.HARDWARE, program={"release": "0.4", "cert_days": 21, "disk_days": 15}),
    },
    plant=(300.0, report()),
    disk=(20, 100),
    certificates={"mqtt": 15 * 86_400, "enrolment": 60 * 86_400},
    counted=Counted(jobs=(JobFacts(name="gaps"),), findings={"spike": 0}),
    past=Past(
        counts={
            ("handovers", "r001"): 3,
            ("job_failures", "gaps"): 2,
            ("refusals", "unknown_meter"): 0,
            ("refusals", "dead_letters_full"): 5,
        },
        growing=frozenset({"r001", "r999"}),
    ),
    log_kept_bytes=10**10,
    backups_s={"1": 36.0 * 3_600},
)
BAD = Facts(
    trusted=False,
    renewals_refused=("device r001 from 10.0.0.9: its certificate was revoked",),
    silent_s={"r001": 301, "r002": 20},
    managed_by={"r002": ("r003", 1801.0)},
    unmanaged_s={"r001": 61},
    stopped={"r001": "KeyError: 7"},
    islands={"r001": (600.0, dark_after(1.1)), "r002": (60.0, dark_after(1.0))},
    head_ends={"10.0.0.1:1884": True, "10.0.0.2:1884": False},
    said={
        "r001": a_heartbeat(
            trust=Trust.METERS,
            backlog_age_s=86_401,
            lte=line(GB + 1, GB + 1),
            program={"release": "0.4", "cert_days": 2, "disk_days": 14},
            devices=device(sharing=UNSAFE),
        ),
        **{name: a_heartbeat(trust=Trust.NETWORK, program={"release": "0.5"}) for name in ("r002", "r003")},
    },
    over_quota={"r001": "dead_letters_full"},
    plant=(301.0, report(level_mwh=19, supply=SupplyState.LOW)),
    joins_refused=("used code of r001, by another key (from 10.0.0.7)",),
    damaged=True,
    full=True,
    waits=True,
    disk=(9, 100),
    certificates={"mqtt": 86_399},
    counted=Counted(
        jobs=(JobFacts(name="gaps", error="disk I/O error", late_s=5), JobFacts(name="bills", paused_s=86_400)),
        quarantined=3,
        findings={"spike": 4},
        witnesses=("r001 (2026-11)",),
        rollout_stopped="0.4.1: r001: went back to 0.4.0: no meter is served",
        refused=("eve: run 1", "eve: tariff town"),
        broken=("root@this-machine: bills run 2026-10",),
        residuals=("r001", "r002", "r003", "r004"),
    ),
    past=Past(
        counts={
            ("handovers", "r001"): 4,
            ("job_failures", "gaps"): 3,
            ("refusals", "unknown_meter"): 1,
            **{(name, ""): 1 for name in ("dropped", "store_errors", "went_back", "dead_letters", "conflicts")},
        },
        growing=frozenset({"r001"}),
        gaps_grow=True,
    ),
    log_kept_bytes=10**10 + 1,
    backups_s={"1": 36.0 * 3_600 + 1, "2": math.inf},
    archive_fails=True,
    uncalled=("ntfys://ntfy.example/****",),
)

SOON_ENDS = {"release": "0.4", "cert_days": 20}
SOON = Facts(
    said={"r001": a_heartbeat(trust=Trust.HARDWARE, lte=line(GB, GB + 1), program=SOON_ENDS)},
    certificates={"mqtt": 14 * 86_400 - 1},
)


def found(facts: Facts) -> dict[str, Condition]:
    listed = list(conditions(facts))
    names = {one.alarm.name: one for one in listed}
    assert len({one.alarm.key for one in listed}) == len(listed), "each alarm has a key of its own"
    return names


GONE = {"10.0.0.1:1884": False, "10.0.0.2:1884": False}
EVERY = found(BAD) | found(SOON) | found(Facts(head_ends=GONE, plant=(0.0, report(supply=SupplyState.LOW))))


def test_nothing_is_raised_while_all_is_well_or_not_known_yet() -> None:
    assert found(WELL) == {}
    assert found(Facts()) == {}


def test_silence_is_not_told_of_gateways_while_the_head_end_is_gone() -> None:
    gone = Facts(head_ends=GONE, silent_s={"r001": 9_999}, plant=(9_999.0, report()))
    assert set(found(gone)) == {"CommonwattUtilityDisconnected"}
    silent = EVERY["CommonwattGatewaySilent"].alarm
    assert (is_judged(silent, gone, 200), is_judged(silent, WELL, 200)) == (False, True)
    assert is_judged(EVERY["CommonwattResidual"].alarm, gone, 200)


def test_alarm_of_what_was_counted_lately_is_not_over_before_the_service_has_counted_for_as_long() -> None:
    alarm = EVERY["CommonwattDeadLetters"].alarm
    assert (is_judged(alarm, WELL, 3_599), is_judged(alarm, WELL, 3_600)) == (False, True)
    gaps = EVERY["CommonwattGapsGrowing"].alarm
    assert [is_judged(gaps, Facts(past=Past(none_missing=none)), 60) for none in (False, True)] == [False, True]


def test_what_is_grave_is_one_alarm_and_not_its_warning_besides() -> None:
    warnings = {"CertificateExpiring", "GatewayCertificateExpiring", "AllowanceAtRisk"}
    raised = {name.removeprefix("Commonwatt") for name in found(BAD)}
    assert raised & warnings == {"AllowanceAtRisk"}, "of the line's other direction"
    assert {name.removeprefix("Commonwatt") for name in found(SOON)} == warnings


def test_release_of_a_gateway_differs_from_that_of_most_which_is_named() -> None:
    differs = found(BAD)["CommonwattGatewayReleaseDiffers"]
    assert differs.alarm.labels["controller"] == "r001"
    assert differs.alarm.description == "It runs 0.4, most others 0.5."
    assert differs.for_s == 7 * 86_400


def test_supply_that_was_short_before_the_plant_fell_silent_stays_an_alarm_that_says_how_old_it_is() -> None:
    reports = [(20.0, True), (290.0, True), (310.0, True), (20.0, True), (2_000.0, True), (20.0, False)]
    seen = [
        found(Facts(plant=(age_s, report(supply=SupplyState.LOW if short else SupplyState.NORMAL))))
        for age_s, short in reports
    ]
    alarms = [one.get("CommonwattSupplyShort") for one in seen]
    assert [one is not None for one in alarms] == [short for _, short in reports]
    assert ["ago" in one.alarm.description for one in alarms if one is not None] == [False, False, True, False, True]


def test_a_device_that_disobeys_is_named_with_what_it_shows() -> None:
    assert "shed, sharing: should be on, and shows 'idle'" in EVERY["CommonwattDeviceDisobeys"].alarm.description
    assert "shed, sharing" in EVERY["CommonwattDeviceUnsafe"].alarm.description


def test_an_island_is_an_alarm_after_ten_minutes_and_at_once_the_gravest_when_a_home_is_nearly_dark() -> None:
    island, dark = EVERY["CommonwattIsland"], EVERY["CommonwattIslandDark"]
    assert (island.for_s, island.held_s, island.alarm.severity) == (600, 600, Severity.WARNING)
    assert (dark.for_s, dark.alarm.severity, dark.alarm.labels["controller"]) == (0, Severity.CRITICAL, "r002")
    assert "first home is dark after 1.1 h (0.5 to more than 72 h)" in island.alarm.description
    (unknown,) = conditions(Facts(islands={"r001": (5.0, None)}))
    assert (unknown.alarm.name, "is not known" in unknown.alarm.description) == ("CommonwattIsland", True)
    (long,) = conditions(Facts(islands={"r001": (5.0, dark_after(None))}))
    assert (long.alarm.name, "more than 72 h" in long.alarm.description) == ("CommonwattIsland", True)


def test_each_kind_is_raised_in_whole_sentences() -> None:
    assert {name.removeprefix("Commonwatt") for name in EVERY} == set(KINDS)
    for one in EVERY.values():
        for words in (one.alarm.summary, one.alarm.description):
            assert words.endswith(".")
            assert "{" not in words


def test_the_enrolment_authority_warns_sixty_days_before_its_end() -> None:
    (alarm,) = conditions(Facts(certificates={"enrolment": 60 * 86_400 - 1}))
    assert (alarm.alarm.name, alarm.alarm.labels["use"]) == ("CommonwattCertificateExpiring", "enrolment")
    assert "site init" in alarm.alarm.description


def test_repository_without_any_backup_says_so() -> None:
    texts = [one.alarm.description for one in conditions(BAD) if one.alarm.name == "CommonwattBackupOld"]
    assert texts[1] == "There is none."
