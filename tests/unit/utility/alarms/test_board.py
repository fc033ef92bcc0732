"""What people see of alarms: nothing is hidden that waits for a person, and nothing stays silenced without an end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from utility.alarms.alarm import Alarm
from utility.alarms.board import Acknowledgement, State, counted, rows
from utility.alarms.lifecycle import Condition, Life, Stage, advance
from utility.alarms.silences import (
    FURTHEST_S,
    LONGEST_S,
    Silence,
    check_note,
    check_place,
    check_window,
)

NOW = 1_800_000_000


def alarm(name: str = "GatewaySilent", since: int = NOW - 600, **fields: Any) -> Alarm:
    labels = {"alertname": f"Commonwatt{name}", "severity": "critical", "part": "utility", "place": "utility"}
    labels |= fields.pop("labels", {"controller": "r001"})
    return Alarm(labels=labels, summary="It is silent.", since=since, **fields)


def silence(**fields: Any) -> Silence:
    which = {} if fields.keys() & {"alarm", "name", "places"} else {"places": "r001"}
    base: dict[str, Any] = {"no": 1, "start": NOW - 60, "end": NOW + 60, "person": "ann", "note": "cable"}
    return Silence(**{**base, **which, **fields})


def acknowledgement(**fields: Any) -> Acknowledgement:
    base: dict[str, Any] = {
        "no": 1,
        "key": alarm().key,
        "person": "ann",
        "note": "on my way",
        "made": NOW - 60,
        "end": NOW + 60,
    }
    return Acknowledgement(**(base | fields))


def state(*, of: Alarm | None = None, at: int = NOW, said: tuple[Any, ...] = (), held: tuple[Any, ...] = ()) -> State:
    (row,) = rows([of or alarm()], said, held, at)
    return row.state


def test_acknowledged_alarm_is_active_again_at_its_end_and_when_it_comes_anew() -> None:
    assert state() is State.ACTIVE
    assert state(said=(acknowledgement(),)) is State.ACKNOWLEDGED
    assert state(said=(acknowledgement(),), at=NOW + 60) is State.ACTIVE
    assert state(of=alarm(since=NOW - 30), said=(acknowledgement(),)) is State.ACTIVE
    assert state(of=alarm(labels={"controller": "r002"}), said=(acknowledgement(),)) is State.ACTIVE


def test_silenced_alarm_stays_on_the_board_below_the_others_and_ends_with_the_silence() -> None:
    here, there = alarm(), alarm(labels={"controller": "r002"})
    found = rows([here, there], [acknowledgement()], [silence()], NOW)
    assert [(row.alarm.place, row.state) for row in found] == [("r002", State.ACTIVE), ("r001", State.SUPPRESSED)]
    assert [one.note for one in found[1].silences] == ["cable"]
    totals = counted(found, [silence(), silence(start=NOW + 5)], NOW)
    assert (totals.critical, totals.suppressed, totals.silences) == (1, 1, 1)
    assert state(held=(silence(),), at=NOW + 60) is State.ACTIVE
    assert state(held=(silence(start=NOW + 1),)) is State.ACTIVE


@pytest.mark.parametrize(
    ("place", "part", "held"),
    [
        ("r001", "", {"silent", "broker"}),
        ("r001", "gateway", {"silent"}),
        ("r001", "broker", {"broker"}),
        ("utility", "", {"utility"}),
        ("r002, r003", "", {"other"}),
        ("r002 r001 utility", "gateway", {"silent", "other"}),
        ("", "broker", {"broker"}),
        ("", "", {"silent", "broker", "utility", "other"}),
        ("head-end", "", set()),
    ],
)
def test_maintenance_holds_the_alarms_of_its_place_and_no_others(place: str, part: str, held: set[str]) -> None:
    alarms = {
        "silent": alarm(),
        "broker": alarm("PartDown", labels={"place": "r001", "part": "broker"}),
        "utility": alarm("UtilityDisconnected", labels={}),
        "other": alarm(labels={"controller": "r002"}),
    }
    one = silence(places=place, part=part)
    assert {name for name, each in alarms.items() if one.holds(each)} == held


def test_silence_of_an_alarm_holds_that_one_alone_and_one_of_a_name_all_of_it() -> None:
    one, every = silence(alarm=alarm().key), silence(name=alarm().name)
    assert one.holds(alarm(description="other figures"))
    assert not one.holds(alarm(labels={"controller": "r002"}))
    assert every.holds(alarm(labels={"controller": "r002"}))
    assert not any(each.holds(alarm("BacklogOld")) for each in (one, every))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOW, NOW),
        (NOW - 50, NOW),
        (NOW, NOW + LONGEST_S + 1),
        (NOW + FURTHEST_S + 1, NOW + FURTHEST_S + 60),
        (NOW + 60, NOW + 30),
    ],
)
def test_silence_without_a_near_end_is_refused(start: int, end: int) -> None:
    check_window(NOW, NOW + LONGEST_S, NOW)
    with pytest.raises(ConfigError, match=r"^(start|end): "):
        check_window(start, end, NOW)


def test_maintenance_of_what_is_not_there_and_notes_that_say_nothing_are_refused() -> None:
    check_place("head-end", "broker", lambda _: False)
    with pytest.raises(ConfigError, match="place: r999"):
        check_place("r001 r999", "", lambda name: name == "r001")
    with pytest.raises(ConfigError, match="part: meter "):
        check_place("r001", "meter", lambda _: True)
    for note in ("", "  ", "a\nb", "x" * 201):
        with pytest.raises(ConfigError, match="note: "):
            check_note(note)


def life(lives: dict[str, Life]) -> tuple[Stage, int] | None:
    return next(((one.stage, one.alarm.since) for one in lives.values()), None)


def test_condition_whose_beginning_is_known_need_not_wait_again_after_a_restart() -> None:
    found = [Condition(alarm=alarm(), for_s=120, held_s=500)]
    assert life(advance({}, found, NOW, lambda _: True)) == (Stage.STANDING, NOW - 500)


def test_condition_that_passes_in_time_is_no_alarm() -> None:
    found = [Condition(alarm=alarm(), for_s=120)]
    lives = advance({}, found, NOW, lambda _: True)
    assert life(lives) == (Stage.WAITING, NOW)
    assert life(advance(lives, [], NOW + 60, lambda _: True)) is None
    lives = advance(lives, found, NOW + 120, lambda _: True)
    assert life(lives) == (Stage.STANDING, NOW)
    assert life(advance(lives, [], NOW + 150, lambda _: False)) == (Stage.STANDING, NOW)
    ended = advance(lives, [], NOW + 150, lambda _: True)
    assert [(one.stage, one.ended) for one in ended.values()] == [(Stage.ENDED, NOW + 150)]


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=30), for_s=st.integers(0, 300))
def test_alarm_stands_exactly_from_when_its_condition_has_lasted(steps: list[tuple[bool, int]], for_s: int) -> None:
    lives: dict[str, Life] = {}
    now, began = NOW, None
    for holds, later in steps:
        now += later
        began = (now if began is None else began) if holds else None
        found = [Condition(alarm=alarm(), for_s=for_s)] if holds else []
        after = advance(lives, found, now, lambda _: True)
        stands = began is not None and now - began >= for_s
        assert any(one.stage is Stage.STANDING for one in after.values()) == stands
        # Whatever stood and does not any more has ended, once.
        stood = any(one.stage is Stage.STANDING for one in lives.values())
        assert any(one.stage is Stage.ENDED for one in after.values()) == (stood and not stands)
        lives = {key: one for key, one in after.items() if one.stage is not Stage.ENDED}
