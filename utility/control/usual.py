"""What is usual among the gateways of each kind of microgrids, and those that differ from it (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, mode

from commonwatt.model.units import MicrogridId
from commonwatt.protocol.controller_commands import PERIODS
from commonwatt.protocol.heartbeats import Heartbeat
from utility.control.words import called


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The schedules of a kind of microgrids, as their gateways last reported them."""

    kind: str  # the kind
    microgrids: int  # how many there are
    periods: Mapping[str, int]  # the most common value of each period, seconds
    # Mean bytes at this month's end, in the fuller direction, and mean allowance; ``None``: not counted yet.
    line: tuple[float, float] | None
    differ: Mapping[MicrogridId, str]  # which periods of which microgrids differ, in words


def usual_of(kind: str, said: Mapping[MicrogridId, Heartbeat | None]) -> Usual:
    """Return what is usual among the microgrids of a kind; those that have not reported say ``None``."""
    heard = [each for each in said.values() if each is not None]
    values: dict[str, list[int]] = {
        period: [each.periods[period] for each in heard if period in each.periods] for period in PERIODS
    }
    periods = {period: mode(found) for period, found in values.items() if found}
    months = [each.lte for each in heard if each.lte and each.lte.expected and each.lte.allowance]
    line = [fmean(each) for each in zip(*((max(m.expected or ()), m.allowance) for m in months), strict=True)]
    differ = {name: "no report yet" if each is None else _differs(each, periods) for name, each in said.items()}
    return Usual(
        kind=kind,
        microgrids=len(said),
        periods=periods,
        line=(line[0], line[1]) if line else None,
        differ={name: words for name, words in differ.items() if words},
    )


def _differs(said: Heartbeat, usual: Mapping[str, int]) -> str:
    other = {name: value for name, value in said.periods.items() if name in usual and value != usual[name]}
    return ", ".join(f"{called(name)} {seconds} s" for name, seconds in other.items())
