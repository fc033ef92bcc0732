"""Which controllers receive the supply: at a change, and once a quarter-hour while it is short (pure)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import EpochSeconds, MicrogridId, Quarter
from utility.supply.rationing import Ration

# For how long a controller keeps what it received, seconds: it is sent again each quarter-hour, so one may be lost.
RATION_S = 1800
NAMED = 10  # most microgrids that a line of the log names


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a controller was last sent."""

    quarter: Quarter  # the quarter-hour in which it was sent
    supply: SupplyState  # the state of the regional supply
    import_limit_w: int | None  # its import limit, watts; ``None``: no limit
    until: EpochSeconds  # until when that holds


def must_tell(ration: Ration, supply: SupplyState, told: Told | None, now: EpochSeconds, quarter: Quarter) -> bool:
    """Return whether to send a controller its ration.

    A state that is NORMAL without a limit is sent only to end something else: controllers take it as given.
    """
    in_force = told is not None and told.until > now
    is_same = told is not None and (told.supply, told.import_limit_w) == (supply, ration.import_limit_w)
    if supply is SupplyState.NORMAL and ration.import_limit_w is None:
        return in_force and not is_same
    return not in_force or not is_same or (told is not None and told.quarter != quarter)


def changes(
    found: Mapping[MicrogridId, Ration], supply: SupplyState, told: Mapping[MicrogridId, Told], now: EpochSeconds
) -> Iterator[dict[str, object]]:
    """Yield each kind of change between what controllers were last sent and their new rations, with its facts."""
    kinds: dict[tuple[str, bool, str], dict[MicrogridId, int | None]] = {}
    for name, ration in found.items():
        was, was_limit_w = SupplyState.NORMAL, None
        if (before := told.get(name)) is not None and before.until > now:
            was, was_limit_w = before.supply, before.import_limit_w
        if (was, was_limit_w) != (supply, ration.import_limit_w):
            kinds.setdefault((was.value, ration.reduce, ration.reason), {})[name] = was_limit_w
    for (was_supply, reduce, reason), limits in kinds.items():
        yield {
            "supply": supply.value,
            "was": was_supply,
            "limit_w": _range(found[name].import_limit_w for name in limits),
            "was_limit_w": _range(limits.values()),
            "reduce": reduce,
            "why": reason,
            "microgrids": len(limits),
            "names": list(limits)[:NAMED],
        }


def _range(limits: Iterable[int | None]) -> list[int] | None:
    """Return the least and the most of some limits; ``None``: there is none."""
    known = [limit for limit in limits if limit is not None]
    return [min(known), max(known)] if known else None
