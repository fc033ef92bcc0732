"""Run a part by its real command, and kill it before a commit, or right after it.

``main`` takes the arguments PART WHEN NTH run --config FILE. The process prints the NTH step of PART that has the
change in ``MATTERS``, then kills itself by SIGKILL, ``before`` the commit, or ``after`` it and before publishing.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

from commonwatt.cli.main import main as commonwatt
from commonwatt.model import effects
from commonwatt.model.effects import Publish, Write

LEAVES_WITHIN_S = 0.3  # real seconds in which a message published wrongly before the commit would be sent

When = Literal["before", "after"]

SHELLS = {
    "gateway": "gateway.loop.hosted_store",
    "utility": "utility.readings.ingest",
    "meters": "commonwatt.device.shell",
}
"""The module in which each part performs its effects."""

MATTERS = {"gateway": "Cover", "utility": "Append", "meters": "Delete"}
"""The change that a step must have to count: a gateway stores records, the utility stores a batch, a meter deletes
acknowledged records."""


def failing_perform(part: str, when: When, nth: int) -> Callable[..., Awaitable[None]]:
    """Return a ``commonwatt.model.effects.perform`` that kills the process at the ``nth`` step that counts."""
    seen = 0

    async def perform(
        some: Iterable[Any], commit: Callable[[list[Any]], Awaitable[None]], publish: Callable[[Publish], object]
    ) -> None:
        nonlocal seen
        step = list(some)
        changes = [effect.change for effect in step if isinstance(effect, Write)]
        matter = [change for change in changes if type(change).__name__ == MATTERS[part]]
        seen += bool(matter)

        async def last_commit(changes: list[Any]) -> None:
            if when == "after":
                await commit(changes)
            else:
                await asyncio.sleep(LEAVES_WITHIN_S)
            _die(part, when, matter[0])

        # The real function performs the effects, so that a wrong order in it is found.
        await effects.perform(step, last_commit if matter and seen == nth else commit, publish)

    return perform


def _die(part: str, when: When, change: object) -> None:
    names = ("meter", "log", "generation", "first", "last", "last_id", "received")
    about = {name: int(getattr(change, name)) for name in names if hasattr(change, name)}
    print(f"{part} killed {when} the commit of {json.dumps(about)}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Patch the part's shell and run its command."""
    part, when, nth = sys.argv[1:4]
    shell = importlib.import_module(SHELLS[part])
    assert hasattr(shell, "perform"), f"{SHELLS[part]} performs no effects"
    shell.perform = failing_perform(part, "before" if when == "before" else "after", int(nth))  # type: ignore[attr-defined]
    sys.argv = ["commonwatt", part, *sys.argv[4:]]
    commonwatt()
