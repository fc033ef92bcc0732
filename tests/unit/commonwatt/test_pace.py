"""The demonstration's clock slows while a part can't keep up, and never jumps back."""

import json
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.demo import running
from commonwatt.demo.layout import BUILT_IN_TOWN, CEILING_S, CLOCK_FILE, Layout
from commonwatt.demo.running import behind_s, paced
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town


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
    run: Any = running.Run(Layout(data=tmp_path, town=load_town(BUILT_IN_TOWN), clock=clock, parts=()), Event())
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
