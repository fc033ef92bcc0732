"""A month's way to its bills: data final, draft, checked, issued; and what each step waits for (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commonwatt.model.units import EpochSeconds

_DONE = {"draft": 2, "checked": 3, "issued": 4}  # how many steps a run in a state has behind it


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a month's bills."""

    words: str  # what it is
    state: str  # ``done``, ``now`` or ``later``
    waits_for: str  # what it waits for; empty: it is done, or an earlier step comes first
    run: int | None  # the run that it is about; ``None``: there is none yet
    by: str  # the person who did it; empty: it is not done, or no person does it
    at: EpochSeconds | None  # when


def month_steps(runs: Sequence[Mapping[str, Any]], waits_for: str | None) -> list[Step]:
    """Return the steps of a month by its runs of bills; `waits_for`: what a draft waits for, ``None``: for nothing."""
    runs = [run for run in runs if run["state"] in _DONE]
    run = max(runs, key=lambda each: (_DONE[each["state"]], each["no"]), default=None)
    figures = run.get("figures", {}) if run else {}
    is_open = bool(figures.get("provisional"))  # Quarter-hours may come or change: a draft of them is no step done.
    done = 0 if is_open else _DONE[run["state"]] if run else int(waits_for is None)
    first = waits_for or "readings may still come; then a draft is made again"
    if "days" in figures:
        first = f"{figures['days']} of {figures['of_days']} days are settled; {first}"
    waits = (
        first[:1].upper() + first[1:],
        "The service makes it within the hour, or a clerk now",
        "A clerk computes it again and compares",
        "A second person looks at what stands out, and issues it",
    )
    words = {"Data final": "", "Draft": "made", "Checked": "checked", "Issued": "issued"}
    return [
        Step(
            words=each,
            state="done" if place < done else "now" if place == done else "later",
            waits_for=waits[place] if place == done else "",
            run=None if run is None or place == 0 else run["no"],
            by="" if is_open else (run or {}).get(f"{did}_by") or "",
            at=None if is_open else (run or {}).get(did),
        )
        for place, (each, did) in enumerate(words.items())
    ]
