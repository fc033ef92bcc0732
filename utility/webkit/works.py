"""Long work that a person starts by a page or the API: one at a time, beside the service's loop, with its progress.

Nothing of it is stored until its end, when it writes in one transaction: after a kill it is gone, and is started again.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.units import EpochSeconds

MAX_OPEN = 4  # most works that wait or run
MAX_KEPT = 12  # works whose results are kept; a preview of the town takes some megabytes

log = logging.getLogger(__name__)


class State(StrEnum):
    """The state of a work."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Work:
    """A long work."""

    id: str  # its id
    what: str  # what is made, for people
    person: str  # who started it
    started: EpochSeconds  # when
    state: State = State.WAITING  # its state
    done: int = 0  # meters done so far
    whole: int = 0  # all meters; 0: not known yet
    path: str = ""  # the page that shows the result
    result: Any = None  # the result; ``None``: there is none yet, or it is stored
    fault: str = ""  # why it failed

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (State.WAITING, State.RUNNING)


Progress = Callable[[int, int], object]  # called with the meters done and all meters
Job = Callable[[Progress], tuple[str, Any]]
"""Does a work; returns the page that shows its result (``{id}`` in it is the work's id), and the result."""


class Works:
    """The works of one service."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._works: OrderedDict[str, Work] = OrderedDict()
        self._queue: SimpleQueue[tuple[str, Job]] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, what: str, person: str, now: EpochSeconds, job: Job) -> Work:
        """Begin a work; it runs after those before it.

        Raises:
            ConfigError: Too many wait already.
        """
        work = Work(id=secrets.token_hex(8), what=what, person=person, started=now)
        with self._lock:
            if sum(each.is_open for each in self._works.values()) >= MAX_OPEN:
                raise ConfigError(f"{MAX_OPEN} works are being done; try again when one of them is done")
            self._works[work.id] = work
            ended = [each.id for each in self._works.values() if not each.is_open]
            for old in ended[: max(0, len(self._works) - MAX_KEPT)]:
                del self._works[old]
            if self._thread is None:
                # It ends with the process: what it has not written by then was not begun.
                self._thread = Thread(target=self._run, name="works", daemon=True)
                self._thread.start()
        self._queue.put((work.id, job))
        return work

    def find(self, work_id: str) -> Work | None:
        """Return a work; ``None``: there is none, or it is too old, or the service was started again since."""
        with self._lock:
            return self._works.get(work_id)

    def newest(self) -> list[Work]:
        """Return the works that are kept, the newest first."""
        with self._lock:
            return list(reversed(self._works.values()))

    def _run(self) -> None:
        while True:
            work_id, job = self._queue.get()
            self._change(work_id, state=State.RUNNING)
            try:
                path, result = job(partial(self._progress, work_id))
                self._change(work_id, state=State.DONE, path=path.replace("{id}", work_id), result=result)
            except CommonwattError as error:
                self._change(work_id, state=State.FAILED, fault=str(error))
            except Exception:
                log.exception("a work failed")
                self._change(work_id, state=State.FAILED, fault="the service failed; its log says why")

    def _progress(self, work_id: str, done: int, whole: int) -> None:
        self._change(work_id, done=done, whole=whole)

    def _change(self, work_id: str, **changes: Any) -> None:
        with self._lock:
            self._works[work_id] = replace(self._works[work_id], **changes)
