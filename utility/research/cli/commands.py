"""``commonwatt research``: releases for researchers, approvals, agreements."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import FORMS, iso, parse_time
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted
from commonwatt.runtime.service import EXIT_FAILED
from utility.access.roles import Role
from utility.readings.store.parts import count_fresh
from utility.research import store
from utility.research.attacks.success import Success
from utility.research.cli.home_release import agreement_of, release_homes
from utility.research.cli.open_release import earlier_sums, release_open
from utility.research.cli.source import Result, Source, homes_in, source_of
from utility.research.coarsening import Coarsening, whole_days
from utility.research.groups import MIN_HOMES
from utility.research.homes import quarters_of
from utility.research.release import Asked, Tier
from utility.webkit.cli.options import Commands, ConfigOption, load, opened, place_of_database
from utility.webkit.cli.service import ask, name_of_login

app = Commands(help="Releases for researchers, and agreements with them.", no_args_is_help=True)
agreement_app = Commands(help="Agreements under which identifiable data is released.", no_args_is_help=True)
app.add_typer(agreement_app, name="agreement")

FromOption = Annotated[str, typer.Option("--from", help=f"Start of the period, on an hour: {FORMS}.")]
ToOption = Annotated[str, typer.Option("--to", help="End of the period, at least a day later.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, at most 200 characters.")]

_HOUR_S = 3600
_DAY_S = 86_400
_STEPS = {Tier.OPEN: (900, 3600), Tier.HOMES: (15, 60, 300, 900, 3600)}


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
    shuffle: Annotated[
        bool, typer.Option("--shuffle-days", help="homes by quarter-hour: each home's days in random order.")
    ] = False,
) -> None:
    """Write a release into a new folder: CSV, Parquet if pyarrow is installed, data dictionary, licence, attacks.

    Each attack is run on the release, and its success is in the report. An open release above the limit of the
    utility's file waits until a second person approves it: `research approve`; then run the same command again. The
    same readings, options and program give the same release id and the same bytes.

    Readings count when the utility has joined them; wait for the end of the month's deadline before an open release,
    since a period is released once: a group whose readings have changed since is withheld.

    Examples: `research release open --from 2026-06-01T04:00Z --to 2026-07-01T04:00Z --out june --config utility.toml`,
    `research release homes --agreement university --round 100 ...`.
    """
    asked = _asked(tier, start, end, homes, agreement, Coarsening(
        sample_percent=sample, step_s=step, shuffled=shuffle, noise_wh=noise, unit_wh=unit
    ))  # fmt: skip
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: exists already; name a new folder")
    with _source(config, make=True) as source, _progress("reading") as tell:
        _check_before_reading(source, asked)
        source.log("read", asked.tier, f"{iso(asked.start)} to {iso(asked.end)} {asked.agreement}".rstrip())
        found, meters = homes_in(source, asked, tell)
        if tier is Tier.OPEN:
            result = release_open(source, asked, found, out)
        else:
            result = release_homes(source, asked, found, meters, out)
    _tell(result, config, source.settings.research.limit_percent)


def _asked(tier: Tier, start: str, end: str, homes: int, agreement: str, coarsening: Coarsening) -> Asked:
    begin, stop = _period(start, end)
    if coarsening.step_s is not None and coarsening.step_s not in _STEPS[tier]:
        raise ConfigError(f"--step {coarsening.step_s}: of {tier} one of {', '.join(map(str, _STEPS[tier]))}")
    step_s = None if coarsening.step_s == QUARTER_S else coarsening.step_s
    whole = replace(coarsening, step_s=step_s)
    asked_fine = (step_s or QUARTER_S) < QUARTER_S
    is_coarse = tier is Tier.HOMES and not asked_fine
    options = {
        "--noise": whole.noise_wh and not is_coarse,
        "--shuffle-days": whole.shuffled and not is_coarse,
        "--round": whole.unit_wh and tier is Tier.OPEN,
        "--sample": whole.sample_percent < 100 and tier is Tier.OPEN,
        "--agreement": agreement and tier is Tier.OPEN,
        "--homes": homes != MIN_HOMES and tier is not Tier.OPEN,
    }
    if wrong := [name for name, is_wrong in options.items() if is_wrong]:
        raise ConfigError(
            f"{wrong[0]}: not an option of {tier}{'' if is_coarse else f' in steps of {step_s} s' if step_s else ''}"
        )
    if whole.shuffled and not whole_days(begin, stop):
        raise ConfigError(
            "--shuffle-days: --from and --to must be at the start of a day in UTC, such as 2026-06-01T00:00Z"
        )
    return Asked(tier=tier, start=begin, end=stop, min_homes=homes, coarsening=whole, agreement=agreement)


def _period(start: str, end: str) -> tuple[int, int]:
    begin, stop = parse_time(start, "--from"), parse_time(end, "--to")
    for name, text, time in (("--from", start, begin), ("--to", end, stop)):
        if time % _HOUR_S:
            raise ConfigError(f"{name} {text}: is not on an hour")
    if stop - begin < _DAY_S:
        raise ConfigError(f"--to {end}: less than a day after --from {start}")
    return begin, stop


def _check_before_reading(source: Source, asked: Asked) -> None:
    """Refuse what can't be released, before a home's readings are read."""
    if asked.tier is not Tier.OPEN:
        agreement_of(source, asked)
        return
    earlier_sums(source, asked)
    waiting = source.database.read(count_fresh, *quarters_of(asked.start, asked.end))
    if waiting and asked.end <= source.now:
        raise ConfigError(
            f"{counted(waiting, 'part')} of this period are not joined yet, and would change its sums later; the "
            f"running utility joins them within {source.settings.compact_s} s: try again then"
        )


def _tell(result: Result, config: Path, limit_percent: float) -> None:
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
        f"guessing. A second person approves it with: commonwatt research approve {facts.id} --why TEXT "
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
def _source(config: Path, *, make: bool = False) -> Iterator[Source]:
    settings, clock = load(config)
    person = name_of_login(config, Role.CLERK)
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        yield source_of(database, settings, clock, person, make=make)


@contextmanager
def _progress(what: str) -> Iterator[store.Tell]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda part: progress.update(task, completed=part)


@app.command()
def approve(
    release_id: Annotated[str, typer.Argument(metavar="ID", help="The release, as `show releases` shows it.")],
    why: WhyOption,
    config: ConfigOption,
) -> None:
    """Approve an open release whose attacks are above the limit, as a second person."""
    ask(config, "POST", f"/releases/{quote(release_id, safe='')}/approve", {"why": why})
    typer.echo(f"{release_id} is approved; run its `research release` again")


@agreement_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name, at most 64 characters.")],
    until: Annotated[str, typer.Option(help=f"When it ends: {FORMS}.")],
    config: ConfigOption,
) -> None:
    """Add an agreement with researchers. It can't be changed: a longer one has another name."""
    end = parse_time(until, "--until")
    ask(config, "POST", "/agreements", {"name": name, "until": iso(end)})
    typer.echo(f"agreement {name.strip()} until {iso(end)}")
