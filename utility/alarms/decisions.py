"""The alarms of a running utility: what stands, and what people do about it.

Reading the board opens, asks and waits for nothing: it joins what the last looks at the service and the database
have left in memory. What a person does is on the board before the answer to that person.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from utility.access.people import Actor
from utility.alarms import store as store
from utility.alarms.alarm import PREFIX, AlarmStage, Life, advance
from utility.alarms.board import (
    Acknowledgement,
    AlarmCounts,
    AlarmRow,
    AlarmState,
    Silence,
    check_note,
    check_place,
    check_window,
    counted,
    mark_of,
    rows,
    subject_of,
)
from utility.alarms.conditions import DatabaseCounts, JobFacts, UtilityFacts, conditions, is_judged
from utility.database.database import Database
from utility.jobs.plans import Plan, catalogue
from utility.jobs.store import JobAnswer, listed
from utility.readings.store.reads import is_controller
from utility.webkit.services import Api

COUNT_S = 300  # clock seconds between two counts of what is dear to count
SETTLING_S = 180  # clock seconds after the start before which no alarm is over: the service has not heard of all yet


@dataclass(frozen=True, kw_only=True)
class Board:
    """What pages show."""

    time: EpochSeconds  # when it was made, clock seconds
    rows: tuple[AlarmRow, ...]  # the alarms, those that wait for a person first
    silences: tuple[Silence, ...]  # the silences that hold, or will; those that end first come first
    counts: AlarmCounts  # the numbers of both
    mark: str  # changes when anything on the board does, but for texts and times


class Alarms:
    """The alarms of one utility.

    Args:
        facts: Returns the service's state, given what was counted in the database.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        facts: Callable[[DatabaseCounts | None], UtilityFacts],
        plans: Sequence[Plan] = (),
    ) -> None:
        self._plans = plans
        self._database = database
        self._clock = clock
        self._facts = facts
        self._began = int(clock.now())
        self._counted: DatabaseCounts | None = None
        self._counted_at = 0
        self._lives: dict[str, Life] = {}
        self._unsaved: dict[tuple[str, EpochSeconds], Life] = {}
        self._is_loaded = False
        self._acknowledgements: Sequence[Acknowledgement] = ()
        self._silences: Sequence[Silence] = ()
        self._version = 0
        self._made: tuple[EpochSeconds, int, Board] | None = None

    def facts(self) -> UtilityFacts:
        """Return the service's state, by which it raises its own alarms."""
        return self._facts(self._counted)

    def count(self) -> None:
        """Read what the database says; call it before each ``look``."""
        now = int(self._clock.now())
        is_due = self._counted is None or not 0 <= now - self._counted_at < COUNT_S
        jobs = tuple(_facts_of(one, now) for one in listed(self._database, self._plans, now))
        with self._database.reads.begin() as connection:
            counts = store.counted(connection, now) if self._counted is None or is_due else self._counted
            self._counted = replace(counts, jobs=jobs)
            stored = {} if self._is_loaded else store.open_lives(connection)
        self._read(now)
        if not self._is_loaded:
            # What began since the start while the database was away stays; what stood before it keeps its beginning.
            self._lives = {key: life for key, life in self._lives.items() if key not in stored} | stored
            self._unsaved = {key: life for key, life in self._unsaved.items() if key[0] not in stored}
            self._is_loaded = True
        if is_due:
            self._counted_at = now

    def look(self) -> bool:
        """Look which conditions hold; return whether alarms began or ended that are not stored.

        It works without the database, so that a damaged one is an alarm too.
        """
        now = int(self._clock.now())
        facts = self.facts()
        ran_s = now - self._began if now >= self._began else math.inf  # The clock was set back: it ran before that.
        after = advance(
            self._lives,
            conditions(facts),
            now,
            lambda alarm: ran_s >= SETTLING_S and is_judged(alarm, facts, ran_s),
        )
        for key, life in after.items():
            before = self._lives.get(key)
            if before is not None and before.alarm.since != life.alarm.since and before.stage is AlarmStage.STANDING:
                # The clock was set back: the alarm begins anew, under another key in the database.
                self._unsaved[key, before.alarm.since] = replace(before, stage=AlarmStage.ENDED, ended=now)
                before = None
            if life.stage is not AlarmStage.WAITING and (before is None or life.stage is not before.stage):
                self._unsaved[key, life.alarm.since] = life
        self._lives = {key: life for key, life in after.items() if life.stage is not AlarmStage.ENDED}
        self._version += 1
        return bool(self._unsaved)

    def save(self) -> None:
        """Store the alarms that began or ended; call it where the database is written."""
        lives = dict(self._unsaved)
        self._database.write(store.save_lives, lives.values(), int(self._clock.now()))
        self._unsaved = {key: life for key, life in self._unsaved.items() if life != lives.get(key)}

    def board(self) -> Board:
        """Return what stands now; within a second the same board, unless something was done or seen."""
        now, version, made = int(self._clock.now()), self._version, self._made
        if made is None or made[:2] != (now, version):
            self._made = made = (now, version, self._board(now))
        return made[2]

    def _board(self, now: EpochSeconds) -> Board:
        alarms = [life.alarm for life in self._lives.values() if life.stage is AlarmStage.STANDING]
        silences = sorted((one for one in self._silences if one.until > now), key=lambda one: (one.until, one.no))
        found = rows(alarms, self._acknowledgements, silences, now)
        return Board(
            time=now,
            rows=tuple(found),
            silences=tuple(silences),
            counts=counted(found, silences, now),
            mark=mark_of(found, silences, now),
        )

    def own(self) -> Counter[str] | None:
        """Count the utility's own alarms that wait for a person, by name; ``None``: they are not read yet."""
        if not self._is_loaded:
            return None
        waiting = (row.alarm for row in self.board().rows if row.state is AlarmState.ACTIVE)
        return Counter(alarm.name.removeprefix(PREFIX) for alarm in waiting)

    def past(self, limit: int) -> list[Life]:
        """Return the utility's own alarms that are over, the last first."""
        return self._database.read(store.past_lives, limit)

    def equal(self, key: str) -> list[AlarmRow]:
        """Return the alarms of an alarm's name, itself too: those that stand in the same way.

        Raises:
            ConfigError: There is no such alarm.
        """
        one = self.find(key)
        return [row for row in self.board().rows if (row.alarm.name, row.state) == (one.alarm.name, one.state)]

    def acknowledge(self, actor: Actor, key: str, note: str, end: EpochSeconds) -> int:
        """Note that a person sees to an alarm; return the acknowledgement's number.

        Raises:
            ConfigError: There is no such alarm, or the note or the end can't be taken.
        """
        now = int(self._clock.now())
        alarm = self.find(key).alarm
        check_note(note)
        check_window(now, end, now)
        made = Acknowledgement(no=0, key=alarm.key, person=actor.name, note=note, made=now, until=end)
        number = self._database.write(store.acknowledge, actor, made)
        self._read(now)
        return number

    def silence(self, actor: Actor, key: str, note: str, end: EpochSeconds, *, equal: bool = False) -> int:
        """Silence one alarm from now, or all of its name; return the silence's number.

        Raises:
            ConfigError: There is no such alarm, or the note or the end can't be taken.
        """
        alarm = self.find(key).alarm
        subject = f"{alarm.name} {'everywhere' if equal else f'of {alarm.place}'}"
        made = Silence(
            alarm="" if equal else alarm.key,
            name=alarm.name if equal else "",
            subject=subject,
            start=int(self._clock.now()),
            until=end,
            person=actor.name,
            note=note,
        )
        return self._hold(made, actor)

    def maintain(self, actor: Actor, place: str, part: str, start: EpochSeconds, end: EpochSeconds, note: str) -> int:
        """Silence all alarms of a place, or of a part there, from ``start`` on; return the silence's number.

        Args:
            place: Microgrids, ``head-end`` or ``utility``; empty: the whole town.
            part: The part; empty: all.
        """
        with self._database.reads.begin() as connection:
            check_place(place, part, lambda each: is_controller(connection, each))
        subject = subject_of(place, part)
        made = Silence(places=place, part=part, subject=subject, start=start, until=end, person=actor.name, note=note)
        return self._hold(made, actor)

    def end(self, actor: Actor, what: store.Endable, number: int) -> None:
        """End an acknowledgement or a silence now.

        Raises:
            ConfigError: None of that number holds.
        """
        now = int(self._clock.now())
        self._database.write(store.end, actor, what, number, now)
        self._read(now)

    def _hold(self, made: Silence, actor: Actor) -> int:
        now = int(self._clock.now())
        check_note(made.note)
        check_window(made.start, made.until, now)
        number = self._database.write(store.add_silence, actor, made, now)
        self._read(now)
        return number

    def find(self, key: str) -> AlarmRow:
        """Return an alarm that stands.

        Raises:
            ConfigError: There is none with that key.
        """
        for row in self.board().rows:
            if row.alarm.key == key:
                return row
        raise ConfigError("there is no such alarm (any more)")

    def _read(self, now: EpochSeconds) -> None:
        with self._database.reads.begin() as connection:
            self._acknowledgements = store.acknowledgements(connection, now)
            self._silences = store.silences(connection, now)
        self._version += 1


def alarms_of(api: Api, facts: Callable[[DatabaseCounts | None], UtilityFacts] = lambda _: UtilityFacts()) -> Alarms:
    """Return the alarms of a service, made by the first call.

    Args:
        facts: Returns the service's state, by which it raises its own alarms.
    """
    if Alarms not in api.parts:
        api.parts[Alarms] = Alarms(api.database, api.clock, facts, catalogue(api.settings))
    found: Alarms = api.parts[Alarms]
    return found


def _facts_of(one: JobAnswer, now: EpochSeconds) -> JobFacts:
    return JobFacts(
        name=one.name,
        error=(one.error or "unknown") if one.state == "failed" else "",
        late_s=one.late_s,
        paused_s=None if one.paused is None else max(0, now - one.paused),
    )
