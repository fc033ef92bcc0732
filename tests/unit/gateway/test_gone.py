"""A gateway whose store was deleted while it runs: what is still open is all there is."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

import gateway.shell
from commonwatt.clock import Clock
from commonwatt.config import GatewaySettings
from commonwatt.registry import Registry, save_registry
from gateway.salvage import replace
from gateway.shell import Shell
from gateway.store import GoneError
from tests.support.gateway_world import START, World, readings, registered


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    registry = Registry(microgrid="r001", number=1, address="10.0.0.1", meters=(registered(1),))
    save_registry(tmp_path / "registry.json", registry)
    (tmp_path / "tokens.json").write_text('{"r001": "a token"}')
    return GatewaySettings(
        microgrid="r001",
        store=tmp_path / "data" / "gateway.db",
        registry=tmp_path / "registry.json",
        tokens=tmp_path / "tokens.json",
    )


def test_a_store_that_is_gone_stays_open_until_it_is_written_anew(
    settings: GatewaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.shell, "REOPEN_AFTER_S", 0)
    settings.store.parent.mkdir()
    shell = Shell(settings, Clock(origin=START, monotonic_origin=0, speed=0))
    world = World(tmp_path / "other.db")
    monkeypatch.setattr(world, "store", shell._store)
    world.new_core()
    assert world.put(1, 1, readings(1, 1, 20)).accepted
    acknowledged = list(shell._store.all_parts(unsent_only=False))
    shutil.rmtree(settings.store.parent)
    failures = 0

    def failing(*arguments: object) -> object:
        nonlocal failures
        failures += 1
        if failures == 4:
            settings.store.parent.mkdir()  # A person makes the folder again.
        return replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gateway.shell, "replace", failing)
    with pytest.raises(GoneError) as gone:
        shell._store.commit([])
    asyncio.run(asyncio.wait_for(shell._reopen(gone.value), 20))
    assert failures == 4
    assert list(shell._store.all_parts(unsent_only=False)) == acknowledged
    with sqlite3.connect(settings.store) as db:
        assert db.execute("SELECT count(*) FROM part").fetchone() == (len(acknowledged),)
    db.close()
    shell._store.close()
