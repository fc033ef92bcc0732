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
    """A slot of the world that the meters measure."""

    slot_end: EpochSeconds  # end of the slot
    step: Step  # what happened in it
    bits: State  # what the boundary's meters sense
    dead: frozenset[MeterId]  # meters whose own battery is empty
    dark: Mapping[MeterId, EpochSeconds] | None  # since when meters have had no voltage, if that changed
    switch: Kept  # what the boundary switch keeps
    faults: Mapping[str, MeterFault]  # faults of meters
    cut: bool  # whether no meter reaches its controller
