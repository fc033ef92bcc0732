"""The physics beside its plain reference, and the balance of every place, microgrid and town."""

import numpy as np

from commonwatt.energy.places import Places
from commonwatt.energy.plant import Plant, PlantStep
from commonwatt.energy.splits import Array, row_sums
from commonwatt.energy.step import Boundary, Cause, Inputs, MicrogridsStep, PlantInputs, step_town
from harness.energy.reference import (
    PlainInput,
    PlainMicrogrid,
    PlainPlace,
    plain_divide,
    plain_limits,
    plain_ration,
    plain_within,
)
from harness.energy.worlds import RandomTown, random_town

FIELDS = ("generation", "unserved", "curtailed", "demand", "surplus", "pushed", "given", "received", "level", "lost")


def plain_places(places: Places, row: int) -> list[PlainPlace]:
    """Return the places of one microgrid for the reference."""
    behind = {source.column: tuple(source.behind.tolist()) for source in places.sources}
    limits = (values[row].tolist() for values in (places.capacity, places.minimum, places.power, places.service))
    return [
        PlainPlace(capacity=c, minimum=m, power=p, service=s, behind=behind.get(column))
        for column, (c, m, p, s) in enumerate(zip(*limits, strict=True))
    ]


def plain_inputs(level: Array, inputs: Inputs, row: int) -> list[PlainInput]:
    """Return what is asked of the places of one microgrid, for the reference."""
    nothing = np.zeros_like(level)
    columns = (
        nothing if values is None else values
        for values in (level, inputs.load, inputs.generation, inputs.weights, inputs.reducing, inputs.isolated)
    )
    return [
        PlainInput(level=v, load=o, sun=g, weight=w, reducing=bool(r), isolated=bool(i))
        for v, o, g, w, r, i in zip(*(values[row].tolist() for values in columns), strict=True)
    ]


def plain_limited(places: Places, level: Array, inputs: Inputs, boundary: Boundary, row: int) -> PlainMicrogrid:
    """Return the reference's microgrid behind its boundary, before the town has divided what it has."""
    flows = plain_within(plain_places(places, row), plain_inputs(level, inputs, row), places.loss_permille)
    return plain_limits(
        flows,
        feeder=int(places.feeder[row]),
        limit=int(boundary.import_limit_w[row]) * 1000 * places.step_s // 3600,
        on_grid=bool(boundary.voltage[row] and boundary.closed[row]),
    )


def mismatches(places: Places, step: MicrogridsStep, plain: list[PlainMicrogrid]) -> list[str]:
    """Return what differs between the arrays and the reference, in words."""
    found = []
    for row, one in enumerate(plain):
        name = places.microgrids[row]
        for field in FIELDS:
            ours = getattr(step.flows, field)[row].tolist()
            theirs = [getattr(flow, field) for flow in one.flows]
            if ours != theirs:
                found.append(f"{name} {field}: {ours}, reference {theirs}")
        passed = step.exchange
        facts = (
            int(passed.imported[row]),
            int(passed.exported[row]),
            _causes(passed.short, row),
            _causes(passed.spilled, row),
        )
        if facts != (one.imported, one.exported, one.short, one.spilled):
            found.append(f"{name} boundary: {facts}, reference {one.imported, one.exported, one.short, one.spilled}")
    return found


def _causes(values: Array, row: int) -> dict[str, int]:
    return {cause.name: int(values[cause, row]) for cause in Cause if values[cause, row]}


def imbalances(places: Places, level: Array, inputs: Inputs, step: MicrogridsStep) -> list[str]:
    """Return every equation of energy and every limit that does not hold, in words."""
    flows, passed = step.flows, step.exchange
    out, into = flows.surplus + flows.pushed + flows.given, flows.demand + flows.received
    load = inputs.load if inputs.reducing is None else np.where(inputs.reducing, inputs.load * 80 // 100, inputs.load)
    donors = flows.given > 0
    facts = {
        "place": flows.generation + into == flows.served + out + flows.net,
        "battery": flows.level == level + flows.net - flows.lost,
        "loss": flows.lost == np.maximum(flows.net, 0) * places.loss_permille // 1000,
        "load": flows.served + flows.unserved == load,
        "sun": flows.generation + flows.curtailed == inputs.generation,
        "level": (flows.level >= 0) & (flows.level <= places.capacity),
        "power": np.abs(flows.net) <= places.power,
        "donors": ~donors | (flows.level >= places.minimum),
        "receivers": ~((flows.received > 0) & (flows.absorbed == 0)) | (flows.level <= places.minimum),
        "loop": row_sums(out) + passed.imported == row_sums(into) + passed.exported,
        "sharing": row_sums(flows.given + flows.absorbed) == row_sums(flows.received),
        "short": row_sums(flows.unserved) == passed.short.sum(axis=0),
        "spilled": row_sums(flows.curtailed) == passed.spilled.sum(axis=0),
        "one way": ~((passed.imported > 0) & (passed.exported > 0)),
        "signs": np.array([np.all(getattr(flows, field) >= 0) for field in FIELDS]),
    }
    if inputs.isolated is not None:
        facts["isolated"] = ~inputs.isolated | ((out == 0) & (into == 0))
    return [f"{places.kind}: {name}" for name, holds in facts.items() if not np.all(holds)]


def town_imbalances(plant: Plant, told: PlantInputs, steps: list[MicrogridsStep], result: PlantStep) -> list[str]:
    """Return every equation of the plant that does not hold, in words."""
    imported, exported = (sum(int(getattr(s.exchange, w).sum()) for s in steps) for w in ("imported", "exported"))
    limit = plant.line[told.supply] if told.alive else 0
    stored = sum(int(step.flows.absorbed.sum()) for step in steps)
    facts = {
        "town": exported + result.bought + result.discharged == imported + result.charged + result.sold,
        "battery": result.level == told.level + result.charged - result.lost - result.discharged,
        "level": 0 <= result.level <= plant.capacity,
        "one flow": not (result.charged and result.discharged),
        "power": max(result.charged, result.discharged) <= plant.power,
        "line": 0 <= result.bought <= limit and 0 <= result.sold <= (plant.feed_in if told.alive else 0),
        "buy or sell": not (result.bought and result.sold),
        "short": result.short == sum(int(s.exchange.short[Cause.TOWN].sum()) for s in steps),
        "spilled": 0 <= result.spilled - sum(int(s.exchange.spilled[Cause.TOWN].sum()) for s in steps) <= stored,
    }
    return [f"plant: {name}" for name, holds in facts.items() if not holds]


def check(seed: int, microgrids: int) -> list[str]:
    """Return all faults of one step of a random town; an empty list: none."""
    town = random_town(seed, microgrids)
    arguments = (town.blocks, town.levels, town.inputs, town.boundaries)
    steps, result = step_town(*arguments, town.plant, town.told)
    found = town_imbalances(town.plant, town.told, steps, result)
    plain = [
        [plain_limited(places, level, inputs, boundary, row) for row in range(places.shape[0])]
        for places, level, inputs, boundary in zip(*arguments, strict=True)
    ]
    members = [
        (places.kind, int(places.users.sum()), one)
        for places, ones in zip(town.blocks, plain, strict=True)
        for one in ones
    ]
    wanted, offered = (sum(getattr(one, way) for *_, one in members) for way in ("imported", "exported"))
    plain_divide(wanted - result.short, offered - result.spilled, members)
    for places, ones in zip(town.blocks, plain, strict=True):
        for one in ones:
            plain_ration(one, places.loss_permille)
    for places, level, inputs, step, ones in zip(*arguments[:3], steps, plain, strict=True):
        found += mismatches(places, step, ones) + imbalances(places, level, inputs, step)
    return found + _inversions(town, steps)


def _inversions(town: RandomTown, steps: list[MicrogridsStep]) -> list[str]:
    """Return the kinds that the town supplied while a kind of higher priority went short by the town's lack."""
    order = {"public": 0, "apartment": 1, "residential": 2}
    short = [order[p.kind] for p, s in zip(town.blocks, steps, strict=True) if s.exchange.short[Cause.TOWN].any()]
    fed = [order[p.kind] for p, s in zip(town.blocks, steps, strict=True) if s.exchange.imported.any()]
    return ["priority"] if short and fed and max(fed) > min(short) else []
