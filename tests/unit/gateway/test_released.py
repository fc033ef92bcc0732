"""A controller is replaced: its store is released, and copied whole to the new one if data waits in it."""

from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import Log
from gateway.changes import Relayed
from gateway.cli import app
from gateway.store.released import open_in_use
from gateway.store.store import Store
from harness.surroundings.gateway import START, World, readings

METER = 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A controller's folder; its store has two minutes of readings, of which the utility acknowledged one."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "gateway.toml").write_text('[gateway]\nmicrogrid = "r001"\n')
    world = World(folder / "gateway.db")
    for n in range(2):
        assert world.put(METER, n * 20 + 1, readings(METER, n * 20 + 1, 20, start=START + n * 300)).accepted
    relay(world, 1)
    world.store.close()
    return folder


def relay(world: World, count: int) -> None:
    done = tuple(part.id for part in world.store.all_parts(unsent_only=True))[:count]
    world.store.commit([Relayed(done=done, averaged=(), events=(), dead_letters=(), slots=20 * count)])


def release(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["release", "--config", str(folder / "gateway.toml"), *words])


def content(path: Path) -> list[tuple[object, ...]]:
    with closing(Store.open(path)) as store:
        parts = [(part.key, part.payload, part.relayed) for part in store.all_parts(unsent_only=False)]
        return [*parts, *store.coverage(METER, Log.HISTORY, 1), (store.store_id,)]


def test_the_new_controller_goes_on_with_a_copy_and_the_old_one_can_not(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    for _ in range(2):
        done = release(old, "--copy", str(new))
        assert (done.exit_code, "wait for the utility: 1" in done.output) == (0, True), done.output
    assert [path.name for path in new.glob("gateway.db*")] == ["gateway.db"], "one file is the whole store"
    open_in_use(new / "gateway.db", START)[0].close()
    assert content(new / "gateway.db") == content(old / "gateway.db")
    with pytest.raises(ConfigError, match=r"was released .*release --undo"):
        open_in_use(old / "gateway.db", START)


def test_the_store_itself_is_no_copy(old: Path) -> None:
    done = release(old, "--copy", str(old))
    assert (done.exit_code, "has the store itself" in done.output) == (2, True)
    with pytest.raises(ConfigError, match="was released"):
        open_in_use(old / "gateway.db", START)


def test_a_released_store_is_used_again_if_no_new_controller_started(old: Path) -> None:
    world = World(old / "gateway.db")
    relay(world, 1)
    world.store.close()
    assert "wait for the utility: 0" in release(old).output, "it has drained, and needs no copy"
    assert release(old, "--undo").exit_code == 0
    open_in_use(old / "gateway.db", START)[0].close()


def test_a_store_that_is_missing_or_was_not_released_is_refused(old: Path) -> None:
    done = release(old, "--undo")
    assert (done.exit_code, "was not released" in done.output) == (2, True)
    (old / "gateway.db").unlink()
    done = release(old)
    assert (done.exit_code, "no store there" in done.output) == (2, True)
    assert not (old / "gateway.db").exists()
