"""Feeders that are cut at random moments of a year: what was projected, and what happened.

Each cut has a town and a date of its own. The projection knows the levels, and what was measured in the weeks before;
what happens is the emulator's weather and use, with the controllers' rules every two minutes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.controllers import ControllerRules, Controllers, StepSituation
from commonwatt.energy.lasting import HORIZON_H, NEAR_H, Dark, Floats, Lasts, UsualPower, lasts, use_ends
from commonwatt.energy.places import Places, blocks_of, streets_of
from commonwatt.energy.shedding import TURN_S
from commonwatt.energy.splits import Array
from commonwatt.energy.step import NO_LIMIT_W, Boundary, Inputs, step_alone
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.calendar import load_cells
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import GROUPS, Conditions, load
from commonwatt.town.town import Town, TownFile
from meter_sim.load import Surroundings
from meter_sim.world import Sky

RULES = ControllerRules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)
STEP_S = 120  # how often the controllers act in what happens
PAST_DAYS, RUN_DAYS = 28, 4  # days that were measured before a cut, and those that the batteries run through
# What holds around a cut: nothing special, or one of these scenarios, begun some days before.
SCENARIOS = ("normal", "normal", "heatwave", "storm", "cloudy", "winter")
WHICH = ("first", "half", "all")
GUESTS_PERCENT, GUESTS_S = 300, 9_000  # use while guests are there, of the ordinary one, and how long they stay
GUESTS_A_DAY = 2
GRIDS = [
    {"id": "r", "kind": "residential", "count": 8},
    {"id": "a", "kind": "apartment", "buildings": 2, "apartments": 10},
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A cut of all feeders of a small town."""

    projected: Lasts  # what was projected
    came: dict[str, Floats]  # what happened, by ``WHICH``; infinite: not within the horizon, (M,)


def cut(number: int, *, guests: bool = False) -> list[Cut]:
    """Cut the feeders of a town; one result for each layout of its microgrids.

    Args:
        number: Decides the town, the moment and what holds around it.
        guests: Whether each microgrid has guests at two random moments of each day, before the cut and after it.
    """
    rng = np.random.default_rng([54, number])
    seed, name = int(rng.integers(2**31)), SCENARIOS[number % len(SCENARIOS)]
    town = town_of(TownFile.model_validate({"town": {"seed": seed}, "microgrid": GRIDS}), Path("town.toml"))
    scenario, zone = load(name), ZoneInfo(town.table.timezone)
    if name not in ("heatwave", "winter"):  # These two belong to their season.
        scenario = scenario.model_copy(update={"start": scenario.start + timedelta(days=int(rng.integers(365)))})
    conditions = Conditions(scenario=scenario, zone=zone, seed=seed)
    at = conditions.begin + int(rng.integers(1, 5 * 48)) * TURN_S
    is_random = bool(rng.integers(2))
    grids = town.microgrids.values()
    quarters, fine, hours = blocks_of(town, grids, QUARTER_S), blocks_of(town, grids, STEP_S), streets_of(grids, 3600)
    found = []
    for by_quarter, by_step, by_hour in zip(quarters, fine, hours, strict=True):
        count, days = len(by_quarter.microgrids), PAST_DAYS + HORIZON_H // 24
        come = np.zeros((count, 0), np.int64)
        if guests:
            moments = rng.integers(86_400 // QUARTER_S, size=(count, GUESTS_A_DAY * days)) * QUARTER_S
            come = at - PAST_DAYS * 86_400 + moments + np.arange(GUESTS_A_DAY * days) // GUESTS_A_DAY * 86_400
        world = World(town, conditions, by_quarter, come)
        past = [world.at(time) for time in range(at - PAST_DAYS * 86_400, at, QUARTER_S)]
        level = run(by_quarter, past[-RUN_DAYS * 96 :], at - RUN_DAYS * 86_400)
        if is_random:
            part = rng.uniform(0.1, 1, (len(level), 1)) + rng.uniform(-0.2, 0.2, level.shape)
            level = (np.clip(part, 0, 1) * by_quarter.capacity).astype(np.int64)
        ends = ends_of(past, at, zone)
        usual, parts = usual_of(past, at, zone)
        expected = usual.ahead(at, zone, *parts)
        projected = lasts(by_hour, level, level >= 0, expected, at, RULES, ends)
        came = _happened(World(town, conditions, by_step, come), by_step, level, at)
        found.append(
            Cut(
                projected=projected,
                came=came,
            )
        )
    return found


class World:
    """The weather and the use of the microgrids of one layout."""

    def __init__(self, town: Town, conditions: Conditions, places: Places, come: Array) -> None:
        """``come``: when guests come to each microgrid, (M, n)."""
        self._come = come
        self._surroundings = Surroundings(town, [places], Sky(town, conditions.scenario.overcast))
        self._conditions, self._group = conditions, GROUPS[places.kind]

    def at(self, time: EpochSeconds) -> Inputs:
        """Return use and sun of the step that starts at ``time``."""
        (found,) = self._surroundings.at(time)
        percent = self._conditions.demand_percent(self._group, time) if time >= self._conditions.begin else None
        are_here = ((self._come <= time) & (time < self._come + GUESTS_S)).any(axis=1)
        part = np.where(are_here, GUESTS_PERCENT / 100, 1)[:, None] * (1 if percent is None else percent / 100)
        return replace(found, load=(found.load * part).astype(np.int64))


def run(places: Places, past: Sequence[Inputs], begin: EpochSeconds) -> Array:
    """Return the levels after some days beside a town that gives and takes everything, from three quarters on."""
    controllers, level = Controllers(places, RULES), places.capacity * 3 // 4
    open_ = Boundary.open_to_town(len(level))
    for step, one in enumerate(past):
        inputs = controllers.command(begin + step * QUARTER_S, one, seen_of(level, islands=False))
        level = step_alone(places, level, inputs, open_).flows.level
    return level


def usual_of(past: Sequence[Inputs], at: EpochSeconds, zone: ZoneInfo) -> tuple[UsualPower, tuple[Floats, Floats]]:
    """Return what is usual by the means of a past until ``at``, and its last day's use and sun as parts of it."""
    cells = load_cells(np.arange(at // QUARTER_S - len(past), at // QUARTER_S), zone)
    use, sun = (4 / 1000 * np.array([getattr(one, name) for one in past]) for name in ("load", "generation"))
    by_cell = np.array([use[cells == cell].mean(axis=0) for cell in range(48)])
    usual = UsualPower(
        use=by_cell,
        sun=np.array([sun[cells % 24 == hour].mean(axis=0) for hour in range(24)]),
    )
    last = cells[-96:]
    use_part = use[-96:].sum(axis=(0, 2)) / usual.use[last].sum(axis=(0, 2))
    sun_part = sun[-96:].sum(axis=(0, 2)) / usual.sun[last % 24].sum(axis=(0, 2))
    return usual, (use_part, sun_part)


def ends_of(past: Sequence[Inputs], at: EpochSeconds, zone: ZoneInfo) -> list[Floats]:
    """Return how far use was from what was expected in each microgrid's past, as the utility finds it."""
    hours = np.array([one.load.sum(axis=1) for one in past], np.float64).reshape(-1, 4, len(past[0].load)).sum(axis=1)
    cells = load_cells(np.arange(at // QUARTER_S - len(past), at // QUARTER_S, 4), zone)
    found = [use_ends(of, cells) for of in hours.T]
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


def _happened(world: World, places: Places, level: Array, at: EpochSeconds) -> dict[str, Floats]:
    """Return when homes were dark after the line failed."""
    controllers, islands = Controllers(places, RULES), np.ones(len(level), np.bool_)
    dead = Boundary(voltage=~islands, closed=~islands, import_limit_w=np.full(len(level), NO_LIMIT_W))
    dark = Dark(np.broadcast_to(places.users, places.shape))
    served, use = np.zeros_like(level), np.zeros_like(level)
    for after in range(0, HORIZON_H * 3600, STEP_S):
        one = world.at(at + after)
        flows = step_alone(
            places, level, controllers.command(at + after, one, seen_of(level, islands=True)), dead
        ).flows
        level, served, use = flows.level, served + flows.served, use + one.load
        if (after + STEP_S) % TURN_S == 0:
            dark.add((after + STEP_S - TURN_S) / 3600, TURN_S / 3600, served, use)
            served, use = np.zeros_like(level), np.zeros_like(level)
            if np.isfinite(dark.found["all"]).all():
                break
    return dark.found


def seen_of(level: Array, *, islands: bool) -> StepSituation:
    yes = np.ones(len(level), np.bool_)
    limits = np.full(len(level), NO_LIMIT_W)
    return StepSituation(level=level, islands=yes & islands, managed=yes, short=~yes, import_limit_w=limits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What was projected of some microgrids, beside what came."""

    projected: Floats  # low, middle, high and least, hours, at most the horizon, (4, n)
    came: Floats  # at most the horizon, (n)

    @property
    def error_percent(self) -> float:
        """The median error of those that were dark within the horizon, as a percentage of the hours, at least one."""
        _, middle, _, _ = self.projected
        ended = self.came < HORIZON_H
        return 100 * float(np.median((np.abs(middle - self.came) / np.maximum(self.came, 1))[ended]))

    @property
    def open(self) -> "Scores":
        """Those of which it was not sure that they last longer than the horizon."""
        some = (self.projected[0] < HORIZON_H) | (self.came < HORIZON_H)
        return Scores(projected=self.projected[:, some], came=self.came[some])

    @property
    def held_percent(self) -> float:
        """How often the band held."""
        low, _, high, _ = self.projected
        return 100 * float(((low - NEAR_H <= self.came) & (self.came <= high + NEAR_H)).mean())

    @property
    def worse(self) -> int:
        """How often less came than the least that was told."""
        return int((self.came < self.projected[3] - NEAR_H).sum())


def scores(cuts: Iterable[Cut], which: Iterable[str]) -> Scores:
    """Return the scores of cuts."""
    projected, came = [], []
    for one in cuts:
        for name in which:
            hours = getattr(one.projected, name)
            projected.append(np.array([hours.low, hours.middle, hours.high, hours.least]))
            came.append(one.came[name])
    top = float(HORIZON_H)
    return Scores(
        projected=np.minimum(np.concatenate(projected, axis=1), top), came=np.minimum(np.concatenate(came), top)
    )
