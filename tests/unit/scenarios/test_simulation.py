"""A small town under the scenarios: what control is worth, and that controllers shed as the gateways do."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from typer.testing import CliRunner

from commonwatt.energy.controllers import Controllers, StepSituation
from commonwatt.energy.figures import KINDS, RunFigures
from commonwatt.energy.places import Places, blocks_of
from commonwatt.energy.shedding import GROUPS, TURN_S
from commonwatt.energy.step import NO_LIMIT_W, Inputs
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import Conditions, load, names
from commonwatt.town.town import Town, TownFile
from scenarios.cli import app
from scenarios.report import as_json
from scenarios.simulation import emulated
from utility.supply.simulated import POLICIES, RESERVE_PERMILLE

RESIDENTIAL = 10
SMALL = [
    {"id": "r", "kind": "residential", "count": RESIDENTIAL},
    {"id": "apt", "kind": "apartment", "apartments": 8},
    {"id": "pub", "kind": "public"},
]


@cache
def town() -> Town:
    return town_of(TownFile.model_validate({"microgrid": SMALL}), Path("town.toml"))


def conditions(name: str) -> Conditions:
    return Conditions(scenario=load(name), zone=ZoneInfo(town().table.timezone), seed=town().table.seed)


@cache
def figures(name: str, policy: str, days: int | None = None) -> RunFigures:
    return emulated(town(), conditions(name), POLICIES[policy]).run(days)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("name", ["storm", "heatwave"])
def test_the_plants_energy_is_conserved_to_the_milliwatt_hour(name: str, policy: str) -> None:
    it = figures(name, policy, 2)
    moved = sum(kind.exported - kind.imported for kind in it.kinds.values())
    assert it.bought - it.sold + moved == it.plant_gain
    assert it.balance["lost"] == 0, "the specification's world has no losses"


@pytest.mark.parametrize(
    ("name", "policy"),
    [*((name, "spec") for name in names()), *(("storm-hard", policy) for policy in ("aces", "rangers", "planner"))],
)
def test_hospital_police_and_fire_are_served_in_every_scenario(name: str, policy: str) -> None:  # req: U5
    it = figures(name, policy, 2)
    assert it.kinds["public"].wanted > 0
    assert it.kinds["public"].unserved.total() == 0


def test_a_storm_announced_a_day_before_leaves_houses_less_short_in_the_island() -> None:
    it = conditions("island")
    silent = replace(it, scenario=it.scenario.model_copy(update={"storm": ()}))
    held, not_held = (emulated(town(), each, POLICIES["spec"]).run(4).kinds["residential"] for each in (it, silent))
    assert held.shared < not_held.shared / 2
    assert held.unserved.total() < not_held.unserved.total()


def test_without_broadband_the_plant_keeps_its_reserve() -> None:
    it = conditions("storm-hard")
    simulation = emulated(town(), it, POLICIES["spec"], 900)
    levels = []
    for time in range(it.begin, it.begin + 36 * 3600, 900):
        assert it.is_out("broadband", time)
        simulation.step(time)
        levels.append(simulation.plant_level)
    assert min(levels) == town().battery_capacity * RESERVE_PERMILLE // 1000


def test_a_normal_week_keeps_batteries_at_three_quarters() -> None:  # req: N1
    it = figures("normal", "spec")
    assert it.mean_percent("residential") == pytest.approx(75, abs=3)
    assert it.unserved == 0


def test_each_day_one_home_in_each_microgrid_falls_to_a_quarter() -> None:  # req: N1
    it = conditions("normal")
    simulation = emulated(town(), it, POLICIES["none"], 900)
    (homes,) = [grids for grids in simulation.grids if grids.places.kind == "residential"]
    for time in range(it.begin, it.end(), 900):
        simulation.step(time)
        day, second = divmod(time + 900 - it.begin, 86_400)
        if second == 20 * 3600:
            rows = np.arange(RESIDENTIAL)
            fallen = (rows + day) % homes.places.shape[1]
            percent = 100 * homes.level[rows, fallen] / homes.places.capacity[rows, fallen]
            assert percent.max() <= 26, day
            assert percent.min() > 15, day


def test_the_heat_wave_has_the_specifications_demand() -> None:  # req: N2
    hot = conditions("heatwave")
    plain = replace(hot, scenario=hot.scenario.model_copy(update={"demand": ()}))
    usual, heat = (emulated(town(), each, POLICIES["none"]).run(2) for each in (plain, hot))
    ratio = {kind: heat.kinds[kind].wanted / usual.kinds[kind].wanted for kind in KINDS}
    assert ratio["apartment"] == pytest.approx(2.00, rel=0.005)
    assert ratio["public"] == pytest.approx(1.05, rel=0.005)
    assert 1.05 < ratio["residential"] < 1.20


def test_the_storm_makes_half_the_microgrids_islands_and_all_return_within_the_half_hour() -> None:  # req: N3
    it, begin = figures("storm", "spec"), conditions("storm").begin
    islands = {(sample.time - begin) // 3600: sample.islands for sample in it.samples}
    assert [islands[hour] for hour in (36, 37, 48)] == [0, RESIDENTIAL // 2, RESIDENTIAL // 2]
    assert [islands[hour] for hour in (49, 50)] == [0, 0]
    assert it.kinds["residential"].unserved["island"] < figures("storm", "none").kinds["residential"].unserved["island"]


def test_nothing_passes_a_dead_feeder() -> None:
    it = conditions("storm-hard")
    simulation = emulated(town(), it, POLICIES["spec"], 900)
    for time in range(it.begin, it.begin + 12 * 3600, 900):
        dead = it.out("feeder", time, RESIDENTIAL)
        steps = simulation.step(time)
        (homes,) = [
            step.exchange
            for grids, step in zip(simulation.grids, steps, strict=True)
            if grids.places.kind == "residential"
        ]
        assert not (homes.imported * dead).any()
        assert not (homes.exported * dead).any()


@pytest.mark.parametrize("name", ["storm", "storm-hard", "winter"])
def test_control_and_sharing_leave_nobody_worse_off_in_sum(name: str) -> None:
    none, unshared, spec = (figures(name, policy, 2).unserved for policy in ("none", "no-sharing", "spec"))
    assert spec <= unshared <= none


def test_after_an_outage_homes_that_had_no_energy_take_three_times_as_much() -> None:
    simulation = emulated(town(), conditions("storm-hard"), POLICIES["none"], 60)
    begin, (homes, *_) = conditions("storm-hard").begin, simulation.grids
    hours, dead = 37.5, np.arange(RESIDENTIAL) < 0
    for time in range(begin, begin + int(hours * 3600), 60):
        step = next(s for s, grids in zip(simulation.step(time), simulation.grids, strict=True) if grids is homes)
        if time == begin + 36 * 3600:
            dead = np.asarray((homes.cold_s < 0).all(axis=1))
            assert dead.any(), "at night, with empty batteries"
        if time == begin + 37 * 3600 + 1500:
            back = homes.cold_s[dead] > 0
            assert back.any()
            load = (step.flows.served + step.flows.unserved)[dead]
            most = homes.places.service[dead]
            assert (load == np.minimum(3 * homes.ordinary[dead], most))[back].all()
    assert simulation.figures.highest_w > 0


def test_a_shorter_step_tells_the_same_story() -> None:
    coarse, fine = (emulated(town(), conditions("heatwave"), POLICIES["spec"], s).run(1) for s in (900, 180))
    assert fine.bought == pytest.approx(coarse.bought, rel=0.05)
    assert fine.mean_percent("residential") == pytest.approx(coarse.mean_percent("residential"), abs=1)


def test_a_run_repeats_to_the_byte() -> None:
    runs = [{"spec": emulated(town(), conditions("storm"), POLICIES["spec"]).run(1)} for _ in range(2)]
    first, again = (as_json("x", r, {}) for r in runs)
    assert first == again


def test_the_command_compares_policies(tmp_path: Path) -> None:
    file = tmp_path / "town.toml"
    file.write_text(
        '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = 2\n[[microgrid]]\nid = "pub"\nkind = "public"\n'
    )
    arguments = ["run", "cloudy", "--days", "1", "--town", str(file), "--out", str(tmp_path), "--policy", "aces"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "no-sharing" in done.output
    assert (tmp_path / "cloudy.json").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["storms"], "no scenario and no file; there are: change"),
        (["storm", "--policy", "best"], "--policy best: there are none, no-sharing, spec"),
        (["storm", "--step", "70"], "--step 70: a multiple of 15"),
        (["storm", "--town", "no.toml"], "no.toml: No such file"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], fault: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", *words, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert fault in done.output
    assert not list(tmp_path.iterdir())


def block(kind: str) -> Places:
    return next(one for one in blocks_of(town(), town().microgrids.values(), 900) if one.kind == kind)


def off(
    kind: str, *, policy: str = "spec", island: bool = True, managed: bool = True, limit_w: int = NO_LIMIT_W
) -> float:
    """Return how many places of a microgrid with empty batteries are off on average in a round of turns."""
    places = block(kind)
    rows = places.shape[0]
    nothing = np.zeros(places.shape, dtype=np.int64)
    controllers = Controllers(places, POLICIES[policy].rules)
    seen = StepSituation(
        level=nothing,
        islands=np.full(rows, island),
        managed=np.full(rows, managed),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.full(rows, limit_w),
    )
    times = np.zeros(places.shape)
    for time in range(0, GROUPS * TURN_S, 900):
        inputs = controllers.command(time, Inputs(load=nothing, generation=nothing), seen)
        times += controllers.off
        assert (inputs.isolated is not None) == controllers.off.any()
    assert len(set(times[times > 0].tolist())) <= 1, "each place is off equally long"
    return float(times.sum() / rows * 900 / (GROUPS * TURN_S))


def test_two_thirds_of_an_empty_islands_houses_are_off_in_turn() -> None:  # req: C1, U5
    assert off("residential") == pytest.approx(10 * 2 / 3)
    assert off("apartment") == pytest.approx(24 * 2 / 3)
    assert off("public") == 0
    assert off("residential", policy="none") == off("residential", managed=False) == 0


def test_within_a_limit_no_more_are_off_than_it_leaves_without_power() -> None:  # req: C1, A8
    assert off("residential", island=False) == 0
    assert off("residential", island=False, limit_w=0) == off("residential")
    half_w = int(block("apartment").capacity.sum()) // (2 * 24 * 1000)
    assert 0 < off("apartment", island=False, limit_w=half_w) < off("apartment")


def test_within_a_limit_all_reduce_though_the_supply_is_normal() -> None:  # req: P5
    places = block("residential")
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    seen = StepSituation(
        level=places.capacity,
        islands=np.zeros(rows, dtype=np.bool_),
        managed=np.ones(rows, dtype=np.bool_),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.where(np.arange(rows) % 2, 5000, NO_LIMIT_W),
    )
    inputs = Controllers(places, POLICIES["spec"].rules).command(0, Inputs(load=nothing, generation=nothing), seen)
    assert inputs.reducing is not None
    assert inputs.reducing[:, 0].tolist() == (np.arange(rows) % 2 > 0).tolist()


def test_in_a_storm_the_houses_that_go_short_are_off_in_turn() -> None:
    unserved = figures("storm", "spec").kinds["residential"].unserved
    assert unserved["place"] > unserved["island"] > 0


@pytest.mark.parametrize("island", [False, True])
def test_short_steps_do_not_end_sharing_in_its_first_five_minutes_but_an_island_does(island: bool) -> None:
    places = block("residential")
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    controllers = Controllers(places, POLICIES["spec"].rules)
    seen = StepSituation(
        level=places.capacity.copy(),
        islands=np.zeros(rows, dtype=np.bool_),
        managed=np.ones(rows, dtype=np.bool_),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.full(rows, NO_LIMIT_W),
    )
    shared = []
    for time in range(0, 361, 15):
        seen.level[:, 0] = places.minimum[:, 0] - (places.capacity[:, 0] // 20 if time == 0 else -1)
        begun = replace(seen, islands=np.full(rows, island and time > 60))
        controllers.command(time, Inputs(load=nothing, generation=nothing), begun)
        shared.append(bool(controllers.sharing[:, 1:].any()))
    assert shared == [time < (75 if island else 300) for time in range(0, 361, 15)]
