"""The utility's service: one loop for the head-end's connection, the API and the scheduler's ticks (design 2)."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Iterator
from datetime import UTC

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.exc import SQLAlchemyError

from commonwatt import topics
from commonwatt.clock import Clock
from commonwatt.config import UtilitySettings, split_address
from commonwatt.effects import Publish
from commonwatt.mqtt import MqttLink
from utility.api import Api, make_app
from utility.ingest import Ingest
from utility.jobs import Jobs
from utility.metrics import UtilityMetrics
from utility.store.database import Database

POLL_S = 2
"""Clock seconds between two looks at the commands to be sent."""

TICK_S = 15
"""Clock seconds between two looks at the jobs due."""

_SHORTEST_REAL_S = 0.2
_GRACE_S = 1

log = logging.getLogger(__name__)


class Service:
    """The running service; needs neither broker nor network to start."""

    def __init__(self, settings: UtilitySettings, clock: Clock, database: Database, token: str) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = UtilityMetrics()
        self._ingest = Ingest(database, clock, self._metrics, self._publish, settings.gap_age_s)
        self._jobs = Jobs(settings, database, clock, self._ingest, self._metrics)
        self._link = MqttLink(
            address=settings.head_end,
            identity=topics.UTILITY,
            token=token,
            subscribe=topics.all_gateways_up(),
            on_message=self._ingest.offer,
            on_connect=lambda: log.info("connected to the head-end at %s", settings.head_end),
            rng=random.SystemRandom(),
        )
        self._metrics.watch_gateways(self._ingest.last_seen, clock.now)
        self._metrics.connected.set_function(lambda: float(self._link.connected))
        self._metrics.watch_link(lambda: self._link.retained)
        self._api = Api(database, clock, self._metrics, lambda: self._link.connected, self._ingest.refused)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``; what is then not committed was not acknowledged, and comes again.

        Raises:
            OSError: The API's address is taken.
        """
        server = _Server(_quiet(self._api))
        with _listen(self._settings.http) as sock:
            tasks = [
                asyncio.create_task(server.serve([sock])),
                asyncio.create_task(self._link.run()),
                asyncio.create_task(self._ingest.run()),
            ]
            scheduler = self._schedule()
            log.info("serving on http://%s", self._settings.http)
            stopped = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            scheduler.shutdown(wait=False)
            server.should_exit = True
            await self._end([stopped, *tasks])
        for task in done - {stopped}:
            task.result()

    async def _end(self, tasks: list["asyncio.Task[object]"]) -> None:
        server, *others = tasks[1], tasks[0], *tasks[2:]
        for task in others:
            task.cancel()
        await asyncio.wait([server], timeout=2 * _GRACE_S)
        server.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._jobs.close)
        await asyncio.to_thread(self._ingest.close)

    def _schedule(self) -> AsyncIOScheduler:
        # Its own complaints about ticks that were left out say nothing: the next tick does what is due.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        for work, period_s in ((self._poll, POLL_S), (self._jobs.tick, TICK_S)):
            real_s = max(_SHORTEST_REAL_S, self._clock.real_s(period_s))
            scheduler.add_job(work, IntervalTrigger(seconds=real_s, timezone=UTC))
        scheduler.start()
        return scheduler

    async def _poll(self) -> None:
        try:
            await self._ingest.poll()
        except SQLAlchemyError as error:
            log.error("the commands could not be read: %s", error)
            self._metrics.store_errors.inc()

    def _publish(self, message: Publish) -> None:
        self._link.publish(message)


class _Server(uvicorn.Server):
    """Leaves signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _quiet(api: Api) -> uvicorn.Config:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Config(
        make_app(api), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE_S
    )


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(
            error.errno, f"can't listen on {address}: {error.strerror}; is another service running there?"
        ) from error
