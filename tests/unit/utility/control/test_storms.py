"""An announced storm reaches the plant and every gateway, in one transaction, and ends when the storm does."""

import json
from pathlib import Path

import pytest

from commonwatt.protocol.controller_commands import ControllerOutcome
from harness.commands import shown
from utility.access.actor import Actor, Via
from utility.access.roles import Role
from utility.control import decisions as storms
from utility.control.decisions import announce_storm
from utility.database.database import Database, open_database
from utility.outbox.changes import CloseCommand
from utility.outbox.store.commands import open_commands
from utility.readings.store.writer import Writer
from utility.supply.buying.situation import Storm
from utility.supply.store.supply_view import announced_storm

NOW = 1_800_000_000
STORM = Storm(start=NOW + 86_400, end=NOW + 129_600)
ANNA = Actor(name="anna", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7")


def plants_storm(database: Database) -> Storm | None:
    with database.reads.begin() as connection:
        return announced_storm(connection, NOW)


def told(database: Database) -> set[tuple[str, str, int | None, int]]:
    """Return (controller, state, seconds, end) of the open commands."""
    with database.reads.begin() as connection:
        found = [(each.controller, json.loads(each.message)) for each in open_commands(connection)]
    return {(to, message["state"], message.get("for_s"), message["until"]) for to, message in found}


def test_gateways_hear_of_a_storm_and_of_its_cancellation_as_long_as_it_lasts(database: Database) -> None:
    announce_storm(database, ANNA, STORM, NOW)
    assert told(database) == {(to, "on", 129_600, STORM.end) for to in ("r001", "r002")}
    announce_storm(database, ANNA, None, NOW + 60)
    assert told(database) == {(to, "off", None, STORM.end) for to in ("r001", "r002")}
    assert plants_storm(database) is None


def test_a_storm_is_announced_to_the_plant_and_the_gateways_or_to_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> int:
        raise RuntimeError("the service is killed here")

    monkeypatch.setattr(storms, "add_change", crash)
    with pytest.raises(RuntimeError):
        announce_storm(database, ANNA, STORM, NOW)
    assert plants_storm(database) is None


def test_the_plant_is_told_before_a_microgrid_is_registered(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new.db", create=True)
    assert announce_storm(database, ANNA, STORM, NOW) is None
    assert plants_storm(database) == STORM
    database.close()


def test_a_gateway_of_an_earlier_release_is_shown_as_one_that_does_not_hold(database: Database, config: Path) -> None:
    announce_storm(database, ANNA, STORM, NOW)
    with database.reads.begin() as connection:
        asked = open_commands(connection)
    for each, result in zip(asked, ("done", "unsupported"), strict=True):
        reason = None if result == "done" else "this version has no command hold"
        outcome = ControllerOutcome(id=each.id, cmd="hold", result=result, reason=reason, time=NOW)
        closing = CloseCommand(id=each.id, controller=each.controller, state="done", outcome=outcome.pack().decode())
        Writer(database).commit([closing])
    (change,) = shown(config, "commands", "changes")["changes"]
    assert change["counts"]["refused"] == 1
    results = [one["result"] for one in shown(config, "commands")["commands"]]
    assert "unsupported: this version has no command hold" in results
