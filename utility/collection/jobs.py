"""The job that balances the lines: it gives meters other brokers, few at a time, and tells the managers (A2)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from commonwatt.model.units import ControllerId, EpochSeconds, MeterId
from utility.collection.balance import Order, OrderMove, balanced
from utility.collection.store import KnownMeter, give, load_meters, moved_since, wanted_orders
from utility.database.base import Connection
from utility.database.database import Database
from utility.jobs.plans import Threads
from utility.jobs.store import Turn
from utility.outbox.store import tell, to_tell

ALIVE_S = 180  # seconds after its last message for which a controller counts as heard: three heartbeats
# Seconds for which a controller is heard, or is not, before meters are moved for that: they move by themselves at once,
# and one that comes and goes is not loaded.
STEADY_S = 600
MOST_PERCENT = 5  # most meters of the town, in percent, that are moved within an hour


@dataclass(eq=False)
class BalanceJob:
    """Balances the lines."""

    database: Database  # the database
    threads: Threads  # where it reads and writes
    silent_since: Mapping[ControllerId, float]  # the time of each controller's last message, clock seconds
    _: KW_ONLY
    is_trusted: Callable[[], bool]  # returns whether the clock is synchronized
    # Whether each controller is heard, and since when.
    _heard: dict[ControllerId, tuple[bool, EpochSeconds]] = field(default_factory=dict)
    _began: EpochSeconds | None = None  # when it ran first

    async def run(self, turn: Turn) -> None:
        """Move meters; not soon after the start, when gateways are still coming back."""
        self._began = turn.now if self._began is None else min(self._began, turn.now)
        alive = self.alive(turn.now)
        if turn.now - self._began >= STEADY_S and alive and self.is_trusted():
            orders, is_due = await self.threads.read(self._plan, alive, turn.now)
            if is_due:
                await self.threads.write(self._write, orders, turn.now)

    def alive(self, now: EpochSeconds) -> set[ControllerId]:
        """Return the controllers that are heard, or were until a moment ago; without those that just came back."""
        heard = {}
        # A copy: the loop adds controllers while a request of the API reads. Closed ones are no longer among them.
        for name, time in dict(self.silent_since).items():
            is_heard = now - time <= ALIVE_S
            before, since = self._heard.get(name, (is_heard, 0))
            heard[name] = is_heard, since if before == is_heard and since <= now else now
        self._heard = heard
        return {name for name, (is_heard, since) in heard.items() if is_heard == (now - since >= STEADY_S)}

    def _plan(self, alive: set[ControllerId], now: EpochSeconds) -> tuple[dict[int, tuple[Order, str]], bool]:
        """Return the new orders by the meters' numbers, and whether there is anything to tell."""
        with self.database.reads.begin() as connection:
            known, moves = planned_moves(connection, alive, now)
            return _by_number(known, moves), bool(moves or to_tell(connection, wanted_orders(connection, now), now))

    def _write(self, orders: dict[int, tuple[Order, str]], now: EpochSeconds) -> None:
        with self.database.writes.begin() as connection:
            if orders:
                give(connection, orders, now)
            tell(connection, wanted_orders(connection, now), now)


def planned_moves(
    connection: Connection, alive: Collection[ControllerId], now: EpochSeconds
) -> tuple[Sequence[KnownMeter], Mapping[MeterId, OrderMove]]:
    """Return the meters that have a choice, and the moves that are allowed and wanted now."""
    known = load_meters(connection)
    most = max(1, len(known) * MOST_PERCENT // 100) - moved_since(connection, now - 3_600)
    return known, balanced([one.collected for one in known], alive, most)


def _by_number(known: Sequence[KnownMeter], moves: Mapping[MeterId, OrderMove]) -> dict[int, tuple[Order, str]]:
    chosen = ((one, moves.get(one.collected.meter)) for one in known)
    # Home first, and the others as installed, is no order of its own.
    return {
        one.no: (() if move.order == one.collected.installed else move.order, move.why)
        for one, move in chosen
        if move is not None
    }
