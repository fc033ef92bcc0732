"""The conditions that the utility itself sees, and what it counted in their windows (pure).

What was counted begins anew with each start: until then an alarm that stood is not over (``Kind.past_s``).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from commonwatt.energy.lasting import Band
from commonwatt.model.control import SupplyState
from commonwatt.model.text import counted, duration
from commonwatt.model.time import Lows, Recent, Trust
from commonwatt.protocol.commands import ForeignDevice, Stage
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.plant_messages import PlantReport
from utility.alarms.alarm import KINDS, PREFIX, Alarm, Condition
from utility.readings.gaps import GATEWAY_SILENT_S

Count: TypeAlias = tuple[str, str]  # a counter's name, and its label's value; empty: it has no label

_WINDOWS_S = {
    "dropped": 900,
    "store_errors": 900,
    "refusals": 1_200,
    "conflicts": 3_600,
    "dead_letters": 3_600,
    "handovers": 3_600,
    "job_failures": 3_600,
    "went_back": 3_600,
}
"""The windows in which counters are watched, by their names, seconds."""

_CONFLICTS: Count = ("conflicts", "")
_BACKLOGS_S, _GAPS_S = 1_200, 10_800  # the periods of which the lowest values are compared, seconds


@dataclass(frozen=True, kw_only=True)
class Past:
    """What was counted lately."""

    counts: Mapping[Count, int] = field(default_factory=dict)  # by how much each counter grew within its window
    growing: frozenset[str] = frozenset()  # controllers whose backlog grows
    gaps_grow: bool = False  # whether more and more blocks have missing readings
    none_missing: bool = False  # whether no block has missing readings

    def count(self, name: str) -> int:
        """Return by how much a counter without labels grew."""
        return self.counts.get((name, ""), 0)

    def by_label(self, name: str) -> dict[str, int]:
        """Return by how much a counter grew, by its label's value."""
        return {label: number for (each, label), number in self.counts.items() if each == name}


class Counting:
    """Counters and figures since ``now``, clock seconds; it begins anew when the clock is set back."""

    def __init__(self, now: float) -> None:
        self.past = Past()  # what was counted lately, at the last look
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._now = now
        self._recent = Recent[Count](now)
        self._backlogs = Lows[str](_BACKLOGS_S)
        self._gaps = Lows[str](_GAPS_S)
        self._conflicts = math.nan
        self._more_conflicts = 0
        self._missing = math.nan

    def look(
        self, counts: Mapping[Count, int], backlogs: Mapping[str, int], gaps: float, conflicts: float, now: float
    ) -> None:
        """Take the present values.

        Args:
            counts: Counters that began at 0, by the names of ``_WINDOWS_S``.
            backlogs: What waits at each controller.
            gaps: Blocks with missing readings; NaN: not counted yet.
            conflicts: Slots with more than one value; NaN: not counted yet.
        """
        if now < self._now:
            self._begin(now)
        self._now, self._missing = now, gaps
        if not math.isnan(conflicts):
            self._more_conflicts += 0 if math.isnan(self._conflicts) else max(0, int(conflicts - self._conflicts))
            self._conflicts = conflicts
        self._recent.look({**counts, _CONFLICTS: counts.get(_CONFLICTS, 0) + self._more_conflicts}, now)
        self._backlogs.look(backlogs, now)
        self._gaps.look({} if math.isnan(gaps) else {"": gaps}, now)
        self.past = Past(
            counts={name: self._recent.increase(name, _WINDOWS_S[name[0]]) for name in self._recent.names},
            growing=frozenset(self._backlogs.growing(now)),
            gaps_grow=bool(self._gaps.growing(now)),
            none_missing=self._missing == 0,
        )


RETURNED_S = 1800  # seconds for which a controller is heard until which it has its own microgrid back
UNMANAGED_S = 60  # seconds without a controller that can command a microgrid after which it is an alarm
LATE_S = 150  # seconds without a message after which a gateway is late: two heartbeats are missing

_HOUR_S, _DAY_S = 3_600, 86_400
_BACKLOG_OLD_S = _DAY_S
_BACKLOG_GROWS_S = 1_800  # seconds that the oldest reading has waited at least in a backlog that grows
_BACKUP_OLD_S = 36 * _HOUR_S
_LOG_KEPT_BYTES = 10_000_000_000
_MANY_FAILURES = 2  # failures of a job within an hour that are none too many
_MANY_HANDOVERS = 3  # handovers of a microgrid within an hour that are none too many
_CERTIFICATE_SOON_S, _CERTIFICATE_NOW_S = 14 * _DAY_S, _DAY_S
_ENROLMENT, _ENROLMENT_SOON_S = "enrolment", 60 * _DAY_S  # the office has to carry a bundle to the utility
_GATEWAYS_SOON_DAYS, _GATEWAYS_NOW_DAYS = 21, 3  # a person has to visit it
_DISK_FILLS_DAYS = 14  # a person may have to visit it
_NEARLY_FULL = 0.1
_LOW_PERCENT = 98  # percent of the kept level: at that level the plant's battery waits, within what its meter shows


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """What is known of a job."""

    name: str  # its name
    error: str = ""  # why its last attempt failed, if none was done since; empty: it does not fail
    late_s: int = 0  # seconds since it should have been done at the latest; 0: it is in time
    paused_s: int | None = None  # seconds since a person paused it; ``None``: it is not paused


@dataclass(frozen=True, kw_only=True)
class DatabaseCounts:
    """What is counted in the database."""

    jobs: tuple[JobFacts, ...] = ()  # the jobs
    quarantined: int = 0  # dead letters with quarantined readings that wait for a person
    findings: Mapping[str, int] = field(default_factory=dict)  # open findings of the daily checks, by check
    # Attempts of people who may not be the second one, which no administrator has seen, the oldest first.
    refused: tuple[str, ...] = ()
    # Commands that decided without the service, which no administrator has seen, the oldest first.
    broken: tuple[str, ...] = ()
    # Microgrids whose members and boundary differ by more than the bound, the worst first.
    residuals: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()  # controllers that did not sign a month's check code as they were asked
    rollout_stopped: str = ""  # why the newest rollout stopped by itself; empty: it did not


@dataclass(frozen=True, kw_only=True)
class UtilityFacts:
    """The utility's state. Ages are clock seconds."""

    head_ends: Mapping[str, bool] = field(default_factory=dict)  # whether each head-end is connected, by address
    trusted: bool = True  # whether the utility's clock is synchronized
    silent_s: Mapping[str, float] = field(default_factory=dict)  # seconds since each gateway's last message
    said: Mapping[str, Heartbeat] = field(default_factory=dict)  # each gateway's last heartbeat
    # Gateways of which no more dead letters are kept today, each with the reason of its refused batches.
    over_quota: Mapping[str, str] = field(default_factory=dict)
    # The manager of each microgrid that another controller manages, and for how many real seconds its own is heard.
    managed_by: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    unmanaged_s: Mapping[str, float] = field(default_factory=dict)  # seconds without a manager, of microgrids without
    stopped: Mapping[str, str] = field(default_factory=dict)  # the error of each clique whose rules failed
    # Of each microgrid that is cut off from the town, for how long, and the hours until its first home is dark.
    islands: Mapping[str, tuple[float, Band | None]] = field(default_factory=dict)
    # Seconds since the plant's last report, and the report; ``None``: there was none.
    plant: tuple[float, PlantReport] | None = None
    damaged: bool = False  # whether the database is damaged
    full: bool = False  # whether the disk is full
    waits: bool = False  # whether commits wait for a synchronous standby
    disk: tuple[int, int] | None = None  # free and all bytes of the disk; ``None``: not known
    # Seconds until the first certificate of a use expires.
    certificates: Mapping[str, float] = field(default_factory=dict)
    counted: DatabaseCounts = field(default_factory=DatabaseCounts)  # what was counted in the database
    joins_refused: tuple[str, ...] = ()  # why joins were refused within a day, and from where, the newest last
    past: Past = field(default_factory=Past)  # what was counted lately
    log_kept_bytes: int = 0  # bytes of a cluster's log that wait for a standby
    # Seconds since the newest backup in each repository was finished; empty: pgBackRest is not used.
    backups_s: Mapping[str, float] = field(default_factory=dict)
    archive_fails: bool = False  # whether the server's log is not archived to pgBackRest
    renewals_refused: tuple[str, ...] = ()  # why renewals were refused within a day, and from where, the newest last
    uncalled: tuple[str, ...] = ()  # addresses that did not take the last message about alarms

    @property
    def connected(self) -> bool:
        """Whether one of the head-ends is connected."""
        return any(self.head_ends.values()) or not self.head_ends


def conditions(facts: UtilityFacts) -> Iterator[Condition]:
    """Yield what holds now."""
    for rule in _RULES:
        yield from rule(facts)


def is_judged(alarm: Alarm, facts: UtilityFacts, ran_s: float) -> bool:
    """Return whether an alarm that was not found is over; without the head-end, silence says nothing.

    Args:
        ran_s: Clock seconds that the service has run.
    """
    kind = KINDS.get(alarm.name.removeprefix(PREFIX))
    if kind is None or (kind.name == "GapsGrowing" and facts.past.none_missing):
        return True
    return ran_s >= kind.past_s and (facts.connected or not kind.needs_head_end)


def _condition(name: str, description: str, *, held_s: float = 0, **labels: str) -> Condition:
    kind = KINDS[name]
    return Condition(alarm=kind.alarm(description, **labels), for_s=kind.for_s, held_s=int(held_s))


def _gateways(facts: UtilityFacts) -> Iterator[Condition]:
    for name, silent_s in facts.silent_s.items() if facts.connected else ():
        if silent_s > GATEWAY_SILENT_S:
            text = (
                f"No message for {duration(int(silent_s))}. Its meters' readings wait at the gateway, or at the meters."
            )
            yield _condition("GatewaySilent", text, controller=name)
    usual = usual_release(facts.said.values())
    for name, heartbeat in facts.said.items():
        if heartbeat.backlog_age_s > _BACKLOG_OLD_S:
            text = f"The oldest reading has waited at its gateway for {duration(heartbeat.backlog_age_s)}."
            yield _condition("BacklogOld", text, controller=name)
        if heartbeat.trust < Trust.HARDWARE:
            text = "It keeps readings, but sends no averages and rejects no reading as from the future."
            yield _condition("GatewayClockUntrusted", text, controller=name)
        if heartbeat.program is not None:
            yield from _program(name, heartbeat.program, usual)
        yield from _devices(name, (heartbeat.devices or {}).values())
    for name, reason in facts.over_quota.items():
        text = f"Its batches with more wait at it until tomorrow: {reason}."
        text += " A program with its credentials may be no gateway."
        yield _condition("GatewayOverQuota", text, controller=name)


def usual_release(said: Iterable[Heartbeat]) -> str:
    """Return the release that most gateways have; empty: none is known."""
    counts = Counter(heartbeat.release for heartbeat in said if heartbeat.release)
    return max(counts, key=lambda release: (counts[release], release), default="")


def _program(name: str, program: Program, usual: str) -> Iterator[Condition]:
    days = program.cert_days
    text = f"Days left: {days}. Without it the gateway does not connect, and readings wait there."
    if days is not None and days < _GATEWAYS_NOW_DAYS:
        yield _condition("GatewayCertificateExpired", text, controller=name)
    elif days is not None and days < _GATEWAYS_SOON_DAYS:
        yield _condition("GatewayCertificateExpiring", text, controller=name)
    if program.release != usual:
        text = f"It runs {program.release}, most others {usual}."
        yield _condition("GatewayReleaseDiffers", text, controller=name)
    if program.disk_days is not None and program.disk_days <= _DISK_FILLS_DAYS:
        text = f"At the rate of the last week it is full in {counted(program.disk_days, 'day')}. Then the oldest data"
        text += " that the utility has is deleted there, and after that records are refused."
        yield _condition("GatewayDiskFills", text, controller=name)


def _devices(name: str, devices: Iterable[ForeignDevice]) -> Iterator[Condition]:
    states = [(device.name, kind, state) for device in devices for kind, state in device.states.items()]
    disobeys = [f"{device}, {kind}: {state.finding}" for device, kind, state in states if state.stage is Stage.DISOBEYS]
    unsafe = [f"{device}, {kind}" for device, kind, state in states if state.is_unsafe]
    if disobeys:
        text = f"{'; '.join(disobeys[:5])}. They are told again; other batteries give meanwhile."
        yield _condition("DeviceDisobeys", text, controller=name)
    if unsafe:
        text = f"If the adapter or its machine stops, they go on with what they were told: {'; '.join(unsafe[:5])}."
        yield _condition("DeviceUnsafe", text, controller=name)


def _takeover(facts: UtilityFacts) -> Iterator[Condition]:
    for name, lost_s in facts.unmanaged_s.items():
        if lost_s > UNMANAGED_S:
            text = f"For {duration(int(lost_s))} no controller was heard that can command it. Its meters keep what they"
            text += " were told until it ends."
            yield _condition("Unmanaged", text, controller=name)
    for name, error in facts.stopped.items():
        text = f"The rules of takeover failed there: {error}. Its controllers watch each other by themselves meanwhile."
        yield _condition("CliqueStopped", text, controller=name)
    for name, (manager, heard_s) in facts.managed_by.items() if facts.connected else ():
        if heard_s > RETURNED_S:
            text = f"{manager} manages it, and the utility hears the controller of {name} for {duration(int(heard_s))}."
            yield _condition("ManagedByAnother", text, controller=name)


def _islands(facts: UtilityFacts) -> Iterator[Condition]:
    for name, (for_s, dark) in facts.islands.items():
        kind = "IslandDark" if is_nearly_dark(dark) else "Island"
        text = f"For {duration(int(for_s))}. {dark_words(dark)}. What its homes do not use now lasts longer."
        yield _condition(kind, text, held_s=for_s, controller=name)


def is_nearly_dark(dark: Band | None) -> bool:
    """Return whether a home is dark, or is expected to be within an hour."""
    return dark is not None and dark.middle is not None and dark.middle <= 1


def dark_words(dark: Band | None) -> str:
    """Return when the first home of an island is dark."""
    return "When its first home is dark is not known" if dark is None else f"Its first home is dark after {dark.words}"


def _lines(facts: UtilityFacts) -> Iterator[Condition]:
    for name, heartbeat in facts.said.items():
        month = heartbeat.lte
        for direction, of in (("up", 0), ("down", 1)) if month is not None else ():
            assert month is not None
            if month.used[of] > month.allowance:
                text = f"{month.used[of] / 1e9:.2f} GB {direction} so far this month."
                yield _condition("AllowanceExceeded", text, controller=name, direction=direction)
            elif month.expected is not None and month.expected[of] > month.allowance:
                text = f"About {month.expected[of] / 1e9:.2f} GB {direction} by the month's end, at the present rate."
                yield _condition("AllowanceAtRisk", text, controller=name, direction=direction)


def _service(facts: UtilityFacts) -> Iterator[Condition]:
    """Yield what the service itself lacks: its connection, its time, its database."""
    free, size = facts.disk or (1, 1)
    if not facts.connected:
        text = "No readings arrive from any microgrid; they wait at the gateways."
        yield _condition("UtilityDisconnected", text)
    if not facts.trusted:
        yield _condition("UtilityClockUntrusted", "Gateways do not take the time from it.")
    if facts.damaged:
        text = "Nothing is acknowledged any more; readings wait at the gateways until a person acts."
        yield _condition("StoreDamaged", text)
    if facts.full:
        yield _condition("DiskFull", "It stores no readings; they wait at their senders.")
    if facts.waits:
        text = "No commit ends, so nothing is acknowledged; readings wait at the gateways."
        yield _condition("CommitsWait", text)
    if free < _NEARLY_FULL * size:
        yield _condition("DiskNearlyFull", f"Only {100 * free / size:.1f} % of it is free.")
    if facts.log_kept_bytes > _LOG_KEPT_BYTES:
        text = (
            f"{facts.log_kept_bytes / 1e9:,.1f} GB wait. After 20 GB that standby is given up and must be copied anew."
        )
        yield _condition("LogKept", text)
    if facts.archive_fails:
        text = "A restore would end at the last archived minute, and the server's disk fills."
        yield _condition("ArchiveFails", text)


def _readings(facts: UtilityFacts) -> Iterator[Condition]:
    """Yield what happened to readings and messages of the whole town."""
    known, past = facts.counted, facts.past
    if known.quarantined:
        text = (
            f"Refused records with such readings: {known.quarantined}. No bill includes them until they are released."
        )
        yield _condition("ReadingsQuarantined", text)
    if known.residuals:
        text = "Energy passes a meter that does not read it, or settings are wrong."
        yield _condition("Residual", f"{text} The worst: {', '.join(known.residuals[:3])}.")
    if past.gaps_grow:
        text = "The utility requests them from gateways. More are missing than three hours ago."
        yield _condition("GapsGrowing", text)
    if dropped := past.count("dropped"):
        text = f"{dropped:,} were dropped in 15 minutes. They are sent again, so nothing is lost."
        yield _condition("MessagesDropped", text)
    if errors := past.count("store_errors"):
        text = f"{counted(errors, 'failure')} in 15 minutes. The data was not acknowledged; it is sent again."
        yield _condition("StoreErrors", text)
    if letters := past.count("dead_letters"):
        yield _condition("DeadLetters", f"{letters:,} more refused records within the last hour.")
    if past.count("conflicts"):
        text = "The smaller value and the older event are in force; all are kept."
        yield _condition("Conflicts", text)
    if past.count("went_back"):
        text = "Gateways send again what they have acknowledged since; what people decided since is lost."
        yield _condition("DatabaseWentBack", text)


def _people(facts: UtilityFacts) -> Iterator[Condition]:
    """Yield what controllers and people asked for and did not get, and what a person must look at."""
    known = facts.counted
    if facts.joins_refused:
        yield _condition("JoinRefused", f"Within a day: {'; '.join(facts.joins_refused[-5:])}.")
    if facts.renewals_refused:
        yield _condition("RenewalRefused", f"Within a day: {'; '.join(facts.renewals_refused[-5:])}.")
    if known.witnesses:
        text = f"Refused, or signed wrongly: {', '.join(known.witnesses[-5:])}. Receipts lack these signatures."
        yield _condition("WitnessRefused", text)
    if known.rollout_stopped:
        text = f"{known.rollout_stopped}. No further controller is upgraded; those under way go on."
        yield _condition("RolloutStopped", text)
    if known.refused:
        text = f"Attempts: {len(known.refused)}. The newest: {known.refused[-1]}."
        yield _condition("SecondPersonRefused", text)
    if known.broken:
        yield _condition("BreakGlass", f"Commands: {len(known.broken)}. The newest: {known.broken[-1]}.")
    if facts.uncalled:
        text = f"The last message was not taken by {', '.join(facts.uncalled)}. A call that none took is made again."
        yield _condition("CallsFail", text)


def _parts(facts: UtilityFacts) -> Iterator[Condition]:
    for address, is_connected in facts.head_ends.items() if facts.connected else ():
        if not is_connected:
            text = "Gateways that were there go to the other head-end. If that is lost too, no readings arrive."
            yield _condition("HeadEndAway", text, head_end=address)
    for check, number in facts.counted.findings.items():
        if number:
            yield _condition("FindingsOpen", f"Open findings: {number}.", check=check)
    for repository, age_s in facts.backups_s.items():
        if age_s > _BACKUP_OLD_S:
            ago = "There is none" if age_s == math.inf else f"pgBackRest finished it {duration(int(age_s))} ago"
            yield _condition("BackupOld", f"{ago}.", repository=repository)


def _jobs(facts: UtilityFacts) -> Iterator[Condition]:
    for job in facts.counted.jobs:
        if (failures := facts.past.counts.get(("job_failures", job.name), 0)) > _MANY_FAILURES:
            text = f"{failures} failures within an hour. It runs again by itself."
            text += f" The last time: {job.error.rstrip('.')}." if job.error else ""
            yield _condition("JobFailing", text, task=job.name)
        if job.late_s:
            text = f"It should have been done {duration(job.late_s)} ago at the latest."
            yield _condition("JobLate", text, held_s=job.late_s, task=job.name)
        if job.paused_s is not None:
            text = "A person paused it. What it would do waits until a person resumes it."
            yield _condition("JobPaused", text, held_s=job.paused_s, task=job.name)


def _plant(facts: UtilityFacts) -> Iterator[Condition]:
    if facts.plant is None:
        return
    age_s, report = facts.plant
    if age_s > GATEWAY_SILENT_S and facts.connected:
        text = f"No report for {duration(int(age_s))}. Nothing is bought ahead; the plant serves the town by itself."
        yield _condition("PlantSilent", text)
    if 100 * report.level_mwh < _LOW_PERCENT * report.keep_mwh:
        text = f"It holds {report.level_mwh / 1e6:,.0f} kWh. What is left serves the public microgrid alone."
        yield _condition("PlantLow", text)
    # The last known state holds until a report says otherwise: reports that come late end no shortage.
    if report.supply is not SupplyState.NORMAL:
        text = "All places reduce, and microgrids may have an import limit; emergency services have none."
        text += f" The plant reported it {duration(int(age_s))} ago." if age_s > GATEWAY_SILENT_S else ""
        yield _condition("SupplyShort", text, state=report.supply.value)


def _certificates(facts: UtilityFacts) -> Iterator[Condition]:
    for use, left_s in facts.certificates.items():
        text = f"It is used for {use}. Without it connections fail, and readings wait at their senders."
        if use == _ENROLMENT:
            text = (
                "Without it no controller joins or renews. At the office: site init; then a new bundle of the utility."
            )
        if left_s < _CERTIFICATE_NOW_S:
            yield _condition("CertificateExpired", text, use=use)
        elif left_s < (_ENROLMENT_SOON_S if use == _ENROLMENT else _CERTIFICATE_SOON_S):
            yield _condition("CertificateExpiring", text, use=use)


def _lately(facts: UtilityFacts) -> Iterator[Condition]:
    past = facts.past
    for name in sorted(past.growing):
        heartbeat = facts.said.get(name)
        if heartbeat is not None and heartbeat.backlog_age_s > _BACKLOG_GROWS_S:
            waiting = heartbeat.backlog_parts + heartbeat.backlog_events + heartbeat.backlog_letters
            text = f"{waiting:,} parts, events and refused records wait at its gateway, more than before."
            yield _condition("BacklogGrowing", text, controller=name)
    for name, times in past.by_label("handovers").items():
        if times > _MANY_HANDOVERS:
            text = f"{times} handovers within an hour. Each harms nothing, but sharing begins anew each time."
            yield _condition("Handovers", text, controller=name)
    for reason, number in past.by_label("refusals").items():
        if number and not reason.endswith("_full"):  # A quota is an alarm of its own.
            text = "Their data waits at the gateways until the cause is removed."
            yield _condition("BatchesRefused", text, reason=reason)


_RULES: tuple[Callable[[UtilityFacts], Iterator[Condition]], ...] = (
    _gateways,
    _takeover,
    _islands,
    _lines,
    _service,
    _readings,
    _people,
    _parts,
    _jobs,
    _plant,
    _certificates,
    _lately,
)
