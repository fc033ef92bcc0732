"""Kills processes of a running demonstration at random; the audit at its end must find no difference.

``make soak`` runs it for hours: ``python -m harness.chaos --hours 1``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.commands import shown
from harness.real import forks

AGGREGATION = (
    ("r001", "aggregate", "at=meters", "mode=lossy", "for_s=3600"),
    ("r002", "aggregate", "at=meters", "mode=lossless", "for_s=3600"),
    ("apt", "aggregate", "at=gateway", "mode=lossy", "for_s=3600"),
)
"""Commands given at the start, so that the kills meet both aggregations, at meters and at a gateway."""


@dataclass
class Story:
    """The kills and the result of a run."""

    killed: Counter[str] = field(default_factory=Counter)
    report: dict[str, object] = field(default_factory=dict)
    exit_code: int = -1
    output: str = ""


COMMONWATT = [sys.executable, "-m", "commonwatt"]


def run(
    data: Path,
    *,
    for_s: int,
    kills: int,
    seed: int,
    program: Sequence[str] = COMMONWATT,
    town: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Story:
    """Run a town for ``for_s`` real seconds, and kill ``kills`` of its processes at random moments meanwhile.

    The killing begins when the first meters aggregate: on a busy machine they would not before the end.
    """
    rng = random.Random(seed)
    story = Story()
    report = data.with_suffix(".json")
    command = [
        *program,
        "demo",
        "--data",
        str(data),
        "--for",
        f"{for_s}s",
        "--report",
        str(report),
        *([] if town is None else ["--town", str(town)]),
    ]
    log = data.with_suffix(".log")
    demo = forks.start(command, log)
    try:
        while not has_begun(data) and _goes_on(demo, 0.2):
            pass
        began = time.monotonic()
        for order in AGGREGATION:
            _commonwatt(data, "command", *order)
        while not _is_done(data, AGGREGATION[0]) and _goes_on(demo, 0.2):
            pass
        # The kills are spread over nine tenths of the time, so that the last killed process is up again at the end.
        left_s = for_s - (time.monotonic() - began)
        for _ in range(kills):
            if not _goes_on(demo, rng.uniform(0.2, 1.6) * left_s / kills):
                break
            victim = kill_one(data, rng)
            if victim is not None:
                story.killed[victim.split()[-1]] += 1
                tell(f"killed {victim}")
        story.exit_code = demo.wait(timeout=for_s + 180)
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=120)
    story.output = log.read_text()
    story.report = json.loads(report.read_text()) if report.exists() else {}
    return story


def has_begun(data: Path) -> bool:
    path = data / "clock.json"
    return path.exists() and (clock := json.loads(path.read_text()))["ceiling"] > clock["origin"]


def _is_done(data: Path, order: tuple[str, ...]) -> bool:
    found = shown(data / "utility" / "utility.toml", "commands")["commands"]
    return any((one["controller"], one["state"]) == (order[0], "done") for one in found)


def _commonwatt(data: Path, command: str, *words: str) -> str:
    config = str(data / "utility" / "utility.toml")
    return forks.run([*COMMONWATT, "utility", command, "--config", config, *words], check=True).stdout


def kill_one(data: Path, rng: random.Random) -> str | None:
    """Kill one process of the demonstration in ``data``.

    Returns:
        Its name; ``None``: it had ended already.
    """
    running = sorted(json.loads((data / "processes.json").read_text()).items())
    if not running:
        return None  # All were killed a moment ago.
    name, pid = rng.choice(running)
    try:
        if not Path(f"/proc/{pid}/fd/1").readlink().is_relative_to(data.resolve()):  # Its output goes to its log.
            return None
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return None  # It was killed a moment ago and is not up again.
    return str(name)


def _goes_on(demo: subprocess.Popen[bytes], seconds: float) -> bool:
    """Let the demonstration run; return whether it still does. On a loaded machine it may end before the last kill."""
    try:
        demo.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def main() -> None:
    """Run rounds of ten minutes for hours, each with a new seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(max(1, round(arguments.hours * 6))):
            story = run(Path(folder) / "town", for_s=540, kills=200, seed=arguments.seed + round_)
            print(f"round {round_ + 1}: killed {dict(story.killed)}; {json.dumps(story.report)}", flush=True)
            if story.exit_code or not story.report.get("good"):
                sys.exit(f"round {round_ + 1} (seed {arguments.seed + round_}) went wrong:\n{story.output}")


if __name__ == "__main__":
    main()
