"""The utility's part in takeovers, running: beats and messages of controllers come in, grants go out (R7, R10).

What is granted is committed before a message says so. Beats and probes wait for no commit; but while commits fail,
beats are not answered, so that the controllers watch each other instead.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from commonwatt.clique.beats import Beat
from commonwatt.clique.cliques import Clique, CliqueFile, load_cliques, parties
from commonwatt.clique.datagrams import CliqueSocket
from commonwatt.clique.messages import CliqueMessage
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import Clock
from utility.cliques.cliques import Cliques, Out, StepOutcome
from utility.cliques.grants import Grants, Handover, KeptGrant
from utility.cliques.store import keep_orders, load_granted, registered, save
from utility.database.base import SQLAlchemyError, SqliteError
from utility.database.database import Database
from utility.webkit.services import Api

TICK_S = 0.5  # real seconds between two looks at what is due
SLOW_S = 3.0  # real seconds of a commit after which beats are not answered
RETRY_S = 1.0  # real seconds until a failed commit is tried again
# Messages, and lines of history, that wait for a commit; the oldest are dropped. The rules repeat messages.
MOST_MESSAGES = 1_000

log = logging.getLogger(__name__)


class GrantsJob:
    """Watches the controllers, and grants.

    Args:
        file: The groups, with their keys.
        database: Where what is granted is kept.
        clock: The service's clock, for the history.
        write: Runs a function that writes on a thread for writes.
        time: Returns the time of a clock that never goes back, real seconds.
    """

    def __init__(
        self,
        file: CliqueFile,
        database: Database,
        clock: Clock,
        *,
        write: Callable[..., Awaitable[Any]],
        time: Callable[[], float],
    ) -> None:
        self.failed: Callable[[Exception], object] = lambda _: None  # called with the error of a failed commit
        self._database, self._clock, self._write, self._time = database, clock, write, time
        with database.writes.begin() as connection:
            known = registered(connection)
            file = file.model_copy(update={"groups": tuple(g for g in file.groups if _is_registered(g, known))})
            keep_orders(connection, {name: order for group in file.groups for name, order in group.orders.items()})
            kept, now = load_granted(connection), time()
        ranks = [{other.name: other.rank for other in group.others} for group in file.groups]
        grants = [Grants(g.orders, each, kept, now) for g, each in zip(file.groups, ranks, strict=True)]
        self.groups = Cliques(grants, now)
        self.socket = CliqueSocket(UTILITY, 0, parties(file), self._beat, self._message, time)
        self._granted: dict[MicrogridId, KeptGrant] = {}
        self._handovers: list[Handover] = []
        self._messages: deque[Out] = deque(maxlen=MOST_MESSAGES)
        self._saving: asyncio.Task[None] | None = None
        self._began: float | None = None  # when the running commit began
        self._retry_at = 0.0
        self._fails = False
        self._was_able = True

    async def open(self, listen: str) -> None:
        """Receive datagrams at HOST:PORT.

        Raises:
            OSError: The address is in use, or no address of this machine.
        """
        await self.socket.open(listen)

    def close(self) -> None:
        """Receive and send no more; a running commit ends by itself."""
        self.socket.close()
        if self._saving is not None:
            self._saving.cancel()

    async def tick(self) -> None:
        """Do what is due."""
        is_able = self._is_able
        if is_able and not self._was_able:
            # The controllers may have decided by themselves meanwhile.
            self.groups.away(self._time())
        self._was_able = is_able
        self._do(self.groups.tick(self._time()))

    def heartbeat(self, sender: ControllerId, manages: dict[MicrogridId, Epoch] | None) -> None:
        """Take in a heartbeat; see ``Cliques.heartbeat``."""
        self._do(self.groups.heartbeat(sender, manages, self._time()))

    def deposed(self, sender: ControllerId, microgrid: MicrogridId, epoch: Epoch) -> None:
        """Take in that a controller was deposed; see ``Cliques.adopt``."""
        self._do([self.groups.adopt(sender, microgrid, epoch, self._time())])

    def stopped(self) -> dict[ControllerId, str]:
        """Return the groups whose rules failed; see ``Cliques.stopped``."""
        return self.groups.stopped(self._time())

    def unmanaged(self) -> dict[MicrogridId, float]:
        """Return the microgrids without a manager that is heard; see ``Cliques.unmanaged``."""
        return self.groups.unmanaged(self._time())

    def managed_by_others(self) -> dict[MicrogridId, tuple[ControllerId, float]]:
        """Return who manages the microgrids of others; see ``Cliques.managed_by_others``."""
        return self.groups.managed_by_others(self._time())

    def _beat(self, group: int, sender: ControllerId, beat: Beat) -> None:
        self._do([self.groups.beat(group, sender, beat, self._time())])

    def _message(self, group: int, sender: ControllerId, message: CliqueMessage) -> None:
        self._do([self.groups.message(group, sender, message, self._time())])

    @property
    def _is_able(self) -> bool:
        """Whether this is the active utility, and no commit waits for a standby."""
        return self._database.is_active() and not self._database.waits()

    @property
    def _commits(self) -> bool:
        """Whether the database takes what is granted, of this utility."""
        is_slow = self._began is not None and self._time() - self._began > SLOW_S
        return not self._fails and not is_slow and self._is_able

    def _do(self, outcomes: Iterable[StepOutcome]) -> None:
        for outcome in outcomes:
            if outcome.failed is not None:
                log.error("the rules of a clique failed: it is granted nothing", exc_info=outcome.failed)
            for out in outcome.beats:
                if self._commits:
                    self.socket.send(out.group, out.done)
            self._granted |= outcome.granted
            self._handovers += outcome.handovers
            self._messages.extend(outcome.messages)
        is_due = self._granted or self._handovers or self._messages
        if is_due and self._saving is None and self._time() >= self._retry_at:
            self._saving = asyncio.get_running_loop().create_task(self._perform())

    async def _perform(self) -> None:
        """Commit what is to be kept, then send the messages, until nothing is left or a commit fails."""
        try:
            while self._granted or self._handovers or self._messages:
                if not await self._keep():
                    return
        finally:
            self._saving = None

    async def _keep(self) -> bool:
        kept, handovers, messages = self._granted, self._handovers, list(self._messages)
        self._granted, self._handovers = {}, []
        self._messages.clear()
        if kept or handovers:
            try:
                self._began = self._time()
                await self._write(self._save, kept, handovers)
            except (SQLAlchemyError, SqliteError, OSError) as error:
                self._failed(error, kept, handovers)
                return False
            finally:
                self._began = None
            if self._fails:
                # The controllers may have decided by themselves meanwhile.
                self._fails = False
                self.groups.away(self._time())
                return True
        for out in messages if self._is_able else ():
            self.socket.send(out.group, out.done)
        return True

    def _save(self, kept: dict[MicrogridId, KeptGrant], handovers: list[Handover]) -> None:
        self._database.write(save, kept, handovers, int(self._clock.now()))

    def _failed(self, error: Exception, kept: dict[MicrogridId, KeptGrant], handovers: list[Handover]) -> None:
        """Keep what is to be committed; the messages are dropped, since the rules repeat them."""
        self._granted = kept | self._granted
        self._handovers = (handovers + self._handovers)[-MOST_MESSAGES:]
        self._messages.clear()
        self._fails, self._retry_at = True, self._time() + RETRY_S
        self.failed(error)


def cliques_of(path: Path) -> CliqueFile:
    """Read the utility's file of cliques.

    Raises:
        ConfigError: The file is missing, or not the utility's.
    """
    file = load_cliques(path)
    if file.own != UTILITY:
        raise ConfigError(f"{path}: is the file of {file.own}, not of the utility; install the utility's bundle")
    return file


def unmanaged_of(api: Api) -> dict[MicrogridId, float]:
    """Return the microgrids without a manager that is heard, as the running service sees them."""
    job: GrantsJob | None = api.parts.get(GrantsJob)
    return {} if job is None else job.unmanaged()


def _is_registered(group: Clique, known: Collection[ControllerId]) -> bool:
    missing = {*group.members, *group.orders} - set(known)
    if missing:
        log.error("%s: not registered here; nothing is granted to its group until a start after that", min(missing))
    return not missing
