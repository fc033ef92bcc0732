"""Faults of the catalogue in one running town of real processes; after each the audit is good.

The town keeps running from test to test. Each link has a proxy: ``fleet`` between meters and their broker, ``local``
between gateway and that broker, ``uplink`` between gateway and head-end, ``office`` between utility and head-end.
"""

import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from commonwatt.model.records import State
from commonwatt.protocol.topics import meter_down
from harness.commands import shown
from harness.network.proxy import Fate, Message, Proxy, Way, chance
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.brokers import open_to_all
from harness.real.failpoint import When
from harness.real.site import Site, sound
from tests.integration.test_broker import WAIT_S, Client

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 0.5\n'
LINKS = {
    "fleet": ("r001 meters", "broker"),
    "local": ("r001 gateway", "broker"),
    "uplink": ("r001 gateway", "head_end"),
    "office": ("utility", "head_end"),
}
BROKERS = ("head-end", "r001 broker")
SERVICES = ("utility", "r001 gateway", "r001 meters")


class Town(Site):
    """The running town, and its metrics."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TOWN, speed=120)
        # A failing meter's connection ends, and messages held for it are lost: here only the tests make faults.
        self.add_setting("r001 meters", "failures_per_day = 0")
        # A backlog that grows for an hour, here 30 s, makes the gateway command meters for a day.
        self.add_setting("r001 gateway", 'saves = "nothing"')
        self.links: dict[str, Proxy] = {name: self.proxy(*where) for name, where in LINKS.items()}
        self.start(*BROKERS, *SERVICES)

    def look(self, name: str) -> dict[str, Any]:
        return self.status(name) or {}

    def now(self) -> int:
        return int(self.layout.clock.now())

    def connected(self) -> bool:
        """Return whether all parts are connected to their brokers."""
        meters = self.look("r001 meters")
        return (
            "connected" in meters
            and meters["connected"] == meters["meters"]
            and self.metric("r001 gateway", "commonwatt_gateway_connections") == 2
            and self.look("utility").get("head_end_connected", False)
        )

    def stored(self) -> int:
        """Return the number of slots received by the utility, with repetitions."""
        return int(self.look("utility").get("microgrids", {}).get("r001", {}).get("received_slots", 0))

    def grows(self, slots: int = 100) -> None:
        """Wait until data flows to the utility."""
        before = self.stored()
        eventually(lambda: self.stored() > before + slots)

    def order(self, *words: str) -> str:
        """Give the gateway a command as an operator does; return its id."""
        self._commonwatt("utility", "command", "r001", *words)
        # The utility's own requests for data are among the commands.
        return next(str(each["id"]) for each in self.ordered() if each["message"]["cmd"] == words[0])

    def ordered(self) -> list[dict[str, Any]]:
        """Return the utility's commands, the newest first."""
        found: list[dict[str, Any]] = shown(self.layout.part("utility").config, "commands")["commands"]
        return found

    def command_state(self, which: str) -> str:
        return next(str(command["state"]) for command in self.ordered() if command["id"] == which)

    def _commonwatt(self, *words: str) -> str:
        config = str(self.layout.part("utility").config)
        return forks.run([sys.executable, "-m", "commonwatt", *words, "--config", config], check=True).stdout

    def ask_gateway(self, sql: str, values: dict[str, Any] | None = None) -> int:
        """Return the one number that a query of the gateway's store gives."""
        with closing(sqlite3.connect(f"file:{self.folder / 'r001' / 'gateway.db'}?mode=ro", uri=True)) as database:
            return int(database.execute(sql, values or {}).fetchone()[0])

    def coverage(self) -> list[tuple[int, ...]]:
        """Return the rows (meter, log, generation, first id, last id) of the gateway's coverage."""
        with closing(sqlite3.connect(f"file:{self.folder / 'r001' / 'gateway.db'}?mode=ro", uri=True)) as database:
            return database.execute("SELECT meter, log, generation, first, last FROM coverage").fetchall()

    def heal(self) -> None:
        """End every fault of the links."""
        for link in self.links.values():
            link.judge = None
            link.delay_s = link.jitter_s = 0.0

    def settle(self) -> None:
        """End every fault; check that all readings arrive, once, and that the audit is good."""
        self.heal()
        made = int(self.look("r001 meters")["made"])
        eventually(lambda: self.look("r001 meters").get("acknowledged", 0) >= made)
        newest = {"id": self.ask_gateway("SELECT max(id) FROM part")}
        eventually(
            lambda: not self.ask_gateway("SELECT count(*) FROM part WHERE relayed NOT IN (5, 6) AND id <= :id", newest)
        )
        audit = sound(self.folder)
        assert audit.total("stored_exact") >= made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("faults") / "town") as it:
        yield it


@pytest.fixture
def town(running: Town) -> Town:
    """The town with all of its parts running, after any earlier test."""
    running.start(*(name for name in (*BROKERS, *SERVICES) if name not in running.processes))
    eventually(running.connected)
    return running


def _contains(row: tuple[int, ...], range_: dict[str, int]) -> bool:
    """Return whether a row of the coverage has the range of ids that a failpoint printed."""
    meter, log, generation, first, last = row
    same = (meter, log, generation) == (range_["meter"], range_["log"], range_["generation"])
    return same and first <= range_["first"] and last >= range_["last"]


def covered(town: Town, range_: dict[str, int]) -> bool:
    """Return whether the gateway's store has the range of ids that a failpoint printed."""
    return any(_contains(row, range_) for row in town.coverage())


def crash(town: Town, name: str, when: When, nth: int = 2) -> dict[str, Any]:
    """Make a part kill itself at one of its steps that count; return the printed step."""
    if name in town.processes:
        town.stop(name)
    town.run_until_it_dies(name, when, nth)
    said = town.log(name).splitlines()[-1]
    assert f"killed {when} the commit of" in said
    about: dict[str, Any] = json.loads(said.partition(" of ")[2])
    return about


def _crash_gateway(town: Town, when: When, *, kept: bool) -> None:
    """Kill the gateway at a step with ids that its store lacked: a repeated put says nothing about a commit."""
    while True:
        town.stop("r001 gateway")
        before = town.coverage()
        # At its first step: a second one may have a put again that the first one stored.
        about = crash(town, "r001 gateway", when, 1)
        if not any(_contains(row, about) for row in before):
            break
        town.start("r001 gateway")
    assert covered(town, about) is kept
    town.start("r001 gateway")
    eventually(lambda: covered(town, about))


def test_row_01_killed_after_commit_before_acknowledgement(town: Town) -> None:
    _crash_gateway(town, "after", kept=True)
    for name in ("utility", "r001 meters"):
        crash(town, name, "after")
        town.start(name)
    town.settle()


def test_row_02_killed_before_commit(town: Town) -> None:
    _crash_gateway(town, "before", kept=False)
    for name in ("utility", "r001 meters"):
        crash(town, name, "before")
        town.start(name)
    town.settle()


def test_row_03_brokers_killed_under_load(town: Town) -> None:
    for _ in range(3):
        for name in BROKERS:
            town.kill(name)
        town.start(*BROKERS)
        eventually(town.connected)
        town.grows()
    town.settle()


def test_row_10_loss_duplication_reordering_and_delay_in_every_link(town: Town) -> None:
    shares = {Fate.DROP: 0.15, Fate.TWICE: 0.15, Fate.SWAP: 0.15}
    for seed, link in enumerate(town.links.values()):
        link.judged.clear()
        link.judge = chance(seed, shares)
        link.delay_s, link.jitter_s = 0.005, 0.02
    eventually(lambda: all(link.judged[fate] >= 5 for link in town.links.values() for fate in shares))
    town.settle()


def test_row_12_the_utilitys_acknowledgements_are_lost(town: Town) -> None:
    office = town.links["office"]
    office.judged.clear()
    office.judge = lambda message: Fate.DROP if message.leaf == "ack" else Fate.PASS
    eventually(lambda: office.judged[Fate.DROP] >= 8)
    waiting = town.look("r001 gateway")["backlog"]["parts"]
    assert waiting > 0, "no unacknowledged data may be lost"
    town.settle()


class Commands:
    """The messages of one command at a link's proxy, by receiver, and the answers.

    Args:
        fate: The fate of a message of this command, given the number of equal messages before.
    """

    def __init__(self, cmd: str, fate: Callable[[Message, int], Fate]) -> None:
        self.sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._cmd = cmd
        self._fate = fate

    def judge(self, message: Message) -> Fate:
        """Record a message of the command, and decide its fate."""
        if message.leaf not in ("cmd", "out") or (content := json.loads(message.payload))["cmd"] != self._cmd:
            return Fate.PASS
        seen = (self.sent if message.leaf == "cmd" else self.answers)[message.topic.split("/")[2]]
        seen.append(content)
        return self._fate(message, len(seen) - 1)

    def results(self) -> list[list[str]]:
        """Return the results in each receiver's answers, in order."""
        return [[str(answer["result"]) for answer in answers] for answers in self.answers.values()]

    def pairs(self) -> list[set[tuple[int, int, int]]]:
        """Return the pairs (epoch, sequence) sent to each receiver."""
        return [{(*command["epoch"], command["seq"]) for command in commands} for commands in self.sent.values()]


def test_row_16_an_old_command_comes_late(town: Town) -> None:
    """Delay all of a gateway's commands to its meters, and one of the utility's to a gateway, beyond their end."""
    # A gateway without a trusted time commands durations, which begin at their arrival.
    eventually(lambda: town.metric("r001 gateway", 'commonwatt_gateway_batches_total{result="acknowledged"}'))
    fleet, uplink = town.links["fleet"], town.links["uplink"]
    meters = int(town.look("r001 meters")["meters"])
    commands = Commands("aggregate", lambda message, _: Fate.HOLD if message.way is Way.DOWN else Fate.PASS)
    fleet.judge = commands.judge
    uplink.judge = lambda message: Fate.HOLD if message.leaf == "cmd" and b"schedule" in message.payload else Fate.PASS
    uplink.judged.clear()
    town.order("aggregate", "at=meters", "mode=lossless", "for_s=600")
    late = town.order("schedule", "relay_s=30", "--valid", "600")
    eventually(lambda: len(commands.sent) == meters and uplink.judged[Fate.HOLD])
    end = max(command["until"] for sent in commands.sent.values() for command in sent)
    eventually(lambda: town.command_state(late) == "expired")
    eventually(lambda: town.now() > end)
    fleet.release()
    eventually(lambda: len(commands.answers) == meters)
    assert {result for results in commands.results() for result in results} == {"expired"}
    assert not any(answer["bits"] & State.LOSSLESS for answers in commands.answers.values() for answer in answers)
    assert uplink.release()
    eventually(lambda: town.metric("r001 gateway", 'commonwatt_gateway_outcomes_total{result="expired"}') >= meters)
    refused = ("aggregate", "expired")
    eventually(
        lambda: any((note["cmd"], note["result"]) == refused for note in town.look("r001 gateway")["last_commands"])
    )
    town.heal()
    assert not town.ask_gateway("SELECT count(*) FROM setting WHERE key = 'periods'"), "the late schedule was obeyed"


def test_row_17_a_commands_acknowledgement_is_lost(town: Town) -> None:
    """Lose meters' answers until each got the command twice, and the gateway's first two answers to the utility."""
    fleet, uplink = town.links["fleet"], town.links["uplink"]
    meters = int(town.look("r001 meters")["meters"])
    to_meters = Commands("aggregate", lambda *_: Fate.PASS)
    to_gateway = Commands(
        "aggregate", lambda message, seen: Fate.DROP if message.leaf == "out" and seen < 2 else Fate.PASS
    )

    def told_twice() -> bool:
        return len(to_meters.answers) == meters and all(len(results) >= 2 for results in to_meters.results())

    def lose_answers(message: Message) -> Fate:
        # The answer to any command reports a meter's states, and would confirm this one too.
        fate = Fate.DROP if message.leaf == "out" and not told_twice() else Fate.PASS
        to_meters.judge(message)
        return fate

    fleet.judge, uplink.judge = lose_answers, to_gateway.judge
    which = town.order("aggregate", "at=meters", "mode=lossless", "for_s=900")
    wanted = "SELECT count(*) FROM desired WHERE kind = 'aggregation' AND value = 'lossless' AND confirmed"
    eventually(lambda: town.ask_gateway(wanted) == meters)
    for results in to_meters.results():
        assert results[0] == "done"
        assert set(results[1:]) == {"repeated"}
    assert all(len(pairs) == 1 for pairs in to_meters.pairs()), "a command executed twice would have another number"
    eventually(lambda: len(to_gateway.answers["u"]) >= 3)
    eventually(lambda: town.command_state(which) == "done")
    # On a busy machine the utility's acknowledgement of the answer may cross a fourth.
    (results,) = to_gateway.results()
    assert set(results) == {"done"}
    town.heal()


def test_row_16_a_retained_command_never_acts(tmp_path: Path) -> None:
    """Use a Mosquitto, which retains such messages; our broker does not."""
    with Site(tmp_path / "site", TOWN.replace("0.5", "1.0")) as site:
        host, port = site.address("r001 broker")
        site.commands["r001 broker"] = open_to_all(tmp_path / "mosquitto", host, port)
        site.strangers.add("r001 broker")
        site.start("r001 broker")
        gateway = Client(port, "r001", "any")
        assert gateway.answered.wait(WAIT_S)
        meter = meter_down("r001", 10001, "cmd")
        command = {"v": 1, "cmd": "reduce_power_on", "issuer": "r001", "epoch": [1, 0], "seq": 1, "for_s": 86_400}
        gateway.publish(meter, json.dumps(command | {"id": "old"}).encode(), retain=True)
        assert gateway.subscribe("cw1/r001/10001/u/+")
        site.start("r001 meters")
        gateway.next()  # It sends messages, so it has received its retained messages.
        gateway.publish(meter, json.dumps(command | {"id": "new"}).encode())
        answers = (json.loads(payload) for topic, payload in iter(gateway.next, None) if topic.endswith("/out"))
        answer = next(answers)
        assert (answer["id"], answer["result"]) == ("new", "done")
        assert site.metric("r001 meters", "commonwatt_meters_retained_messages_total") == 1
        assert "ignored a retained message on cw1/r001/10001/d/cmd" in site.log("r001 meters")
        gateway.close()
