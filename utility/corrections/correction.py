"""A correction: its states and steps, its lines for people, a person's value for a period, its plot.

A proposed estimate counts for nothing until a person approves it. A person's own value counts at once. Every step can
be taken back: a decision on an estimate makes it a proposal again, a person's value goes out of force.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MilliwattHours, Quarter
from utility.corrections.estimates import Method, spread, summing_to
from utility.webkit.columns import Shown, Time, Written
from utility.webkit.console.plots import plotted, single, thinned


class CorrectionState(StrEnum):
    """The state of a correction."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    EDITED = "edited"
    REFUSED = "refused"
    REVERTED = "reverted"


class Review(StrEnum):
    """What a person does to a correction."""

    APPROVE = "approve"
    REFUSE = "refuse"
    REVERT = "revert"


STEPS: Mapping[tuple[CorrectionState, Review], CorrectionState] = MappingProxyType(
    {
        (CorrectionState.PROPOSED, Review.APPROVE): CorrectionState.APPROVED,
        (CorrectionState.PROPOSED, Review.REFUSE): CorrectionState.REFUSED,
        (CorrectionState.APPROVED, Review.REVERT): CorrectionState.PROPOSED,
        (CorrectionState.REFUSED, Review.REVERT): CorrectionState.PROPOSED,
        (CorrectionState.EDITED, Review.REVERT): CorrectionState.REVERTED,
    }
)
"""Every legal step; another one is refused, and changes nothing."""

IN_FORCE = frozenset({CorrectionState.APPROVED, CorrectionState.EDITED})  # states whose values settlement takes


def before(action: Review) -> frozenset[CorrectionState]:
    """Return the states from which an action leads somewhere."""
    return frozenset(state for state, of in STEPS if of is action)


_MICROGRID = Shown("Microgrid")
_BADGES = {"approved": "good", "edited": "good"}


class CorrectionLine(BaseModel):
    """Corrections of quarter-hours in a row, of one meter, type, method and state."""

    key: str = Field(description="Names them as they are now, for a decision.")
    microgrid: Annotated[str, _MICROGRID]
    meter: Annotated[str, Shown("Meter", link="/console/quarantine/corrections/{key}")]
    type: Annotated[str, Shown("Type")]
    start: Annotated[Time, Shown("From", Written.MOMENT)]
    until: Annotated[Time, Shown("Until", Written.MOMENT)]
    method: Annotated[str, Shown("Method")]
    state: Annotated[str, Shown("State", Written.STATE, badges=_BADGES)]
    minutes: Annotated[float, Shown("Minutes")]
    energy_mwh: Annotated[int, Shown("Energy", Written.ENERGY)]


class Summary(CorrectionLine):
    """The same with the corrections' numbers."""

    numbers: list[int]


class OpenFinding(BaseModel):
    """An open finding of the daily checks."""

    no: Annotated[int, Shown("Number", Written.TEXT)]
    microgrid: Annotated[str, _MICROGRID]
    meter: Annotated[str, Shown("Meter", link="/console/quarantine/corrections/edit?meter={meter}", role="clerk")]
    type: Annotated[int, Shown("Type", Written.RECORD_TYPE)] = Field(description="The record type's number.")
    start: Annotated[Time, Shown("From", Written.MOMENT)]
    until: Annotated[Time, Shown("Until", Written.MOMENT)]
    check: Annotated[str, Shown("Check")]
    figure: Annotated[int, Shown("Figure")]
    threshold: Annotated[int, Shown("Threshold")]


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


MAX_DAYS = 35  # longest period of an edit; like days further away are not like

Energies = NDArray[np.int64]
Flags = NDArray[np.bool_]


def quarters_of(start: EpochSeconds, end: EpochSeconds) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a period and the quarter after its last.

    Raises:
        ConfigError: It is empty, too long, or not on the grid of slots.
    """
    if start >= end:
        raise ConfigError("start must be before until")
    if start % SLOT_S or end % SLOT_S:
        raise ConfigError(f"start and until must be multiples of {SLOT_S} s, the length of a slot")
    if end - start > MAX_DAYS * 86_400:
        raise ConfigError(f"a period has at most {MAX_DAYS} days; enter a longer one in parts")
    return start // QUARTER_S, -(-end // QUARTER_S)


def edited(
    start: EpochSeconds, end: EpochSeconds, energy: MilliwattHours | None, shape: Energies, known: Flags
) -> tuple[Energies, Flags]:
    """Return the values of a period's quarters by slot, and which slots are in the period, (quarters, 60).

    Args:
        energy: Its energy; ``None``: that of like days.
        shape: Energy of each quarter on like days, (quarters).
        known: Where it is known.

    Raises:
        ConfigError: There is neither an energy nor a like day for each quarter.
    """
    if energy is None and not known.all():
        raise ConfigError("there are no like days for the whole period; give its energy in kilowatt-hours")
    first = start // QUARTER_S * QUARTER_S
    slots = np.zeros(len(shape) * SLOTS, np.bool_)
    slots[(start - first) // SLOT_S : (end - first) // SLOT_S] = True
    # Where the shape is not known in part, it would put all energy into the rest.
    typical = spread(shape) if known.all() else np.ones(len(slots), np.int64)
    values = np.where(slots, typical, 0)
    if energy is not None:
        values[slots] = summing_to(energy, typical[slots])
    return values.reshape(-1, SLOTS), slots.reshape(-1, SLOTS)


def energy_of(text: str) -> MilliwattHours:
    """Return kilowatt-hours, at most six decimals, as milliwatt-hours.

    Raises:
        ConfigError: It is no such number.
    """
    whole, _, decimals = text.partition(".")
    if not (whole + decimals).isdecimal() or not (whole + decimals).isascii() or not whole or len(decimals) > 6:
        raise ConfigError(
            f"energy_kwh {text:.30}: must be kilowatt-hours such as 4.25, not negative, with at most 6 decimals"
        )
    if len(whole) > 9:
        raise ConfigError(f"energy_kwh {text:.30}: is more than any meter measures")
    return int(whole + decimals.ljust(6, "0"))


Line = tuple[NDArray[np.int64], NDArray[np.bool_]]  # the value of each step, milliwatt-hours, and where there is one


def figure(lines: Mapping[str, Line], start: EpochSeconds, step_s: int, record_type: int) -> dict[str, Any]:
    """Return a plot of some lines over the same steps: mean power in kW for energies, kWh for a level."""
    is_flow = RecordType(record_type).is_flow
    unit, scale = ("kW", 3.6e-3 / step_s) if is_flow else ("kWh", 1e-6)
    return {
        "series": [
            {"label": name, "unit": unit, **plotted(thinned(single(start, step_s, *line)), scale, {})}
            for name, line in lines.items()
        ]
    }
