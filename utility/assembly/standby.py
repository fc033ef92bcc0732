"""A utility among several on one database: it waits for the schema and the lease, then serves; the others stand by."""

import asyncio
import contextlib
import html
import json
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import CollectorRegistry, Gauge

from commonwatt.model.exceptions import CommonwattError
from commonwatt.network.http_server import HttpRequest, HttpServer, Response
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.metric_families import register_process
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.watchdog import Watchdog
from utility.assembly.metrics import ACTIVE_HELP
from utility.assembly.service import UtilityService
from utility.database.base import SQLAlchemyError
from utility.database.database import Database, open_database
from utility.database.postgres.lease import BEAT_S, Lease, LeaseTakenError
from utility.settings import UtilitySettings

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Standby:
    """One utility of several; it serves from the lease on, and ends when another one has the lease.

    Args:
        named: The name of the database's setting in errors.
    """

    def __init__(self, settings: UtilitySettings, clock: Clock, token: str, named: str) -> None:
        assert settings.name_in_cluster is not None
        self._settings, self._clock, self._token, self._named = settings, clock, token, named
        self._name = settings.name_in_cluster.replace("%H", socket.gethostname())
        self._lease = Lease(settings.database, self._name)
        self._why = "it has just started"  # why it does not serve, for people
        # Threads that wait for the database must not delay a beat.
        self._thread = ThreadPoolExecutor(1, "lease")

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Stand by, then serve, until ``stop``.

        Raises:
            LeaseTakenError: Another utility has become active while this one slept or was cut off.
            OSError: The API's address is in use.
        """
        try:
            database = await self._wait(stop, watchdog)
            if database is None:
                return
            try:
                await self._serve(database, stop, watchdog)
            finally:
                with contextlib.suppress(SQLAlchemyError):
                    await self._in_thread(self._lease.give_up)
                await asyncio.to_thread(database.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _wait(self, stop: asyncio.Event, watchdog: Watchdog) -> Database | None:
        """Return the database once this utility is the active one; ``None``: it is to stop."""
        server = HttpServer(
            self._settings.http,
            self._registry(watchdog),
            lambda: {"stands_by": self._why},
            self._settings.http_hosts,
            pages=self._answer,
            certificate=self._settings.http_certificate,
        )
        server.start()
        watchdog.ready("stands by")
        database = None
        try:
            while not stop.is_set():
                try:
                    if database is None:
                        database = await self._in_thread(self._open)
                    await self._in_thread(self._lease.look)
                    self._say(f"{self._lease.holder} is the active utility")
                    if self._lease.number:
                        # What was read while it stood by may be old: the store's id, the schema.
                        database.close()
                        database = None
                        database = await self._in_thread(self._open)
                except (CommonwattError, SQLAlchemyError) as error:
                    self._say(" ".join(str(getattr(error, "orig", None) or error).split()))
                if database is not None and self._lease.number:
                    self._lease.guard(database)
                    log.warning("this is the active utility from now on, by lease %d", self._lease.number)
                    return database
                await self._rest(stop)
        finally:
            await asyncio.to_thread(server.stop)
        return None

    async def _serve(self, database: Database, stop: asyncio.Event, watchdog: Watchdog) -> None:
        ended = asyncio.Event()
        beating = asyncio.create_task(self._beat(), name="the lease")
        try:
            service = await asyncio.to_thread(UtilityService, self._settings, self._clock, database, self._token)
            serving = asyncio.create_task(service.run(ended, watchdog), name="the service")
            try:
                await until_stopped(stop, [serving, beating])
            finally:
                ended.set()
                await asyncio.wait([serving])
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        """Beat, until another utility has taken the lease."""
        while True:
            try:
                await self._in_thread(self._lease.look)
            except LeaseTakenError:
                raise
            except SQLAlchemyError as error:
                log.warning("no beat: %s", " ".join(str(error.args[0] if error.args else error).split()))
            await asyncio.sleep(BEAT_S)

    def _open(self) -> Database:
        return open_database(self._settings.database, create=False, check=True, named=self._named)

    def _say(self, why: str) -> None:
        if why != self._why:
            log.info("standing by: %s", why)
        self._why = why

    def _answer(self, request: HttpRequest) -> Response | None:
        if request.path == "/status":
            return None
        if request.path == "/health":
            said = {"status": "standby", "why": self._why, "version": version("commonwatt"), "active": False}
            return Response(body=json.dumps(said), content_type="application/json")
        name = html.escape(self._name)
        text = f"<h1>{name} stands by</h1><p>{html.escape(self._why)}. Open the page there.</p>"
        body = f"<!doctype html><html lang=en><meta charset=utf-8><title>Commonwatt: standby</title>{text}</html>"
        return Response(status=503, body=body, content_type="text/html; charset=utf-8", headers=(("Retry-After", "5"),))

    def _registry(self, watchdog: Watchdog) -> CollectorRegistry:
        registry = CollectorRegistry()
        register_process(registry, "utility", watchdog)
        Gauge("commonwatt_utility_active", ACTIVE_HELP, registry=registry).set(0)
        return registry

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @staticmethod
    async def _rest(stop: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await stop.wait()
