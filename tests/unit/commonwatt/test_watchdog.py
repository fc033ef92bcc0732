"""The watchdog: what makes no progress is reported, counted, and ends the process; what was paused is left alone."""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.model.exceptions import CommonwattError
from commonwatt.runtime import watchdog as module
from commonwatt.runtime.metric_families import register_process
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import EXIT_STUCK, Watchdog, WorkProgress
from harness.network.waiting import become, eventually

QUICK = {"look_every_s": 0.01, "stuck_after_s": 0.2, "end_after_s": 3600.0}


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "notify"))
    sock.settimeout(10)
    return sock


def quiet() -> Watchdog:
    return Watchdog(Notifier({}), **QUICK)


def test_a_blocked_loop_is_told_with_its_stack_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = quiet()

    async def play() -> None:
        async with watchdog.watching():
            the_culprit(lambda: watchdog.stuck["loop"])
            await become(lambda: "loop goes on" in caplog.text)

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert watchdog.stuck == {"loop": 1}
    assert "loop has made no progress for 0.2 s" in caplog.text
    assert "in the_culprit" in caplog.text


def the_culprit(condition: object) -> None:
    eventually(condition)  # type: ignore[arg-type]


def test_work_that_hangs_is_noticed_and_work_that_goes_on_or_rests_is_not() -> None:
    watchdog = quiet()
    hanging, busy, resting = WorkProgress(), WorkProgress(), WorkProgress()
    for name, work in (("hanging", hanging), ("busy", busy), ("resting", resting)):
        watchdog.watch(name, work.mark)

    async def play() -> None:
        async with watchdog.watching():
            with hanging.step():
                while not watchdog.stuck["hanging"]:
                    with busy.step():
                        await asyncio.sleep(0.001)

    asyncio.run(play())
    assert [watchdog.stuck[name] for name in ("hanging", "busy", "resting")] == [1, 0, 0]


LOGS_FOR_EVER = """
import asyncio, logging
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog

async def play():
    async with Watchdog(Notifier({}), look_every_s=0.02, stuck_after_s=0.2, end_after_s=0.4).watching():
        while True:
            logging.error("x" * 1000)
            await asyncio.sleep(0)

logging.basicConfig()
asyncio.run(play())
"""


def test_a_process_whose_log_nobody_reads_any_more_is_ended_too() -> None:
    with subprocess.Popen([sys.executable, "-c", LOGS_FOR_EVER], stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(30) == EXIT_STUCK
        finally:
            process.kill()


def test_a_thread_that_ended_is_noticed() -> None:
    watchdog = quiet()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    watchdog.thread("http", thread)

    async def play() -> None:
        async with watchdog.watching():
            await become(lambda: watchdog.stuck["http"])

    asyncio.run(play())
    assert watchdog.stuck["http"] == 1


def test_a_clock_that_jumps_is_counted_and_told_and_one_that_runs_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = [1_790_000_000.0]
    seen: list[float] = []
    watchdog = quiet()
    watchdog.on_jump.append(seen.append)
    real = time.monotonic
    fake = SimpleNamespace(monotonic=real, time=lambda: wall[0] + real())
    monkeypatch.setattr(module, "time", fake)
    looks = watchdog.steps("nothing")

    async def play() -> None:
        async with watchdog.watching():
            await become(lambda: watchdog._drift is not None)
            wall[0] += 3600
            await become(lambda: len(seen) == 1)
            wall[0] -= 3600
            await become(lambda: len(seen) == 2)
            wall[0] += 1.5
            looks.step()
            await become(lambda: watchdog._watched["nothing"].looks > 3)

    asyncio.run(play())
    assert [round(by_s) for by_s in seen] == [3600, -3600]
    assert watchdog.jumps == 2


def test_an_exception_only_the_loop_catches_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = quiet()

    async def play() -> None:
        async with watchdog.watching():
            asyncio.get_running_loop().call_soon(lambda: [][0])
            await become(lambda: watchdog.failures)

    asyncio.run(play())
    assert "IndexError" in caplog.text
    registry = CollectorRegistry()
    register_process(registry, "gateway", watchdog)
    assert registry.get_sample_value("commonwatt_gateway_unhandled_exceptions_total") == 1
    assert registry.get_sample_value("commonwatt_gateway_stuck_total", {"what": "loop"}) == 0


def test_systemd_hears_of_the_start_and_a_pulse_only_while_everything_gets_on(
    systemd: socket.socket, tmp_path: Path
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
    watchdog = Watchdog(Notifier(environment), **QUICK)

    async def play() -> None:
        async with watchdog.watching():
            watchdog.ready("two meters")
            assert await asyncio.to_thread(systemd.recv, 100) == b"READY=1\nSTATUS=two meters"
            for _ in range(3):
                assert await asyncio.to_thread(systemd.recv, 100) == b"WATCHDOG=1"
            eventually(lambda: watchdog.stuck["loop"])
            drain(systemd)  # what was said before the loop stood still
            eventually(lambda: watchdog._watched["loop"].looks > 40)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)
            systemd.setblocking(True)
            assert await asyncio.to_thread(systemd.recv, 100) == b"WATCHDOG=1"
            watchdog.stopping()

    with systemd:
        asyncio.run(play())
        last = b""
        while last != b"STOPPING=1":
            last = systemd.recv(100)


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(100)


def test_an_abstract_socket_is_found_and_one_that_is_gone_is_no_reason_to_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0commonwatt-test-notify")
        sock.settimeout(10)
        there = Notifier({"NOTIFY_SOCKET": "@commonwatt-test-notify"})
        there.tell("READY=1")
        assert sock.recv(100) == b"READY=1"
    there.tell("READY=1")
    assert "systemd did not receive READY=1" in caplog.text
    assert there.watchdog_s is None


def test_a_watchdog_meant_for_another_process_is_not_fed() -> None:
    assert Notifier({"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "0"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_s == 30


def test_a_part_that_ends_by_itself_ends_the_service() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    async def ending() -> None:
        return

    async def play(part: Coroutine[None, None, None]) -> None:
        await until_stopped(asyncio.Event(), [asyncio.create_task(part, name="the part")])

    with pytest.raises(ZeroDivisionError):
        asyncio.run(play(failing()))
    with pytest.raises(CommonwattError, match="the part ended by itself; start the service again"):
        asyncio.run(play(ending()))


def test_a_task_that_ends_as_told_is_no_fault() -> None:
    async def play() -> None:
        stop = asyncio.Event()
        stop.set()
        await until_stopped(stop, [asyncio.create_task(asyncio.sleep(0))])
        assert stop.is_set()

    asyncio.run(play())
