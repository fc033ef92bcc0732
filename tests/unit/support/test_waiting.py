"""Waiting for a process to end: its own time is limited, the machine's load is not its fault."""

import os
import subprocess
import sys

import pytest

from harness.network.waiting import ended

WORK = "import time\nwhile time.process_time() < 0.4: pass"


def test_a_process_without_a_processor_for_a_while_is_in_time() -> None:
    processor = min(os.sched_getaffinity(0))
    crowd = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    working = subprocess.Popen([sys.executable, "-c", WORK])
    try:
        for process in (*crowd, working):
            os.sched_setaffinity(process.pid, {processor})
        assert ended(working, 1.0) == 0
    finally:
        for process in crowd:
            process.kill()
            process.wait()


def test_a_process_that_takes_too_long_is_an_error_and_is_not_left_behind() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    with pytest.raises(AssertionError, match=r"not ended within 0\.5 s"):
        ended(process, 0.5)
    assert process.poll() is not None
