"""The utility in a simulated world: its ingest and its jobs, without sockets, threads and scheduler."""

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Connection, make_url, select, true
from sqlalchemy.exc import OperationalError

from commonwatt.codec.packing import pack
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Publish
from commonwatt.model.records import Log, RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, unsigned64
from commonwatt.protocol.dead_letters import LocalReason, quarantined_blocks
from commonwatt.town.town import Town
from harness.surroundings.databases import put_back
from harness.world import masks
from harness.world.ledger import Snapshot
from harness.world.network import Broker, Link, device
from harness.world.node import Node
from utility.database.database import Database, open_database, read_setting, save_setting
from utility.database.engines import make_engine
from utility.jobs.plans import Plan, Seconds
from utility.jobs.store import Turn, mark_done, take
from utility.outbox.changes import Append, OpenCommand, UtilityChange
from utility.outbox.store import open_commands
from utility.readings.core import CommandsOpen, Core, FromGateway, is_confirmed
from utility.readings.gaps import settled_before
from utility.readings.ingest import MAX_GROUP, MAX_QUEUED
from utility.readings.store.batches import execute
from utility.readings.store.compactor import Compactor
from utility.readings.store.dead_letters import dead_letter_of, is_in
from utility.readings.store.gaps import GapFinder
from utility.readings.store.parts import select_parts
from utility.readings.store.quarantine import QUARANTINED, release_confirmed
from utility.readings.store.quarters import newest_of_two
from utility.readings.store.writer import RUN, MovedError, Writer
from utility.readings.tables import dead_letter
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import load_snapshot

if TYPE_CHECKING:
    from harness.world.world import World

POLL_S = 30
TICK_S = 120
GAP_AGE_S = 600
COMPACT_S = 900


class UtilityNode(Node[UtilityChange]):
    """The utility's service."""

    world: "World"
    database: Database  # the database, which outlives a crash
    # Its error is far below a gateway's: two agreeing wrong clocks are trusted, and reject good readings as future.
    wrong_s: tuple[int, ...] = (-1_781_800_000, -7200, 7200, 172_800)
    max_waiting = MAX_QUEUED

    def __init__(self, world: "World", town: Town, head_end: Broker) -> None:
        super().__init__(world, "utility")
        # Its link to the head-end.
        self.link = Link(world, "utility-h", self, head_end, device("utility", DeviceRole.UTILITY))
        self.links = [self.link]
        self._town = town
        self._gaps_s = self.rng.choice((300, 900))
        self._marks_rng = random.Random(f"{world.seed}/marks")
        self._file = self.disk.folder / "utility.db"
        self.open_store()
        self._register()

    def open_store(self) -> None:
        if not self._file.exists():
            self._file.write_bytes(_registered(self._town))
        self.database = Database(make_engine(make_url(f"sqlite:///{self._file}")), 0)

    def close_store(self) -> None:
        self.database.close()

    def lose_store(self) -> None:
        """Begin with an empty store, registered anew."""
        self.lose_files()
        self._register()

    def _register(self) -> None:
        store_id = self.rng.getrandbits(62)
        self.branch = self.database.store_id = store_id  # the store's past, in the ledger
        with self.database.writes.begin() as connection:
            save_setting(connection, "store_id", str(store_id))
        self.world.ledger.new_utility(store_id)
        self.world.tell(self.name, f"a NEW STORE, {store_id}")

    def go_back(self, earlier: bytes, snapshot: Snapshot) -> None:
        """Put the store's earlier content back, without a word to the service, which may run."""
        with self._connected() as present:
            put_back(present, earlier)
        (held, _, *others), (held_then, _, *others_then) = self.world.ledger.snapshot(), snapshot
        if (held, others) == (held_then, others_then):
            return  # Nothing was stored since, for instance on a full disk; gateways may rely on more of it since.
        self.branch = self._marks_rng.getrandbits(62)
        self.world.ledger.went_back(self.branch, snapshot)
        self.world.tell(self.name, "its database WENT BACK")
        self.world.story.count("went back")

    def image(self) -> bytes:
        """Return the store's content."""
        with self._connected() as present, closing(sqlite3.connect(":memory:")) as copied:
            present.backup(copied)
            image = bytearray(copied.serialize())
        image[18:20] = b"\1\1"  # a database in memory can have no write-ahead log
        return bytes(image)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        raw = self.database.reads.raw_connection()
        try:
            yield raw.driver_connection  # type: ignore[misc]
        finally:
            raw.close()

    def build(self) -> None:
        """Make the core again; compare the store with the ledger."""
        with self.database.reads.begin() as connection:
            self.database.store_id = int(read_setting(connection, "store_id") or "0")
        self._writer = Writer(self.database, self._marks_rng.getrandbits)
        self._compactor = Compactor(self.database)
        self._finder = GapFinder(self.database)
        with self.database.reads.begin() as connection:
            newest = newest_of_two(connection)
            self.core = Core(self.database.store_id, load_snapshot(connection), GAP_AGE_S, newest)
        self._released_to: int | None = 0
        # Trusted also with a wrong clock: its time source may be wrong.
        self.world.ledger.check_utility(self.branch, self.holdings())

    def holdings(self) -> masks.Holdings:
        """Return the holdings read from the store, with what waits for a confirmed clock."""
        with self.database.reads.begin() as connection:
            rows = execute(connection, select_parts(lambda _: true())).all()
            waiting = is_in(QUARANTINED) & (dead_letter.c.reason == LocalReason.AHEAD)
            kept = [dead_letter_of(row).dead_letter for row in connection.execute(select(dead_letter).where(waiting))]
        parts = [((unsigned64(row.meter_id), row.record_type, row.quarter), row.payload) for row in rows]
        for one in kept:
            if one.log != Log.EVENT:
                blocks = quarantined_blocks(one, RecordType)
                assert blocks is not None
                parts += zip(blocks.keys(), pack(blocks), strict=True)
        return masks.of_parts(parts)

    def started(self) -> None:
        """Begin to tick."""
        self.later(self.rng.uniform(0, POLL_S), self._poll)
        self.later(self.rng.uniform(0, TICK_S), self._jobs)

    def _poll(self) -> None:
        self.later(POLL_S, self._poll)
        with self.database.reads.begin() as connection:
            waiting = self.open_commands(connection)
        self.trying(
            lambda: self.perform(
                self.core.handle(CommandsOpen(tuple(waiting)), Now(self.clock(), Trust.NETWORK)).effects
            )
        )

        self.trying(self._release)

    def _release(self) -> None:
        """Decide on what waited for the clock, once it is confirmed."""
        now = Now(self.clock(), Trust.NETWORK)
        if not is_confirmed(now):
            self._released_to = 0
        elif self._released_to is not None:
            latest = self.core.latest(now)
            self._released_to = release_confirmed(self.database, self.save, self._released_to, latest=latest, now=now)
            self._point()
            self.world.ledger.check_utility(self.branch, self.holdings())

    def open_commands(self, connection: Connection) -> list[OpenCommand]:
        """Return the commands without an outcome yet."""
        return open_commands(connection)

    def trying(self, work: Callable[[], None]) -> None:
        """Do work that is repeated if the store fails."""
        try:
            work()
        except (OperationalError, MovedError) as error:
            self.refused(error)

    def _jobs(self) -> None:
        self.later(TICK_S, self._jobs)
        self.trying(self._do_jobs)

    def _do_jobs(self) -> None:
        """Run due jobs; a crash may come between a job and its mark."""
        for name, period_s, run in self.jobs():
            now = self.clock()
            with self.database.writes.begin() as connection:
                turn = take(connection, Plan(name=name, does="", cadence=Seconds(period_s)), now)
            if turn is not None:
                run(turn)
                self._point()
                with self.database.writes.begin() as connection:
                    mark_done(connection, turn, now)

    def jobs(self) -> tuple[tuple[str, int, Callable[[Turn], None]], ...]:
        """Return the name, the period in seconds and the work of each job."""
        return (
            ("compact", COMPACT_S, lambda turn: self._compact(turn.now)),
            ("gaps", self._gaps_s, lambda turn: self._find_gaps(turn.now)),
        )

    def _compact(self, now: int) -> None:
        while (replacement := self._compactor.plan(now)) is not None:
            self._point()
            if not self._compactor.apply(replacement) and not replacement.damaged:
                return

    def _find_gaps(self, now: int) -> None:
        more = True
        while more:
            run = self._finder.plan(now, GAP_AGE_S)
            self._point()
            asked = self._finder.apply(run, now)
            if asked:
                self.world.tell(self.name, f"asks for {asked} blocks")
            more = run.more

    def find_gaps(self) -> int:
        """Compact, and run the gap finder; return the first quarter that is too young for it."""
        now = self.clock()
        self._compact(now + QUARTER_S)  # What is late waits in its batch until the batch's youngest quarter is over.
        self._find_gaps(now)
        return settled_before(now, GAP_AGE_S)

    def work(self) -> None:
        """Handle all waiting messages in one transaction; again, if it finds that the database is another."""
        group, self.waiting = self.waiting[:MAX_GROUP], self.waiting[MAX_GROUP:]
        try:
            self.take_in(group)
        except MovedError:
            self.trying(lambda: self.take_in(group))
        except OperationalError as error:
            self.refused(error.orig)

    def take_in(self, group: Sequence[tuple[str, str, bytes]]) -> None:
        """Decide on messages, commit, and publish the answers."""
        if self._writer.prepare():
            self.core.marks, self.core.store_id = self._writer.marks, self.database.store_id
            self.world.ledger.began(self._writer.marks.run)
        now = Now(self.clock(), Trust.NETWORK)
        steps = [self.core.handle(FromGateway(topic, payload), now) for _, topic, payload in group]
        for step in steps:
            self.world.story.count(f"utility {step.result}")
            if step.refused is not None:
                self.world.fail(f"I6: the utility refused a batch: {step.refused.text}")
        self.perform([effect for step in steps for effect in step.effects])
        for step in steps:
            if step.lost is not None:
                self._writer.notice(step.lost)
                self.core.store_id = self.database.store_id
                self.world.story.count("noticed")

    def commit(self, changes: Sequence[UtilityChange]) -> None:
        self._writer.commit(changes)
        for change in changes:
            if isinstance(change, Append):
                self.core.committed(change)

    def note(self, changes: Sequence[UtilityChange]) -> None:
        self.world.ledger.after_utility(self.branch, changes)

    def has(self, changes: Sequence[UtilityChange]) -> bool:
        del changes
        marks = self._writer.marks
        with self.database.reads.begin() as connection:
            return read_setting(connection, RUN) == f"{marks.run} {marks.counter}"

    def transmit(self, message: Publish) -> None:
        controller = message.topic.split("/")[1]
        self.link.send(message, self.world.gateways[controller].head_end)


_images: dict[int, bytes] = {}


def _registered(town: Town) -> bytes:
    """Return the image of a database with only the town's registry."""
    if id(town) not in _images:
        database = open_database("sqlite://", create=True)
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        raw = database.reads.raw_connection()
        _images[id(town)] = bytes(raw.driver_connection.serialize())  # type: ignore[union-attr]
        raw.close()
        database.close()
    return _images[id(town)]
