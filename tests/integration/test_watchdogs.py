"""Stuck parts, and connections without messages, in real processes: detected, counted, and repaired or ended."""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from commonwatt.identity.devices import load_tokens
from commonwatt.model.effects import Publish
from commonwatt.network import mqtt
from commonwatt.runtime.watchdog import EXIT_STUCK
from gateway.controller import HEARTBEAT_S
from harness.network.mqtt import link_of
from harness.network.proxy import Fate, Message, Proxy, Way
from harness.network.waiting import become, cancelled, ended, eventually
from harness.real import forks
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
STORES = {"gateway": "/gateway/store/", "utility": "/utility/database/", "meters": "/commonwatt/device/store"}
QUICK = "import commonwatt.runtime.watchdog as w; w.LOOK_EVERY_S = 0.1; w.STUCK_AFTER_S = 1.5; w.END_AFTER_S = 3.0"
IMPATIENT = "import {0} as s; s.WATCH_EVERY_S = 0.2; s.QUIET_S = s.HEAD_END_QUIET_S = 0.5; s.LINK_SILENT_S = 1.0"

ALL = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN) as it:
        yield it


def start(site: Site, name: str, first: str) -> None:
    """Start a part with shorter time-outs, which have no setting."""
    part = site.layout.part(name)
    command = [sys.executable, "-c", f"{first}; from commonwatt.cli.main import main; main()", *part.command[3:]]
    site.processes[name] = forks.start(command, part.log)
    eventually(lambda: site.status(name) is not None)


def stored(site: Site) -> int:
    status = site.status("utility") or {"microgrids": {"r001": {"received_slots": 0}}}
    return int(status["microgrids"]["r001"]["received_slots"])


def test_systemd_hears_of_each_service(site: Site, tmp_path: Path) -> None:
    names = ("head-end", "r001 gateway", "r001 meters", "utility")
    with ExitStack() as stack:
        ears = {name: stack.enter_context(closing(start_as_systemd_does(site, name, tmp_path))) for name in names}
        for name, ear in ears.items():
            # It needs neither network nor other parts to start.
            # On a busy machine that may take longer than a period of its watchdog.
            while (first := ear.recv(500)) == b"WATCHDOG=1":
                pass
            assert first.startswith(b"READY=1\nSTATUS="), site.log(name)
            assert [ear.recv(500), ear.recv(500)] == [b"WATCHDOG=1"] * 2
        for name, ear in ears.items():
            process = site.processes.pop(name)
            process.send_signal(signal.SIGTERM)
            while (last := ear.recv(500)) == b"WATCHDOG=1":
                pass
            assert last == b"STOPPING=1"
            assert ended(process, 10) == 0, site.log(name)


def start_as_systemd_does(site: Site, name: str, folder: Path) -> socket.socket:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(folder / name)
    ear.bind(address)
    ear.settimeout(60)
    part = site.layout.part(name)
    with part.log.open("ab") as log:
        site.processes[name] = subprocess.Popen(
            part.command,
            stdout=log,
            stderr=log,
            env=os.environ | {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"},
        )
    return ear


def test_a_writer_that_hangs_ends_its_process_and_nothing_acknowledged_is_lost(site: Site) -> None:
    site.start("head-end", "r001 broker")
    hanging = {"r001 gateway": "r001/gateway.db", "r001 meters": "r001/meters.db", "utility": "utility/utility.db"}
    for name in hanging:
        start(site, name, QUICK)
    eventually(lambda: stored(site) > 50)
    before = stored(site)
    with ExitStack() as locks:
        for path in hanging.values():
            # Another connection locks the file: a commit waits longer than the watchdog.
            lock = locks.enter_context(closing(sqlite3.connect(site.folder / path, isolation_level=None)))
            lock.execute("BEGIN EXCLUSIVE")
        eventually(lambda: all(site.processes[name].poll() is not None for name in hanging))
    for name in hanging:
        assert site.processes.pop(name).wait() == EXIT_STUCK, site.log(name)
        assert "has made no progress for 1.5 s; all threads:" in site.log(name)
        assert STORES[name.removeprefix("r001 ")] in site.log(name)
    site.start(*hanging)
    eventually(lambda: stored(site) > before + 50)
    site.stop("r001 meters")
    eventually(lambda: (site.status("r001 gateway") or {})["backlog"]["parts"] == 0)
    site.stop("r001 gateway", "utility")
    audit = sound(site.folder)
    assert audit.total("stored_exact") > before


def deaf_at_first(site: Site, name: str, key: str) -> Proxy:
    """Put a proxy before the broker a part names under ``key``: its first connection receives no messages."""
    part = site.layout.part(name)
    host, port = site.address(name, key)
    proxy = Proxy((host, port))

    def judge(message: Message) -> Fate:
        return Fate.DROP if message.way is Way.DOWN and proxy.connections == 1 else Fate.PASS

    proxy.judge = judge
    proxy.start()
    part.config.write_text(part.config.read_text().replace(f"{host}:{port}", proxy.address))
    return proxy


def test_a_broker_that_takes_everything_and_passes_on_nothing_is_connected_to_again(site: Site) -> None:
    with ExitStack() as proxies:
        for name, key in (("r001 gateway", "broker"), ("r001 gateway", "head_end"), ("utility", "head_end")):
            proxies.enter_context(closing(deaf_at_first(site, name, key)))
        site.start("head-end", "r001 broker", "r001 meters")
        start(site, "r001 gateway", IMPATIENT.format("gateway.links"))
        start(site, "utility", IMPATIENT.format("utility.assembly.head_ends"))
        eventually(lambda: stored(site) > 50)
        check_restarts(site)


def check_restarts(site: Site) -> None:
    for link in ("meters", "head_end"):
        sample = f'commonwatt_gateway_link_restarts_total{{link="{link}",reason="silent"}}'
        assert site.metric("r001 gateway", sample) >= 1
    assert site.metric("utility", 'commonwatt_utility_link_restarts_total{reason="silent"}') >= 1
    assert site.metric("utility", 'commonwatt_utility_stuck_total{what="loop"}') == 0


class Ear:
    """A gateway's link to a broker, through a proxy."""

    def __init__(self, site: Site, address: str) -> None:
        self.heard: list[bytes] = []
        self.fails = False
        token = load_tokens(site.folder / "r001" / "gateway-tokens.json")["r001"]
        self.link = link_of(
            address,
            token=token,
            subscribe="cw1/r001/d/+",
            on_message=lambda _, payload: self.heard.append(payload),
            on_connect=self.connected,
        )

    def connected(self) -> None:
        if self.fails:
            raise ValueError("injected")


async def with_link(ear: Ear) -> "asyncio.Task[None]":
    task = asyncio.create_task(ear.link.run())
    await become(lambda: ear.link.connected)
    assert ear.link.publish(Publish("cw1/r001/u/out", b"there"))
    return task


async def end(task: "asyncio.Task[None]") -> None:
    await cancelled(task)


def test_row_08_a_half_open_link_is_noticed_within_two_heartbeats(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # The keepalive is one heartbeat; a link ends after two of them. Here 1 s stands for 60.
    assert mqtt.KEEPALIVE_S <= HEARTBEAT_S
    monkeypatch.setattr(mqtt, "KEEPALIVE_S", 1)
    site.start("head-end")

    async def play(proxy: Proxy) -> None:
        ear = Ear(site, proxy.address)
        task = await with_link(ear)
        proxy.darken()
        asked = asyncio.get_running_loop().time()
        await become(lambda: ear.link.restarts["half_open"])
        assert asyncio.get_running_loop().time() - asked >= 1
        proxy.heal()
        await become(lambda: ear.link.connects == 2)
        await end(task)

    with Proxy(site.address("head-end")) as proxy:
        asyncio.run(play(proxy))


def test_row_27_an_exception_in_a_callback_is_counted_and_the_link_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "KEEPALIVE_S", 1)
    site.start("head-end")

    async def play() -> None:
        ear = Ear(site, "{}:{}".format(*site.address("head-end")))
        ear.fails = True
        task = await with_link(ear)
        assert ear.link.failures == 1
        assert ear.link.connected, "a listener's fault is not the connection's"
        client = ear.link._client
        assert client is not None
        # Paho itself fails, perhaps within a packet: the connection is made anew.
        client._packet_handle = lambda: [][0]  # type: ignore[method-assign]
        ear.fails = False
        client._send_pingreq()
        await become(lambda: ear.link.restarts["failed"] and ear.link.connects == 2)
        assert ear.link.failures == 2
        # The same is true of its timers.
        client = ear.link._client
        assert client is not None
        client.loop_misc = lambda: [][0]  # type: ignore[method-assign]
        await become(lambda: ear.link.connects == 3)
        assert ear.link.failures == 3
        assert not task.done()
        await end(task)

    asyncio.run(play())
