"""The command ``commonwatt demo``."""

import json
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.audit.command import left_out, table_of
from commonwatt.audit.comparison import Audit
from commonwatt.audit.folder import PAST, audit_folder
from commonwatt.demo.console import Players, invited, welcome
from commonwatt.demo.layout import DemoFolder, prepare
from commonwatt.demo.running import DRAIN_WITHIN_S, TownRun
from commonwatt.runtime.service import EXIT_FAILED, EXIT_STOPPED, only_one
from commonwatt.runtime.supervisor import stopped_by_signals
from commonwatt.town.loading import WHOLE_TOWN

WHOLE = "whole"  # in place of a town file: the whole town
_UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}


def make_report(layout: DemoFolder, ended_at: int, audit: Audit, lapses: int) -> dict[str, object]:
    """Make the report of a run that has ended, in which the gateways counted so many lapses of control.

    The meaning of its keys is in docs/scenarios.md.
    """
    made = audit.total("made")
    stored = audit.total("stored_exact") + audit.total("stored_averaged")
    clock = layout.clock
    return {
        "town": layout.town.table.name,
        "speed": clock.speed,
        "simulated_from": int(clock.origin),
        "simulated_to": ended_at if clock.meters_stop_at is None else min(ended_at, clock.meters_stop_at),
        "meters": len(layout.town.meters),
        "records_made": made,
        "records_acknowledged": made - audit.total("at_meter"),
        "records_stored": stored,
        "records_averaged": audit.total("stored_averaged"),
        "slots_missing": made - stored,
        "slots_held": audit.total("held"),
        "slots_conflicting": audit.total("conflicting"),
        "slots_unmade": audit.total("unmade"),
        "energy_difference_mwh": audit.total("difference"),
        "averaged_beyond_bound": audit.total("beyond_bound"),
        "events_made": audit.events_made,
        "events_stored": audit.events_stored,
        "events_missing": audit.events_missing,
        "sharing_events": audit.sharing_events,
        "control_lapses": lapses,
        "good": audit.good,
    }


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no duration; give one such as 30s, 5m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def demo(
    speed: Annotated[
        float, typer.Option(min=1, max=600, help="Town seconds in one real second, at most: a busy machine is slower.")
    ] = 60,
    for_: Annotated[
        str | None,
        typer.Option("--for", help="Stop after this real time, such as 30s or 5m; longer on a busy machine."),
    ] = None,
    town: Annotated[
        str | None,
        typer.Option(
            help=f"A town file, or {WHOLE}: the 802 microgrids of the specification; without it, a small town of four."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder for all data; another run continues from it.")] = Path("data"),
    report: Annotated[
        Path | None, typer.Option(help="Write a JSON report here at the end (docs/scenarios.md).")
    ] = None,
) -> None:
    """Run a small town on this machine: meters, brokers, gateways and the utility, each a process of its own.

    Ctrl-C stops it cleanly and prints the audit of every record; another run continues where this one stopped.
    """
    for_s = None if for_ is None else _duration(for_)
    with only_one(data, "another demonstration"):
        console = Console()
        with console.status("preparing the town ..."):
            layout = prepare(data, WHOLE_TOWN if town == WHOLE else None if town is None else Path(town), speed, for_s)
        if (data / PAST).exists():
            console.print("the town has lived for thirteen months; they are emulated, see docs/scenarios.md")
        audit, ended_at, lapses = _run(layout, console, for_s)
        if report is not None:
            report.write_text(json.dumps(make_report(layout, ended_at, audit, lapses), indent=1) + "\n")
            console.print(f"report written to {report}")
    if not audit.good:
        raise SystemExit(EXIT_FAILED)


def _run(layout: DemoFolder, console: Console, for_s: float | None) -> tuple[Audit, int, int]:
    """Start all parts, supervise them until the end, stop them."""
    with stopped_by_signals() as stop:
        town = TownRun(layout, stop)
        players = Players(layout, console)
        try:
            with console.status(f"starting {len(layout.processes)} processes ..."), invited(layout) as links:
                town.begin()
            console.print(f"logs in {layout.data / 'logs'}; Ctrl-C stops; {welcome(layout, links)}", soft_wrap=True)
            ends = None if for_s is None else time.monotonic() + for_s
            said: tuple[bool, bool] | None = None

            def looked() -> None:
                nonlocal said
                now = int(town.layout.clock.now())
                players.look(town.observer, now)
                town.dead = players.tour.dead(now)
                town.observer.count(now)
                if said != (said := (town.observer.is_good, town.is_slow)):
                    slow = f"; this machine can't keep up with {town.layout.clock.speed:g}x" if town.is_slow else ""
                    console.print(f"{town.observer.audit}{slow}", soft_wrap=True)

            drained = town.watch(ends, looked)
        finally:
            players.close()
            killed, ended_at = town.close()
    for name in killed:
        console.print(f"[red]{name} did not end in time and was killed[/red]")
    if ends is not None and not drained and not stop.is_set():
        console.print(f"[red]the backlog did not drain: nothing arrived for {DRAIN_WITHIN_S:.0f} s[/red]")
    if not town.layout.begun:
        console.print("stopped before it began")
        return Audit(), ended_at, 0
    later = f"commonwatt audit --data {layout.data}"
    try:
        # One line, so that the command can be copied.
        console.print(f"comparing what was made with what is stored; Ctrl-C skips that; later: {later}", soft_wrap=True)
        with Progress(console=console, transient=True) as progress:
            audit = audit_folder(layout.data, progress)
    except KeyboardInterrupt:
        console.print(f"not compared; to do it: {later}", soft_wrap=True)
        raise SystemExit(EXIT_STOPPED) from None
    console.print(table_of(audit))
    if audit.since is not None:
        console.print(left_out(audit), soft_wrap=True)
    console.print("nothing lost, nothing counted twice" if audit.good else "[red]NOT GOOD: see the table[/red]")
    return audit, ended_at, town.observer.lapses
