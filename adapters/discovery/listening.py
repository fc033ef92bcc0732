"""Listens to all topics of the sources while it is asked what is there, and forgets all that a minute later."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from adapters.discovery.discovered import Discovered
from adapters.source import Source
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.model.exceptions import ConfigError

ASKED_S = 60.0  # real seconds after the last question until it ends
TURN_S = 0.25  # real seconds between two looks at what has arrived
AT_ONCE = 500  # most messages of a source that are read in one look: a flood takes a part of the processor

_log = logging.getLogger(__name__)


class Listening:
    """Connections of its own to the sources, which exist only while there are questions."""

    def __init__(self, settings: AdapterSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        # Of a file that names no source the default is none that a person chose.
        self._wanted = settings.source if settings.meter or "source" in settings.model_fields_set else ()
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._asked = 0.0
        self._found: Discovered | None = None
        self._sources: dict[str, Source] = {}
        self._faults: dict[str, str] = {}  # why there is no such source
        self._thread: threading.Thread | None = None

    def answer(self) -> dict[str, Any]:
        """Return what was heard so far, and go on listening; safe in any thread. The first answer is empty."""
        with self._lock:
            self._asked = time.monotonic()
            if self._found is None and self._wanted and not self._ends.is_set():
                self._found = Discovered(self._settings)
                self._thread = threading.Thread(target=self._run, args=[self._found], name="discovery", daemon=True)
                self._thread.start()
            found = {"cards": [], "unknown": [], "left_out": 0}
            if self._found is not None:
                found = self._found.answer(int(self._now() * 1000))
            return {"sources": [self._source(one.name, one.address) for one in self._wanted], **found}

    def stop(self) -> None:
        """End it, with the adapter."""
        with self._lock:
            self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def _source(self, name: str, address: str) -> dict[str, object]:
        source = self._sources.get(name)
        complaint = self._faults.get(name, "not connected yet") if source is None else source.complaint
        connected = source is not None and source.connected
        return {"name": name, "address": address, "connected": connected, "complaint": complaint}

    def _run(self, found: Discovered) -> None:
        try:
            for one in self._wanted:
                self._start(one)
            while not self._ends.wait(TURN_S) and time.monotonic() < self._asked + ASKED_S:
                for name, source in self._sources.items():
                    taken = source.take(AT_ONCE)
                    with self._lock:
                        for message in taken:
                            found.take(message._replace(source=name))
                    source.acknowledge(taken)
        except Exception:
            _log.exception("the discovery failed")
        for source in self._sources.values():
            source.stop()
        with self._lock:
            self._found, self._sources, self._faults = None, {}, {}
        gc.collect()  # A client and its callbacks hold each other, with what waits.

    def _start(self, settings: AdapterSource) -> None:
        own = settings.client_id or f"commonwatt-{self._settings.microgrid}"
        try:
            source = Source(
                settings=settings,
                # A name of its own: the adapter's would end the adapter's connection.
                client_id=f"{own}-found",
                filters=["#"],
                now=self._now,
                wake=lambda: None,
                keeps=False,
                retained=True,
            )
            source.start()
        except ConfigError as error:
            self._faults = {**self._faults, settings.name: str(error)}
        else:
            self._sources = {**self._sources, settings.name: source}
