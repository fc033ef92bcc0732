"""The gateway's shell: two MQTT connections, one store, one ticker, around the core.

One loop in a fixed order: take events from the inbox, call the core, commit, publish. Waiting events share one
transaction (group commit).
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Self

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Write, perform
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.ids import MeterId
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.clock import Clock, load_clock, read_machine
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.ticker import Ticker
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.runtime.watchdog_metrics import register_process
from commonwatt.sqlite.damage import SqliteError, is_damage, quarantined_before
from commonwatt.town.registry import RegisteredMeter, load_registry
from gateway.changes import Change
from gateway.collect.slot_allowance import SLOTS_A_MINUTE
from gateway.core import HEARTBEAT, RETRY, Gateway
from gateway.disk import Disk
from gateway.events import ClockJumped, Committed, Counted, Event, FromMeter, MachineRead, NotStored, Tick
from gateway.household.link import HouseholdLink
from gateway.inbox import Inbox
from gateway.links import Links
from gateway.lte_watch import LineWatch
from gateway.metrics import Figures, make_registry
from gateway.page.site import Site
from gateway.recent import ALARM_WINDOWS_S, Recent
from gateway.store.handover import open_in_use
from gateway.store.opened_file import GoneError
from gateway.store.recovery import Recovery, replace
from gateway.store.store import Store

log = logging.getLogger(__name__)

REOPEN_AFTER_S = 1.0  # real seconds between a failure of the store and opening it again

JOBS = ("collect_s", "levels_s", "relay_s", "compact_s", HEARTBEAT, RETRY)


class Shell:
    """One running gateway."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, disk: Disk, store: Store, meters: dict[MeterId, RegisteredMeter]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._inbox = Inbox(clock.real_s(settings.commit_s) if settings.commit_s else 0)
        self._figures = Figures()
        self._recent = Recent(time.monotonic())
        self._watchdog: Watchdog | None = None
        self._ticker = Ticker()
        self._ticking: dict[str, int] = {}
        self._view: dict[str, object] = {}
        self._backlog: dict[str, int] = {}
        self._registry_stamp = 0
        self._quarantined: str | None = None
        self._opening = False
        self._disk = disk
        self._store = store
        self._core = Gateway(settings, store, meters)
        self._line = LineWatch(settings.lte_interface)
        self._links = Links(settings, self._inbox.put, self._line.tally)
        household = settings.household
        self._household = None if household is None else HouseholdLink(household, settings.microgrid)

    @classmethod
    def open(cls, settings: GatewaySettings, clock: Clock) -> Self:
        """Open the store, or replace it if it is damaged, read the registry, and make the shell.

        Raises:
            ConfigError: A file it needs is missing or wrong.
            StoreError: Its store can't be opened.
        """
        disk = Disk(settings.store)
        disk.make_disk_space_to_open()
        opened = open_in_use(settings.store, int(clock.now()))
        stamp, meters = _load_registry(settings)
        shell = cls(settings, clock, disk, opened[0], meters)
        shell._opened(opened)
        shell._registry_stamp = stamp
        return shell

    def _opened(self, opened: tuple[Store, Recovery | None]) -> Store:
        """Record whether the store was replaced; return the store."""
        store, recovery = opened
        if recovery is not None:
            self._figures.quarantined += 1
            self._quarantined = str(recovery.quarantined)
        return store

    def _open_again(self, failure: Exception, *, gone: bool) -> Store:
        """Open the store after it failed; replace it if it is damaged, or if its file is gone."""
        path, now = self._settings.store, int(self._clock.now())
        if gone and not self._store.closed:
            # The open file is the only copy: it is closed only after the new store is written, even after failures.
            return self._opened(replace(path, now, "its file was deleted, moved or replaced", self._store))
        self._store.close()
        is_damaged = isinstance(failure, SqliteError) and is_damage(failure)
        return self._opened(replace(path, now, str(failure), None) if is_damaged else open_in_use(path, now))

    def _new_core(self) -> Gateway:
        self._registry_stamp, meters = _load_registry(self._settings)
        return Gateway(self._settings, self._store, meters)

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Run until ``stop`` is set; then store the last byte count of the line and close."""
        self._watchdog = watchdog
        self._read_machine()
        self._look_at_line()
        self._look()
        http = self._start_http(watchdog)
        tasks = [*self._links.start(), asyncio.create_task(self._work(), name="the work")]
        if self._household is not None:
            tasks.append(self._household.start())
        self._schedule()
        watchdog.watch("scheduler", self._ticker.steps.mark)
        watchdog.on_jump += [self._ticker.clock_jumped, self._clock_jumped]
        self._ticker.start()
        log.info(
            "gateway of %s: %d meters registered, store %s",
            self._settings.microgrid,
            len(self._core.manager.meters),
            self._settings.store,
        )
        watchdog.ready(f"gateway of {self._settings.microgrid}, {len(self._core.manager.meters)} meters registered")
        try:
            await until_stopped(stop, tasks)
        finally:
            self._ticker.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if http is not None:
                http.stop()
            if not self._opening:  # else another thread opens it, and the process's end closes it
                await self._last_look()
                self._store.close()

    def _start_http(self, watchdog: Watchdog) -> HttpServer | None:
        """Serve the metrics, the status and the page; ``None``: the settings have no address for them."""
        address = self._settings.http
        if address is None:
            return None
        registry = make_registry(lambda: self._core, self._counted, lambda: self._backlog)
        register_process(registry, "gateway", watchdog)
        site = Site(self._settings, lambda: self._view, time.monotonic)
        certificate = self._settings.http_certificate
        hosts = self._settings.http_hosts
        http = HttpServer(address, registry, lambda: self._view, hosts, pages=site.answer, certificate=certificate)
        watchdog.thread("http", http.start())
        return http

    async def _last_look(self) -> None:
        """Store the line's byte count since the last heartbeat, with the end of the connections."""
        self._inbox.clear()
        self._look_at_line()
        try:
            for event in self._inbox.take():
                await self._step(self._ask(event, int(self._clock.now())))
            await self._step(self._core.line.keep())
        except SqliteError as error:
            log.error(
                "store %s failed (%s): the LTE line's byte count since the last minute is lost",
                self._settings.store,
                error,
            )

    async def _work(self) -> None:
        """Take events from the inbox, call the core, commit and publish, in an endless loop."""
        while True:
            await self._inbox.filled()
            # The effects of a commit join the next group, so that each group is one commit.
            next_: list[Effect[Change]] = []
            while (group := self._inbox.take()) or next_:
                now = int(self._clock.now())
                try:
                    asked = next_ + [effect for event in group for effect in self._ask(event, now)]
                    if any(isinstance(effect, Write) for effect in asked):
                        group += (joined := self._inbox.join(len(group)))
                        asked += [effect for event in joined for effect in self._ask(event, now)]
                    await self._step(asked)
                    for change in self._core.modes.changes.take_unlogged():
                        log.info("%s: %s", self._settings.microgrid, change)
                    next_ = self._ask(Committed(), now) if group else []
                except SqliteError as error:
                    next_ = []
                    refused = [NotStored(event.topic, event.payload) for event in group if isinstance(event, FromMeter)]
                    refusals = [self._ask(event, now) for event in refused]
                    await self._step([effect for refusal in refusals for effect in refusal])
                    await self._reopen(error)
                    self._core.reopened(now)
                self._schedule()
                await asyncio.sleep(0)

    def _ask(self, event: Event, now: int) -> list[Effect[Change]]:
        """Call the core with one event; log and count an exception, so that other events continue."""
        try:
            return self._core.handle(event, now)
        except SqliteError:
            raise
        except Exception:
            self._figures.failures += 1
            log.exception("the core failed on %.200r", event)
            return []

    async def _step(self, effects: list[Effect[Change]]) -> None:
        await perform(effects, self._commit, self._links.publish)

    async def _commit(self, changes: list[Change]) -> None:
        self._store.commit(changes)
        self._figures.commits += 1

    async def _reopen(self, error: SqliteError) -> None:
        """Open the store again and make a new core from it; nothing of the failed step was acknowledged."""
        failure: Exception = error
        gone = isinstance(error, GoneError)
        self._opening = True
        self._disk.failed(error)
        while True:
            self._figures.store_failures += 1
            log.error("store %s failed (%s): nothing was acknowledged; opening it again", self._settings.store, failure)
            await asyncio.sleep(REOPEN_AFTER_S)
            try:
                self._store = await asyncio.to_thread(self._open_again, failure, gone=gone)
                self._core = self._new_core()
                self._disk.reopened(error, self._core)
            except (SqliteError, StoreError, ConfigError, OSError) as again:
                failure = again
            else:
                self._opening = False
                return

    def _schedule(self) -> None:
        """Set the ticker to the periods in force; the core decides which jobs are due."""
        for job in JOBS:
            every_s = self._core.tick_every_s(job)
            if self._ticking.get(job) != every_s:
                self._ticking[job] = every_s
                self._ticker.every(job, self._clock.real_s(every_s), self._tick, job)
                # Otherwise a gateway that restarts more often than the period would never run the job.
                self._inbox.put(Tick(job))

    async def _tick(self, job: str) -> None:
        if job == HEARTBEAT:
            self._look_at_line()
        self._inbox.put(Tick(job))
        if job == RETRY and not self._opening:
            # While another thread opens the store, this thread does not use it.
            self._read_machine()
            self._disk.look(self._core)
            self._look()
            self._reload_registry()
            self._show_household()

    def _look_at_line(self) -> None:
        """Queue the line's byte count for the core."""
        if (byte_count := self._line.look()) is not None:
            self._inbox.put(Counted(*byte_count))

    def _read_machine(self) -> None:
        """Queue a reading of the machine's clocks for the core, unless a demonstration has its own clock."""
        if self._settings.clock is None:
            self._inbox.put(MachineRead(read_machine(self._clock)))

    def _clock_jumped(self, by_s: float) -> None:
        del by_s  # The core requests the time again after a jump of any size.
        if self._settings.clock is None:
            self._inbox.put(ClockJumped())
            self._read_machine()

    def _look(self) -> None:
        """Replace the values that /metrics and /status show; their threads only read values that are replaced whole."""
        self._figures.certificate_expires = self._links.expiry.look()
        try:
            self._backlog = dict(zip(("parts", "events", "dead_letters"), self._store.backlog(), strict=True))
            now = int(self._clock.now())
            self._figures.used_bytes = self._store.used_bytes()
            self._figures.kept_quarantined = len(quarantined_before(self._settings.store))
            store = {
                "refusing": self._core.upkeep.short,
                "quarantined": self._quarantined,
                "damaged_rows": self._core.upkeep.damaged.total(),
                "kept_quarantined": self._figures.kept_quarantined,
                "disk_free_bytes": self._disk.free_bytes,
                "disk_bytes": self._disk.size_bytes,
            }
            links = self._links.each.items()
            connections = {
                "connected": {name: link.connected for name, link in links},
                "connection_failures": {name: link.complaint for name, link in links if link.complaint},
            }
            view = self._core.view(now) | {"queue_s": self._inbox.busy_s * self._clock.speed}
            self._figures.backlog_age_s = self._core.backlog_age_s(self._core.now)
            household = {} if self._household is None else {"household": self._household.status()}
            self._view = view | connections | {"store": store} | household | self._alarm_view()
            self._line.judge(self._core.line.month(now))
        except SqliteError as error:
            self._figures.store_failures += 1
            log.error("store %s can't be read (%s)", self._settings.store, error)
        for meter in self._core.collector.take_overfull():
            log.warning(
                "meter %d: its daily limit of rejected records is reached: further ones are only counted, and puts with"
                " implausible readings stay at the meter; see its dead letters; correct the device or the registry",
                meter,
            )
        for meter in self._core.collector.take_over_allowance():
            log.warning(
                "meter %d: it sends more than %d slots a minute: its puts are refused (BUSY), other meters' are not;"
                " check the device",
                meter,
                SLOTS_A_MINUTE,
            )

    def _alarm_view(self) -> dict[str, object]:
        """Return what the page's alarms need besides the core's view, as JSON."""
        figures, core, watchdog = self._counted(), self._core, self._watchdog
        counts = {
            "records": core.collector.counts.records.total(),
            "dropped_messages": figures.overflowed,
            "store_failures": figures.store_failures,
            "time_contradictions": core.time.counts.contradictions,
            "faults": figures.callback_failures + figures.failures + (0 if watchdog is None else watchdog.failures),
            "stuck": 0 if watchdog is None else watchdog.stuck.total(),
        }
        self._recent.look(counts, time.monotonic())
        expires = figures.certificate_expires
        return {
            "certificate_left_s": None if expires is None else int(expires - read_machine(self._clock).wall),
            "watched_s": self._recent.watched_s,
            "recent": {name: self._recent.increase(name, window_s) for name, window_s in ALARM_WINDOWS_S.items()},
        }

    def _show_household(self) -> None:
        """Publish what has changed of the household's place."""
        if self._household is None:
            return
        try:
            self._household.show(self._core.household.messages(self._core.now, self._household.version))
        except SqliteError as error:
            log.error(
                "store %s can't be read (%s): the household's state is not published", self._settings.store, error
            )

    def _reload_registry(self) -> None:
        """Load the registry again if its file changed; keep the old one if it can't be read."""
        try:
            if self._settings.registry.stat().st_mtime_ns != self._registry_stamp:
                self._registry_stamp, meters = _load_registry(self._settings)
                self._core.register(meters)
                log.info("registry read again: %d meters", len(self._core.manager.meters))
        except (ConfigError, OSError) as error:
            log.error("registry can't be read again, the old one stays in use: %s", error)

    def _counted(self) -> Figures:
        links = self._links.each
        self._figures.connected = sum(link.connected for link in links.values())
        self._figures.dropped = sum(link.dropped for link in links.values())
        self._figures.retained = sum(link.retained for link in links.values())
        self._figures.callback_failures = sum(link.failures for link in links.values()) + self._ticker.failures
        self._figures.link_restarts = {
            (name, reason): times for name, link in links.items() for reason, times in list(link.restarts.items())
        }
        self._figures.overflowed = self._inbox.overflowed
        self._figures.disk_free_bytes = self._disk.free_bytes
        self._figures.disk_bytes = self._disk.size_bytes
        self._figures.month = self._line.month
        return self._figures


def _load_registry(settings: GatewaySettings) -> tuple[int, dict[MeterId, RegisteredMeter]]:
    """Return the modification time of the registry's file, nanoseconds, and the registry's meters."""
    path: Path = settings.registry
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    registry = load_registry(path)
    if registry.microgrid != settings.microgrid:
        raise ConfigError(f"{path}: is for microgrid {registry.microgrid}, but this gateway is {settings.microgrid}'s")
    return stamp, {meter.id: meter for meter in registry.meters}


async def run_gateway(settings: GatewaySettings, stop: asyncio.Event, watchdog: Watchdog) -> None:
    """Run a gateway until ``stop`` is set.

    Raises:
        ConfigError: A file it needs is missing or wrong.
        StoreError: Its store can't be opened.
    """
    # The recovery of a damaged store may take many minutes: on another thread, so that the watchdog sees the loop run.
    shell = await asyncio.to_thread(Shell.open, settings, load_clock(settings.clock))
    await shell.run(stop, watchdog)
