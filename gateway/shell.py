"""The gateway's shell: its connections, its ticker and its pages, around the work of the cores."""

import asyncio
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from commonwatt.clique.cliques import beside
from commonwatt.clique.messages import States
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ByteCount, MeterId, MicrogridId
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.reports import compressed, report_of
from commonwatt.runtime.clock import Clock, load_clock, read_machine
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.ticker import Ticker
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.sqlite import SqliteError
from commonwatt.town.registry import RegisteredMeter
from gateway.care.upgrade import Meters, Upgrades
from gateway.care.witness import Witness
from gateway.clique.kept import Hooks, Registries
from gateway.clique.shell import CliqueShell
from gateway.collect import SLOTS_A_MINUTE
from gateway.controller import HEARTBEAT, JOBS, Controller, carried, settings_of
from gateway.core import RETRY, HostedMicrogrid
from gateway.events import (
    ClockJumped,
    Granted,
    LineCounted,
    MachineRead,
    Reported,
    Tick,
    ToldStates,
    Upgraded,
)
from gateway.line.line import INTERFACE
from gateway.links import HEAD_END, METERS, HouseholdLink, Links
from gateway.loop.hosted_store import HostedStore
from gateway.loop.inbox import GATHER_S, Inbox
from gateway.loop.machine import THREADS, LineWatch, StoreDisk
from gateway.loop.work import Work
from gateway.shown.shown import ShownGateway

if TYPE_CHECKING:
    from gateway.care.renewal import Renewal

log = logging.getLogger(__name__)


class Reporting:
    """Makes reports, discoveries and signatures, and takes bundles, while a gateway's other work goes on."""

    def __init__(
        self, settings: GatewaySettings, work: Work, shown: ShownGateway, inbox: Inbox, witness: Witness
    ) -> None:
        self._witness = witness
        self._settings, self._work, self._shown, self._inbox = settings, work, shown, inbox
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Begin what the utility wants."""
        for command in self._work.controller.own.utility_commands.reports.values():
            if command.cmd not in self._under_way or self._under_way[command.cmd].done():
                makes = {Action.REPORT: self._report, Action.DISCOVER: self._discover, Action.UNPACK: self._unpack}
                make = makes.get(Action(command.cmd), self._sign)
                self._under_way[command.cmd] = asyncio.create_task(make(command), name=command.cmd)

    async def _report(self, command: ControllerCommand) -> None:
        # Imported here: the doctor would take memory in every gateway, and reports are rare.
        from gateway.care.report import make_report

        now = int(self._work.controller.own.now)
        try:
            status = await THREADS.run(self._shown.status)
            report = await THREADS.run(make_report, self._settings, status, now)
        except Exception as error:
            log.exception("the report %s failed", command.id)
            report = report_of(compressed(f"the report could not be made: {error!r}"))
        self._inbox.queue(Reported(command, {"report": report}))

    async def _discover(self, command: ControllerCommand) -> None:
        from gateway.care.discovery import ask_adapter

        self._inbox.queue(Reported(command, {"report": await THREADS.run(ask_adapter, self._settings.adapter)}))

    async def _unpack(self, command: ControllerCommand) -> None:
        from gateway.care.bundle import unpacked

        self._inbox.queue(Reported(command, await unpacked(self._settings, command)))

    async def _sign(self, command: ControllerCommand) -> None:
        try:
            said = await THREADS.run(self._witness.sign, command.month or "", command.code or "", command.replaces)
        except (ConfigError, OSError) as error:
            log.error("the code of %s is not signed: %s", command.month, error)
            said = {"result": "partial", "reason": str(error)[:200]}  # not refused: the utility asks again
        self._inbox.queue(Reported(command, said))


CLOSES_WITHIN_S = 3.0  # real seconds that the end of a gateway waits for its stores


class Shell:
    """One running gateway."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        disk: StoreDisk,
        store: HostedStore,
        registries: Registries,
        clique: CliqueShell | None = None,
        phase: float = 0.0,
    ) -> None:
        self._settings = settings
        self._clock = clock
        waits_s = (settings.commit_s, GATHER_S)
        self._inbox = Inbox(*(clock.real_s(wait_s) if clock.speed else 0 for wait_s in waits_s))
        self._ticker = Ticker(phase)
        self._ticking: dict[str, int] = {}
        self._told: dict[MicrogridId, tuple[object, dict[str, object]]] = {}
        self._registries = registries
        self._disk = disk
        self._line = LineWatch(settings.lte_interface)
        self._clique = clique
        self._links = Links(settings, self._inbox, clique, self._line.tally, lambda: self.shown.lag_s)
        meters = registries.load(settings.microgrid) if clique is None else clique.meters[settings.microgrid]
        self._controller = Controller(settings, store.store, meters, None if clique is None else clique.members)
        self._work = Work(self._controller, store, self._inbox, clock, disk, self._links.publish)
        household = settings.household
        self._household = None if household is None else HouseholdLink(household, settings.microgrid)
        self._renewals: list[Renewal] = []
        if settings.care is not None:
            self._load_renewals()
        self.shown = ShownGateway(  # what it shows
            settings,
            clock,
            self._work,
            self._inbox,
            self._links,
            disk,
            self._line,
            self._ticker,
            clique,
            self._household,
            [each.results for each in self._renewals],
            witness := Witness(settings.store.absolute().parent, settings.controller, settings.certificate),
        )
        self._reporting = Reporting(settings, self._work, self.shown, self._inbox, witness)
        self._upgrades = Upgrades(settings, self.shown.status, lambda ended: self._inbox.queue(Upgraded(ended)))
        own = self._controller.own
        self._before = own.served_in_hour(int(clock.now())), own.store.newest_part()

    @classmethod
    def open(cls, settings: GatewaySettings, clock: Clock, phase: float = 0.0) -> Self:
        """Open the store, or replace it if it is damaged, read the registry, and make the shell.

        Args:
            phase: By which share of each period its periodic work is later than another gateway's, 0 to 1.

        Raises:
            ConfigError: A file it needs is missing or wrong.
            StoreError: Its store can't be opened.
        """
        disk = StoreDisk(settings.store)
        disk.make_disk_space_to_open()
        store = HostedStore.open(settings.store, int(clock.now()))
        with ExitStack() as on_error:
            on_error.callback(store.store.close)
            registries = Registries(settings)
            shell = cls(
                settings, clock, disk, store, registries, CliqueShell.load(settings, store.store, registries), phase
            )
            on_error.pop_all()
        return shell

    def _load_renewals(self) -> None:
        # Loaded only where there is a certificate: the library that reads it takes 15 MiB.
        from gateway.care.renewal import renewals_of

        is_connected = self._links.each[HEAD_END].is_current
        self._renewals = list(renewals_of(self._settings, lambda: self._controller.own.now, is_connected))

    async def host(self, microgrid: MicrogridId, path: Path, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Begin to host another microgrid, with a store of its own.

        Raises:
            StoreError: Its store can't be opened.
        """
        await self._work.host(microgrid, path, meters)
        self._links.host(microgrid)

    async def run(self, stop: asyncio.Event, watchdog: Watchdog, *, alone: bool = True) -> None:
        """Run until ``stop`` is set; then store the last byte count of the line and close.

        Args:
            alone: Whether it is the only gateway of this process.
        """
        tasks: list[asyncio.Task[None]] = []
        ends = ExitStack()
        try:
            await self._begin(tasks, ends, watchdog, alone=alone)
            await until_stopped(stop, tasks)
        finally:
            ends.close()
            try:
                async with asyncio.timeout(CLOSES_WITHIN_S), self._work.alone():
                    await self._end(tasks)
                    await self._last_look()
                    # Another thread opens the other stores, and the process's end closes them.
                    for store in self._work.opened.values():
                        await THREADS.run(store.store.close)
            except TimeoutError:
                log.error("store %s does not answer: it is left as after a power cut", self._settings.store)
                await self._end(tasks)

    async def _begin(
        self, tasks: "list[asyncio.Task[None]]", ends: ExitStack, watchdog: Watchdog, *, alone: bool
    ) -> None:
        """Start all parts, and note the endless tasks and what ends the others, also if a later part can't start."""
        self._read_machine()
        self._look_at_line()
        self._look_at_disk()
        await self.shown.start(watchdog)
        # The gateways of a host can't all listen at the default address.
        if (alone or "http" in self._settings.model_fields_set) and (http := self.shown.serve(watchdog)) is not None:
            ends.callback(http.stop)
        tasks += [
            *self._links.start(),
            asyncio.create_task(self._work.run(self._reload_registries, self._schedule), name="the work"),
        ]
        tasks += [asyncio.create_task(each.run(), name="the renewal of a certificate") for each in self._renewals]
        await self._collect()
        if self._household is not None:
            tasks.append(self._household.start())
        if self._clique is not None:
            tasks.append(asyncio.create_task(self._join(self._clique), name="the clique"))
            ends.callback(self._clique.leave)
        self._schedule()
        for jump in (self._ticker.clock_jumped, self._clock_jumped):
            watchdog.on_jump.append(jump)
            ends.callback(watchdog.on_jump.remove, jump)
        self._ticker.start()
        ends.callback(self._ticker.stop)
        ends.callback(self._upgrades.stop)
        if alone:
            watchdog.watch("scheduler", self._ticker.steps.mark)
            # Of several gateways, a store that hangs stops no other: it shows as a lag.
            watchdog.watch("stores", lambda: self._work.since)
        log.info(
            "gateway of %s: %d meters registered, store %s",
            self._settings.controller,
            len(self._controller.own.meters),
            self._settings.store,
        )
        if alone:
            text = f"gateway of {self._settings.controller}, {len(self._controller.own.meters)} meters registered"
            watchdog.ready(text)

    @staticmethod
    async def _end(tasks: "list[asyncio.Task[None]]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until no thread uses the stores any more, after the end of ``run``."""
        await self._work.settled()

    async def _collect(self) -> None:
        """Host the microgrids of which this controller only takes records."""
        managed = () if self._clique is None else self._clique.meters
        for microgrid in self._settings.collects:
            if microgrid not in managed:
                meters = self._registries.load(microgrid)
                await self.host(microgrid, beside(self._settings.store, microgrid), meters)

    async def _join(self, clique: CliqueShell) -> None:
        """Host the other microgrids of the clique, and take part in it."""
        for microgrid, meters in clique.meters.items():
            if microgrid != self._settings.microgrid:
                await self.host(microgrid, beside(self._settings.store, microgrid), meters)
        await clique.run(
            Hooks(
                store=lambda: self._work.own,
                keep=self._work.keep,
                publish=self._links.send,
                begin=lambda microgrid: self._inbox.queue(Granted(microgrid)),
                states=self._states,
                take_states=lambda told: self._inbox.queue(ToldStates(told.microgrid, told.states, told.now)),
                resume=lambda: self._inbox.queue(Tick(RETRY)),
                is_connected=lambda: self._links.each[METERS].connected,
                commits=self._commits,
                put_s=lambda microgrid: self._controller.hosted[microgrid].manager.put_s,
            )
        )

    def _states(self, microgrid: MicrogridId) -> States:
        core = self._controller.hosted[microgrid]
        now, said = int(core.tell(int(self._clock.now()))), settings_of(core)
        before = self._told.get(microgrid)
        if before is None or before[0] != said:
            before = self._told[microgrid] = said, carried(core)
        return States.model_construct(microgrid=microgrid, now=now, states=before[1])

    def _commits(self, microgrid: MicrogridId) -> bool:
        store = self._work.stores.get(microgrid)
        takes = store is not None and not store.opening and not self._work.hangs
        return takes and not self._controller.hosted[microgrid].upkeep.short

    async def _last_look(self) -> None:
        """Store the line's byte count since the last heartbeat, with the end of the connections."""
        if self._work.own.opening:
            return
        self._inbox.clear()
        self._look_at_line()
        for error in (await self._work.finish(self._inbox.take())).values():
            log.error(
                "store %s failed (%s): the LTE line's byte count since the last minute is lost",
                self._settings.store,
                error,
            )

    def _schedule(self) -> None:
        """Set the ticker to the periods in force; the core decides which jobs are due."""
        for job in JOBS:
            every_s = self._controller.tick_every_s(job)
            if self._ticking.get(job) != every_s:
                self._ticking[job] = every_s
                self._ticker.every(job, self._clock.real_s(every_s), self._tick, job)
                # Otherwise a gateway that restarts more often than the period would never run the job.
                self._inbox.queue(Tick(job))
        self._reporting.begin()

    async def _tick(self, job: str) -> None:
        if job == HEARTBEAT:
            self._look_at_line()
            self.shown.judge()
        self._inbox.queue(Tick(job))
        if job == RETRY:
            self._read_machine()
            async with self._work.alone():
                self._look_at_disk()
                self._show_household()
                self._look_at_upgrades()

    def _look_at_disk(self) -> None:
        hosted = self._controller.hosted
        self._disk.look({store.path: hosted[name] for name, store in self._work.opened.items()})
        for core in hosted.values():
            self._warn(core)

    def _look_at_upgrades(self) -> None:
        own, (before, part) = self._controller.own, self._before
        wanted = own.utility_commands.upgrade
        month = None if wanted is None else self._controller.line.month(own.now)
        self._upgrades.look(wanted, month, lambda: Meters(served=own.served_since(part), before=before))

    def _look_at_line(self) -> None:
        """Queue the line's byte count for the core."""
        if (byte_count := self._line.look()) is not None:
            side, run, sums = byte_count
            beats = ByteCount() if self._clique is None or side == INTERFACE else self._clique.byte_count
            self._inbox.queue(LineCounted(side, run, sums + beats))

    def _read_machine(self) -> None:
        """Queue a reading of the machine's clocks for the core, unless a demonstration has its own clock."""
        if self._settings.clock is None:
            self._inbox.queue(MachineRead(read_machine(self._clock)))

    def _clock_jumped(self, by_s: float) -> None:
        del by_s  # The core requests the time again after a jump of any size.
        if self._settings.clock is None:
            self._inbox.queue(ClockJumped())
            self._read_machine()

    def _warn(self, core: HostedMicrogrid) -> None:
        """Log which meters send too much."""
        for meter in core.collector.take_overfull():
            log.warning(
                "meter %d: its daily limit of rejected records is reached: further ones are only counted, and puts with"
                " implausible readings stay at the meter; see its dead letters; correct the device or the registry",
                meter,
            )
        for meter in core.collector.take_over_allowance():
            log.warning(
                "meter %d: it sends more than %d slots a minute: its puts are refused (BUSY), other meters' are not;"
                " check the device",
                meter,
                SLOTS_A_MINUTE,
            )

    def _show_household(self) -> None:
        """Publish what has changed of the household's place."""
        if self._household is None or self._work.own.opening:
            return
        own = self._controller.own
        try:
            self._household.show(own.household.messages(own.now, self._household.version))
        except SqliteError as error:
            log.error(
                "store %s can't be read (%s): the household's state is not published", self._settings.store, error
            )

    def _reload_registries(self) -> None:
        """Load each registry again whose file changed; keep the old one if it can't be read."""
        for microgrid in self._controller.hosted:
            try:
                meters = self._registries.changed(microgrid)
            except (ConfigError, OSError) as error:
                log.error("registry can't be read again, the old one stays in use: %s", error)
                continue
            if meters is not None:
                self._controller.register(microgrid, meters)
                if self._clique is not None:
                    self._clique.register(microgrid, meters)
                log.info("registry of %s read again: %d meters", microgrid, len(meters))


async def run_gateway(settings: GatewaySettings, stop: asyncio.Event, watchdog: Watchdog) -> None:
    """Run a gateway until ``stop`` is set."""
    # The recovery of a damaged store may take many minutes: on another thread, so that the watchdog sees the loop run.
    shell = await THREADS.run(Shell.open, settings, load_clock(settings.clock))
    await shell.run(stop, watchdog)
