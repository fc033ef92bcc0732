"""Alarms through a real Alertmanager: its alerts, and silences that people make, end and see."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.files import load_settings
from commonwatt.config.utility import UtilitySettings
from commonwatt.demo.parts import Part
from commonwatt.doctor.running import local_headers
from commonwatt.runtime.clock import wall_clock
from commonwatt.town.loading import load_town
from harness.network.waiting import eventually
from harness.real.alertmanager import SHIPPED, RealAlertmanager
from harness.real.parts import real_part
from harness.real.site import Site
from utility.access.actor import Actor, Via
from utility.access.roles import Role
from utility.alarms.board import State
from utility.alarms.conditions import Facts
from utility.alarms.decisions import Alarms
from utility.alarms.jobs import client
from utility.alarms.jobs.client import Alertmanager, AlertmanagerError
from utility.alarms.jobs.watch import Watch
from utility.alarms.silences import ways_of
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
ANN = Actor(name="ann", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7")
AT = datetime.now(UTC) - timedelta(minutes=10)


def alert(name: str, **labels: str) -> dict[str, Any]:
    every = {"alertname": name, "severity": "critical", "instance": "u:1", "job": "commonwatt", "part": "utility"}
    return {
        "labels": every | {"place": "utility"} | labels,
        "annotations": {"summary": f"{name} of {labels}.", "description": "Look."},
        "startsAt": AT.isoformat(),
    }


SILENT = alert("CommonwattGatewaySilent", controller="r001")
BROKER = alert("CommonwattPartDown", part="broker", place="r001")
OTHER = alert("CommonwattGatewaySilent", controller="r002")
FOREIGN = alert("HostHot")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAlertmanager]:
    with RealAlertmanager(tmp_path_factory.mktemp("alertmanager")) as it:
        it.raise_alerts(SILENT, BROKER, OTHER, FOREIGN)
        yield it


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    town = tmp_path / "town.toml"
    town.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    path = tmp_path / "utility.db"
    path.write_bytes(empty_database())
    opened = open_database(f"sqlite:///{path}", create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, load_town(town))
    yield opened
    opened.close()


@pytest.fixture
def alarms(real: RealAlertmanager, database: Database) -> Alarms:
    clock = wall_clock()
    it = Alarms(database, clock, lambda _: Facts(), Watch(Alertmanager(real.address, None), clock))
    it.count()
    assert it.watch is not None
    it.watch.look()
    return it


def states(alarms: Alarms) -> dict[str, State]:
    return {f"{row.alarm.name.removeprefix('Commonwatt')} {row.alarm.place}": row.state for row in alarms.board().rows}


def now() -> int:
    return int(time.time())


def standing(real: RealAlertmanager) -> list[dict[str, Any]]:
    return [one for one in real.get("silences") if one["status"]["state"] != "expired"]


def key_of(alarms: Alarms, place: str, name: str = "CommonwattGatewaySilent") -> str:
    return next(row.alarm.key for row in alarms.board().rows if (row.alarm.name, row.alarm.place) == (name, place))


def test_alerts_of_commonwatt_are_on_the_board_with_their_times_and_no_others(alarms: Alarms) -> None:
    board = alarms.board()
    assert set(states(alarms)) == {"GatewaySilent r001", "PartDown r001", "GatewaySilent r002"}
    assert {abs(row.alarm.since - AT.timestamp()) < 2 for row in board.rows} == {True}
    assert (board.complaint, abs((board.answered or 0) - now()) < 3) == ("", True)


def test_silence_holds_one_alarm_at_alertmanager_in_the_persons_name_until_it_is_ended(
    real: RealAlertmanager, alarms: Alarms
) -> None:
    begun = time.monotonic()
    number = alarms.silence(ANN, key_of(alarms, "r001"), "cable work", now() + 3_600)
    took_s = time.monotonic() - begun
    assert states(alarms)["GatewaySilent r001"] is State.SUPPRESSED
    assert took_s < 1
    (one,) = standing(real)
    assert (one["createdBy"], one["comment"], one["status"]["state"]) == ("ann", "cable work", "active")
    assert abs(datetime.fromisoformat(one["endsAt"]).timestamp() - now() - 3_600) < 3
    suppressed = [a["labels"] for a in real.get("alerts") if a["status"]["state"] == "suppressed"]
    assert [(labels["alertname"], labels["controller"]) for labels in suppressed] == [
        ("CommonwattGatewaySilent", "r001")
    ]
    alarms.end_silence(ANN, str(number))
    assert (standing(real), states(alarms)["GatewaySilent r001"]) == ([], State.ACTIVE)


def test_maintenance_of_a_microgrid_holds_what_is_told_and_what_is_scraped_there(
    real: RealAlertmanager, alarms: Alarms
) -> None:
    number = alarms.maintain(ANN, "r001", "", now(), now() + 600, "new controller")
    assert states(alarms) == {
        "GatewaySilent r001": State.SUPPRESSED,
        "PartDown r001": State.SUPPRESSED,
        "GatewaySilent r002": State.ACTIVE,
    }
    suppressed = {a["labels"]["alertname"] for a in real.get("alerts") if a["status"]["state"] == "suppressed"}
    assert suppressed == {"CommonwattGatewaySilent", "CommonwattPartDown"}
    assert len(standing(real)) == 2
    assert [one.id for one in alarms.board().silences] == [str(number)]
    alarms.end_silence(ANN, str(number))
    assert standing(real) == []


def test_maintenance_that_begins_later_waits_at_alertmanager(real: RealAlertmanager, alarms: Alarms) -> None:
    number = alarms.maintain(ANN, "r002", "gateway", now() + 600, now() + 1_200, "new controller")
    assert {one["status"]["state"] for one in standing(real)} == {"pending"}
    assert State.SUPPRESSED not in states(alarms).values()
    alarms.end_silence(ANN, str(number))


def test_silence_that_was_made_elsewhere_is_shown_and_can_be_ended_here(real: RealAlertmanager, alarms: Alarms) -> None:
    made = alarms.watch
    assert made is not None
    (silence,) = made.silence([ways_of("r002", "")[0]], now(), now() + 600, "amtool", "by hand")
    (one,) = alarms.board().silences
    assert (one.id, one.is_ours, one.person) == (silence, False, "amtool")
    assert states(alarms)["GatewaySilent r002"] is State.SUPPRESSED
    alarms.end_silence(ANN, silence)
    assert alarms.board().silences == ()


def test_silence_that_somebody_ended_at_alertmanager_is_over_here_too(real: RealAlertmanager, alarms: Alarms) -> None:
    alarms.silence(ANN, key_of(alarms, "r001"), "cable work", now() + 3_600)
    assert alarms.watch is not None
    alarms.watch.expire([one["id"] for one in standing(real)])
    eventually(lambda: alarms.board().silences == ())
    assert states(alarms)["GatewaySilent r001"] is State.ACTIVE


def test_dead_alertmanager_slows_no_page_and_silences_nothing(
    real: RealAlertmanager, alarms: Alarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WITHIN_S", 0.5)
    assert alarms.watch is not None
    key = key_of(alarms, "r001")
    real.pause()
    try:
        begun = time.monotonic()
        alarms.watch.look()
        assert time.monotonic() - begun < 3
        begun = time.monotonic()
        board = alarms.board()
        assert time.monotonic() - begun < 0.4, "it is not asked"
        assert "timed out" in board.complaint
        assert len(board.rows) == 3, "the last that it said, with its age"
        with pytest.raises(AlertmanagerError, match="nothing is silenced"):
            alarms.silence(ANN, key, "cable work", now() + 60)
        assert alarms.board().silences == ()
    finally:
        real.resume()
    alarms.watch.look()
    assert alarms.board().complaint == ""


def test_utility_shows_both_sources_and_keeps_silences_across_a_restart(real: RealAlertmanager, tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN) as site:
        part = site.layout.part("utility")
        part.config.write_text(part.config.read_text() + f'\nalertmanager = "{real.address}"\n')

        def alarms_by_name() -> dict[str, dict[str, Any]]:
            return {one["name"].removeprefix("Commonwatt"): one for one in site.ask("utility", "/alarms")["alarms"]}

        def both() -> set[str]:
            return alarms_by_name().keys() & {"UtilityDisconnected", "PartDown"}

        site.start("utility")  # without the head-end
        eventually(lambda: len(both()) == 2)
        since = alarms_by_name()["UtilityDisconnected"]["since"]
        board = site.ask("utility", "/alarms")
        assert board["alertmanager"]["failure"] is None
        series = 'commonwatt_utility_alarms{{alarm="{}",severity="critical"}}'.format
        eventually(lambda: site.metric("utility", series("UtilityDisconnected")) == 1)
        assert site.metric("utility", series("StoreDamaged")) == 0
        until = datetime.fromisoformat(board["time"]) + timedelta(hours=4)  # four minutes, at this speed
        silence_r001(part, {"start": board["time"], "until": until.isoformat()})
        assert "this-machine" in {one["createdBy"] for one in standing(real)}
        site.kill("utility")
        site.start("utility")
        eventually(lambda: len(both()) == 2)
        found = alarms_by_name()
        # Another test's silence may still stand at this Alertmanager.
        ours = [one for one in site.ask("utility", "/alarms")["silences"] if one["person"] == "this-machine"]
        assert (found["PartDown"]["state"], len(ours)) == ("suppressed", 1)
        assert found["UtilityDisconnected"]["since"] == since, "it is remembered, and need not wait again"


def silence_r001(part: Part, window: dict[str, str]) -> None:
    """Plan a maintenance by the API, as a program on the utility's machine."""
    headers = local_headers(load_settings(part.config, "utility", UtilitySettings))
    body = json.dumps(window | {"place": "r001", "note": "new controller"}).encode()
    address = f"http://{part.http}/alarms/maintenances"
    request = urllib.request.Request(address, body, headers | {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def test_shipped_routes_are_sound_and_call_a_person_for_what_is_critical() -> None:
    amtool = str(real_part("amtool"))
    subprocess.run([amtool, "check-config", str(SHIPPED)], check=True, capture_output=True)
    for severity, name, receiver in (
        ("critical", "GatewaySilent", "on-call"),
        ("warning", "Residual", "office"),
        ("warning", "BacklogOld", "office"),
    ):
        asked = [amtool, "config", "routes", "test", f"--config.file={SHIPPED}"]
        told = subprocess.run(
            [*asked, "alertname=CommonwattUtilityWarning", f"alarm={name}", f"severity={severity}"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.strip() == receiver
