"""The energy totals of one place, exact to the milliwatt-hour: each slot counts once (docs/adapters.md).

The totals follow the store: parts have ascending numbers, and all parts up to ``Totals.part`` are counted. A new part
adds what it adds to its block, whose parts are joined before and after it, so a repeated put adds nothing. A part
that compaction made holds only counted parts: parts are compacted after the utility has acknowledged them, and the
totals are saved in the same transaction as that acknowledgement.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction
from gateway.changes import Part, Setting
from gateway.relay.outbox import load
from gateway.stored import Stored

PARTS_AT_A_TIME = 10_000
"""Parts of all meters searched by one query; and uncounted parts after which the totals are saved."""

ENERGY_IN, ENERGY_OUT, GENERATED = "energy_in", "energy_out", "generated"

Quantities = Mapping[tuple[MeterId, int], str]  # names of totals by meter and record type


def quantities_of(meters: Collection[RegisteredMeter]) -> dict[tuple[MeterId, int], str]:
    """Return which total each record type of each meter counts towards; levels and registers count towards none."""
    through = {Direction.INCOMING: ENERGY_IN, Direction.OUTGOING: ENERGY_OUT}
    counted = {
        (meter.id, kind): GENERATED if kind is RecordType.GENERATION else through[meter.direction]
        for meter in meters
        for kind in meter.record_types
        if kind.is_flow
    }
    return dict(sorted(counted.items(), key=lambda item: item[1]))


@dataclass
class Totals:
    """The energy of a place since its publication was switched on."""

    part: int  # all parts up to this number are counted
    # Milliwatt-hours by name. A sum falls when exact slots replace higher averages, or in a conflict.
    sums: Counter[str] = field(default_factory=Counter)
    # The highest each sum has been, which is what is published: a total that falls would be a reset.
    highest: Counter[str] = field(default_factory=Counter)

    def count(self, store: Stored, quantities: Quantities) -> None:
        """Count all parts that were committed since."""
        newest = store.newest_part()
        meters = {meter for meter, _ in quantities}
        while self.part < newest:
            up_to = min(newest, self.part + PARTS_AT_A_TIME)
            keys = [key for key in store.new_keys(self.part, up_to, meters) if key[:2] in quantities]
            if keys:
                parts = [part for part in store.block_parts(keys) if part.joined or part.id <= up_to]
                counted = [part for part in parts if part.joined or part.id <= self.part]
                self.sums.update(_sums(parts, quantities))
                self.sums.subtract(_sums(counted, quantities))
                self.highest |= self.sums
            self.part = up_to


def _sums(parts: Collection[Part], quantities: Quantities) -> Counter[str]:
    """Return the milliwatt-hours in the blocks that the parts are of, by name."""
    blocks = load(parts)
    sums: Counter[str] = Counter()
    for (meter, kind, _), energy in zip(blocks.keys(), blocks.values.sum(axis=1).tolist(), strict=True):
        sums[quantities[meter, kind]] += energy
    return sums


class Keeper:
    """Counts the totals of a place, and decides when they are saved."""

    def __init__(self, store: Stored, place: str) -> None:
        self._store = store
        self._key = f"household {place}"
        kept = json.loads(store.setting(self._key) or "{}")
        # The totals.
        self.totals = Totals(
            # The store may have been recovered without its last parts.
            part=min(kept.get("part", store.newest_part()), store.newest_part()),
            sums=Counter(kept.get("sums", {})),
            highest=Counter(kept.get("highest", {})),
        )
        self._saved: Totals | None = None
        if kept:
            self._save()

    def count(self, quantities: Quantities) -> dict[str, MilliwattHours]:
        """Count what was committed since; return the totals by name."""
        self.totals.count(self._store, quantities)
        return {name: self.totals.highest[name] for name in quantities.values()}

    def save(self, quantities: Quantities, *, changed: bool) -> list[Setting]:
        """Return the totals to store: at the start, after many parts, or, if ``changed``, when a sum has changed."""
        self.totals.count(self._store, quantities)
        saved = self._saved
        many = saved is None or self.totals.part - saved.part >= PARTS_AT_A_TIME
        if saved is not None and not many and not (changed and saved.sums != self.totals.sums):
            return []
        self._save()
        kept = {"part": self.totals.part, "sums": self.totals.sums, "highest": self.totals.highest}
        return [Setting(self._key, json.dumps(kept, separators=(",", ":")))]

    def _save(self) -> None:
        self._saved = Totals(self.totals.part, Counter(self.totals.sums), Counter(self.totals.highest))
