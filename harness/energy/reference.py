"""The energy of a town in one step, one place at a time in plain Python: the reference of ``meter_sim.physics``."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PlainPlace:
    """The limits of a place, milliwatt-hours per step; ``behind``: the places that a source supplies, by index."""

    capacity: int
    minimum: int
    power: int
    service: int
    behind: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PlainInput:
    """What is asked of a place in a step."""

    level: int
    load: int
    sun: int
    weight: int = 0
    reducing: bool = False
    isolated: bool = False


@dataclass(slots=True, kw_only=True)
class PlainFlow:
    """A place within one step; energies in milliwatt-hours."""

    place: PlainPlace
    asked: PlainInput
    load: int
    generation: int = 0
    drawn: int = 0
    charged: int = 0
    demand: int = 0
    surplus: int = 0
    pushed: int = 0
    unserved: int = 0
    curtailed: int = 0
    given: int = 0
    received: int = 0
    absorbed: int = 0
    lost: int = 0
    level: int = 0


@dataclass(kw_only=True)
class PlainMicrogrid:
    """The result of a microgrid in one step."""

    flows: list[PlainFlow]
    imported: int = 0
    exported: int = 0
    short: dict[str, int] = field(default_factory=dict)
    spilled: dict[str, int] = field(default_factory=dict)


def split(total: int, weights: Sequence[int], caps: Sequence[int]) -> list[int]:
    """Divide ``total`` in proportion to the weights, no share above its cap; energy beyond all caps is left out.

    The odd milliwatt-hours go to the largest remainders; of equal remainders, to the first.
    """
    result = [0] * len(caps)
    active = [i for i, cap in enumerate(caps) if cap > 0 and weights[i] > 0]
    rest = total
    while active and rest > 0:
        whole = sum(weights[i] for i in active)
        full = [i for i in active if caps[i] * whole <= weights[i] * rest]
        if not full:
            for i in active:
                result[i] = weights[i] * rest // whole
            odd = rest - sum(result[i] for i in active)
            for i in sorted(active, key=lambda i: -(weights[i] * rest % whole))[:odd]:
                result[i] += 1
            break
        for i in full:
            result[i] = caps[i]
        rest -= sum(caps[i] for i in full)
        done = set(full)
        active = [i for i in active if i not in done]
    return result


def water_fill(total: int, caps: Sequence[int]) -> list[int]:
    """Divide ``total`` equally, no share above its cap; energy beyond all caps is left out."""
    return split(total, [1] * len(caps), caps)


def charge_for(gain: int, loss_permille: int) -> int:
    """Return the least charge that leaves ``gain`` after its loss, by search around the quotient."""
    if gain <= 0:
        return 0
    charge = gain * 1000 // (1000 - loss_permille)
    while charge - charge * loss_permille // 1000 >= gain:
        charge -= 1
    while charge - charge * loss_permille // 1000 < gain:
        charge += 1
    return charge


def plain_within(places: Sequence[PlainPlace], asked: Sequence[PlainInput], loss_permille: int) -> list[PlainFlow]:
    """Return the flows of a microgrid as if the town gave and took everything."""
    flows = [
        PlainFlow(place=place, asked=one, load=one.load * 80 // 100 if one.reducing else one.load)
        for place, one in zip(places, asked, strict=True)
    ]
    for flow in flows:
        if flow.place.behind is None:
            _balance(flow, flow.load, loss_permille)
    for flow in flows:
        if flow.place.behind is not None:
            wanted = min(sum(flows[k].demand for k in flow.place.behind), flow.place.service)
            wanted = 0 if flow.asked.isolated else wanted
            _balance(flow, wanted, loss_permille)
            flow.pushed, flow.demand = wanted - flow.demand, 0
    _share(flows, loss_permille)
    for flow in flows:
        net = flow.charged - flow.drawn + flow.received - flow.given
        flow.lost = max(net, 0) * loss_permille // 1000
        flow.level = flow.asked.level + net - flow.lost
    return flows


def _balance(flow: PlainFlow, load: int, loss_permille: int) -> None:
    """Meet a load from the sun, then from the battery; the rest is demand, and sun left after charging is surplus."""
    place, asked = flow.place, flow.asked
    flow.generation = asked.sun
    direct = min(load, flow.generation)
    flow.drawn = min(load - direct, asked.level, place.power)
    room = charge_for(place.capacity - asked.level, loss_permille)
    flow.charged = min(flow.generation - direct, room, place.power)
    flow.demand = load - direct - flow.drawn
    flow.surplus = flow.generation - direct - flow.charged
    if asked.isolated:
        flow.unserved, flow.demand = flow.demand, 0
        flow.curtailed, flow.surplus = flow.surplus, 0
        flow.generation -= flow.curtailed


def _share(flows: Sequence[PlainFlow], loss_permille: int) -> None:
    """Charge batteries up to their minimum from the batteries with the command to share, and no further."""
    members = [flow for flow in flows if not flow.asked.isolated]
    gives, takes = [], []
    for flow in members:
        place, level, net = flow.place, flow.asked.level, flow.charged - flow.drawn
        to_minimum = (
            place.minimum - level if level >= place.minimum else charge_for(place.minimum - level, loss_permille)
        )
        headroom = place.service - flow.pushed - flow.surplus
        give = min(net - to_minimum, place.power - flow.drawn, headroom)
        gives.append(max(give, 0) if flow.asked.weight else 0)
        takes.append(max(min(to_minimum - net, place.power - flow.charged, place.service - flow.demand), 0))
    total = min(sum(gives), sum(takes))
    given = split(total, [flow.asked.weight for flow in members], gives)
    for flow, out, into in zip(members, given, water_fill(total, takes), strict=True):
        flow.given, flow.received = out, into


def plain_limits(flows: list[PlainFlow], *, feeder: int, limit: int, on_grid: bool) -> PlainMicrogrid:
    """Return what the boundary lets pass, before the town has divided what it has."""
    net = sum(flow.demand - flow.pushed - flow.surplus for flow in flows)
    result = PlainMicrogrid(flows=flows)
    if on_grid:
        result.imported, result.exported = min(max(net, 0), feeder, limit), min(max(-net, 0), feeder)
    short, spilled = max(net, 0) - result.imported, max(-net, 0) - result.exported
    if short:
        result.short["ISLAND" if not on_grid else "LIMIT" if limit < feeder else "FEEDER"] = short
    if spilled:
        result.spilled["FEEDER" if on_grid else "ISLAND"] = spilled
    return result


def _absorb(result: PlainMicrogrid, left: int, loss_permille: int) -> int:
    """Charge batteries that have room from the sun that neither places nor the town take; return how much."""
    rooms = []
    for flow in result.flows:
        place, level = flow.place, flow.asked.level
        charging = flow.charged + flow.received - flow.drawn - flow.given
        room = min(charge_for(place.capacity - level, loss_permille), place.power) - charging
        room = min(room, place.service - flow.demand - flow.received)
        sends = flow.surplus > 0 or flow.given > 0
        rooms.append(0 if flow.asked.isolated or sends else max(room, 0))
    total = min(max(left, 0), sum(rooms))
    for flow, part in zip(result.flows, water_fill(total, rooms), strict=True):
        flow.absorbed = part
        net = flow.charged + flow.received + part - flow.drawn - flow.given
        flow.received += part
        flow.lost = max(net, 0) * loss_permille // 1000
        flow.level = flow.asked.level + net - flow.lost
    rest = total
    for cause in ("TOWN", "FEEDER", "ISLAND"):
        part = min(result.spilled.get(cause, 0), rest)
        if part:
            result.spilled[cause] -= part
            if not result.spilled[cause]:
                del result.spilled[cause]
        rest -= part
    return total


def plain_ration(result: PlainMicrogrid, loss_permille: int) -> None:
    """Divide surplus and what passes the boundary equally among the places with demand; store, curtail or shed it."""
    flows = result.flows
    for cause, total in (("short", sum(f.unserved for f in flows)), ("spilled", sum(f.curtailed for f in flows))):
        if total:
            getattr(result, cause)["PLACE"] = total
    if sum(f.demand - f.pushed - f.surplus for f in flows) == result.imported - result.exported:
        return
    asked = [flow.demand for flow in flows]
    for flow in flows:
        if flow.place.behind is not None:
            parts = water_fill(flow.pushed, [asked[k] for k in flow.place.behind])
            for k, part in zip(flow.place.behind, parts, strict=True):
                asked[k] -= part
    surplus = [flow.surplus for flow in flows]
    met = water_fill(sum(surplus) + result.imported, asked)
    into_batteries = _absorb(result, sum(surplus) + result.imported - sum(met) - result.exported, loss_permille)
    used = water_fill(sum(met) + into_batteries + result.exported - result.imported, surplus)
    for flow, wanted, got, kept in zip(flows, asked, met, used, strict=True):
        flow.demand -= wanted - got
        flow.unserved += wanted - got
        flow.generation -= flow.surplus - kept
        flow.curtailed += flow.surplus - kept
        flow.surplus = kept


def plain_divide(supply: int, use: int, members: Sequence[tuple[str, int, PlainMicrogrid]]) -> None:
    """Divide what the town has by kind (members: kind, number of users, result), and what it can use."""
    for kind in ("public", "apartment", "residential"):
        ones = [(users, one) for its, users, one in members if its == kind]
        wanted = [one.imported for _, one in ones]
        total = min(supply, sum(wanted))
        supply -= total
        for (_, one), part in zip(ones, split(total, [users for users, _ in ones], wanted), strict=True):
            if part < one.imported:
                one.short["TOWN"] = one.imported - part
            one.imported = part
    offered = [one.exported for *_, one in members]
    for (*_, one), part in zip(members, water_fill(use, offered), strict=True):
        if part < one.exported:
            one.spilled["TOWN"] = one.exported - part
        one.exported = part
