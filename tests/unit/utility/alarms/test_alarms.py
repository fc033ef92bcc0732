"""Alarms across restarts, and what people did about them, in every database."""

import pytest

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import Clock
from harness.real import databases
from utility.access.actor import Actor, Via
from utility.access.roles import Role
from utility.access.store.audit_log import Wanted, entries
from utility.alarms import store as store
from utility.alarms.board import State
from utility.alarms.conditions import Counted, Facts
from utility.alarms.decisions import Alarms, Board
from utility.alarms.silences import LONGEST_S
from utility.corrections.tables import finding
from utility.database.database import Database
from utility.jobs.catalogue import catalogue

NOW = 1_800_000_000
ANN = Actor(name="ann", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7")
BEN = Actor(name="ben", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.8")
SILENT = Facts(silent_s={"r001": 4_000.0, "r002": 10.0})
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

    def _seen(self, counted: Counted | None) -> Facts:
        return Facts(**(vars(self.facts) | {"counted": counted or Counted()}))

    def pass_s(self, seconds: int) -> Board:
        """Let time pass, and look."""
        self.clock.origin += seconds
        self.alarms.count()
        if self.alarms.look():
            self.alarms.save()
        return self.alarms.board()

    def audit(self) -> list[tuple[object, ...]]:
        with self.database.reads.begin() as connection:
            found = entries(connection, Wanted(), 100)
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
    assert (row.alarm.key, row.alarm.since, row.state) == (KEY, NOW + 200, State.ACTIVE)
    world.facts = Facts()
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
    world.facts = Facts()
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
    assert (row.state, row.acknowledgement and row.acknowledgement.person) == (State.ACKNOWLEDGED, "ann")
    world.restart()
    assert world.pass_s(60).rows[0].state is State.ACKNOWLEDGED
    world.alarms.withdraw(BEN, number)
    assert world.alarms.board().rows[0].state is State.ACTIVE
    with pytest.raises(ConfigError, match="does not hold"):
        world.alarms.withdraw(BEN, number)
    assert world.audit() == [("ann", "alarm.acknowledge", KEY), ("ben", "alarm.withdraw", KEY)]


def test_silence_shows_at_once_and_holds_until_its_end_or_until_a_person_ends_it(world: World) -> None:
    number = world.alarms.silence(ANN, KEY, "cable work", NOW + 4_000)
    board = world.alarms.board()
    assert (board.rows[0].state, board.counts.silences, board.counts.critical) == (State.SUPPRESSED, 1, 0)
    world.restart()
    assert world.pass_s(60).rows[0].state is State.SUPPRESSED
    world.alarms.end_silence(BEN, number)
    assert (world.alarms.board().rows[0].state, world.alarms.board().silences) == (State.ACTIVE, ())
    second = world.alarms.silence(ANN, KEY, "cable work", NOW + 1_000)
    assert world.pass_s(1_000).rows[0].state is State.ACTIVE
    with pytest.raises(ConfigError, match=f"silence {second} does not hold"):
        world.alarms.end_silence(BEN, second)
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
    world.alarms.withdraw(ANN, number)
    world.alarms.silence(ANN, KEY, "cable work", NOW + 4_000)
    assert world.alarms.own() == {}


def test_alarm_that_was_seen_before_the_stored_ones_were_read_is_one(world: World) -> None:
    world.restart()
    world.alarms.look()
    assert [row.alarm.since for row in world.pass_s(15).rows] == [NOW + 200]
    world.facts = Facts()
    world.pass_s(400)
    world.restart()
    assert world.pass_s(15).rows == ()
    assert len(world.alarms.past(10)) == 1


def test_maintenance_holds_from_its_start(world: World) -> None:
    world.alarms.maintain(ANN, "r001", "", NOW + 1_000, NOW + 2_000, "new cable")
    board = world.alarms.board()
    assert ([one.subject for one in board.silences], board.counts.silences) == (["r001"], 0)
    assert board.rows[0].state is State.ACTIVE
    assert world.pass_s(700).rows[0].state is State.SUPPRESSED
    assert world.pass_s(1_000).rows[0].state is State.ACTIVE


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
        lambda: world.alarms.end_silence(ANN, 7),
    ):
        with pytest.raises(ConfigError):
            refused()
    assert (world.audit(), world.alarms.board().silences) == ([], ())
    assert world.alarms.board().rows[0].state is State.ACTIVE


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
    world.facts = Facts()
    assert world.pass_s(10).rows == ()
    (row,) = world.pass_s(3_600).rows
    assert row.alarm.key == "CommonwattFindingsOpen|utility|utility|check=spike"


def test_damaged_database_is_an_alarm_although_nothing_can_be_read(database: Database) -> None:
    world = World(database)
    world.facts = Facts(damaged=True)
    world.alarms.look()
    assert [row.alarm.name for row in world.alarms.board().rows] == ["CommonwattStoreDamaged"]
