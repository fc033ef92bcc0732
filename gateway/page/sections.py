"""The sections of a controller's page besides alarms and batteries."""

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from commonwatt.look.flows import flow_picture, parts_of
from commonwatt.model.control.saving import saving_words
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, duration, spaced
from gateway.page.html import Child, Html, bar, el
from gateway.page.words import (
    LINKS,
    View,
    ago,
    by_number,
    byte_size,
    moment,
    percent,
    place_of,
    states_of,
)
from gateway.page.words import clock as clock_time

SPARE_METERS = 5  # a link to the page of all meters must save more than this many
SHOWN_CHANGES = 12  # changes of the modes that the page shows

TRUST = {
    "network": ("good", "right: from NTP or the utility"),
    "hardware": ("good", "right: from the controller's own clock"),
    "meters": ("warn", "uncertain: from the meters' median"),
    "none": ("bad", "not known"),
}
"""How far the time can be trusted: class and words."""

COMMANDS = {
    "initialize": "introduce itself",
    "stop": "stop",
    "put": "set its clock",
    "isolate": "isolate",
    "aggregate": "aggregate",
    "deaggregate": "stop aggregating",
    "share_power_on": "share",
    "share_power_off": "stop sharing",
    "reduce_power_on": "reduce demand",
    "reduce_power_off": "stop reducing demand",
    "limit_import": "limit the import",
    "put_every": "change the period of its puts",
}
"""The commands in words; another command is shown as it is."""

_OVER = {
    "relay_s": "how often readings are relayed",
    "aggregation": "how they are relayed",
    "meters": "how meters aggregate",
    "put_s": "how often meters send",
    "levels_s": "how often levels are requested",
}
"""What the utility can set in place of what the gateway does by itself."""

_LEVELS = {
    "ok": ("ok", "good", "within the plan"),
    "at_risk": ("risk", "warn", "more than the plan by the month's end"),
    "exceeded": ("over", "bad", "more than the plan"),
    "unknown": ("ok", "soft", "no forecast yet"),
}


_PHASES = {
    "connected": ("good", "connected"),
    "isolating": ("bad", "being isolated"),
    "islanded": ("warn", "island"),
    "resynchronising": ("warn", "island, about to return"),
}
"""Phases of the connection to the town: class and words."""


def power(view: View) -> Html | None:
    """Return the picture of power, if a whole minute is known."""
    said = dict(view.get("power") or {})
    if not said:
        return None
    until = el("small", f"mean of the minute that ended {ago(said.pop('end'), view['time'])}")
    return el(
        "section", el("h2", "Power now", until), Html(flow_picture(said["use_w"], parts_of(**said))), class_="all"
    )


def silent(view: View) -> int:
    """Return the number of silent meters."""
    return sum(_is_silent(state, view) for state in view["meter_states"].values())


def _is_silent(state: View, view: View) -> bool:
    """Return whether a meter is silent; a gateway that has just started has not waited for it yet."""
    return bool(min(view["time"] - state["heard"], view["watched_s"]) > silent_s(view))


def silent_s(view: View) -> int:
    """Return the seconds without a message after which a meter counts as silent: a quarter-hour, or three puts."""
    return max(QUARTER_S, 3 * int(view["periods"]["put_s"]))


def meters(view: View, zone: ZoneInfo, most: int | None = None) -> Html:
    """Return the section of the meters: those heard lately by their places, then the silent ones, the last heard first.

    Args:
        most: Most meters listed, with a link to the page of all; ``None``: all.
    """
    states: View = view["meter_states"]
    now = view["time"]
    most = None if most is not None and len(states) <= most + SPARE_METERS else most
    are_silent = {meter: _is_silent(state, view) or not state["heard"] for meter, state in states.items()}

    def order(meter: str) -> tuple[object, ...]:
        state = states[meter]
        return are_silent[meter], -state["heard"] if are_silent[meter] else 0, by_number(state["place"]), meter

    ordered = sorted(states, key=order)
    heard = sum(0 <= now - state["heard"] <= silent_s(view) for state in states.values())
    head = f"{heard} of {len(states)} heard within {duration(silent_s(view))}"
    listed = ordered if most is None else ordered[:most]
    link = el("a", f"All {counted(len(states), 'meter')}", href="/meters")
    more = el("p", link, class_="more") if len(listed) < len(states) else None
    rows: Child = (_meter(meter, states[meter], view, zone) for meter in listed)
    content = [el("ul", rows), more] if states else [el("p", "No meter is registered.", class_="soft")]
    return el("section", el("h2", "Meters", el("small", head)), content)


def _meter(meter: str, state: View, view: View, zone: ZoneInfo) -> Html:
    now = view["time"]
    heard = ago(state["heard"], now)
    when = el(
        "span", heard, class_="num bad" if _is_silent(state, view) else "num", title=moment(state["heard"] or now, zone)
    )
    about = ", ".join([f"{state['direction']} meter {meter}", *states_of(state)])
    return el("li", el("div", el("b", state["place"]), when, class_="row"), el("div", about, class_="soft"))


def _at(view: View, name: str) -> str:
    """Return at which of two head-ends the gateway is, or tries to be; empty: it has one."""
    return f" at {view['head_end']}" if name == "head_end" and "head_end" in view else ""


def connections(view: View) -> Html:
    """Return the section of the gateway's connections."""
    rows: list[tuple[str, Child]] = [
        (f"to {LINKS.get(name, name)}{_at(view, name)}", _mark(good=up, text="connected" if up else "not connected"))
        for name, up in view["connected"].items()
    ]
    reasons = [
        el("p", f"{LINKS.get(name, name)}: {why}", class_="soft")
        for name, why in view["connection_failures"].items()
        if not view["connected"].get(name)
    ]
    return el("section", el("h2", "Connections"), _list(rows), reasons)


def town(view: View) -> Html:
    """Return the section of the connection to the town: phase, reason, why the load is reduced."""
    modes: View = view["modes"]
    colour, words = _PHASES.get(modes["phase"], ("soft", "not known"))
    told = [
        modes["reason"],
        modes["contradiction"],
        modes["autonomous"],
        modes["limited"] and f"The microgrid {modes['limited']}.",
        modes["reducing"] and f"All reduce: {modes['reducing']}.",
        modes["shedding"],
        modes["holding"],
    ]
    lines = [el("p", text, class_="soft") for text in told if text]
    return el("section", el("h2", "The town's net", el("small", words, class_=colour)), lines)


def mode_changes(view: View, zone: ZoneInfo) -> Html | None:
    """Return the section of the last changes of the modes, the newest first; ``None``: there was none."""
    rows: list[tuple[str, Child]] = [
        (
            moment(change["time"], zone),
            f"{change['mode']} {change['value']}" + (f": {why}" if (why := change["why"]) else ""),
        )
        for change in reversed(view["mode_changes"][-SHOWN_CHANGES:])
    ]
    return el("section", el("h2", "What changed"), _list(rows)) if rows else None


def rates(view: View, zone: ZoneInfo) -> Html | None:
    """Return the section of the rates in force; ``None``: the utility has sent none."""
    if not view["rates"]:
        return None
    rows: list[tuple[str, Child]] = []
    for each in view["rates"]:
        head = f"{each['tariff']}, {each['period']} until {moment(each['until'], zone)}"
        rows.append((head, f"${each['import']} a kWh taken, ${each['credit']} a kWh given"))
    return el("section", el("h2", "Rates"), _list(rows))


def bills(view: View) -> Html | None:
    """Return the section of the check codes that the controller has signed, and of its key; ``None``: none yet."""
    witness = view.get("witness", {"codes": {}, "unreadable": ""})
    rows: list[tuple[str, Child]] = [
        (month + ", replaced" * (code != codes[-1]), el("code", spaced(code)))
        for month, codes in witness["codes"].items()
        for code in reversed(codes)
    ]
    if not rows and not witness["unreadable"]:
        return None
    rows += [("key", el("code", spaced(witness["key"])))] if rows else []
    text = witness["unreadable"] or "A bill with another code, or key, is of another list: tell your neighbours."
    return el("section", el("h2", "Check codes of bills", el("small", "signed here")), _list(rows), el("p", text))


def backlog(view: View) -> Html:
    """Return the section of the data that the utility does not have yet."""
    parts, events, letters = (view["backlog"][key] for key in ("parts", "events", "dead_letters"))
    age_s = view["backlog_age_s"]
    rows: list[tuple[str, Child]] = [
        ("parts of quarter-hours", f"{parts:,}"),
        ("events", f"{events:,}"),
        ("dead letters", f"{letters:,}"),
        ("oldest quarter-hour", duration(age_s) if age_s else "none"),
        ("sent every", duration(view["periods"]["relay_s"])),
    ]
    aggregated = {"lossless": "groups without loss", "lossy": "averages"}.get(view["aggregation"])
    rows += [("sent as", aggregated)] if aggregated else []
    return el("section", el("h2", "Waits for the utility"), _list(rows))


def hosted(view: View) -> Html | None:
    """Return the section of the microgrids that the controller hosts besides its own; ``None``: there is none."""
    rows: list[tuple[str, Child]] = []
    for name, each in view.get("hosted", {}).items():
        parts = each["backlog"]["parts"]
        meters_there = counted(each["meters"]["registered"], "meter")
        rows.append((name, f"{meters_there}, {counted(parts, 'part')} of quarter-hours for the utility"))
    return el("section", el("h2", "Also hosted here"), _list(rows)) if rows else None


def takeover(view: View) -> Html | None:
    """Return the section of the clique: who manages which microgrid, and how the others are heard; ``None``: none."""
    if (clique := view.get("takeover")) is None:
        return None
    rows: list[tuple[str, Child]] = []
    for name, each in clique["microgrids"].items():
        here = f"managed here{': ' if each['why'] else ''}{each['why']}"
        elsewhere = f"managed by {each['manager']}" if each["manager"] else "no manager known"
        able = "" if each["able"] else ", too few meters reached to manage it"
        text = f"{here if each['manages'] else elsewhere}; {counted(each['reached'], 'meter')} reached{able}"
        rows.append((name, _mark(good=each["manages"] or bool(each["manager"]), text=text)))
    for name, other in clique["others"].items():
        if other["heard_s"] is None:
            rows.append((f"to {name}", _mark(good=False, text="never heard: an older release, or UDP is blocked")))
        else:
            heard = f"lost, heard {duration(int(other['heard_s']))} ago" if other["lost"] else "heard"
            rows.append((f"to {name}", _mark(good=not other["lost"], text=heard)))
    return el("section", el("h2", "Takeover"), _list(rows))


def line(view: View) -> Html:
    """Return the section of the LTE line."""
    used, expected, allowance = (view["lte"][key] for key in ("used", "expected", "allowance"))
    kind, colour, text = _LEVELS[view["lte"]["level"]]
    if used is None:
        return el("section", el("h2", "LTE line"), el("p", "Nothing was counted yet.", class_="soft"))
    ways: list[Child] = []
    for way, name in enumerate(("up", "down")):
        share = f"{byte_size(used[way])} of {byte_size(allowance)}"
        end = "" if expected is None else f"{byte_size(expected[way])} expected"
        mark = None if expected is None else expected[way] / allowance
        label = f"{name}: {share}, {percent(used[way], allowance)}"
        row = el("div", el("span", f"{name}: {share}"), el("span", end, class_="soft"), class_="row num")
        ways.append(el("li", row, bar(used[way] / allowance, kind, label, mark=mark)))
    return el("section", el("h2", "LTE line this month", el("small", text, class_=colour)), el("ul", ways))


def saves(view: View) -> Html | None:
    """Return the section of what the gateway does by itself to save bytes; ``None``: nothing."""
    rows: list[tuple[str, Child]] = [(f"for {what}", how) for what, how in saving_words(view["saves"])]
    if not rows:
        return None
    over = [words for name, words in _OVER.items() if name in view["tuned"]]
    note = el("p", f"The utility has set, and that holds instead: {', '.join(over)}.", class_="soft") if over else None
    return el("section", el("h2", "Saves bytes", el("small", "by itself")), _list(rows), note)


def clock(view: View, zone: ZoneInfo) -> Html:
    """Return the section of the clock."""
    colour, text = TRUST[view["trust"]]
    offset = view["offset_s"]
    corrected = "0 s" if not offset else f"{duration(abs(offset))} {'later' if offset > 0 else 'earlier'}"
    rows: list[tuple[str, Child]] = [
        ("time", clock_time(view["time"], zone)),
        ("trust", el("span", text, class_=colour)),
        ("set since the start by", corrected),
    ]
    return el("section", el("h2", "Clock"), _list(rows))


def commands(view: View, zone: ZoneInfo) -> Html:
    """Return the section of the last commands, the newest first."""
    rows = [_command(view, note, zone) for note in reversed(view["last_commands"])]
    content = el("ul", rows) if rows else el("p", "None since the gateway started.", class_="soft")
    return el("section", el("h2", "Last commands", el("small", "and the answers")), content)


def _command(view: View, note: View, zone: ZoneInfo) -> Html:
    result = note["result"]
    head = el("b", f"{place_of(view, note['meter'])}: {COMMANDS.get(note['cmd'], note['cmd'])}")
    colour = "good" if result in ("done", "repeated") else "warn"
    answer = el("span", result.replace("_", " "), class_=colour)
    about = el("div", f"{moment(note['time'], zone)}, meter {note['meter']}", class_="soft num")
    return el("li", el("div", head, answer, class_="row"), about)


def readings(view: View) -> Html:
    """Return the section of what the gateway has accepted and relayed."""
    rows: list[tuple[str, Child]] = [
        (f"{kind.replace('_', ' ')} accepted", f"{number:,}") for kind, number in sorted(view["records"].items())
    ]
    rows.append(("slots relayed, ever", f"{view['relayed_slots']:,}"))
    store = view["store"]
    if store["disk_bytes"]:
        rows.append(("disk free", f"{byte_size(store['disk_free_bytes'])} of {byte_size(store['disk_bytes'])}"))
    return el("section", el("h2", "Readings and store", el("small", "since the start")), _list(rows))


def _list(rows: Iterable[tuple[str, Child]]) -> Html:
    return el("dl", (el("div", el("dt", name), el("dd", value)) for name, value in rows))


def _mark(*, good: bool, text: str) -> Html:
    return el("span", text, class_="good" if good else "bad")
