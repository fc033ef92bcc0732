"""Corrections for people: those of quarter-hours in a row as one line."""

from collections.abc import Iterable
from typing import Any, TypedDict

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.settlement.estimates.methods import Method


class Summary(TypedDict):
    """Corrections in a row with the same meter, type, method and state; times are epoch seconds."""

    microgrid: str
    meter: str
    type: str
    start: int
    until: int
    method: str
    state: str
    minutes: float
    energy_mwh: int
    numbers: list[int]


def summaries(rows: Iterable[Any]) -> list[Summary]:
    """Return a line for each run of corrections, in the order of ``utility.store.corrections.found``."""
    found: list[Summary] = []
    open_: dict[tuple[str, int, int, str], Summary] = {}
    for row in rows:
        key = row.label, row.record_type, row.method, row.state
        start, minutes = row.quarter * QUARTER_S, row.mask.bit_count() * SLOT_S / 60
        last = open_.get(key)
        if last is None or last["until"] < start:
            last = open_[key] = Summary(
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
        last["until"] = start + QUARTER_S
        last["minutes"] += minutes
        last["energy_mwh"] += row.energy
        last["numbers"].append(row.no)
    return found
