"""A process that does the utility's jobs step by step: between two steps another one may act, and it may pause or die.

It does what ``utility.jobs.runner`` does, in the world's time.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, TypeAlias

from sqlalchemy.exc import OperationalError

from commonwatt.model.exceptions import StoreError
from harness.world.utility import UtilityNode
from utility.jobs.plans import Plan, Threads
from utility.jobs.store import LEASE_S, NotYetError, Turn, finish, give_back, postpone, renew, take

Work: TypeAlias = Callable[[Turn], Awaitable[None]]

LOOK_S = 60  # seconds between two looks at what is due


class _Pause:
    """A moment in which others may act."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def _later(work: Callable[..., Any], *arguments: object) -> Any:
    await _Pause()
    return work(*arguments)


class JobProcess:
    """One of the processes.

    Args:
        utility: The service beside which it runs.
        works: Returns the jobs, and what they do.
        finished: What is done: (past of the database, job, period).
    """

    def __init__(
        self,
        utility: UtilityNode,
        works: Callable[[Threads], Sequence[tuple[Plan, Work]]],
        finished: set[tuple[int, str, str]],
        name: str,
        rng: random.Random,
    ) -> None:
        self.pause_s = 0.0  # how long it will pause in the middle of its next decision
        self._paused_until = 0.0
        self._utility, self._finished, self._name, self._rng = utility, finished, name, rng
        self._wrong_s = rng.choice((0, 0, -20, 20))  # its clock's error beside the other's
        self._works = works(Threads(read=_later, write=_later))
        self._doing: Coroutine[Any, Any, None] | None = None
        self._turn: Turn | None = None
        self._renewed = 0
        utility.later(rng.uniform(0, LOOK_S), self._look)

    def kill(self) -> None:
        """Forget what it was doing."""
        if self._doing is not None:
            self._doing.close()
            self._doing = None

    def _now(self) -> int:
        return self._utility.clock() + self._wrong_s

    def _look(self) -> None:
        self._utility.later(LOOK_S, self._look)
        if self._doing is None:
            self._doing = self._all()
            self._step()

    def _step(self) -> None:
        """Go on, unless it pauses or was killed; renew the lease."""
        world = self._utility.world
        if self._doing is None:
            return
        if world.time < self._paused_until:
            self._utility.later(self._paused_until - world.time, self._step)
            return
        try:
            if self._turn is not None and self._now() - self._renewed >= LEASE_S / 3:
                self._renew(self._turn)
            self._doing.send(None)
            self._utility._point()
        except StopIteration:
            self._doing = None
        except (StoreError, OperationalError) as error:
            self._utility.refused(type(error).__name__)
            self.kill()
        else:
            self._utility.later(self._rng.uniform(0.01, 0.2), self._step)

    def _renew(self, turn: Turn) -> None:
        self._renewed = self._now()
        self._utility.database.write(renew, turn, self._renewed)

    async def _all(self) -> None:
        for plan, work in self._works:
            # A job that catches up waits for a clock that is trusted.
            if not (plan.catch_up and self._utility.offset):
                await self._do(plan, work)

    async def _do(self, plan: Plan, work: Work) -> None:
        write = self._utility.database.write
        self._turn = turn = write(take, plan, self._now())
        if turn is None:
            return
        self._renewed = turn.now
        if plan.catch_up:
            self._paused_until, self.pause_s = self._utility.world.time + self.pause_s, 0.0
        try:
            await work(turn)
            await _Pause()
            write(finish, turn, self._now(), 0)
        except NotYetError as error:
            write(postpone, turn, str(error), error.until)
            return
        except (StoreError, OperationalError) as error:
            self._utility.refused(type(error).__name__)
            write(give_back, turn, self._now(), "the store")
            return
        finally:
            self._turn = None
        key = self._utility.branch, turn.job, turn.period.name
        # Only a job that catches up decides; others may do a period again when a clock is set back.
        if plan.catch_up and key in self._finished:
            self._utility.world.fail(f"M2: decided twice: {turn.job} of {turn.period.name}")
        self._finished.add(key)
        self._utility.world.story.count(f"{turn.job} done")
