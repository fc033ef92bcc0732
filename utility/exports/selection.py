"""Which meters, whose quarters and which time an export is of; resolutions, and the intervals of a town's clock."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import (
    QUARTER_S,
    SLOT_S,
    AccountNumber,
    EpochSeconds,
    MeterId,
    MicrogridId,
    Quarter,
    parse_id,
)
from commonwatt.town.town import Direction
from utility.jobs.plans import LocalDay, LocalMonth
from utility.registry.accounts import DatedRegistry

HOUR_S = 3600  # seconds in an hour


class Resolution(StrEnum):
    """The length of a row's interval."""

    SLOT = "15s"
    QUARTER = "15min"
    HOUR = "1h"
    DAY = "1d"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of an export that is written to one file."""

    name: str  # its month, or its day, such as 2026-11
    start: EpochSeconds  # its first second
    end: EpochSeconds  # the second after its last


@dataclass(frozen=True, eq=False)
class Intervals:
    """The intervals of a resolution in a range of quarters."""

    starts: npt.NDArray[np.int64]  # int64 (k,): the first second of each, and the second after the last one's end

    def index_of(self, quarters: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        """Return the interval that each quarter begins in."""
        return np.searchsorted(self.starts, quarters.astype(np.int64) * QUARTER_S, side="right") - 1

    def slots(self, index: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Return how many slots each of some intervals has."""
        return np.diff(self.starts)[index] // SLOT_S


def intervals(resolution: Resolution, first: Quarter, end: Quarter, zone: ZoneInfo) -> Intervals:
    """Return the whole intervals that contain the quarters ``first`` to before ``end``."""
    start, stop = first * QUARTER_S, end * QUARTER_S
    if resolution is Resolution.DAY:
        day = LocalDay(zone).period_at(start)
        starts = [day.start, day.end]
        while starts[-1] < stop:
            starts.append(LocalDay(zone).period_at(starts[-1]).end)
        return Intervals(np.array(starts, np.int64))
    length = HOUR_S if resolution is Resolution.HOUR else QUARTER_S
    return Intervals(np.arange(start - start % length, -(-stop // length) * length + 1, length, dtype=np.int64))


def is_boundary(resolution: Resolution, time: EpochSeconds, zone: ZoneInfo) -> bool:
    """Return whether an interval of the resolution begins at a time."""
    if resolution is Resolution.DAY:
        return LocalDay(zone).period_at(time).start == time
    return time % (HOUR_S if resolution is Resolution.HOUR else QUARTER_S) == 0


def pieces(start: EpochSeconds, end: EpochSeconds, *, by_day: bool, zone: ZoneInfo) -> Iterator[Piece]:
    """Yield the local months of ``[start, end)``, or its days, cut at its ends."""
    cadence = LocalDay(zone) if by_day else LocalMonth(zone)
    while start < end:
        period = cadence.period_at(start)
        yield Piece(name=period.name, start=start, end=min(period.end, end))
        start = period.end


def cut(first: Quarter, end: Quarter, length: int) -> Iterator[tuple[Quarter, Quarter]]:
    """Yield ``[first, end)`` in ranges of at most ``length`` quarters."""
    yield from pairwise([*range(first, end, length), end] if first < end else ())


@dataclass(frozen=True, kw_only=True)
class ExportedMeter:
    """A registered meter, as exports need it."""

    number: int  # its number in the database
    id: MeterId  # its id
    microgrid: MicrogridId  # its microgrid
    series: int  # how many record types it has


@dataclass(frozen=True, kw_only=True)
class ExportSelection:
    """What a person selected: each kind that is given narrows the selection."""

    meters: Sequence[str] = ()  # ids of meters as text; empty: any
    microgrids: Sequence[str] = ()  # names; empty: any
    accounts: Sequence[int] = ()  # numbers; empty: any

    def of(
        self, registered: Sequence[ExportedMeter], held: Collection[MeterId], names: Sequence[str]
    ) -> list[ExportedMeter]:
        """Return the registered meters that are selected, by id.

        Args:
            registered: All registered meters, by id.
            held: The meters that the selected accounts had.
            names: The names of the options for meters and microgrids, for errors.

        Raises:
            ConfigError: One of the selected is not registered.
        """
        ids = [parse_id(text) for text in self.meters]
        check_registered(names[0], zip(ids, self.meters, strict=True), {one.id for one in registered})
        check_registered(
            names[1], zip(self.microgrids, self.microgrids, strict=True), {one.microgrid for one in registered}
        )
        return [
            one
            for one in registered
            if (not ids or one.id in ids)
            and (not self.microgrids or one.microgrid in self.microgrids)
            and (not self.accounts or one.id in held)
        ]


def check_registered(name: str, asked: Iterable[tuple[object, object]], there: Collection[object]) -> None:
    """Check that what is asked for, pairs of a key and its text, is among what is there."""
    for key, text in asked:
        if key not in there:
            raise ConfigError(f"{name}: {text!r:.40} is not registered")


def asked_quarters(
    start: EpochSeconds, end: EpochSeconds, resolution: Resolution, names: tuple[str, str], zone: ZoneInfo
) -> tuple[Quarter, Quarter]:
    """Return the quarters of ``[start, end)``.

    Args:
        start: The first second.
        end: The second after the last.
        resolution: An interval of it must begin at both.
        names: The names of the options, for errors.
        zone: The time zone of local days.

    Raises:
        ConfigError: The end is not after the start, or one of them is within an interval.
    """
    if end <= start:
        raise ConfigError(f"{names[1]}: {moment(end)} is not after {names[0]}, {moment(start)}")
    for name, time in zip(names, (start, end), strict=True):
        if not is_boundary(resolution, time, zone):
            what = {"1d": "a local day", "1h": "an hour"}.get(resolution, "a quarter-hour")
            raise ConfigError(f"{name}: {moment(time)} is within {what}; give the begin of one")
    return start // QUARTER_S, end // QUARTER_S


@dataclass(frozen=True, kw_only=True)
class HeldMeter:
    """A period in which one of the accounts had a meter."""

    meter: MeterId  # the meter
    direction: Direction  # the direction that it measures
    first: Quarter  # the first quarter
    end: Quarter  # the quarter after the last


def held_by(
    registry: DatedRegistry, accounts: Collection[AccountNumber], first: Quarter, end: Quarter
) -> list[HeldMeter]:
    """Return the periods of some accounts in ``[first, end)``, by meter and time."""
    return [
        HeldMeter(meter=meter.id, direction=meter.direction, first=start, end=stop)
        for _, meter in sorted(registry.meters.items())
        for account, start, stop in meter.held(first, end)
        if account in accounts
    ]


def is_held(
    meters: npt.NDArray[np.uint64], quarters: npt.NDArray[np.int64], held: Sequence[HeldMeter]
) -> npt.NDArray[np.bool_]:
    """Return which pairs of a meter and a quarter are within one of the periods; the arrays may be broadcast."""
    found = np.zeros(np.broadcast_shapes(meters.shape, quarters.shape), np.bool_)
    for one in held:
        found |= (meters == one.meter) & (quarters >= one.first) & (quarters < one.end)
    return found
