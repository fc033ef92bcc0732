"""An alarm: its name, labels and key; its life; and the kinds that the utility raises by itself.

A condition's life::

    found:      absent → waiting (or standing, if it need not wait) → standing once it has lasted
    not found:  waiting → absent; standing → ended; unchanged while it can't be judged

A condition that passes by itself in time is no alarm. ``since`` is when the condition began, also across restarts.

Each kind has its section in the runbooks. ``make docs`` writes the rules of grafana/prometheus/rules.yml of them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from commonwatt.model.units import EpochSeconds

PREFIX = "Commonwatt"  # the names of all alarms begin with it
TOWN = "utility"  # the place of alarms that concern no microgrid
HEAD_END = "head-end"  # the place of the head-end broker's alarms
_NAMED = 3  # places that a sentence names
PARTS = ("broker", "gateway", "meters", "utility")  # the parts that alarms are of
# Labels that do not tell two alarms of a place apart, or stand at the front of the key.
_LEFT_OUT = frozenset({"alarm", "alertname", "controller", "part", "place", "severity"})


class Severity(StrEnum):
    """How soon a person must act; in the order of a list."""

    CRITICAL = "critical"  # now
    WARNING = "warning"  # today


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A condition that needs a person."""

    # Its labels, as Prometheus has them: ``alertname``, ``severity``, ``part``, ``place``, and more.
    labels: Mapping[str, str]
    summary: str  # what is wrong, a sentence
    description: str = ""  # what it means, in figures
    since: EpochSeconds = 0  # since when it stands, clock seconds
    # What tells it from other alarms; it stays the same while the figures in its texts change.
    key: str = field(init=False)

    def __post_init__(self) -> None:
        extra = (f"{label}={value}" for label, value in sorted(self.labels.items()) if label not in _LEFT_OUT)
        object.__setattr__(self, "key", "|".join((self.name, self.place, self.part, *extra)))

    @property
    def name(self) -> str:
        """The alarm's name, which is its section in the runbooks."""
        return self.labels["alertname"]

    @property
    def severity(self) -> Severity:
        """How soon a person must act; an unknown word counts as critical."""
        return Severity.WARNING if self.labels.get("severity") == Severity.WARNING else Severity.CRITICAL

    @property
    def place(self) -> str:
        """The microgrid, the head-end or the utility that it is about."""
        return self.labels.get("controller") or self.labels.get("place") or TOWN

    @property
    def part(self) -> str:
        """The part that it is about; what the utility reports of a controller is about its gateway."""
        return "gateway" if self.labels.get("controller") else self.labels.get("part", TOWN)


def order(alarm: Alarm) -> tuple[int, EpochSeconds, str]:
    """Return the place of an alarm in a list: critical ones first, then the newest."""
    return list(Severity).index(alarm.severity), -alarm.since, alarm.key


def title(name: str) -> str:
    """Return an alarm's name in words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removeprefix(PREFIX)).lower()
    return words.capitalize()


def places(places: Iterable[str]) -> str:
    """Return the first places by name and the number of the others."""
    every = sorted(set(places))
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class AlarmStage(StrEnum):
    """The stage of an own alarm."""

    WAITING = "waiting"  # the condition holds, and may pass
    STANDING = "standing"  # it lasted: people see it
    ENDED = "ended"  # it is over; kept for people who look back


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that holds now."""

    alarm: Alarm  # the alarm that it is; its ``since`` does not count
    for_s: int  # clock seconds that it must last
    held_s: int = 0  # clock seconds that it has lasted at least, as far as is known without the lives before


@dataclass(frozen=True, kw_only=True)
class Life:
    """An own alarm."""

    alarm: Alarm  # the alarm, with its texts as last found
    stage: AlarmStage  # its stage
    ended: EpochSeconds | None = None  # when it ended; ``None``: it did not


def advance(
    lives: Mapping[str, Life], found: Iterable[Condition], now: EpochSeconds, is_judged: Callable[[Alarm], bool]
) -> dict[str, Life]:
    """Return the lives, by key, after the conditions ``found`` at ``now``.

    Ended ones are returned once, and must not be given again. A clock set back begins a condition anew.

    Args:
        is_judged: Whether an alarm that was not found is over; else it can't be said now.
    """
    after: dict[str, Life] = {}
    for condition in found:
        alarm = condition.alarm
        before = lives.get(alarm.key)
        since = now - condition.held_s if before is None else min(before.alarm.since, now)
        stood = before is not None and before.stage is AlarmStage.STANDING
        stage = AlarmStage.STANDING if stood or now - since >= condition.for_s else AlarmStage.WAITING
        after[alarm.key] = Life(alarm=replace(alarm, since=since), stage=stage)
    for key, life in lives.items():
        if key in after:
            continue
        if not is_judged(life.alarm):
            after[key] = life
        elif life.stage is AlarmStage.STANDING:
            after[key] = replace(life, stage=AlarmStage.ENDED, ended=now)
    return after


_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


@dataclass(frozen=True)
class AlarmKind:
    """An alarm that the utility raises."""

    name: str  # its name, without the prefix
    severity: Severity  # how soon a person must act
    for_s: int  # clock seconds that the condition must last
    summary: str  # what is wrong, a sentence; in braces: labels
    past_s: int = 0  # clock seconds that the service must have run before it can say that the condition is over
    needs_head_end: bool = False  # whether nothing can be said of it without the head-end

    def alarm(self, description: str, **labels: str) -> Alarm:
        """Return an alarm of this kind."""
        own = {"alarm": self.name, "alertname": f"{PREFIX}{self.name}", "severity": self.severity.value}
        return Alarm(
            labels=own | {"part": TOWN, "place": TOWN} | labels,
            summary=self.summary.format(**labels),
            description=description,
        )


_EVERY = (
    # Gateways, by what they send.
    AlarmKind("GatewaySilent", _CRITICAL, 2 * _MINUTE_S, "The gateway of {controller} is silent.", needs_head_end=True),
    AlarmKind("BacklogOld", _WARNING, 6 * _HOUR_S, "Readings of {controller} have waited for more than a day."),
    AlarmKind("BacklogGrowing", _WARNING, 15 * _MINUTE_S, "The backlog of {controller} grows.", _HOUR_S),
    AlarmKind("GatewayClockUntrusted", _WARNING, 15 * _MINUTE_S, "The gateway of {controller} has no trusted time."),
    AlarmKind("GatewayOverQuota", _CRITICAL, 0, "{controller} has sent more refused records today than are kept."),
    AlarmKind(
        "GatewayCertificateExpired",
        _CRITICAL,
        0,
        "A certificate of the gateway of {controller} has expired, or expires within three days.",
    ),
    AlarmKind(
        "GatewayCertificateExpiring",
        _WARNING,
        10 * _MINUTE_S,
        "A certificate of the gateway of {controller} expires soon.",
    ),
    AlarmKind(
        "GatewayReleaseDiffers", _WARNING, 7 * _DAY_S, "The gateway of {controller} has another release than most."
    ),
    AlarmKind("GatewayDiskFills", _WARNING, _HOUR_S, "The disk of the gateway of {controller} is full within 14 days."),
    AlarmKind("DeviceDisobeys", _WARNING, 0, "Devices of others in {controller} do not do what they are told."),
    AlarmKind("DeviceUnsafe", _WARNING, _HOUR_S, "Nothing would stop devices of others in {controller} without us."),
    AlarmKind("AllowanceExceeded", _CRITICAL, 0, "The LTE line of {controller} has carried more than its plan allows."),
    AlarmKind(
        "AllowanceAtRisk", _WARNING, _HOUR_S, "The LTE line of {controller} will carry more than its plan allows."
    ),
    # Who manages which microgrid.
    AlarmKind("Unmanaged", _CRITICAL, 0, "No controller manages {controller}."),
    AlarmKind("CliqueStopped", _CRITICAL, 0, "The utility grants nothing in the clique of {controller}."),
    AlarmKind(
        "ManagedByAnother",
        _WARNING,
        0,
        "Another controller manages {controller}, although its own is alive.",
    ),
    AlarmKind("Handovers", _WARNING, 0, "The manager of {controller} changes again and again.", _HOUR_S),
    AlarmKind("Island", _WARNING, 10 * _MINUTE_S, "{controller} is an island."),
    AlarmKind("IslandDark", _CRITICAL, 0, "A home of the island {controller} is dark, or will be within an hour."),
    # The service and its connections.
    AlarmKind("UtilityDisconnected", _CRITICAL, 2 * _MINUTE_S, "The utility has no connection to a head-end broker."),
    AlarmKind("HeadEndAway", _WARNING, 5 * _MINUTE_S, "The utility has no connection to the head-end {head_end}."),
    AlarmKind("UtilityClockUntrusted", _WARNING, 15 * _MINUTE_S, "The utility's clock is not synchronized by NTP."),
    AlarmKind("BatchesRefused", _WARNING, 30 * _MINUTE_S, "The utility refuses batches: {reason}.", 20 * _MINUTE_S),
    AlarmKind("MessagesDropped", _WARNING, 0, "More messages arrive than the utility can process.", 15 * _MINUTE_S),
    AlarmKind("CertificateExpired", _CRITICAL, 0, "A certificate of the utility has expired, or expires within a day."),
    AlarmKind("CertificateExpiring", _WARNING, 10 * _MINUTE_S, "A certificate of the utility expires soon."),
    AlarmKind("JobFailing", _WARNING, 0, "The utility's job {task} fails again and again.", _HOUR_S),
    AlarmKind("JobLate", _WARNING, 30 * _MINUTE_S, "The utility's job {task} is late."),
    AlarmKind("JobPaused", _WARNING, _DAY_S, "The utility's job {task} has been paused for over a day."),
    # Its database, disk and backups.
    AlarmKind("StoreDamaged", _CRITICAL, 0, "The utility's database is damaged."),
    AlarmKind("DiskFull", _CRITICAL, 0, "The utility's disk is full."),
    AlarmKind("DiskNearlyFull", _WARNING, 10 * _MINUTE_S, "The utility's disk is nearly full."),
    AlarmKind("CommitsWait", _CRITICAL, 0, "The utility's database has no synchronous standby."),
    AlarmKind("DatabaseWentBack", _CRITICAL, 0, "The utility's database lacks what it had committed.", _HOUR_S),
    AlarmKind("StoreErrors", _WARNING, 0, "The utility's store fails.", 15 * _MINUTE_S),
    AlarmKind(
        "LogKept", _WARNING, 5 * _MINUTE_S, "The primary keeps much of its log for a standby that is behind or away."
    ),
    AlarmKind(
        "BackupOld", _WARNING, 15 * _MINUTE_S, "The newest backup of the database in repository {repository} is old."
    ),
    AlarmKind("ArchiveFails", _WARNING, 15 * _MINUTE_S, "The log of the database's server is not archived."),
    # Readings and settlement.
    AlarmKind("GapsGrowing", _WARNING, _HOUR_S, "More and more readings are missing.", 9 * _HOUR_S),
    AlarmKind("DeadLetters", _WARNING, 0, "Records or messages were sent that can't be accepted.", _HOUR_S),
    AlarmKind(
        "Conflicts",
        _WARNING,
        0,
        "Two different values arrived for one slot, or two different events with one number.",
        _HOUR_S,
    ),
    AlarmKind("ReadingsQuarantined", _WARNING, _HOUR_S, "Quarantined readings wait for a person's decision."),
    AlarmKind(
        "FindingsOpen", _WARNING, _HOUR_S, "The daily checks found readings that a person must look at: {check}."
    ),
    AlarmKind(
        "Residual", _WARNING, _HOUR_S, "Members and boundary of microgrids differ by more than their meters' rounding."
    ),
    # People.
    AlarmKind("RolloutStopped", _WARNING, 0, "The rollout of a release stopped by itself."),
    AlarmKind("JoinRefused", _WARNING, 0, "A controller that wanted to join was refused."),
    AlarmKind("WitnessRefused", _WARNING, 0, "A controller did not sign the check code of a month's bills."),
    AlarmKind("SecondPersonRefused", _WARNING, 0, "A person who may not be the second one tried to approve."),
    AlarmKind("BreakGlass", _CRITICAL, 0, "A command decided without the service and without a login."),
    # Renewals of certificates.
    AlarmKind("RenewalRefused", _WARNING, 0, "A certificate of this town was not renewed."),
    AlarmKind("CallsFail", _WARNING, 0, "People who are called for alarms can't be reached."),
    # The town's supply.
    AlarmKind("PlantSilent", _CRITICAL, 2 * _MINUTE_S, "The town's plant is silent.", needs_head_end=True),
    AlarmKind("PlantLow", _WARNING, 5 * _MINUTE_S, "The battery of the town's plant is below the level that is kept."),
    AlarmKind("SupplyShort", _CRITICAL, _MINUTE_S, "The regional supply is {state}."),
)
KINDS: Mapping[str, AlarmKind] = {kind.name: kind for kind in _EVERY}  # by name
