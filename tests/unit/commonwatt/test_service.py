"""How services start, call at periods, are stopped and end: exit codes, texts of errors, processes for long work."""

import asyncio
import ctypes
import gc
import logging
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

import commonwatt
import commonwatt.__main__
import utility
from commonwatt.model.exceptions import CommonwattError, ConfigError, ProtocolError, StoreError, text_of
from commonwatt.runtime.child import in_child
from commonwatt.runtime.service import (
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_USAGE,
    KEPT_ARRAY_BYTES,
    OFTEN,
    WAIT_S,
    errors_reported,
    keep_freed_memory,
    stop_told,
    wait_if_often,
)
from commonwatt.runtime.ticker import Ticker
from harness.network.waiting import become, eventually


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("a.toml: line 3"), EXIT_USAGE, "a.toml: line 3\n"),
        (StoreError("gateway.db is damaged"), EXIT_FAILED, "error: gateway.db is damaged\n"),
        (ProtocolError(1, "cut short"), EXIT_FAILED, "error: cut short\n"),
        (CommonwattError("could not"), EXIT_FAILED, "error: could not\n"),
        (OSError("address in use"), EXIT_FAILED, "error: address in use\n"),
        (PermissionError(1, "Not permitted"), EXIT_FAILED, "error: [Errno 1] Not permitted\n"),
        (FileNotFoundError(2, "No such file", "no.csv"), EXIT_USAGE, "no.csv: No such file\n"),
        (IsADirectoryError(21, "Is a directory", "site"), EXIT_USAGE, "site: Is a directory\n"),
        (ConfigError("two\nlines \x1b[2J\r"), EXIT_USAGE, "two\nlines \\x1b[2J\\x0d\n"),
        (CommonwattError("\x9b2J"), EXIT_FAILED, "error: \\x9b2J\n"),
        (FileNotFoundError(2, "No such file", "a\x07"), EXIT_USAGE, "a\\x07: No such file\n"),
        (OSError(28, "No space left on device", "a"), EXIT_FAILED, "error: [Errno 28] No space left on device: 'a'\n"),
    ],
)
def test_error_is_told_in_one_line_with_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, told: str
) -> None:
    with pytest.raises(SystemExit) as caught, errors_reported():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr() == ("", told)


def test_what_is_our_own_fault_shows_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_reported():
        raise ZeroDivisionError


def test_exit_codes_stay_what_scripts_rely_on() -> None:
    assert (EXIT_FAILED, EXIT_USAGE) == (1, 2)
    with errors_reported():
        pass


def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("commonwatt.cli.main.main", pressed)
    with pytest.raises(SystemExit) as ended:
        commonwatt.__main__.main()
    gc.enable()  # What it disables while modules load, a command enables.
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def waits(path: Path, starts: int) -> list[float]:
    waited: list[float] = []
    for _ in range(starts):
        wait_if_often(path, waited.append)
    return waited


def test_the_fifth_start_of_a_minute_waits_and_each_one_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "1")
    assert waits(tmp_path / "gateway.toml", OFTEN + 2) == [WAIT_S] * 3


def test_a_start_by_hand_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert waits(tmp_path / "gateway.toml", 20) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_of_starts_or_none_that_can_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "1")
    (tmp_path / "gateway.starts").write_text("[1, ")
    assert waits(tmp_path / "gateway.toml", 1) == []
    assert waits(tmp_path / "no such folder" / "gateway.toml", 1) == [WAIT_S], "it can't count, so it waits"


def test_an_interruption_is_reported_as_one_although_cleaning_up_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("the connection is closed")

    with pytest.raises(SystemExit) as ended, stop_told("stopped; nothing changed"):
        work()
    assert ended.value.code == EXIT_STOPPED
    assert capsys.readouterr().err == "stopped; nothing changed\n"


def test_an_error_of_its_own_is_not_an_interruption() -> None:
    with pytest.raises(OSError, match="full"), stop_told("stopped"):
        raise OSError("full")


FAULTS = f"""
import resource
import numpy as np
from commonwatt.runtime.service import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones({KEPT_ARRAY_BYTES} // 2, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_batch_s_arrays_are_not_given_back_to_the_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 10


def test_a_c_library_without_the_call_is_left_as_it_is() -> None:
    with patch("ctypes.CDLL", return_value=object()):
        assert not keep_freed_memory()


def every(base: type[CommonwattError]) -> Iterator[type[CommonwattError]]:
    for package in (commonwatt, utility):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "exceptions" in module.name or module.name.endswith(("altered", "client")):
                import_module(module.name)
    found = [base]
    while found:
        error = found.pop()
        yield error
        found += error.__subclasses__()


def test_no_error_class_of_ours_has_an_empty_text() -> None:
    # One that makes its words of its fields has them always.
    ours = [error for error in every(CommonwattError) if error is CommonwattError or "__str__" not in vars(error)]
    assert [error for error in ours if not str(error.__new__(error))] == []


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError(), EOFError(), OSError(" "), ValueError("odd")])
def test_an_error_without_words_is_called_by_its_class(error: Exception) -> None:
    assert text_of(error) in (type(error).__name__, "odd")


TASKS = "harness.child_tasks"


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie of somebody else."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_work_returns_its_line_or_its_error() -> None:
    assert asyncio.run(in_child(TASKS, {"do": "say", "what": "ümlaut"})) == "done ümlaut"
    with pytest.raises(StoreError, match=r"^the disk is gone$"):
        asyncio.run(in_child(TASKS, {"do": "fail"}))


def test_work_is_done_where_a_sandbox_forbids_another_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sandboxed_tasks.py").write_text(
        "import os\n"
        "from commonwatt.runtime.child import work_of_child\n"
        "from harness.child_tasks import do\n"
        "def refuse(_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.nice = refuse\n"
        "work_of_child(do)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    assert asyncio.run(in_child("sandboxed_tasks", {"do": "say", "what": "so"})) == "done so"


def test_work_ends_at_once_when_the_service_stops(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def play() -> None:
        working = asyncio.create_task(in_child(TASKS, {"do": "wait", "pid": str(file)}))
        await become(lambda: file.exists() and file.read_text())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(play())
    assert has_ended(int(file.read_text()))


def test_work_ends_when_the_service_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "import asyncio; from commonwatt.runtime.child import in_child; "
        f"asyncio.run(in_child({TASKS!r}, {{'do': 'wait', 'pid': {str(file)!r}}}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as service:
        eventually(lambda: file.exists() and file.read_text())
        os.kill(service.pid, signal.SIGKILL)
    pid = int(file.read_text())
    eventually(lambda: has_ended(pid))


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
