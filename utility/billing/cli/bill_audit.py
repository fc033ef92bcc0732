"""``commonwatt bills leaves|audit``: what an auditor gets of a month, and the checks of it."""

import csv
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.time.local_calendar import parse_month
from commonwatt.model.words import counted
from commonwatt.runtime.files import replace_file, replacing
from utility.billing.proof.audit import Boundary, leaves_file
from utility.billing.proof.audit import audit as audited
from utility.billing.proof.witnesses import public_list
from utility.billing.store.bill_documents import documents_of, documents_of_run, leaves_of
from utility.billing.store.witnesses import keys_of, signed_of
from utility.registry.store.enrolled import Enrolment
from utility.webkit.cli.options import Commands, ConfigOption, from_file

audit_app = Commands()

_COLUMNS = ("microgrid", "imported_mwh", "exported_mwh", "allowed_mwh")


@audit_app.command()
def leaves(
    month: Annotated[str, typer.Argument(help="The local month, such as 2026-11.")],
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="The file (JSON lines).")],
    run: Annotated[int, typer.Option("--run", min=0, help="This run, such as a cancelled one.")] = 0,
) -> None:
    """Write every leaf of a month's tree, for an auditor: each account's bill and energies. Keep the file secret."""
    with from_file(config) as (database, _):
        parse_month(month)
        documents = documents_of_run(database, run, None) if run else documents_of(database, month)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("computing again")
            found = leaves_of(documents, lambda done, whole: progress.update(task, completed=done, total=whole))
        with replacing(out) as file:
            for line in leaves_file(documents.tree.head, found):
                file.write(line.encode() + b"\n")
    typer.echo(f"{out}: {len(found)} leaves of {documents.run.month}; next: commonwatt bills audit {out}")


@audit_app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="The file of: commonwatt bills leaves", exists=True, dir_okay=False)],
    boundary: Annotated[
        Path | None,
        typer.Option(
            "--boundary",
            exists=True,
            dir_okay=False,
            help=f"What the auditor read from the boundary meters: CSV with the columns {', '.join(_COLUMNS)}.",
        ),
    ] = None,
    code: Annotated[str, typer.Option("--code", help="The check code as it is printed on a bill.")] = "",
) -> None:
    """Check a month from all its leaves: root, totals by class, sums of bills, and members against boundary meters."""
    boundaries = None if boundary is None else _boundaries(boundary)
    try:
        with file.open(encoding="utf-8") as lines:
            found = audited(lines, boundaries)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    faults = [*found.faults]
    if code and "".join(code.split()) != found.code:
        faults.append(f"the printed check code is another one than that of the file, {found.code}")
    for fault in faults:
        typer.echo(f"WRONG: {fault}")
    compared = f"{counted(found.microgrids, 'microgrid')} compared, at most {found.largest} mWh off"
    if not found.microgrids:
        compared = "no microgrid was compared with its boundary meters; to compare them: --boundary FILE"
    typer.echo(f"{found.leaves} leaves, {counted(found.bills, 'bill')}; {compared}")
    typer.echo(f"check code of the month: {found.code}")
    if faults:
        raise StoreError(f"{file}: {counted(len(faults), 'fault')}")
    typer.echo("nothing is wrong" + ("" if found.microgrids else " in the leaves; energies were not compared"))


def _boundaries(path: Path) -> list[Boundary]:
    """Read what the boundary meters show."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                microgrid, *numbers = (row[column] for column in _COLUMNS)
                imported, exported, allowed = map(int, numbers)
            except (KeyError, TypeError, ValueError) as error:
                columns = ", ".join(_COLUMNS)
                raise ConfigError(f"{path}:{rows.line_num}: needs whole numbers in the columns {columns}") from error
            found.append(Boundary(microgrid=microgrid, imported=imported, exported=exported, allowed=allowed))
    return found


@audit_app.command()
def witnesses(
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="The file (JSON).")],
    enrolment: Annotated[
        Path,
        typer.Option(
            "--enrolment",
            exists=True,
            file_okay=False,
            help="The office's folder, with the list of revoked controllers.",
        ),
    ],
) -> None:
    """Write the town's public list of witnesses: the keys by which controllers sign the check codes. Publish it."""
    revoked = {name for name, each in Enrolment(enrolment).head_end().items() if each.device.revoked}
    with from_file(config) as (database, _):
        found = public_list(database.read(signed_of), database.read(keys_of), revoked)
    replace_file(out, json.dumps(found, indent=1).encode(), mode=0o644)
    typer.echo(f"{out}: {counted(len(found['keys']), 'key')}; publish it where the utility alone can't change it")
