"""The pages of a controller as HTML: functions of the gateway's status."""

from zoneinfo import ZoneInfo

from commonwatt.model.words import counted, duration
from commonwatt.protocol.sharing_words import BatteryWords, Role
from gateway.alarms import Alarm, alarms
from gateway.page.html import Child, Html, bar, el
from gateway.page.sections import (
    backlog,
    bills,
    clock,
    commands,
    connections,
    hosted,
    line,
    meters,
    mode_changes,
    power,
    rates,
    readings,
    saves,
    silent,
    silent_s,
    takeover,
    town,
)
from gateway.page.style import STYLE
from gateway.page.words import View, batteries, day, kilowatt_hours, percent, summary
from gateway.page.words import clock as clock_time

REFRESH_S = 15  # real seconds after which a browser loads the page again: a slot
SHOWN_METERS = 10  # meters on the first page: the ones with the oldest last messages
SHOWN_BATTERIES = 20  # batteries on the first page: those that receive or give come first

_ROLES: dict[Role, str] = {
    "gives": "shares",
    "receives": "receives",
    "rests": "rests",
    "out": "takes no part",
}


def overview(view: View, zone: ZoneInfo, *, can_log_out: bool) -> str:
    """Return the first page.

    Args:
        can_log_out: Whether there is a session to end.
    """
    found = batteries(view)
    content = el(
        "main",
        _verdict(view),
        power(view),
        _batteries(summary(view), found[:SHOWN_BATTERIES], len(found), "/batteries"),
        el(
            "div",
            town(view),
            mode_changes(view, zone),
            connections(view),
            backlog(view),
            hosted(view),
            takeover(view),
            line(view),
            saves(view),
            clock(view, zone),
            readings(view),
            rates(view, zone),
            bills(view),
        ),
        el("div", meters(view, zone, SHOWN_METERS), commands(view, zone)),
        class_="wide",
    )
    return _document(_title(view), _head(view, zone), content, can_log_out=can_log_out)


def all_meters(view: View, zone: ZoneInfo, *, can_log_out: bool) -> str:
    """Return the page of all meters."""
    return _document("Meters", _head(view, zone), el("main", _back(), meters(view, zone)), can_log_out=can_log_out)


def all_batteries(view: View, zone: ZoneInfo, *, can_log_out: bool) -> str:
    """Return the page of all batteries."""
    found = batteries(view)
    content = el("main", _back(), _batteries(summary(view), found, len(found)))
    return _document("Batteries", _head(view, zone), content, can_log_out=can_log_out)


def waiting(controller: str) -> str:
    """Return the page of a gateway that has not read its store yet."""
    content = el("main", el("section", el("p", "The gateway is starting; this page loads again by itself.")))
    return _document(controller, el("header", el("h1", controller)), content)


def login(controller: str, message: str = "") -> str:
    """Return the login form; it names the controller and nothing else of it."""
    form = el(
        "form",
        # For password managers, which keep a password by its user; the server ignores it.
        el("input", type="text", name="username", value=controller, autocomplete="username", hidden=True),
        el("label", "Password", for_="password"),
        el(
            "input",
            type="password",
            id="password",
            name="password",
            autocomplete="current-password",
            required=True,
            autofocus=True,
            maxlength=256,
        ),
        el("button", "Log in", type="submit"),
        method="post",
        action="/login",
    )
    said = el("p", message, class_="bad", role="alert") if message else None
    box = el("section", el("h1", f"Controller {controller}"), el("p", "Batteries, meters and alarms.", class_="soft"))
    card = el("section", said, form)
    return _document("Log in", None, el("main", box, card, class_="login"), refresh=False)


def _title(view: View) -> str:
    count = len(alarms(view))
    return f"{view['microgrid']}: {counted(count, 'alarm') if count else 'all is well'}"


def _document(title: str, head: Html | None, content: Html, *, refresh: bool = True, can_log_out: bool = False) -> str:
    out = el("form", el("button", "Log out", type="submit"), method="post", action="/logout") if can_log_out else None
    left = el("span", f"Loads again every {REFRESH_S} s.") if refresh else None
    page = el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="robots", content="noindex"),
            el("meta", http_equiv="refresh", content=REFRESH_S) if refresh else None,
            el("title", title),
            el("style", Html(STYLE)),
        ),
        el("body", head, content, el("footer", left, out) if refresh or can_log_out else None),
        lang="en",
    )
    return f"<!DOCTYPE html>{page}"


def _head(view: View, zone: ZoneInfo) -> Html:
    now = view["time"]
    when = el("span", f"{day(now, zone)}, {clock_time(now, zone)}", class_="soft num")
    return el("header", el("h1", f"Controller {view['microgrid']}"), when)


def _back() -> Html:
    return el("p", el("a", "← Overview", href="/"))


def _verdict(view: View) -> Html:
    found = alarms(view)
    if not found:
        text = "All is well: no alarm."
        if count := silent(view):
            text = f"No alarm, but {counted(count, 'meter')} silent for {duration(silent_s(view))} or more."
        return el("section", text, class_="verdict note" if count else "verdict")
    return el("section", map(_alarm, found), class_="alarms", aria_label="Alarms")


def _alarm(alarm: Alarm) -> Html:
    tag = el("span", alarm.severity, class_=f"tag {alarm.severity}")
    return el("div", tag, el("b", alarm.title), el("p", alarm.remedy), class_=f"alarm {alarm.severity}")


def _batteries(text: str, found: list[BatteryWords], count: int, more: str | None = None) -> Html:
    rest: Child = None
    if more and count > len(found):
        rest = el("p", el("a", f"All {count} batteries", href=more), class_="more")
    listed = el("ul", map(_battery, found), class_="pairs") if found else None
    return el("section", el("h2", "Sharing"), el("p", text), listed, rest, class_="all")


def _battery(battery: BatteryWords) -> Html:
    role = el("span", _ROLES[battery.role], class_=f"tag {battery.role}")
    head = el("div", el("b", battery.place), role, class_="row")
    why = el("div", battery.why, class_="soft")
    level, minimum, capacity = battery.level, battery.minimum, battery.capacity
    if level is None or minimum is None or capacity is None:
        return el("li", head, why)
    told = (
        f"{percent(level, capacity)} of {kilowatt_hours(capacity)}",
        f"minimum {percent(minimum, capacity)}",
    )
    figures = el("div", (el("span", text) for text in told), class_="row soft num")
    label = f"Level {told[0]}, {told[1]}"
    return el("li", head, bar(level / capacity, battery.role, label, mark=minimum / capacity), figures, why)
