"""The exchange of a meter in the dated registry: the old one ends where the new one begins (row 22, pure)."""

from dataclasses import replace

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import MilliwattHours, Quarter
from utility.registry.accounts import DatedRegistry


def exchanged(
    registry: DatedRegistry,
    old: MeterId,
    new: MeterId,
    at: Quarter,
    last_register: MilliwattHours | None,
    first_register: MilliwattHours | None,
) -> DatedRegistry:
    """Return the registry in which a meter gives its place and its accounts to another one.

    Each quarter belongs to one of the two, so no energy counts twice, and a register that begins anew is no energy.

    Args:
        old: The meter that is taken out.
        new: The meter that comes in its place; not in the registry yet.
        at: The first quarter of the new meter.
        last_register: The old meter's register when it is taken out; ``None``: not known.
        first_register: The new meter's register when it is put in.

    Raises:
        ConfigError: The meter is not there at that time, or the new one is somewhere already.
    """
    meter = registry.meters.get(old)
    if meter is None:
        raise ConfigError(f"meter {old} is not registered", "see: commonwatt show accounts")
    if new in registry.meters:
        place = registry.meters[new].place
        raise ConfigError(
            f"meter {new} is already at {place}; each meter has one place, so give the new meter's own id"
        )
    if at <= (meter.start or 0) or (meter.end is not None and at >= meter.end):
        raise ConfigError(
            f"meter {old} is not at {meter.place} at that time",
            f"see: commonwatt show accounts/changes 'subject=meter {old}'",
        )
    if last_register is not None and last_register < (meter.first_register or 0):
        raise ConfigError(
            f"last register: is below the {meter.first_register} mWh at which meter {old} began; leave it out if the "
            "register rolled over"
        )
    before = [held for held in meter.holdings if held.start < at]
    after = [held for held in meter.holdings if held.end is None or held.end > at]
    held_before = tuple(replace(held, end=at if held.end is None else min(held.end, at)) for held in before)
    out = replace(meter, end=at, holdings=held_before, last_register=last_register)
    holdings = tuple(replace(held, start=max(held.start, at)) for held in after)
    come = replace(meter, id=new, start=at, holdings=holdings, first_register=first_register, last_register=None)
    return replace(registry, meters={**registry.meters, old: out, new: come})
