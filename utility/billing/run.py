"""A run: the bills of all accounts for a month, from settled quarter-hours (pure; U2, docs/billing.md)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber
from commonwatt.settlement.settled import SettledQuarters
from commonwatt.town.town import Function
from utility.billing.inputs import Load, RunInputs
from utility.billing.lines import Billed, Writer
from utility.billing.sums import Summing, TownSums
from utility.registry.accounts import Installed

# Meters whose month is in memory at once, unless one microgrid has more: about 100 MB of milliwatt-hours.
CHUNK_METERS = 1_000
Progress = Callable[[int, int], object]  # called with the meters done and all meters
Witness = Callable[[SettledQuarters], object]  # called with settled quarter-hours that bills are made of


@dataclass(frozen=True, kw_only=True)
class Result:
    """The bills of a run."""

    billed: dict[AccountNumber, Billed] = field(default_factory=dict)  # the bills, by account
    sums: TownSums = field(default_factory=TownSums)  # the energy they were made from


def bills_of(inputs: RunInputs, load: Load, progress: Progress | None = None, witness: Witness | None = None) -> Result:
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
    return Result(billed=Writer(inputs).bills(summing.sums.accounts), sums=summing.sums)


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
