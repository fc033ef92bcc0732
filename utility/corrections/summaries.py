"""Corrections for people: those of quarter-hours in a row as one line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, Quarter
from commonwatt.settlement.estimates.methods import Method
from utility.corrections.columns import Summary
from utility.corrections.lifecycle import State


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


@dataclass(frozen=True, kw_only=True)
class Key:
    """Which corrections a line of ``summaries`` is of."""

    meter_no: int  # the number of their meter
    record_type: int  # their record type
    method: Method  # their method
    state: State  # their state when the line was made
    first: Quarter  # their first quarter
    until: Quarter  # the quarter after their last
    count: int  # how many they were when the line was made


def key_of(text: str) -> Key:
    """Return what a line's `key` names.

    Raises:
        ConfigError: The text is none.
    """
    if not re.fullmatch(r"(\d{1,9}\.){3}[a-z]+(\.\d{1,9}){3}", text, re.ASCII):
        raise ConfigError(f"{text:.60}: names no corrections")
    number, kind, method, state, first, until, count = text.split(".")
    if int(method) not in list(Method) or state not in list(State):
        raise ConfigError(f"{text:.60}: names no corrections")
    return Key(
        meter_no=int(number),
        record_type=int(kind),
        method=Method(int(method)),
        state=State(state),
        first=int(first),
        until=int(until),
        count=int(count),
    )


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
