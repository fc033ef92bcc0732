"""The mean power of a microgrid in the last whole minute, from the records that were accepted; pure."""

from collections.abc import Collection, Iterable

from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.ids import MeterId
from commonwatt.model.records import HistoryRecord, RecordType
from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.protocol.heartbeats import Power
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function

KEPT = 4  # whole minutes that are kept, besides those of one period of puts
# The part of the best kept minute's readings that a minute must have: meters that are asked for them come later.
PART_OF_BEST = 0.95

_WATTS = 3600 / 60 / 1000  # of a milliwatt-hour in a minute

_Slot = tuple[MeterId, int, EpochSeconds]  # meter, record type, end


class LastMinute:
    """The readings of the last minutes; a reading that comes again replaces itself."""

    def __init__(self) -> None:
        self.put_s = PUT_S  # seconds between the meters' puts
        self._minutes: dict[int, dict[_Slot, MilliwattHours]] = {}

    def take(self, records: Iterable[HistoryRecord], now: EpochSeconds) -> None:
        """Take the readings of accepted records that are neither old nor ahead."""
        present = now // 60
        oldest = present - KEPT - self.put_s // 60
        self._minutes = {m: slots for m, slots in self._minutes.items() if oldest <= m <= present}
        for record in records:
            first = max(record.start, oldest * 60)
            for end in range(first + SLOT_S, min(record.end, now) + 1, SLOT_S):
                slots = self._minutes.setdefault((end - 1) // 60, {})
                slots[record.meter_id, record.record_type, end] = record.reading

    def power(self, meters: Collection[RegisteredMeter], now: EpochSeconds) -> Power | None:
        """Return the power of the newest minute with readings of nearly all meters; ``None``: there is none.

        Energy from and to the town is what the boundary's meters counted, without them the sum over the places. Only a
        battery whose level is known at both ends of the minute counts in the use.
        """
        whole = {minute: slots for minute, slots in self._minutes.items() if (minute + 1) * 60 <= now}
        least = PART_OF_BEST * max(map(len, whole.values()), default=0)
        minute = max((m for m in whole if min(len(whole[m]), len(whole.get(m - 1, ()))) >= least), default=None)
        if minute is None:
            return None
        known = {meter.id: meter for meter in meters}
        functions = {meter.function for meter in meters}
        has_boundary = Function.BOUNDARY in functions
        are_neighbours = functions == {Function.BOUNDARY, Function.HOUSE}  # a building's battery is everybody's
        end, before = (minute + 1) * 60, whole[minute - 1]
        sun = charged = taken = given = between = 0
        for (meter, record_type, slot_end), reading in whole[minute].items():
            if meter not in known:
                continue
            if record_type == RecordType.GENERATION:
                sun += reading
            elif record_type == RecordType.STORED and slot_end == end:
                charged += reading - before.get((meter, record_type, minute * 60), reading)
            elif record_type == RecordType.THROUGH:
                incoming = known[meter].direction is Direction.INCOMING
                if (known[meter].function is Function.BOUNDARY) == has_boundary:
                    taken, given = taken + incoming * reading, given + (not incoming) * reading
                # What homes took beyond what came through the boundary came from homes.
                between += (
                    incoming * are_neighbours * (reading if known[meter].function is Function.HOUSE else -reading)
                )
        if not has_boundary:
            taken, given = max(taken - given, 0), max(given - taken, 0)
        return Power(
            end=end,
            sun_w=round(sun * _WATTS),
            use_w=max(0, round((taken - given + sun - charged) * _WATTS)),
            import_w=round(taken * _WATTS),
            export_w=round(given * _WATTS),
            between_w=max(0, round(between * _WATTS)),
        )
