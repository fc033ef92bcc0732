"""Rations (U5, A8, P5): the import limit of each microgrid in a shortage, and whom to tell (pure).

The priority is hospital, police and fire, then apartments, then houses. A limit holds for imports at the microgrid's
feeder; exports stay possible. The microgrid of the emergency services never gets a limit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from commonwatt.model.control import LASTS_H, SupplyState
from commonwatt.model.units import EpochSeconds, MicrogridId, Quarter
from commonwatt.town.town import Direction, Function, Microgrid, TownTable, average_w
from utility.supply.buying import PlantSituation

STEPS = 4  # steps in which a limit comes down: each takes at most this part of what a class asks for
STEP_LASTS_H = 1  # hours for which the energy that the classes above do not need has to last while a limit comes down
# Percent of its import in the same hour of the last like day that the apartment microgrid gets in ``CRITICAL``.
APARTMENT_PERCENT = 50
# The emergency services; their microgrid is public whatever its kind, and never limited.
EMERGENCY = frozenset({Function.HOSPITAL, Function.POLICE, Function.FIRE})


class Priority(IntEnum):
    """The class of a microgrid; a lower number is served first (U5)."""

    PUBLIC = 1
    APARTMENTS = 2
    HOUSES = 3


_WORDS = {Priority.PUBLIC: "emergency services", Priority.APARTMENTS: "apartments", Priority.HOUSES: "houses"}


@dataclass(frozen=True, kw_only=True)
class RationedMicrogrid:
    """A microgrid, as rationing sees it."""

    microgrid: MicrogridId  # its name
    priority: Priority  # its class
    customers: int  # its places with own use: houses, apartments, public services
    average_w: int  # the average use of its places, watts
    demand_w: int = 0  # the power it asks to import now, watts
    like_hour_w: int | None = None  # its mean import in the same hour of the last like day, watts; ``None``: not known
    spared_w: int = 0  # the average use of its places that must not be cut, watts: no limit is below
    limit_w: int | None = None  # the import limit that it is under, watts; ``None``: none


@dataclass(frozen=True, kw_only=True)
class Ration:
    """What one microgrid receives."""

    import_limit_w: int | None  # the most power it may import, watts; ``None``: no limit
    reduce: bool  # whether its places reduce
    reason: str  # why, in words


Rationing = Callable[[SupplyState, Sequence[RationedMicrogrid], PlantSituation], dict[MicrogridId, Ration]]
"""From the supply state, the microgrids and the plant, to each microgrid's ration."""


def priority_of(microgrid: Microgrid) -> Priority:
    """Return a microgrid's class; one with a hospital, a police or a fire station is public whatever its kind."""
    if microgrid.kind == "public" or any(meter.function in EMERGENCY for meter in microgrid.meters):
        return Priority.PUBLIC
    return Priority.APARTMENTS if microgrid.kind == "apartment" else Priority.HOUSES


def member_of(table: TownTable, microgrid: Microgrid) -> RationedMicrogrid:
    """Return a microgrid with what the town file says of it; demand and history are the caller's to add."""
    incoming = [meter for meter in microgrid.meters if meter.direction is Direction.INCOMING]
    uses = [watts for meter in incoming if (watts := average_w(table, meter.function))]
    return RationedMicrogrid(
        microgrid=microgrid.id, priority=priority_of(microgrid), customers=len(uses), average_w=sum(uses)
    )


def ration_aces(
    state: SupplyState, members: Sequence[RationedMicrogrid], plant: PlantSituation
) -> dict[MicrogridId, Ration]:
    """Ration by the supply state alone (A8): ``CRITICAL`` houses 0 and apartments 50 %, ``EMPTY`` apartments 0.

    Args:
        state: The state of the regional supply.
        members: The microgrids.
        plant: Not used: this rule does not ask what the plant can deliver.
    """
    del plant
    return {member.microgrid: _by_state(state, member) for member in members}


def _by_state(state: SupplyState, member: RationedMicrogrid) -> Ration:
    reduce, supply = state is not SupplyState.NORMAL, f"regional supply is {state}"
    if member.priority is Priority.PUBLIC:
        return _unlimited(reduce, f"{supply}; emergency services are never limited")
    if state in (SupplyState.NORMAL, SupplyState.LOW):
        return _unlimited(reduce, supply + ("; all reduce" if reduce else ""))
    if state is SupplyState.EMPTY or member.priority is Priority.HOUSES:
        return Ration(import_limit_w=0, reduce=True, reason=f"{supply}; {_WORDS[member.priority]} get nothing")
    usual, of = member.average_w, "their average use, as no like day is known"
    if member.like_hour_w is not None:
        usual, of = member.like_hour_w, "the same hour of the last like day"
    return Ration(
        import_limit_w=usual * APARTMENT_PERCENT // 100,
        reduce=True,
        reason=f"{supply}; apartments get {APARTMENT_PERCENT} % of {of}",
    )


def ration_rangers(
    state: SupplyState, members: Sequence[RationedMicrogrid], plant: PlantSituation
) -> dict[MicrogridId, Ration]:
    """Ration strictly by class (P5): a higher class is served whole first, within a class all customers are equal.

    While the plant can deliver what all ask for, there are no limits. In a shortage (the supply is not ``NORMAL``, or
    the line is dead) the plant delivers so much from its battery that the energy above its reserve lasts ``LASTS_H``
    for the classes above, and what these leave lasts as long for the class itself.

    Args:
        state: The state of the regional supply.
        members: The microgrids, with their demand and their limit.
    """
    reduce, is_short = state is not SupplyState.NORMAL, state is not SupplyState.NORMAL or not plant.line_w
    above_w, need_w, cut = 0, 0, False
    rations: dict[MicrogridId, Ration] = {}
    for priority in Priority:
        group = [member for member in members if member.priority is priority]
        asked = sum(member.demand_w for member in group)
        # A class below a short one gets 0 even while it asks for nothing: it must not take what the other lacks.
        lasting, at_most = (0, 0) if cut else _deliverable_w(plant, above_w, need_w, is_short=is_short)
        allowed = max(lasting, min(_stepped_w(group, asked), at_most))
        if priority is Priority.PUBLIC:
            same = _unlimited(reduce, "emergency services are served first, without a limit")
            rations |= {member.microgrid: same for member in group}
        elif asked <= allowed and not cut:
            same = _unlimited(reduce, f"the plant can deliver all that {_WORDS[priority]} ask for")
            rations |= {member.microgrid: same for member in group}
        elif group:
            rations |= _equal(group, allowed, f"; the battery is to last {LASTS_H} h" if is_short else "")
        cut = cut or asked > lasting
        above_w += asked
        # Sun and batteries that serve a class now may be empty within the hours for which the energy has to last.
        need_w += sum(max(member.demand_w, member.average_w) for member in group)
    return rations


def _deliverable_w(plant: PlantSituation, above_w: int, need_w: int, *, is_short: bool) -> tuple[int, int]:
    """Return the power that a class can have for long, and the most that it may have while its limit comes down."""
    line_w = max(0, plant.line_w - above_w)
    power_w = max(0, plant.power_w - max(0, above_w - plant.line_w))
    if not is_short:
        all_w = line_w + (power_w if plant.level > plant.reserve else 0)
        return all_w, all_w
    spare_wh = max(0, (plant.level - plant.reserve) // 1000 - LASTS_H * max(0, need_w - plant.line_w))
    lasting, stepping = (line_w + min(power_w, spare_wh // hours) for hours in (LASTS_H, STEP_LASTS_H))
    return lasting, stepping


def _stepped_w(group: Sequence[RationedMicrogrid], asked: int) -> int:
    """Return the power of a class after one more step down from what it may take now."""
    now_w = sum(member.demand_w if member.limit_w is None else min(member.demand_w, member.limit_w) for member in group)
    return now_w - asked // STEPS


def _equal(group: Sequence[RationedMicrogrid], available_w: int, why: str) -> dict[MicrogridId, Ration]:
    """Return one limit per customer for a class that asks for more than there is, ``why`` at the reason's end."""
    each = _level(group, available_w)
    words = _WORDS[group[0].priority]
    reason = f"short: {each} W for each customer of the class {words}" if each else f"short: nothing left for {words}"
    return {m.microgrid: Ration(import_limit_w=each * m.customers, reduce=True, reason=reason + why) for m in group}


def _level(group: Iterable[RationedMicrogrid], available_w: int) -> int:
    """Return the most watts per customer with which the imports of a class stay within ``available_w``."""
    # From the smallest demand per customer: a microgrid below the level leaves its rest to the others.
    asking = sorted((member for member in group if member.customers), key=lambda m: m.demand_w / m.customers)
    customers = sum(member.customers for member in asking)
    for member in asking:
        if member.demand_w * customers > available_w * member.customers:
            return available_w // customers
        available_w -= member.demand_w
        customers -= member.customers
    # There is enough for all customers; a microgrid without customers asks for the rest.
    return max((-(-member.demand_w // member.customers) for member in asking), default=0)


def _unlimited(reduce: bool, reason: str) -> Ration:
    return Ration(import_limit_w=None, reduce=reduce, reason=reason)


RATIONING: Mapping[str, Rationing] = MappingProxyType({"aces": ration_aces, "rangers": ration_rangers})
"""The rules of rationing by name."""

# For how long a controller keeps what it received, seconds: it is sent again each quarter-hour, so one may be lost.
RATION_S = 1800
NAMED = 10  # most microgrids that a line of the log names


def is_short(supply: str, import_limit_w: int | None) -> bool:
    """Return whether a controller is under a ration."""
    return supply != SupplyState.NORMAL or import_limit_w is not None


@dataclass(frozen=True, kw_only=True)
class ToldRation:
    """A ration that a controller was told, and that is in force."""

    quarter: Quarter  # the quarter-hour in which it was told
    supply: SupplyState  # the state of the regional supply
    import_limit_w: int | None  # its import limit, watts; ``None``: no limit
    reason: str  # why, in words
    until: EpochSeconds  # until when that holds
    command: str  # the id of the command


def changes(
    found: Mapping[MicrogridId, Ration], supply: SupplyState, told: Mapping[MicrogridId, ToldRation]
) -> Iterator[dict[str, object]]:
    """Yield each kind of change between the rations in force and the new ones, with its facts."""
    kinds: dict[tuple[str, bool, str], dict[MicrogridId, int | None]] = {}
    for name, ration in found.items():
        was, was_limit_w = SupplyState.NORMAL, None
        if (before := told.get(name)) is not None:
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
