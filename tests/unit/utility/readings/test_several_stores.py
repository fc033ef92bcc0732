"""Several controllers may have a microgrid's data: each is asked, and absent is what none of them has (R14)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.store import CHANNELS
from commonwatt.device.store import open_store
from commonwatt.model.effects import Write
from commonwatt.model.records import RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S, SLOTS
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.dead_letters import LocalReason
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.surroundings import databases
from harness.surroundings.databases import opened
from harness.surroundings.messages import append, batch, blocks, find_gaps
from tests.unit.adapters.test_core import Bench, T
from utility.cliques.store import keep_orders
from utility.database.database import Database
from utility.outbox.changes import Append, CoreStep, OpenCommand
from utility.outbox.store import open_commands
from utility.readings.core import CommandsOpen, Core, FromGateway
from utility.readings.gaps import ALL_SLOTS, CONTROLLER_GONE_S, RETIRED_S, WHY_WORDS, absent_at_all, excuse
from utility.readings.store import completeness, reads
from utility.readings.store.writer import Writer
from utility.readings.tables import gateway_seen
from utility.registry.store.registry import load_snapshot

kind = databases.both_kinds

QUARTER = 2_000_000
BEGIN = QUARTER * 900
AGE = 1800
NOW = BEGIN + 900 + AGE
STORES = ("r001", "r002", "r003")
LEFT = 1 << 58 | 1 << 59


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 4, houses = 2}]\n')
    return load_town(path)


class Utility:
    """The utility's core and store; the microgrid r001 may be managed by r001, r002 and r003."""

    def __init__(self, database: Database, slots: Iterable[int] = range(58)) -> None:
        self.database = database
        with database.writes.begin() as connection:
            keep_orders(connection, {"r001": STORES})
            self.core = Core(7, load_snapshot(connection), AGE)
        self.writer = Writer(database)
        self.writer.commit([append(blocks(dict.fromkeys(slots, 1)))])

    def receive(self, sender: str, leaf: str, payload: bytes, now: int = NOW) -> CoreStep:
        step = self.core.handle(FromGateway(f"cw1/{sender}/u/{leaf}", payload), Now(now, Trust.NETWORK))
        self.writer.commit([effect.change for effect in step.effects if isinstance(effect, Write)])
        return step

    def find(self, now: int) -> dict[str, OpenCommand]:
        """Run the finder; return what it asks of each controller."""
        with self.database.reads.begin() as connection:
            before = {one.id for one in open_commands(connection)}
        find_gaps(self.database, now, AGE)
        with self.database.reads.begin() as connection:
            waiting = open_commands(connection)
        self.core.handle(CommandsOpen(tuple(waiting)), Now(now, Trust.NETWORK))
        return {one.controller: one for one in waiting if one.id not in before}

    def answer(self, command: OpenCommand, slots: int, **more: object) -> None:
        """Let a controller say which slots of the quarter it does not have."""
        told = {"id": command.id, "cmd": "get", "result": "done", "time": NOW + 900} | more
        absent = [["10001", 3, QUARTER, f"{slots:x}"]] if slots else []
        outcome = ControllerOutcome.model_validate(told | {"absent": absent})
        self.receive(command.controller, "out", outcome.pack(), NOW + 900)

    def counts(self) -> tuple[int, int]:
        """Return how many slots of the quarter are absent and missing."""
        tally = completeness.completeness(self.database, QUARTER, QUARTER + 1)[0].counts
        return tally.absent, tally.missing

    def saw(self, times: Mapping[str, int]) -> None:
        rows = [{"controller": name, "time": time, "heartbeat": "{}"} for name, time in times.items()]
        with self.database.writes.begin() as connection:
            connection.execute(gateway_seen.insert(), rows)


def blocks_of(command: OpenCommand) -> list[list[object]]:
    message = json.loads(command.message)
    return list((message.get("command") or message)["blocks"])


def test_every_controller_that_may_have_a_slot_is_asked_and_absent_is_what_none_has(database: Database) -> None:
    utility = Utility(database)
    asked = utility.find(NOW)
    assert sorted(asked) == list(STORES)
    assert json.loads(asked["r001"].message)["cmd"] == "get"
    message = json.loads(asked["r002"].message)
    assert (message["cmd"], message["microgrid"], message["command"]["id"]) == ("hosted", "r001", message["id"])
    assert all(blocks_of(one) == [["10001", 3, QUARTER, f"{LEFT:x}"]] for one in asked.values())
    utility.answer(asked["r001"], LEFT)
    assert utility.counts() == (0, 2), "r002 and r003 may have them"
    utility.answer(asked["r002"], 1 << 58)
    utility.answer(asked["r003"], LEFT)
    assert utility.counts() == (1, 1)
    again = utility.find(NOW + 301)
    assert {name: blocks_of(one) for name, one in again.items()} == {"r002": [["10001", 3, QUARTER, f"{1 << 59:x}"]]}


@given(said=st.dictionaries(st.sampled_from(STORES), st.integers(0, ALL_SLOTS)))
def test_what_one_store_lacks_says_nothing_of_another(said: dict[str, int]) -> None:
    """The planted bug *coverage of two stores confused*: absence said by one store counts for none but itself."""
    absent = absent_at_all(said, STORES)
    for slot in range(60):
        lacking = [name for name in STORES if said.get(name, 0) >> slot & 1]
        assert bool(absent >> slot & 1) == (lacking == list(STORES))


def test_the_slots_of_an_adapter_that_died_with_its_machine_are_absent_when_its_store_says_so_too(
    database: Database, tmp_path: Path
) -> None:
    """Nobody else hears the foreign meter; what its register shows afterwards is spread over no gap so long."""
    store = open_store(tmp_path / "adapter.db", CHANNELS)
    opened.append(store.connection.close)
    adapter = Bench(store, preset="mine", longest_gap_s=150)
    for at in (*range(0, 300, 15), *range(600, 931, 15)):
        if at == 600:
            adapter.start()
        adapter.hear("house/energy", {"kwh": 1 + at / 10_000, "t": T + at}, T + at)
    through = [record for record in adapter.records if record.record_type == RecordType.THROUGH]
    made = {(time - T) // SLOT_S for each in through for time in range(each.start, each.end, SLOT_S)}
    dead = sum(1 << slot for slot in range(SLOTS) if slot not in made)
    assert 18 <= dead.bit_count() <= 22, "five minutes"

    utility = Utility(database, made & set(range(SLOTS)))
    asked = utility.find(NOW)
    for backup in ("r002", "r003"):
        utility.answer(asked[backup], dead)
    assert utility.counts() == (0, dead.bit_count()), "the store on the dead machine may have them"
    with database.reads.begin() as connection:
        (gap,) = reads.gaps(connection, 10)
    assert gap["not_at"] == dict.fromkeys(("r002", "r003"), WHY_WORDS["said"])
    utility.answer(utility.find(NOW + 301)["r001"], dead)
    assert utility.counts() == (dead.bit_count(), 0)
    again = utility.find(NOW + 86_400).values()
    assert not [block for one in again for block in blocks_of(one) if block[2] == QUARTER], "nobody is asked again"


def test_the_same_store_that_answers_twice_counts_once(database: Database) -> None:
    utility = Utility(database)
    asked = utility.find(NOW)
    utility.answer(asked["r002"], LEFT)
    again = utility.find(NOW + 301)
    assert sorted(again) == ["r001", "r003"]
    utility.answer(again["r001"], LEFT)
    assert utility.counts() == (0, 2)


@pytest.mark.parametrize(
    "refusal",
    [{"cmd": "hosted", "result": "unsupported"},
     {"cmd": "hosted", "result": "refused", "reason": "r001 is not managed here"}],
)  # fmt: skip
def test_a_controller_without_a_store_of_the_microgrid_is_not_waited_for(
    database: Database, refusal: dict[str, object]
) -> None:
    """An older release, or one that released the microgrid."""
    utility = Utility(database)
    asked = utility.find(NOW)
    utility.answer(asked["r001"], LEFT)
    utility.answer(asked["r002"], LEFT)
    utility.answer(asked["r003"], 0, **refusal)
    assert utility.counts() == (2, 0)


def test_a_request_under_an_old_epoch_is_asked_again(database: Database) -> None:
    utility = Utility(database)
    asked = utility.find(NOW)
    utility.answer(asked["r002"], 0, cmd="hosted", result="refused", reason="the epoch is [7, 2]")
    assert utility.counts() == (0, 2)
    assert "r002" in utility.find(NOW + 301)


def test_a_controller_that_was_silent_for_30_days_is_not_waited_for(database: Database) -> None:
    utility = Utility(database)
    utility.saw({"r001": NOW, "r002": NOW - 10, "r003": NOW - CONTROLLER_GONE_S - 100})
    asked = utility.find(NOW)
    assert sorted(asked) == ["r001", "r002"]
    with database.reads.begin() as connection:
        (gap, *_) = reads.gaps(connection, 10)
    assert gap["not_at"] == {"r003": "it has been silent for 30 days"}
    utility.answer(asked["r001"], LEFT)
    utility.answer(asked["r002"], LEFT)
    assert utility.counts() == (2, 0)


def test_no_controller_is_silent_by_a_clock_that_is_ahead() -> None:
    assert excuse(1000, 1000 + CONTROLLER_GONE_S, is_closed=False) is None
    assert excuse(1000, 1001 + CONTROLLER_GONE_S, is_closed=False) == "silent"
    assert excuse(None, 10**9, is_closed=False) is None, "it may come yet"
    assert excuse(1000, 1000 + RETIRED_S, is_closed=True) is None, "it may deliver for some days"
    assert excuse(1000, 1001 + RETIRED_S, is_closed=True) == "retired"


def test_what_comes_after_all_said_no_is_taken_and_nothing_is_kept_of_it(database: Database) -> None:
    utility = Utility(database)
    for one in utility.find(NOW).values():
        utility.answer(one, LEFT)
    assert utility.counts() == (2, 0)
    utility.receive("r003", "batch", batch(blocks({58: 1, 59: 1})).pack())
    utility.find(NOW + 301)
    assert utility.counts() == (0, 0)


def test_a_clique_mate_relays_a_meters_data_as_its_own_controller_does(database: Database) -> None:
    utility = Utility(database)
    step = utility.receive("r002", "batch", batch(blocks({58: 1})).pack())
    (change,) = [effect.change for effect in step.effects if isinstance(effect, Write)]
    assert isinstance(change, Append)
    assert (step.result, len(change.blocks), change.quarantined) == ("stored_for_another", 1, ())
    step = utility.receive("r004", "batch", batch(blocks({59: 1})).pack())
    (change,) = [effect.change for effect in step.effects if isinstance(effect, Write)]
    assert isinstance(change, Append)
    ((dead_letter, _),) = change.quarantined
    assert (step.result, dead_letter.reason) == ("not_assigned", LocalReason.NOT_ASSIGNED)


def test_a_controller_that_may_no_longer_manage_it_still_relays_what_it_has(database: Database) -> None:
    utility = Utility(database)
    with database.writes.begin() as connection:
        keep_orders(connection, {"r001": ("r001", "r003")})
        utility.core.registry = load_snapshot(connection)
    assert utility.receive("r002", "batch", batch(blocks({58: 1})).pack()).result == "stored_for_another"
    assert sorted(utility.find(NOW)) == list(STORES)


def test_minima_of_a_hosted_microgrids_meters_count(database: Database) -> None:
    utility = Utility(database)
    heartbeat = {
        "time": NOW, "store": "5", "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0,
        "aggregation": "none", "minima": {"10001": [30, NOW], "40001": [90, NOW]},
    }  # fmt: skip
    step = utility.receive("r002", "stat", json.dumps({"v": 1} | heartbeat).encode())
    (change,) = [effect.change for effect in step.effects if isinstance(effect, Write)]
    assert change.minima == ((10001, 30, NOW),)  # type: ignore[union-attr]
