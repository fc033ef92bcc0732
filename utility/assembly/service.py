"""The utility's service: one loop for the head-end connection, the API and periodic work (docs/architecture.md)."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from commonwatt.care import joining
from commonwatt.identity import renewing
from commonwatt.identity.devices import FIRST_LOGIN, local_key
from commonwatt.model.exceptions import StoreError
from commonwatt.model.time import MachineClocks, Trust
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import Expiry, server_context
from commonwatt.runtime.clock import Clock, machine_now, read_machine
from commonwatt.runtime.files import write_private
from commonwatt.runtime.metric_families import register_process
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.ticker import Ticker
from commonwatt.runtime.watchdog import Mark, Watchdog
from utility.access.store.access import first_invitation
from utility.alarms.conditions import Counting, DatabaseCounts, UtilityFacts
from utility.alarms.decisions import alarms_of
from utility.alarms.jobs import BEAT_S, notifier_of
from utility.alarms.metrics import own_alarms
from utility.assembly.application import make_app
from utility.assembly.head_ends import HeadEnds
from utility.assembly.jobs import ServiceJobs
from utility.assembly.metrics import UtilityMetrics
from utility.care.api.routes import care_of, enrolment_ends, requests_of
from utility.cliques.jobs import TICK_S as GRANTS_TICK_S
from utility.cliques.jobs import GrantsJob, cliques_of
from utility.cliques.metrics import takeover_metrics
from utility.collection.jobs import BalanceJob
from utility.control.decisions import send_due
from utility.database.base import SQLAlchemyError, SqliteError
from utility.database.database import Database, sqlite_path
from utility.database.health import DISK_FULL, NO_STANDBY, STORE_DAMAGED, Health
from utility.database.postgres.backups import LOOK_S as BACKUPS_LOOK_S
from utility.database.postgres.backups import Backups
from utility.lasting.jobs import EVERY_S, lasting_of
from utility.lasting.rules import Said
from utility.overview.microgrids import island_words
from utility.overview.store.town import microgrids
from utility.readings.ingest import Ingest
from utility.readings.metrics import gateways_said
from utility.settings import UtilitySettings
from utility.supply.metrics import plant_metrics
from utility.webkit.middleware import MAX_HEAD_BYTES, behind, bounded, only_ours, plain_cookies
from utility.webkit.services import Api

TOLERANCE_S = 1  # largest difference between the machine's clock and the service's that is not corrected, seconds

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ClockKeeper:
    """Keeps the service's clock equal to its machine's."""

    clock: Clock  # the service's clock
    is_right: bool  # the machine's clock is synchronized although its kernel reports that it is not
    trust: Trust | None = None  # how far gateways may trust the utility's time; ``None``: ``look`` was not called

    def look(self, machine: MachineClocks) -> Trust:
        """Follow the machine's clock; return its trust."""
        by_s = machine.wall - machine.raw
        if abs(by_s) > TOLERANCE_S:
            log.warning("the machine's clock is %+.0f s off the time here: following it", by_s)
            self.clock.follow(machine.wall)
        trust = Trust.NETWORK if self.is_right or machine.synchronised else Trust.NONE
        if trust is not self.trust:
            self.trust = trust
            if trust is Trust.NONE:
                log.error(
                    "the kernel reports that this machine's clock is not synchronized: gateways won't use its time;"
                    " start NTP, or if something else synchronizes it, set clock_is_right"
                )
            else:
                log.info("gateways may use this machine's time")
        return trust


# Threads that answer requests; each may hold a connection to the database with its cache. Further requests wait.
REQUEST_THREADS = 12
KEEP_S = 8  # real seconds for which a connection without a request is kept: pages ask every 5 s, and need no new one
POLL_S = 2  # clock seconds between two checks for commands to send
TICK_S = 15  # clock seconds between two checks for due jobs
# Real seconds between two checks, however fast the clock is: for commands and purchases, for all other jobs.
_SHORTEST_REAL_S, _SHORTEST_TICK_S, _SHORTEST_PROJECTION_S = 0.2, 0.5, 5
_GRACE_S = 1


class UtilityService:
    """The running service; it starts without a broker or a network."""

    def __init__(self, settings: UtilitySettings, clock: Clock, database: Database, token: str) -> None:
        self._settings = settings
        self._clock = clock
        self._database = database
        self._metrics = UtilityMetrics()
        database.count_damaged = self._metrics.readings.damaged.inc
        self._health = Health(sqlite_path(settings.database))
        self._health.waits = database.waits
        self._ingest = Ingest(
            database,
            clock=clock,
            metrics=self._metrics.readings,
            publish=lambda message: self._head_ends.publish(message),
            gap_age_s=settings.gap_age_s,
            health=self._health,
        )
        self._jobs = ServiceJobs(settings, database, clock, self._ingest, self._metrics)
        self._takeover = self._ingest.takeover = self._load_takeover()
        self._timekeeper = ClockKeeper(clock, is_right=settings.clock_is_right)
        self._look_at_clock()
        self._head_ends = HeadEnds(
            settings,
            token,
            self._ingest.offer,
            # While commits wait, this may be the old primary, and another utility active at the new one.
            may_connect=lambda: database.is_active() and not database.waits(),
            may_publish=database.is_active,
        )
        self._ticker = Ticker()
        mqtt = (path for path in (settings.certificate, settings.head_end_ca) if path is not None)
        http = () if settings.http_certificate is None else (settings.http_certificate,)
        self._expiries = {"mqtt": Expiry(*mqtt), "http": Expiry(*http)}
        self._api = Api(
            database=database,
            clock=clock,
            metrics=self._metrics,
            connected=lambda: any(self._head_ends.connected.values()),
            complaint=lambda: self._head_ends.complaint,
            refused=self._ingest.refused,
            health=self._health,
            settings=settings,
            local_key=local_key(token),
            queue_s=lambda: self._ingest.queue_s,
            head_ends=lambda: self._head_ends.connected,
        )
        if (takeover := self._takeover) is not None:
            self._api.parts[GrantsJob] = takeover
        self._api.parts[BalanceJob] = self._jobs.balance
        self._alarms = alarms_of(self._api, self._facts)
        self._notifier = notifier_of(self._api)
        self._counting = Counting(clock.now())
        self._care = care_of(settings, database, lambda: self._ingest.trust is Trust.NETWORK)
        self._troubles = list[str]()  # of the database, at the last poll
        self._saving: asyncio.Task[object] | None = None
        self._islands: dict[str, int] = {}  # the microgrids that are islands, and since when
        self._backups = self._load_backups()
        self._watch()

    def _watch(self) -> None:
        """Have the metrics of what the service consists of read at each scrape."""
        metrics, clock, database, ingest = self._metrics, self._clock, self._database, self._ingest
        metrics.watch_health(self._health.alarms)
        metrics.log_kept.set_function(lambda: float(database.log_kept_bytes()))
        metrics.active.set_function(lambda: float(database.is_active()))
        metrics.watch_disk(lambda: self._health.disk)
        metrics.watch_connection(
            lambda: self._head_ends.connected,
            restarts=lambda: self._head_ends.restarts,
            failures=lambda: self._head_ends.failures + self._ticker.failures,
            retained=lambda: self._head_ends.retained,
        )
        metrics.watch_gateways(
            lambda: gateways_said(ingest.silent_since, ingest.said, ingest.over_quota, clock.now()), ingest.registered
        )
        metrics.watch(lambda: plant_metrics(ingest.plant, clock.now()))
        if (takeover := self._takeover) is not None:
            metrics.watch(lambda: takeover_metrics(takeover.groups, takeover.socket.refused, time.monotonic()))
        metrics.watch_notifications(self._notifier.counts)
        if (care := self._care) is not None:
            metrics.watch(lambda: requests_of(care.counts))
        metrics.watch(lambda: own_alarms(self._alarms.own()))

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Run until ``stop``. Messages without a commit by then are unacknowledged, and their gateways send them again.

        Raises:
            OSError: The API's address is in use.
        """
        register_process(self._metrics.registry, "utility", watchdog)
        for name, mark in (("writer", self._ingest.writing.mark), ("jobs", self._jobs.reading.mark)):
            watchdog.watch(name, self._unless_waiting(mark))
        current_default_thread_limiter().total_tokens = REQUEST_THREADS
        server = _Server(_quiet(self._api, self._metrics, self._settings))
        scheme = "http" if self._settings.http_certificate is None else "https"
        with listen(self._settings.http) as sock:
            if self._takeover is not None and self._settings.beats is not None:
                await self._takeover.open(self._settings.beats)
            # Before the first answer: `commonwatt demo` shows the link when all parts answer.
            await asyncio.to_thread(self._invite_first, scheme)
            tasks: list[asyncio.Task[object]] = [
                asyncio.create_task(server.serve([sock]), name="the API"),
                *self._head_ends.start(),
                asyncio.create_task(self._ingest.run(), name="the ingest"),
            ]
            if self._care is not None:
                self._care.start()
            await self._see_to_alarms()  # Those that stood before the start are shown from the first page on.
            self._tick(watchdog)
            log.info("serving on %s://%s", scheme, self._settings.http)
            watchdog.ready(f"serving on {scheme}://{self._settings.http}")
            try:
                await until_stopped(stop, tasks)
            finally:
                self._ticker.stop()
                if self._takeover is not None:
                    self._takeover.close()
                if self._care is not None:
                    self._care.stop()
                server.should_exit = True
                await self._end(tasks)

    def _load_takeover(self) -> GrantsJob | None:
        """Return what grants microgrids to controllers; ``None``: no file names any."""
        if self._settings.cliques is None:
            return None
        # An SQLite file has one writer at a time.
        write = self._ingest.in_thread if self._database.has_one_writer else asyncio.to_thread
        job = GrantsJob(
            cliques_of(self._settings.cliques), self._database, self._clock, write=write, time=time.monotonic
        )
        job.failed = self._grants_failed
        return job

    def _load_backups(self) -> Backups | None:
        """Return what looks at pgBackRest's backups; ``None``: it is not used."""
        stanza = self._settings.backup.stanza
        return None if stanza is None else Backups(stanza, self._database.reads, self._metrics)

    async def _look_at_backups(self) -> None:
        if self._backups is not None:
            await asyncio.to_thread(self._backups.look)

    def _grants_failed(self, error: Exception) -> None:
        self._metrics.store_errors.inc()
        self._health.failed(error, "the storing of who manages a microgrid")

    def _invite_first(self, scheme: str) -> None:
        """Write the link with which the first administrator logs in to a file of this machine, while there is none."""
        path = self._settings.tokens.with_name(FIRST_LOGIN)
        try:
            secret = first_invitation(self._api.database, self._api.machine_s())
            if secret is None:
                path.unlink(missing_ok=True)
                return
            # Logs are copied and read by others; only this service's user and root read the file.
            write_private(path, f"{scheme}://{self._settings.http}/console/invitation/{secret}\n")
        except (SQLAlchemyError, SqliteError, OSError) as error:
            log.error("the first administrator could not be invited: %s", error)
        else:
            log.warning("no administrator can log in yet: open the link in %s, which works once", path)

    async def _end(self, tasks: list["asyncio.Task[object]"]) -> None:
        server, *others = tasks
        for task in others:
            task.cancel()
        await asyncio.wait([server], timeout=2 * _GRACE_S)
        server.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._jobs.close)
        await asyncio.to_thread(self._ingest.close)

    def _tick(self, watchdog: Watchdog) -> None:
        watchdog.watch("scheduler", self._unless_waiting(self._ticker.steps.mark))
        watchdog.on_jump.append(self._ticker.clock_jumped)
        for name, work, period_s, at_least_s in (
            ("poll", self._poll, POLL_S, _SHORTEST_REAL_S),
            ("supply", self._jobs.tick_supply, TICK_S, _SHORTEST_REAL_S),
            ("jobs", self._jobs.tick, TICK_S, _SHORTEST_TICK_S),
            ("files", self._jobs.tick_files, TICK_S, _SHORTEST_TICK_S),
            ("alarms", self._see_to_alarms, TICK_S, _SHORTEST_TICK_S),
            ("notify", self._notify, TICK_S, _SHORTEST_TICK_S),
            ("lasting", self._project, EVERY_S, _SHORTEST_PROJECTION_S),
        ):
            self._ticker.every(name, max(at_least_s, self._clock.real_s(period_s)), work)
        self._ticker.every("dead man", BEAT_S, lambda: asyncio.to_thread(self._notifier.beat))
        if self._backups is not None:
            self._ticker.every("backups", BACKUPS_LOOK_S, self._look_at_backups)
        if self._takeover is not None:
            self._ticker.every("grants", GRANTS_TICK_S, self._takeover.tick)
        self._ticker.start()

    def _unless_waiting(self, mark: Mark) -> Mark:
        """Return the progress of work as idle while commits wait for a synchronous standby: they must not be ended."""
        return lambda: None if self._database.waits() else mark()

    def _look_at_clock(self) -> None:
        """Follow the machine's clock, except in a demonstration, whose programs share one clock file."""
        demonstration = self._settings.clock is not None
        trust = Trust.NETWORK if demonstration else self._timekeeper.look(read_machine(self._clock))
        self._ingest.trust = trust
        self._metrics.clock_trusted.set(trust is Trust.NETWORK)

    async def _poll(self) -> None:
        self._look_at_clock()
        for use, expiry in self._expiries.items():
            self._metrics.certificate_expires(use, expiry.look())
        try:
            await self._ingest.poll(send_due)
        except (SQLAlchemyError, SqliteError, OSError) as error:
            self._metrics.store_errors.inc()
            self._health.failed(error, "the reading of commands")
        if (troubles := self._health.alarms()) != self._troubles:  # Such as a full disk: pages say it at once.
            self._troubles = troubles
            self._alarms.look()

    async def _see_to_alarms(self) -> None:
        """Look which of the utility's own alarms stand; a damaged database is one of them."""
        alarms = self._alarms
        self._count_lately()
        try:
            if not self._health.damaged:
                await asyncio.to_thread(alarms.count)
        except (SQLAlchemyError, SqliteError, OSError) as error:
            self._health.failed(error, "the reading of alarms")
        # A commit may wait for a standby: the next look, which finds that, must not wait for it.
        if alarms.look() and not self._health.alarms() and (self._saving is None or self._saving.done()):
            self._saving = asyncio.create_task(self._save_alarms(), name="the alarms")

    async def _notify(self) -> None:
        """Call people for alarms."""
        try:
            await asyncio.to_thread(self._notifier.look, int(self._clock.now()))
        except (SQLAlchemyError, SqliteError, OSError) as error:
            self._health.failed(error, "who was called for alarms")

    async def _project(self) -> None:
        """Project how long the town and its microgrids last, and score islands."""
        lasting = lasting_of(self._api)
        try:
            facts = await asyncio.to_thread(self._database.read, microgrids, int(self._clock.now()))
            said = [Said(one.microgrid, one.heartbeat, one.boundary != 0) for one in facts if not one.is_closed]
            self._islands = {one.microgrid: one.boundary_since or 0 for one in facts if island_words(one, 0)}
            await asyncio.to_thread(lasting.look, said)
            await self._ingest.in_thread(lasting.score, said)
        except (SQLAlchemyError, SqliteError, OSError, StoreError) as error:
            self._health.failed(error, "how long microgrids last")

    async def _save_alarms(self) -> None:
        try:
            await self._ingest.in_thread(self._alarms.save)
        except (SQLAlchemyError, SqliteError, OSError) as error:
            self._health.failed(error, "the storing of alarms")

    def _count_lately(self) -> None:
        """Take the counters and figures whose past is an alarm."""
        metrics, said = self._metrics, self._ingest.said
        moves = {} if self._takeover is None else self._takeover.groups.moves
        self._counting.look(
            metrics.readings.watched()
            | metrics.jobs.watched()
            | {("handovers", name): times for name, times in moves.items() if times},
            {name: each.backlog_parts + each.backlog_events + each.backlog_letters for name, each in said.items()},
            metrics.rest.value("gaps_open_blocks"),
            metrics.rest.value("conflicting_slots"),
            self._clock.now(),
        )

    def _facts(self, counted: DatabaseCounts | None) -> UtilityFacts:
        """Return the service's state for its own alarms."""
        now, plant, disk, alarms = self._clock.now(), self._ingest.plant, self._health.disk, self._health.alarms()
        expiries: dict[str, float | None] = {use: expiry.look() for use, expiry in self._expiries.items()}
        expiries["enrolment"] = None if self._care is None else enrolment_ends(self._settings)
        left = lasting_of(self._api).left
        return UtilityFacts(
            head_ends=self._head_ends.connected,
            trusted=self._ingest.trust is Trust.NETWORK,
            silent_s={name: now - since for name, since in self._ingest.silent_since.items()},
            said=self._ingest.said,
            over_quota=self._ingest.over_quota,
            managed_by={} if self._takeover is None else self._takeover.managed_by_others(),
            unmanaged_s={} if self._takeover is None else self._takeover.unmanaged(),
            stopped={} if self._takeover is None else self._takeover.stopped(),
            islands={
                name: (now - since, left[name].first if name in left else None) for name, since in self._islands.items()
            },
            plant=None if plant is None else (now - plant[0], plant[1]),
            damaged=STORE_DAMAGED in alarms,
            full=DISK_FULL in alarms,
            waits=NO_STANDBY in alarms,
            disk=None if disk is None else (disk.free_bytes, disk.size_bytes),
            certificates={use: at - machine_now() for use, at in expiries.items() if at is not None},
            counted=counted or DatabaseCounts(),
            joins_refused=() if self._care is None else self._care.refusals(joining.PATH),
            past=self._counting.past,
            log_kept_bytes=self._database.log_kept_bytes(),
            backups_s={} if self._backups is None else self._backups.ages_s(machine_now()),
            archive_fails=self._backups is not None and self._backups.fails,
            renewals_refused=() if self._care is None else self._care.refusals(renewing.PATH),
            uncalled=self._notifier.failing,
        )


class _Server(uvicorn.Server):
    """A server that leaves signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield


def _quiet(api: Api, metrics: UtilityMetrics, settings: UtilitySettings) -> uvicorn.Config:
    certificate = settings.http_certificate
    # Bad requests are counted, not logged: with a line for each, any client could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    if certificate is not None:
        server_context(certificate)  # Raises an error that names the fault; uvicorn would not.
    app = make_app(api)
    return uvicorn.Config(
        behind(
            only_ours(
                plain_cookies(app) if settings.http_plain_text else app,
                {split_address(settings.http)[0].lower(), *settings.http_hosts},
            ),
            settings.http_proxies,
        ),
        proxy_headers=False,  # By default uvicorn trusts every program on this machine.
        http=bounded(metrics.http_cut.inc),
        ws="none",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=KEEP_S,
        ssl_certfile=certificate,
    )


def listen(address: str) -> socket.socket:
    """Return the socket on which the API listens.

    Raises:
        OSError: The address is in use, or can't be listened on.
    """
    host, port = split_address(address)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # An answer has two writes, its head and its body. Connections have this from their listening socket: without
        # it the body waits until the client acknowledges the head, 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise OSError(
            error.errno, f"can't listen on {address}: {error.strerror}; is another service running there?"
        ) from error
