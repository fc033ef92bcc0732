"""Alarms: raised by their conditions and by nothing else, across restarts, by what was counted lately."""

import math
from collections.abc import Iterable
from typing import Any

import pytest

from commonwatt.energy.lasting import Band
from commonwatt.model.control import SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time import Trust
from commonwatt.protocol.plant_messages import PlantReport
from commonwatt.runtime.clock import Clock
from harness.surroundings import databases
from harness.surroundings.messages import a_heartbeat
from utility.access.people import Actor, Role, Via
from utility.access.store.audit_log import AuditFilter, entries
from utility.alarms import store
from utility.alarms.alarm import KINDS, Condition, Severity
from utility.alarms.board import LONGEST_S, AlarmState
from utility.alarms.conditions import (
    Count,
    Counting,
    DatabaseCounts,
    JobFacts,
    Past,
    UtilityFacts,
    conditions,
    is_judged,
)
from utility.alarms.decisions import Alarms, Board
from utility.corrections.tables import finding
from utility.database.database import Database
from utility.jobs.plans import catalogue
from utility.settings import UtilitySettings

NOW = 1_800_000_000
ANN = Actor(name="ann", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7")
BEN = Actor(name="ben", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.8")
SILENT = UtilityFacts(silent_s={"r001": 4_000.0, "r002": 10.0})
KEY = "CommonwattGatewaySilent|r001|gateway"


class World:
    """A utility's alarms at a time, with what it sees."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock(origin=NOW, monotonic_origin=1e12)
        self.facts = SILENT
        self.restart()

    def restart(self) -> None:
        self.alarms = Alarms(self.database, self.clock, self._seen, plans=catalogue(UtilitySettings()))

    def _seen(self, counted: DatabaseCounts | None) -> UtilityFacts:
        return UtilityFacts(**(vars(self.facts) | {"counted": counted or DatabaseCounts()}))

    def pass_s(self, seconds: int) -> Board:
        """Let time pass, and look."""
        self.clock.origin += seconds
        self.alarms.count()
        if self.alarms.look():
            self.alarms.save()
        return self.alarms.board()

    def audit(self) -> list[tuple[object, ...]]:
        with self.database.reads.begin() as connection:
            found = entries(connection, AuditFilter(), 100)
        return [(row["person"], row["action"], row["subject"]) for row in reversed(found)]


@pytest.fixture
def world(database: Database) -> World:
    it = World(database)
    it.pass_s(200)
    it.pass_s(120)
    return it


@databases.on_both_kinds
def test_alarm_stands_since_its_beginning_also_after_a_restart_and_is_kept_when_over(world: World) -> None:
    (row,) = world.pass_s(15).rows
    assert (row.alarm.key, row.alarm.since, row.state) == (KEY, NOW + 200, AlarmState.ACTIVE)
    world.facts = UtilityFacts()
    world.restart()
    # The service has not heard of all yet: nothing is over.
    assert [row.alarm.since for row in world.pass_s(15).rows] == [NOW + 200]
    assert world.pass_s(200).rows == ()
    (over,) = world.alarms.past(10)
    assert (over.alarm.since, over.ended) == (NOW + 200, NOW + 550)
    world.pass_s(store.KEPT_S + 1)
    world.facts = SILENT
    world.pass_s(15)
    world.pass_s(200)
    assert world.alarms.past(10) == []


def test_alarm_that_is_over_does_not_come_back_with_a_restart_after_the_clock_was_set_back(world: World) -> None:
    (row,) = world.pass_s(-1_000).rows
    assert row.alarm.since == NOW - 680
    world.facts = UtilityFacts()
    assert world.pass_s(200).rows == ()
    world.restart()
    assert world.pass_s(15).rows == ()
    assert {(life.alarm.since, life.ended) for life in world.alarms.past(10)} == {
        (NOW + 200, NOW - 680),
        (NOW - 680, NOW - 480),
    }


def test_acknowledgement_is_a_persons_with_an_end_and_in_the_audit_log(world: World) -> None:
    number = world.alarms.acknowledge(ANN, KEY, "driving there", NOW + 4_000)
    (row,) = world.alarms.board().rows
    assert (row.state, row.acknowledgement and row.acknowledgement.person) == (AlarmState.ACKNOWLEDGED, "ann")
    world.restart()
    assert world.pass_s(60).rows[0].state is AlarmState.ACKNOWLEDGED
    world.alarms.end(BEN, "acknowledgement", number)
    assert world.alarms.board().rows[0].state is AlarmState.ACTIVE
    with pytest.raises(ConfigError, match="does not hold"):
        world.alarms.end(BEN, "acknowledgement", number)
    assert world.audit() == [("ann", "alarm.acknowledge", KEY), ("ben", "alarm.withdraw", KEY)]


def test_silence_shows_at_once_and_holds_until_its_end_or_until_a_person_ends_it(world: World) -> None:
    number = world.alarms.silence(ANN, KEY, "cable work", NOW + 4_000)
    board = world.alarms.board()
    assert (board.rows[0].state, board.counts.silences, board.counts.critical) == (AlarmState.SUPPRESSED, 1, 0)
    world.restart()
    assert world.pass_s(60).rows[0].state is AlarmState.SUPPRESSED
    world.alarms.end(BEN, "silence", number)
    assert (world.alarms.board().rows[0].state, world.alarms.board().silences) == (AlarmState.ACTIVE, ())
    second = world.alarms.silence(ANN, KEY, "cable work", NOW + 1_000)
    assert world.pass_s(1_000).rows[0].state is AlarmState.ACTIVE
    with pytest.raises(ConfigError, match=f"silence {second} does not hold"):
        world.alarms.end(BEN, "silence", second)
    what = "CommonwattGatewaySilent of r001"
    assert world.audit() == [(who, f"alarm.{did}", what) for who, did in
                             (("ann", "silence"), ("ben", "unsilence"), ("ann", "silence"))]  # fmt: skip


def test_alarms_that_wait_for_a_person_are_counted_and_unknown_before_they_are_read(world: World) -> None:
    assert world.alarms.own() == {"GatewaySilent": 1}
    world.restart()
    assert world.alarms.own() is None
    world.pass_s(15)
    assert world.alarms.own() == {"GatewaySilent": 1}
    number = world.alarms.acknowledge(ANN, KEY, "driving there", NOW + 4_000)
    assert world.alarms.own() == {}
    world.alarms.end(ANN, "acknowledgement", number)
    world.alarms.silence(ANN, KEY, "cable work", NOW + 4_000)
    assert world.alarms.own() == {}


def test_alarm_that_was_seen_before_the_stored_ones_were_read_is_one(world: World) -> None:
    world.restart()
    world.alarms.look()
    assert [row.alarm.since for row in world.pass_s(15).rows] == [NOW + 200]
    world.facts = UtilityFacts()
    world.pass_s(400)
    world.restart()
    assert world.pass_s(15).rows == ()
    assert len(world.alarms.past(10)) == 1


def test_maintenance_holds_from_its_start(world: World) -> None:
    world.alarms.maintain(ANN, "r001", "", NOW + 1_000, NOW + 2_000, "new cable")
    board = world.alarms.board()
    assert ([one.subject for one in board.silences], board.counts.silences) == (["r001"], 0)
    assert board.rows[0].state is AlarmState.ACTIVE
    assert world.pass_s(700).rows[0].state is AlarmState.SUPPRESSED
    assert world.pass_s(1_000).rows[0].state is AlarmState.ACTIVE


def test_what_can_not_be_taken_is_refused_and_changes_nothing(world: World) -> None:
    world.alarms.count()
    now = int(world.clock.now())
    for refused in (
        lambda: world.alarms.silence(ANN, "CommonwattNone|r001|gateway", "why", now + 60),
        lambda: world.alarms.silence(ANN, KEY, "why", now),
        lambda: world.alarms.silence(ANN, KEY, " ", now + 60),
        lambda: world.alarms.silence(ANN, KEY, "why", now + LONGEST_S + 1),
        lambda: world.alarms.acknowledge(ANN, KEY, "why", now),
        lambda: world.alarms.maintain(ANN, "r999", "", now, now + 60, "why"),
        lambda: world.alarms.end(ANN, "silence", 7),
    ):
        with pytest.raises(ConfigError):
            refused()
    assert (world.audit(), world.alarms.board().silences) == ([], ())
    assert world.alarms.board().rows[0].state is AlarmState.ACTIVE


def test_silences_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_STANDING", 2)
    for _ in range(2):
        world.alarms.maintain(ANN, "r001", "", NOW + 1_000, NOW + 2_000, "new cable")
    with pytest.raises(ConfigError, match="2 stand already"):
        world.alarms.maintain(ANN, "r001", "", NOW + 1_000, NOW + 2_000, "new cable")


def test_findings_are_alarms(database: Database) -> None:
    one = {"meter_no": 1, "record_type": 3, "check_name": "spike", "first_quarter": 5, "until_quarter": 6}
    with database.writes.begin() as connection:
        connection.execute(finding.insert(), {**one, "figure": 1, "threshold": 1, "found": 5})
    world = World(database)
    world.facts = UtilityFacts()
    assert world.pass_s(10).rows == ()
    (row,) = world.pass_s(3_600).rows
    assert row.alarm.key == "CommonwattFindingsOpen|utility|utility|check=spike"


def test_damaged_database_is_an_alarm_although_nothing_can_be_read(database: Database) -> None:
    world = World(database)
    world.facts = UtilityFacts(damaged=True)
    world.alarms.look()
    assert [row.alarm.name for row in world.alarms.board().rows] == ["CommonwattStoreDamaged"]


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


WELL = UtilityFacts(
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
    counted=DatabaseCounts(jobs=(JobFacts(name="gaps"),), findings={"spike": 0}),
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
BAD = UtilityFacts(
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
    counted=DatabaseCounts(
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
SOON = UtilityFacts(
    said={"r001": a_heartbeat(trust=Trust.HARDWARE, lte=line(GB, GB + 1), program=SOON_ENDS)},
    certificates={"mqtt": 14 * 86_400 - 1},
)


def found(facts: UtilityFacts) -> dict[str, Condition]:
    listed = list(conditions(facts))
    names = {one.alarm.name: one for one in listed}
    assert len({one.alarm.key for one in listed}) == len(listed), "each alarm has a key of its own"
    return names


GONE = {"10.0.0.1:1884": False, "10.0.0.2:1884": False}
EVERY = found(BAD) | found(SOON) | found(UtilityFacts(head_ends=GONE, plant=(0.0, report(supply=SupplyState.LOW))))


def test_nothing_is_raised_while_all_is_well_or_not_known_yet() -> None:
    assert found(WELL) == {}
    assert found(UtilityFacts()) == {}


def test_silence_is_not_told_of_gateways_while_the_head_end_is_gone() -> None:
    gone = UtilityFacts(head_ends=GONE, silent_s={"r001": 9_999}, plant=(9_999.0, report()))
    assert set(found(gone)) == {"CommonwattUtilityDisconnected"}
    silent = EVERY["CommonwattGatewaySilent"].alarm
    assert (is_judged(silent, gone, 200), is_judged(silent, WELL, 200)) == (False, True)
    assert is_judged(EVERY["CommonwattResidual"].alarm, gone, 200)


def test_alarm_of_what_was_counted_lately_is_not_over_before_the_service_has_counted_for_as_long() -> None:
    alarm = EVERY["CommonwattDeadLetters"].alarm
    assert (is_judged(alarm, WELL, 3_599), is_judged(alarm, WELL, 3_600)) == (False, True)
    gaps = EVERY["CommonwattGapsGrowing"].alarm
    assert [is_judged(gaps, UtilityFacts(past=Past(none_missing=none)), 60) for none in (False, True)] == [False, True]


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
        found(UtilityFacts(plant=(age_s, report(supply=SupplyState.LOW if short else SupplyState.NORMAL))))
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
    (unknown,) = conditions(UtilityFacts(islands={"r001": (5.0, None)}))
    assert (unknown.alarm.name, "is not known" in unknown.alarm.description) == ("CommonwattIsland", True)
    (long,) = conditions(UtilityFacts(islands={"r001": (5.0, dark_after(None))}))
    assert (long.alarm.name, "more than 72 h" in long.alarm.description) == ("CommonwattIsland", True)


def test_each_kind_is_raised_in_whole_sentences() -> None:
    assert {name.removeprefix("Commonwatt") for name in EVERY} == set(KINDS)
    for one in EVERY.values():
        for words in (one.alarm.summary, one.alarm.description):
            assert words.endswith(".")
            assert "{" not in words


def test_the_enrolment_authority_warns_sixty_days_before_its_end() -> None:
    (alarm,) = conditions(UtilityFacts(certificates={"enrolment": 60 * 86_400 - 1}))
    assert (alarm.alarm.name, alarm.alarm.labels["use"]) == ("CommonwattCertificateExpiring", "enrolment")
    assert "site init" in alarm.alarm.description


def test_repository_without_any_backup_says_so() -> None:
    texts = [one.alarm.description for one in conditions(BAD) if one.alarm.name == "CommonwattBackupOld"]
    assert texts[1] == "There is none."


NAN = math.nan


class Minutes:
    """A service that is looked at each minute from 1 on."""

    def __init__(self) -> None:
        self.counting, self.minute = Counting(0.0), 0

    def look(
        self, counts: dict[Count, int] | None = None, backlog: int = 0, gaps: float = 0, conflicts: float = 0
    ) -> Past:
        self.minute += 1
        now = self.minute * 60.0
        self.counting.look(counts or {}, {"r001": backlog}, gaps, conflicts, now)
        return self.counting.past


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("dropped", 15), ("store_errors", 15), ("dead_letters", 60), ("handovers", 60), ("job_failures", 60)],
)
def test_counter_that_grew_is_seen_within_its_window_and_forgotten_after_it(name: str, minutes: int) -> None:
    it, key = Minutes(), (name, "")
    seen = [it.look({key: int(minute >= 10)}).count(name) for minute in range(1, 100)]
    assert seen == [int(10 <= minute < 10 + minutes) for minute in range(1, 100)]


def test_counts_are_told_by_label() -> None:
    past = Minutes().look({("refusals", "checksum"): 2, ("handovers", "r001"): 4})
    assert (past.by_label("refusals"), past.by_label("handovers")) == ({"checksum": 2}, {"r001": 4})


def growing_backlog(values: Iterable[int]) -> list[int]:
    """Return the minutes in which a backlog grows."""
    it = Minutes()
    return [it.minute for value in values if it.look(backlog=value).growing]


def test_backlog_grows_while_the_utility_is_away_until_it_drains() -> None:
    away = [20] * 60 + [20 + 100 * n for n in range(120)] + [11_000 - 1_000 * n for n in range(10)] + [20] * 60
    found = growing_backlog(away)
    assert found == list(range(found[0], found[-1] + 1))
    assert 80 <= found[0] <= 120
    assert 180 <= found[-1] <= 185


@pytest.mark.parametrize(
    "values",
    [
        [0, 300, 600] * 80,
        [900, 1_200, 1_500] * 80,
        [50_000 - 100 * n for n in range(240)],
    ],
    ids=["comes and goes", "waits for a meter, and comes and goes", "begins with what waits"],
)
def test_backlog_that_does_not_grow_is_none(values: list[int]) -> None:
    assert growing_backlog(values) == []


def test_more_is_missing_each_hour_until_all_is_found() -> None:
    it = Minutes()
    values = [5] * 360 + [5 + n for n in range(600)] + [0] * 60
    found = [it.minute for value in values if it.look(gaps=value).gaps_grow]
    assert found == list(range(found[0], 961))
    assert 540 <= found[0] <= 780


def test_some_that_are_always_missing_and_a_start_are_no_growth() -> None:
    for values in ([40, 60, 50] * 200, [NAN] * 300 + [0] * 300, [NAN] * 5 + [40] * 600):
        it = Minutes()
        assert not any(it.look(gaps=value).gaps_grow for value in values)


def test_conflicting_slots_count_as_they_grow() -> None:
    it = Minutes()
    values = [NAN, 4, 4, 6, 5, *[5] * 60, 3, 3, 4]
    seen = [it.look({("conflicts", ""): 50}, conflicts=value).count("conflicts") - 50 for value in values]
    assert (seen[3:6], seen[-3:]) == ([2, 2, 2], [-50, -50, -49]), "fewer of them are no new ones"


def test_clock_that_is_set_back_begins_the_count_anew() -> None:
    it = Minutes()
    for _ in range(10):
        it.look({("dropped", ""): 1})
    it.minute -= 1_440
    assert it.look({("dropped", ""): 1}).count("dropped") == 1
    seen = [it.look({("dropped", ""): 1}).count("dropped") for _ in range(30)]
    assert seen[-1] == 0
