"""The live table of a large town: a row for each host and fleet, with the few that are slowest (pure)."""

from collections.abc import Collection, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from commonwatt.model.units import EpochSeconds

Status = Mapping[str, Any]  # the last status of a part

QUIET_S = 60  # town seconds after the last slot from which a heartbeat tells that a gateway's backlog is empty
_BACKLOGS = ("backlog_parts", "backlog_events", "backlog_letters")  # of a gateway's heartbeat
NAMES = 3  # most controllers or microgrids that are named in a cell
_COLUMNS = ("process", "microgrids", "connected", "made", "passed on", "waiting", "lag", "slowest")


def arrived(utility: Status, fleets: Collection[Status]) -> int:
    """Return how much has arrived: records at the gateways, and slots at the utility."""
    slots = utility.get("totals", {}).get("received_slots", 0)
    return int(slots + sum(one["acknowledged"] for one in fleets))


def is_drained(utility: Status, fleets: Collection[Status], last: EpochSeconds) -> bool:
    """Whether all meters' backlogs are empty after the last slot, and by their heartbeats those of all gateways."""
    heartbeats = [one["heartbeat"] for one in utility.get("microgrids", {}).values()]
    fresh = bool(heartbeats) and all(one is not None and one["time"] > last + QUIET_S for one in heartbeats)
    at_meters = any(one["held"] or one["events_held"] for one in fleets)
    return fresh and not at_meters and not any(one.get(key, 0) for one in heartbeats for key in _BACKLOGS)


def large_table(
    title: str, utility: Status, hosts: Mapping[str, Status], fleets: Mapping[str, Status], stored: int
) -> Table:
    """Return the table; ``stored``: slots stored at the utility, each once."""
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("process", "slowest") else "right")
    for name, one in fleets.items():
        connected = f"{one['connected']:,} of {one['meters']:,}"
        lag, slowest = f"{one['lag_s']:.0f} s", _named(one["behind"], one["worst"])
        numbers = (f"{one[key]:,}" for key in ("made", "acknowledged", "held"))
        table.add_row(name, f"{len(one['microgrids']):,}", connected, *numbers, lag, slowest)
    for name, one in hosts.items():
        table.add_row(name, *_of_host(one["controllers"], utility.get("microgrids", {})))
    queue = f"{utility['queue_s']:.0f} s" if utility else "-"
    table.add_row("utility", f"{len(utility.get('microgrids', {})):,}", "", "", f"{stored:,}", "", queue, "")
    return table


def _of_host(controllers: Mapping[str, Status], known: Mapping[str, Status]) -> tuple[str | Text, ...]:
    slow = {name: one["lag_s"] for name, one in controllers.items() if one["state"] == "slow"}
    stopped = sorted(name for name, one in controllers.items() if one["state"] == "stopped")
    theirs = [known[name] for name in controllers if name in known]
    relayed = sum(one["received_slots"] for one in theirs)
    waiting = sum(one["heartbeat"]["backlog_parts"] for one in theirs if one["heartbeat"] is not None)
    lag_s = max(one["lag_s"] for one in controllers.values())
    words = _named(len(slow), slow)
    if stopped:
        words.append(f"{'; ' if words else ''}stopped: {', '.join(stopped[:NAMES])}", style="red")
        words.append(f" and {len(stopped) - NAMES} more" if len(stopped) > NAMES else "", style="red")
    return (f"{len(controllers):,}", "", "", f"{relayed:,}", f"{waiting:,} parts", f"{lag_s:.0f} s", words)


def _named(count: int, worst: Mapping[str, float]) -> Text:
    names = sorted(worst, key=worst.__getitem__, reverse=True)[:NAMES]
    few = ", ".join(f"{name} {worst[name]:.0f} s" for name in names)
    return Text(f"{count:,} behind: {few}" if count else "", style="yellow")


def large_legend() -> Text:
    """Return the words below the table."""
    words = "made: readings of 15 s · passed on: acknowledged to meters; received from gateways; stored, each once · "
    words += "waiting: at meters, and parts at gateways by their last heartbeats · lag: of the slowest"
    return Text(f"{words} · Ctrl-C stops", style="dim")
