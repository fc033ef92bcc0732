"""The utility watches the controllers of a clique: who manages, since when and why; and people see it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from commonwatt.clique.beats import BEAT_S, Beat, Bits
from commonwatt.clique.messages import Grant, Known, SendBeat, Who
from commonwatt.model.calendar import iso
from commonwatt.protocol.commands import EPOCH_STEP
from commonwatt.runtime.metric_families import AtEachScrape
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.commands import run_as, shown
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.cliques.cliques import STOPPED_S, Cliques, StepOutcome
from utility.cliques.grants import BEGAN, CLAIMED, FIRST_ALONE_S, GRANTED, RETURNED, Grants, Handover, KeptGrant
from utility.cliques.metrics import takeover_metrics
from utility.cliques.store import KEEP_S, explained, keep_orders, save
from utility.database.database import Database

NAMES = ("r001", "r002", "r003")
RANKS = {name: n for n, name in enumerate(NAMES, 1)}
ORDERS = {name: NAMES[at:] + NAMES[:at] for at, name in enumerate(NAMES)}


@dataclass
class Controller:
    """A controller as the utility sees it."""

    epochs: dict[str, tuple[int, int]]  # the highest epoch that it knows, by microgrid
    manages: set[str]
    alive: bool = True
    number: int = 0
    mute: bool = False  # whether it beats, and answers no question


@dataclass
class WatchedTown:
    """Three controllers and the utility."""

    now: float = 1_000.0
    kept: dict[str, KeptGrant] = field(default_factory=dict)
    history: list[Handover] = field(default_factory=list)
    answers: int = 0

    def __post_init__(self) -> None:
        self.controllers = {name: Controller({grid: (1, RANKS[grid]) for grid in NAMES}, {name}) for name in NAMES}
        self.start()

    def start(self) -> None:
        self.groups = Cliques([Grants(ORDERS, RANKS, self.kept, self.now)], self.now)

    def run(self, seconds: float, *, ticks: bool = True) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            if ticks:
                for outcome in self.groups.tick(self.now):
                    self.do(outcome)
            for name, one in self.controllers.items():
                if one.alive and round(self.now * 10) % round(BEAT_S * 10) == 0:
                    self.beat(name)

    def beat(self, name: str, *, leaves: bool = False) -> None:
        one = self.controllers[name]
        one.number += 1
        bits = Bits(able=frozenset(NAMES), manages=frozenset(one.manages), leaves=leaves)
        self.do(self.groups.beat(0, name, Beat(bits, one.number), self.now))

    def do(self, outcome: StepOutcome) -> None:
        self.kept |= outcome.granted
        self.history += outcome.handovers
        self.answers += sum(isinstance(out.done, SendBeat) and out.done.beat.is_answer for out in outcome.beats)
        for out in outcome.messages:
            assert not isinstance(out.done, SendBeat)
            self.hears(out.done.to, out.done.message)

    def hears(self, name: str, message: object) -> None:
        one = self.controllers[name]
        if not one.alive or one.mute:
            return
        if isinstance(message, Grant) and message.epoch >= one.epochs[message.microgrid]:
            one.epochs[message.microgrid] = message.epoch
            one.manages.add(message.microgrid)
        if isinstance(message, Who | Grant):
            self.tells(name, message.microgrid)

    def tells(self, name: str, grid: str) -> None:
        one = self.controllers[name]
        known = Known(microgrid=grid, highest=one.epochs[grid], manages=grid in one.manages)
        self.do(self.groups.message(0, name, known, self.now))

    def says(self, grid: str) -> tuple[str | None, bool]:
        manager, _ = self.groups.managers().get(grid, (None, (0, 0)))
        return manager, grid not in self.groups.unmanaged(self.now)

    def claims(self, name: str, grid: str, counter: int) -> None:
        """Let a controller manage under an epoch that the utility did not grant."""
        for other in self.controllers.values():
            other.manages.discard(grid)
        self.controllers[name].epochs[grid] = (counter, RANKS[name])
        self.controllers[name].manages.add(grid)


def begun() -> WatchedTown:
    town = WatchedTown()
    town.run(100)
    return town


def test_the_first_start_is_the_first_line_of_the_history() -> None:
    town = begun()
    assert [(one.microgrid, one.controller, one.how) for one in town.history] == [(n, n, BEGAN) for n in NAMES]
    assert {one.why for one in town.history} == {"first start"}
    assert town.groups.managers() == {name: (name, (1, RANKS[name])) for name in NAMES}


def test_a_microgrid_whose_controller_dies_is_granted_and_the_history_says_how_long_it_was_silent() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.run(10)
    (line,) = town.history[3:]
    assert (line.microgrid, line.controller, line.before, line.how) == ("r001", "r002", "r001", GRANTED)
    assert line.why in ("granted: r001 gave no sign for 4.3 s", "granted: r001 gave no sign for 4.4 s")
    assert town.says("r001") == ("r002", True)
    town.run(100)
    assert town.groups.false_takeovers == 0, "it was dead"


def test_a_claim_and_a_return_are_told_apart() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.claims("r003", "r001", 5)
    town.run(4)
    assert (town.history[-1].controller, town.history[-1].how) == ("r003", CLAIMED)
    assert town.groups.managed_by_others(town.now) == {"r001": ("r003", 0.0)}
    town.controllers["r001"].alive = True
    town.run(70)
    manager, heard_s = town.groups.managed_by_others(town.now)["r001"]
    assert manager == "r003"
    assert heard_s == pytest.approx(70, abs=BEAT_S)
    town.claims("r001", "r001", 6)
    town.run(10)
    assert (town.history[-1].controller, town.history[-1].why) == ("r001", "given back by r003")
    assert town.history[-1].how == RETURNED
    assert town.groups.managed_by_others(town.now) == {}


def test_a_controller_that_was_replaced_though_it_lived_is_counted() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.run(6)
    assert town.says("r001") == ("r002", True)
    town.controllers["r001"].alive = True
    town.controllers["r001"].manages.discard("r001")
    town.run(10)
    assert town.groups.false_takeovers == 1


def test_the_utility_that_was_stopped_itself_takes_nobody_for_lost() -> None:
    town = begun()
    town.run(60, ticks=False)
    for one in town.controllers.values():
        one.alive = False
    town.now += 60
    town.do(town.groups.tick(town.now)[0])
    assert [town.says(name) for name in NAMES] == [(name, True) for name in NAMES]
    for one in town.controllers.values():
        one.alive = True
    town.run(100)
    assert len(town.history) == 3
    assert town.groups.false_takeovers == 0


def test_a_restarted_utility_goes_on_with_what_it_kept() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.run(10)
    town.start()
    assert town.says("r001")[0] == "r002"
    town.run(100)
    assert [one.microgrid for one in town.history].count("r001") == 2
    assert town.kept["r001"].adopted == (2, 2)


def test_a_microgrid_that_nobody_manages_is_counted_from_the_loss() -> None:
    town = begun()
    for one in town.controllers.values():
        one.alive = False
    town.run(70)
    assert 60 < town.groups.unmanaged(town.now)["r001"] < 70
    for one in town.controllers.values():
        one.alive = True
    town.run(100)
    assert "r001" not in town.groups.unmanaged(town.now)


def heard(town: WatchedTown, name: str, manages: dict[str, tuple[int, int]] | None, seconds: int) -> None:
    """Let a controller send heartbeats alone, one a minute."""
    for second in range(seconds):
        if second % 60 == 0:
            for outcome in town.groups.heartbeat(name, manages, town.now):
                town.do(outcome)
        town.run(1)


@pytest.mark.parametrize("first_s", [0, 59])
def test_an_older_release_keeps_its_microgrid(first_s: int) -> None:
    """Its backups would hear its meters, but it knows nothing of grants and commands on."""
    town = WatchedTown()
    town.controllers["r001"].alive = False
    town.run(first_s)
    heard(town, "r001", None, 600)
    assert [line.microgrid for line in town.history] == ["r002", "r003"]
    assert town.says("r001") == (None, True)


def test_a_controller_without_beats_is_lost_after_three_heartbeats() -> None:
    town = WatchedTown()
    town.controllers["r001"].alive = False  # its datagrams are blocked
    heard(town, "r001", {"r001": (1, 1)}, 600)
    assert town.says("r001") == ("r001", True)
    town.run(110)
    assert town.says("r001") == ("r001", True)
    town.run(70)
    assert town.says("r001") == ("r002", True)


def test_a_restarted_utility_waits_for_the_first_heartbeat_of_a_controller_without_beats() -> None:
    town = WatchedTown()
    town.controllers["r001"].alive = False
    heard(town, "r001", {"r001": (1, 1)}, 90)
    town.start()
    town.run(59)
    heard(town, "r001", {"r001": (1, 1)}, 200)
    assert town.says("r001") == ("r001", True)


def test_a_controller_that_is_dead_at_the_first_start_of_the_utility_is_replaced() -> None:
    town = WatchedTown()
    town.controllers["r001"].alive = False
    town.run(FIRST_ALONE_S - 10)
    assert town.says("r001") == (None, False), "where a whole town starts, its own controller may need minutes"
    town.run(80)
    assert town.says("r001") == ("r002", True)


def test_a_member_that_beats_and_answers_nothing_holds_up_no_grant() -> None:
    town = WatchedTown()
    town.controllers["r003"].mute = True
    town.run(100)
    town.controllers["r001"].alive = False
    town.run(10)
    assert town.says("r001") == ("r002", True)


def test_what_a_deposed_controller_says_is_asked_of_the_one_that_it_names() -> None:
    town = begun()
    town.claims("r002", "r001", 9)
    town.do(town.groups.adopt("r001", "r001", (9, 2), town.now))
    assert town.says("r001") == ("r002", True)


@pytest.mark.parametrize("step", [1, EPOCH_STEP, 2**31])
def test_a_stolen_member_lifts_the_counter_of_the_next_grant_by_a_step_at_most(step: int) -> None:
    town = begun()
    counter = 1
    for n in range(2**16):
        counter = min(counter + step, 2**32 - 1)
        known = Known(microgrid="r001", highest=(counter, RANKS["r003"]), manages=n % 2 == 0)
        town.groups.message(0, "r003", known, town.now)
    town.controllers["r001"].alive = False
    town.run(20)
    (epoch,) = {one.epochs["r001"] for name, one in town.controllers.items() if "r001" in one.manages and one.alive}
    assert epoch[0] <= 2 + EPOCH_STEP


def test_two_members_that_say_the_same_are_believed_at_once() -> None:
    town = begun()
    far = 10 * EPOCH_STEP
    for name in ("r002", "r003"):
        town.groups.message(0, name, Known(microgrid="r001", highest=(far, 2), manages=name == "r002"), town.now)
    town.groups.message(0, "r002", Known(microgrid="r001", highest=(far, 2), manages=True), town.now)
    assert town.groups.managers()["r001"] == ("r002", (far, 2))


def test_an_error_of_the_rules_in_one_clique_stops_that_clique_alone_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[str, KeptGrant] = {}
    others = {f"r10{n}": tuple(f"r10{m % 3}" for m in (n, n + 1, n + 2)) for n in range(3)}
    cliques = [
        Grants(ORDERS, RANKS, kept, 0.0),
        Grants(others, {name: at for at, name in enumerate(others, 101)}, kept, 0.0),
    ]
    groups, now = Cliques(cliques, 0.0), 100.0
    beat = Beat(Bits(able=frozenset(NAMES)))

    def fails(*_: object) -> list[object]:
        cliques[0].granted["r001"] = KeptGrant(top=9, pending=(9, 1))  # not durable
        raise KeyError(7)

    with monkeypatch.context() as broken:
        broken.setattr(cliques[0], "tick", fails)
        outcomes = groups.tick(now)
    assert [type(outcome.failed) for outcome in outcomes] == [KeyError, type(None)]
    assert groups.stopped(now) == {"r001": "KeyError: 7"}
    assert groups.beat(0, "r001", beat, now + 1).beats == [], "its controllers watch each other"
    assert len(groups.beat(1, "r100", beat, now + 1).beats) == 1
    now += STOPPED_S
    assert groups.stopped(now) == {}
    assert len(groups.beat(0, "r001", beat, now).beats) == 1
    assert cliques[0].granted["r001"] == KeptGrant(), "what the rules had in mind is forgotten"


WHY = "granted: r001 gave no sign for 4.3 s"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 4, houses = 2}]\n')
    return load_town(path)


@pytest.fixture
def taken(database: Database) -> Database:
    """The microgrid r001 was taken over by r002 ten minutes ago; r004 is in no clique."""
    names = ("r001", "r002", "r003")
    first = Handover(microgrid="r001", epoch=(1, 1), controller="r001", before="", how=BEGAN, why="first start")
    second = Handover(microgrid="r001", epoch=(2, 2), controller="r002", before="r001", how=GRANTED, why=WHY)
    with database.writes.begin() as connection:
        keep_orders(connection, {name: names[at:] + names[:at] for at, name in enumerate(names)})
        save(connection, {}, [first], NOW - 86_400)
        save(connection, {"r001": KeptGrant(adopted=(2, 2), seen=(2, 2), top=2)}, [second], NOW - 600)
    return database


def test_the_api_says_who_manages_what_and_who_did(taken: Database, browser: Callable[..., Browser]) -> None:
    del taken
    viewer = browser(Role.VIEWER)
    rows = {one["microgrid"]: one for one in viewer.get("/assignments").json()["assignments"]}
    assert rows["r001"] == {
        "microgrid": "r001", "order": ["r001", "r002", "r003"], "manager": "r002", "since": iso(NOW - 600),
        "why": WHY, "epoch": [2, 2], "unmanaged_s": 0,
    }  # fmt: skip
    assert (rows["r002"]["manager"], rows["r002"]["why"]) == ("", "no controller has confirmed that it manages it")
    assert (rows["r004"]["manager"], rows["r004"]["why"]) == ("r004", "it is in no clique")
    found = viewer.get("/assignments/r001").json()
    assert [(one["controller"], one["why"]) for one in found["history"]] == [("r002", WHY), ("r001", "first start")]
    assert viewer.get("/assignments/r009").status_code == 404


def test_pages_show_a_microgrid_that_another_controller_manages(
    taken: Database, browser: Callable[..., Browser]
) -> None:
    del taken
    viewer = browser(Role.VIEWER)
    page = text_of(viewer.get("/console/microgrids/r001"))
    assert "managed by r002" in page
    assert WHY in page
    page = text_of(viewer.get("/console/microgrids/r001?of=who"))
    assert "It may be managed by r001, then r002, then r003." in page
    assert "first start" in page
    assert "It may be managed" not in text_of(viewer.get("/console/microgrids/r004?of=who"))
    assert "managed by r002" in viewer.get("/console/town").text


def test_the_command_prints_the_table_and_explains_one(taken: Database, tmp_path: Path) -> None:
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{taken.reads.url}"\n')
    listed = " ".join(run_as(config, "show", "assignments").split())
    assert "r001 r001, r002, r003 r002" in listed
    told = " ".join(run_as(config, "show", "assignments", "r001").split())
    assert WHY in told
    assert "first start" in told
    rows = shown(config, "assignments")["assignments"]
    assert [one["manager"] for one in rows] == ["r002", "", "", "r004"]


def test_the_history_is_kept_for_a_year_and_the_present_manager_for_ever(taken: Database) -> None:
    later = Handover(microgrid="r002", epoch=(1, 2), controller="r002", before="", how=BEGAN, why="first start")
    with taken.writes.begin() as connection:
        save(connection, {}, [later], NOW + 2 * KEEP_S)
        found = explained(connection, {}, "r001")
    assert (found.assignment.manager, len(found.history)) == ("r002", 1)


def test_metrics_count_managers_handovers_and_false_takeovers() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.run(6)
    town.controllers["r001"].alive = True
    town.controllers["r001"].manages.discard("r001")
    town.run(10)
    registry = CollectorRegistry()
    registry.register(AtEachScrape(lambda: takeover_metrics(town.groups, {"repeated": 2}, town.now)))
    page = generate_latest(registry).decode()
    for line in (
        'managed_microgrids{controller="r002"} 2.0',
        'managed_by_another{controller="r001"} 1.0',
        'handovers_total{controller="r001"} 1.0',
        'handovers_total{controller="r003"} 0.0',
        'takeovers_total{how="granted"} 1.0',
        'unmanaged_seconds{controller="r001"} 0.0',
        "false_takeovers_total 1.0",
        'refused_datagrams_total{reason="repeated"} 2.0',
        'refused_datagrams_total{reason="of no session"} 0.0',
    ):
        assert f"commonwatt_utility_{line}\n" in page
