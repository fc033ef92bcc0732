"""An operator tunes the schedule of a running microgrid, waits for the gateway's answer, and puts it back."""

import sys
from pathlib import Path

from harness.commands import shown
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n'


def test_a_schedule_is_tuned_in_a_running_town_and_put_back(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN) as site:
        config = site.layout.part("utility").config

        def utility(*words: str) -> str:
            done = forks.run([sys.executable, "-m", "commonwatt", "utility", *words, "--config", str(config)])
            assert done.returncode == 0, done.stderr
            return str(done.stdout)

        def relays_every(seconds: int) -> bool:
            return [row["relay_s"] for row in shown(config, "schedules")["schedules"]] == [seconds]

        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        eventually(lambda: relays_every(60))
        told = utility("command", "all", "schedule", "--relay-s", "900", "--wait")
        assert told == "change 1: schedule relay 900 s, 1 microgrid\nr001: done; before: relay 60 s (as installed)\n"
        eventually(lambda: relays_every(900))
        assert utility("put-back", "1").startswith("change 2: put back change 1: schedule relay as installed, 1 m")
        eventually(lambda: relays_every(60))
