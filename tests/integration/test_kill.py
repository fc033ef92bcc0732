"""Killed for real: brokers, gateways, meter fleets and the utility, at random moments."""

from pathlib import Path

import pytest

from harness.chaos import run
from harness.real.demonstration import FORKING, TOWN


@pytest.mark.kill
def test_nothing_is_lost_or_doubled_while_processes_are_killed_at_random(tmp_path: Path) -> None:
    town = tmp_path / "town.toml"
    town.write_text(TOWN)
    story = run(tmp_path / "town", for_s=28, kills=24, seed=20260920, program=FORKING, town=town)
    assert story.exit_code == 0, story.output
    assert sum(story.killed.values()) >= 20, story.killed
    assert set(story.killed) == {"broker", "gateway", "meters", "utility", "head-end"}, story.killed
    assert story.report["records_averaged"]
    amiss = (
        "slots_missing",
        "slots_conflicting",
        "slots_unmade",
        "energy_difference_mwh",
        "averaged_beyond_bound",
        "events_missing",
    )
    assert {key: story.report[key] for key in amiss} == dict.fromkeys(amiss, 0), story.output
