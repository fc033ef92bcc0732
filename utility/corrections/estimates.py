"""Estimates for missing readings: by balance, by interpolation, by like days; scaled (docs/billing.md).

The balance of a microgrid: what one place took in and gave out, from the boundary and all other places.
Energy shared inside the microgrid cancels: what places take in minus what they give out is what passes the boundary.

The estimates of a microgrid's missing readings: balance first, then lines below 2 h, then like days; then scaled.
The order of the steps is the order of trust. What is scaled is never a reading: a register's difference over a gap is
kept to the milliwatt-hour, and then the other estimates are changed so that places and boundary agree in each slot.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import islice
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.splits import pro_rata, row_sums
from commonwatt.model.units import QUARTER_S, SLOTS, MilliwattHours, Quarter
from utility.corrections.validation import runs
from utility.energy.sharing import net_charge

Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours by slot or quarter-hour
Flags: TypeAlias = NDArray[np.bool_]

INTERPOLATED_SLOTS = 480  # a gap of as many slots (2 h) or more is never interpolated (§ 55 of Austria's ElWG)


class Method(IntEnum):
    """How a value was made; the number is stored."""

    BALANCE = 1  # the boundary's energy minus all other places'
    INTERPOLATION = 2  # a line between the readings before and after; below 2 h
    LIKE_DAYS = 3  # the mean of the same hours of like days
    EDIT = 4  # a person entered it
    REGISTER = 5  # the difference of the meter's register, evenly: nothing else is known

    @property
    def words(self) -> str:
        """The name in commands: ``like-days``."""
        return self.name.lower().replace("_", "-")


class SeriesRole(IntEnum):
    """What a series of readings measures of its place."""

    INCOMING = 1
    OUTGOING = 2
    GENERATION = 3
    LEVEL = 4


Place: TypeAlias = Mapping[SeriesRole, Sequence[int]]  # the series of a place by role


@dataclass(frozen=True, kw_only=True)
class RegisterDifference:
    """A known difference of a meter's register over some slots."""

    row: int  # the series
    start: int  # first slot
    end: int  # the slot after the last
    energy: MilliwattHours  # the difference, milliwatt-hours


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadingWindow:
    """The readings of a microgrid's n series in some quarters in a row."""

    first: Quarter  # the first quarter
    role: Sequence[SeriesRole]  # what each series measures
    place: Sequence[int]  # the number of its place, from 0 without holes
    values: Energies  # readings, milliwatt-hours, (n, slots); 0 where not known
    known: Flags  # where there is a reading, (n, slots)
    outage: Flags  # where the meter was off, or the microgrid an island, (n, slots)
    wanted: Flags  # missing slots to estimate, (n, slots)
    boundary: Energies  # import minus export at the microgrid's boundary, (slots)
    passes: Flags  # where it is known, (slots)
    typical: Energies  # energy of each quarter on like days, or its last level, (n, quarters)
    is_typical: Flags  # where it is known, (n, quarters)
    registers: Sequence[RegisterDifference] = ()  # known differences of registers
    loss_permille: int = 0  # part of a battery's charge that is lost, thousandths

    @property
    def places(self) -> list[Place]:
        """The series of each place by role; of a role several, where one meter follows another at an exchange."""
        found: list[dict[SeriesRole, list[int]]] = [{} for _ in range(max(self.place, default=-1) + 1)]
        for row, (place, role) in enumerate(zip(self.place, self.role, strict=True)):
            found[place].setdefault(role, []).append(row)
        return [*found]


@dataclass(eq=False)
class Draft:
    """The readings of a window with what is estimated so far."""

    window: ReadingWindow  # the window
    values: Energies = field(init=False)  # readings and estimates, (n, slots)
    there: Flags = field(init=False)  # where there is either, (n, slots)
    method: NDArray[np.uint8] = field(init=False)  # ``Method`` of each estimate, 0: none, (n, slots)

    def __post_init__(self) -> None:
        """Begin with the readings."""
        self.values = np.where(self.window.known, self.window.values, 0)
        self.there = self.window.known.copy()
        self.method = np.zeros(self.values.shape, np.uint8)

    def put(self, row: int, slots: Flags, values: Energies, method: int) -> None:
        """Set the estimates of some slots of a series that are wanted and still missing."""
        free = slots & self.window.wanted[row] & ~self.there[row]
        self.values[row, free] = values[free]
        self.method[row, free] = method
        self.there[row] |= free

    def net(self) -> tuple[Energies, Flags]:
        """Return intake minus output of each place, and where it is known or estimated, (places, slots).

        A building's or the farm's battery has no incoming meter: its net intake is its charge minus its generation.
        """
        rows = [self._net_of(place) for place in self.window.places]
        if not rows:
            return np.zeros((0, self.values.shape[1]), np.int64), np.zeros((0, self.values.shape[1]), np.bool_)
        return np.stack([net for net, _ in rows]), np.stack([known for _, known in rows])

    def through(self, place: Place, role: SeriesRole) -> tuple[Energies, Flags]:
        """Return what passed a place's meters of a direction, and where all of it is known or estimated, (slots).

        A meter outside its time at the place reads 0 there.
        """
        rows = list(place.get(role, ()))
        there = self.there[rows].all(axis=0) if rows else np.zeros(self.there.shape[1], np.bool_)
        return self.values[rows].sum(axis=0), np.asarray(there)

    def _net_of(self, place: Place) -> tuple[Energies, Flags]:
        values, there = self.values, self.there
        out, has_out = self.through(place, SeriesRole.OUTGOING)
        if SeriesRole.INCOMING in place:
            into, has_into = self.through(place, SeriesRole.INCOMING)
            return into - out, has_into & (has_out if SeriesRole.OUTGOING in place else True)
        if SeriesRole.LEVEL not in place or SeriesRole.GENERATION not in place:
            return -out, has_out
        # After an exchange those of the new meter: its level is not known before.
        level, sun = place[SeriesRole.LEVEL][-1], place[SeriesRole.GENERATION][-1]
        before = np.concatenate([values[level, :1], values[level, :-1]])
        known_before = np.concatenate([[False], there[level, :-1]])
        charge = net_charge(values[level] - before, self.window.loss_permille)
        return charge - values[sun], there[level] & known_before & there[sun]


def net_of_missing(boundary: Energies, passes: Flags, net: Energies, known: Flags) -> tuple[Energies, Flags]:
    """Return the net intake of the one place that is not known in a slot, and whether there is exactly one, (slots).

    Args:
        boundary: Import minus export at the boundary, (slots).
        passes: Where it is known.
        net: Intake minus output of each place, (places, slots).
        known: Where it is known.
    """
    others = np.where(known, net, 0).sum(axis=0)
    return boundary - others, np.asarray(passes & ((~known).sum(axis=0) == 1))


def intake_and_output(
    net: Energies, incoming: Energies, has_incoming: Flags, outgoing: Energies, has_outgoing: Flags
) -> tuple[Energies, Energies]:
    """Return what a place took in and gave out in each slot, from its net intake and what is known of both.

    Where neither is known, the place did one of them: a battery does not charge and discharge in one slot.
    """
    taken = np.where(has_incoming, incoming, np.maximum(net + np.where(has_outgoing, outgoing, 0), 0))
    given = np.where(has_outgoing, outgoing, np.maximum(np.where(has_incoming, incoming, 0) - net, 0))
    return taken, given


def interpolated(
    values: Energies, known: Flags, outage: Flags, start: int, end: int, *, is_level: bool
) -> Energies | None:
    """Return the values of slots ``start`` to before ``end``; ``None``: they may not be interpolated.

    A gap of 2 h or more is not interpolated, nor one whose slot before or after it is missing or of an outage. Energy
    runs from the mean of the quarter-hour before to the mean of the one after, as far as their slots are known:
    one slot alone may be a kettle's. A level runs from slot to slot.

    Args:
        values: Readings of a meter, (slots).
        known: Which are there.
        outage: Slots in which the meter was off, or its microgrid an island.
        start: First slot of the gap.
        end: The slot after its last.
        is_level: Whether the readings are levels.
    """
    count = end - start
    if count >= INTERPOLATED_SLOTS or start == 0 or end == len(values):
        return None
    if not (known[start - 1] and known[end]) or outage[start - 1] or outage[end]:
        return None
    length = 1 if is_level else SLOTS
    sides = slice(max(0, start - length), start), slice(end, end + length)
    before, after = (_mean(values[side], known[side] & ~outage[side]) for side in sides)
    return line(before, after, count)


def line(before: MilliwattHours, after: MilliwattHours, count: int) -> Energies:
    """Return ``count`` values between two others, rounded."""
    steps = np.arange(1, count + 1)
    return np.asarray((before * (count + 1 - steps) + after * steps + (count + 1) // 2) // (count + 1))


def _mean(values: Energies, known: Flags) -> MilliwattHours:
    return int(values[known].sum()) // int(known.sum())


FARTHEST_DAYS = 35  # a day further away is not like


def like_quarters(quarter: Quarter, zone: ZoneInfo) -> Iterator[Quarter]:
    """Yield the quarters with the same local time on like days, the nearest first, the earlier of two first.

    An hour that a change of clocks skips has none on that day; of an hour that comes twice, the first.
    """
    local = datetime.fromtimestamp(quarter * QUARTER_S, zone).replace(tzinfo=None, fold=0)
    for distance in range(1, FARTHEST_DAYS + 1):
        for days in (-distance, distance):
            other = local + timedelta(days=days)
            if (other.weekday() < 5) != (local.weekday() < 5):
                continue
            time = int(other.replace(tzinfo=zone).timestamp())
            if datetime.fromtimestamp(time, zone).replace(tzinfo=None, fold=0) == other:
                yield time // QUARTER_S


def typical(energies: Energies, usable: Flags, days: int) -> tuple[Energies, Flags]:
    """Return the mean energy of each quarter over its like quarters, and where there is one, (..., quarters).

    Args:
        energies: Energy of each quarter's like quarters, nearest first, (..., like quarters, quarters).
        usable: Which are known, and of days without an outage.
        days: Most like quarters of a mean.
    """
    used = usable & (np.cumsum(usable, axis=-2) <= days)
    count = used.sum(axis=-2)
    total = np.where(used, energies, 0).sum(axis=-2)
    return (total + count // 2) // np.maximum(count, 1), np.asarray(count > 0)


def bent(shape: Energies, before: int, after: int | None) -> Energies:
    """Return a curve of levels with its ends moved to known levels: the middle is moved in proportion.

    Args:
        shape: The typical level at the end of each slot: of the slot before the gap, of the gap's, of the one after.
        before: The known level before the gap.
        after: The known level after it; ``None``: it is not known.
    """
    first = before - int(shape[0])
    last = first if after is None else after - int(shape[-1])
    steps, whole = np.arange(len(shape)), len(shape) - 1
    return np.maximum(0, shape + (first * (whole - steps) + last * steps) // whole)[1:-1]


def nearest(quarters: Iterable[Quarter], days: int) -> list[Quarter]:
    """Return the first of like quarters, some more than ``days`` since not each is usable."""
    return list(islice(quarters, 2 * days))


_MAX_WEIGHTS = 2**30  # the sum of weights that ``pro_rata`` takes, with a margin


def summing_to(total: MilliwattHours, shape: Energies) -> Energies:
    """Return energies that sum exactly to ``total``, in proportion to a shape; evenly if the shape is all 0.

    Args:
        total: Not negative.
        shape: Not negative, (n), n at least 1.
    """
    return np.asarray(_divided(np.array([total], np.int64), shape[None])[0])


def spread(quarters: Energies) -> Energies:
    """Return the energy of each slot of quarters with these energies, evenly, (..., quarters * 60)."""
    steps = np.arange(SLOTS + 1)
    # As quarters * steps // SLOTS, without odd milliwatt-hours at one end.
    slots = np.diff(quarters[..., None] * steps // SLOTS, axis=-1)
    return slots.reshape(*quarters.shape[:-1], -1)


def closing(target: Energies, incoming: Energies, outgoing: Energies) -> tuple[Energies, Energies]:
    """Scale estimates so that in each slot those of incoming meters minus those of outgoing ones are ``target``.

    Incoming ones are multiplied by a factor, outgoing ones are divided by it: neither direction is changed more.
    Estimates of a direction that are all 0 are raised evenly if they must be.

    Args:
        target: (slots).
        incoming: Estimates, not negative, (slots, incoming meters).
        outgoing: The same, (slots, outgoing meters).

    Returns:
        Both, scaled. Where a direction that has to be raised has no meter, its slots are unchanged in both.
    """
    taken, given = row_sums(incoming), row_sums(outgoing)
    root = np.sqrt(target.astype(np.float64) ** 2 + 4.0 * taken * given)
    wanted_in = np.where((taken > 0) & (given > 0), np.rint((target + root) / 2), np.maximum(target, 0)).astype(
        np.int64
    )
    wanted_in = np.maximum(wanted_in, np.maximum(target, 0))
    wanted_out = wanted_in - target
    possible = ((wanted_in == 0) | (incoming.shape[1] > 0)) & ((wanted_out == 0) | (outgoing.shape[1] > 0))
    return (
        np.where(possible[:, None], _divided(wanted_in, incoming), incoming),
        np.where(possible[:, None], _divided(wanted_out, outgoing), outgoing),
    )


def _divided(total: Energies, shape: Energies) -> Energies:
    """Divide each row's total in proportion to the shape, evenly where that is all 0."""
    if not shape.shape[1]:
        return shape.copy()
    sums = row_sums(shape)
    # A shape may be coarser than its sum: only its proportions count.
    excess = max(0, int(sums.max(initial=0)).bit_length() - _MAX_WEIGHTS.bit_length() + 1)
    weights = shape >> excess
    weights = np.where(row_sums(weights)[:, None] == 0, 1, weights)
    return pro_rata(total, weights, np.broadcast_to(total[:, None], shape.shape).copy())


def estimated(window: ReadingWindow) -> Draft:
    """Return the window with estimates for the wanted slots, as far as anything is known to estimate them from."""
    draft = Draft(window)
    _by_balance(draft)
    gappy = np.asarray(window.wanted.any(axis=1))
    for row, start, end in runs(~window.known & gappy[:, None]):
        if not draft.there[row, start:end].all():
            _by_time(draft, row, start, end)
    fixed = np.zeros(draft.there.shape, np.bool_)
    for one in window.registers:
        _to_register(draft, one, fixed)
    _close(draft, fixed)
    return draft


# Balance


def _by_balance(draft: Draft) -> None:
    """Estimate the one place that is missing in a slot."""
    window = draft.window
    nets, known = draft.net()
    missing, alone = net_of_missing(window.boundary, window.passes, nets, known)
    for number, place in enumerate(window.places):
        here = np.where(known[number], nets[number], missing)
        slots = known[number] | alone
        if SeriesRole.INCOMING not in place:
            _source(draft, place, here, slots)
        _through(draft, place, here, slots)


def _through(draft: Draft, place: Place, net: Energies, slots: Flags) -> None:
    """Estimate what passed a place's meters from its net intake."""
    into, has_into = draft.through(place, SeriesRole.INCOMING)
    out, has_out = draft.through(place, SeriesRole.OUTGOING)
    taken, given = intake_and_output(net, into, has_into, out, has_out)
    for role, rest in ((SeriesRole.INCOMING, taken - into), (SeriesRole.OUTGOING, given - out)):
        rows = list(place.get(role, ()))
        one = slots & ((~draft.there[rows]).sum(axis=0) == 1)
        for row in rows:
            draft.put(row, one, np.maximum(rest, 0), Method.BALANCE)


def _source(draft: Draft, place: Place, net: Energies, slots: Flags) -> None:
    """Estimate generation and level of a battery without an incoming meter, whose intake follows from both.

    Over a gap, the generation is the change of the level minus the net intake, exactly; like days give its shape.
    """
    if SeriesRole.LEVEL not in place or SeriesRole.GENERATION not in place:
        return
    window, level, sun = draft.window, place[SeriesRole.LEVEL][-1], place[SeriesRole.GENERATION][-1]
    for _, start, end in runs((window.wanted[level] & window.wanted[sun])[None]):
        whole = slice(start, end + 1)
        if start == 0 or end >= len(net) or not (draft.there[level, start - 1] and draft.there[level, end]):
            continue
        if not slots[whole].all() or not draft.there[sun, end]:
            continue
        before, after = int(draft.values[level, start - 1]), int(draft.values[level, end])
        total = after - before - int(net[whole].sum()) - int(draft.values[sun, end])
        shape = spread(np.where(window.is_typical[sun], window.typical[sun], 0))[start:end]
        made = summing_to(max(0, total), shape)
        gap = np.zeros(len(net), np.bool_)
        gap[start:end] = True
        values = np.zeros(len(net), np.int64)
        values[start:end] = made
        draft.put(sun, gap, values, Method.BALANCE)
        values[start:end] = np.maximum(0, before + np.cumsum(net[start:end] + made))
        draft.put(level, gap, values, Method.BALANCE)


# Time


def _by_time(draft: Draft, row: int, start: int, end: int) -> None:
    """Estimate a gap of one series from what it read before and after, or on like days."""
    window = draft.window
    is_level = window.role[row] is SeriesRole.LEVEL
    gap = np.zeros(window.known.shape[1], np.bool_)
    gap[start:end] = True
    values = np.zeros(len(gap), np.int64)
    # The readings alone: an estimate is no end of a line.
    line = interpolated(window.values[row], window.known[row], window.outage[row], start, end, is_level=is_level)
    if line is not None:
        values[start:end] = line
        draft.put(row, gap, values, Method.INTERPOLATION)
        return
    typical = np.repeat(window.is_typical[row], SLOTS)
    if not is_level:
        draft.put(row, gap & typical, spread(window.typical[row]), Method.LIKE_DAYS)
    elif start and window.known[row, start - 1] and typical[start:end].all():
        values[start:end] = _level(window, row, start, end)
        draft.put(row, gap, values, Method.LIKE_DAYS)


def _level(window: ReadingWindow, row: int, start: int, end: int) -> Energies:
    """Return the levels of a gap: the curve of like days between the known levels at its ends."""
    ends = np.arange(window.typical.shape[1]) * SLOTS + SLOTS - 1
    curve = np.interp(np.arange(start - 1, end + 1), ends, window.typical[row]).astype(np.int64)
    after = int(window.values[row, end]) if end < window.known.shape[1] and window.known[row, end] else None
    return bent(curve, int(window.values[row, start - 1]), after)


# Scaling


def _to_register(draft: Draft, one: RegisterDifference, fixed: Flags) -> None:
    """Scale the estimates of a series within a register's difference, if each of its slots is known or estimated."""
    span = slice(one.start, one.end)
    if not draft.method[one.row, span].any():
        slots = np.zeros(draft.there.shape[1], np.bool_)
        slots[span] = True
        draft.put(one.row, slots, np.zeros(len(slots), np.int64), Method.REGISTER)
    guessed = draft.method[one.row, span] > 0
    if not guessed.any() or not draft.there[one.row, span].all():
        return
    left = one.energy - int(draft.values[one.row, span][~guessed].sum())
    values = draft.values[one.row, span]
    # Readings above the register's difference are a finding of their own; nothing is left to estimate.
    values[guessed] = summing_to(max(0, left), values[guessed])
    fixed[one.row, span] |= guessed


def _close(draft: Draft, fixed: Flags) -> None:
    """Scale the estimates that are neither by balance nor bound by a register, so that places and boundary agree."""
    window = draft.window
    nets, known = draft.net()
    free = (draft.method > Method.BALANCE) & ~fixed
    by_role = {
        role: np.array([r == role for r in window.role], np.bool_)
        for role in (SeriesRole.INCOMING, SeriesRole.OUTGOING)
    }
    has_net = np.array([SeriesRole.INCOMING in place for place in window.places], np.bool_)
    # A source's net intake follows from its level, not from what its outgoing meter reads.
    counted = np.array([has_net[place] for place in window.place], np.bool_)
    incoming = free & (by_role[SeriesRole.INCOMING] & counted)[:, None]
    outgoing = free & (by_role[SeriesRole.OUTGOING] & counted)[:, None]
    slots = window.passes & known.all(axis=0) & (incoming | outgoing).any(axis=0)
    if not slots.any():
        return
    into, out = (np.where(flags, draft.values, 0)[:, slots] for flags in (incoming, outgoing))
    rest = window.boundary[slots] - nets[:, slots].sum(axis=0)
    target = rest + into.sum(axis=0) - out.sum(axis=0)
    for at, takes, gives in _alike(incoming[:, slots], outgoing[:, slots]):
        new_into, new_out = closing(target[at], into[takes][:, at].T, out[gives][:, at].T)
        columns = np.flatnonzero(slots)[at]
        draft.values[np.ix_(np.flatnonzero(takes), columns)] = new_into.T
        draft.values[np.ix_(np.flatnonzero(gives), columns)] = new_out.T


def _alike(incoming: Flags, outgoing: Flags) -> list[tuple[NDArray[np.intp], Flags, Flags]]:
    """Return the slots with the same estimated series together: (slots, incoming series, outgoing series)."""
    both = np.concatenate([incoming, outgoing])
    kinds, which = np.unique(both, axis=1, return_inverse=True)
    rows = len(incoming)
    return [
        (np.flatnonzero(which.ravel() == number), kinds[:rows, number], kinds[rows:, number])
        for number in range(kinds.shape[1])
    ]
