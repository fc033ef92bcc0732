"""The audit of a demonstration's data folder, by the dump commands of its parts."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from rich.progress import Progress

from commonwatt.audit.comparison import Audit, audit_files
from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.runtime.files import read_object
from commonwatt.runtime.postgres import PrivatePostgres
from commonwatt.town.registry import load_registry

PAST = "past.json"  # the file of a demonstration's data folder that names the end of its emulated past
DATABASE = "utility_database"  # the folder there of a large town's PostgreSQL
TOGETHER = 25  # microgrids that are dumped by one process, and compared at once
_METER = re.compile(r'"meter":"([0-9]+)"')


def audit_folder(data: Path, progress: Progress | None = None) -> Audit:
    """Audit a demonstration's data folder with the ``dump`` commands of its parts, some microgrids at a time.

    Raises:
        CommonwattError: The ``dump`` command of a part failed.
    """
    microgrids = sorted(path.parent.name for path in data.glob("*/gateway.toml"))
    if not microgrids:
        raise CommonwattError(f"{data}: holds no demonstration; make one with: commonwatt demo --data {data}")
    groups = [microgrids[at : at + TOGETHER] for at in range(0, len(microgrids), TOGETHER)]
    task = progress.add_task("audit", total=4 * len(groups) + 1) if progress else None
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, dumps = Path(temporary), _Dumps()
        if (database := data.resolve() / DATABASE).exists():
            stack.enter_context(PrivatePostgres(database).answering())

        def done() -> None:
            if progress and task is not None:
                progress.advance(task)

        def ask(number: int) -> None:
            # Downstream last: data that moves during the export then appears in at least one dump.
            for kind, part, options in (
                ("truth", "meters", ["--truth"]),
                ("meters", "meters", []),
                ("gateways", "gateway", ["--unacknowledged"]),
            ):
                configs = [data / name / f"{part}.toml" for name in groups[number]]
                dumps.make(part, configs, options, folder / f"{kind}-{number}")
                done()

        with ThreadPoolExecutor(os.cpu_count(), "dump") as pool:
            try:
                list(pool.map(ask, range(len(groups))))
            except BaseException:
                dumps.stop()
                pool.shutdown(cancel_futures=True)
                raise
        since = _past_end(data)
        options = [] if since is None else ["--start", str(since)]
        dumps.make("utility", [data / "utility" / "utility.toml"], options, folder / "utility")
        done()
        audit = Audit(since=since)
        for found in _compared(data, folder, groups):
            audit.add(found)
            done()
        return audit


def _compared(data: Path, folder: Path, groups: Sequence[Sequence[MicrogridId]]) -> Iterator[Audit]:
    """Yield the audit of each group of microgrids, whose dumps lie in a folder."""
    numbers = range(len(groups))
    own = {
        name: [str(m.id) for m in load_registry(data / name / "registry.json").meters]
        for some in groups
        for name in some
    }
    of = {meter: str(number) for number in numbers for name in groups[number] for meter in own[name]}
    # A gateway has also what it took over, of microgrids of other groups.
    _sort(folder, "stored", of, [folder / "utility"])
    _sort(folder, "unsent", of, [folder / f"gateways-{number}" for number in numbers])
    for number in numbers:
        # Each microgrid's truth ends by itself.
        _sort(
            folder,
            "true",
            {meter: name for name in groups[number] for meter in own[name]},
            [folder / f"truth-{number}"],
        )
        truths = [path for name in groups[number] if (path := folder / f"true-{name}").exists()]
        rest = [path for path in (folder / f"unsent-{number}", folder / f"stored-{number}") if path.exists()]
        sent = [path for path in rest if path.name.startswith("unsent")]
        yield audit_files(truths, [folder / f"meters-{number}"], sent, [path for path in rest if path not in sent])


def _sort(folder: Path, kind: str, of: Mapping[str, str], dumps: Sequence[Path]) -> None:
    """Write each line of some dumps to the file of its meter; lines of unknown meters to one of these files."""
    first = next(iter(of.values()))
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for path in dumps:
            for line in stack.enter_context(path.open(encoding="utf-8")):
                found = _METER.search(line)
                name = first if found is None else of.get(found[1], first)
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{kind}-{name}").open("w", encoding="utf-8"))
                files[name].write(line)


def _past_end(data: Path) -> EpochSeconds | None:
    """Return when the emulated past of a demonstration ends; ``None``: it has none."""
    path = data / PAST
    return int(str(read_object(path, "a past", "the demonstration makes it")["until"])) if path.exists() else None


class _Dumps:
    """The processes of ``dump`` commands, any number at once."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = threading.Event()

    def make(self, part: str, configs: Sequence[Path], options: list[str], path: Path) -> None:
        """Write the dump of parts of one kind to a file."""
        files = [word for config in configs for word in ("--config", str(config))]
        command = [sys.executable, "-m", "commonwatt", part, "dump", *files, *options]
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
