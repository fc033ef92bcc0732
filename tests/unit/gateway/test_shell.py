"""The gateway's shell without its connections: what becomes of a transaction that fails, and what is due at a start."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import new_token, save_tokens
from commonwatt.model.records import Log
from commonwatt.protocol.meter_messages import Put
from commonwatt.runtime.clock import load_clock
from commonwatt.town.registry import Controller, Registry, save_registry
from gateway.changes import Change, Setting
from gateway.controller import JOBS
from gateway.core import RETRY
from gateway.events import FromMeter, Tick
from gateway.loop import work as module
from gateway.shell import Shell
from gateway.store.store import Store
from harness.network.waiting import become
from harness.surroundings.gateway import end_work, readings, registered


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    names = {"store": "gateway.db", "tokens": "tokens.json", "registry": "registry.json"}
    paths = {name: tmp_path / file for name, file in names.items()}
    save_tokens(paths["tokens"], {"r001": new_token()})
    save_registry(
        paths["registry"], Registry(microgrid="r001", controller=Controller(number=1, address="10.0.0.1"), meters=())
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
        work, core = asyncio.create_task(shell._work.run(shell._schedule)), shell._controller.own
        shell._inbox.put(Tick("relay_s"))
        # Until then another thread has the store.
        await become(lambda: shell._controller.own is not core)
        shell._inbox.put(Tick(RETRY))
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
            shell._inbox.put(event)
        work = asyncio.create_task(shell._work.run(shell._schedule))
        await become(lambda: shell._work.own.store.period("compact_s") and shell._controller.own._done.get("relay_s"))
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
        work = asyncio.create_task(shell._work.run(shell._schedule))
        for meter in meters:
            rows = tuple(record.pack() for record in readings(meter, 1, 4))
            put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=4, records=rows)
            shell._inbox.put(FromMeter(f"cw1/r001/{meter}/u/rec", put.pack()))
        await become(lambda: len(done) > len(meters))
        await end_work(shell._work, work)

    monkeypatch.setattr(Store, "sync", noted)
    monkeypatch.setattr(shell._work, "_publish", lambda message: done.append(message.topic))
    asyncio.run(play())
    assert done[: 1 + len(meters)] == ["commit", *(f"cw1/r001/{meter}/d/ack" for meter in meters)]
    shell._work.own.store.close()
