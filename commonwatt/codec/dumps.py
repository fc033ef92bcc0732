"""The output of every part's ``dump`` command, for the audit: JSON lines, one block or event each.

``{"kind": "block", "meter": "10001", "type": 3, "quarter": 1988888, "values": [.., null, ..], "quality": "2212..",
"extras": [[slot, value], ..]}`` and ``{"kind": "event", "meter": "10001", "generation": 1, "id": "7", "previous": 1,
"new": 17, "time": 1790000000}``. Qualities: 0 missing, 1 averaged, 2 exact.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from commonwatt.model.blocks import Blocks, concatenate, join, make_blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord
from commonwatt.model.units import MAX_ABS_READING, SLOTS, parse_id

_CHUNK = 5_000


def block_lines(blocks: Blocks) -> Iterator[str]:
    """Yield one line for each block."""
    for row in range(len(blocks)):
        meter, record_type, quarter = blocks.key(row)
        quality = blocks.quality[row].tolist()
        values = [value if q else None for value, q in zip(blocks.values[row].tolist(), quality, strict=True)]
        yield json.dumps(
            {
                "kind": "block",
                "meter": str(meter),
                "type": record_type,
                "quarter": quarter,
                "values": values,
                "quality": "".join(map(str, quality)),
                "extras": blocks.extras_of(row),
            },
            separators=(",", ":"),
        )


def event_lines(events: Iterable[tuple[int, EventRecord]]) -> Iterator[str]:
    """Yield one line for each (log generation, event)."""
    for generation, event in events:
        yield json.dumps(
            {
                "kind": "event",
                "meter": str(event.meter_id),
                "generation": generation,
                "id": str(event.record_id),
                "previous": event.previous_state,
                "new": event.new_state,
                "time": event.time,
            },
            separators=(",", ":"),
        )


def read_dump(file: IO[str]) -> tuple[Blocks, dict[tuple[int, int, int], EventRecord]]:
    """Read a dump: its blocks, joined, and its events by (meter, generation, id).

    Raises:
        ConfigError: A line is not what ``block_lines`` or ``event_lines`` writes; names the file and the line.
    """
    joined: list[Blocks] = []
    rows: list[_Block] = []
    events = {}
    number = 0
    try:
        for line in file:
            number += 1
            item = json.loads(line)
            if item["kind"] == "event":
                event = _event_of(item)
                events[event.meter_id, _number(item["generation"]), event.record_id] = event
            elif item["kind"] == "block":
                rows.append(_block_of(item))
                if len(rows) == _CHUNK:
                    joined.append(_blocks_of(rows))
                    rows = []
            else:
                raise ValueError(f"no kind of line: {item['kind']!r}")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        name = getattr(file, "name", "dump")
        fault = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ConfigError(f"{name}: line {number}: not a line of a dump ({fault}); make it anew") from error
    return join([concatenate([*joined, _blocks_of(rows)])]), events


@dataclass(frozen=True)
class _Block:
    key: tuple[int, int, int]
    values: list[int]
    quality: list[int]
    extras: list[tuple[int, int]]


def _block_of(item: dict[str, Any]) -> _Block:
    """Return the block of a line; raise a ValueError if a value is malformed."""
    values, quality = item["values"], item["quality"]
    if not len(values) == len(quality) == SLOTS or set(quality) - set("012"):
        raise ValueError(f"values and quality are not those of {SLOTS} slots")
    return _Block(
        (_number(item["meter"], 2**64), _number(item["type"], 2**8), _number(item["quarter"])),
        [0 if value is None else _reading(value) for value in values],
        [int(q) for q in quality],
        [(_number(slot, SLOTS), _reading(value)) for slot, value in item["extras"]],
    )


def _event_of(item: dict[str, Any]) -> EventRecord:
    return EventRecord(
        previous_state=_number(item["previous"], 2**16),
        new_state=_number(item["new"], 2**16),
        record_id=_number(item["id"], 2**64),
        meter_id=_number(item["meter"], 2**64),
        time=_number(item["time"]),
    )


def _number(value: object, end: int = 2**32) -> int:
    """Return a number, or an id in decimal, below ``end``."""
    number = parse_id(value) if isinstance(value, str) else value
    if type(number) is not int or not 0 <= number < end:
        raise ValueError(f"{value!r:.40} is out of range")
    return number


def _reading(value: object) -> int:
    if type(value) is not int or abs(value) > MAX_ABS_READING:
        raise ValueError(f"{value!r:.40} is no reading")
    return value


def _blocks_of(rows: list[_Block]) -> Blocks:
    return make_blocks(
        [row.key for row in rows],
        [row.values for row in rows],
        [row.quality for row in rows],
        [(i, slot, value) for i, row in enumerate(rows) for slot, value in row.extras],
    )
