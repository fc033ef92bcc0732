"""What is called at periods: stopping in the middle of a call is no failure, a call that fails is one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from commonwatt.runtime.ticker import Ticker


async def _tick(work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Tick until ``work`` has begun, stop in the middle of it, and say how many calls failed."""
    ticker, begun = Ticker(), asyncio.Event()
    ticker.every("work", 0.05, work, begun)
    ticker.start()
    await asyncio.wait_for(begun.wait(), 10)
    ticker.stop()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # The scheduler hears of an ended call by a callback.
    return ticker.failures


async def _waits(begun: asyncio.Event) -> None:
    begun.set()
    await asyncio.Event().wait()


async def _fails(begun: asyncio.Event) -> None:
    begun.set()
    raise RuntimeError("no good")


def test_a_stop_in_the_middle_of_a_call_leaves_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert asyncio.run(_tick(_waits)) == 0
    assert caplog.text == ""


def test_a_stop_before_the_first_step_of_a_call_leaves_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def stopped_at_once() -> tuple[int, int]:
        ticker, begun, due = Ticker(), asyncio.Event(), 0

        def count() -> None:
            nonlocal due
            due += 1

        ticker.steps.step = count  # type: ignore[method-assign]
        ticker.every("work", 1000, _waits, begun)
        ticker.start()
        ticker.clock_jumped(0)
        ticker.stop()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not begun.is_set()
        return due, ticker.failures

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(stopped_at_once()) == (1, 0)
    assert caplog.text == ""


def test_a_call_that_fails_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert asyncio.run(_tick(_fails)) == 1
    assert "no good" in caplog.text


def test_tickers_of_different_phases_tick_apart_also_after_a_jump_of_the_clock() -> None:
    async def nothing() -> None:
        """Do nothing."""

    def apart_s(tickers: list[Ticker]) -> float:
        first, second = (ticker._scheduler.get_job("job").next_run_time for ticker in tickers)
        return float((second - first).total_seconds() % 60)

    async def play() -> None:
        tickers = [Ticker(), Ticker(0.5)]
        for ticker in tickers:
            ticker.start()
            ticker.every("job", 60, nothing)
        assert apart_s(tickers) == pytest.approx(30, abs=10)
        for ticker in tickers:
            ticker.clock_jumped(3600)
        assert apart_s(tickers) == pytest.approx(30, abs=10)
        for ticker in tickers:
            ticker.stop()

    asyncio.run(play())


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.99])
def test_a_call_of_a_longer_period_comes_with_one_of_the_shortest(phase: float) -> None:
    async def nothing() -> None:
        """Do nothing."""

    def share_of_a_period(ticker: Ticker) -> float:
        often, seldom = (ticker._scheduler.get_job(name).next_run_time for name in ("often", "seldom"))
        assert seldom >= often
        return float((seldom - often).total_seconds() % 5)

    async def play() -> None:
        ticker = Ticker(phase)
        for name, period_s in (("often", 5), ("seldom", 60)):
            ticker.every(name, period_s, nothing)
        ticker.start()
        assert share_of_a_period(ticker) == 0
        ticker.clock_jumped(3600)
        assert share_of_a_period(ticker) == 0
        ticker.stop()

    asyncio.run(play())
