"""A feeder dies under a running microgrid: an island within seconds, nothing passes, and it returns by itself."""

from pathlib import Path
from typing import Any

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.store import reading_store
from commonwatt.energy.shedding import TURN_S
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.commands import Kind
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, audited
from meter_sim.faults import Faults, MeterFault, path_of, save

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
GATEWAY, METERS = "r001 gateway", "r001 meters"
BOUNDARY = (10005, 10006)
HOUSES = (10001, 10002, 10003, 10004)


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
        eventually(lambda: modes(site)["reason"] == "the town's side has no voltage")
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


def held(site: Site) -> set[tuple[int, Kind]]:
    """Return the states that the houses' meters hold, as their store has them."""
    found = load_settings(site.layout.part(METERS).config, "meters", MetersSettings).store
    with reading_store(found) as store:
        states = {meter: store.load(meter) for meter in HOUSES}
    return {
        (meter, kind)
        for meter, stored in states.items()
        if stored is not None
        for kind, each in stored.desired_states.held.items()
        if kind in (Kind.REDUCING, Kind.ISOLATED) and each.value == "on"
    }


def unheard_s(site: Site) -> int:
    """Return the seconds since the last message of a boundary meter."""
    status = site.status(GATEWAY)
    assert status is not None
    return int(status["time"] - max(status["meter_states"][str(meter)]["heard"] for meter in BOUNDARY))


def test_row_31_gateway_restarted_in_an_island_with_places_off(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, METERS)
        eventually(lambda: modes(site).get("phase") == "connected")
        eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 2)
        world = path_of(load_settings(site.layout.part(METERS).config, "meters", MetersSettings).store)
        end = time_of(site) + 360_000
        empty = {str(meter): MeterFault(what="lying", until=end, by_mwh=-(2**40)) for meter in HOUSES}
        save(world, Faults.model_validate({"feeder_dead_until": end, "meters": empty}))
        eventually(lambda: modes(site)["phase"] == "islanded")
        eventually(lambda: "places are off in turn" in (modes(site)["shedding"] or ""))
        eventually(lambda: {kind for _, kind in held(site)} == {Kind.REDUCING, Kind.ISOLATED})

        # The gateway starts again, and the boundary is silent.
        silent = {str(meter): MeterFault(what="silent", until=end) for meter in BOUNDARY}
        save(world, Faults.model_validate({"feeder_dead_until": end, "meters": empty | silent}))
        eventually(lambda: unheard_s(site) > 60)
        eventually(lambda: 300 < time_of(site) % TURN_S < 900)  # No place has just got its turn.
        site.kill(GATEWAY)
        before, began = held(site), time_of(site)
        site.start(GATEWAY)
        looks = 0

        def is_over() -> bool:
            nonlocal looks
            looks += 1
            assert held(site) == before, f"after {time_of(site) - began} s"
            return time_of(site) - began > TURN_S + 900

        eventually(is_over)
        assert looks > 10
        found = modes(site)
        assert found["phase"] is None
        assert "islanded since" in found["reason"]
        assert site.metric(GATEWAY, "commonwatt_gateway_boundary_unknown_seconds") > 600

        save(world, Faults.model_validate({"feeder_dead_until": end, "meters": empty}))
        eventually(lambda: modes(site)["phase"] == "islanded")
        eventually(lambda: "places are off in turn" in (modes(site)["shedding"] or ""))
        assert {kind for _, kind in held(site)} == {Kind.REDUCING, Kind.ISOLATED}
