"""The demonstration: its clock, people, stage and tour, and what it sees of its parts."""

import json
import shlex
import socket
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.demo import running
from commonwatt.demo.console import TRIES, invited
from commonwatt.demo.layout import BUILT_IN_TOWN, CEILING_S, CLOCK_FILE, STARTS_AT, DemoFolder
from commonwatt.demo.observer import Observer
from commonwatt.demo.running import behind_s, paced
from commonwatt.demo.stage import ALL, PROGRAMME, Play, Say, Seen, TourStage
from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Tour, TourStep, order
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime import clock as module
from commonwatt.runtime.clock import Clock, load_clock, save_clock, wall_clock
from commonwatt.runtime.supervisor import SupervisedPart
from commonwatt.town.loading import load_town
from harness.past.__main__ import of_demonstration


class Machine:
    """The machine's two clocks, as the tests set them."""

    def __init__(self) -> None:
        self.wall = 1_790_000_000.0
        self.monotonic = 500.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: it.wall, monotonic=lambda: it.monotonic))
    return it


def test_clock_stands_still_before_its_origin(machine: Machine) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=510.0, speed=60)
    assert clock.now() == 1_000
    machine.monotonic = 509.9
    assert clock.now() == 1_000
    machine.monotonic = 511
    assert clock.now() == 1_060


def test_a_machine_after_2106_starts_in_1970_as_one_without_a_clock_battery(machine: Machine) -> None:
    machine.wall = 2.0**32 - 1
    assert wall_clock().now() == 2**32 - 1
    machine.wall = 2.0**32
    assert wall_clock().now() == 0


def test_fast_clock_waits_less(machine: Machine) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=500.0, speed=60)
    assert clock.real_s(900) == 15
    assert clock.real_s_until(1_120) == 2
    machine.monotonic = 501
    assert clock.real_s_until(1_120) == 1
    machine.monotonic = 600
    assert clock.real_s_until(1_120) == 0


def test_wall_clock_runs_on_when_the_machines_time_is_set_back(machine: Machine) -> None:
    clock = wall_clock()
    assert clock.now() == 1_790_000_000
    machine.wall -= 3_600
    machine.monotonic += 5
    assert clock.now() == 1_790_000_005


def test_wall_clock_goes_on_from_a_time_it_is_told_to_follow(machine: Machine) -> None:
    clock = wall_clock()
    machine.monotonic += 5
    clock.follow(1_790_003_600)
    assert clock.now() == 1_790_003_600
    machine.monotonic += 5
    assert clock.now() == 1_790_003_605


def test_parts_that_read_one_clock_file_agree(machine: Machine, tmp_path: Path) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=499.0, speed=60, meters_stop_at=2_000)
    path = tmp_path / "clock.json"
    save_clock(path, clock)
    assert load_clock(path) == replace(clock, path=path)
    assert load_clock(path).now() == 1_060


def test_time_begins_in_every_part_when_the_demonstration_says_so(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    clock = Clock(origin=1_000.0, monotonic_origin=1e9, speed=60)
    save_clock(path, clock)
    part = load_clock(path)
    machine.monotonic = 700
    assert part.now() == 1_000
    save_clock(path, replace(clock, monotonic_origin=702.0))
    assert part.now() == 1_000
    machine.monotonic = 703
    assert part.now() == 1_060
    # Once it runs, nothing stops it: the file is not read again.
    path.unlink()
    machine.monotonic = 704
    assert part.now() == 1_120


def test_a_clock_that_stands_still_does_not_read_its_file_at_each_question(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clock.json"
    save_clock(path, Clock(origin=1_000.0, monotonic_origin=1e9))
    part, look = load_clock(path), Mock(side_effect=load_clock)
    monkeypatch.setattr(module, "load_clock", look)
    for _ in range(1_000):
        assert part.now() == 1_000
    assert look.call_count == 1
    machine.monotonic += 2 * module.LOOK_EVERY_S
    assert part.now() == 1_000
    assert look.call_count == 2


def test_without_a_clock_file_it_is_the_machines_time(machine: Machine) -> None:
    assert load_clock(None) == Clock(origin=1_790_000_000, monotonic_origin=500)


def test_clock_of_an_earlier_boot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    save_clock(path, wall_clock())
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"boot": "another"}))
    with pytest.raises(ConfigError, match=r"clock\.json: made before this machine restarted"):
        load_clock(path)


LINKS = '[{"role": "clerk", "link": "http://127.0.0.1/1"}]'


def layout_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int) -> Any:
    """Return a layout whose command is killed so many times, and then answers."""
    program, count = tmp_path / "python", tmp_path / "count"
    program.write_text(
        f"#!/bin/sh\necho >> {count}\nif [ $(wc -l < {count}) -le {killed} ]; then kill -9 $$; fi\necho '{LINKS}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return SimpleNamespace(part=lambda _: SimpleNamespace(config=tmp_path / "utility.toml"))


def test_a_command_that_is_killed_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with invited(layout_with(tmp_path, monkeypatch, killed=TRIES - 1)) as links:
        assert links == {}
    assert links == {"clerk": "http://127.0.0.1/1"}


def test_the_reason_is_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConfigError, match="could not be invited: the command ended with -9"),
        invited(layout_with(tmp_path, monkeypatch, killed=TRIES)),
    ):
        pass


NOW = 1_781_964_000


def test_a_microgrid_that_another_controller_manages_is_seen_by_its_own_gateways_status() -> None:
    observer = Observer(SimpleNamespace(town=SimpleNamespace(microgrids=["r001"])))  # type: ignore[arg-type]
    status: dict[str, Any] = {"modes": {"phase": "connected"}, "donors": [], "receivers": []}
    told = []
    for takeover in ({}, {"takeover": {"microgrids": {"r001": {"manages": False}}}}):
        observer.seen = {"r001 gateway": status | takeover}
        told.append(observer.on_stage()["r001"].manages)
    observer.close()
    assert told == [True, False]


def test_lapses_are_counted_over_the_restarts_of_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    part = SimpleNamespace(name="r001 gateway", http="127.0.0.1:1")
    observer = Observer(SimpleNamespace(parts=[part]))  # type: ignore[arg-type]
    answers: list[dict[str, int] | None] = [{"lapses": 3}, {"lapses": 5}, None, {"lapses": 1}, {"lapses": 1}]
    counts = []
    for answer in answers:
        monkeypatch.setattr(observer, "_ask", lambda _, answer=answer: answer)
        observer.look()
        counts.append(observer.lapses)
    observer.close()
    assert counts == [3, 5, 5, 6, 6]


def test_the_line_of_the_audit_turns_green_again_when_late_readings_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(origin=NOW, monotonic_origin=0, speed=60)
    part = SupervisedPart(name="utility", kind="utility", config=Path(), http="127.0.0.1:1", log=Path())
    observer = Observer(DemoFolder(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=(part,), began=NOW))
    monkeypatch.setattr("commonwatt.demo.observer.STORED_EVERY_S", 0)
    said = []
    for minutes, made, stored in ((0, 100, 0), (10, 200, 90), (15, 300, 90), (20, 400, 100), (25, 500, 200)):
        observer.seen = {"meters": {"made": made}, "r001 meters": {"made": made}}
        monkeypatch.setattr(observer, "_ask", lambda *_, stored=stored: {"slots": {"r001": stored}})
        observer.count(NOW + 60 * minutes)
        said.append((observer.is_good, observer.audit))
    observer.close()
    well = (True, "audit: all readings older than 15 minutes are stored")
    assert said == [well, well, (False, "audit: 10 readings older than 15 minutes are not stored yet"), well, well]


def test_a_part_that_dies_in_the_middle_of_its_answer_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        http = f"127.0.0.1:{server.getsockname()[1]}"
        config = tmp_path / "utility.toml"
        config.write_text(f'[utility]\nhttp = "{http}"\n')
        part = SupervisedPart(name="utility", kind="utility", config=config, http=http, log=tmp_path / "log")
        observer = Observer(SimpleNamespace(parts=[part]))  # type: ignore[arg-type]
        looking = pool.submit(observer.look)
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 154\r\n\r\n")
        connection.close()
        looking.result()
        assert (observer.silent, observer.seen) == ({"utility"}, {})
        observer.close()


def test_the_clock_slows_down_to_real_time_and_recovers_to_the_speed_asked_for() -> None:
    speeds = [60.0]
    while speeds[-1] > 1:
        speeds.append(paced(speeds[-1], 60, behind_s=61))
    assert speeds == [60, 30, 15, 7.5, 3.75, 1.875, 1]
    assert paced(1, 60, behind_s=3600) == 1, "never below real time"
    assert paced(7.5, 60, behind_s=40) == 7.5
    while speeds[-1] < 60:
        speeds.append(paced(speeds[-1], 60, behind_s=19))
    assert speeds[-1] == 60
    assert paced(60, 60, behind_s=0) == 60


def test_the_slowest_part_decides() -> None:
    seen: dict[str, dict[str, Any]] = {
        "r001 meters": {"lag_s": 5.0},
        "r001 gateway": {"time": 970, "queue_s": 4.0},
        "utility": {"queue_s": 12.0, "time": 1000},
        "plant": {"time": 0},
    }
    assert behind_s(seen, set(), 1000) == 30
    assert behind_s(seen | {"r002 meters": {"lag_s": 70.0}}, set(), 1000) == 70
    assert behind_s(seen | {"r002 gateway": {"time": 999, "queue_s": 80.0}}, set(), 1000) == 80, "its inbox is long"
    assert behind_s({}, set(), 1000) == 0


def test_a_part_that_is_too_busy_to_answer_is_as_far_behind_as_its_last_answer_is_old() -> None:
    seen: dict[str, dict[str, Any]] = {
        "r001 meters": {"lag_s": 0.0, "time": 900},
        "utility": {"queue_s": 0.0, "time": 800},
    }
    assert behind_s(seen, set(), 1000) == 0
    assert behind_s(seen, {"r001 meters"}, 1000) == 100
    assert behind_s(seen, {"r001 meters", "utility"}, 1000) == 200


def test_a_slowed_clock_stands_still_between_looks_and_goes_on_from_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: real[0])
    clock = Clock(origin=0, monotonic_origin=100.0, speed=60)
    run: Any = running.TownRun(DemoFolder(data=tmp_path, town=load_town(BUILT_IN_TOWN), clock=clock, parts=()), Event())
    run.observer.close()
    behind = {"r001 meters": {"lag_s": 100.0}}
    run.observer = SimpleNamespace(seen={}, silent=set())

    def ceiling() -> float:
        return float(json.loads((tmp_path / CLOCK_FILE).read_text())["ceiling"])

    run._let_time_go_on(clock.now())
    assert (run.speed, ceiling()) == (60, 60 * CEILING_S)
    run.observer.seen = behind
    real[0] += CEILING_S
    for speed in (30, 15, 7.5):
        before = ceiling()
        run._let_time_go_on(clock.now())
        assert run.speed == speed
        assert ceiling() == pytest.approx(before + speed), "until the next look it advances by its speed"
        real[0] += 1.0
    before = clock.now()
    run._let_time_go_on(clock.now())
    assert clock.now() <= before
    assert clock.now() == pytest.approx(60 * CEILING_S + 30 + 15 + 7.5), "no leap over the time it stood still"


def a_run(monkeypatch: pytest.MonkeyPatch, stop: Any) -> running.TownRun:
    """Return a run without processes; a test gives it an observer and a supervisor."""
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(running, "set_ceiling", lambda *_: None)
    clock = Clock(origin=0, monotonic_origin=time.monotonic(), speed=60)
    run = running.TownRun(DemoFolder(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=()), stop)
    run.observer.close()
    return run


def test_a_slow_machine_may_relay_as_long_as_something_arrives_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = a_run(monkeypatch, SimpleNamespace(wait=lambda _: False))
    run.supervisor = SimpleNamespace(running={}, watch=lambda: None, hold=lambda _: None)
    now, arrived = 0.0, 0
    run.observer = SimpleNamespace(
        seen={}, silent=set(), look=lambda: None, drained=lambda: False, arrived=lambda: arrived
    )
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: now))

    def looked() -> None:
        nonlocal now, arrived
        now += 50
        arrived = min(int(now), 500)

    assert not run.watch(100.0, looked)
    assert 500 + running.DRAIN_WITHIN_S <= now <= 500 + running.DRAIN_WITHIN_S + 2 * 50


def test_a_dark_microgrids_broker_and_gateway_are_held_until_the_voltage_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # req: T9
    stop = threading.Event()
    run = a_run(monkeypatch, stop)
    held: list[set[str]] = []

    def hold(names: Collection[str]) -> None:
        held.append(set(names))

    seen: dict[str, Any] = {
        "meters": {},
        "r001 meters": {"dark": True, "time": 0},
        "r002 meters": {"dark": False, "time": 0},
    }
    parts = dict.fromkeys(["r001 broker", "r001 gateway", "r002 broker", "r002 gateway", "head-end"])
    replaced: Any = run
    replaced.observer = SimpleNamespace(
        seen=seen, silent=set(seen), look=lambda: None, drained=lambda: False, arrived=lambda: 0
    )
    replaced.supervisor = SimpleNamespace(running=parts, watch=lambda: None, hold=hold)
    run.dead = {"head-end"}

    def looked() -> None:
        if held:
            seen["r001 meters"]["dark"] = False
            run.dead = frozenset()
        if len(held) == 1:
            stop.set()

    run.watch(None, looked)
    assert held == [{"r001 broker", "r001 gateway", "head-end"}, set()]


ZONE = ZoneInfo("America/New_York")
DAY_S = 86_400


def played(begin: int, end: int, step: int = 60, until: int | None = None) -> list[tuple[str, str]]:
    """Return the local times and commands of a run from ``begin`` to ``end``, looked at every ``step`` seconds."""
    stage = TourStage(ZONE, PROGRAMME, until)
    return [
        (f"{datetime.fromtimestamp(now, ZONE):%H:%M}", effect.words)
        for now in range(begin, end, step)
        for effect in stage.handle({}, now)
        if isinstance(effect, Play)
    ]


def test_in_a_day_each_scene_comes_once_in_the_same_order_on_a_fast_and_a_slow_machine() -> None:
    day = played(STARTS_AT, STARTS_AT + DAY_S)
    assert day[0] == ("10:40", "meters weather 10 --for 10800")
    assert len(day) == len(PROGRAMME)
    assert played(STARTS_AT, STARTS_AT + DAY_S, step=600) == day


def test_something_happens_every_minute_or_two_at_sixty_times_real_speed() -> None:
    stage, times = TourStage(ZONE, PROGRAMME, None), []
    for now in range(STARTS_AT, STARTS_AT + DAY_S, 60):
        times += [now for effect in stage.handle({}, now) if isinstance(effect, Play)]
    waits = [(after - before) / 60 for before, after in zip([STARTS_AT, *times], times, strict=False)]
    assert max(waits) <= 120
    assert waits[0] <= 60


def test_every_scene_says_what_happens_what_the_system_does_and_where_to_look() -> None:
    town = load_town(BUILT_IN_TOWN)
    for _, (say, play) in PROGRAMME:
        assert say.what.endswith(".")
        assert say.does.endswith(".")
        assert say.page.startswith("/console/")
        assert play.folder in {ALL, *town.microgrids}


def test_no_scene_begins_after_the_meters_have_stopped() -> None:
    begin = STARTS_AT
    assert [at for at, _ in played(begin, begin + DAY_S, until=begin + 3600)] == ["10:40"]


def test_nothing_is_played_in_a_town_without_scenes() -> None:
    stage = TourStage(ZONE, (), None)
    assert not [effect for now in range(STARTS_AT, STARTS_AT + DAY_S, 600) for effect in stage.handle({}, now)]


def test_sharing_is_said_once_an_hour_at_most_and_islands_when_they_begin_and_end() -> None:
    stage = TourStage(ZONE, (), None)
    calm = Seen(phase="connected")
    helped = Seen(phase="connected", donors=["house 1", "house 2"], receivers=["house 5"])
    island = Seen(phase="islanded")
    seen = [calm, calm, helped, calm, helped, Seen(phase="isolating"), island, island, Seen(phase="resynchronising")]
    said = [
        effect
        for now, one in enumerate([*seen, calm, calm])
        for effect in stage.handle({"r001": one}, STARTS_AT + now)
        if isinstance(effect, Say)
    ]
    assert [line.what for line in said] == [
        "r001 shares: house 5 below the owner's minimum.",
        "r001 is an island.",
        "r001 is back on the town's net.",
    ]
    assert said[0].does == "With more than their minima, 2 batteries give to house 5."
    later = [stage.handle({"r001": one}, STARTS_AT + 3700) for one in (calm, helped)]
    assert [line.what for line in later[1] if isinstance(line, Say)] == [said[0].what]
    assert {line.page for line in said} == {"/console/microgrids/r001"}


def test_a_battery_that_nobody_can_help_is_no_sharing() -> None:
    assert TourStage(ZONE, (), None).handle({"r001": Seen(phase="connected", receivers=["house 5"])}, STARTS_AT) == []


@pytest.mark.parametrize("words", sorted({play.words for _, (_, play) in PROGRAMME}))
def test_the_commands_of_the_scenes_exist(words: str) -> None:
    answer = CliRunner().invoke(make_app(), [*words.split(), "--config", "missing.toml"])
    assert "missing.toml" in answer.output


def test_an_island_that_is_seen_only_as_it_returns_is_told_too() -> None:
    stage, told = TourStage(ZONE, (), None), []
    for phase in ("connected", "isolating", "resynchronising", "connected"):
        told += stage.handle({"r001": Seen(phase=phase)}, STARTS_AT)
    assert [say.what for say in told if isinstance(say, Say)] == [
        "r001 is an island.",
        "r001 is back on the town's net.",
    ]


def test_the_release_is_of_the_day_after_the_one_in_the_past_and_ends_in_the_demonstration() -> None:
    line = next(line for step in STEPS for line in step.do if "research release" in line)
    words = shlex.split(line)
    start, end = (parse_time(words[words.index(option) + 1], option) for option in ("--from", "--to"))
    past = of_demonstration(Path("unused")).release
    assert past is not None
    assert start == past[1], "a period is released once"
    assert end == start + DAY_S
    assert start < STARTS_AT < end < STARTS_AT + DAY_S


def test_the_check_code_is_one_word_of_the_command_though_it_is_printed_in_groups() -> None:
    line = next(line for step in STEPS for line in step.do if "check_bill.py" in line)
    words = shlex.split(line.replace("CODE", "1f83ea2f 4570e204"))
    assert words[-2:] == ["--code", "1f83ea2f 4570e204"]


@pytest.mark.parametrize("step", [step for step in STEPS if step.words], ids=lambda step: step.id)
def test_the_commands_of_the_steps_exist(step: TourStep) -> None:
    words = [*step.words.split(), "--for", str(step.for_s), "--config", "missing.toml"]
    assert "missing.toml" in CliRunner().invoke(make_app(), words).output


def test_a_step_runs_once_until_its_time_has_passed_and_the_town_is_well() -> None:
    tour, well = Tour(STEPS), "audit: all readings older than 15 minutes are stored"
    assert tour.handle([], 100, well) == []
    assert tour.handle(["feeder"], 100, well) == [
        Say(what="The feeder of r001 is cut for half an hour.", does=STEPS[0].look, page="/console/microgrids/r001"),
        Play(words="meters feeder dead --for 1800", folder="r001"),
    ]
    assert tour.shown()[0].items() >= {"id": "feeder", "state": "running", "since": 100}.items()
    assert tour.handle(["feeder"], 101, well) == []
    assert tour.handle([], 1899, well) == []
    assert tour.handle([], 1900, well) == [], "the island is not seen yet"
    assert tour.handle([], 1901, "", ["r001"]) == [], "it is one now"
    assert tour.handle([], 1902, "") == [], "it is none, but a reading is late"
    assert tour.handle([], 1903, well, ["r001"]) == [], "it is one again"
    (said,) = tour.handle([], 2500, well, ["r002"])
    assert said == Say(what="Cut a feeder: well again.", does=well, page="/console/microgrids/r001")
    assert tour.shown()[0].items() >= {"state": "well again", "since": 2500}.items()
    assert len(tour.handle(["feeder"], 2501, well)) == 2, "it may be tried again"


def test_the_time_of_a_step_begins_with_the_end_of_its_command() -> None:
    """On a loaded machine the command took longer than the step, which was then "well again" before it began."""
    tour = Tour(STEPS)
    tour.handle(["feeder"], 100, "well")
    assert tour.handle([], 1900, "well", plays=True) == []
    tour.handle([], 1901, "well", ["r001"])
    assert tour.handle([], 3699, "well") == []
    assert len(tour.handle([], 3700, "well")) == 1
    tour.handle(["feeder"], 4000, "well")
    assert tour.handle([], 21_999, "well") == []
    assert len(tour.handle([], 22_000, "well")) == 1, "it was no island"


def test_a_stopped_controller_is_dead_for_its_time_only() -> None:
    tour = Tour(STEPS)
    (said,) = tour.handle(["controller"], 100, "")
    assert isinstance(said, Say)
    assert tour.dead(1899) == {"r001 broker", "r001 gateway"}
    assert tour.dead(1900) == set()
    assert tour.handle([], 1901, "well", ["r001"]) == [], "it is back, and another one still manages r001"
    (said,) = tour.handle([], 5500, "well")
    assert isinstance(said, Say)
    assert said.what == "Stop a controller: well again."


def test_what_cannot_be_ordered_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the stage of a demonstration that runs"):
        order(tmp_path, "feeder")
    tour = Tour(STEPS)
    tour.handle(["supply"], 100, "")
    (tmp_path / STAGE).write_text(json.dumps({"steps": tour.shown()}))
    (tmp_path / ORDERS).mkdir()
    with pytest.raises(
        ConfigError, match=r"\.\./x: the supervisor of this town does no such step, but feeder, controller"
    ):
        order(tmp_path, "../x")
    with pytest.raises(ConfigError, match="price: the supervisor"):
        order(tmp_path, "price")
    with pytest.raises(ConfigError, match="Supply LOW: this runs already; wait until it is well again"):
        order(tmp_path, "supply")
    assert list((tmp_path / ORDERS).iterdir()) == []
    assert order(tmp_path, "feeder") == "Cut a feeder: the supervisor does it now"
    assert [one.name for one in (tmp_path / ORDERS).iterdir()] == ["feeder"]
