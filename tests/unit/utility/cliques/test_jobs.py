"""What the utility grants is durable before anybody hears of it; heartbeats, and commands to the manager."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from commonwatt.clique.beats import Beat, Bits
from commonwatt.clique.cliques import Clique, CliqueFile, CliquePeer, save_cliques
from commonwatt.clique.messages import Grant, Known, SendBeat, Tell, Who
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.surroundings.messages import a_heartbeat, ingest_of
from tests.unit.utility.conftest import NOW
from utility.cliques.jobs import GrantsJob, cliques_of
from utility.cliques.store import history, load_granted, load_orders
from utility.database.base import OperationalError
from utility.database.database import Database
from utility.outbox.changes import OpenCommand
from utility.outbox.store import add_command, open_commands
from utility.registry.store.registry import load_snapshot

NAMES = ("r001", "r002", "r003")


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 3, houses = 2}]\n')
    return load_town(path)


def cliques(*more: Clique) -> CliqueFile:
    others = tuple(
        CliquePeer(name=name, rank=rank, address="127.0.0.1:1", key=f"{rank:064x}")
        for rank, name in enumerate(NAMES, 1)
    )
    orders = {name: NAMES[at:] + NAMES[:at] for at, name in enumerate(NAMES)}
    return CliqueFile(own="utility", rank=0, groups=(Clique(members=NAMES, orders=orders, others=others), *more))


@dataclass
class Wire:
    """In place of the socket: records what is sent, with what the database had at that moment."""

    database: Database
    sent: list[Tell | SendBeat] = field(default_factory=list)
    durable: list[bool] = field(default_factory=list)

    def send(self, group: int, effect: Tell | SendBeat) -> None:
        del group
        self.sent.append(effect)
        if isinstance(effect, Tell) and isinstance(effect.message, Grant):
            with self.database.reads.begin() as connection:
                self.durable.append(load_granted(connection)[effect.message.microgrid].pending == effect.message.epoch)

    def close(self) -> None:
        pass

    def answered(self) -> int:
        return sum(isinstance(one, SendBeat) and one.beat.is_answer for one in self.sent)


class Running:
    """The job with three controllers on a virtual clock."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.now = 1_000.0
        self.fails = False
        self.errors: list[Exception] = []
        self.job = GrantsJob(cliques(), database, clock, write=self.write, time=lambda: self.now)
        self.job.failed = self.errors.append
        self.wire = Wire(database)
        self.job.socket = self.wire  # type: ignore[assignment]
        self.alive = set(NAMES)
        self.numbers = dict.fromkeys(NAMES, 0)

    async def write(self, work: Callable[..., Any], *arguments: object) -> None:
        if self.fails:
            raise OperationalError("disk", None, OSError("gone"))
        work(*arguments)

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 5)):
            self.now += 0.2
            await self.job.tick()
            if round(self.now * 10) % 32 == 0:
                for at, name in enumerate(NAMES, 1):
                    self.beat(name, at)
            for _ in range(3):
                await asyncio.sleep(0)

    def beat(self, name: str, rank: int) -> None:
        if name in self.alive:
            self.numbers[name] += 1
            bits = Bits(able=frozenset(NAMES), manages=frozenset({name}))
            self.job._beat(0, name, Beat(bits, self.numbers[name]))
            for grid in NAMES:
                epoch = (1, rank) if grid == name else (0, 0)
                self.job._message(0, name, Known(microgrid=grid, highest=epoch, manages=grid == name))


def test_a_grant_is_committed_before_it_is_sent_and_its_reason_is_kept(database: Database, clock: Clock) -> None:
    async def scenario() -> None:
        running = Running(database, clock)
        await running.run(100)
        running.alive.remove("r001")
        await running.run(8)
        assert running.wire.durable
        assert all(running.wire.durable)
        epoch = (2, 2)
        running.job._message(0, "r002", Known(microgrid="r001", highest=epoch, manages=True))
        await running.run(1)
        assert running.job.groups.managers()["r001"] == ("r002", epoch)

    asyncio.run(scenario())
    with database.reads.begin() as connection:
        newest, first = history(connection, "r001", 10)
    assert (newest.controller, newest.epoch, newest.before, newest.since) == ("r002", (2, 2), "r001", int(clock.now()))
    assert newest.why.startswith("granted: r001 gave no sign for 4.")
    assert (first.controller, first.why) == ("r001", "first start")


def test_while_the_database_takes_no_commit_nothing_is_granted_and_no_beat_is_answered(
    database: Database, clock: Clock
) -> None:
    async def scenario() -> None:
        running = Running(database, clock)
        await running.run(100)
        running.fails = True
        running.alive.remove("r001")
        await running.run(10)
        assert running.wire.durable == []
        assert running.errors
        answered = running.wire.answered()
        await running.run(20)
        assert running.wire.answered() == answered, "the controllers have to watch each other"
        running.fails = False
        await running.run(25)
        assert running.wire.durable == [], "the controllers may have decided by themselves"
        await running.run(15)
        assert running.wire.durable
        assert all(running.wire.durable)
        assert running.wire.answered() > answered

    asyncio.run(scenario())


def test_the_order_of_a_microgrid_is_in_the_database_for_commands_without_the_service(
    database: Database, clock: Clock
) -> None:
    before = load(database)
    Running(database, clock)
    with database.reads.begin() as connection:
        assert load_orders(connection)["r002"] == ("r002", "r003", "r001")
    assert load(database) > before, "or the running service would not take it"
    again = load(database)
    Running(database, clock)
    assert load(database) == again


def load(database: Database) -> int:
    with database.reads.begin() as connection:
        return load_snapshot(connection).revision


def test_a_group_that_is_not_registered_waits_for_it(database: Database, clock: Clock) -> None:
    new = Clique(members=("r004",), orders={"r004": ("r004",)}, others=())
    job = GrantsJob(cliques(new), database, clock, write=Running.write, time=lambda: 0.0)
    assert sorted(job.groups.orders) == list(NAMES)


def test_another_ones_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clique.json"
    save_cliques(path, cliques().model_copy(update={"own": "r001", "rank": 1}))
    with pytest.raises(ConfigError, match="is the file of r001, not of the utility"):
        cliques_of(path)


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
