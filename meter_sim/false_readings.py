"""What a frozen or lying meter reports; its other meters and the physics know nothing of it."""

from collections.abc import Mapping

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds, MilliwattHours
from meter_sim.faults import MeterFault

Readings = Mapping[RecordType, MilliwattHours]


class FalseReadings:
    """The readings that meters of a microgrid report."""

    def __init__(self) -> None:
        self._frozen: dict[MeterId, Readings] = {}

    def of(self, meter: MeterId, readings: Readings, fault: MeterFault | None, at: EpochSeconds) -> Readings:
        """Return what a meter reports of the slot that starts at ``at``.

        Frozen: the readings of the first slot of the fault. Lying: the level, or without a battery the energy, is off.
        """
        what = None if fault is None or at >= fault.until else fault.what
        if what != "frozen":
            self._frozen.pop(meter, None)
        if what == "frozen":
            return self._frozen.setdefault(meter, readings)
        if what == "lying" and fault is not None:
            kind = RecordType.STORED if RecordType.STORED in readings else RecordType.THROUGH
            return {**readings, kind: max(0, readings[kind] + fault.by_mwh)}
        return readings
