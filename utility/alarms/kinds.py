"""The alarms that the utility raises by itself: name, severity, wait and words, once for pages, metrics and rules.

Each has its section in the runbooks. ``make docs`` writes the rules of grafana/prometheus/rules.yml from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from utility.alarms.alarm import PREFIX, TOWN, Alarm, Severity

_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


@dataclass(frozen=True)
class Kind:
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
    Kind("GatewaySilent", _CRITICAL, 2 * _MINUTE_S, "The gateway of {controller} is silent.", needs_head_end=True),
    Kind("BacklogOld", _WARNING, 6 * _HOUR_S, "Readings of {controller} have waited for more than a day."),
    Kind("BacklogGrowing", _WARNING, 15 * _MINUTE_S, "The backlog of {controller} grows.", _HOUR_S),
    Kind("GatewayClockUntrusted", _WARNING, 15 * _MINUTE_S, "The gateway of {controller} has no trusted time."),
    Kind("GatewayOverQuota", _CRITICAL, 0, "{controller} has sent more refused records today than are kept."),
    Kind(
        "GatewayCertificateExpired",
        _CRITICAL,
        0,
        "A certificate of the gateway of {controller} has expired, or expires within three days.",
    ),
    Kind(
        "GatewayCertificateExpiring",
        _WARNING,
        10 * _MINUTE_S,
        "A certificate of the gateway of {controller} expires soon.",
    ),
    Kind("GatewayReleaseDiffers", _WARNING, 7 * _DAY_S, "The gateway of {controller} has another release than most."),
    Kind("GatewayDiskFills", _WARNING, _HOUR_S, "The disk of the gateway of {controller} is full within 14 days."),
    Kind("DeviceDisobeys", _WARNING, 0, "Devices of others in {controller} do not do what they are told."),
    Kind("DeviceUnsafe", _WARNING, _HOUR_S, "Nothing would stop devices of others in {controller} without us."),
    Kind("AllowanceExceeded", _CRITICAL, 0, "The LTE line of {controller} has carried more than its plan allows."),
    Kind("AllowanceAtRisk", _WARNING, _HOUR_S, "The LTE line of {controller} will carry more than its plan allows."),
    # Who manages which microgrid.
    Kind("Unmanaged", _CRITICAL, 0, "No controller manages {controller}."),
    Kind("CliqueStopped", _CRITICAL, 0, "The utility grants nothing in the clique of {controller}."),
    Kind(
        "ManagedByAnother",
        _WARNING,
        0,
        "Another controller manages {controller}, although its own is alive.",
    ),
    Kind("Handovers", _WARNING, 0, "The manager of {controller} changes again and again.", _HOUR_S),
    Kind("Island", _WARNING, 10 * _MINUTE_S, "{controller} is an island."),
    Kind("IslandDark", _CRITICAL, 0, "A home of the island {controller} is dark, or will be within an hour."),
    # The service and its connections.
    Kind("UtilityDisconnected", _CRITICAL, 2 * _MINUTE_S, "The utility has no connection to a head-end broker."),
    Kind("HeadEndAway", _WARNING, 5 * _MINUTE_S, "The utility has no connection to the head-end {head_end}."),
    Kind("UtilityClockUntrusted", _WARNING, 15 * _MINUTE_S, "The utility's clock is not synchronized by NTP."),
    Kind("BatchesRefused", _WARNING, 30 * _MINUTE_S, "The utility refuses batches: {reason}.", 20 * _MINUTE_S),
    Kind("MessagesDropped", _WARNING, 0, "More messages arrive than the utility can process.", 15 * _MINUTE_S),
    Kind("CertificateExpired", _CRITICAL, 0, "A certificate of the utility has expired, or expires within a day."),
    Kind("CertificateExpiring", _WARNING, 10 * _MINUTE_S, "A certificate of the utility expires soon."),
    Kind("JobFailing", _WARNING, 0, "The utility's job {task} fails again and again.", _HOUR_S),
    Kind("JobLate", _WARNING, 30 * _MINUTE_S, "The utility's job {task} is late."),
    Kind("JobPaused", _WARNING, _DAY_S, "The utility's job {task} has been paused for over a day."),
    # Its database, disk and backups.
    Kind("StoreDamaged", _CRITICAL, 0, "The utility's database is damaged."),
    Kind("DiskFull", _CRITICAL, 0, "The utility's disk is full."),
    Kind("DiskNearlyFull", _WARNING, 10 * _MINUTE_S, "The utility's disk is nearly full."),
    Kind("CommitsWait", _CRITICAL, 0, "The utility's database has no synchronous standby."),
    Kind("DatabaseWentBack", _CRITICAL, 0, "The utility's database lacks what it had committed.", _HOUR_S),
    Kind("StoreErrors", _WARNING, 0, "The utility's store fails.", 15 * _MINUTE_S),
    Kind("LogKept", _WARNING, 5 * _MINUTE_S, "The primary keeps much of its log for a standby that is behind or away."),
    Kind("BackupOld", _WARNING, 15 * _MINUTE_S, "The newest backup of the database in repository {repository} is old."),
    Kind("ArchiveFails", _WARNING, 15 * _MINUTE_S, "The log of the database's server is not archived."),
    # Readings and settlement.
    Kind("GapsGrowing", _WARNING, _HOUR_S, "More and more readings are missing.", 9 * _HOUR_S),
    Kind("DeadLetters", _WARNING, 0, "Records or messages were sent that can't be accepted.", _HOUR_S),
    Kind(
        "Conflicts",
        _WARNING,
        0,
        "Two different values arrived for one slot, or two different events with one number.",
        _HOUR_S,
    ),
    Kind("ReadingsQuarantined", _WARNING, _HOUR_S, "Quarantined readings wait for a person's decision."),
    Kind("FindingsOpen", _WARNING, _HOUR_S, "The daily checks found readings that a person must look at: {check}."),
    Kind(
        "Residual", _WARNING, _HOUR_S, "Members and boundary of microgrids differ by more than their meters' rounding."
    ),
    # People.
    Kind("RolloutStopped", _WARNING, 0, "The rollout of a release stopped by itself."),
    Kind("JoinRefused", _WARNING, 0, "A controller that wanted to join was refused."),
    Kind("WitnessRefused", _WARNING, 0, "A controller did not sign the check code of a month's bills."),
    Kind("SecondPersonRefused", _WARNING, 0, "A person who may not be the second one tried to approve."),
    Kind("BreakGlass", _CRITICAL, 0, "A command decided without the service and without a login."),
    # Renewals of certificates.
    Kind("RenewalRefused", _WARNING, 0, "A certificate of this town was not renewed."),
    Kind("CallsFail", _WARNING, 0, "People who are called for alarms can't be reached."),
    # The town's supply.
    Kind("PlantSilent", _CRITICAL, 2 * _MINUTE_S, "The town's plant is silent.", needs_head_end=True),
    Kind("PlantLow", _WARNING, 5 * _MINUTE_S, "The battery of the town's plant is below the level that is kept."),
    Kind("SupplyShort", _CRITICAL, _MINUTE_S, "The regional supply is {state}."),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _EVERY}  # by name
