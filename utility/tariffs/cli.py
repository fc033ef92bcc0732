"""``commonwatt tariff``: check, preview, propose and publish tariffs (C1, docs/billing.md)."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from commonwatt.cli.tables import show
from commonwatt.config.files import read_text
from commonwatt.model.csv_text import line_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.local_calendar import local_text, month_before, month_of
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import errors_reported, flowing
from utility.billing.preview import Change, histogram
from utility.database.town_zone import zone_of
from utility.statistics.decisions import outlook
from utility.tariffs import decisions as tariffs
from utility.tariffs.store.tariffs import versions
from utility.tariffs.tariff import Tariff, read_tariff
from utility.webkit.cli.options import ConfigOption, from_file, load
from utility.webkit.cli.service import ask

app = typer.Typer(no_args_is_help=True, help="Tariffs: check, preview, propose, approve.")

FileArgument = Annotated[Path, typer.Argument(help="The tariff's file (TOML).")]


@app.command()
def check(file: FileArgument) -> None:
    """Check a tariff's file: print each fault with its line, or the week as it is understood."""
    with errors_reported():
        tariff = read_tariff(file)
    typer.echo(_words(tariff))
    show("periods", _price_rows(tariff), ("period", "import", "credit"))
    for note in tariff.notes():
        typer.echo(f"note: {note}")
    typer.echo(f"{file}: good; next: commonwatt tariff preview {file}, then: commonwatt tariff propose {file}")


@app.command()
@flowing
def propose(file: FileArgument, config: ConfigOption) -> None:
    """Propose a tariff: store its next version, for another person to approve. Nothing is changed for anybody yet.

    Example: commonwatt tariff propose tariff.toml --config utility.toml
    """
    with errors_reported():
        tariff = read_tariff(file)  # Its faults are shown with the file's name.
        made = ask(config, "POST", "/tariffs", {"source": read_text(file)})
    version = replace(tariff, version=made["version"])
    typer.echo(
        f"{_words(version)}: proposed by {made['proposed_by']}; next, by another person: "
        f"commonwatt tariff approve {tariff.name}"
    )


@app.command()
@flowing
def approve(name: Annotated[str, typer.Argument(help="The tariff's name.")], config: ConfigOption) -> None:
    """Publish the proposal of a name. A second person has to, who did not propose it; it never changes then.

    The running service tells the controllers its rates, until they acknowledge them.
    """
    with errors_reported():
        proposed = [
            one["version"]
            for one in ask(config, "GET", "/tariffs")["tariffs"]
            if one["name"] == name and one["state"] == "proposed"
        ]
        if not proposed:
            raise ConfigError(f"{name:.40}: nothing is proposed; propose it first: commonwatt tariff propose FILE")
        made = ask(config, "POST", f"/tariffs/{name}/{proposed[-1]}/approve")
    typer.echo(f"{name} v{made['version']}, from {made['effective']}: published by {made['approved_by']}")


@app.command("list")
@flowing
def list_versions(config: ConfigOption) -> None:
    """List all versions of all tariffs, with who proposed and approved them."""
    with errors_reported(), from_file(config) as (database, _), database.reads.begin() as connection:
        zone = zone_of(connection)
        rows = versions(connection)
    columns = ("name", "version", "state", "effective", "proposed_by", "proposed", "approved_by", "approved")
    show("tariffs", [_version_row(row, zone) for row in rows], columns)


@app.command("preview")
@flowing
def preview_command(
    file: FileArgument,
    config: ConfigOption,
    month: Annotated[str | None, typer.Option(help="The local month, such as 2026-10; else the last one.")] = None,
    out: Annotated[Path | None, typer.Option("--csv", help="Also write every account to this file.")] = None,
) -> None:
    """Show what a tariff would have made of a month's bills, and the projected revenue of the next month.

    It is computed for every account from settled quarter-hours, in place of the published versions of its name.
    """
    with errors_reported():
        tariff = read_tariff(file)
        settings = load(config)[0]
        with from_file(config) as (database, clock):
            wanted = month or month_before(month_of(int(clock.now()) // QUARTER_S, tariff.zone))
            changes = tariffs.previewed(database, tariff, wanted, settings.billing.tariff)
            ahead = outlook(database, tariff, settings.billing.tariff, int(clock.now()))
    if out is not None:
        _write(out, changes)
    typer.echo(_summary(changes, wanted))
    for line in ahead.words if ahead is not None else ["next month: no projection, since no month's usage is known"]:
        typer.echo(line)
    ranked = sorted(changes, key=lambda change: change.difference)
    columns = ("account", "before", "after", "difference")
    show("winners", [_row(change) for change in ranked[:10] if change.difference < 0], columns)
    show("losers", [_row(change) for change in ranked[::-1][:10] if change.difference > 0], columns)
    typer.echo(_bars(changes))


def _words(tariff: Tariff) -> str:
    begins = local_text(tariff.effective, tariff.zone)
    version = f" v{tariff.version}" if tariff.version else ""
    return f"{tariff.name}{version}, from {begins}, policy {tariff.policy.name}, base {tariff.base} dollars a month"


def _price_rows(tariff: Tariff) -> list[dict[str, object]]:
    return [{"period": price.name, "import": price.import_, "credit": price.credit} for price in tariff.prices]


def _version_row(row: dict[str, object], zone: ZoneInfo) -> dict[str, object]:
    times = {key: moment(value) for key in ("proposed", "approved") if isinstance(value := row[key], int)}
    return row | times | {"effective": local_text(int(str(row["effective"])), zone)}


def _row(change: Change) -> dict[str, object]:
    return {
        "account": change.account,
        "before": change.before,
        "after": change.after,
        "difference": f"{change.difference:+}",
    }


def _summary(changes: Sequence[Change], month: str) -> str:
    winners, losers = (sum(sign * change.difference > 0 for change in changes) for sign in (-1, 1))
    whole = sum((change.difference for change in changes), Decimal(0))
    return (
        f"{month}, {counted(len(changes), 'account')}: {winners} would pay less, {losers} more, "
        f"{len(changes) - winners - losers} the same; all together {whole:+} dollars"
    )


def _bars(changes: Sequence[Change]) -> str:
    rows = histogram(changes)
    most = max(1, *(count for _, count in rows))
    lines = [f"{label:>12} {count:6} {'#' * -(-40 * count // most)}" for label, count in rows]
    return "\n".join(["dollars more", *lines])


def _write(out: Path, changes: Sequence[Change]) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        file.write(line_of(("account", "before_dollars", "after_dollars", "difference_dollars")))
        file.writelines(line_of((c.account, c.before, c.after, c.difference)) for c in changes)
