"""The bench of takeover: python -m harness.takeover.real (make takeover)."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from harness.real import forks, parts
from harness.real.releases import HISTORY, has_history
from harness.takeover.real.faults import FAULTS, Fault, blackhole
from harness.takeover.real.namespaces import why_not
from harness.takeover.real.report import bytes_table, faults_table, times_table
from harness.takeover.real.run import Seen, run
from harness.takeover.real.town import stop_all
from harness.takeover.real.weighing import weigh

RUNS = 20
WEIGH_S = 300.0
AT_ONCE = 4  # towns side by side: each has nine processes that mostly wait


def main(
    runs: Annotated[int, typer.Option(help="Runs of the blackhole, each in a new town.")] = RUNS,
    only: Annotated[str, typer.Option(help="Only faults whose words have this.")] = "",
    weigh_s: Annotated[float, typer.Option(help="Seconds for which beats are weighed; 0: they are not.")] = WEIGH_S,
    at_once: Annotated[int, typer.Option(help="Towns side by side.")] = AT_ONCE,
) -> None:
    """Take controllers away from towns of real processes, and show how soon others are obeyed."""
    if why := why_not() or _missing():
        raise typer.Exit(_complain(why))
    forks.enable()
    lost = blackhole(utility=False)
    chosen = [fault for fault in FAULTS if only in fault.words]
    with TemporaryDirectory(prefix="takeover-") as folder, ThreadPoolExecutor(at_once) as pool:
        towns = (Path(folder) / f"town-{at}" for at in count())
        jobs = [pool.submit(_shown, next(towns), lost, seed, home=False) for seed in range(runs)]
        jobs += [pool.submit(_shown, next(towns), fault, seed, home=True) for seed, fault in enumerate(chosen)]
        scales = [pool.submit(weigh, next(towns), weigh_s, utility=utility) for utility in (True, False) if weigh_s]
        try:
            seen = [job.result() for job in jobs]
            weighed = [scale.result() for scale in scales]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    print(times_table(seen[:runs]))
    print(faults_table(seen[runs:]))
    print(bytes_table(weighed))
    if any(one.broken for one in seen):
        raise typer.Exit(1)


def _shown(folder: Path, fault: Fault, seed: int, *, home: bool) -> Seen:
    try:
        seen = run(folder, fault, seed, home=home)
    except AssertionError as error:
        print(f"{fault.words}: {error}", flush=True)
        raise
    print(
        f"{fault.words}: {seen.times.first_s:.2f} s, {' '.join(seen.managers)}, {'; '.join(seen.broken) or 'all held'}",
        flush=True,
    )
    return seen


def _missing() -> str | None:
    """Return what a fault needs that is not here; ``None``: nothing."""
    if parts.path_of("faketime") is None:
        return "needs faketime: apt-get install faketime"
    return None if has_history() else f"needs {HISTORY}"


def _complain(why: str) -> int:
    typer.echo(why, err=True)
    return 1


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
