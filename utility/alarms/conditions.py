"""The conditions that the utility itself sees: those of grafana/prometheus/rules.yml that its own state shows.

Names, severities, waits and summaries are those of the rules; a test compares them. Rules that need the past of a
figure, or another part's metrics, are Prometheus's alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.time.now import Trust
from commonwatt.model.words import duration
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.plant_messages import PlantReport
from utility.alarms.alarm import PREFIX, TOWN, Alarm, Severity
from utility.alarms.lifecycle import Condition

UNMANAGED_S = 60  # seconds without a controller that can command a microgrid after which it is an alarm
LATE_S = 150  # seconds without a message after which a gateway is late: two heartbeats are missing
SILENT_S = 300  # seconds without a message after which a gateway, or the plant, is silent

_HOUR_S, _DAY_S = 3_600, 86_400
_BACKLOG_OLD_S = _DAY_S
_CERTIFICATE_SOON_S, _CERTIFICATE_NOW_S = 14 * _DAY_S, _DAY_S
_GATEWAYS_SOON_DAYS, _GATEWAYS_NOW_DAYS = 21, 3  # a person has to visit it
_NEARLY_FULL = 0.1
_HEARD = (f"{PREFIX}GatewaySilent", f"{PREFIX}PlantSilent")
_LOW_PERCENT = 98  # percent of the kept level: at that level the plant's battery waits, within what its meter shows


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """What is known of a job."""

    name: str  # its name
    error: str = ""  # why its last attempt failed, if none was done since; empty: it does not fail
    late_s: int = 0  # seconds since it should have been done at the latest; 0: it is in time
    paused_s: int | None = None  # seconds since a person paused it; ``None``: it is not paused


@dataclass(frozen=True, kw_only=True)
class Counted:
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
    # Files of the archive that are missing or have a damaged block, each with the reason.
    archive: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The utility's state. Ages are clock seconds."""

    head_ends: Mapping[str, bool] = field(default_factory=dict)  # whether each head-end is connected, by address
    trusted: bool = True  # whether the utility's clock is synchronized
    silent_s: Mapping[str, float] = field(default_factory=dict)  # seconds since each gateway's last message
    said: Mapping[str, Heartbeat] = field(default_factory=dict)  # each gateway's last heartbeat
    # Gateways of which no more dead letters are kept today, each with the reason of its refused batches.
    over_quota: Mapping[str, str] = field(default_factory=dict)
    # The manager of each microgrid that another controller manages.
    managed_by: Mapping[str, str] = field(default_factory=dict)
    unmanaged_s: Mapping[str, float] = field(default_factory=dict)  # seconds without a manager, of microgrids without
    stopped: Mapping[str, str] = field(default_factory=dict)  # the error of each clique whose rules failed
    # Seconds since the plant's last report, and the report; ``None``: there was none.
    plant: tuple[float, PlantReport] | None = None
    damaged: bool = False  # whether the database is damaged
    full: bool = False  # whether the disk is full
    waits: bool = False  # whether commits wait for a synchronous standby
    disk: tuple[int, int] | None = None  # free and all bytes of the disk; ``None``: not known
    # Seconds until the first certificate of a use expires.
    certificates: Mapping[str, float] = field(default_factory=dict)
    counted: Counted = field(default_factory=Counted)  # what was counted in the database

    @property
    def connected(self) -> bool:
        """Whether one of the head-ends is connected."""
        return any(self.head_ends.values()) or not self.head_ends


def conditions(facts: Facts) -> Iterator[Condition]:
    """Yield what holds now."""
    for rule in _RULES:
        yield from rule(facts)


def is_judged(alarm: Alarm, facts: Facts) -> bool:
    """Return whether an alarm that was not found is over; without the head-end, silence says nothing."""
    return facts.connected or alarm.name not in _HEARD


def _condition(
    name: str, severity: Severity, for_s: int, summary: str, description: str, *, held_s: float = 0, **labels: str
) -> Condition:
    every = {"alertname": f"{PREFIX}{name}", "severity": severity.value, "part": TOWN, "place": TOWN, **labels}
    alarm = Alarm(labels=every, summary=summary, description=description)
    return Condition(alarm=alarm, for_s=for_s, held_s=int(held_s))


def _gateways(facts: Facts) -> Iterator[Condition]:
    for name, silent_s in facts.silent_s.items() if facts.connected else ():
        if silent_s > SILENT_S:
            text = (
                f"No message for {duration(int(silent_s))}. Its meters' readings wait at the gateway, or at the meters."
            )
            yield _condition(
                "GatewaySilent", _CRITICAL, 120, f"The gateway of {name} is silent.", text, controller=name
            )
    for name, heartbeat in facts.said.items():
        if heartbeat.backlog_age_s > _BACKLOG_OLD_S:
            summary = f"Readings of {name} have waited for more than a day."
            text = f"The oldest reading has waited at its gateway for {duration(heartbeat.backlog_age_s)}."
            yield _condition("BacklogOld", _WARNING, 6 * _HOUR_S, summary, text, controller=name)
        if heartbeat.trust < Trust.HARDWARE:
            summary = f"The gateway of {name} has no trusted time."
            text = "It keeps readings, but sends no averages and rejects no reading as from the future."
            yield _condition("GatewayClockUntrusted", _WARNING, 900, summary, text, controller=name)
        if heartbeat.cert_days is not None:
            yield from _ending(name, heartbeat.cert_days)
    for name, reason in facts.over_quota.items():
        summary = f"{name} has sent more dead letters today than are kept."
        text = f"Its batches with more wait at it until tomorrow: {reason}."
        text += " A program with its credentials may be no gateway."
        yield _condition("GatewayOverQuota", _CRITICAL, 0, summary, text, controller=name)


def _ending(name: str, days: int) -> Iterator[Condition]:
    text = f"Days left: {days}. Without it the gateway does not connect, and readings wait there."
    if days < _GATEWAYS_NOW_DAYS:
        summary = f"A certificate of the gateway of {name} has expired, or expires within three days."
        yield _condition("GatewayCertificateExpired", _CRITICAL, 0, summary, text, controller=name)
    if days < _GATEWAYS_SOON_DAYS:
        summary = f"A certificate of the gateway of {name} expires soon."
        yield _condition("GatewayCertificateExpiring", _WARNING, 600, summary, text, controller=name)


def _takeover(facts: Facts) -> Iterator[Condition]:
    for name, lost_s in facts.unmanaged_s.items():
        if lost_s > UNMANAGED_S:
            text = f"For {duration(int(lost_s))} no controller was heard that can command it. Its meters keep what they"
            text += " were told until it ends."
            yield _condition("Unmanaged", _CRITICAL, 0, f"No controller manages {name}.", text, controller=name)
    for name, error in facts.stopped.items():
        text = f"The rules of takeover failed there: {error}. Its controllers watch each other by themselves meanwhile."
        summary = f"The utility grants nothing in the clique of {name}."
        yield _condition("CliqueStopped", _CRITICAL, 0, summary, text, controller=name)
    for name, manager in facts.managed_by.items() if facts.connected else ():
        if facts.silent_s.get(name, LATE_S) < LATE_S:
            summary = f"Another controller manages {name}, although its own is alive."
            text = f"{manager} manages it, and the utility hears the controller of {name}."
            yield _condition("ManagedByAnother", _WARNING, 1800, summary, text, controller=name)


def _lines(facts: Facts) -> Iterator[Condition]:
    for name, heartbeat in facts.said.items():
        month = heartbeat.lte
        for direction, of in (("up", 0), ("down", 1)) if month is not None else ():
            assert month is not None
            if month.used[of] > month.allowance:
                summary = f"The LTE line of {name} has carried more than its plan allows."
                text = f"{month.used[of] / 1e9:.2f} GB {direction} so far this month."
                yield _condition("AllowanceExceeded", _CRITICAL, 0, summary, text, controller=name, direction=direction)
            if month.expected is not None and month.expected[of] > month.allowance:
                summary = f"The LTE line of {name} will carry more than its plan allows."
                text = f"About {month.expected[of] / 1e9:.2f} GB {direction} by the month's end, at the present rate."
                yield _condition(
                    "AllowanceAtRisk", _WARNING, _HOUR_S, summary, text, controller=name, direction=direction
                )


def _utility(facts: Facts) -> Iterator[Condition]:
    if not facts.connected:
        summary = "The utility has no connection to a head-end broker."
        text = "No readings arrive from any microgrid; they wait at the gateways."
        yield _condition("UtilityDisconnected", _CRITICAL, 120, summary, text)
    for address, is_connected in facts.head_ends.items() if facts.connected else ():
        if not is_connected:
            summary = f"The utility has no connection to the head-end {address}."
            text = "Gateways that were there go to the other head-end. If that is lost too, no readings arrive."
            yield _condition("HeadEndAway", _WARNING, 300, summary, text, head_end=address)
    if not facts.trusted:
        summary = "The utility's clock is not synchronized by NTP."
        yield _condition("UtilityClockUntrusted", _WARNING, 900, summary, "Gateways do not take the time from it.")


def _jobs(facts: Facts) -> Iterator[Condition]:
    for job in facts.counted.jobs:
        if job.error:
            summary = f"The utility's job {job.name} fails again and again."
            text = f"The last time: {job.error.rstrip('.')}. It runs again by itself."
            yield _condition("JobFailing", _WARNING, 900, summary, text, task=job.name)
        if job.late_s:
            text = f"It should have been done {duration(job.late_s)} ago at the latest."
            summary = f"The utility's job {job.name} is late."
            yield _condition("JobLate", _WARNING, 1800, summary, text, held_s=job.late_s, task=job.name)
        if job.paused_s is not None:
            summary = f"The utility's job {job.name} has been paused for over a day."
            text = "A person paused it. What it would do waits until a person resumes it."
            yield _condition("JobPaused", _WARNING, _DAY_S, summary, text, held_s=job.paused_s, task=job.name)


def _store(facts: Facts) -> Iterator[Condition]:
    if facts.damaged:
        summary = "The utility's database is damaged."
        text = "Nothing is acknowledged any more; readings wait at the gateways until a person acts."
        yield _condition("StoreDamaged", _CRITICAL, 0, summary, text, alarm="store_damaged")
    if facts.full:
        summary = "The disk of the utility at utility is full."
        text = "It stores no readings; they wait at their senders."
        yield _condition("DiskFull", _CRITICAL, 0, summary, text, alarm="disk_full")
    if facts.waits:
        summary = "The utility's database has no synchronous standby."
        text = "No commit ends, so nothing is acknowledged; readings wait at the gateways."
        yield _condition("CommitsWait", _CRITICAL, 0, summary, text, alarm="no_standby")
    if facts.disk is not None and facts.disk[0] < _NEARLY_FULL * facts.disk[1]:
        summary = "The disk of the utility at utility is nearly full."
        text = f"Only {100 * facts.disk[0] / facts.disk[1]:.1f} % of it is free."
        yield _condition("DiskNearlyFull", _WARNING, 600, summary, text)


def _data(facts: Facts) -> Iterator[Condition]:
    if facts.counted.quarantined:
        summary = "Quarantined readings wait for a person's decision."
        number = facts.counted.quarantined
        text = f"Dead letters with such readings: {number}. No bill includes them until they are released."
        yield _condition("ReadingsQuarantined", _WARNING, _HOUR_S, summary, text)
    for check, number in facts.counted.findings.items():
        if number:
            summary = f"The daily checks found readings that a person must look at: {check}."
            text = f"Open findings: {number}."
            yield _condition("FindingsOpen", _WARNING, _HOUR_S, summary, text, check=check)
    if facts.counted.archive:
        summary = "Files with old months of readings are missing or damaged."
        text = f"{'; '.join(facts.counted.archive[:3])}. What is asked of these months fails, or lacks readings."
        yield _condition("ArchiveDamaged", _CRITICAL, 0, summary, text)
    if facts.counted.residuals:
        number = len(facts.counted.residuals)
        summary = f"Members and boundary of {number} microgrids differ by more than their meters' rounding."
        worst = ", ".join(facts.counted.residuals[:3])
        text = f"Energy passes a meter that does not read it, or settings are wrong. The worst: {worst}."
        yield _condition("Residual", _WARNING, _HOUR_S, summary, text)


def _people(facts: Facts) -> Iterator[Condition]:
    if facts.counted.refused:
        summary = "A person who may not be the second one tried to approve."
        text = f"Attempts: {len(facts.counted.refused)}. The newest: {facts.counted.refused[-1]}."
        yield _condition("SecondPersonRefused", _WARNING, 0, summary, text)
    if facts.counted.broken:
        summary = "A command decided without the service and without a login."
        text = f"Commands: {len(facts.counted.broken)}. The newest: {facts.counted.broken[-1]}."
        yield _condition("BreakGlass", _CRITICAL, 0, summary, text)


def _plant(facts: Facts) -> Iterator[Condition]:
    if facts.plant is None:
        return
    age_s, report = facts.plant
    if age_s > SILENT_S and facts.connected:
        text = f"No report for {duration(int(age_s))}. Nothing is bought ahead; the plant serves the town by itself."
        yield _condition("PlantSilent", _CRITICAL, 120, "The town's plant is silent.", text)
    if 100 * report.level_mwh < _LOW_PERCENT * report.keep_mwh:
        summary = "The battery of the town's plant is below the level that is kept."
        text = f"It holds {report.level_mwh / 1e6:,.0f} kWh. What is left serves the public microgrid alone."
        yield _condition("PlantLow", _WARNING, 300, summary, text)
    # The last known state holds until a report says otherwise: reports that come late end no shortage.
    if report.supply is not SupplyState.NORMAL:
        summary = f"The regional supply is {report.supply.value}."
        text = "All places reduce, and microgrids may have an import limit; emergency services have none."
        text += f" The plant reported it {duration(int(age_s))} ago." if age_s > SILENT_S else ""
        yield _condition("SupplyShort", _CRITICAL, 60, summary, text, state=report.supply.value)


def _certificates(facts: Facts) -> Iterator[Condition]:
    for use, left_s in facts.certificates.items():
        text = f"It is used for {use}. Without it connections fail, and readings wait at their senders."
        if left_s < _CERTIFICATE_NOW_S:
            summary = "A certificate of the utility at utility has expired, or expires within a day."
            yield _condition("CertificateExpired", _CRITICAL, 0, summary, text, use=use)
        if left_s < _CERTIFICATE_SOON_S:
            summary = "A certificate of the utility at utility expires soon."
            yield _condition("CertificateExpiring", _WARNING, 600, summary, text, use=use)


_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING

_RULES: tuple[Callable[[Facts], Iterator[Condition]], ...] = (
    _gateways,
    _takeover,
    _lines,
    _utility,
    _jobs,
    _store,
    _data,
    _people,
    _plant,
    _certificates,
)
