"""The audit finds every way in which what is stored differs from what was made; dumps read back."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from commonwatt.audit import command
from commonwatt.audit.comparison import Audit, Events, Export, audit_files, compare
from commonwatt.codec import dumps
from commonwatt.codec.dumps import block_lines, event_lines, read_dump
from commonwatt.model.blocks import Blocks, average, concatenate, empty, join, make_blocks
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import SLOTS

KEYS = [(77, 3, 100), (77, 3, 101), (78, 2, 100)]
VALUES = [[1000 + 7 * slot for slot in range(SLOTS)], [5] * SLOTS, [0] * SLOTS]
EXACT = [[2] * SLOTS] * 3
EVENTS: Events = {
    (77, 1, i): EventRecord(previous_state=p, new_state=n, record_id=i, meter_id=77, time=i)
    for i, (p, n) in enumerate([(0, 1), (1, 1 | State.SHARING), (1 | State.SHARING, 1)], 1)
}
NOTHING: Export = (empty(), {})
TRUTH: Export = (make_blocks(KEYS, VALUES, EXACT), EVENTS)


def changed(*, row: int = 0, slot: int = 30, value: int | None = None, quality: int = 2) -> Blocks:
    """What was made, but for one slot."""
    values, qualities = [list(v) for v in VALUES], [list(q) for q in EXACT]
    values[row][slot] = values[row][slot] if value is None else value
    qualities[row][slot] = quality
    return make_blocks(KEYS, values, qualities)


def audit(stored: Blocks, *, meters: Export = NOTHING, gateways: Export = NOTHING, events: Events = EVENTS) -> Audit:
    return compare([TRUTH], meters, gateways, (stored, events))


def test_perfect_copy_is_good() -> None:
    result = audit(TRUTH[0])
    assert result.good
    assert result.total("made") == result.total("stored_exact") == 180
    assert (result.events_made, result.events_stored, result.sharing_events) == (3, 3, 1)
    assert [(line.meter, line.record_type, line.made) for line in result.lines] == [(77, 3, 120), (78, 2, 60)]


def test_missing_slot_is_found() -> None:
    result = audit(changed(quality=0))
    assert not result.good
    assert (result.total("missing"), result.total("stored_exact")) == (1, 179)
    assert [line.missing for line in result.lines] == [1, 0]


def test_missing_block_is_found() -> None:
    result = audit(TRUTH[0].take([0, 2]))
    assert not result.good
    assert result.total("missing") == 60


@pytest.mark.parametrize("where", ["meters", "gateways"])
def test_slot_still_held_on_its_way_is_not_lost(where: str) -> None:
    held: Export = (TRUTH[0].take([0]), {})
    result = audit(changed(quality=0), **{where: held})  # type: ignore[arg-type]
    assert result.good
    assert (result.total("held"), result.total("missing")) == (1, 0)
    assert result.total("at_meter") == (60 if where == "meters" else 0)


def test_errors_that_cancel_are_found() -> None:
    values = [list(v) for v in VALUES]
    values[0][3] += 5
    values[0][4] -= 5
    result = audit(make_blocks(KEYS, values, EXACT))
    assert not result.good
    assert result.total("difference") == 10


def test_conflict_is_found() -> None:
    result = audit(make_blocks(KEYS, VALUES, EXACT, [(1, 30, 6)]))
    assert not result.good
    assert [line.conflicting for line in result.lines] == [1, 0]


def test_slot_counted_though_never_made_is_found() -> None:
    more = make_blocks([(78, 3, 100)], [[5] * SLOTS], [[2] + [0] * 59])
    result = audit(concatenate([TRUTH[0], more]))
    assert not result.good
    assert [(line.meter, line.unmade, line.made) for line in result.lines] == [(77, 0, 120), (78, 0, 60), (78, 1, 0)]


def test_meters_of_other_makers_are_not_accused_but_counted() -> None:
    more = make_blocks([(99, 3, 100)], [[5] * SLOTS], [[2] + [0] * 59])
    events = EVENTS | {(99, 1, 1): EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=99, time=9)}
    result = audit(concatenate([TRUTH[0], more]), events=events)
    assert result.good
    assert result.foreign_slots == 1


def test_what_was_made_after_the_truth_was_exported_is_not_compared() -> None:
    later = make_blocks([(77, 3, 102), (78, 2, 102)], [[5] * SLOTS] * 2, [[2] + [0] * 59] * 2)
    late = EventRecord(previous_state=1, new_state=0, record_id=4, meter_id=77, time=102 * 900)
    assert audit(concatenate([TRUTH[0], later]), events=EVENTS | {(77, 1, 4): late}).good


def test_unmade_slot_within_a_made_block_is_found() -> None:
    result = compare([(changed(quality=0), EVENTS)], NOTHING, NOTHING, TRUTH)
    assert not result.good
    assert result.total("unmade") == 1


def test_averages_within_half_a_unit_a_slot_are_good() -> None:  # req: M7
    result = audit(average(TRUTH[0]))
    assert result.good
    assert (result.total("stored_averaged"), result.total("stored_exact")) == (180, 0)
    assert max(line.averaged_difference for line in result.lines) <= 5


def test_average_beyond_half_a_unit_a_slot_is_found() -> None:  # req: M7
    averaged = average(TRUTH[0])
    values = averaged.values.copy()
    values[1, 30:40] += 1
    result = audit(replace(averaged, values=values))
    assert not result.good
    assert result.total("beyond_bound") == 1


def test_errors_that_cancel_in_the_sum_of_an_averaged_group_are_found() -> None:
    averaged = average(TRUTH[0])
    values = averaged.values.copy()
    values[1, 30] += 100
    values[1, 31] -= 100
    assert audit(replace(averaged, values=values)).total("beyond_bound") == 1


def test_missing_event_is_found() -> None:
    result = audit(TRUTH[0], events={key: EVENTS[key] for key in list(EVENTS)[:2]})
    assert not result.good
    assert (result.events_stored, result.events_missing) == (2, 1)


def test_event_still_held_is_not_lost() -> None:
    result = audit(TRUTH[0], events={}, gateways=(empty(), EVENTS))
    assert result.good
    assert (result.events_held, result.events_missing) == (3, 0)


def test_changed_event_is_found() -> None:
    wrong = replace(EVENTS[77, 1, 1], time=99)
    result = audit(TRUTH[0], events=EVENTS | {(77, 1, 1): wrong})
    assert not result.good
    assert (result.events_different, result.events_stored) == (1, 2)


def test_event_that_never_was_is_found() -> None:
    result = audit(TRUTH[0], events=EVENTS | {(77, 2, 1): EVENTS[77, 1, 1]})
    assert not result.good
    assert result.events_different == 1


def test_audit_of_nothing_is_good() -> None:
    assert compare([NOTHING], NOTHING, NOTHING, NOTHING).good


def dump(path: Path, export: Export) -> Path:
    lines = [*block_lines(export[0]), *event_lines((key[1], event) for key, event in export[1].items())]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_audit_of_files_is_that_of_what_they_hold(tmp_path: Path) -> None:
    truth = [
        dump(tmp_path / "a", (TRUTH[0].take([0]), EVENTS)),
        dump(tmp_path / "b", (TRUTH[0].take([1, 2]), {})),
    ]
    utility = dump(tmp_path / "u", (changed(quality=0), EVENTS))
    gateway = dump(tmp_path / "g", (TRUTH[0].take([0]), {}))
    assert audit_files(truth, [], [], [utility]).total("missing") == 1
    assert audit_files(truth, [], [gateway], [utility]).good


def test_command_exits_1_unless_good_so_that_scripts_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, bad = dump(tmp_path / "t", TRUTH), dump(tmp_path / "u", (changed(quality=0), EVENTS))
    folder = tmp_path / "data"
    monkeypatch.setattr(command, "audit_folder", lambda *_: audit_files([truth], [], [], [truth]))
    command.audit_command(folder)
    assert "nothing lost, nothing counted twice" in capsys.readouterr().out
    monkeypatch.setattr(command, "audit_folder", lambda *_: audit_files([truth], [], [], [bad]))
    with pytest.raises(SystemExit) as caught:
        command.audit_command(folder, as_json=True)
    assert caught.value.code == 1
    assert '"good": false' in capsys.readouterr().out


def test_table_shows_what_is_missing() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(command.table_of(audit(changed(quality=0))))
    text = console.export_text()
    assert "through" in text
    assert "3 made, 3 stored" in text


values = st.lists(st.integers(0, 2**53), min_size=SLOTS, max_size=SLOTS)
qualities = st.lists(st.sampled_from([0, 1, 2]), min_size=SLOTS, max_size=SLOTS)
keys = st.tuples(st.sampled_from([1, 2**64 - 1]), st.integers(1, 4), st.integers(0, 2**32 - 1))
events = st.builds(
    EventRecord,
    previous_state=st.integers(0, 2**16 - 1),
    new_state=st.integers(0, 2**16 - 1),
    record_id=st.integers(0, 2**64 - 1),
    meter_id=st.integers(0, 2**64 - 1),
    time=st.integers(0, 2**32 - 1),
)


@given(st.dictionaries(keys, st.tuples(values, qualities), max_size=3), st.lists(events, max_size=4))
@settings(max_examples=30)
def test_dump_reads_back_as_what_was_stored(
    content: dict[tuple[int, int, int], tuple[list[int], list[int]]], made: list[EventRecord]
) -> None:
    extras = [
        (row, slot, v[slot] + (1 if v[slot] < 0 else -1))
        for row, (v, q) in enumerate(content.values())
        for slot in (0, 59)
        if q[slot] == 2
    ]
    blocks = join(
        [make_blocks(list(content), [v for v, _ in content.values()], [q for _, q in content.values()], extras)]
    )
    lines = [*event_lines((3, event) for event in made), *block_lines(blocks)]
    assert all("\n" not in line for line in lines)
    back, back_events = read_dump(io.StringIO("".join(line + "\n" for line in lines)))
    assert back.keys() == blocks.keys()
    assert back.values.tolist() == blocks.values.tolist()
    assert back.quality.tolist() == blocks.quality.tolist()
    assert back.extras.tolist() == blocks.extras.tolist()
    assert back_events == {(event.meter_id, 3, event.record_id): event for event in made}


def test_dump_of_more_blocks_than_a_chunk_loses_none() -> None:
    n = 2 * dumps._CHUNK + 1
    block = make_blocks([(1, 3, 0)], [[5] * SLOTS], [[2] * SLOTS])
    (line,) = block_lines(block)
    text = "\n".join(line.replace('"quarter":0', f'"quarter":{q}') for q in range(n))
    back, _ = read_dump(io.StringIO(text))
    assert back.quarter.tolist() == list(range(n))


def test_parts_of_one_block_in_two_lines_join() -> None:
    halves = [make_blocks([(1, 3, 0)], [[5] * SLOTS], [[2 * (slot % 2 == i) for slot in range(SLOTS)]]) for i in (0, 1)]
    text = "\n".join(line for half in halves for line in block_lines(half))
    back, _ = read_dump(io.StringIO(text))
    assert back.quality.tolist() == [[2] * SLOTS]


def test_empty_dump_is_nothing() -> None:
    blocks, made = read_dump(io.StringIO(""))
    assert (len(blocks), made) == (0, {})
