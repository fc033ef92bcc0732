"""How long microgrids and the town last, by what gateways said and what is usual; scores of real islands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.controllers import ControllerRules
from commonwatt.energy.lasting import (
    DAY_PARTS,
    NEAR_H,
    Band,
    Floats,
    HoursLeft,
    Lasts,
    UsualPower,
    band,
    hours_left,
    lasts,
)
from commonwatt.energy.places import Places, places_of, streets_of
from commonwatt.energy.splits import Array, Flags
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.calendar import load_cells
from commonwatt.model.text import counted, duration
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import Microgrid
from utility.readings.flows import used_of
from utility.statistics.series import UNKNOWN, ClassDay, no_day

DAYS = 28  # days before now of which use and sun are usual
OLD_S = 900  # age of a heartbeat from which on its levels are not known
SURGE, SURGE_S = 2, 1_800  # use above so many times the usual one is said after so many seconds
NO_HISTORY = "no day is settled yet: average use by the capacity of batteries, and no sun"
# What controllers do in an island, by strategy.
RULES = {name: ControllerRules(sharing=strategy, reduces=True, sheds=True) for name, strategy in STRATEGIES.items()}


class Said(NamedTuple):
    """What a microgrid's gateway said last."""

    microgrid: MicrogridId
    heartbeat: Heartbeat | None  # ``None``: there is none
    is_island: bool  # whether it is cut off from the town


class ClassUsual(NamedTuple):
    """What is usual of a class of microgrids."""

    use: Floats  # use by cell of the load shape, as a part of its mean, (48)
    sun: Floats  # watts by local hour and by milliwatt-hour of its batteries' capacity, (24)
    last: Floats  # the last settled day's use and sun as a part of the usual ones, (2)
    why: str = ""  # why it is less sure than usual, for people


UNSETTLED = ClassUsual(np.ones(48), np.zeros(24), np.ones(2), NO_HISTORY)


class Alike(NamedTuple):
    """Microgrids of one layout with what is usual there."""

    places: Places
    usual: UsualPower  # what is usual at their places
    classes: Sequence[ClassUsual]  # the class of each microgrid
    batteries: Mapping[MeterId, tuple[int, int]]  # row and column of the battery behind each outgoing meter
    homes: Array  # how many places of each microgrid use energy, (M)
    accounts: Mapping[AccountNumber, Sequence[tuple[int, int]]]  # row and column of each account's homes


class Seen(NamedTuple):
    """What is known of a block's microgrids now."""

    level: Array  # level of each battery; where it is not known as the others' in the mean, (M, P)
    known: Flags  # whether it is known
    strategy: NDArray[np.str_]  # how the batteries of each microgrid share, (M)
    reasons: Sequence[Sequence[str]]  # why a microgrid's projection is less sure than usual
    parts: Floats  # the last day's use and sun as a part of the usual ones, (M, 2)
    surge_w: Array  # watts of microgrids that have used more than ``SURGE`` times the usual for ``SURGE_S``; or 0, (M,)
    ends: Mapping[MicrogridId, Floats | None] = {}  # by microgrid, its ``commonwatt.energy.lasting.use_ends``


Days = dict[MicrogridId, tuple[EpochSeconds, Floats, EpochSeconds]]
"""By microgrid: when its power was last added; sums of use and sun, watts, as seen and as usual then, (2, 2);
since when its use is more than ``SURGE`` times the usual, 0: it is not."""


def class_usual(days: Mapping[int, ClassDay], capacity: MilliwattHours, zone: ZoneInfo) -> ClassUsual:
    """Return what is usual by the days of a class whose batteries have a capacity."""
    span = range(min(days, default=0), max(days, default=0) + 1)
    whole = np.concatenate([days.get(day, no_day()) for day in span], axis=1)
    known = (whole[4:] != UNKNOWN).all(axis=0)
    known &= np.roll(known, 1) & (np.arange(known.size) > 0)
    if not known.any():
        return UNSETTLED
    imported, shared_in, exported, shared_out, sun, level = whole
    # A battery that is new in the sum adds its level at once.
    used = np.maximum(used_of(imported + shared_in - exported - shared_out, sun, np.diff(level, prepend=0)), 0)
    cells, usual, parts = load_cells(np.arange(96 * span.start, 96 * span.stop), zone)[known], [], []
    for values, at in ((used[known], cells), (sun[known], cells % 24)):
        sums, n = np.bincount(at, values, 48), np.bincount(at, minlength=48)
        # A cell without any quarter-hour that is known has the mean of all.
        usual.append(np.where(n > 0, sums / np.maximum(n, 1), values.mean()))
        parts.append(values[-96:].sum() / max(usual[-1][at[-96:]].sum(), 1))
    light = usual[1][:24] * 4 / 1000 / max(capacity, 1)
    return ClassUsual(usual[0] / max(used[known].mean(), 1), light, np.array(parts))


def blocks_of(
    microgrids: Mapping[MicrogridId, Microgrid],
    watts: Mapping[AccountNumber, float],
    classes: Mapping[str, ClassUsual],
) -> list[Alike]:
    """Return installed microgrids that have homes, with what is usual there, from the mean use of accounts' places.

    Homes of which it is not known share a day's capacity equally; without batteries they use 1 W, not nothing.
    """
    blocks = []
    lived_in = (m for m in microgrids.values() if any(place.incoming for place in places_of(m, emulated=False)))
    for places in streets_of(lived_in, 3600):
        use, batteries = np.zeros(places.shape), dict[MeterId, tuple[int, int]]()
        accounts: dict[AccountNumber, list[tuple[int, int]]] = {}
        for row, name in enumerate(places.microgrids):
            for column, place in enumerate(places_of(microgrids[name], emulated=False)):
                if place.outgoing is not None:
                    batteries[place.outgoing.id] = row, column
                if place.incoming is not None:
                    use[row, column] = watts.get(place.incoming.account, np.nan)
                    accounts.setdefault(place.incoming.account, []).append((row, column))
        homes = np.asarray((use != 0).sum(axis=1), np.int64)
        average = np.maximum(places.capacity.sum(axis=1) / 24_000 / np.maximum(homes, 1), 1)
        use = np.where(np.isnan(use), average[:, None], use)
        own = [classes[microgrids[name].kind] for name in places.microgrids]
        by_cell, by_hour = (np.stack(rows, axis=1)[:, :, None] for rows in ([c.use for c in own], [c.sun for c in own]))
        usual = UsualPower(use=by_cell * use, sun=by_hour * places.capacity)
        blocks.append(Alike(places, usual, own, batteries, homes, accounts))
    return blocks


def seen(block: Alike, reports: Mapping[MicrogridId, Said], days: Days, now: EpochSeconds, zone: ZoneInfo) -> Seen:
    """Return what the last heartbeats say of a block; their power is added to ``days``."""
    cell = int(load_cells(np.array([now // QUARTER_S]), zone)[0])
    usual = np.stack([block.usual.use[cell].sum(axis=1), block.usual.sun[cell % 24].sum(axis=1)], axis=1)
    permille, sums = np.full(block.places.shape, -1), np.zeros((len(usual), 2, 2))
    strategy, reasons = ["spec"] * len(usual), [[c.why] if c.why else [] for c in block.classes]
    surge_w = np.zeros(len(usual), np.int64)
    lacking = ((permille < 0) & (block.places.capacity > 0)).sum(axis=1)
    for row, name in enumerate(block.places.microgrids):
        _, beat, is_island = reports.get(name, Said(name, None, False))
        if beat is None or now - beat.time > OLD_S:
            when = "has never reported" if beat is None else f"last reported {(now - beat.time) // 60} min ago"
            reasons[row].append(f"its gateway {when}")
            continue
        strategy[row] = beat.strategy or "spec"
        for meter, level in zip(beat.sharing, beat.levels, strict=False):
            if level is not None and meter in block.batteries:
                permille[block.batteries[meter]] = level
                lacking[row] -= 1
        if lacking[row] > 0:
            reasons[row].append(f"{counted(int(lacking[row]), 'battery level')} not known")
        time, past, surge = days.get(name, (0, sums[row], 0))
        if (power := beat.power) is not None and time < power.end:
            # What an island used is not what it would have used.
            if not is_island:
                kept = np.exp(max(time - power.end, -OLD_S) / 86_400)
                past = past * kept + (1 - kept) * np.array([(power.use_w, power.sun_w), usual[row]])
            goes_on = surge if power.end - time <= OLD_S else 0
            surge = (goes_on or power.end - 60) if power.use_w > SURGE * usual[row, 0] else 0
            days[name] = power.end, past, surge
        if surge and power is not None and power.end - surge >= SURGE_S:
            surge_w[row] = power.use_w
            reasons[row].append(f"it has used more than {SURGE} times the usual for {duration(power.end - surge)}")
        sums[row] = past
    # The last settled day counts as six hours beside what was seen since.
    mean = np.stack([watts.mean(axis=0).sum(axis=1) / 4 for watts in (block.usual.use, block.usual.sun)], axis=1)
    parts = (sums[:, 0] + mean * [c.last for c in block.classes]) / np.maximum(sums[:, 1] + mean, 1e-9)
    known = permille >= 0
    others = np.where(known, permille, 0).sum(axis=1) // np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, permille, others[:, None]) * block.places.capacity // 1000
    return Seen(filled, known, np.array(strategy), reasons, np.clip(parts, *DAY_PARTS), surge_w)


def project(block: Alike, known: Seen, now: EpochSeconds, zone: ZoneInfo) -> dict[MicrogridId, HoursLeft]:
    """Return how long the microgrids of a block last, by name."""
    left, names = {}, block.places.microgrids
    for strategy in set(known.strategy):
        rows = known.strategy == strategy
        result = _lasts(block, known, rows, now, zone)
        for at, row in enumerate(np.flatnonzero(rows).tolist()):
            left[names[row]] = hours_left(result, at, now, known.reasons[row])
    for row in np.flatnonzero(known.surge_w).tolist():
        first = _lasts(block, known, np.arange(len(names)) == row, now, zone, as_now=True).first
        left[names[row]] = replace(left[names[row]], as_now=band(first, 0))
    return left


def _lasts(block: Alike, known: Seen, rows: Flags, now: EpochSeconds, zone: ZoneInfo, *, as_now: bool = False) -> Lasts:
    """Return how long the microgrids of some rows last, all of one strategy; ``as_now``: with the use of now."""
    its = UsualPower(use=block.usual.use[:, rows], sun=block.usual.sun[:, rows]).ahead(now, zone, *known.parts[rows].T)
    if as_now:
        whole = np.maximum(its.load.sum(axis=2, keepdims=True), 1)
        its = replace(its, load=its.load * (1000 * known.surge_w[rows])[:, None] // whole)
    places, rules = block.places.only(rows), RULES[str(known.strategy[rows][0])]
    ends = [known.ends.get(name) for name in places.microgrids]
    return lasts(places, known.level[rows], known.known[rows], its, now, rules, ends)


def town_left(left: Mapping[MicrogridId, HoursLeft], homes: Array, now: EpochSeconds) -> HoursLeft:
    """Return when the first home of the town is dark, half of the homes are by microgrids, and all are."""
    bands: Any = [[its.first, its.half, its.all] for its in left.values()]
    hours = np.array(bands, np.float64)
    hours[np.isnan(hours)] = np.inf
    half = []
    for column in hours[:, 1].T:
        order = np.argsort(column)
        half.append(column[order][np.searchsorted(2 * homes[order].cumsum(), homes.sum())])
    ends = (hours[:, 0].min(axis=0), half, hours[:, 2].max(axis=0))
    first, middle, last = (Band(*(None if np.isinf(hour) else float(hour) for hour in triple)) for triple in ends)
    unsure = sum(bool(its.reasons) for its in left.values())
    reasons = [f"not all is known of {unsure} of {counted(len(left), 'microgrid')}"] if unsure else []
    return HoursLeft(at=now, first=first, half=middle, all=last, reasons=reasons)


@dataclass(frozen=True, kw_only=True)
class Score:
    """An island; hours are from its projection, until the first battery, half of them and all are at 0."""

    microgrid: MicrogridId
    at: EpochSeconds  # when it was projected: when the utility first saw it
    projected: Sequence[Sequence[float | None]]  # the ``Band`` of each
    came: Sequence[float | None] = (None, None, None)  # ``None``: not seen
    lasted: float | None = None  # hours until its end; ``None``: it goes on

    @property
    def band(self) -> Band:
        """The projection of the first dark home."""
        return Band(*self.projected[0])

    @property
    def error_percent(self) -> float | None:
        """By how much it was missed, of an hour at least; ``None``: the island was over before that can be said."""
        came, middle = self.lasted if self.came[0] is None else self.came[0], self.band.middle
        if came is None or (self.came[0] is None and (middle is None or middle >= came)):
            return None
        return 100.0 if middle is None else 100 * abs(middle - came) / max(came, 1)

    @property
    def is_held(self) -> bool:
        """Whether the band held what came; without a dark home only its upper end can be wrong."""
        came, band = self.came[0], self.band
        until = (self.lasted or 0) if came is None else came
        return (band.high is None or until <= band.high + NEAR_H) and (
            came is None or (band.low is not None and band.low - NEAR_H <= came)
        )


def summary(scores: Sequence[Score], writing: Writing = DOLLARS) -> str:
    """Return how good the projections of a town's islands were, in words."""
    errors = [error for score in scores if (error := score.error_percent) is not None]
    if not errors:
        return writing.say("No real island of this town tells yet how good they are here.")
    held = sum(score.is_held for score in scores if score.error_percent is not None) / len(errors)
    words = f"In {counted(len(errors), 'real island')} of this town half were off by less than {median(errors):.0f} %"
    return writing.counted(f"{words}, and the range held {100 * held:.0f} % of the time.")


def scored(
    scores: Sequence[Score], reports: Sequence[Said], left: Mapping[MicrogridId, HoursLeft], now: EpochSeconds
) -> list[Score]:
    """Return the scores after a look: islands that began, homes that got dark, islands that ended."""
    by_start = {(score.microgrid, score.at): score for score in scores}
    going_on = {score.microgrid: score for score in scores if score.lasted is None}
    for name, beat, is_island in reports:
        if (score := going_on.get(name)) is not None:
            hours = round(max(now - score.at, 0) / 3600, 2)
            is_old = beat is None or now - beat.time > OLD_S
            levels = beat.levels if beat and is_island and not is_old else ()
            wanted, empty = (1, -(-len(levels) // 2), len(levels)), levels.count(0)
            pairs = zip(score.came, wanted, strict=True)
            came = [hours if before is None and 0 < least <= empty else before for before, least in pairs]
            by_start[name, score.at] = replace(score, came=came, lasted=None if is_island else hours)
        elif is_island and (its := left.get(name)) is not None:
            by_start[name, now] = Score(microgrid=name, at=now, projected=[its.first, its.half, its.all])
    return list(by_start.values())
