"""How long microgrids and the town last, from what gateways said a moment ago and what is usual there; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.hours_left import Band, HoursLeft, hours_left
from commonwatt.energy.lasting import Floats, Usual, lasts
from commonwatt.energy.physics.places import Places, places_of, streets_of
from commonwatt.energy.physics.step import Inputs
from commonwatt.model.ids import MeterId
from commonwatt.model.time.local_time import load_cells
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.model.words import counted
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.splits import Array, Flags
from commonwatt.town.town import Microgrid
from utility.lasting.levers import rules_of
from utility.statistics.batteries import UNKNOWN
from utility.statistics.months import CELLS
from utility.statistics.series import ClassDay, no_day

DAYS, SUN_DAYS = 28, 14  # days before now of which the use, and the sun, are usual
OLD_S = 900  # age of a heartbeat from which on its levels are not known
NO_HISTORY = "no day is settled yet: average use by the batteries' capacity, and no sun"
_DAY_S = 86_400
_PRIOR = 6 / 24  # part of a day for which the last settled day counts beside what was seen since


class Said(NamedTuple):
    """What a microgrid's gateway said last."""

    microgrid: MicrogridId  # the microgrid
    heartbeat: Heartbeat | None  # its heartbeat; ``None``: there is none
    is_island: bool  # whether it is cut off from the town


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassUsual:
    """What is usual of a class of microgrids."""

    use: Floats  # use by cell of the load shape, as a part of its mean, (48)
    sun: Floats  # watts by local hour and by milliwatt-hour of its batteries' capacity, (24)
    last: tuple[float, float] = (1.0, 1.0)  # the last settled day's use and sun as a part of the usual ones
    why: str = ""  # why it is less sure than usual, for people


UNSETTLED = ClassUsual(use=np.ones(CELLS), sun=np.zeros(24), why=NO_HISTORY)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Microgrids of one layout with what is usual there."""

    places: Places  # the microgrids
    usual: Usual  # what is usual at their places
    classes: Sequence[ClassUsual]  # the class of each microgrid
    batteries: Mapping[MeterId, tuple[int, int]]  # row and column of the battery behind each outgoing meter
    homes: Array  # how many places of each microgrid use energy, (M)


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is known of a block's microgrids now."""

    level: Array  # level of each battery, (M, P)
    known: Flags  # whether it is known
    strategy: Sequence[str]  # how the batteries of each microgrid share
    reasons: Sequence[Sequence[str]]  # why a microgrid's projection is less sure than usual
    parts: Floats  # the last day's use and sun as a part of the usual ones, (M, 2)


Days = dict[MicrogridId, tuple[EpochSeconds, Floats]]
"""By microgrid: when its power was last added; sums of use and sun, watts, as seen and as usual then, (2, 2)."""


def class_usual(days: Mapping[int, ClassDay], capacity: MilliwattHours, zone: ZoneInfo) -> ClassUsual:
    """Return what is usual by the days of a class whose batteries have a capacity."""
    span = range(min(days, default=0), max(days, default=0) + 1)
    whole = np.concatenate([days.get(day, no_day()) for day in span], axis=1)
    known = (whole[4:] != UNKNOWN).all(axis=0)
    known[1:] &= known[:-1]
    known[0] = False
    if not known[-SUN_DAYS * QUARTERS_A_DAY :].any():
        return UNSETTLED
    imported, shared_in, exported, shared_out, sun, level = whole
    used = imported + shared_in - exported - shared_out + sun - np.diff(level, prepend=0)
    cells = load_cells(np.arange(span.start * QUARTERS_A_DAY, span.stop * QUARTERS_A_DAY), zone)
    recent = known & (np.arange(len(cells)) >= len(cells) - SUN_DAYS * QUARTERS_A_DAY)
    use, light = _means(used, cells, known, CELLS), _means(sun, cells % 24, recent, 24)
    last = known & (np.arange(len(cells)) >= len(cells) - QUARTERS_A_DAY)
    usual = use[cells[last]].sum(), light[cells[last] % 24].sum()
    parts = [float(of[last].sum() / most) if most > 0 else 1.0 for of, most in zip((used, sun), usual, strict=True)]
    watts = 4 / 1000 / max(capacity, 1)
    return ClassUsual(use=use / max(use[cells].mean(), 1e-9), sun=light * watts, last=(parts[0], parts[1]))


def _means(values: Array, at: Array, known: Flags, count: int) -> Floats:
    """Return the mean of the known values by cell; of a cell without any, that of all."""
    sums, n = np.bincount(at[known], values[known], count), np.bincount(at[known], minlength=count)
    return np.maximum(np.where(n > 0, sums / np.maximum(n, 1), values[known].mean()), 0)


def blocks_of(
    microgrids: Mapping[MicrogridId, Microgrid],
    watts: Mapping[AccountNumber, float],
    classes: Mapping[str, ClassUsual],
) -> list[Block]:
    """Return installed microgrids with what is usual at their places.

    Args:
        watts: The mean use of a place of each account that is known; other homes share a day's capacity equally.
        classes: What is usual, by kind of microgrid.
    """
    blocks = []
    for places in streets_of(microgrids.values(), 3600):
        use, batteries = np.zeros(places.shape), {}
        for row, name in enumerate(places.microgrids):
            for column, place in enumerate(places_of(microgrids[name], emulated=False)):
                if place.outgoing is not None:
                    batteries[place.outgoing.id] = row, column
                if place.incoming is not None:
                    use[row, column] = watts.get(place.incoming.account, np.nan)
        homes = np.asarray((use != 0).sum(axis=1), np.int64)
        average = places.capacity.sum(axis=1) / 24_000 / np.maximum(homes, 1)
        use = np.where(np.isnan(use), average[:, None], use)
        of = [classes[microgrids[name].kind] for name in places.microgrids]
        usual = Usual(
            use=np.stack([each.use for each in of], axis=1)[:, :, None] * use,
            sun=np.stack([each.sun for each in of], axis=1)[:, :, None] * places.capacity,
        )
        blocks.append(Block(places=places, usual=usual, classes=of, batteries=batteries, homes=homes))
    return blocks


def seen(block: Block, said: Mapping[MicrogridId, Said], days: Days, now: EpochSeconds, zone: ZoneInfo) -> Seen:
    """Return what the last heartbeats say of a block; their power is added to ``days``."""
    cell = int(load_cells(np.array([now // QUARTER_S]), zone)[0])
    usual = np.stack([block.usual.use[cell].sum(axis=1), block.usual.sun[cell % 24].sum(axis=1)], axis=1)
    mean = np.stack([of.mean(axis=0).sum(axis=1) for of in (block.usual.use, block.usual.sun)], axis=1) * _PRIOR
    permille, sums = np.full(block.places.shape, -1), np.zeros((len(usual), 2, 2))
    strategy, reasons = [], []
    for row, name in enumerate(block.places.microgrids):
        one = said.get(name, Said(name, None, False))
        beat = one.heartbeat
        why = [block.classes[row].why] if block.classes[row].why else []
        strategy.append((beat and beat.strategy) or "spec")
        reasons.append(why)
        if beat is None or now - beat.time > OLD_S:
            why.append(
                f"its gateway {f'last reported {(now - beat.time) // 60} min ago' if beat else 'never reported'}"
            )
            continue
        for meter, level in zip(beat.sharing, beat.levels, strict=False):
            if level is not None and meter in block.batteries:
                permille[block.batteries[meter]] = level
        has = block.places.capacity[row] > 0
        if lacking := int((has & (permille[row] < 0)).sum()):
            why.append(f"{lacking} of {counted(int(has.sum()), 'level')} are not known")
        time, past = days.get(name, (0, sums[row]))
        # What an island used is not what it would have used.
        if beat.power is not None and time < beat.power.end and not one.is_island:
            kept = np.exp((time - beat.power.end) / _DAY_S) if time else 1 - 60 / _DAY_S
            past = past * kept + (1 - kept) * np.array([(beat.power.use_w, beat.power.sun_w), usual[row]])
            days[name] = beat.power.end, past
        sums[row] = past
    before = np.array([each.last for each in block.classes])
    parts = (sums[:, 0] + mean * before) / np.maximum(sums[:, 1] + mean, 1e-9)
    level = np.maximum(permille, 0) * block.places.capacity // 1000
    return Seen(level=level, known=permille >= 0, strategy=strategy, reasons=reasons, parts=np.clip(parts, 0.5, 2))


def expected(block: Block, rows: Flags, parts: Floats, now: EpochSeconds, zone: ZoneInfo) -> Inputs:
    """Return what is expected of the hours from now at some microgrids of a block."""
    usual = Usual(use=block.usual.use[:, rows], sun=block.usual.sun[:, rows])
    return usual.ahead(now, zone, *parts[rows].T)


def project(block: Block, known: Seen, now: EpochSeconds, zone: ZoneInfo) -> dict[MicrogridId, HoursLeft]:
    """Return how long the microgrids of a block last, by name."""
    found = {}
    for strategy in sorted(set(known.strategy)):
        rows = np.array([each == strategy for each in known.strategy])
        its = expected(block, rows, known.parts, now, zone)
        result = lasts(block.places.only(rows), known.level[rows], known.known[rows], its, now, rules_of(strategy))
        for at, row in enumerate(np.flatnonzero(rows).tolist()):
            found[block.places.microgrids[row]] = hours_left(result, at, now, known.reasons[row])
    return found


def town_left(found: Mapping[MicrogridId, HoursLeft], homes: Sequence[int], now: EpochSeconds) -> HoursLeft:
    """Return when the first home of the town, half of its homes and all are dark, from when those of microgrids are.

    Args:
        homes: How many homes each microgrid has, in the order of ``found``.
    """
    bands: Any = [[each.first, each.half, each.all] for each in found.values()]
    hours, count = np.array(bands, np.float64).reshape(-1, 4), np.array(homes)
    hours[np.isnan(hours)] = np.inf
    # How many are dark from each of the three times of a microgrid on.
    first, half = np.minimum(count, 1), -(-count // 2)
    dark = np.stack([first, half - first, count - half], axis=1).ravel()
    order = np.argsort(hours, axis=0, kind="stable")

    def band(wanted: int) -> Band:
        at = [order[np.searchsorted(dark[of].cumsum(), wanted), n] for n, of in enumerate(order.T)]
        return Band(*(None if np.isinf(hours[each, n]) else float(hours[each, n]) for n, each in enumerate(at)))

    unsure = sum(bool(each.reasons) for each in found.values())
    reasons = [f"{unsure} of {counted(len(found), 'microgrid')} are less sure than usual"] if unsure else []
    total = int(count.sum())
    return HoursLeft(at=now, first=band(1), half=band(-(-total // 2)), all=band(total), reasons=reasons)
