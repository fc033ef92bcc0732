"""What a gateway shows: its metrics, its status and its page, read at each request."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.time import Recent
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.clock import Clock, read_machine
from commonwatt.runtime.metric_families import register_process, registry_of
from commonwatt.runtime.ticker import Ticker
from commonwatt.runtime.watchdog import Watchdog
from gateway.alarms import View, alarms
from gateway.care.witness import Witness
from gateway.clique.shell import CliqueShell
from gateway.links import HEAD_END, HouseholdLink, Links
from gateway.loop.hosted_store import HostedStore
from gateway.loop.inbox import Inbox
from gateway.loop.machine import LineWatch, StoreDisk
from gateway.loop.work import Work
from gateway.page import Site
from gateway.shown.metrics import ShellFigures, gateway_metrics
from gateway.shown.program import DAY_S

RELEASE = version("commonwatt")
ALARM_WINDOWS_S = {
    "records": 900,
    "dropped_messages": 900,
    "store_failures": 900,
    "stuck": 900,
    "time_contradictions": 3600,
    "faults": 3600,
}
"""The windows in which the alarms watch the gateway's counters, seconds."""
LOOKS_AGAIN_AFTER_S = 1.0  # real seconds for which what is shown is not read again
LOOKS_WITHIN_S = 3.0  # real seconds that a request waits for a store; after that it gets what was shown before


class ShownGateway:
    """What one gateway shows."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        work: Work,
        inbox: Inbox,
        links: Links,
        disk: StoreDisk,
        line: LineWatch,
        ticker: Ticker,
        clique: CliqueShell | None,
        household: HouseholdLink | None,
        renewals: Sequence[Counter[str]],
        witness: Witness,
    ) -> None:
        self._witness = witness
        self._settings, self._clock, self._work, self._inbox = settings, clock, work, inbox
        self._links, self._disk, self._line, self._ticker = links, disk, line, ticker
        self._clique, self._household, self._renewals = clique, household, renewals
        self._figures = ShellFigures()
        self._recent = Recent[str](time.monotonic())
        self._watchdog: Watchdog | None = None
        self._view: dict[str, object] = {}
        self._looked = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, watchdog: Watchdog) -> None:
        """Begin to show, on this loop."""
        self._watchdog, self._loop = watchdog, asyncio.get_running_loop()
        await self._look()

    def serve(self, watchdog: Watchdog) -> HttpServer | None:
        """Serve the metrics, the status and the page; ``None``: the settings have no address for them."""
        address = self._settings.http
        if address is None:
            return None
        registry = registry_of(lambda: gateway_metrics(self._work.controller, self._shown_figures()))
        register_process(registry, "gateway", watchdog)
        site = Site(self._settings, self.status, time.monotonic)
        certificate = self._settings.http_certificate
        hosts = self._settings.http_hosts
        http = HttpServer(address, registry, self.status, hosts, pages=site.answer, certificate=certificate)
        watchdog.thread("http", http.start())
        return http

    def judge(self) -> None:
        """Look at what only time changes: the certificates, the line's month, the counts of the alarms."""
        expires = self._figures.certificate_expires = self._links.expiry.look()
        days = None if expires is None else int((expires - read_machine(self._clock).wall) // DAY_S)
        self._work.controller.program_seen(RELEASE, days, self._disk.free_bytes)
        self._line.judge(self._work.controller.line.month(int(self._clock.now())))
        self._recent.look(self._alarm_counts(), time.monotonic())

    def status(self) -> dict[str, object]:
        """Return what /status shows, read now, or before if the store does not answer; on another thread."""
        assert self._loop is not None
        looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        try:
            looking.result(LOOKS_WITHIN_S)
        except TimeoutError:
            looking.cancel()
        return self._view

    @property
    def lag_s(self) -> float:
        """Real seconds by which its work is late: none that is to be done at once has waited longer."""
        since = self._work.since
        return max(self._inbox.busy_s, 0.0 if since is None else time.monotonic() - since)

    @property
    def failing(self) -> str:
        """Why a store is being opened again; empty: none is."""
        return "; ".join(f"{s.path} failed: {s.failure}" for s in self._work.stores.values() if s.opening)

    @property
    def store_failures(self) -> int:
        """Times a store failed and was opened again."""
        return sum(store.figures.failures for store in self._work.stores.values())

    @property
    def committed_s(self) -> float | None:
        """Real seconds since the last commit; ``None``: there was none."""
        last = [store.figures.committed for store in self._work.stores.values() if store.figures.committed is not None]
        return time.monotonic() - max(last) if last else None

    def _shown_figures(self) -> ShellFigures:
        view: View = self.status()
        figures = self._counted()
        judged = [view, *view.get("hosted", {}).values()] if view else []
        figures.alarms = frozenset(alarm["alert"] for each in judged for alarm in each["alarms"])
        return figures

    async def _look(self) -> None:
        """Replace the values that /metrics and /status show, unless that was done just now."""
        async with self._work.alone():
            if time.monotonic() - self._looked >= LOOKS_AGAIN_AFTER_S:
                self.judge()
                self._work.look()
                if self._work.own.view:
                    self._view = self._viewed()
                self._looked = time.monotonic()

    def _viewed(self) -> dict[str, object]:
        """Return what /status shows, as JSON: of the controller and its own microgrid, with others that it hosts."""
        links, own = self._links.each.items(), self._work.own
        connections: dict[str, object] = {
            "queue_s": self._inbox.busy_s * self._clock.speed,
            "connected": {name: link.connected for name, link in links},
            "connection_failures": {name: link.complaint for name, link in links if link.complaint},
        }
        if len(self._settings.head_end) > 1:
            connections["head_end"] = self._links.each[HEAD_END].address
        disk = {"disk_free_bytes": self._disk.free_bytes, "disk_bytes": self._disk.size_bytes}
        household = {} if self._household is None else {"household": self._household.status()}
        clique = {} if self._clique is None else {"takeover": self._clique.view()}
        more = (
            {"timezone": self._settings.timezone, "witness": self._witness.view()}
            | connections
            | household
            | self._alarm_view()
            | clique
        )

        def judged(each: HostedStore) -> View:
            view = each.view | {"store": each.state | disk}
            return view | {"alarms": [asdict(alarm) for alarm in alarms(more | view)]}

        hosted = {name: judged(each) for name, each in self._work.stores.items() if each is not own and each.view}
        return judged(own) | more | ({"hosted": hosted} if hosted else {})

    def _alarm_counts(self) -> dict[str, int]:
        """Return the counters of which the alarms need the increase."""
        figures, controller, watchdog = self._counted(), self._work.controller, self._watchdog
        return {
            "records": controller.own.collector.counts.records.total(),
            "dropped_messages": figures.overflowed,
            "store_failures": self.store_failures,
            "time_contradictions": controller.time.counts.contradictions,
            "faults": figures.callback_failures + figures.failures + (0 if watchdog is None else watchdog.failures),
            "stuck": 0 if watchdog is None else watchdog.stuck.total(),
        }

    def _alarm_view(self) -> dict[str, object]:
        """Return what the alarms need besides the core's view, as JSON."""
        expires = self._figures.certificate_expires
        return {
            "certificate_left_s": None if expires is None else int(expires - read_machine(self._clock).wall),
            "watched_s": self._recent.watched_s,
            "recent": {name: self._recent.increase(name, window_s) for name, window_s in ALARM_WINDOWS_S.items()},
        }

    def _counted(self) -> ShellFigures:
        links = self._links.each
        self._figures.stores = {name: store.figures for name, store in list(self._work.stores.items())}
        self._figures.connected = sum(link.connected for link in links.values())
        self._figures.dropped = sum(link.dropped for link in links.values())
        self._figures.retained = sum(link.retained for link in links.values())
        self._figures.oversize = sum(link.oversize.count for link in links.values())
        self._figures.callback_failures = sum(link.failures for link in links.values()) + self._ticker.failures
        self._figures.link_restarts = {
            (name, reason): times for name, link in links.items() for reason, times in list(link.restarts.items())
        }
        self._figures.failures = self._work.failures
        self._figures.overflowed = self._inbox.overflowed
        self._figures.disk_free_bytes = self._disk.free_bytes
        self._figures.disk_bytes = self._disk.size_bytes
        self._figures.month = self._line.month
        self._figures.renewals = sum(self._renewals, Counter())
        return self._figures
