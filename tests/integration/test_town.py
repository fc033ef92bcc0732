"""The demonstration as a newcomer runs it: through the command, on real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from harness.commands import shown
from harness.docs.tables import KEYS
from harness.real import forks
from harness.real.demonstration import FORKING, TOWN
from harness.real.site import audited

COMMONWATT = [sys.executable, "-m", "commonwatt"]
WRONG = (
    "slots_missing",
    "slots_held",
    "slots_conflicting",
    "slots_unmade",
    "energy_difference_mwh",
    "averaged_beyond_bound",
    "events_missing",
)
PERFECT = dict.fromkeys(WRONG, 0)


def demo(data: Path, *options: str, program: Sequence[str] = COMMONWATT) -> list[str]:
    report = data.with_suffix(".json")
    return [*program, "demo", "--data", str(data), "--report", str(report), *options]


@contextmanager
def running(command: Sequence[str], folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", TextIO]]:
    """Run a demonstration by forks, to its end; yield its process and its output."""
    pipe = folder / "output"
    os.mkfifo(pipe)
    process = forks.start(list(command), pipe, folder / "errors")
    try:
        with pipe.open() as output:
            yield process, output
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    pipe.unlink()


def report_of(data: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads(data.with_suffix(".json").read_text())
    return report


def amiss(report: dict[str, object]) -> dict[str, object]:
    return {key: report[key] for key in PERFECT}


def order(data: Path, *words: str) -> None:
    """Give a command as an operator; it is stored, and sent until it is answered."""
    config = str(data / "utility" / "utility.toml")
    forks.run([*COMMONWATT, "utility", "command", "--config", config, *words], check=True)


def test_after_half_an_hour_with_both_aggregations_nothing_is_missing_and_energy_agrees(tmp_path: Path) -> None:
    data, town = tmp_path / "town", tmp_path / "town.toml"
    town.write_text(TOWN)
    command = demo(data, "--town", str(town), "--speed", "30", "--for", "61s", program=FORKING)
    with running(command, tmp_path) as (process, said):
        said.readline()  # all parts run, and the clock has started
        # Only a message with all ten readings of a group is averaged, on a slow machine too.
        order(data, "r001", "schedule", "collect_s=300")
        order(data, "r001", "aggregate", "at=meters", "mode=lossy", "for_s=1500")
        order(data, "r002", "aggregate", "at=meters", "mode=lossless", "for_s=1500")
        order(data, "apt", "aggregate", "at=gateway", "mode=lossy", "for_s=1500")
        order(data, "pub", "aggregate", "at=gateway", "mode=lossless", "for_s=1000")
        audit = audited(data)
        assert audit.good, f"of the running town: {audit}"
        output = said.read()
    assert process.returncode == 0, output
    report = report_of(data)
    assert report.keys() == KEYS.keys()
    assert report["simulated_to"] - report["simulated_from"] >= 1800  # type: ignore[operator]
    assert amiss(report) == PERFECT, output
    assert report["records_made"] == report["records_acknowledged"] == report["records_stored"]
    assert report["records_averaged"], "nothing was averaged, so nothing was shown"
    assert report["sharing_events"]
    answered = shown(data / "utility" / "utility.toml", "commands")["commands"]
    assert [command["state"] for command in answered].count("done") >= 5, answered


def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = tmp_path / "town"
    town = tmp_path / "town.toml"
    town.write_text('[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n')
    with subprocess.Popen(demo(data, "--town", str(town)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline().startswith("admin: ")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/console/invitation/\S+\n", process.stdout.readline())
        second = forks.run(demo(data))
        assert second.returncode == 2
        assert "another demonstration is using it" in second.stderr
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert "nothing lost, nothing counted twice" in output
    first = report_of(data)
    audit = forks.run([*FORKING, "audit", "--data", str(data)])
    assert audit.returncode == 0, audit.stdout
    logs = {path.name: path.read_text() for path in (data / "logs").iterdir()}
    assert not [name for name, text in logs.items() if "Traceback" in text], logs

    forks.run(demo(data, "--for", "3s", program=FORKING), check=True)
    report = report_of(data)
    assert amiss(report) == PERFECT
    assert 0 <= report["simulated_from"] - first["simulated_to"] <= 1  # type: ignore[operator]
    assert report["records_made"] > first["records_made"]  # type: ignore[operator]

    with running(demo(data, program=FORKING), tmp_path) as (again, said):
        said.readline()
        # The comparison reads this file, and so does not end by itself before the second Ctrl-C.
        config = data / "r001" / "meters.toml"
        config.unlink()
        os.mkfifo(config)
        again.send_signal(signal.SIGINT)
        while "Ctrl-C skips that" not in (line := said.readline()):
            assert line, "it must end with a message"
        with config.open("w"):  # The comparison has begun to read.
            again.send_signal(signal.SIGINT)
            assert f"not compared; to do it: commonwatt audit --data {data}" in said.read()
    assert again.returncode == 130, "the comparison was skipped, and no success may be reported"


def test_mistakes_on_the_command_line_are_told_with_what_to_do(tmp_path: Path) -> None:
    bad = tmp_path / "town.toml"
    bad.write_text('[[microgrid]]\nid = "r"\nkind = "residential"\nhuoses = 3\n')
    done = forks.run(demo(tmp_path / "town", "--town", str(bad)))
    assert done.returncode == 2
    assert "line 4" in done.stderr
    assert "houses" in done.stderr
    done = forks.run(demo(tmp_path / "town", "--for", "soon"))
    assert done.returncode == 2
    assert "30s" in done.stderr
