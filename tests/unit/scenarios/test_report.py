"""What a run says: it adds up."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from commonwatt.energy.controllers import ControllerRules
from commonwatt.energy.figures import MECHANISMS, NOTHING, Decided, EnergyTally, equal_rows
from commonwatt.energy.places import Places, blocks_of
from commonwatt.energy.step import Inputs, StepFlows, within
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import Conditions, load
from commonwatt.town.town import Town, TownFile
from scenarios.cli import app
from scenarios.report import as_json, equal, table
from scenarios.simulation import emulated
from utility.supply.simulated import POLICIES

TOWN = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = 2\n[[microgrid]]\nid = "pub"\nkind = "public"\n'


def test_a_run_without_control_goes_shorter_in_a_hard_storm(tmp_path: Path) -> None:
    file = tmp_path / "town.toml"
    file.write_text(TOWN)
    done = CliRunner().invoke(app, ["run", "storm-hard", "--days", "1", "--town", str(file), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    sums = json.loads((tmp_path / "storm-hard.json").read_text())["policies"]
    assert sorted(sums) == ["no-sharing", "none", "spec"]
    assert sums["spec"]["net_cost"] == sums["spec"]["cost"] - sums["spec"]["plant_gain_mwh"]
    short = {
        name: sum(sum(kind["unserved_mwh"].values()) for kind in one["kinds"].values()) for name, one in sums.items()
    }
    assert short["none"] > short["spec"], "control is worth something in a hard storm"


def test_a_wrong_policy_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "storm", "--policy", "best", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--policy best: there are none, no-sharing, spec" in done.output


LOSSY = {
    "town": {"charging_loss_permille": 70},
    "microgrid": [
        {"id": "r", "kind": "residential", "houses": 4, "count": 4},
        {"id": "apt", "kind": "apartment", "apartments": 8},
        {"id": "pub", "kind": "public"},
    ],
}

COMPARED = ("none", "no-sharing", "spec", "planner")


def small_town(name: str) -> tuple[Town, Conditions]:
    """Return a town with losses, and a scenario's conditions in it."""
    town = town_of(TownFile.model_validate(LOSSY), Path("town.toml"))
    return town, Conditions(scenario=load(name), zone=ZoneInfo(town.table.timezone), seed=town.table.seed)


@cache
def results(name: str, days: int) -> tuple[dict[str, Any], list[dict[str, object]]]:
    """Return the JSON and the table of a scenario in a small town with losses."""
    town, conditions = small_town(name)
    runs = {policy: emulated(town, conditions, POLICIES[policy]).run(days) for policy in COMPARED}
    found = json.loads(as_json(name, runs, {}))["policies"]
    return found, table(runs)


def test_all_policies_have_the_ordinary_demand_as_denominator() -> None:
    found, rows = results("storm", 3)
    demands = {policy: [kind["wanted_mwh"] for kind in one["kinds"].values()] for policy, one in found.items()}
    assert all(each == demands["none"] for each in demands.values())
    reduced = {policy: sum(kind["reduced_mwh"] for kind in one["kinds"].values()) for policy, one in found.items()}
    assert reduced["none"] == 0
    assert reduced["spec"] > 0
    shown = {row["policy"]: row for row in rows}
    assert shown["spec"]["reduced by command MWh"] == f"{reduced['spec'] / 1e9:.2f}"
    short = sum(sum(kind["unserved_mwh"].values()) for kind in found["spec"]["kinds"].values())
    assert shown["spec"]["went short"] == f"{100 * short / sum(demands['none']):.3f} %"
    houses = found["spec"]["houses_by_minimum_percent"].values()
    assert sum(each["wanted_mwh"] for each in houses) == found["spec"]["kinds"]["residential"]["wanted_mwh"]


@pytest.mark.parametrize("policy", COMPARED)
@pytest.mark.parametrize("name", ["storm", "storm-hard", "normal"])
def test_a_reader_closes_every_balance_to_the_milliwatt_hour(name: str, policy: str) -> None:
    found, _ = results(name, 3)
    one = found[policy]
    for kind in one["kinds"].values():
        asked = kind["wanted_mwh"] + kind["cold_mwh"]
        assert asked == kind["reduced_mwh"] + sum(kind["unserved_mwh"].values()) + kind["served_mwh"]
        given = kind["sun_mwh"] + kind["imported_mwh"] + kind["level_begin_mwh"]
        assert given == kind["served_mwh"] + kind["exported_mwh"] + kind["lost_mwh"] + kind["level_end_mwh"]
    imported, exported = (sum(kind[key] for kind in one["kinds"].values()) for key in ("imported_mwh", "exported_mwh"))
    plant, bought, sold = one["plant"], one["bought_mwh"], one["sold_mwh"]
    assert bought + exported + plant["level_begin_mwh"] == sold + imported + plant["lost_mwh"] + plant["level_end_mwh"]
    of = one["balance_mwh"]
    assert of["demand"] + of["cold load"] == of["reduced by command"] + of["went short"] + of["served"]
    given = of["sun"] + of["bought"] + of["in batteries at the beginning"]
    assert given == of["served"] + of["sold"] + of["lost"] + of["in batteries at the end"]
    assert of["lost"] > 0, "losses are part of this test"


def test_levels_are_those_of_the_batteries() -> None:
    town, conditions = small_town("storm")
    simulation = emulated(town, conditions, POLICIES["spec"], 900)
    for time in range(conditions.begin, conditions.begin + 6 * 3600, 900):
        simulation.step(time)
    levels = Counter[str]()
    for grids in simulation.grids:
        levels[grids.places.kind] += int(grids.level.sum())
    assert levels == {name: kind.level_end for name, kind in simulation.figures.kinds.items()}
    assert simulation.figures.plant["level_end"] == simulation.plant_level


def test_equal_rows_say_why() -> None:
    rows = [{"policy": name, "short": short} for name, short in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "1"))]
    same: Decided = {**NOTHING, "reduction": (3, 77), "turns": (3, 78)}
    policies = {"a": same, "b": NOTHING, "c": same, "d": {**same, "turns": (4, 79)}}
    never = "never acted: sharing, rationing, purchases ahead, use of the reserve"
    assert equal_rows(rows, policies) == [
        f"c is equal to a: the same decisions in every step on reduction, turns; {never}.",
        "d is equal to a: different decisions on turns (4 steps, not 3) change less than the table shows.",
    ]
    assert equal_rows(rows[:2], policies) == []


def test_rows_are_equal_because_nothing_acted() -> None:
    town, conditions = small_town("normal")
    idle = POLICIES["none"]
    both = {"none": idle, "no-sharing": replace(idle, rules=ControllerRules(reduces=True, sheds=True))}
    runs = {name: emulated(town, conditions, each).run(1) for name, each in both.items()}
    reason = f"the same decisions in every step on nothing; never acted: {', '.join(MECHANISMS)}"
    assert equal(runs) == [f"no-sharing is equal to none: {reason}."]


def two_microgrids() -> Places:
    file = TownFile.model_validate({"microgrid": [{"id": "r", "kind": "residential", "houses": 3, "count": 2}]})
    town = town_of(file, Path("town.toml"))
    (places,) = blocks_of(town, town.microgrids.values())
    return places


def still(places: Places, level: NDArray[np.int64]) -> StepFlows:
    nothing = np.zeros(places.shape, dtype=np.int64)
    return within(places, level, Inputs(load=nothing, generation=nothing))


def test_a_tally_counts_demand_and_what_was_missed_by_the_batterys_minimum() -> None:
    places = two_microgrids()
    tally = EnergyTally(places)
    served, unserved = np.array([[100, 100, 40], [10, 10, 10]]), np.array([[0, 0, 60], [0, 0, 0]])
    flows = replace(still(places, places.minimum), served=served, unserved=unserved)
    tally.add(flows, flows.served + flows.unserved)
    assert sum(wanted for wanted, _ in tally.by_minimum.values()) == 330
    percent = int(100 * places.minimum[0, 2] // places.capacity[0, 2])
    assert {each: short for each, (_, short) in tally.by_minimum.items() if short} == {percent: 60}
    assert (tally.members, tally.short_members) == (6, 1)
