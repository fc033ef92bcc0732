"""Real islands: what was projected when they began, and what came; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from commonwatt.energy.hours_left import Band, HoursLeft
from commonwatt.energy.lasting_proof import NEAR_H
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.model.words import counted
from utility.lasting.rules import OLD_S, Said


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


def summary(scores: Sequence[Score]) -> str:
    """Return how good the projections of a town's islands were, in words."""
    errors = [error for one in scores if (error := one.error_percent) is not None]
    if not errors:
        return "No real island of this town tells yet how good they are here."
    held = sum(one.is_held for one in scores if one.error_percent is not None) / len(errors)
    words = f"In {counted(len(errors), 'real island')} of this town half were off by less than {median(errors):.0f} %"
    return f"{words}, and the range held {100 * held:.0f} % of the time."


def scored(
    scores: Sequence[Score], said: Sequence[Said], left: Mapping[MicrogridId, HoursLeft], now: EpochSeconds
) -> list[Score]:
    """Return the scores after a look: islands that began, homes that got dark, islands that ended."""
    found = {(one.microgrid, one.at): one for one in scores}
    going_on = {one.microgrid: one for one in scores if one.lasted is None}
    for name, beat, is_island in said:
        if (one := going_on.get(name)) is not None:
            hours = round(max(now - one.at, 0) / 3600, 2)
            is_old = beat is None or now - beat.time > OLD_S
            levels = beat.levels if beat and is_island and not is_old else ()
            wanted, empty = (1, -(-len(levels) // 2), len(levels)), levels.count(0)
            pairs = zip(one.came, wanted, strict=True)
            came = [hours if before is None and 0 < least <= empty else before for before, least in pairs]
            found[name, one.at] = replace(one, came=came, lasted=None if is_island else hours)
        elif is_island and (its := left.get(name)) is not None:
            found[name, now] = Score(microgrid=name, at=now, projected=[its.first, its.half, its.all])
    return list(found.values())
