"""A run: the bills of all accounts for a month (U2, docs/billing.md), or for its days so far; its steps (pure)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, MeterId, Quarter
from commonwatt.town.town import Function
from utility.billing.bill import Bill, LineKind
from utility.billing.inputs import Load, RunInputs
from utility.billing.rules.lines import Billed, BillWriter
from utility.billing.rules.sums import Summing, TownSums
from utility.energy.quarters import SettledQuarters
from utility.registry.accounts import Installed

# Meters whose month is in memory at once, unless one microgrid has more: about 100 MB of milliwatt-hours.
CHUNK_METERS = 1_000
Progress = Callable[[int, int], object]  # called with the meters done and all meters
Witness = Callable[[SettledQuarters], object]  # called with settled quarter-hours that bills are made of


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The bills of a run."""

    billed: dict[AccountNumber, Billed] = field(default_factory=dict)  # the bills, by account
    sums: TownSums = field(default_factory=TownSums)  # the energy they were made from


def bills_of(
    inputs: RunInputs, load: Load, progress: Progress | None = None, witness: Witness | None = None
) -> RunResult:
    """Return the bills of a month, without corrections of earlier ones.

    Args:
        inputs: Registry, tariffs and bases.
        load: Returns settled quarter-hours; it is called for some whole microgrids at a time.
        progress: Called after each of these calls.
        witness: Called with the quarter-hours of each of these calls, before they are billed.

    Raises:
        ConfigError: An account has no tariff in a part of the month, or the tariffs' policies do not go together.
    """
    _check_policies(inputs)
    summing = Summing(inputs)
    whole, done = len(inputs.registry.meters), 0
    for microgrids in _chunks(inputs):
        meters = (*sorted(m.id for members in microgrids for m in members if m.function is not Function.BOUNDARY),)
        if meters:
            settled = complete(load(meters, inputs.first, inputs.until), meters, inputs)
            if witness is not None:
                witness(settled)
            summing.add(microgrids, settled)
        done += sum(map(len, microgrids))
        if progress is not None:
            progress(done, whole)
    return RunResult(billed=BillWriter(inputs).bills(summing.sums.accounts), sums=summing.sums)


def _check_policies(inputs: RunInputs) -> None:
    """Refuse tariffs that divide credit among places by different rules in one month."""
    used = inputs.used
    names = ("name", "vacant", "farm", "import_by")
    rules = {tuple(getattr(tariff.policy, name, "") for name in names): tariff for tariff in used}
    if len(rules) > 1:
        labels = " and ".join(tariff.label for tariff in rules.values())
        raise ConfigError(
            f"{inputs.month}: {labels} have different policies, or different rules to divide credit: in one month all "
            "accounts need the same; let the new one begin with a month, and publish every tariff with it"
        )


def _chunks(inputs: RunInputs) -> Iterator[list[Sequence[Installed]]]:
    """Yield whole microgrids, some at a time."""
    members: dict[str, list[Installed]] = {}
    for _, meter in sorted(inputs.registry.meters.items()):
        members.setdefault(meter.microgrid, []).append(meter)
    waiting: list[Sequence[Installed]] = []
    for _, of in sorted(members.items()):
        if waiting and sum(map(len, waiting)) + len(of) > CHUNK_METERS:
            yield waiting
            waiting = []
        waiting.append(of)
    if waiting:
        yield waiting


def complete(settled: SettledQuarters, meters: Sequence[MeterId], inputs: RunInputs) -> SettledQuarters:
    """Return settled quarter-hours with a row for each meter; a row that was not there is missing."""
    wanted = np.array(meters, np.uint64)
    if np.array_equal(settled.meters, wanted):
        return settled
    shape = len(wanted), inputs.length
    known = np.isin(settled.meters, wanted)
    places = np.searchsorted(wanted, settled.meters[known])
    quality, provisional = np.zeros(shape, np.uint8), np.ones(shape, np.bool_)
    version = np.zeros(shape, np.int32)
    quality[places], provisional[places] = settled.quality[known], settled.provisional[known]
    version[places] = settled.version[known]
    energies = {}
    for quantity, values in settled.energies.items():
        energies[quantity] = np.zeros(shape, np.int64)
        energies[quantity][places] = values[known]
    return SettledQuarters(
        meters=wanted,
        first=settled.first,
        energies=energies,
        quality=quality,
        provisional=provisional,
        version=version,
    )


@dataclass(frozen=True, kw_only=True)
class SoFar:
    """The bills of some microgrids so far."""

    # By account; the base is that of the whole month, energy that of the settled quarters.
    bills: dict[AccountNumber, Bill]
    # The quarter after the last settled one, by account; an account without a settled quarter is absent.
    until: dict[AccountNumber, Quarter]


def bills_so_far(inputs: RunInputs, load: Load) -> SoFar:
    """Return the bills of whole microgrids for a month as they are so far, without corrections of earlier months.

    Raises:
        ConfigError: An account has no tariff in a part of the month, or the tariffs' policies do not go together.
    """
    until: dict[AccountNumber, Quarter] = {}

    def see(settled: SettledQuarters) -> None:
        for row, meter in enumerate(settled.meters.tolist()):
            for account, start, end in inputs.registry.meters[meter].held(inputs.first, inputs.until):
                there = np.flatnonzero(settled.version[row, start - settled.first : end - settled.first])
                if len(there):
                    until[account] = max(until.get(account, 0), start + int(there[-1]) + 1)

    found = bills_of(inputs, load, witness=see)
    return SoFar(bills={number: each.bill for number, each in found.billed.items()}, until=until)


def energy_of(bill: Bill) -> Decimal:
    """Return what a bill's lines for energy come to, before taxes, dollars."""
    lines = (line.amount for line in bill.lines if line.kind in (LineKind.IMPORT, LineKind.CREDIT))
    return sum(lines, Decimal(0))


def grown(inputs: RunInputs, load: Load, start: Quarter, end: Quarter) -> dict[AccountNumber, Decimal]:
    """Return what the energy from a quarter to before another one adds to each account's lines for energy, dollars.

    The figures of a month's days add up to the lines of its bill, to the cent: each is the difference of two bills.

    Raises:
        ConfigError: An account has no tariff in a part of the month, or the tariffs' policies do not go together.
    """
    before, after = (
        {number: energy_of(each.bill) for number, each in bills_of(inputs, cut_off(load, stop)).billed.items()}
        for stop in (start, end)
    )
    return {number: dollars - before.get(number, Decimal(0)) for number, dollars in after.items()}


def cut_off(load: Load, stop: Quarter) -> Load:
    """Return a function that loads settled quarter-hours, without energy from a quarter on."""

    def cut(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        settled = load(meters, first, until)
        there = np.arange(first, until) < stop
        return replace(settled, energies={quantity: values * there for quantity, values in settled.energies.items()})

    return cut


_DONE = {"draft": 2, "checked": 3, "issued": 4}  # how many steps a run in a state has behind it


@dataclass(frozen=True, kw_only=True)
class RunStep:
    """A step of a month's bills."""

    words: str  # what it is
    state: str  # ``done``, ``now`` or ``later``
    waits_for: str  # what it waits for; empty: it is done, or an earlier step comes first
    run: int | None  # the run that it is about; ``None``: there is none yet
    by: str  # the person who did it; empty: it is not done, or no person does it
    at: EpochSeconds | None  # when


def month_steps(runs: Sequence[Mapping[str, Any]], waits_for: str | None) -> list[RunStep]:
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
        RunStep(
            words=each,
            state="done" if place < done else "now" if place == done else "later",
            waits_for=waits[place] if place == done else "",
            run=None if run is None or place == 0 else run["no"],
            by="" if is_open else (run or {}).get(f"{did}_by") or "",
            at=None if is_open else (run or {}).get(did),
        )
        for place, (each, did) in enumerate(words.items())
    ]
