"""Work in a process of its own, with low priority, that ends with the process that started it.

For long work of a service that keeps a core busy: the service goes on with everything else, and a stop ends the work
at once. The work's module has a ``main`` that calls ``work_of_child``.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from commonwatt.model.exceptions import CommonwattError, StoreError

NICE = 10  # how much lower the work's priority is than the service's priority

_FAILED = 2


async def in_child(module: str, task: Mapping[str, object]) -> str:
    """Run a module as a process, and return what it printed; a cancellation kills the process.

    Args:
        module: The module; it calls ``work_of_child``.
        task: What is to be done, as JSON; it goes through a pipe, so that it may have passwords.

    Raises:
        StoreError: The work failed; the text is its error.
    """
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        child.stdin.write(json.dumps(task).encode() + b"\n")
        # The pipe stays open: its end tells the child that this process is gone.
        said, errors = await asyncio.gather(child.stdout.read(), child.stderr.read())
        code = await child.wait()
    finally:
        child.stdin.close()
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if code:
        words = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreError(words or f"{module} ended with code {code}")
    return said.decode(errors="replace").strip()


def work_of_child(work: Callable[[Mapping[str, object]], str]) -> None:
    """Do the task that the starting process sent, and print the result.

    Args:
        work: Does the task, and returns a line for the starting process.
    """
    with suppress(PermissionError):  # A sandbox may forbid it; the work is the same without.
        os.nice(NICE)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        print(work(task))
    except CommonwattError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(_FAILED)


def _end_with_parent() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)
