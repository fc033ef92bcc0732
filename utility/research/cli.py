"""``commonwatt research``: releases for researchers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import show, shown_progress
from commonwatt.model.calendar import FORMS, parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.service import EXIT_FAILED
from utility.access.people import Role, on_machine
from utility.research.attacks import Success
from utility.research.coarsening import Coarsening
from utility.research.groups import MIN_HOMES
from utility.research.jobs.releases import asked_of, make_release
from utility.research.jobs.source import ReleaseResult, ReleaseSource, source_of
from utility.research.release import Tier
from utility.webkit.cli import Commands, ConfigOption, load, name_of_login, opened, place_of_database

app = Commands(help="Releases for researchers.", no_args_is_help=True)


@app.callback()
def research() -> None:
    """Releases for researchers."""


FromOption = Annotated[str, typer.Option("--from", help=f"Start of the period, on an hour: {FORMS}.")]
ToOption = Annotated[str, typer.Option("--to", help="End of the period, at least a day later.")]


@app.command()
def release(
    tier: Annotated[Tier, typer.Argument(help="open: sums of groups; homes: single homes, identifiable.")],
    start: FromOption,
    end: ToOption,
    config: ConfigOption,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the files; without it, one named by the release in `releases` of the file."),
    ] = None,
    agreement: Annotated[str, typer.Option(help="The agreement; homes need one.")] = "",
    homes: Annotated[
        int, typer.Option(min=MIN_HOMES, help="open: the least homes of a group, such as 100.")
    ] = MIN_HOMES,
    step: Annotated[
        int | None, typer.Option(help="Seconds of a step: 900 or 3600; of homes also 15, 60 or 300.")
    ] = None,
    unit: Annotated[int, typer.Option("--round", min=0, max=10_000, help="Round to this, Wh.")] = 0,
    noise: Annotated[int, typer.Option(min=0, max=10_000, help="homes by quarter-hour: add noise of this, Wh.")] = 0,
    sample: Annotated[
        int, typer.Option(min=1, max=100, help="Release this part of the homes, percent: one home at least.")
    ] = 100,
) -> None:
    """Write a release into a new folder: CSV, Parquet if pyarrow is installed, data dictionary, licence, attacks.

    Each attack is run on the release, and its success is in the report. An open release above the limit of the
    utility's file waits until a second person approves it: `commonwatt do releases/ID/approve`; then run the same
    command again. The same readings, options and program give the same release id and the same bytes.

    Readings count when the utility has joined them; wait for the end of the month's deadline before an open release,
    since a period is released once: a group whose readings have changed since is withheld.

    Examples: `research release open --from 2026-06-01T04:00Z --to 2026-07-01T04:00Z --out june --config utility.toml`,
    `research release homes --agreement university --round 100 ...`.
    """
    begin, stop = parse_time(start, "--from"), parse_time(end, "--to")
    coarsening = Coarsening(sample_percent=sample, step_s=step, noise_wh=noise, unit_wh=unit)
    asked = asked_of(tier, begin, stop, coarsening, homes, agreement)
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: exists already; name a new folder")
    with _source(config) as source, shown_progress("reading", 1.0) as tell:
        result = make_release(source, asked, out, tell)
    _tell(result, config, source.settings.research.limit_percent)


def _tell(result: ReleaseResult, config: Path, limit_percent: float) -> None:
    facts = result.facts
    _show_attacks(facts.attacks)
    what = f"{facts.groups} groups of " if facts.groups else ""
    if facts.withheld:
        typer.echo(f"withheld, since their readings have changed: {', '.join(facts.withheld)}")
    if result.written:
        typer.echo(f"release {facts.id}: {what}{facts.homes} homes in {result.out}")
        return
    typer.echo(
        f"release {facts.id} is not written: an attack may succeed more than {limit_percent:g} percentage points over "
        f"guessing. A second person approves it with: commonwatt do releases/{facts.id}/approve why=TEXT "
        f"--config {config}; then run the same command again"
    )
    raise SystemExit(EXIT_FAILED)


def _show_attacks(attacks: Sequence[Success]) -> None:
    rows: list[dict[str, object]] = [
        {
            "attack": one.name,
            "attacker": one.words,
            "success": f"{one.rate:.1%}",
            "interval": "{:.1%} to {:.1%}".format(*one.interval),
            "guessing": f"{one.guess:.1%}",
        }
        for one in attacks
    ]
    show("attacks", rows, ("attack", "attacker", "success", "interval", "guessing"))


@contextmanager
def _source(config: Path) -> Iterator[ReleaseSource]:
    settings, clock = load(config)
    actor = on_machine(name_of_login(config, Role.CLERK))
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        yield source_of(database, settings, int(clock.now()), actor)
