"""The live table of a large town: a row for each host and fleet, with the few that are slowest (pure)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

Status = Mapping[str, Any]

NAMES = 3  # most controllers or microgrids that are named in a cell
_COLUMNS = ("process", "microgrids", "connected", "made", "passed on", "waiting", "lag", "slowest")


def _controllers(hosts: Iterable[Status]) -> list[Status]:
    return [one for host in hosts for one in host["controllers"].values()]


def arrived(hosts: Collection[Status], fleets: Collection[Status]) -> int:
    """Return how much has arrived: records at the gateways, and slots at the utility."""
    relayed = sum(one.get("relayed_slots", 0) for one in _controllers(hosts))
    return int(relayed + sum(one["acknowledged"] for one in fleets))


def is_drained(hosts: Collection[Status], fleets: Collection[Status]) -> bool:
    """Whether the backlog of every meter and every gateway is empty; each gateway must answer."""
    at_gateways = [one.get("backlog") for one in _controllers(hosts)]
    empty = all(backlog is not None and not any(backlog.values()) for backlog in at_gateways)
    return empty and not any(one["held"] or one["events_held"] for one in fleets)


def large_table(title: str, hosts: Mapping[str, Status], fleets: Mapping[str, Status], stored: int) -> Table:
    """Return the table.

    Args:
        title: The town and its time.
        hosts: The last status of each host of gateways.
        fleets: The last status of each fleet of meters.
        stored: Slots stored at the utility, each once.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("process", "slowest") else "right")
    for name, one in fleets.items():
        connected = f"{one['connected']:,} of {one['meters']:,}"
        lag, slowest = f"{one['lag_s']:.0f} s", _named(one["behind"], one["worst"])
        numbers = (f"{one[key]:,}" for key in ("made", "acknowledged", "held"))
        table.add_row(name, f"{len(one['microgrids']):,}", connected, *numbers, lag, slowest)
    for name, one in hosts.items():
        table.add_row(name, *_of_host(one["controllers"]))
    table.add_row("utility", "", "", "", f"{stored:,}", "", "", "")
    return table


def _of_host(controllers: Mapping[str, Status]) -> tuple[str | Text, ...]:
    running = {name: one for name, one in controllers.items() if one["state"] != "stopped"}
    slow = {name: one.get("lag_s") or 0 for name, one in controllers.items() if one["state"] == "slow"}
    stopped = sorted(controllers.keys() - running.keys())
    relayed = sum(one.get("relayed_slots", 0) for one in running.values())
    waiting = sum(one.get("backlog", {}).get("parts", 0) for one in running.values())
    lag_s = max((one.get("lag_s") or 0 for one in running.values()), default=0)
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
    words = "made: readings of 15 s · passed on: acknowledged to meters, to gateways, and stored, each once · waiting: "
    words += "at meters, and parts at gateways · a controller or microgrid is behind from a minute of lag on"
    return Text(f"{words} · Ctrl-C stops", style="dim")
