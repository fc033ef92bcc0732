"""How long microgrids and the town last, from what gateways said a moment ago and what is usual there; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.controllers import Controllers, Rules, Situation
from commonwatt.energy.hours_left import Band, HoursLeft, hours_left
from commonwatt.energy.lasting import Floats, Usual, lasts
from commonwatt.energy.physics.boundary import Boundary
from commonwatt.energy.physics.places import Places, places_of, streets_of
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.physics.town import step_alone
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.ids import MeterId
from commonwatt.model.time.local_time import load_cells
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.model.words import counted
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.settlement.splits import Array, Flags
from commonwatt.town.town import Microgrid
from utility.statistics.batteries import UNKNOWN
from utility.statistics.series import ClassDay, no_day

DAYS = 28  # days before now of which use and sun are usual
OLD_S = 900  # age of a heartbeat from which on its levels are not known
NO_HISTORY = "no day is settled yet: average use by the capacity of batteries, and no sun"
LEVERS = ("Storm hold from now on", "Filled from the line until then", "One battery more")
# What controllers do in an island, by strategy.
RULES = {name: Rules(sharing=each, reduces=True, sheds=True) for name, each in STRATEGIES.items()}


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


class Block(NamedTuple):
    """Microgrids of one layout with what is usual there."""

    places: Places
    usual: Usual  # what is usual at their places
    classes: Sequence[ClassUsual]  # the class of each microgrid
    batteries: Mapping[MeterId, tuple[int, int]]  # row and column of the battery behind each outgoing meter
    homes: Array  # how many places of each microgrid use energy, (M)


class Seen(NamedTuple):
    """What is known of a block's microgrids now."""

    level: Array  # level of each battery; where it is not known as the others' in the mean, (M, P)
    known: Flags  # whether it is known
    strategy: NDArray[np.str_]  # how the batteries of each microgrid share, (M)
    reasons: Sequence[Sequence[str]]  # why a microgrid's projection is less sure than usual
    parts: Floats  # the last day's use and sun as a part of the usual ones, (M, 2)


Days = dict[MicrogridId, tuple[EpochSeconds, Floats]]
"""By microgrid: when its power was last added; sums of use and sun, watts, as seen and as usual then, (2, 2)."""


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
    used = np.maximum(imported + shared_in - exported - shared_out + sun - np.diff(level, prepend=0), 0)
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
) -> list[Block]:
    """Return installed microgrids that have homes, with what is usual there, from the mean use of accounts' places.

    Homes of which it is not known share a day's capacity equally; without batteries they use 1 W, not nothing.
    """
    blocks = []
    lived_in = (one for one in microgrids.values() if any(each.incoming for each in places_of(one, emulated=False)))
    for places in streets_of(lived_in, 3600):
        use, batteries = np.zeros(places.shape), {}
        for row, name in enumerate(places.microgrids):
            for column, place in enumerate(places_of(microgrids[name], emulated=False)):
                if place.outgoing is not None:
                    batteries[place.outgoing.id] = row, column
                if place.incoming is not None:
                    use[row, column] = watts.get(place.incoming.account, np.nan)
        homes = np.asarray((use != 0).sum(axis=1), np.int64)
        average = np.maximum(places.capacity.sum(axis=1) / 24_000 / np.maximum(homes, 1), 1)
        use = np.where(np.isnan(use), average[:, None], use)
        of = [classes[microgrids[name].kind] for name in places.microgrids]
        by_cell, by_hour = (np.stack(each, axis=1)[:, :, None] for each in ([c.use for c in of], [c.sun for c in of]))
        usual = Usual(use=by_cell * use, sun=by_hour * places.capacity)
        blocks.append(Block(places, usual, of, batteries, homes))
    return blocks


def seen(block: Block, said: Mapping[MicrogridId, Said], days: Days, now: EpochSeconds, zone: ZoneInfo) -> Seen:
    """Return what the last heartbeats say of a block; their power is added to ``days``."""
    cell = int(load_cells(np.array([now // QUARTER_S]), zone)[0])
    usual = np.stack([block.usual.use[cell].sum(axis=1), block.usual.sun[cell % 24].sum(axis=1)], axis=1)
    permille, sums = np.full(block.places.shape, -1), np.zeros((len(usual), 2, 2))
    strategy, reasons = ["spec"] * len(usual), [[each.why] if each.why else [] for each in block.classes]
    lacking = ((permille < 0) & (block.places.capacity > 0)).sum(axis=1)
    for row, name in enumerate(block.places.microgrids):
        _, beat, is_island = said.get(name, Said(name, None, False))
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
            reasons[row].append(f"{counted(int(lacking[row]), 'level')} not known")
        time, past = days.get(name, (0, sums[row]))
        # What an island used is not what it would have used.
        if beat.power is not None and time < beat.power.end and not is_island:
            kept = np.exp(max(time - beat.power.end, -OLD_S) / 86_400)
            past = past * kept + (1 - kept) * np.array([(beat.power.use_w, beat.power.sun_w), usual[row]])
            days[name] = beat.power.end, past
        sums[row] = past
    # The last settled day counts as six hours beside what was seen since.
    mean = np.stack([of.mean(axis=0).sum(axis=1) / 4 for of in (block.usual.use, block.usual.sun)], axis=1)
    parts = (sums[:, 0] + mean * [each.last for each in block.classes]) / np.maximum(sums[:, 1] + mean, 1e-9)
    known = permille >= 0
    others = np.where(known, permille, 0).sum(axis=1) // np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, permille, others[:, None]) * block.places.capacity // 1000
    return Seen(filled, known, np.array(strategy), reasons, np.clip(parts, 0.5, 2))


def expected(block: Block, rows: Flags, parts: Floats, now: EpochSeconds, zone: ZoneInfo) -> Inputs:
    """Return what is expected of the hours from now at some microgrids of a block."""
    usual = Usual(use=block.usual.use[:, rows], sun=block.usual.sun[:, rows])
    return usual.ahead(now, zone, *parts[rows].T)


def project(block: Block, known: Seen, now: EpochSeconds, zone: ZoneInfo) -> dict[MicrogridId, HoursLeft]:
    """Return how long the microgrids of a block last, by name."""
    found = {}
    for strategy in set(known.strategy):
        rows = known.strategy == strategy
        its = expected(block, rows, known.parts, now, zone)
        result = lasts(block.places.only(rows), known.level[rows], known.known[rows], its, now, RULES[strategy])
        for at, row in enumerate(np.flatnonzero(rows).tolist()):
            found[block.places.microgrids[row]] = hours_left(result, at, now, known.reasons[row])
    return found


def town_left(found: Mapping[MicrogridId, HoursLeft], homes: Array, now: EpochSeconds) -> HoursLeft:
    """Return when the first home of the town is dark, half of the homes are by microgrids, and all are."""
    bands: Any = [[each.first, each.half, each.all] for each in found.values()]
    hours = np.array(bands, np.float64)
    hours[np.isnan(hours)] = np.inf
    half = []
    for of in hours[:, 1].T:
        order = np.argsort(of)
        half.append(of[order][np.searchsorted(2 * homes[order].cumsum(), homes.sum())])
    told = (hours[:, 0].min(axis=0), half, hours[:, 2].max(axis=0))
    first, middle, last = (Band(*(None if np.isinf(one) else float(one) for one in each)) for each in told)
    unsure = sum(bool(each.reasons) for each in found.values())
    reasons = [f"not all is known of {unsure} of {counted(len(found), 'microgrid')}"] if unsure else []
    return HoursLeft(at=now, first=first, half=middle, all=last, reasons=reasons)


def levers(
    places: Places, level: Array, now: EpochSeconds, before: Inputs, until: EpochSeconds, after: Inputs, rules: Rules
) -> Floats:
    """Return the hours until a home is dark if the lines fail at ``until``: as it is, and by each lever, (4, M).

    ``before`` is expected from now on, ``after`` from ``until`` on. The battery more is as large as the microgrid's
    others in the mean, as full, and beside the largest: neighbours get from it.
    """
    hours, rows = max(1, (until - now) // 3600), np.arange(len(level))
    plain, held = (_connected(places, level, now, before, hours, rules, held=each) for each in (False, True))
    filled = np.maximum(plain, np.minimum(places.capacity, level + hours * places.power))
    more, mean = np.zeros_like(level), places.capacity.sum(axis=1) // np.maximum((places.capacity > 0).sum(axis=1), 1)
    more[rows, places.capacity.argmax(axis=1)] = mean
    fuller = plain + more * plain.sum(axis=1, keepdims=True) // np.maximum(places.capacity.sum(axis=1), 1)[:, None]
    larger = replace(places, capacity=places.capacity + more, power=places.power + more // 2)
    cases = [(places, plain), (places, held), (places, filled), (larger, fuller)]
    return np.stack([lasts(at, full, full >= 0, after, until, rules).first.middle for at, full in cases])


def _connected(
    places: Places, level: Array, now: EpochSeconds, expected: Inputs, hours: int, rules: Rules, *, held: bool
) -> Array:
    """Return the levels after some hours with the line."""
    controllers, boundary = Controllers(places, rules), Boundary.open_to_town(len(level))
    yes, limit = boundary.closed, boundary.import_limit_w
    for hour in range(hours):
        seen = Situation(level=level, islands=~yes, managed=yes, short=~yes, import_limit_w=limit, held=held)
        part = Inputs(load=expected.load[hour], generation=expected.generation[hour])
        level = step_alone(places, level, controllers.command(now + hour * 3600, part, seen), boundary).flows.level
    return level
