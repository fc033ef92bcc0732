"""The running ingest with takeover: heartbeats without beats, commands to the manager, and what a deposed one says."""

import asyncio
import json
from pathlib import Path

import pytest

from commonwatt.model.effects import Publish
from commonwatt.protocol.clique_messages import Known, Tell, Who
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.surroundings.utility import a_heartbeat, ingest_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.takeover.test_jobs import Running
from utility.database.database import Database
from utility.outbox.changes import OpenCommand
from utility.outbox.store.commands import add_command, open_commands


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 3, houses = 2}]\n')
    return load_town(path)


def given(database: Database) -> None:
    message = {"v": 1, "id": "c1", "cmd": "reduce", "until": NOW + 900, "state": "off"}
    with database.writes.begin() as connection:
        add_command(
            connection, OpenCommand(id="c1", controller="r001", message=json.dumps(message), until=NOW + 900), NOW
        )


def to(sent: list[Publish]) -> list[tuple[str, str]]:
    return [(one.topic, json.loads(one.payload)["cmd"]) for one in sent if one.topic.endswith("/cmd")]


def test_a_command_follows_the_manager_and_what_a_deposed_controller_says_is_looked_into(
    database: Database, clock: Clock
) -> None:
    async def scenario() -> None:
        running, sent = Running(database, clock), list[Publish]()
        ingest = ingest_of(database, clock, sent.append)
        ingest.takeover = running.job
        given(database)
        await ingest.poll()
        assert to(sent) == [("cw1/r001/d/cmd", "reduce")]
        refused = ControllerOutcome(id="c1", cmd="reduce", result="refused", reason="deposed by [5, 2]", time=NOW)
        await ingest.take_in([("cw1/r001/u/out", refused.pack())])
        await asyncio.sleep(0)
        assert Tell("r002", Who(microgrid="r001")) in running.wire.sent
        running.job._message(0, "r002", Known(microgrid="r001", highest=(5, 2), manages=True))
        await ingest.poll()
        assert to(sent)[1:] == [("cw1/r002/d/cmd", "hosted")]
        done = ControllerOutcome(id="c1", cmd="reduce", result="done", time=NOW)
        await ingest.take_in([("cw1/r002/u/out", done.pack())])
        with database.reads.begin() as connection:
            assert open_commands(connection) == []
        ingest.close()

    asyncio.run(scenario())


def test_a_heartbeat_says_who_manages_where_no_beats_come(database: Database, clock: Clock) -> None:
    async def scenario() -> None:
        running = Running(database, clock)
        ingest = ingest_of(database, clock)
        ingest.takeover = running.job
        heartbeat = a_heartbeat(time=NOW, manages={"r001": (4, 1)})
        await ingest.take_in([("cw1/r001/u/stat", heartbeat.pack())])
        assert running.job.groups.managers()["r001"] == ("r001", (4, 1))
        ingest.close()

    asyncio.run(scenario())
