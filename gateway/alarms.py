"""A gateway's state, judged once: its alarms in words, which page, doctor, status, report, upgrade and metrics print.

A condition is an alarm at once; an alert of Prometheus waits first, so that it does not report what passes by itself.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from commonwatt.model.text import counted, duration, moment, spaced

NO_RECORDS_AFTER_S = 1200  # seconds after the start before which missing records are no alarm
SETTLES_S = 120  # seconds after the start before which silent meters and controllers are no alarm
UNKNOWN_LONG_S = 600  # seconds without a report of the boundary after which this is an alarm

BACKLOG_OLD_S = 86_400
CERTIFICATE_SOON_S, CERTIFICATE_NOW_S = 14 * 86_400, 86_400
NEARLY_FULL = 0.1
NAMED = 5  # most meters named in an alarm

View: TypeAlias = dict[str, Any]  # the gateway's status, as ``/status`` has it
Severity = Literal["critical", "warning"]  # ``critical``: act now; ``warning``: today


@dataclass(frozen=True)
class GatewayAlarmKind:
    """An alarm of a controller."""

    severity: Severity  # how soon a person must act
    check: str  # what was judged, as the doctor names it
    title: str  # what is wrong
    # Whether others raise it too: the utility from the heartbeat, or Prometheus for all parts.
    is_heard: bool = False


KINDS: Mapping[str, GatewayAlarmKind] = {
    "AllowanceAtRisk": GatewayAlarmKind(
        "warning", "LTE", "The line will carry more than its plan allows.", is_heard=True
    ),
    "AllowanceExceeded": GatewayAlarmKind(
        "critical", "LTE", "The line has carried more than its plan allows.", is_heard=True
    ),
    "BacklogOld": GatewayAlarmKind(
        "warning", "backlog", "Readings wait for the utility for more than a day.", is_heard=True
    ),
    "BoundaryDisagrees": GatewayAlarmKind("warning", "boundary", "The boundary's meters report different states."),
    "BoundaryUnknown": GatewayAlarmKind("critical", "boundary", "The boundary has not reported for 10 minutes."),
    "CertificateExpired": GatewayAlarmKind(
        "critical", "certificate", "A certificate has expired, or expires within a day.", is_heard=True
    ),
    "CertificateExpiring": GatewayAlarmKind("warning", "certificate", "A certificate expires soon.", is_heard=True),
    "ClockContradicted": GatewayAlarmKind(
        "warning", "time", "Another time contradicts this gateway's, and is ignored."
    ),
    "DiskFull": GatewayAlarmKind("critical", "store", "The disk is full."),
    "DiskNearlyFull": GatewayAlarmKind("warning", "disk", "The disk is nearly full."),
    "Faults": GatewayAlarmKind("warning", "program", "An unexpected error occurred in the program.", is_heard=True),
    "GatewayClockUntrusted": GatewayAlarmKind("warning", "time", "The time is not trusted.", is_heard=True),
    "GatewayDisconnected": GatewayAlarmKind("warning", "connection", "A connection of the gateway is lost."),
    "MessagesDropped": GatewayAlarmKind("warning", "program", "More messages arrive than this gateway can process."),
    "NoRecords": GatewayAlarmKind("critical", "records", "No meter has delivered a reading for 15 minutes."),
    "StoreErrors": GatewayAlarmKind("warning", "store", "The store fails."),
    "StoreQuarantined": GatewayAlarmKind("warning", "store", "The store was found damaged."),
    "Stuck": GatewayAlarmKind(
        "critical", "program", "A part of the program made no progress for 30 seconds.", is_heard=True
    ),
    "TwoLists": GatewayAlarmKind("critical", "bills", "The utility has shown two lists of the same month's bills."),
}
"""The alarms with a section in the runbooks, by name."""

_LINKS = {"meters": ("broker", "the meters' broker"), "head_end": ("head_end", "the utility")}
"""The gateway's connections: their settings, and their words."""


@dataclass(frozen=True, kw_only=True)
class GatewayAlarm:
    """A condition that needs a person."""

    alert: str  # the name of the alert, which is its section in the runbooks; empty: there is none
    check: str  # what was judged, as the doctor names it
    severity: Severity  # how soon a person must act
    level: Literal["bad", "warning"]  # ``bad``: the gateway does not do its work meanwhile
    title: str  # what is wrong
    remedy: str  # what to do, or what it means


def alarms(view: View) -> list[GatewayAlarm]:
    """Return the alarms of the gateway's status, critical ones first."""
    found = [alarm for rule in _RULES for alarm in rule(view)]
    return sorted(found, key=lambda alarm: alarm.severity)


def byte_size(count: int) -> str:
    """Return bytes in a unit of their size."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"


def _alarm(alert: str, remedy: str, title: str = "", check: str = "") -> GatewayAlarm:
    kind = KINDS[alert]
    # A lost connection may wait until the morning, since no reading is lost.
    is_bad = kind.severity == "critical" or alert == "GatewayDisconnected"
    return GatewayAlarm(
        alert=alert,
        check=check or kind.check,
        severity=kind.severity,
        level="bad" if is_bad else "warning",
        title=title or kind.title,
        remedy=remedy,
    )


def _note(check: str, title: str, remedy: str) -> GatewayAlarm:
    return GatewayAlarm(alert="", check=check, severity="warning", level="warning", title=title, remedy=remedy)


def _few(names: Collection[str]) -> str:
    found = list(names)
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def _store(view: View) -> Iterator[GatewayAlarm]:
    store = view["store"]
    free, size = store["disk_free_bytes"], store["disk_bytes"]
    if store["refusing"]:
        yield _alarm("DiskFull", "Readings wait at the meters. Free disk space on the controller.")
    elif size and free / size < NEARLY_FULL:
        left = f"Only {100 * free / size:.1f} % is free ({byte_size(free)})."
        yield _alarm("DiskNearlyFull", left)
    if store["kept_quarantined"]:
        number, last = counted(store["kept_quarantined"], "damaged store"), store["quarantined"]
        kept = f"{number} on the disk beside the one in use{f', the last is {last}' if last else ''}"
        text = f"The gateway replaced it. {kept}. Check the disk (dmesg), then delete them."
        yield _alarm("StoreQuarantined", text)
    if view["recent"]["store_failures"]:
        text = f"{counted(view['recent']['store_failures'], 'failure')} in 15 minutes. Nothing was lost; see the log."
        yield _alarm("StoreErrors", text)


def _connections(view: View) -> Iterator[GatewayAlarm]:
    for name, connected in view["connected"].items():
        if not connected:
            check, to = _LINKS[name]
            why = view["connection_failures"].get(name, "it connects at this moment")
            wait = "Readings wait at the meters." if name == "meters" else "Readings wait here."
            text = f"{wait} Find the cause: commonwatt doctor --config FILE."
            yield _alarm("GatewayDisconnected", text, f"No connection to {to}: {why}.", check)


def _delivery(view: View) -> Iterator[GatewayAlarm]:
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
        text = (
            "Another manager commands them. This gateway takes their readings and sends them no commands. If a replaced"
            " controller still runs, switch it off."
        )
        yield _note("meters", f"{counted(len(fenced), 'meter')} not commanded from here: {_few(fenced)}.", text)
    if (silent := view["meters"]["silent"]) and view["watched_s"] >= SETTLES_S:
        since = [time for time in silent.values() if time is not None]
        when = f"the last message came at {moment(max(since))}" if since else "nothing came since the gateway's start"
        registered = counted(view["meters"]["registered"], "meter")
        title = f"{len(silent)} of {registered} silent: {_few(silent)}; {when}."
        text = "Check power, address and token of each, and refusals in the broker's log."
        yield _note("meters", title, text)


def _clique(view: View) -> Iterator[GatewayAlarm]:
    microgrid, clique = view["microgrid"], view.get("takeover", {"microgrids": {}, "others": {}})
    own = clique["microgrids"].get(microgrid)
    if own is not None and not own["manages"]:
        by = f"{own['manager']} manages" if own["manager"] else "No controller is known to manage"
        back = "It gives it back by itself after a minute in which this controller is well." if own["manager"] else ""
        reach = "" if own["able"] else "Too few meters are connected here; check the broker and the meters' line."
        text = " ".join(filter(None, (back, reach))) or "This controller asks its meters and its clique."
        yield _note("clique", f"{by} {microgrid}, and this one does not.", text)
    if view["watched_s"] < SETTLES_S:
        return
    for name, other in clique["others"].items():
        if other["heard_s"] is None:
            text = "Let UDP to and from the port of beats through both firewalls, or upgrade the other."
            yield _note("clique", f"Never heard: {name}.", text)
        elif other["lost"]:
            yield _note("clique", f"Lost: {name}.", "Check power and line of that controller.")


def _household(view: View) -> Iterator[GatewayAlarm]:
    found = view.get("household", {"connected": True, "published": True})
    if not found["connected"]:
        why = found["failure"] or "it connects at this moment"
        text = "Correct [gateway.household], or check that broker; the gateway works without it."
        yield _note("household", f"No connection to the household's broker: {why}.", text)
    elif not found["published"] and view["watched_s"] >= SETTLES_S:
        text = "Set place to a location in the registry."
        yield _note("household", f"No meter has the place {found['place']}.", text)


def _boundary(view: View) -> Iterator[GatewayAlarm]:
    modes = view["modes"]
    if modes["unknown_s"] > UNKNOWN_LONG_S:
        text = "Meters keep their states, the switch gets no command. Check the boundary's meters."
        title = f"The boundary has not reported for {duration(modes['unknown_s'])}."
        yield _alarm("BoundaryUnknown", text, title)
    if modes["disagreement"]:
        text = f"The switch does not close: {modes['disagreement']}. Check both meters and the switch."
        yield _alarm("BoundaryDisagrees", text)


def _line(view: View) -> Iterator[GatewayAlarm]:
    level = view["lte"]["level"]
    if level == "exceeded":
        text = "The plan of the LTE line is used up for this month."
        yield _alarm("AllowanceExceeded", text)
    elif level == "at_risk":
        text = "At the present rate the plan is used up before the month's end."
        yield _alarm("AllowanceAtRisk", text)


def _clock(view: View) -> Iterator[GatewayAlarm]:
    if view["trust"] in ("none", "meters"):
        text = "No time from NTP or the utility. Readings are kept, but not averaged. Start NTP (timedatectl)."
        yield _alarm("GatewayClockUntrusted", text)
    if view["time_contested"] or view["recent"]["time_contradictions"]:
        text = "The clock here, the utility's or NTP is wrong by more than 15 minutes. Check them."
        yield _alarm("ClockContradicted", text)


def _certificates(view: View) -> Iterator[GatewayAlarm]:
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


def _bills(view: View) -> Iterator[GatewayAlarm]:
    for month, (signed, *others) in view.get("witness", {}).get("others", {}).items():
        text = f"Signed here is {spaced(signed)}; then came {', '.join(map(spaced, others))}. Tell your neighbours."
        yield _alarm("TwoLists", text, f"The utility has shown two lists of the bills of {month}.")


def _process(view: View) -> Iterator[GatewayAlarm]:
    if view["recent"]["stuck"]:
        text = "After 60 seconds the program is restarted. See the log."
        yield _alarm("Stuck", text)
    if view["recent"]["faults"]:
        text = f"{counted(view['recent']['faults'], 'time')} in an hour; the program continued. See the log."
        yield _alarm("Faults", text)


_RULES: tuple[Callable[[View], Iterator[GatewayAlarm]], ...] = (
    _store,
    _connections,
    _delivery,
    _clique,
    _household,
    _boundary,
    _line,
    _clock,
    _certificates,
    _bills,
    _process,
)
