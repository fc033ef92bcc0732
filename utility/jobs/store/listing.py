"""The jobs for people: the list, and what a person may do with a job. Commands, pages and the API call the same."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Literal

from pydantic import BaseModel

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from utility.access.actor import Actor
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.calendar_periods import Seconds
from utility.jobs.plans import UNCHANGED, Change, Plan
from utility.jobs.store.job_leases import state_of
from utility.jobs.store.job_states import (
    RUNS,
    OpenPeriod,
    State,
    ask_for,
    newest_until,
    open_periods,
    save_change,
    states,
)
from utility.webkit.columns import Shown, Time


class JobAnswer(BaseModel):
    """A job. `open`: its periods that are due and not done; `late_s`: seconds by which it is late."""

    name: Annotated[str, Shown("Job")]
    also: tuple[str, ...]  # other names of it
    does: str
    every: Annotated[str, Shown("Every")]
    at: str  # the time of day at which it is due; empty: it runs at an interval
    changed: bool  # whether a person has set its interval or time of day
    state: Annotated[Literal["paused", "running", "waiting", "failed", "due", "ok"], Shown("State")]
    waits_for: str  # what its oldest open period waits for; empty: for nothing
    paused: Time | None  # since when it is paused
    next_due: Annotated[Time | None, Shown("Next")]  # when it is tried next; ``None``: unknown, since it never ran
    open: Annotated[int, Shown("Due")]
    late_s: Annotated[int, Shown("Late, s")]
    period: str | None  # the last period that was done
    done: Annotated[Time | None, Shown("Done")]
    took_ms: int | None  # how long that took, real milliseconds
    failed: Time | None  # when an attempt failed last
    error: Annotated[str | None, Shown("Last error")]


def listed(database: Database, plans: Sequence[Plan], now: EpochSeconds) -> list[JobAnswer]:
    """Return the jobs, in the order of their plans."""
    with database.reads.begin() as connection:
        zone, known, opened = zone_of(connection), states(connection), open_periods(connection, now)
        newest = newest_until(connection)
    return [
        _row(plan.in_force(state.change, zone), state, opened.get(plan.name), newest.get(plan.name), now)
        for plan in plans
        for state in [known.get(plan.name, State())]
    ]


def _row(
    plan: Plan, state: State, open_: OpenPeriod | None, until: EpochSeconds | None, now: EpochSeconds
) -> JobAnswer:
    change = state.change
    is_over = open_ is not None and (not plan.catch_up or open_.until <= now)
    return JobAnswer(
        name=plan.name,
        also=plan.also,
        does=plan.does,
        every=plan.every,
        at="" if isinstance(plan.cadence, Seconds) else f"{plan.minute // 60:02}:{plan.minute % 60:02}",
        changed=change.every_s is not None or change.minute is not None,
        state=_state(change, open_, now, is_over=is_over),
        waits_for=(open_.waits_for or "") if open_ is not None else "",
        paused=change.paused,
        next_due=_next_due(plan, open_, until),
        open=0 if open_ is None else open_.over if plan.catch_up else int(open_.due <= now or open_.attempts > 0),
        late_s=0 if change.paused is not None else _late_s(plan, state, open_, now),
        **{name: getattr(state, name) for name in RUNS},
    )


def _late_s(plan: Plan, state: State, open_: OpenPeriod | None, now: EpochSeconds) -> int:
    """Return by how many seconds a job is late; 0: it is in time, or it never ran."""
    if open_ is None:
        return 0
    if plan.catch_up:
        return max(0, now - plan.due(open_.start, open_.until) - plan.late_s)
    # Of such a job only the present period is kept: what counts is the last one that was done.
    length = open_.until - open_.start
    return 0 if state.done is None else max(0, now - state.done - length - plan.late_s)


def _next_due(plan: Plan, open_: OpenPeriod | None, until: EpochSeconds | None) -> EpochSeconds | None:
    if open_ is not None:
        return open_.due
    if until is None:
        return None
    following = plan.cadence.period_at(until)
    return plan.due(following.start, following.end)


def _state(change: Change, open_: OpenPeriod | None, now: EpochSeconds, *, is_over: bool) -> str:
    if change.paused is not None:
        return "paused"
    state = state_of(open_, now) if open_ is not None and is_over else "ok"
    return "ok" if state == "to come" else state


def run_now(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> str:
    """Have the service's next tick run a job; return what will be run.

    Raises:
        ConfigError: The job is paused or running, or has no period that is over.
    """
    with database.writes.begin() as connection:
        state = states(connection).get(plan.name, State())
        if state.change.paused is not None:
            raise ConfigError(f"{plan.name} is paused since {moment(state.change.paused)}; resume it first")
        open_ = open_periods(connection, now).get(plan.name)
        if plan.catch_up and (open_ is None or open_.until > now):
            over = "" if open_ is None else f"; {open_.name} ends at {moment(open_.until)}"
            raise ConfigError(f"{plan.name}: every period that is over is done{over}")
        if not ask_for(connection, plan.name, now, again=not plan.catch_up):
            if open_ is None and state.done is None:
                return f"{plan.name} has not run yet: the service runs it within 15 s of its start"
            raise ConfigError(f"{plan.name} is running now")
        record(connection, actor, now, "job.run", plan.name)
        return f"{plan.name} runs within 15 s, if the service is up: see its last run in the list of jobs"


def pause(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> None:
    """Pause a job: it begins no further run.

    Raises:
        ConfigError: It is paused.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, State()).change
        if before.paused is not None:
            raise ConfigError(f"{plan.name} is paused already, since {moment(before.paused)}")
        save_change(connection, plan, before, replace(before, paused=now))
        record(connection, actor, now, "job.pause", plan.name)


def resume(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> None:
    """End a pause; a job that catches up makes up for the periods that it missed.

    Raises:
        ConfigError: It is not paused.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, State()).change
        if before.paused is None:
            raise ConfigError(f"{plan.name} is not paused")
        save_change(connection, plan, before, replace(before, paused=None))
        record(connection, actor, now, "job.resume", plan.name, {"paused": before.paused})


def change(
    database: Database,
    plan: Plan,
    actor: Actor,
    now: EpochSeconds,
    *,
    every_s: int | None = None,
    minute: int | None = None,
) -> None:
    """Set a job's interval or time of day, in place of what was set before; without both it is as planned again.

    Raises:
        ConfigError: The job can't have it.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, State()).change
        after = replace(UNCHANGED, paused=before.paused, every_s=every_s, minute=minute)
        if (fault := plan.fault(after)) is not None:
            raise ConfigError(fault)
        save_change(connection, plan, before, after)
        record(connection, actor, now, "job.change", plan.name, asdict(before), asdict(after))
