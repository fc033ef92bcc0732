"""What a policy is worth against another one, in the table, the page and the JSON."""

import json
from pathlib import Path

from typer.testing import CliRunner

from scenarios.cli import app

TOWN = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = 2\n[[microgrid]]\nid = "pub"\nkind = "public"\n'


def test_a_policy_is_compared_with_the_one_that_it_is_run_against(tmp_path: Path) -> None:
    file = tmp_path / "town.toml"
    file.write_text(TOWN)
    arguments = ["run", "storm-hard", "--days", "1", "--town", str(file), "--out", str(tmp_path), "--against", "aces"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "against aces" in done.output
    found = json.loads((tmp_path / "storm-hard.json").read_text())
    compared = found["against"]
    assert compared["policy"] == "aces"
    assert sorted(compared["differences"]) == ["no-sharing", "none", "spec"]
    bought = {name: sums["bought_mwh"] for name, sums in found["policies"].items()}
    assert compared["differences"]["spec"]["bought_mwh"] == bought["spec"] - bought["aces"]
    sums = found["policies"]
    for name, by in compared["differences"].items():
        same = by.keys() & sums["aces"].keys()
        assert same == {"bought_mwh", "bought_peak_mwh", "net_cost"}
        assert {key: by[key] for key in same} == {key: sums[name][key] - sums["aces"][key] for key in same}
    assert sums["spec"]["net_cost"] == sums["spec"]["cost"] - sums["spec"]["plant_gain_mwh"]
    assert compared["differences"]["none"]["unserved_mwh"] > 0, "control is worth something in a hard storm"


def test_a_wrong_policy_to_compare_with_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "storm", "--against", "best", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--against best: there are none, no-sharing, spec" in done.output
