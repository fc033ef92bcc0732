"""The estimates of a microgrid's missing readings: balance first, then lines below 2 h, then like days; then scaled.

The order of the steps is the order of trust. What is scaled is never a reading: a register's difference over a gap is
kept to the milliwatt-hour, and then the other estimates are changed so that places and boundary agree in each slot.
"""

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOTS
from commonwatt.settlement.estimates import Energies, Flags
from commonwatt.settlement.estimates.balance import intake_and_output, net_of_missing
from commonwatt.settlement.estimates.interpolation import interpolated
from commonwatt.settlement.estimates.like_days import bent
from commonwatt.settlement.estimates.methods import Method
from commonwatt.settlement.estimates.scaling import closing, spread, summing_to
from commonwatt.settlement.estimates.window import Draft, Place, Registered, Role, Window
from commonwatt.settlement.validation.day import runs


def estimated(window: Window) -> Draft:
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
        if Role.INCOMING not in place:
            _source(draft, place, here, slots)
        _through(draft, place, here, slots)


def _through(draft: Draft, place: Place, net: Energies, slots: Flags) -> None:
    """Estimate what passed a place's meters from its net intake."""
    into, has_into = draft.through(place, Role.INCOMING)
    out, has_out = draft.through(place, Role.OUTGOING)
    taken, given = intake_and_output(net, into, has_into, out, has_out)
    for role, rest in ((Role.INCOMING, taken - into), (Role.OUTGOING, given - out)):
        rows = list(place.get(role, ()))
        one = slots & ((~draft.there[rows]).sum(axis=0) == 1)
        for row in rows:
            draft.put(row, one, np.maximum(rest, 0), Method.BALANCE)


def _source(draft: Draft, place: Place, net: Energies, slots: Flags) -> None:
    """Estimate generation and level of a battery without an incoming meter, whose intake follows from both.

    Over a gap, the generation is the change of the level minus the net intake, exactly; its shape is that of like days.
    """
    if Role.LEVEL not in place or Role.GENERATION not in place:
        return
    window, level, sun = draft.window, place[Role.LEVEL][-1], place[Role.GENERATION][-1]
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
    is_level = window.role[row] is Role.LEVEL
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


def _level(window: Window, row: int, start: int, end: int) -> Energies:
    """Return the levels of a gap: the curve of like days between the known levels at its ends."""
    ends = np.arange(window.typical.shape[1]) * SLOTS + SLOTS - 1
    curve = np.interp(np.arange(start - 1, end + 1), ends, window.typical[row]).astype(np.int64)
    after = int(window.values[row, end]) if end < window.known.shape[1] and window.known[row, end] else None
    return bent(curve, int(window.values[row, start - 1]), after)


# Scaling


def _to_register(draft: Draft, one: Registered, fixed: Flags) -> None:
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
    by_role = {role: np.array([r == role for r in window.role], np.bool_) for role in (Role.INCOMING, Role.OUTGOING)}
    has_net = np.array([Role.INCOMING in place for place in window.places], np.bool_)
    # A source's net intake follows from its level, not from what its outgoing meter reads.
    counted = np.array([has_net[place] for place in window.place], np.bool_)
    incoming = free & (by_role[Role.INCOMING] & counted)[:, None]
    outgoing = free & (by_role[Role.OUTGOING] & counted)[:, None]
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
