"""The alarms of a controller, in words.

The page shows a condition at once; an alert waits first, so that it does not report what passes by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from commonwatt.model.words import counted, duration, spaced
from gateway.page.words import View, byte_size, percent

NO_RECORDS_AFTER_S = 1200  # seconds after the start before which missing records are no alarm
UNKNOWN_LONG_S = 600  # seconds without a report of the boundary after which this is an alarm

BACKLOG_OLD_S = 86_400
CERTIFICATE_SOON_S, CERTIFICATE_NOW_S = 14 * 86_400, 86_400
NEARLY_FULL = 0.1

Severity = Literal["critical", "warning"]  # ``critical``: act now; ``warning``: today


@dataclass(frozen=True)
class Kind:
    """An alarm of a controller."""

    severity: Severity  # how soon a person must act
    title: str  # what is wrong
    # Whether others raise it too: the utility from the heartbeat, or Prometheus for all parts.
    is_heard: bool = False


KINDS: Mapping[str, Kind] = {
    "AllowanceAtRisk": Kind("warning", "The line will carry more than its plan allows.", is_heard=True),
    "AllowanceExceeded": Kind("critical", "The line has carried more than its plan allows.", is_heard=True),
    "BacklogOld": Kind("warning", "Readings wait for the utility for more than a day.", is_heard=True),
    "BoundaryDisagrees": Kind("warning", "The boundary's meters report different states."),
    "BoundaryUnknown": Kind("critical", "The boundary has not reported for 10 minutes."),
    "CertificateExpired": Kind("critical", "A certificate has expired, or expires within a day.", is_heard=True),
    "CertificateExpiring": Kind("warning", "A certificate expires soon.", is_heard=True),
    "ClockContradicted": Kind("warning", "Another time contradicts this gateway's, and is ignored."),
    "DiskFull": Kind("critical", "The disk is full."),
    "DiskNearlyFull": Kind("warning", "The disk is nearly full."),
    "Faults": Kind("warning", "An unexpected error occurred in the program.", is_heard=True),
    "GatewayClockUntrusted": Kind("warning", "The time is not trusted.", is_heard=True),
    "GatewayDisconnected": Kind("warning", "A connection of the gateway is lost."),
    "MessagesDropped": Kind("warning", "More messages arrive than this gateway can process."),
    "NoRecords": Kind("critical", "No meter has delivered a reading for 15 minutes."),
    "StoreErrors": Kind("warning", "The store fails."),
    "StoreQuarantined": Kind("warning", "The store was found damaged."),
    "Stuck": Kind("critical", "A part of the program made no progress for 30 seconds.", is_heard=True),
    "TwoLists": Kind("critical", "The utility has shown two lists of the same month's bills."),
}
"""The alarms with a section in the runbooks, by name."""

LINKS = {"meters": "the meters' broker", "head_end": "the utility"}  # the gateway's connections


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A condition that needs a person."""

    alert: str  # the name of the alert, which is its section in the runbooks; empty: there is none
    severity: Severity  # how soon a person must act
    title: str  # what is wrong
    remedy: str  # what to do, or what it means


def alarms(view: View) -> list[Alarm]:
    """Return the alarms of the gateway's status, critical ones first."""
    found = [alarm for rule in _RULES for alarm in rule(view)]
    return sorted(found, key=lambda alarm: alarm.severity)


def _alarm(alert: str, remedy: str, title: str = "") -> Alarm:
    kind = KINDS[alert]
    return Alarm(alert=alert, severity=kind.severity, title=title or kind.title, remedy=remedy)


def _note(title: str, remedy: str) -> Alarm:
    return Alarm(alert="", severity="warning", title=title, remedy=remedy)


def _store(view: View) -> Iterator[Alarm]:
    store = view["store"]
    free, size = store["disk_free_bytes"], store["disk_bytes"]
    if store["refusing"]:
        yield _alarm("DiskFull", "Readings wait at the meters. Free disk space on the controller.")
    elif size and free / size < NEARLY_FULL:
        left = f"Only {percent(free, size)} is free ({byte_size(free)})."
        yield _alarm("DiskNearlyFull", left)
    if store["kept_quarantined"]:
        number = counted(store["kept_quarantined"], "damaged store")
        text = f"The gateway replaced it. {number} on the disk beside the one in use; check the disk."
        yield _alarm("StoreQuarantined", text)
    if view["recent"]["store_failures"]:
        text = f"{counted(view['recent']['store_failures'], 'failure')} in 15 minutes. Nothing was lost; see the log."
        yield _alarm("StoreErrors", text)


def _connections(view: View) -> Iterator[Alarm]:
    for name, connected in view["connected"].items():
        if not connected:
            title = f"No connection to {LINKS.get(name, name)}."
            why = view["connection_failures"].get(name)
            wait = "Readings wait at the meters." if name == "meters" else "Readings wait here."
            yield _alarm("GatewayDisconnected", f"{wait} Reason: {why}" if why else wait, title)


def _delivery(view: View) -> Iterator[Alarm]:
    recent = view["recent"]
    if view["meters"]["registered"] and view["watched_s"] >= NO_RECORDS_AFTER_S and not recent["records"]:
        text = "Check the meters' broker, and the disk and clock here."
        yield _alarm("NoRecords", text)
    if view["backlog_age_s"] > BACKLOG_OLD_S:
        text = f"The oldest has waited for {duration(view['backlog_age_s'])}. Check the line and the utility."
        yield _alarm("BacklogOld", text)
    if recent["dropped_messages"]:
        text = f"{counted(recent['dropped_messages'], 'message')} dropped in 15 minutes; their meters send them again."
        yield _alarm("MessagesDropped", text)
    if fenced := view["meters"]["fenced"]:
        text = "Another manager commands them. This gateway takes their readings and sends them no commands."
        yield _note(f"{counted(len(fenced), 'meter')} not commanded from here.", text)


def _takeover(view: View) -> Iterator[Alarm]:
    microgrid = view["microgrid"]
    own = view.get("takeover", {}).get("microgrids", {}).get(microgrid)
    if own is None or own["manages"]:
        return
    by = f"{own['manager']} manages {microgrid}" if own["manager"] else f"Nobody is known to manage {microgrid}"
    back = "It gives it back by itself after a minute in which this controller is well." if own["manager"] else ""
    reach = "" if own["able"] else "Too few meters are connected here; check the broker and the meters' line."
    text = " ".join(filter(None, (back, reach))) or "This controller asks its meters and its clique."
    yield _note(f"{by}, not this controller.", text)


def _boundary(view: View) -> Iterator[Alarm]:
    modes = view["modes"]
    if modes["unknown_s"] > UNKNOWN_LONG_S:
        text = "Meters keep their states, the switch gets no command. Check the boundary's meters."
        title = f"The boundary has not reported for {duration(modes['unknown_s'])}."
        yield _alarm("BoundaryUnknown", text, title)
    if modes["disagreement"]:
        text = f"The switch does not close: {modes['disagreement']}. Check both meters and the switch."
        yield _alarm("BoundaryDisagrees", text)


def _line(view: View) -> Iterator[Alarm]:
    level = view["lte"]["level"]
    if level == "exceeded":
        text = "The plan of the LTE line is used up for this month."
        yield _alarm("AllowanceExceeded", text)
    elif level == "at_risk":
        text = "At the present rate the plan is used up before the month's end."
        yield _alarm("AllowanceAtRisk", text)


def _clock(view: View) -> Iterator[Alarm]:
    if view["trust"] in ("none", "meters"):
        text = "No time from NTP or the utility. Readings are kept, but not averaged."
        yield _alarm("GatewayClockUntrusted", text)
    if view["time_contested"] or view["recent"]["time_contradictions"]:
        text = "The clock here, the utility's or NTP is wrong by more than 15 minutes. Check them."
        yield _alarm("ClockContradicted", text)


def _certificates(view: View) -> Iterator[Alarm]:
    left_s = view["certificate_left_s"]
    if left_s is None or left_s >= CERTIFICATE_SOON_S:
        return
    text = "Without it connections fail, and readings wait. Ask the office for a new bundle."
    if left_s <= 0:
        yield _alarm("CertificateExpired", text, "A certificate has expired.")
    elif left_s < CERTIFICATE_NOW_S:
        yield _alarm("CertificateExpired", text, f"A certificate expires in {duration(left_s)}.")
    else:
        yield _alarm("CertificateExpiring", text, f"A certificate expires in {duration(left_s)}.")


def _bills(view: View) -> Iterator[Alarm]:
    for month, (signed, *others) in view.get("witness", {}).get("others", {}).items():
        text = f"Signed here is {spaced(signed)}; then came {', '.join(map(spaced, others))}. Tell your neighbours."
        yield _alarm("TwoLists", text, f"The utility has shown two lists of the bills of {month}.")


def _process(view: View) -> Iterator[Alarm]:
    if view["recent"]["stuck"]:
        text = "After 60 seconds the program is restarted. See the log."
        yield _alarm("Stuck", text)
    if view["recent"]["faults"]:
        text = f"{counted(view['recent']['faults'], 'time')} in an hour; the program continued. See the log."
        yield _alarm("Faults", text)


_RULES: tuple[Callable[[View], Iterator[Alarm]], ...] = (
    _store,
    _connections,
    _delivery,
    _takeover,
    _boundary,
    _line,
    _clock,
    _certificates,
    _bills,
    _process,
)
