"""What every part's ``dump`` command writes: JSON lines, one block or event each, to be compared by the audit.

``{"kind": "block", "meter": "10001", "type": 3, "quarter": 1988888, "values": [.., null, ..], "quality": "2212..",
"extras": [[slot, value], ..]}`` and ``{"kind": "event", "meter": "10001", "generation": 1, "id": "7", "previous": 1,
"new": 17, "time": 1790000000}``. Qualities: 0 missing, 1 averaged, 2 exact.
"""

import json
from collections.abc import Iterable, Iterator
from typing import IO

from commonwatt.blocks import Blocks, concatenate, join, make_blocks
from commonwatt.records import EventRecord

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
    """Read a dump: its blocks, joined, and its events by (meter, generation, id)."""
    joined: list[Blocks] = []
    rows: list[dict[str, object]] = []
    events = {}
    for line in file:
        item = json.loads(line)
        if item["kind"] == "event":
            event = EventRecord(
                previous_state=item["previous"],
                new_state=item["new"],
                record_id=int(item["id"]),
                meter_id=int(item["meter"]),
                time=item["time"],
            )
            events[event.meter_id, item["generation"], event.record_id] = event
        elif item["kind"] == "block":
            rows.append(item)
            if len(rows) == _CHUNK:
                joined.append(_blocks_of(rows))
                rows = []
    return join([concatenate([*joined, _blocks_of(rows)])]), events


def _blocks_of(rows: list[dict[str, object]]) -> Blocks:
    return make_blocks(
        [(int(str(row["meter"])), int(str(row["type"])), int(str(row["quarter"]))) for row in rows],
        [[value or 0 for value in row["values"]] for row in rows],  # type: ignore[attr-defined]
        [[int(q) for q in str(row["quality"])] for row in rows],
        [(i, slot, value) for i, row in enumerate(rows) for slot, value in row["extras"]],  # type: ignore[attr-defined]
    )
