"""A scenario on real processes, some of them killed: islands where feeders die, and an audit without a difference."""

import json
import random
import subprocess
import sys
from pathlib import Path

from harness.chaos import has_begun, kill_one
from harness.network.waiting import eventually

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 2
push_share = 1.0
"""
STORM = """
title = "A storm of an hour"
start = 2026-06-20
start_hour = 12
days = 1
overcast = "always"

[[outage]]
what = "broadband"
from_hour = 0.5
for_hours = 0.3

[[outage]]
what = "feeder"
from_hour = 0.8
for_hours = 0.4
residential_percent = 50

[[outage]]
what = "controller"
from_hour = 1.2
for_hours = 0.15
residential_percent = 50
"""


WATCHES_THE_RETURN = ("meters", "r001 broker", "r001 gateway")
"""What sees the voltage of the feeder that was dead: its restart begins the wait before the switch closes again, as a
silent sensor does (docs/islanding.md). So none of it is killed once the feeder may be alive, 72 real seconds from the
start: a limit of the return holds for a return that nothing interrupts."""

KILLS_BEFORE_THE_RETURN = 4  # at most 27 real seconds from the start, since two kills are at most 9 s apart


def test_a_storm_on_real_processes_loses_nothing_and_every_island_returns(tmp_path: Path) -> None:
    town, storm, data = tmp_path / "town.toml", tmp_path / "squall.toml", tmp_path / "data"
    town.write_text(TOWN)
    storm.write_text(STORM)
    words = ["-m", "harness.full_stack", str(storm), "--town", str(town), "--speed", "60"]
    command = [sys.executable, *words, "--data", str(data), "--out", str(tmp_path)]
    rng = random.Random(20261121)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        eventually(lambda: has_begun(data))
        killed = []
        for n in range(8):
            spared = () if n < KILLS_BEFORE_THE_RETURN else WATCHES_THE_RETURN
            killed.append(kill_one(data, rng, spared=spared))
            try:
                process.wait(rng.uniform(4, 9))
            except subprocess.TimeoutExpired:
                continue
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0, (output, killed)
    seen = json.loads((tmp_path / "squall-full-stack.json").read_text())
    assert seen["audit"] | {"made": 0} == dict.fromkeys(seen["audit"], 0)
    assert seen["audit"]["made"] > 5_000
    assert len(seen["islands"]) == 1, "half of the two microgrids"
    assert 0 <= seen["islands"][0]["islanded_after_s"] < 1440
    assert 300 <= seen["islands"][0]["back_after_s"] <= 2100
    assert seen["strays"] == [], "a cut of the broadband islands nobody"

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "holds a run already" in again.stderr
