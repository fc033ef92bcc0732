"""A gateway whose store was deleted while it runs, and one whose store takes long to open."""

import asyncio
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

import gateway.loop.hosted_store
import gateway.loop.work
from commonwatt.config.settings import GatewaySettings
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.registry import Controller, Registry, save_registry
from gateway.shell import Shell, run_gateway
from gateway.store.opened_file import GoneError
from gateway.store.recovery import Recovery, open_checked, replace
from gateway.store.store import Store
from harness.surroundings.gateway import START, World, readings, registered


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    registry = Registry(microgrid="r001", controller=Controller(number=1, address="10.0.0.1"), meters=(registered(1),))
    save_registry(tmp_path / "registry.json", registry)
    (tmp_path / "tokens.json").write_text('{"r001": "a token"}')
    return GatewaySettings(
        microgrid="r001",
        store=tmp_path / "data" / "gateway.db",
        registry=tmp_path / "registry.json",
        tokens=tmp_path / "tokens.json",
        commit_s=0,
        http=None,
    )


def test_a_store_that_is_gone_stays_open_until_it_is_written_anew(
    settings: GatewaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.loop.work, "REOPEN_AFTER_S", 0)
    settings.store.parent.mkdir()
    work = Shell.open(settings, Clock(origin=START, monotonic_origin=0, speed=0))._work
    world = World(tmp_path / "other.db")
    monkeypatch.setattr(world, "store", work.own.store)
    world.new_core()
    assert world.put(1, 1, readings(1, 1, 20)).accepted
    acknowledged = list(work.own.store.all_parts(unsent_only=False))
    shutil.rmtree(settings.store.parent)
    failures = 0

    def failing(*arguments: object) -> object:
        nonlocal failures
        failures += 1
        if failures == 4:
            settings.store.parent.mkdir()  # A person makes the folder again.
        return replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gateway.loop.hosted_store, "replace", failing)
    with pytest.raises(GoneError) as gone:
        work.own.store.commit([])
    asyncio.run(asyncio.wait_for(work.reopen("r001", gone.value), 20))
    assert failures == 4
    assert list(work.own.store.all_parts(unsent_only=False)) == acknowledged
    with sqlite3.connect(settings.store) as db:
        assert db.execute("SELECT count(*) FROM part").fetchone() == (len(acknowledged),)
    db.close()
    work.own.store.close()


def test_the_loop_goes_on_while_a_store_is_opened_or_replaced(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the watchdog ends the process in the midst of a long recovery, which begins again at each start."""
    monkeypatch.setattr(gateway.loop.work, "REOPEN_AFTER_S", 0)
    settings.store.parent.mkdir()
    alive = threading.Event()
    opened = 0

    def slowly(path: Path, now: int) -> tuple[Store, Recovery | None]:
        nonlocal opened
        assert alive.wait(10), "the loop stands still"
        opened += 1
        alive.clear()
        return open_checked(path, now)

    monkeypatch.setattr(gateway.loop.hosted_store, "open_in_use", slowly)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        stop.set()
        loop.call_soon(alive.set)
        await run_gateway(settings, stop, Watchdog(Notifier({})))
        loop.call_soon(alive.set)
        shell = await asyncio.to_thread(Shell.open, settings, Clock(origin=START, monotonic_origin=0, speed=0))
        loop.call_soon(alive.set)
        await shell._work.reopen("r001", sqlite3.OperationalError("disk I/O error"))
        shell._work.own.store.close()

    asyncio.run(play())
    assert opened == 3
