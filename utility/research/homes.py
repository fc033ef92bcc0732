"""Homes as researchers see them: an account at a place, four energies a step, a pseudonym (U7)."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.town.town import Direction, Function
from utility.readings.flows import used_of
from utility.registry.accounts import DatedRegistry, Installed

HALF_HOUR_S = 1800  # the step in which attackers know readings, seconds
KINDS = (Function.APARTMENT, Function.HOUSE)  # the functions of homes; public services are no homes
Energies = NDArray[np.int64]  # milliwatt-hours, (homes, steps)

Flags = NDArray[np.bool_]


class HomeMeasure(StrEnum):
    """An energy of a home in a step."""

    USED = "used"  # generated + taken - given - rise of the battery's level; so it includes the battery's charging loss
    GENERATED = "generated"  # by its panels, as far as used, stored or given
    TAKEN = "taken"  # from the microgrid or the town, through the incoming meter
    GIVEN = "given"  # to the microgrid or the town, through the outgoing meter


@dataclass(frozen=True, kw_only=True, order=True)
class PeriodHome:
    """An account at a place during a whole period."""

    microgrid: MicrogridId  # the microgrid
    place: str  # the place, unique within the microgrid
    account: AccountNumber  # the account
    function: Function  # house or apartment

    @property
    def key(self) -> str:
        """Its name inside the utility; never published."""
        return f"{self.microgrid}/{self.place}/{self.account}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Homes:
    """Homes with their energies in the steps of a period."""

    homes: tuple[PeriodHome, ...]  # the homes, one a row
    start: EpochSeconds  # start of the first step
    step_s: int  # length of a step, seconds
    values: Mapping[HomeMeasure, Energies]  # by measure; 0 where unknown
    known: Flags  # whether all readings of a step are there

    @property
    def times(self) -> NDArray[np.int64]:
        """Start of each step, UTC epoch seconds."""
        return self.start + self.step_s * np.arange(self.known.shape[1], dtype=np.int64)

    @property
    def end(self) -> EpochSeconds:
        """End of the last step."""
        return self.start + self.step_s * int(self.known.shape[1])

    def take(self, rows: NDArray[np.intp] | Sequence[int]) -> "Homes":
        """Return some of the homes."""
        return replace(
            self,
            homes=tuple(self.homes[row] for row in rows),
            values={measure: values[rows] for measure, values in self.values.items()},
            known=self.known[rows],
        )

    def in_steps(self, step_s: int) -> "Homes":
        """Return the homes in longer steps, which begin at multiples of their length; partial ones are left out."""
        if step_s == self.step_s:
            return self
        size = step_s // self.step_s
        skip = -(self.start // self.step_s) % size
        steps = (self.known.shape[1] - skip) // size

        def blocks(array: NDArray[np.generic]) -> NDArray[np.generic]:
            return array[:, skip : skip + steps * size].reshape(len(array), steps, size)

        return replace(
            self,
            start=self.start + skip * self.step_s,
            step_s=step_s,
            values={measure: np.asarray(blocks(values).sum(axis=2)) for measure, values in self.values.items()},
            known=np.asarray(blocks(self.known).all(axis=2)),
        )


@dataclass(frozen=True, kw_only=True)
class HomeMeter:
    """A meter of a home."""

    row: int  # the row of the home
    id: MeterId  # the meter
    direction: Direction  # its direction
    first: Quarter  # its first quarter in the period
    until: Quarter  # the quarter after its last
    battery: bool  # whether a battery is behind it


def homes_of(registry: DatedRegistry, first: Quarter, until: Quarter) -> tuple[tuple[PeriodHome, ...], list[HomeMeter]]:
    """Return the homes of a period, in order of their names, and their meters.

    A home had one account and its meters during the whole period: a place that changed hands, or that had no meter for
    a while, is none. Meters may have been exchanged.
    """
    places: dict[tuple[MicrogridId, str], list[Installed]] = {}
    for _, meter in sorted(registry.meters.items()):
        start, end = meter.within(first, until)
        if meter.function in KINDS and start < end:
            places.setdefault((meter.microgrid, meter.place), []).append(meter)
    found: dict[PeriodHome, list[Installed]] = {}
    for (microgrid, place), meters in places.items():
        holders = {_holder(meter, first, until) for meter in meters}
        account = holders.pop()
        if account is not None and not holders and _metered(meters, first, until):
            home = PeriodHome(microgrid=microgrid, place=place, account=account, function=meters[0].function)
            found[home] = meters
    homes = tuple(sorted(found))
    return homes, [_entry(row, meter, first, until) for row, home in enumerate(homes) for meter in found[home]]


def meters_of(meters: Sequence[HomeMeter], rows: Sequence[int]) -> list[HomeMeter]:
    """Return the meters of some homes, as of homes in that order."""
    place = {row: at for at, row in enumerate(rows)}
    return [replace(meter, row=place[meter.row]) for meter in meters if meter.row in place]


def _holder(meter: Installed, first: Quarter, until: Quarter) -> AccountNumber | None:
    """Return the one account that had a meter during its part of a period; ``None``: nobody, or several."""
    whole = meter.within(first, until)
    return next((account for account, *span in meter.held(first, until) if tuple(span) == whole), None)


def _metered(meters: Sequence[Installed], first: Quarter, until: Quarter) -> bool:
    """Return whether in each direction of a place there was a meter during the whole period."""
    for direction in {meter.direction for meter in meters}:
        covered = first
        for start, end in sorted(meter.within(first, until) for meter in meters if meter.direction is direction):
            if start > covered:
                return False
            covered = max(covered, end)
        if covered < until:
            return False
    return True


def _entry(row: int, meter: Installed, first: Quarter, until: Quarter) -> HomeMeter:
    start, end = meter.within(first, until)
    return HomeMeter(
        row=row,
        id=meter.id,
        direction=meter.direction,
        first=start,
        until=end,
        battery=meter.capacity is not None,
    )


def quarters_of(start: EpochSeconds, end: EpochSeconds) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a period, and the one after its last."""
    return start // QUARTER_S, end // QUARTER_S


_Integers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Assembly:
    """Adds readings of any meters, at least one, in any order, each once; those of other meters are ignored.

    A step of a home is known if all readings of its meters are there, also the battery's level before the step.
    """

    def __init__(
        self, homes: Sequence[PeriodHome], meters: Sequence[HomeMeter], first: Quarter, until: Quarter, step_s: int
    ) -> None:
        """Take the homes, their meters, the quarters, and the length of a step: a quarter-hour is a multiple of it."""
        self._homes, self._step_s, self._first = tuple(homes), step_s, first
        self._meters = sorted(meters, key=lambda meter: meter.id)
        self._ids = np.array([meter.id for meter in self._meters], dtype=np.uint64)
        self._rows = np.array([meter.row for meter in self._meters], dtype=np.int64)
        self._outgoing = np.array([meter.direction is Direction.OUTGOING for meter in self._meters], dtype=np.bool_)
        self._battery = np.array([meter.battery for meter in self._meters], dtype=np.bool_)
        self._first_quarters = np.array([meter.first for meter in self._meters], dtype=np.int64)
        self._until = np.array([meter.until for meter in self._meters], dtype=np.int64)
        self._per_quarter = QUARTER_S // step_s
        shape = (len(self._homes), (until - first) * self._per_quarter)
        self._flows = {
            m: np.zeros(shape, np.int64) for m in (HomeMeasure.GENERATED, HomeMeasure.TAKEN, HomeMeasure.GIVEN)
        }
        self._lacking = np.zeros(shape, np.int16)
        # One step more, at the front: the level before the first step.
        self._level = np.zeros((shape[0], shape[1] + 1), np.int64)
        self._levels_lacking = np.zeros((shape[0], shape[1] + 1), np.int16)
        for meter in self._meters:
            begin, end = (max(0, q - first) * self._per_quarter for q in (meter.first, min(until, meter.until)))
            if begin >= end:
                continue
            self._lacking[meter.row, begin:end] += 2 if meter.battery else 1
            if meter.battery:
                self._levels_lacking[meter.row, begin + (begin > 0) : end + 1] += 1
        # Where a battery comes or goes, the rise of the level is not known.
        self._same = self._levels_lacking[:, 1:] == self._levels_lacking[:, :-1]

    def add(
        self, meters: NDArray[np.uint64], types: _Integers, quarters: _Integers, values: _Integers, known: _Flags
    ) -> None:
        """Add readings.

        Args:
            meters: The meter of each, (n,).
            types: Its record type, (n,).
            quarters: Its quarter, (n,); levels of the quarter before the first are taken too.
            values: Its values by step, (n, steps of a quarter): sums of flows, levels at the end.
            known: Whether the step's reading is whole, of the same shape.
        """
        place = np.searchsorted(self._ids, meters)
        place = np.minimum(place, len(self._ids) - 1)
        # A meter counts while it was there; of the quarter before the period its level does.
        since = self._first_quarters[place]
        since = np.where(since <= self._first, self._first - 1, since)
        ours = np.flatnonzero((self._ids[place] == meters) & (quarters >= since) & (quarters < self._until[place]))
        place, types, values, known = place[ours], types[ours], values[ours], known[ours]
        row = np.broadcast_to(self._rows[place][:, None], values.shape)
        step = (quarters[ours] - self._first)[:, None] * self._per_quarter + np.arange(self._per_quarter)
        there = known & (step >= -1) & (step < self._lacking.shape[1])
        for kind, direction, measure in (
            (RecordType.GENERATION, True, HomeMeasure.GENERATED),
            (RecordType.THROUGH, True, HomeMeasure.GIVEN),
            (RecordType.THROUGH, False, HomeMeasure.TAKEN),
        ):
            some = there & ((types == kind) & (self._outgoing[place] == direction))[:, None] & (step >= 0)
            np.add.at(self._flows[measure], (row[some], step[some]), values[some])
            if kind is RecordType.GENERATION:
                some &= self._battery[place][:, None]
            np.subtract.at(self._lacking, (row[some], step[some]), 1)
        some = there & ((types == RecordType.STORED) & self._battery[place])[:, None]
        np.add.at(self._level, (row[some], step[some] + 1), values[some])
        np.subtract.at(self._levels_lacking, (row[some], step[some] + 1), 1)

    def homes(self) -> Homes:
        """Return the homes with what was added."""
        known = self._same & (self._lacking == 0)
        known &= (self._levels_lacking[:, 1:] == 0) & (self._levels_lacking[:, :-1] == 0)
        rise = np.diff(self._level, axis=1)
        flows = self._flows
        used = used_of(flows[HomeMeasure.TAKEN] - flows[HomeMeasure.GIVEN], flows[HomeMeasure.GENERATED], rise)
        values = {HomeMeasure.USED: used, **flows}
        return Homes(
            homes=self._homes,
            start=self._first * QUARTER_S,
            step_s=self._step_s,
            values={measure: array * known for measure, array in values.items()},
            known=known,
        )


PSEUDONYM_CHARACTERS = 16  # length of a pseudonym: 64 bits


def keyed(secret: bytes, purpose: str, text: str | bytes) -> bytes:
    """Return 32 bytes that only the secret's holder can compute; another purpose gives others."""
    content = text.encode() if isinstance(text, str) else text
    return hmac.digest(secret, purpose.encode() + b"\0" + content, "sha256")


def pseudonym(secret: bytes, release: str, key: str) -> str:
    """Return the name of a home in a release; in another release it has another one."""
    return keyed(secret, f"pseudonym {release}", key).hex()[:PSEUDONYM_CHARACTERS]


def random_of(secret: bytes, purpose: str, text: str) -> np.random.Generator:
    """Return random numbers that repeat for the same secret, purpose and text."""
    return np.random.default_rng(int.from_bytes(keyed(secret, purpose, text)[:16], "big"))


def digest_of(secret: bytes, homes: Homes) -> str:
    """Return a digest of the input of a release: which homes, which readings."""
    digest = hashlib.sha256(f"{homes.start} {homes.step_s} {homes.known.shape[1]}".encode())
    for home in homes.homes:
        digest.update(home.key.encode() + b"\0")
    for measure, values in homes.values.items():
        digest.update(measure.encode() + np.ascontiguousarray(values, dtype="<i8").tobytes())
    digest.update(np.packbits(homes.known).tobytes())
    return keyed(secret, "input", digest.digest()).hex()
