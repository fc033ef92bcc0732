"""The gateway's shell: two MQTT connections, one store, one ticker, around the core.

One loop in one fixed order: take what has come, ask the core, commit, publish. All messages waiting are taken into one
transaction (group commit).
"""

import asyncio
import logging
import random
import sqlite3
from collections import deque
from pathlib import Path

from commonwatt.clock import Clock, load_clock, read_machine
from commonwatt.commands import Month
from commonwatt.damage import is_damage, is_full, set_aside_before
from commonwatt.devices import load_tokens
from commonwatt.effects import Effect, Publish, perform
from commonwatt.exceptions import ConfigError, StoreError
from commonwatt.httpd import HttpServer
from commonwatt.lte import Tally, interface_use
from commonwatt.mqtt import MqttLink
from commonwatt.registry import RegisteredMeter, load_registry
from commonwatt.room import Ballast
from commonwatt.service import until_stopped
from commonwatt.settings import GatewaySettings
from commonwatt.silence import Silence
from commonwatt.ticker import Ticker
from commonwatt.tls import Expiry, client_tls
from commonwatt.topics import BATCHES, COMMANDS, all_meters_up, broker_up, gateway_down, gateway_up
from commonwatt.units import MeterId
from commonwatt.watchdog import Watchdog, register_process
from gateway.changes import Change
from gateway.core import HEARTBEAT, RETRY, Gateway
from gateway.line import INTERFACE, UTILITY, in_words
from gateway.metrics import Figures, make_registry
from gateway.salvage import Salvage, open_checked, replace
from gateway.store import GoneError, Store

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Messages and ticks waiting for the core; more are dropped and counted: whoever sent them sends them again."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What those messages may have together; a tick finds room all the same."""

MAX_GROUP = 500
"""Messages taken into one transaction."""

MAX_GROUP_BYTES = 512 * 1024
"""No more messages go into a transaction that has so many bytes: taking them in holds up everything else."""

ROOM_TO_OPEN_BYTES = 1024 * 1024
"""With less free than this the ballast is given up before the store is opened."""

REOPEN_AFTER_S = 1.0
"""Real seconds between a failure of the store and opening it again."""

WATCH_EVERY_S = 5.0
"""Real seconds between two looks at the connections."""

QUIET_S = 15.0
"""After so many real seconds without a word from any meter, some are asked how they are; likewise the utility."""

SILENT_S = 30.0
"""Real seconds after which a connection is made again over which no answer comes; in vain, less and less often."""

LONGEST_SILENCE_S = 3600.0

JOBS = ("collect_s", "levels_s", "relay_s", "compact_s", HEARTBEAT, RETRY)


Event = tuple[str, tuple[object, ...]]
"""What the core is asked, and with what."""


def take_group(waiting: deque[Event]) -> list[Event]:
    """Take from the front what goes into one transaction."""
    group: list[Event] = []
    taken_bytes = 0
    while waiting and len(group) < MAX_GROUP and taken_bytes < MAX_GROUP_BYTES:
        group.append(waiting.popleft())
        taken_bytes += size_of(group[-1])
    return group


def size_of(event: Event) -> int:
    """Return how many bytes of payload an event has."""
    return sum(len(argument) for argument in event[1] if isinstance(argument, bytes))


class Shell:
    """One running gateway."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._head_end_prefix = gateway_up(settings.microgrid, "")
        self._waiting: deque[Event] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._broker_topic = broker_up(settings.microgrid)
        self._figures = Figures()
        self._ticker = Ticker()
        self._ticking: dict[str, int] = {}
        self._view: dict[str, object] = {}
        self._backlog: dict[str, int] = {}
        self._registry_stamp = 0
        self._aside: str | None = None
        self._opening = False
        self._ballast = Ballast(settings.store)
        if self._ballast.free_bytes() < ROOM_TO_OPEN_BYTES:
            self._ballast.give_up()
        self._store = self._opened(open_checked(settings.store, int(clock.now())))
        self._core = self._new_core()
        token = _token(settings)
        rng = random.Random()  # noqa: S311 - spreads reconnections, keeps no secret
        self._meters = MqttLink(
            address=settings.broker,
            identity=settings.microgrid,
            token=token,
            rng=rng,
            subscribe=all_meters_up(settings.microgrid),
            on_message=lambda topic, payload: self._heard("from_meter", topic, payload),
            on_connect=lambda: self._put_in("tick", RETRY),
            tls=client_tls(settings.broker_ca, settings.certificate, settings.broker_revoked),
        )
        self._line = Tally()
        self._line_level = "unknown"
        self._head_end = MqttLink(
            address=settings.head_end,
            identity=settings.microgrid,
            token=token,
            rng=rng,
            subscribe=gateway_down(settings.microgrid, "+"),
            on_message=lambda topic, payload: self._heard("from_utility", topic, payload),
            on_connect=lambda: self._put_in("connected"),
            tls=client_tls(settings.head_end_ca, settings.certificate, settings.head_end_revoked),
            tally=self._line,
        )
        files = (settings.certificate, settings.head_end_ca, settings.broker_ca)
        self._expiry = Expiry(*(path for path in files if path is not None))
        self._links = {"meters": self._meters, "head_end": self._head_end}
        self._silences = {name: Silence(SILENT_S, LONGEST_SILENCE_S) for name in self._links}

    def _opened(self, opened: tuple[Store, Salvage | None]) -> Store:
        """Take note of a store that had to be replaced."""
        store, salvage = opened
        if salvage is not None:
            self._figures.set_aside += 1
            self._aside = str(salvage.aside)
        return store

    def _open_again(self, failure: Exception, *, gone: bool) -> Store:
        """Open the store after it failed; replace it if it is damaged, or if its file is gone."""
        path, now = self._settings.store, int(self._clock.now())
        if gone and not self._store.closed:
            # What is still open is all there is: it is closed when it is written anew, however often that fails.
            return self._opened(replace(path, now, "its file was deleted, moved or replaced", self._store))
        self._store.close()
        if isinstance(failure, sqlite3.Error) and is_damage(failure):
            return self._opened(replace(path, now, str(failure), None))
        return self._opened(open_checked(path, now))

    def _new_core(self) -> Gateway:
        return Gateway(self._settings, self._store, self._load_registry())

    def _load_registry(self) -> dict[MeterId, RegisteredMeter]:
        path: Path = self._settings.registry
        registry = load_registry(path)
        if registry.microgrid != self._settings.microgrid:
            raise ConfigError(
                f"{path}: is of microgrid {registry.microgrid}, but this gateway's is {self._settings.microgrid}"
            )
        self._registry_stamp = path.stat().st_mtime_ns
        return {meter.id: meter for meter in registry.meters}

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Run until ``stop`` is set; then finish the step at hand and close."""
        http = None
        self._read_machine()
        self._look_at_line()
        self._look()
        if self._settings.http is not None:
            registry = make_registry(lambda: self._core, self._counted, lambda: self._backlog)
            register_process(registry, "gateway", watchdog)
            http = HttpServer(self._settings.http, registry, lambda: self._view, self._settings.http_hosts)
            watchdog.thread("http", http.start())
        tasks = [asyncio.create_task(link.run(), name=f"the connection {name}") for name, link in self._links.items()]
        tasks.append(asyncio.create_task(self._watch_links(), name="the watch over the connections"))
        tasks.append(asyncio.create_task(self._work(), name="the work"))
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
            if not self._opening:  # else another thread has it, and lets go of it with the process
                await self._last_look()
                self._store.close()

    async def _last_look(self) -> None:
        """Write down what the line has cost since the last heartbeat, the end of the connection included."""
        self._waiting.clear()
        self._look_at_line()
        try:
            for event in self._waiting:
                await self._step(self._ask(*event, int(self._clock.now())))
        except sqlite3.Error as error:
            log.error(
                "store %s failed (%s): what the line has cost since the last minute is lost",
                self._settings.store,
                error,
            )

    def _heard(self, what: str, topic: str, payload: bytes) -> None:
        link = "meters" if what == "from_meter" else "head_end"
        if topic != self._broker_topic:  # That a broker speaks does not say that it passes anything on.
            self._silences[link].heard(asyncio.get_running_loop().time())
        self._put_in(what, topic, payload)

    async def _watch_links(self) -> None:
        """Make a connection again that is up and over which nothing comes, though somebody was asked something."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = asyncio.get_running_loop().time()
            for name, link in self._links.items():
                silence = self._silences[name]
                if not link.connected:
                    silence.gone()
                elif silence.too_long(now):
                    link.restart("silent")
                elif silence.quiet_s(now) >= QUIET_S:
                    self._put_in("probe", name)
                    if link is self._head_end:
                        silence.expected(now)  # its answer, or that to what is in flight since another connection

    def _put_in(self, what: str, *arguments: object) -> None:
        event = what, arguments
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size_of(event) > MAX_WAITING_BYTES:
            self._figures.overflowed += 1
            return
        self._waiting.append(event)
        self._waiting_bytes += size_of(event)
        self._wake.set()

    async def _work(self) -> None:
        """Take what has come, ask the core, commit, publish; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                now = int(self._clock.now())
                group = take_group(self._waiting)
                self._waiting_bytes -= sum(map(size_of, group))
                try:
                    await self._step([effect for event in group for effect in self._ask(*event, now)])
                    await self._step(self._ask("committed", (), now))
                except sqlite3.Error as error:
                    refusals = [self._ask("busy", event[1], now) for event in group if event[0] == "from_meter"]
                    await self._step([effect for refusal in refusals for effect in refusal])
                    await self._reopen(error)
                    self._core.reopened(now)
                self._schedule()
                await asyncio.sleep(0)

    def _ask(self, what: str, arguments: tuple[object, ...], now: int) -> list[Effect[Change]]:
        """Ask the core; what it fails on is logged and counted, and never stops the rest."""
        try:
            effects: list[Effect[Change]] = getattr(self._core, what)(*arguments, now)
        except sqlite3.Error:
            raise
        except Exception:
            self._figures.failures += 1
            log.exception("the core failed on %s %.200r", what, arguments)
            return []
        return effects

    async def _step(self, effects: list[Effect[Change]]) -> None:
        await perform(effects, self._commit, self._publish)

    async def _commit(self, changes: list[Change]) -> None:
        self._store.commit(changes)
        self._figures.commits += 1

    def _publish(self, message: Publish) -> None:
        name = "head_end" if message.topic.startswith(self._head_end_prefix) else "meters"
        sent = self._links[name].publish(message)
        if sent and message.topic.endswith((f"/{COMMANDS}", f"/{BATCHES}")):
            # Only these are answered.
            self._silences[name].expected(asyncio.get_running_loop().time())

    async def _reopen(self, error: sqlite3.Error) -> None:
        """Nothing of the step was acknowledged: open the store again, and let the core learn anew what is in it."""
        failure: Exception = error
        gone = isinstance(error, GoneError)
        self._opening = True
        if is_full(error):
            self._ballast.give_up()
        while True:
            self._figures.store_failures += 1
            log.error("store %s failed (%s): nothing was acknowledged; opening it again", self._settings.store, failure)
            await asyncio.sleep(REOPEN_AFTER_S)
            try:
                self._store = await asyncio.to_thread(self._open_again, failure, gone=gone)
                self._core = self._new_core()
                if is_full(error):
                    # Until the next look at the disk: what was given up is for commands, not for records.
                    self._core.room(0)
            except (sqlite3.Error, StoreError, ConfigError, OSError) as again:
                failure = again
            else:
                self._opening = False
                return

    def _schedule(self) -> None:
        """Let the ticker tick at the periods in force; what is due is the core's business."""
        for job in JOBS:
            every_s = self._core.tick_every_s(job)
            if self._ticking.get(job) != every_s:
                self._ticking[job] = every_s
                self._ticker.every(job, self._clock.real_s(every_s), self._tick, job)
                # Else a gateway that is started again within every period would never do it.
                self._put_in("tick", job)

    async def _tick(self, job: str) -> None:
        if job == HEARTBEAT:
            self._look_at_line()
        self._put_in("tick", job)
        if job == RETRY and not self._opening:
            # While another thread has the store, nothing is asked of it here.
            self._read_machine()
            self._look_at_disk()
            self._look()
            self._reload_registry()

    def _look_at_line(self) -> None:
        """Let the core know what the line has cost."""
        name = self._settings.lte_interface
        if name is None:
            self._put_in("used", UTILITY, str(self._line.run), self._line.total())
        elif (found := interface_use(name)) is not None:
            self._put_in("used", INTERFACE, *found)

    def _look_at_disk(self) -> None:
        """Let the core know how much room there is."""
        try:
            free = self._figures.disk_free_bytes = self._ballast.free_bytes()
            self._figures.disk_bytes = self._ballast.disk_bytes()
            changed = self._core.room(free)
        except (OSError, sqlite3.Error) as error:
            log.error("the room for store %s is not known (%s)", self._settings.store, error)
            return
        if changed and self._core.upkeep.short:
            log.error(
                "no room for store %s, %d bytes are free: records are refused, the oldest acknowledged data is deleted",
                self._settings.store,
                free,
            )
        elif changed:
            log.warning("room again for store %s: records are taken in", self._settings.store)

    def _read_machine(self) -> None:
        """Let the core see the machine's clocks, unless the time is a demonstration's."""
        if self._settings.clock is None:
            self._put_in("machine", read_machine(self._clock))

    def _clock_jumped(self, by_s: float) -> None:
        if self._settings.clock is None:
            self._put_in("jumped", by_s)
            self._read_machine()

    def _look(self) -> None:
        """Make anew what /metrics and /status show: their threads only read what is replaced whole."""
        try:
            self._backlog = dict(zip(("parts", "events", "letters"), self._store.backlog(), strict=True))
            now = int(self._clock.now())
            self._figures.backlog_age_s = self._core.backlog_age_s(now)
            self._figures.used_bytes = self._store.used_bytes()
            self._figures.kept_aside = len(set_aside_before(self._settings.store))
            store = {
                "refusing": self._core.upkeep.short,
                "set_aside": self._aside,
                "damaged_rows": self._core.upkeep.damaged.total(),
            }
            connected = {name: link.connected for name, link in self._links.items()}
            self._view = self._core.view(now) | {"connected": connected, "store": store}
            self._warn_of_line(self._core.line.month(now))
        except sqlite3.Error as error:
            self._figures.store_failures += 1
            log.error("store %s can't be read (%s)", self._settings.store, error)
        for meter in self._core.collector.take_overfull():
            log.warning(
                "meter %d: it had its share of rejected records: more are only counted today, and puts with readings"
                " that are held as implausible wait at the meter; see its letters, and mend the device or the registry",
                meter,
            )
        self._figures.certificate_expires = self._expiry.look()

    def _warn_of_line(self, month: Month | None) -> None:
        """Tell a person, once each time, that the line's allowance will not do."""
        level = "unknown" if month is None else month.level
        if level != self._line_level and level in ("at_risk", "exceeded"):
            log.warning("the LTE line is %s: %s", level.replace("_", " "), "; ".join(in_words(month)))
        self._line_level, self._figures.month = level, month

    def _reload_registry(self) -> None:
        """Take over a registry file that was written anew; keep the old one if it can't be read."""
        try:
            if self._settings.registry.stat().st_mtime_ns != self._registry_stamp:
                self._core.register(self._load_registry())
                log.info("registry read again: %d meters", len(self._core.manager.meters))
        except (ConfigError, OSError) as error:
            log.error("registry not read again, the old one stays: %s", error)

    def _counted(self) -> Figures:
        links = (self._meters, self._head_end)
        self._figures.connected = sum(link.connected for link in links)
        self._figures.dropped = sum(link.dropped for link in links)
        self._figures.retained = sum(link.retained for link in links)
        self._figures.callback_failures = sum(link.failures for link in links) + self._ticker.failures
        self._figures.link_restarts = {
            (name, reason): times for name, link in self._links.items() for reason, times in list(link.restarts.items())
        }
        return self._figures


def _token(settings: GatewaySettings) -> str:
    tokens = load_tokens(settings.tokens)
    if settings.microgrid not in tokens:
        raise ConfigError(
            f"{settings.tokens}: has no token of {settings.microgrid}; make it with: commonwatt utility register"
        )
    return tokens[settings.microgrid]


async def run_gateway(settings: GatewaySettings, stop: asyncio.Event, watchdog: Watchdog) -> None:
    """Run a gateway until ``stop`` is set.

    Raises:
        ConfigError: A file it needs is missing or wrong.
        StoreError: Its store can't be opened.
    """
    # A damaged store may take many minutes, and the watchdog is not to end the process in their midst, again and again.
    shell = await asyncio.to_thread(Shell, settings, load_clock(settings.clock))
    await shell.run(stop, watchdog)
