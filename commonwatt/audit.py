"""The audit: compare generated with stored records, slot by slot, from the exports of the parts' dump commands."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commonwatt.codec.dumps import read_dump
from commonwatt.model.blocks import Blocks, Quality, empty, join
from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import GROUP_SLOTS, QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MilliwattHours
from commonwatt.model.words import moment
from commonwatt.runtime.files import read_object
from commonwatt.runtime.service import EXIT_FAILED, errors_reported

PAST = "past.json"  # the file of a demonstration's data folder that names the end of its emulated past
LATE_EVENT_S = 60  # seconds by which an event may arrive late: a meter logs a power loss only when its power is back
Events = dict[tuple[int, int, int], EventRecord]  # events by (meter, log generation, id)
Export = tuple[Blocks, Events]  # the exported blocks and events of one kind of part


@dataclass
class Line:
    """The audit's counts for the slots of one meter and record type."""

    meter: int  # the meter
    record_type: int  # the record type's number
    made: int = 0  # slots for which the meter made a record
    stored_exact: int = 0  # of these, stored exactly at the utility
    stored_averaged: int = 0  # of these, stored as averages
    at_meter: int = 0  # of these, slots still in the meter's log, stored or not
    held: int = 0  # of these, not stored, but still held by the meter or its gateway
    missing: int = 0  # of these, slots found nowhere
    conflicting: int = 0  # slots stored with more than one value
    unmade: int = 0  # slots stored without a record in the truth log
    # Sum of absolute differences between exact stored slots and the truth log, milliwatt-hours.
    difference: MilliwattHours = 0
    # Largest difference between a group of averaged slots and the truth log, milliwatt-hours.
    averaged_difference: MilliwattHours = 0
    beyond_bound: int = 0  # groups of averaged slots off by more than half a milliwatt-hour a slot, or not of one value

    @property
    def good(self) -> bool:
        """Whether every slot is stored or still on its way, without conflict, invention or difference."""
        return not (self.missing or self.conflicting or self.unmade or self.difference or self.beyond_bound)


@dataclass
class Audit:
    """The result of an audit."""

    lines: list[Line] = field(default_factory=list)  # by meter and record type
    events_made: int = 0  # events in the truth log
    events_stored: int = 0  # of these, stored unchanged at the utility
    events_held: int = 0  # of these, not stored, but still held by the meter or its gateway
    events_missing: int = 0  # of these, events found nowhere
    events_different: int = 0  # stored events that differ from the truth log
    foreign_slots: int = 0  # stored slots of other makers' meters; they have no truth log and are not compared
    sharing_events: int = 0  # stored events that report the start of sharing by a battery
    # Where the audit begins: what is stored of earlier times is an emulated past; ``None``: there is none.
    since: EpochSeconds | None = None

    @property
    def good(self) -> bool:
        """Whether nothing acknowledged is lost and nothing counted twice."""
        return all(line.good for line in self.lines) and not self.events_missing and not self.events_different

    def total(self, name: str) -> int:
        """Return the sum of an attribute over all lines."""
        return sum(getattr(line, name) for line in self.lines)


def compare(truths: Sequence[Export], meters: Export, gateways: Export, utility: Export) -> Audit:
    """Compare the truth logs with the utility's database and with the logs of meters and gateways.

    Args:
        truths: One truth log for each fleet of emulated meters. Slots after a truth log's last slot were
            made after its export; they are not compared. Meters without a truth log are not compared.
        meters: The unacknowledged data of the meters.
        gateways: The gateways' data that the utility has not acknowledged.
        utility: The utility's stored data; exported last.
    """
    horizons: dict[int, EpochSeconds] = {}
    for blocks, events in truths:
        horizon = max((event.time for event in events.values()), default=0)
        if len(blocks):
            last = blocks.quarter.max()
            slots = np.flatnonzero(blocks.quality[blocks.quarter == last].any(axis=0))
            horizon = int(last) * QUARTER_S + (int(slots.max()) + 1) * SLOT_S
        horizons |= dict.fromkeys({*blocks.meter.tolist(), *(meter for meter, _, _ in events)}, horizon)
    truth: Export = (join([blocks for blocks, _ in truths]), {k: v for _, events in truths for k, v in events.items()})
    stored, held = utility[1], meters[1] | gateways[1]
    lines, foreign = _compare_slots(truth[0], meters[0], gateways[0], utility[0], horizons)
    audit = Audit(lines=lines, events_made=len(truth[1]), foreign_slots=foreign)
    audit.sharing_events = sum(bool(e.new_state & ~e.previous_state & State.SHARING) for e in stored.values())
    for key, event in truth[1].items():
        if key in stored:
            audit.events_stored += stored[key] == event
            audit.events_different += stored[key] != event
        elif key in held:
            audit.events_held += 1
        else:
            audit.events_missing += 1
    for key in stored.keys() - truth[1].keys():
        audit.events_different += key[0] in horizons and stored[key].time < horizons[key[0]] - LATE_EVENT_S
    return audit


def _compare_slots(
    truth: Blocks, meters: Blocks, gateways: Blocks, stored: Blocks, horizons: dict[int, EpochSeconds]
) -> tuple[list[Line], int]:
    """Bring all blocks into one order of keys, then compare whole arrays; count also the slots not compared."""
    known = np.isin(stored.meter, np.array(list(horizons), dtype=np.uint64))
    foreign = int((stored.quality[~known] > 0).sum())
    stored = stored.take(np.flatnonzero(known))
    keys = sorted({*truth.keys(), *stored.keys()})
    index = {key: row for row, key in enumerate(keys)}
    made_values, made_quality = _aligned(truth, index)
    values, quality = _aligned(stored, index)
    at_meter = _aligned(meters, index)[1] > 0
    held = at_meter | (_aligned(gateways, index)[1] > 0)
    made = made_quality > 0
    starts = np.array([quarter for _, _, quarter in keys], np.int64)[:, None] * QUARTER_S + np.arange(SLOTS) * SLOT_S
    horizon = np.array([horizons[meter] for meter, _, _ in keys], np.int64)
    exact = made & (quality == Quality.EXACT)
    averaged = made & (quality == Quality.AVERAGED)
    elsewhere = made & (quality == 0)
    conflicting = np.zeros(made.shape, np.bool_)
    rows = np.array([index[key] for key in stored.keys()], dtype=np.int64)  # noqa: SIM118 - not a dictionary
    conflicting[rows[stored.extras["row"]], stored.extras["slot"]] = True
    apart = np.where(exact, np.abs(values - made_values), 0)
    groups = _groups(np.where(averaged, values - made_values, 0))
    bound = _groups(averaged.astype(np.int64))
    columns = {
        "made": made,
        "at_meter": made & at_meter,
        "stored_exact": exact,
        "stored_averaged": averaged,
        "held": elsewhere & held,
        "missing": elsewhere & ~held,
        "conflicting": conflicting,
        "unmade": ~made & (quality > 0) & (starts < horizon[:, None]),
        "difference": apart,
        # The sum of a group that is not exported completely can't be compared.
        "beyond_bound": (2 * np.abs(groups) > bound) & (_groups((~made & (quality > 0)).astype(np.int64)) == 0)
        | _uneven(values, quality == Quality.AVERAGED),
    }
    lines: dict[tuple[int, int], Line] = {}
    for row, (meter, record_type, _) in enumerate(keys):
        line = lines.setdefault((meter, record_type), Line(meter, record_type))
        for name, column in columns.items():
            setattr(line, name, getattr(line, name) + int(column[row].sum()))
        line.averaged_difference = max(line.averaged_difference, int(np.abs(groups[row]).max()))
    return list(lines.values()), foreign


def _aligned(
    blocks: Blocks, index: dict[tuple[int, int, int], int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    values = np.zeros((len(index), SLOTS), np.int64)
    quality = np.zeros((len(index), SLOTS), np.uint8)
    rows = [(index[key], row) for row, key in enumerate(blocks.keys()) if key in index]
    if rows:
        to, of = np.array(rows).T
        values[to], quality[to] = blocks.values[of], blocks.quality[of]
    return values, quality


def _groups(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    sums: npt.NDArray[np.int64] = array.reshape(len(array), SLOTS // GROUP_SLOTS, GROUP_SLOTS).sum(axis=2)
    return sums


def _uneven(values: npt.NDArray[np.int64], averaged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the groups whose averaged slots differ from each other: errors that cancel in the group's sum."""
    shape = len(values), SLOTS // GROUP_SLOTS, GROUP_SLOTS
    extremes = np.iinfo(np.int64)
    highest = np.where(averaged, values, extremes.min).reshape(shape).max(axis=2)
    lowest = np.where(averaged, values, extremes.max).reshape(shape).min(axis=2)
    uneven: npt.NDArray[np.bool_] = highest > lowest
    return uneven


def audit_files(truth: list[Path], meters: list[Path], gateways: list[Path], utility: list[Path]) -> Audit:
    """Audit the output of ``meters dump --truth``, ``meters dump``, ``gateway dump`` and ``utility dump``."""
    return compare([_read([path]) for path in truth], _read(meters), _read(gateways), _read(utility))


def _read(paths: list[Path]) -> Export:
    blocks = [empty()]
    events: Events = {}
    for path in paths:
        with path.open(encoding="utf-8") as file:
            more, more_events = read_dump(file)
        blocks.append(more)
        events |= more_events
    return join(blocks), events


def audit_folder(data: Path, progress: Progress | None = None) -> Audit:
    """Audit a demonstration's data folder with the ``dump`` command of each part.

    Raises:
        CommonwattError: The ``dump`` command of a part failed.
    """
    microgrids = sorted(path.parent.name for path in data.glob("*/gateway.toml"))
    if not microgrids:
        raise CommonwattError(f"{data}: holds no demonstration; make one with: commonwatt demo --data {data}")
    task = progress.add_task("audit", total=3 * len(microgrids) + 1) if progress else None
    with tempfile.TemporaryDirectory() as temporary:
        folder, dumps = Path(temporary), _Dumps()

        def done() -> None:
            if progress and task is not None:
                progress.advance(task)

        def ask(name: str) -> None:
            # Downstream last: data that moves during the export then appears in at least one dump.
            meters, gateway = data / name / "meters.toml", data / name / "gateway.toml"
            for kind, part, config, options in (
                ("truth", "meters", meters, ["--truth"]),
                ("meters", "meters", meters, []),
                ("gateways", "gateway", gateway, ["--unacknowledged"]),
            ):
                dumps.make(part, config, options, folder / f"{kind}-{name}")
                done()

        with ThreadPoolExecutor(os.cpu_count(), "dump") as pool:
            try:
                list(pool.map(ask, microgrids))
            except BaseException:
                dumps.stop()
                pool.shutdown(cancel_futures=True)
                raise
        since = _past_end(data)
        options = [] if since is None else ["--start", str(since)]
        dumps.make("utility", data / "utility" / "utility.toml", options, folder / "utility")
        done()
        files = {kind: [folder / f"{kind}-{name}" for name in microgrids] for kind in ("truth", "meters", "gateways")}
        audit = audit_files(files["truth"], files["meters"], files["gateways"], [folder / "utility"])
        audit.since = since
        return audit


def _past_end(data: Path) -> EpochSeconds | None:
    """Return when the emulated past of a demonstration ends; ``None``: it has none."""
    path = data / PAST
    return int(str(read_object(path, "a past", "the demonstration makes it")["until"])) if path.exists() else None


class _Dumps:
    """The processes of ``dump`` commands, any number at once."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = threading.Event()

    def make(self, part: str, config: Path, options: list[str], path: Path) -> None:
        """Write the dump of a part to a file.

        Raises:
            CommonwattError: The command failed, or ``stop`` was called.
        """
        command = [sys.executable, "-m", "commonwatt", part, "dump", "--config", str(config), *options]
        errors = path.with_name(f"{path.name}.errors")
        process = _start(command, path, errors)
        self._running.add(process)
        if self._stopped.is_set():
            process.terminate()
        code = process.wait()
        self._running.discard(process)
        if code:
            raise CommonwattError(f"{part} dump failed: {errors.read_text(errors='replace').strip()}")

    def stop(self) -> None:
        """End the processes: Ctrl-C in a terminal reaches them too, but a signal to the audit alone does not."""
        self._stopped.set()
        for process in list(self._running):
            process.terminate()


def _start(command: list[str], out: Path, err: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as out_file, err.open("wb") as err_file:
        return subprocess.Popen(command, stdout=out_file, stderr=err_file)


MEASURES = {
    "made": "made",
    "stored_exact": "stored exactly",
    "stored_averaged": "stored as averages",
    "held": "on the way",
    "missing": "missing",
    "conflicting": "conflicting",
    "unmade": "stored, never made",
    "difference": "off by, mWh",
    "beyond_bound": "averages beyond bound",
}
"""The table headings of an audit line's fields."""


def table_of(audit: Audit, *, by_meter: bool) -> Table:
    """Draw the audit table: a column for each record type, or with ``by_meter`` a line for each meter and type."""
    table = Table(title="What was made, and what of it is stored", box=SIMPLE_HEAD)
    lines: dict[tuple[int, ...], list[int]] = {}
    for line in audit.lines:
        key = (line.meter, line.record_type) if by_meter else (line.record_type,)
        sums = lines.get(key, [0] * len(MEASURES))
        lines[key] = [total + getattr(line, name) for total, name in zip(sums, MEASURES, strict=True)]
    table.add_column("meter" if by_meter else "")
    for heading in ["type", *MEASURES.values()] if by_meter else [_type_name(key[0]) for key in sorted(lines)]:
        table.add_column(heading, justify="right", no_wrap=True)
    if by_meter:
        for (meter, record_type), sums in sorted(lines.items()):
            table.add_row(str(meter), _type_name(record_type), *(f"{number:,}" for number in sums))
    else:
        for row, measure in enumerate(MEASURES.values()):
            table.add_row(measure, *(f"{sums[row]:,}" for _, sums in sorted(lines.items())))
    table.caption = (
        f"events: {audit.events_made:,} made, {audit.events_stored:,} stored, {audit.events_held:,} on the way, "
        f"{audit.events_missing:,} missing, {audit.events_different:,} different"
        + (f"; of other makers' meters: {audit.foreign_slots:,} slots, not compared" if audit.foreign_slots else "")
    )
    return table


def left_out(audit: Audit) -> str:
    """Return what an audit does not compare, in a sentence; empty: it compares everything."""
    if audit.since is None:
        return ""
    return f"left out: the town's emulated past, which is everything before {moment(audit.since)}"


def _type_name(record_type: int) -> str:
    return (
        RecordType(record_type).name.lower()
        if record_type in RecordType.__members__.values()
        else f"type {record_type}"
    )


def audit_command(
    data: Annotated[
        Path | None, typer.Option(help="A demonstration's data folder; its parts are asked by their commands.")
    ] = None,
    truth: Annotated[list[Path] | None, typer.Option(help="Output of: commonwatt meters dump --truth")] = None,
    meters: Annotated[list[Path] | None, typer.Option(help="Output of: commonwatt meters dump")] = None,
    gateways: Annotated[
        list[Path] | None, typer.Option(help="Output of: commonwatt gateway dump --unacknowledged")
    ] = None,
    utility: Annotated[list[Path] | None, typer.Option(help="Output of: commonwatt utility dump")] = None,
    by_meter: Annotated[bool, typer.Option("--by-meter", help="One line for each meter and type.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare every generated slot with the utility's database; exit 1 if a slot is lost or counted twice."""
    with errors_reported():
        if data is not None:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                audit = audit_folder(data, progress)
        elif truth and utility:
            audit = audit_files(truth, meters or [], gateways or [], utility)
        else:
            raise typer.BadParameter("give --data, or --truth and --utility (and --meters and --gateways)")
        if as_json:
            print(json.dumps({**asdict(audit), "good": audit.good}))
        else:
            Console(width=None if sys.stdout.isatty() else 150).print(table_of(audit, by_meter=by_meter))
            if audit.since is not None:
                print(left_out(audit))
            print(
                "nothing lost, nothing counted twice"
                if audit.good
                else "NOT GOOD: see missing, conflicting, unmade, difference"
            )
        if not audit.good:
            raise SystemExit(EXIT_FAILED)
