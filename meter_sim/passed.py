"""A slot of the world on its way to the meters of a microgrid."""

from collections.abc import Mapping
from dataclasses import dataclass

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds
from meter_sim.faults import MeterFault
from meter_sim.physics.microgrid import Step
from meter_sim.switch import Kept


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A slot of the world that the meters measure.

    Attributes:
        slot_end: End of the slot.
        step: What happened in it.
        bits: What the boundary's meters sense.
        dead: Meters whose own battery is empty.
        dark: Since when meters have had no voltage, if that changed.
        switch: What the boundary switch keeps.
        faults: Faults of meters.
        cut: Whether no meter reaches its controller.
    """

    slot_end: EpochSeconds
    step: Step
    bits: State
    dead: frozenset[MeterId]
    dark: Mapping[MeterId, EpochSeconds] | None
    switch: Kept
    faults: Mapping[str, MeterFault]
    cut: bool
