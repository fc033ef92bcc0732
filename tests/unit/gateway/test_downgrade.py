"""A store of this release is brought into a form for release 0.3: nothing is lost, and the meters obey."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commonwatt.device.brokers import Brokers, Installed
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.runtime.service import only_one
from gateway.changes import AddDeadLetters, Desired, MeterInfo, PeriodDone, Relayed, Setting
from gateway.cli import app
from gateway.control.epochs import Epochs
from gateway.store.downgrade import FURTHER, downgrade
from gateway.store.released import release
from gateway.store.store import Store
from harness.surroundings.gateway import START, World, readings

MICROGRID, METER = "r001", 1
GRANTED = (7, 1)  # the epoch under which this controller commanded last
HIGHEST = (9, 2)  # a later one of another controller
TABLES = ("part", "event", "letter", "coverage", "meter", "desired", "period")


def outcome(result: str) -> dict[str, object]:
    return {"id": result, "cmd": "schedule", "result": result, "time": START}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A controller's folder; its store has something in every table, and what 0.3 does not know."""
    (tmp_path / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{MICROGRID}"\n')
    world = World(tmp_path / "gateway.db")
    for n in range(3):
        assert world.put(METER, n * 20 + 1, readings(METER, n * 20 + 1, 20, start=START + n * 300)).accepted
    event = EventRecord(previous_state=0, new_state=0x81, record_id=1, meter_id=METER, time=START)
    world.put(METER, 1, [event])
    first = next(iter(world.store.all_parts(unsent_only=True)))
    letter = DeadLetter(meter=METER, log=1, reason=3, generation=1, record_id=5, time=START, content=b"x")
    sharing = Desired(meter=METER, kind=Kind.SHARING, value="on", epoch=GRANTED, seq=3, until=START + 600)
    limit = Desired(meter=METER, kind=Kind.IMPORT_LIMIT, value="500", epoch=GRANTED, seq=1, until=START + 600)
    period = Desired(meter=METER, kind=Kind.PUT_PERIOD, value="300", epoch=GRANTED, seq=1, until=None)
    info = MeterInfo(meter=METER, push=True, minimum_percent=50, capacity=10_000, time=START)
    outcomes = {result: outcome(result) for result in ("done", "unsupported")}
    world.store.commit(
        [
            Relayed(done=(first.id,), averaged=(), events=(), dead_letters=(), slots=20),
            *(AddDeadLetters((letter,)), sharing, limit, period, info, PeriodDone("collect_s", 5)),
            *(Setting("utility_store", "u1"), Setting("starts", "7"), Setting("outcomes", json.dumps(outcomes))),
            Setting(f"clique:{MICROGRID}", ",".join(map(str, (*GRANTED, *HIGHEST)))),
        ]
    )
    world.store.close()
    return tmp_path


def downgraded(folder: Path) -> Result:
    return CliRunner().invoke(app, ["downgrade", "--config", str(folder / "gateway.toml")])


def rows(store: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store)) as connection:
        where = "" if table != "desired" else " WHERE kind != 'put_period'"
        return sorted(connection.execute(f"SELECT * FROM {table}{where}"), key=repr)


def settings(store: Path) -> dict[str, str]:
    return {str(key): str(value) for key, value, _ in rows(store, "setting")}


def test_every_table_is_the_same_and_only_what_0_3_does_not_know_is_changed(folder: Path) -> None:
    store = folder / "gateway.db"
    before, known = {table: rows(store, table) for table in TABLES}, settings(store)
    done = downgraded(folder)
    assert done.exit_code == 0, done.output
    assert all(before.values())
    assert {table: rows(store, table) for table in TABLES} == before
    found = settings(store)
    with closing(sqlite3.connect(store)) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM desired")]
    assert sorted(kinds) == ["import_limit", "sharing"]
    changed = {key for key in known | found if known.get(key) != found.get(key)}
    assert changed == {"epoch"}


def test_meters_of_both_releases_obey_the_epoch(folder: Path) -> None:
    downgraded(folder)
    with closing(Store.open(folder / "gateway.db")) as store:
        epoch = Epochs(store, [METER]).of(METER)
    assert epoch == (HIGHEST[0] + FURTHER, 0)
    assert Brokers(METER, [Installed(name=MICROGRID, rank=1)]).why_not(MICROGRID, epoch) is None
    # One that obeyed the last manager, one that was away since the upgrade, and one that heard a later manager.
    for held in (HIGHEST, (1, 0), (HIGHEST[0] + 200, 3), (0, 0)):
        assert EpochGuard(epoch=held).why_not(epoch, 0) is None


def test_a_second_time_changes_nothing(folder: Path) -> None:
    downgraded(folder)
    before = {table: rows(folder / "gateway.db", table) for table in (*TABLES, "setting")}
    done = downgraded(folder)
    assert (done.exit_code, "was already in the form of version 0.3" in done.output) == (0, True)
    assert {table: rows(folder / "gateway.db", table) for table in (*TABLES, "setting")} == before


def test_after_a_second_upgrade_and_takeover_the_epoch_is_above_the_new_ones(folder: Path) -> None:
    downgraded(folder)
    with closing(Store.open(folder / "gateway.db")) as store:
        store.commit([Setting(f"clique:{MICROGRID}", "1500,1,1500,1")])
    assert f"epoch [{1500 + FURTHER}, 0]" in downgraded(folder).output


def test_a_controller_without_a_clique_keeps_its_epoch(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{MICROGRID}"\n')
    with closing(Store.open(tmp_path / "gateway.db")) as store:
        store.commit([Setting("epoch", "4,0")])
    assert "epoch [4, 0]" in downgraded(tmp_path).output


def test_a_released_store_stays_as_it_is(folder: Path) -> None:
    release(folder / "gateway.db", START)
    done = downgraded(folder)
    assert (done.exit_code, "was released" in done.stderr) == (2, True)
    assert "epoch" not in settings(folder / "gateway.db")


def test_it_refuses_while_the_gateway_runs_and_without_a_store(folder: Path) -> None:
    with only_one(folder / "gateway.db", "a gateway"):
        done = downgraded(folder)
    assert (done.exit_code, "a running gateway" in done.stderr) == (2, True)
    (folder / "gateway.db").unlink()
    done = downgraded(folder)
    assert (done.exit_code, "no store there" in done.stderr) == (2, True)


def test_data_of_another_microgrid_that_waits_here_is_not_left_behind(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "gateway-r002.db"
    world = World(other)
    assert world.put(METER, 1, readings(METER, 1, 20)).accepted
    world.store.close()
    with pytest.raises(ConfigError, match=r"another microgrid wait here .* until `commonwatt status` shows no backlog"):
        downgrade(folder / "gateway.db", MICROGRID, [other], START)
    assert "epoch" not in settings(folder / "gateway.db")
