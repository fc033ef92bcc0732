"""Corrections for people: those of quarter-hours in a row as one line."""

from collections.abc import Iterable, Sequence
from typing import Any

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.settlement.estimates.methods import Method
from utility.corrections.columns import Summary


def summaries(rows: Iterable[Any]) -> list[Summary]:
    """Return a line for each run of corrections, in the order of ``utility.corrections.store.corrections.found``."""
    found: list[Summary] = []
    open_: dict[tuple[str, int, int, str], Summary] = {}
    for row in rows:
        key = row.label, row.record_type, row.method, row.state
        start, minutes = row.quarter * QUARTER_S, row.mask.bit_count() * SLOT_S / 60
        last = open_.get(key)
        if last is None or last.until < start:
            last = open_[key] = Summary(
                key=f"{row.meter_no}.{row.record_type}.{row.method}.{row.state}",
                microgrid=row.microgrid,
                meter=row.label,
                type=RecordType(row.record_type).name.lower(),
                start=start,
                until=start,
                method=Method(row.method).words,
                state=row.state,
                minutes=0,
                energy_mwh=0,
                numbers=[],
            )
            found.append(last)
        last.until = start + QUARTER_S
        last.minutes += minutes
        last.energy_mwh += row.energy
        last.numbers.append(row.no)
    for one in found:
        one.key += f".{one.start // QUARTER_S}.{one.until // QUARTER_S}.{len(one.numbers)}"
    return found


def step_lines(rows: Sequence[Any]) -> list[dict[str, object]]:
    """Return the steps of one moment as one line each."""
    counts: dict[tuple[object, ...], int] = {}
    for row in rows:
        key = row.time, row.person or "the utility", row.state_before or "new", row.state_after, row.why
        counts[key] = counts.get(key, 0) + 1
    return [
        {"time": time, "person": person, "from": state_before, "to": after, "quarter-hours": count, "why": why}
        for (time, person, state_before, after, why), count in counts.items()
    ]
