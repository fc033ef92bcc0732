"""The utility's machine for its administrators: each part with its state, by the conditions of the alarms (pure)."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from commonwatt.model.text import counted, duration
from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import PREFIX, Alarm, Severity
from utility.alarms.conditions import UtilityFacts, conditions

BACKUP = "backup"  # the job that makes the backups
_JOBS = ("JobFailing", "JobLate", "JobPaused")
_USES = {"mqtt": "for gateways", "http": "for browsers"}


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """What is known of the utility besides its alarms' facts."""

    version: str  # of this program
    schema: str  # of the database
    jobs: int  # how many jobs it has
    makes_backups: bool  # whether a job of it makes backups
    backup: EpochSeconds | None  # when the newest backup was made; ``None``: none was made
    street: bool = False  # whether the supervisor of a street makes them each night, once a passphrase is set
    fault: str = ""  # why it did not make the newest


@dataclass(frozen=True, kw_only=True)
class SystemPart:
    """A part of the utility."""

    name: str  # for people
    words: str  # what is known of it
    state: str  # ``good``, ``warning``, ``bad``, or ``idle``: not known here, or not in use
    wrong: tuple[Alarm, ...] = ()  # what is wrong with it
    step: str = ""  # what to do while it is not known or not in use; empty: nothing


def parts(facts: UtilityFacts, known: SystemFacts, now: EpochSeconds) -> Iterator[SystemPart]:
    """Yield the parts.

    Args:
        facts: The service's state, by which it raises its own alarms.
        known: What else is known.
        now: The time.
    """
    held = [each.alarm for each in conditions(facts)]
    backups = [alarm for alarm in held if alarm.labels.get("task") == BACKUP]
    others = [alarm for alarm in held if alarm not in backups]
    heard = f"{counted(len(facts.said), 'gateway')} heard since the service's start"
    ends = [f"{_USES.get(use, use)} {_left(left_s)}" for use, left_s in facts.certificates.items()]
    yield _part("Connection", heard, others, ["UtilityDisconnected", "HeadEndAway"])
    watched = "" if facts.disk is not None else "Watch the disk of the database's server there."
    yield _part("Disk", _disk(facts), others, ["DiskFull", "DiskNearlyFull"], watched)
    yield _part("Database", f"schema {known.schema}", others, ["StoreDamaged"])
    by_machine = "See that the machine makes one each night, and copies it to another one."
    backed_up = "Set a passphrase under Setup, Backup." if known.street else by_machine
    made = _part("Backups", _backup(known, now), backups, _JOBS, "" if known.makes_backups else backed_up)
    yield replace(made, state="bad", step="See Setup, Backup.") if known.fault else made
    certificates = "; ".join(ends) or "none: connections are not encrypted here"
    encrypted = "" if ends else "Needed before browsers or gateways of other machines connect."
    yield _part("Certificates", certificates, others, ["CertificateExpired", "CertificateExpiring"], encrypted)
    yield _part("Clock", "gateways take the time from it", others, ["UtilityClockUntrusted"])
    yield _part("Versions", _versions(facts, known), others, [])
    yield _part("Jobs", f"{counted(known.jobs, 'job')}, listed below", others, _JOBS)


def _part(name: str, words: str, held: Sequence[Alarm], names: Collection[str], step: str = "") -> SystemPart:
    wrong = tuple(alarm for alarm in held if alarm.name.removeprefix(PREFIX) in names)
    state = "idle" if step else "good"
    if wrong:
        state = "bad" if any(alarm.severity is Severity.CRITICAL for alarm in wrong) else "warning"
    return SystemPart(name=name, words=words, state=state, wrong=wrong, step=step)


def _disk(facts: UtilityFacts) -> str:
    if facts.disk is None:
        return "not measured here: the database is on a server, or the service has just started"
    free, size = facts.disk
    return f"{free / 1e9:,.1f} GB of {size / 1e9:,.1f} GB are free"


def _backup(known: SystemFacts, now: EpochSeconds) -> str:
    if known.fault:
        return f"the last one was not made: {known.fault}"
    if known.street and not known.makes_backups:
        return "none is made: no passphrase is set"
    if not known.makes_backups:
        return "not made by this service; whether a timer of the machine makes them is not known here"
    return "none yet" if known.backup is None else f"the newest was made {duration(now - known.backup)} ago"


def _left(left_s: float) -> str:
    return f"ended {duration(int(-left_s))} ago" if left_s < 0 else f"ends in {duration(int(left_s))}"


def _versions(facts: UtilityFacts, known: SystemFacts) -> str:
    """Return the versions; a gateway of 0.3 or older does not say its own."""
    counts = Counter(heartbeat.release or "0.3 or older" for heartbeat in facts.said.values())
    gateways = [f"{counted(number, 'gateway')} {release}" for release, number in sorted(counts.items(), reverse=True)]
    return f"utility {known.version}, {', '.join(gateways) or 'no gateway heard'}"
