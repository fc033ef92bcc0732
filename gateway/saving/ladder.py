"""The ladder that a gateway climbs when its LTE line is at risk: a step a day, judged at midnight (pure, C9)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from commonwatt.model.control.relaying import LineRate
from commonwatt.model.control.saving import WORDS, Measure
from gateway.line.line import gigabytes
from gateway.saving.outlook import Outlook

TAKE_BACK_PERCENT = 85  # part of the allowance below which a month without the last step is low
TAKE_BACK_DAYS = 7  # judged days in a row that must be low before the last step is taken back


STEPS = tuple(Measure)
MOST_STEPS = {"nothing": 0, "lossless": 3, "averages": 4}
"""By the setting ``saves``, how many steps a gateway may take by itself."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How far a gateway has climbed."""

    step: int = 0  # steps in force
    since: int = 0  # local day of the last change, as ``date.toordinal`` numbers it
    judged: int = 0  # local day of the last judgement
    low_days: int = 0  # judged days in a row on which the month without the last step was low

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is in force."""
        return STEPS[: self.step]

    def judge(
        self, today: int, outlook: Outlook | None, allowance: int, growth: Sequence[LineRate | None], *, at_risk: bool
    ) -> tuple["Ladder", str]:
        """Return the ladder after the judgement of a day, and why it changed; empty: it did not.

        Args:
            today: The local day.
            outlook: The line's outlook; ``None``: too little was counted.
            allowance: Allowed bytes in a month.
            growth: By allowed step, the bytes a second that come on top without it; ``None``: not known.
            at_risk: Whether the line's forecast is above its allowance.
        """
        most = len(growth)
        judged = replace(self, judged=today, step=min(self.step, most), since=min(self.since, today))
        if outlook is None:
            return judged, ""
        expected = outlook.expected()
        if at_risk and expected > allowance and judged.step < most:
            why = f"{gigabytes(expected)} expected by the month's end, {gigabytes(allowance)} allowed"
            return Ladder(step=judged.step + 1, since=today, judged=today), f"{WORDS[STEPS[judged.step]]}: {why}"
        if not judged.step or (more := growth[judged.step - 1]) is None:
            return judged, ""
        without = max(outlook.expected(more), outlook.a_month(more))
        low_days = judged.low_days + 1 if without * 100 < allowance * TAKE_BACK_PERCENT else 0
        if low_days < TAKE_BACK_DAYS:
            return replace(judged, low_days=low_days), ""
        why = f"{gigabytes(without)} a month without it for {TAKE_BACK_DAYS} days, {gigabytes(allowance)} allowed"
        back = Ladder(step=judged.step - 1, since=today, judged=today)
        return back, f"no longer: {WORDS[STEPS[back.step]]}: {why}"
