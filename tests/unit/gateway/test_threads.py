"""Threads for disks: one that hangs keeps no other one waiting."""

import asyncio
import threading

import pytest

import gateway.loop.threads as module
from gateway.loop.threads import Threads
from harness.network.waiting import become


def test_calls_that_hang_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_S", 0.01)
    answers = threading.Event()

    async def play() -> None:
        threads = Threads()
        hanging = [asyncio.create_task(threads.run(answers.wait)) for _ in range(2 * module.AT_ONCE)]
        assert await asyncio.wait_for(threads.run(lambda: "done"), 60) == "done"
        assert not any(each.done() for each in hanging)
        answers.set()
        assert all(await asyncio.gather(*hanging))

    asyncio.run(play())


def test_a_failure_reaches_the_caller_and_the_thread_is_used_again() -> None:
    async def play() -> None:
        threads = Threads()
        with pytest.raises(OSError, match="no disk"):
            await threads.run(_fails)
        first = await threads.run(threading.current_thread)
        assert await threads.run(threading.current_thread) is first

    asyncio.run(play())


def _fails() -> None:
    raise OSError("no disk")


def test_a_call_whose_caller_is_cancelled_ends() -> None:
    begun, answers, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        answers.wait()
        ended.set()

    async def play() -> None:
        task = asyncio.create_task(Threads().run(call))
        await become(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answers.set()
        await become(ended.is_set)

    asyncio.run(play())
