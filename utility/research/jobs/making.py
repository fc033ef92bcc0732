"""Makes a release as it is asked: refused before a home is read, or written, or kept until a second person approves."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.time.times import iso
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.model.words import counted
from utility.access.actor import Actor
from utility.access.store.audit_log import record
from utility.database.database import open_database
from utility.readings.store.parts import count_fresh
from utility.research import store
from utility.research.coarsening import Coarsening, whole_days
from utility.research.groups import MIN_HOMES
from utility.research.homes import quarters_of
from utility.research.jobs.home_release import agreement_of, release_homes
from utility.research.jobs.open_release import earlier_sums, release_open
from utility.research.jobs.source import Result, Source, homes_in, source_of
from utility.research.release import Asked, Tier

STEPS_S = {Tier.OPEN: (900, 3600), Tier.HOMES: (15, 60, 300, 900, 3600)}
"""The lengths of a step that a tier may have, seconds."""

_HOUR_S = 3600
_DAY_S = 86_400


def asked_of(
    tier: Tier,
    start: EpochSeconds,
    end: EpochSeconds,
    coarsening: Coarsening,
    min_homes: int = MIN_HOMES,
    agreement: str = "",
) -> Asked:
    """Return what is asked, checked."""
    for name, time in (("from", start), ("to", end)):
        if time % _HOUR_S:
            raise ConfigError(f"{name} {iso(time)}: is not on an hour")
    if end - start < _DAY_S:
        raise ConfigError(f"to {iso(end)}: less than a day after {iso(start)}")
    if coarsening.step_s is not None and coarsening.step_s not in STEPS_S[tier]:
        raise ConfigError(f"step {coarsening.step_s}: of {tier} one of {', '.join(map(str, STEPS_S[tier]))}")
    step_s = None if coarsening.step_s == QUARTER_S else coarsening.step_s
    whole = replace(coarsening, step_s=step_s)
    asked_fine = (step_s or QUARTER_S) < QUARTER_S
    is_coarse = tier is Tier.HOMES and not asked_fine
    options = {
        "noise": whole.noise_wh and not is_coarse,
        "shuffle-days": whole.shuffled and not is_coarse,
        "round": whole.unit_wh and tier is Tier.OPEN,
        "sample": whole.sample_percent < 100 and tier is Tier.OPEN,
        "agreement": agreement and tier is Tier.OPEN,
        "homes": min_homes != MIN_HOMES and tier is not Tier.OPEN,
    }
    if wrong := [name for name, is_wrong in options.items() if is_wrong]:
        raise ConfigError(
            f"{wrong[0]}: not an option of {tier}{'' if is_coarse else f' in steps of {step_s} s' if step_s else ''}"
        )
    if whole.shuffled and not whole_days(start, end):
        raise ConfigError("shuffle-days: from and to must be at the start of a day in UTC, such as 2026-06-01T00:00Z")
    return Asked(tier=tier, start=start, end=end, min_homes=min_homes, coarsening=whole, agreement=agreement)


def make_release(source: Source, asked: Asked, out: Path | None, tell: store.Tell) -> Result:
    """Make a release; ``out`` as of ``place_of``."""
    _check_before_reading(source, asked)
    what = f"{asked.tier} {iso(asked.start)} to {iso(asked.end)} {asked.agreement}".rstrip()
    with source.database.writes.begin() as connection:
        record(connection, source.actor, source.now, "release.read", what)
    found, meters = homes_in(source, asked, tell)
    if asked.tier is Tier.OPEN:
        return release_open(source, asked, found, out)
    return release_homes(source, asked, found, meters, out)


def _check_before_reading(source: Source, asked: Asked) -> None:
    """Refuse what can't be released, before a home's readings are read."""
    if asked.tier is not Tier.OPEN:
        agreement_of(source, asked)
        return
    earlier_sums(source, asked)
    waiting = source.database.read(count_fresh, *quarters_of(asked.start, asked.end))
    if waiting and asked.end <= source.now:
        raise ConfigError(
            f"{counted(waiting, 'part')} of this period are not joined yet, and would change its sums later; the "
            f"running utility joins them within {source.settings.compact_s} s: try again then"
        )


def make_apart(
    settings: UtilitySettings, now: EpochSeconds, actor: Actor, asked: Asked, progress: Callable[[int, int], object]
) -> Result:
    """Make a release in a process of its own: all homes of a period may be larger than the service's memory.

    Args:
        progress: Called at least each second with percents that are done, and 100; what it raises ends the process.
    """
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_make, args=(theirs, settings, now, actor, asked), daemon=True)
    child.start()
    theirs.close()
    said: float | Result | CommonwattError = 0.0
    try:
        while isinstance(said, float):
            progress(round(100 * said), 100)
            if ours.poll(1):
                said = ours.recv()
    except EOFError as error:
        raise CommonwattError("its process was ended, perhaps for want of memory; ask for a shorter period") from error
    finally:
        child.kill()
        child.join()
        ours.close()
    if isinstance(said, CommonwattError):
        raise said
    return said


def _make(to: Connection, settings: UtilitySettings, now: EpochSeconds, actor: Actor, asked: Asked) -> None:
    database = open_database(settings.database, create=False, named="the utility's database")
    with suppress(BrokenPipeError):  # it was cancelled
        try:
            to.send(make_release(source_of(database, settings, now, actor), asked, None, to.send))
        except CommonwattError as error:
            to.send(CommonwattError(error.text if isinstance(error, ConfigError) else str(error)))
    database.close()
