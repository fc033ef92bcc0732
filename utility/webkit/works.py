"""Long work that a person starts by a page or the API: one of a kind at a time, beside the service's loop.

Nothing of it is stored until its end, when it writes in one transaction: after a kill it is gone, and is started again.
No kind waits for another one, so that replays of days never keep a clerk from making bills.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from threading import Lock, Thread
from typing import Annotated, Any

from pydantic import Field

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.units import EpochSeconds
from utility.webkit.columns import Time

MAX_OPEN = 4  # most works of a kind that wait or run, one a person
MAX_KEPT = 12  # works of a kind whose results are kept; a preview of the town takes some megabytes

log = logging.getLogger(__name__)


class WorkKind(StrEnum):
    """What works are; each kind has places of its own."""

    BILLS = "run of bills"
    PREVIEW = "preview"
    REPLAY = "replay"
    RELEASE = "release"


class WorkState(StrEnum):
    """The state of a work."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class LongWork:
    """A long work."""

    id: str  # its id
    kind: WorkKind  # the kind whose places it takes
    what: str  # what is made, for people
    person: str  # who started it
    started: Time  # when
    state: WorkState = WorkState.WAITING  # its state
    done: Annotated[int, Field(description="Meters done so far.")] = 0
    whole: Annotated[int, Field(description="All meters; 0: not known yet.")] = 0
    path: str = ""  # the page that shows the result
    result: Any = None  # the result; ``None``: there is none yet, or it is stored
    fault: str = ""  # why it failed; of one that runs: who cancelled it, so that it stops at its next step

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (WorkState.WAITING, WorkState.RUNNING)


Progress = Callable[[int, int], object]  # called with the meters done and all meters
Job = Callable[[Progress], tuple[str, Any]]
"""Does a work; returns the page that shows its result (``{id}`` in it is the work's id), and the result."""


class Works:
    """The works of one service."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._works: OrderedDict[str, LongWork] = OrderedDict()
        self._jobs: dict[str, Job] = {}  # of works that wait
        self._running: set[WorkKind] = set()  # kinds that have a thread

    def start(self, kind: WorkKind, what: str, person: str, now: EpochSeconds, job: Job) -> LongWork:
        """Begin a work; it runs after those of its kind before it.

        Raises:
            ConfigError: The person has an open one of this kind, or too many people have; says what to do.
        """
        work = LongWork(id=secrets.token_hex(8), kind=kind, what=what, person=person, started=now)
        with self._lock:
            same = [each for each in self._works.values() if each.kind is kind]
            taken = [each for each in same if each.is_open]
            if own := next((each for each in taken if each.person == person), None):
                hint = f"wait for it, or cancel it on its page, /console/works/{own.id}"
                raise ConfigError(f"your {kind} of before, {own.what}, is not done: {hint}")
            if len(taken) >= MAX_OPEN:
                raise ConfigError(f"{MAX_OPEN} other people have a {kind} in work; try again when one is done")
            for old in [each for each in same if not each.is_open][: max(0, len(same) + 1 - MAX_KEPT)]:
                del self._works[old.id]
            self._works[work.id], self._jobs[work.id] = work, job
            if kind not in self._running:
                self._running.add(kind)
                # It ends with the process: what it has not written by then was not begun.
                Thread(target=self._run, args=(kind,), name=f"works: {kind}", daemon=True).start()
        return work

    def cancel(self, work_id: str, person: str) -> None:
        """Cancel a work: one that waits at once, one that runs at its next step, unless it is done before.

        Raises:
            ConfigError: It is another person's, or not open.
        """
        with self._lock:
            work = self._works.get(work_id)
            if work is None or not work.is_open or work.person != person:
                raise ConfigError("a work is cancelled by the person who started it, while it waits or runs")
            state = WorkState.FAILED if self._jobs.pop(work_id, None) else WorkState.RUNNING
            self._works[work_id] = replace(work, state=state, fault=f"{person} cancelled it")

    def find(self, work_id: str) -> LongWork | None:
        """Return a work; ``None``: there is none, or it is too old, or the service was started again since."""
        with self._lock:
            return self._works.get(work_id)

    def newest(self) -> list[LongWork]:
        """Return the works that are kept, the newest first."""
        with self._lock:
            return list(reversed(self._works.values()))

    def _run(self, kind: WorkKind) -> None:
        while True:
            with self._lock:
                work_id = next((each for each in self._jobs if self._works[each].kind is kind), None)
                if work_id is None:
                    self._running.discard(kind)
                    return
                job = self._jobs.pop(work_id)
                self._works[work_id] = replace(self._works[work_id], state=WorkState.RUNNING)
            try:
                path, result = job(partial(self._progress, work_id))
                self._change(work_id, state=WorkState.DONE, path=path.replace("{id}", work_id), result=result, fault="")
            except CommonwattError as error:
                self._change(work_id, state=WorkState.FAILED, fault=str(error))
            except Exception:
                log.exception("a work failed")
                self._change(work_id, state=WorkState.FAILED, fault="the service failed; its log says why")

    def _progress(self, work_id: str, done: int, whole: int) -> None:
        if fault := self._change(work_id, done=done, whole=whole).fault:
            raise CommonwattError(fault)

    def _change(self, work_id: str, **changes: Any) -> LongWork:
        with self._lock:
            work = self._works[work_id] = replace(self._works[work_id], **changes)
        return work
