"""``commonwatt tariff``: check, propose and publish tariffs (C1, docs/billing.md); ``statistics`` previews them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import show
from commonwatt.config.files import read_text
from commonwatt.model.calendar import local_text
from utility.tariffs.tariff import Tariff, read_tariff
from utility.webkit.cli import Commands, ConfigOption, ask

app = Commands(no_args_is_help=True, help="Tariffs: check, preview, propose; `commonwatt do tariffs` approves.")

FileArgument = Annotated[Path, typer.Argument(help="The tariff's file (TOML).")]


@app.command()
def check(file: FileArgument) -> None:
    """Check a tariff's file: print each fault with its line, or the week as it is understood."""
    tariff = read_tariff(file)
    typer.echo(_words(tariff))
    rows = [{"period": price.name, "import": price.import_, "credit": price.credit} for price in tariff.prices]
    show("periods", rows, ("period", "import", "credit"))
    for note in tariff.notes():
        typer.echo(f"note: {note}")
    typer.echo(f"{file}: good; next: commonwatt tariff preview {file}, then: commonwatt tariff propose {file}")


@app.command()
def propose(
    file: FileArgument,
    config: ConfigOption,
    replaces: Annotated[int | None, typer.Option(min=1, help="The version of a proposal in whose place it is.")] = None,
) -> None:
    """Propose a tariff: store its next version, for another person to approve. Nothing is changed for anybody yet.

    Example: commonwatt tariff propose tariff.toml --config utility.toml
    """
    tariff = read_tariff(file)  # Its faults are shown with the file's name.
    made = ask(config, "POST", "/tariffs", {"source": read_text(file), "replaces": replaces or 0})
    version = replace(tariff, version=made["version"])
    typer.echo(
        f"{_words(version)}: proposed by {made['proposed_by']}; next, by another person: "
        f"commonwatt do tariffs/{tariff.name}/{version.version}/approve"
    )


def _words(tariff: Tariff) -> str:
    begins = local_text(tariff.effective, tariff.zone)
    version = f" v{tariff.version}" if tariff.version else ""
    return f"{tariff.name}{version}, from {begins}, policy {tariff.policy.name}, base {tariff.base} dollars a month"
