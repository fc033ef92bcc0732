"""Watches Alertmanager on a thread of its own; pages read what it last said, and never wait for it."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from commonwatt.model.units import MAX_EPOCH, EpochSeconds
from commonwatt.runtime.clock import Clock, machine_now
from utility.alarms.alarm import PREFIX, Alarm
from utility.alarms.alertmanager_messages import read_alerts, read_made, read_silences, write_silence
from utility.alarms.jobs.client import Alertmanager, AlertmanagerError
from utility.alarms.silences import Silence, Way

EVERY_S = 5.0  # real seconds between two questions
_ALERTS = "alerts?" + urlencode({"filter": f'alertname=~"{PREFIX}.+"'})  # those of Commonwatt, suppressed ones too

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What Alertmanager said last."""

    alarms: tuple[Alarm, ...] = ()  # its alarms; an answer without any is empty
    silences: tuple[Silence, ...] = ()  # its silences
    time: EpochSeconds | None = None  # when it said so, clock seconds; ``None``: it has not answered since the start
    complaint: str = ""  # why the last question has no answer; empty: it has


class Watch:
    """Asks one Alertmanager again and again; its times are the machine's, the clock's are the utility's."""

    def __init__(self, alertmanager: Alertmanager, clock: Clock) -> None:
        self.seen = Seen()  # what it said last
        self._client = alertmanager
        self._clock = clock
        self._asking = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to ask, on a thread that does not keep the process alive."""
        threading.Thread(target=self._run, name="alertmanager", daemon=True).start()

    def stop(self) -> None:
        """Ask no more; a question under way is not waited for."""
        self._stopped.set()

    def look(self) -> None:
        """Ask now, and keep the answer; without one keep the last, with the reason."""
        with self._asking:
            before = self.seen
            try:
                alarms = read_alerts(self._client.ask(_ALERTS), self._to_town)
                silences = read_silences(self._client.ask("silences"), self._to_town)
            except (AlertmanagerError, ValueError) as error:
                if not before.complaint:
                    log.warning("%s", error)
                self.seen = Seen(alarms=before.alarms, silences=before.silences, time=before.time, complaint=str(error))
                return
            if before.complaint:
                log.info("Alertmanager answers again")
            self.seen = Seen(alarms=alarms, silences=silences, time=int(self._clock.now()))

    def silence(
        self, ways: Sequence[Way], start: EpochSeconds, end: EpochSeconds, person: str, note: str
    ) -> tuple[str, ...]:
        """Make silences, all or none; return their ids.

        Raises:
            AlertmanagerError: Alertmanager refuses, or does not answer.
        """
        made: list[str] = []
        try:
            for way in ways:
                request = write_silence(way, self._to_machine(start), self._to_machine(end), person, note)
                made.append(read_made(self._client.ask("silences", "POST", request)))
        except (AlertmanagerError, ValueError) as error:
            self.take_back(made)
            raise AlertmanagerError(f"{error}; nothing is silenced") from error
        self.look()
        return tuple(made)

    def expire(self, ids: Sequence[str]) -> None:
        """End silences.

        Raises:
            AlertmanagerError: Alertmanager refuses, or does not answer, and one of them still holds.
        """
        faults = [error for each in ids if (error := self._expired(each)) is not None]
        self.look()
        standing = {one.id for one in self.seen.silences}
        if faults and (self.seen.complaint or standing & set(ids)):
            raise AlertmanagerError(f"{faults[0]}; the silence still holds")

    def take_back(self, ids: Sequence[str]) -> None:
        """End silences of a change that failed; those that can't be ended now end by themselves."""
        for each in ids:
            self._expired(each)

    def _expired(self, silence: str) -> AlertmanagerError | None:
        try:
            self._client.ask(f"silence/{quote(silence, safe='')}", "DELETE")
        except AlertmanagerError as error:
            return error
        return None

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(EVERY_S)

    def _to_town(self, time: datetime) -> EpochSeconds:
        ago_s = machine_now() - time.timestamp()
        return min(MAX_EPOCH, max(0, round(self._clock.now() - ago_s * self._clock.speed)))

    def _to_machine(self, time: EpochSeconds) -> datetime:
        return datetime.fromtimestamp(machine_now() + self._clock.real_s(time - self._clock.now()), UTC)
