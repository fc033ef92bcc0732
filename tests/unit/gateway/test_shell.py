"""The gateway's shell without its connections: transactions that fail, starts, a store that is gone or slow."""

import asyncio
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

import gateway.loop.hosted_store
import gateway.loop.work
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import new_token, save_tokens
from commonwatt.model.effects import Publish
from commonwatt.model.records import Log
from commonwatt.protocol.meter_messages import Put, unpack_put_ack
from commonwatt.runtime.clock import Clock, load_clock
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.registry import RegisteredController, Registry, save_registry
from gateway.controller import JOBS
from gateway.core import RETRY
from gateway.events import FromMeter, Tick
from gateway.loop import work as module
from gateway.shell import Shell, run_gateway
from gateway.store.changes import Change, Setting
from gateway.store.recovery import Recovery, open_checked, replace
from gateway.store.store import GoneError, Store
from harness.network.waiting import become
from harness.surroundings.gateway import START, World, end_work, readings, registered


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    names = {"store": "gateway.db", "tokens": "tokens.json", "registry": "registry.json"}
    paths = {name: tmp_path / file for name, file in names.items()}
    save_tokens(paths["tokens"], {"r001": new_token()})
    save_registry(
        paths["registry"],
        Registry(microgrid="r001", controller=RegisteredController(number=1, address="10.0.0.1"), meters=()),
    )
    settings = GatewaySettings.model_validate({"microgrid": "r001", "http": None, **paths})
    return Shell.open(settings, load_clock(None))


def test_a_relay_whose_batch_could_not_be_stored_goes_when_the_store_is_open_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REOPEN_AFTER_S", 0.0)
    write = Store.write
    failed: list[int] = []

    def fail_once(store: Store, changes: list[Change]) -> None:
        # The batch's: that the relay's period is done was noted by then.
        if not failed and any(isinstance(change, Setting) and change.key == "starts" for change in changes):
            failed.append(shell._controller.own._done["relay_s"])
            raise sqlite3.OperationalError("disk I/O error")
        write(store, changes)

    async def play() -> None:
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        core = shell._controller.own
        shell._inbox.queue(Tick("relay_s"))
        # Until then another thread has the store.
        await become(lambda: shell._controller.own is not core)
        shell._inbox.queue(Tick(RETRY))
        await become(lambda: shell._controller.own.relay.counts.batches["sent"])
        await end_work(shell._work, work)

    monkeypatch.setattr(Store, "write", fail_once)
    asyncio.run(play())
    assert failed[0]
    assert shell._work.own.store.setting("starts") == "1"
    shell._work.own.store.close()


def test_a_gateway_started_again_and_again_within_a_period_does_what_is_due(shell: Shell) -> None:
    async def play() -> None:
        shell._schedule()
        shell._schedule()
        waiting = shell._inbox.take()
        assert [event for event in waiting if isinstance(event, Tick)] == [Tick(job) for job in JOBS]
        for event in waiting:
            shell._inbox.queue(event)
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        await become(lambda: shell._work.own.store.period("compact_s") and shell._controller.own._done.get("relay_s"))
        await end_work(shell._work, work)

    asyncio.run(play())
    shell._work.own.store.close()


def test_a_meter_that_was_registered_just_now_is_served_by_its_first_message(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Publish] = []
    monkeypatch.setattr(shell._work, "_publish", sent.append)
    controller = RegisteredController(number=1, address="10.0.0.1")

    async def play() -> None:
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        for kind in (3, 2):  # the second time a battery is placed at the same meter
            meters = (registered(1, battery=kind == 2),)
            save_registry(tmp_path / "registry.json", Registry(microgrid="r001", controller=controller, meters=meters))
            (record,) = readings(1, 1, 1, kind=kind)
            put = Put(log=Log.HISTORY, generation=kind, first_id=1, last_id=1, records=(record.pack(),))
            sent.clear()
            shell._inbox.queue(FromMeter("cw1/r001/1/u/rec", put.pack()))
            await become(lambda: [each for each in sent if each.topic.endswith("/ack")])
            (ack,) = (unpack_put_ack(each.payload) for each in sent if each.topic.endswith("/ack"))
            assert ack.accepted
            assert not ack.rejected
        await end_work(shell._work, work)

    asyncio.run(play())
    shell._work.own.store.close()


def test_puts_that_waited_are_acknowledged_after_their_one_commit(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters = (1, 2, 3)
    shell._controller.own.register({meter: registered(meter) for meter in meters})
    monkeypatch.setattr(shell._inbox, "_wait_s", 0.01)
    done: list[str] = []
    sync = Store.sync

    def noted(store: Store) -> None:
        sync(store)
        done.append("commit")

    async def play() -> None:
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        for meter in meters:
            rows = tuple(record.pack() for record in readings(meter, 1, 4))
            put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=4, records=rows)
            shell._inbox.queue(FromMeter(f"cw1/r001/{meter}/u/rec", put.pack()))
        await become(lambda: len(done) > len(meters))
        await end_work(shell._work, work)

    monkeypatch.setattr(Store, "sync", noted)
    monkeypatch.setattr(shell._work, "_publish", lambda message: done.append(message.topic))
    asyncio.run(play())
    assert done[: 1 + len(meters)] == ["commit", *(f"cw1/r001/{meter}/d/ack" for meter in meters)]
    shell._work.own.store.close()


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    registry = Registry(
        microgrid="r001", controller=RegisteredController(number=1, address="10.0.0.1"), meters=(registered(1),)
    )
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
