"""The preview of a schedule: its figures agree with what batches of a gateway really take, and it refuses too much."""

from typing import Any

import numpy as np
import pytest

from commonwatt.codec.packing import pack
from commonwatt.model import control
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.control import (
    HEAD_BYTES,
    MESSAGE_BYTES,
    MONTH_S,
    PACKET_BYTES,
    SEGMENT_BYTES,
    RelayedDays,
    Relaying,
    line_of,
    messages_every,
)
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.heartbeats import Heartbeat, LineMonth
from harness.surroundings import databases
from harness.surroundings import messages as sent
from tests.unit.utility.control.test_changes import ANNA, NOW, R001, ask, hear, heartbeat, tune
from utility.control.changes import AllowanceError
from utility.control.commands import in_force
from utility.control.decisions import make_change, preview_change
from utility.control.preview import effect_on, in_words, longest_delay_s
from utility.control.store import has_figures
from utility.database.database import Database
from utility.outbox.changes import AT_GATEWAY, METERS
from utility.readings.store.gateways import relayed_by
from utility.readings.store.writer import Writer

kind = databases.both_kinds

SERIES, QUARTER = 40, 2_000_000
LEFT_S = 10 * 86_400
MINUTES, QUARTERS = Relaying(relay_s=60, aggregation="none"), Relaying(relay_s=900, aggregation="none")
FIVE_MINUTES = Relaying(relay_s=300, aggregation="none")
AVERAGES = Relaying(relay_s=60, aggregation="lossy")


def relayed(relay_s: int, hours: int = 4) -> RelayedDays:
    """Count the messages of a gateway that relays readings of a microgrid, packed as it packs them."""
    rng = np.random.default_rng(3)
    values = 5_000 + rng.integers(-128, 128, (SERIES, hours * 240))
    messages = [_message(values, end, relay_s // 15) for end in range(relay_s // 15, hours * 240 + 1, relay_s // 15)]
    sizes, blocks = zip(*messages, strict=True)
    slots = SERIES * hours * 240
    return RelayedDays(seconds=hours * 3600, batches=len(sizes), blocks=sum(blocks), slots=slots, size=sum(sizes))


def _message(values: "np.ndarray[Any, Any]", end: int, slots: int) -> tuple[int, int]:
    # The last minute's readings of a quarter-hour are collected after its end.
    present = range(max(0, end - 4 - slots), end - 4) if end > 4 else range(0)
    found = [_block(values, series, quarter, present) for series in range(SERIES) for quarter in _quarters(present)]
    blocks = make_blocks(*map(list, zip(*found, strict=True))) if found else make_blocks([], [], [])
    return len(_batch(blocks).pack()), len(blocks)


def _quarters(present: range) -> range:
    return range(present.start // 60, (present.stop - 1) // 60 + 1) if present else range(0)


def _block(
    values: "np.ndarray[Any, Any]", series: int, quarter: int, present: range
) -> tuple[Any, list[int], list[int]]:
    slots = range(quarter * 60, quarter * 60 + 60)
    row = [int(values[series, slot]) if slot in present else 0 for slot in slots]
    return (10_001 + series // 2, 1 + series % 2, QUARTER + quarter), row, [2 if s in present else 0 for s in slots]


def _batch(blocks: Blocks) -> Batch:
    parts: dict[str, Any] = {"events": [], "dead_letters": [], "keys": blocks.keys(), "payloads": pack(blocks)}
    return Batch(owner="r001", store=2**61 + 5, sequence=2**33 + 1, time=NOW, **parts)


@pytest.mark.parametrize(("now_s", "then_s"), [(60, 900), (900, 60), (60, 300), (300, 3600)])
def test_bytes_at_another_period_are_predicted_within_a_tenth(now_s: int, then_s: int) -> None:
    measured, really = relayed(now_s), relayed(then_s)
    up, _ = line_of(measured, Relaying(relay_s=then_s, aggregation="none"))
    heads = (MESSAGE_BYTES[0] + HEAD_BYTES) * messages_every(then_s)
    packets = really.size * (1 + SEGMENT_BYTES[0] / PACKET_BYTES)
    print(now_s, then_s, (up - heads) / (packets / really.seconds))
    assert up - heads == pytest.approx(packets / really.seconds, rel=0.1)


def line(used: int, expected: int, allowance: int = 2_000_000_000) -> LineMonth:
    return LineMonth(used=(used, used), expected=(expected, expected), allowance=allowance)


def test_a_rarer_relay_takes_fewer_bytes_and_brings_data_later() -> None:
    said = heartbeat(lte=line(100_000_000, 300_000_000))
    effect = effect_on("r001", {"cmd": "schedule", "periods": {"relay_s": 900}}, said, relayed(60), LEFT_S)
    assert effect.before_bytes == (600_000_000, 600_000_000), "200 MB in ten days"
    assert effect.after_bytes is not None
    saved = [a - b for a, b in zip(effect.before_bytes, effect.after_bytes, strict=True)]
    computed = [a - b for a, b in zip(line_of(relayed(60), MINUTES), line_of(relayed(60), QUARTERS), strict=True)]
    assert saved == pytest.approx([one * MONTH_S for one in computed], abs=2)
    assert 10_000_000 < saved[0] < 40_000_000
    assert effect.delay_s == (135, 975)
    assert not effect.breaks


def test_the_prediction_agrees_with_a_line_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten houses of real processes with TLS: the side of the utility for ten minutes at 60 s, then at 300 s."""
    monkeypatch.setattr(control, "HELLO_S", 17.5)  # Gateways looked after 15 s of silence when it was measured.
    counted = RelayedDays(seconds=901, batches=21, blocks=593, slots=2045, size=8879)
    measured = (36.61 - 42.95, 19.45 - 21.09)
    predicted = [b - a for a, b in zip(*(line_of(counted, one) for one in (MINUTES, FIVE_MINUTES)), strict=True)]
    assert predicted == pytest.approx(measured, rel=0.2)


UNKNOWN: dict[str, tuple[Heartbeat | None, RelayedDays | None, str]] = {
    "no heartbeat": (None, relayed(60, 1), "not reported yet"),
    "no line": (heartbeat(), relayed(60, 1), "its line was not counted"),
    "no batches": (heartbeat(lte=line(0, 5)), None, "its batches were not counted"),
    "averages": (heartbeat(lte=line(0, 5), aggregation="lossy"), relayed(60, 1), "averages now"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_without_a_measurement_there_is_no_figure_but_a_reason(name: str) -> None:
    said, counted, why = UNKNOWN[name]
    effect = effect_on("r001", {"cmd": "schedule", "periods": {"relay_s": 900}}, said, counted, LEFT_S)
    assert (effect.after_bytes, effect.breaks, why in effect.why) == (None, False, True)


def test_back_to_an_unknown_period_of_a_file_has_no_figure() -> None:
    said = heartbeat(lte=line(0, 5), tuned=("relay_s",))
    fields = {"cmd": "schedule", "periods": {"relay_s": None}}
    assert effect_on("r001", fields, said, relayed(60, 1), LEFT_S).why == "the gateway's own period is not known here"
    assert effect_on("r001", fields, said, relayed(60, 1), LEFT_S, 900).after_bytes is not None


def test_each_action_has_words() -> None:
    actions: list[dict[str, Any]] = [
        {"cmd": "schedule", "periods": dict.fromkeys(("collect_s", "levels_s", "relay_s", "put_s", "compact_s"), 60)},
        {"cmd": "sharing", "strategy": "aces"},
        {"cmd": "aggregate", "mode": "lossy"},
        {"cmd": "aggregate", "mode": "lossy", "at": "meters"},
        {"cmd": "deaggregate"},
        {"cmd": "reduce", "state": "on"},
        {"cmd": "isolate", "state": "off"},
    ]
    assert [len(in_words(fields)) for fields in actions] == [5, 1, 1, 1, 1, 1, 1]
    assert [has_figures(fields) for fields in actions] == [True] + [False] * 6
    assert longest_delay_s(AVERAGES, 60) == 1080


def test_what_breaks_the_allowance_is_refused_with_the_figure_and_what_saves_is_not(database: Database) -> None:
    """A line whose plan is used up already may still be tuned to carry less."""
    writer = Writer(database)
    for minute in range(80):
        message = sent.append(sent.blocks({0: 1, 1: 2, 2: 3, 3: 4}), received=NOW - 4800 + 60 * minute)
        writer.commit([message.__class__(**{**vars(message), "size": 90_000})])
    with database.reads.begin() as connection:
        found = RelayedDays(**relayed_by(connection, ["r001"])["r001"])
    assert (found.seconds, found.batches, found.slots, found.size) == (4500, 75, 300, 75 * 90_000)
    hear(database, lte=line(0, 1_900_000_000), periods={"collect_s": 60, "levels_s": 60, "relay_s": 900})
    assert "carry" in (refused := preview_change(database, tune(15), NOW).refused), refused
    with pytest.raises(
        AllowanceError, match=r"r001: its LTE line would carry [23]\.\d{3} GB a month, and its plan allows 2.0"
    ):
        make_change(database, ANNA, tune(15), NOW)
    hear(database, lte=line(3_000_000_000, 4_000_000_000))
    assert make_change(database, ANNA, tune(900), NOW) == 1
    assert preview_change(database, ask(Action.REDUCE, R001, state="off"), NOW).effects == []


def test_a_period_that_a_person_sets_ends_whole_quarters_that_the_gateway_relays_by_itself() -> None:
    said = heartbeat(aggregation="lossless", saves={"line": ("quarters",)})
    fields = {"cmd": Action.SCHEDULE, "periods": {"relay_s": 300}}
    assert effect_on("r001", fields, said, None, LEFT_S).delay_s == (960 + 60 + 60, 15 + 60 + 300)
    commanded = heartbeat(aggregation="lossless", saves={"line": ("quarters",)}, tuned=("aggregation",))
    assert effect_on("r001", fields, commanded, None, LEFT_S).delay_s == (960 + 60 + 60, 960 + 60 + 300)


def test_what_a_gateway_does_by_itself_is_not_put_back_as_if_a_person_had_set_it() -> None:
    said = heartbeat(aggregation="lossless", meters="lossless", saves={"line": ("quarters", "meters")})
    before = in_force(frozenset({AT_GATEWAY, METERS}), said)
    assert before == {AT_GATEWAY: {"value": "none", "until": None}, METERS: {"value": "none"}}
    before = in_force(frozenset({AT_GATEWAY}), said.model_copy(update={"tuned": ("aggregation",)}))
    assert before == {AT_GATEWAY: {"value": "lossless", "until": None}}
