"""Real islands: what was projected when they began, and what came; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from commonwatt.energy.hours_left import Band, HoursLeft
from commonwatt.model.units import EpochSeconds, MicrogridId
from utility.lasting.rules import OLD_S, Said

DARK = ("first", "half", "all")  # which homes are dark


@dataclass(frozen=True, kw_only=True)
class Score:
    """An island; hours are from its projection."""

    microgrid: MicrogridId  # its microgrid
    at: EpochSeconds  # when it was projected: when the utility first saw it
    projected: Sequence[Sequence[float | None]]  # a ``Band`` for each of ``DARK``
    came: Sequence[float | None] = (None, None, None)  # hours until batteries were at 0; ``None``: not seen
    lasted: float | None = None  # hours until its end; ``None``: it goes on

    @property
    def band(self) -> Band:
        """The projection until the first home is dark."""
        return Band(*self.projected[0])

    @property
    def error_percent(self) -> float | None:
        """By how much the first dark home was missed; ``None``: the island was over before that can be said."""
        came, middle = self.came[0] or self.lasted, self.band.middle
        if came is None or (self.came[0] is None and (middle is None or middle >= came)):
            return None
        return 100.0 if middle is None else 100 * abs(middle - came) / came

    @property
    def is_held(self) -> bool:
        """Whether the band held what came; an island that ended before only speaks against its upper end."""
        came, (low, _, high, _) = self.came[0], self.band
        most = came or self.lasted or 0.0
        return (high is None or most <= high) and (came is None or (low is not None and low <= came))


class Summary(NamedTuple):
    """How good the projections of a town's islands were."""

    islands: int  # islands of which it can be said
    median_error_percent: float
    held_percent: float  # of them, those of which the band held what came


def summary(scores: Sequence[Score]) -> Summary | None:
    """Return how good the projections were; ``None``: it can be said of none."""
    judged = [(error, one.is_held) for one in scores if (error := one.error_percent) is not None]
    if not judged:
        return None
    return Summary(len(judged), median(e for e, _ in judged), 100 * sum(held for _, held in judged) / len(judged))


def scored(
    scores: Sequence[Score], said: Sequence[Said], left: Mapping[MicrogridId, HoursLeft], now: EpochSeconds
) -> list[Score]:
    """Return the scores after a look: islands that began, homes that got dark, islands that ended."""
    found = [*scores]
    lasting = {one.microgrid: n for n, one in enumerate(scores) if one.lasted is None}
    for each in said:
        at = lasting.get(each.microgrid)
        if at is not None:
            one = found[at]
            hours = round((now - one.at) / 3600, 2)
            found[at] = replace(one, came=_came(one, each, now, hours), lasted=None if each.is_island else hours)
        elif each.is_island and (its := left.get(each.microgrid)) is not None:
            found.append(Score(microgrid=each.microgrid, at=now, projected=[its.first, its.half, its.all]))
    return found


def _came(score: Score, said: Said, now: EpochSeconds, hours: float) -> list[float | None]:
    """Return the hours until batteries were at 0: of one, half of them, all."""
    beat = said.heartbeat
    levels = [] if beat is None or now - beat.time > OLD_S else [each for each in beat.levels if each is not None]
    wanted = (1, -(-len(levels) // 2), len(levels))
    empty = levels.count(0)
    return [
        hours if before is None and said.is_island and levels and empty >= least else before
        for before, least in zip(score.came, wanted, strict=True)
    ]
