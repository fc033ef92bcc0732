"""One small town runs while a person tunes it and asks for a report, its parts lose stores, and its feeder dies.

The town keeps running from test to test; after each that harms it the audit is good.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.store import reading_store
from commonwatt.energy.shedding import TURN_S
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.commands import Kind
from commonwatt.sqlite import quarantined_before
from harness.commands import shown
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, audited, sound
from meter_sim.faults import Faults, MeterFault, path_of, save
from tests.integration.test_damage import damage

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
GATEWAY, METERS = "r001 gateway", "r001 meters"
PARTS = ("head-end", "r001 broker", "utility", GATEWAY, METERS)
BOUNDARY = (10005, 10006)
HOUSES = (10001, 10002, 10003, 10004)
BATCHES = "commonwatt_utility_batches_total"
ACKNOWLEDGED = 'commonwatt_gateway_batches_total{result="acknowledged"}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("one-town") / "town", TOWN, speed=120) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    """The town with all of its parts running, after any earlier test."""
    running.start(*(name for name in PARTS if name not in running.processes))
    eventually(lambda: (running.status(GATEWAY) or {}).get("connected", {}).get("head_end"))
    return running


def commonwatt(site: Site, *words: str) -> str:
    """Run a command with the utility's file."""
    done = forks.run([sys.executable, "-m", "commonwatt", *words, "--config", str(site.layout.part("utility").config)])
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def grows(site: Site, by: int = 4) -> None:
    before = site.metric("utility", BATCHES)
    eventually(lambda: site.metric("utility", BATCHES) >= before + by)


def test_a_schedule_is_tuned_in_a_running_town_and_put_back(site: Site) -> None:
    """An operator tunes the schedule, waits for the gateway's answer, and puts it back."""
    config = site.layout.part("utility").config

    def relays_every(seconds: int) -> bool:
        return [row["relay_s"] for row in shown(config, "schedules")["schedules"]] == [seconds]

    eventually(lambda: relays_every(60))
    told = commonwatt(site, "utility", "command", "all", "schedule", "relay_s=900")
    assert told.startswith("change 1: schedule relay 900 s, 1 microgrid;")
    eventually(lambda: shown(config, "commands/1")["microgrids"][0]["state"] == "done")
    assert shown(config, "commands/1")["microgrids"][0]["before"] == "relay 60 s (as installed)"
    eventually(lambda: relays_every(900))
    assert "put back change 1: schedule relay as installed" in commonwatt(site, "do", "commands/1/put-back")
    eventually(lambda: relays_every(60))


def test_a_report_is_printed_at_the_office(site: Site) -> None:
    """A person at the office asks a controller for a report, and prints it."""
    config = site.layout.part("utility").config
    number = commonwatt(site, "utility", "command", "r001", "report").split()[1].rstrip(":")
    eventually(lambda: shown(config, f"commands/{number}")["microgrids"][0]["state"] == "done")
    printed = commonwatt(site, "fleet", "report", "r001")
    for word in ("report of r001 at", "== alarms", "== doctor", "== machine", "log of this process", "Python"):
        assert word in printed


def test_what_was_acknowledged_since_the_backup_comes_again(site: Site, tmp_path: Path) -> None:
    """The utility loses its SQLite database and restores a backup: no acknowledged data is lost."""
    grows(site)
    commonwatt(site, "utility", "backup", str(tmp_path / "kept"))  # while it runs
    grows(site)
    site.stop(METERS)  # without its memory of acknowledged batches
    site.drained()
    site.stop("utility")
    stored = site.dump()
    commonwatt(site, "utility", "restore", str(tmp_path / "kept"), "--replace")
    lost = len(stored) * 60 - int((site.dump().quality > 0).sum())
    assert lost > 0
    site.start("utility")
    # An audit is good while records are on their way. A last put of the meters may have come after the utility's end.
    eventually(lambda: int((site.dump().quality > 0).sum()) >= int((stored.quality > 0).sum()))
    eventually(lambda: audited(site.folder).good)


def test_row_05_a_damaged_store_is_set_aside_and_the_town_loses_nothing(site: Site) -> None:
    eventually(lambda: site.metric(GATEWAY, ACKNOWLEDGED) >= 3)
    site.stop(GATEWAY)
    store = site.folder / "r001" / "gateway.db"
    damage(store)
    site.start(GATEWAY)
    eventually(lambda: site.metric(GATEWAY, "commonwatt_gateway_store_quarantined_total") == 1)
    (quarantined,) = quarantined_before(store)
    status = site.status(GATEWAY)
    assert status is not None
    assert status["store"]["quarantined"] == str(quarantined)
    assert "is damaged" in site.log(GATEWAY)
    eventually(lambda: site.metric(GATEWAY, ACKNOWLEDGED) >= 3)
    site.stop(METERS)
    sound(site.folder)


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


def test_a_dead_feeder_makes_an_island_that_returns_on_a_stable_voltage(site: Site) -> None:
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


def test_row_31_gateway_restarted_in_an_island_with_places_off(site: Site) -> None:
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
