"""A feeder dies under a running microgrid: an island within seconds, nothing passes, and it returns by itself."""

from pathlib import Path
from typing import Any

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, audited

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
GATEWAY, METERS = "r001 gateway", "r001 meters"
BOUNDARY = (10005, 10006)


def modes(site: Site) -> dict[str, Any]:
    status = site.status(GATEWAY)
    return {} if status is None else status["modes"]


def time_of(site: Site) -> int:
    """Return the town's time, as the meters have it."""
    status = site.status(METERS)
    assert status is not None
    return int(status["time"])


def feeder(site: Site, *words: str) -> None:
    part = site.layout.part(METERS)
    done = forks.run([*part.command[:3], "meters", "feeder", *words, "--config", str(part.config)], timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_dead_feeder_makes_an_island_that_returns_on_a_stable_voltage(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, METERS)
        eventually(lambda: modes(site).get("phase") == "connected")
        eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 2)

        feeder(site, "dead", "--for", "36000")
        eventually(lambda: modes(site)["phase"] == "islanded")
        assert modes(site)["reason"] == "the town's side has no voltage"
        assert modes(site)["reducing"] == "the microgrid is an island"
        began = time_of(site)
        # A gateway that is killed and started again in the island closes nothing.
        site.kill(GATEWAY)
        site.start(GATEWAY)
        eventually(lambda: modes(site).get("phase") == "islanded")
        eventually(lambda: time_of(site) - began > 20 * SLOT_S)
        ended = time_of(site)

        feeder(site, "alive")
        eventually(lambda: modes(site)["phase"] == "resynchronising")
        eventually(lambda: modes(site)["phase"] == "connected")
        assert time_of(site) - ended >= 300, "the switch waited for a stable voltage"
        eventually(lambda: modes(site)["reducing"] is None)

        site.stop(METERS)
        eventually(lambda: audited(site.folder).good)
        blocks = site.dump()
        passed = [
            int(blocks.values[row, slot])
            for row, (meter, kind, quarter) in enumerate(blocks.keys())
            if meter in BOUNDARY and kind == RecordType.THROUGH
            for slot in range(60)
            if began + SLOT_S <= quarter * QUARTER_S + slot * SLOT_S < ended - SLOT_S and blocks.quality[row, slot]
        ]
        assert passed
        assert set(passed) == {0}, "nothing passes a dead feeder"
