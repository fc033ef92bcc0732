"""The command ``commonwatt``: the parts' commands, found by entry point, and the commands about all parts."""

import gc
import os
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.outline import add_outline, group_in_outline
from commonwatt.config.files import check_file, check_named_files, example, load_settings, notes_on, place_of
from commonwatt.config.parts import PARTS, command_of, settings_of
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError, SettingError
from commonwatt.network.tls import server_context
from commonwatt.runtime.service import errors_reported, flowing

_BROKER_CAS = ("ca", "broker_ca", "head_end_ca")
"""Settings with the authority of a broker, to which a part shows its own certificate."""

_DEAD_LETTERS_OF = ("gateway", "utility")
PARTS_GROUP = "commonwatt.commands"  # entry points of the parts' commands, so that this package imports no service
SWAPS_GROUP = "commonwatt.swaps"  # entry points of the parts' commands of ``commonwatt swap``
# The first package that each part's code loads and that only its extra brings.
_NEEDED = {
    "adapters": "paho",
    "broker": "amqtt",
    "gateway": "apscheduler",
    "meter_sim": "paho",
    "scenarios": "sqlalchemy",
    "utility": "sqlalchemy",
}
config_app = typer.Typer(no_args_is_help=True, help="Check a part's TOML file, or print an example of one.")


def check_certificates(path: Path, part: str) -> None:
    """Check that each certificate of a part has its key in its file, and is used.

    Raises:
        ConfigError: One line for each fault.
    """
    faults = [
        f"{place_of(path, part, *keys)}: {why}" for keys, why in _faults(load_settings(path, part, settings_of(part)))
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    cas = [ca for reach in settings.reaches if (ca := reach.tls_key) is not None and ca in _BROKER_CAS]
    has_tls = not cas or any(getattr(settings, ca) is not None for ca in cas)
    for key, value in settings:
        if isinstance(value, Settings):
            yield from (((key, *keys), why) for keys, why in _faults(value))
        elif key in ("certificate", "certificates") and value is not None and not has_tls:
            yield (key,), f"needs {' or '.join(cas)}: without it the connection is plain text"
        elif key in ("certificate", "http_certificate") and value is not None:
            try:
                server_context(value)
            except ConfigError as error:
                yield (key,), str(error)


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="A TOML file of one part.")]) -> None:
    """Check every key of FILE, the files that it names, and an adapter's presets; print each fault with its line."""
    with errors_reported():
        part = check_file(file)
        check_named_files(file, part)
        check_certificates(file, part)
        _check_by_part(file, part)
        for note in notes_on(file, part):
            print(f"note: {note}")
        print(f"{file}: good, for: {command_of(part)} --config {file}")


def _check_by_part(file: Path, part: str) -> None:
    """Check the settings that only the part itself can check, such as the presets of an adapter.

    Raises:
        ConfigError: A setting is wrong; names its file, line and key.
    """
    from commonwatt.doctor.doctors import doctor_of

    try:
        check = doctor_of(part).check_settings
    except ModuleNotFoundError as error:
        print(f"note: {error.name} is not installed: {part} can't run here, and only keys and files were checked")
        return
    try:
        if check is not None:
            check(load_settings(file, part, settings_of(part)))
    except SettingError as error:
        raise ConfigError(f"{place_of(file, *error.keys)}: {error}") from error


@config_app.command("example")
def config_example(part: Annotated[str, typer.Argument(help=", ".join(PARTS))]) -> None:
    """Print an example file for PART with every key, its default and its meaning."""
    if part not in PARTS:
        raise typer.BadParameter(f"{part!r} is no part; choose one of: {', '.join(PARTS)}")
    sys.stdout.write(example(part))


def make_app(wanted: str | None = None) -> typer.Typer:
    """Build the command line from the installed parts.

    Args:
        wanted: The one command that will run; no other command is loaded, which saves each process of a
            demonstration a second and memory. Empty, or no command: none is loaded. ``None``: load all commands.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Commonwatt: metering and sharing for community microgrids. Start with: commonwatt demo",
    )
    loaders = {
        "demo": _add_demo,
        "audit": _add_audit,
        "config": _add_config,
        "dead-letters": _add_dead_letters,
        "doctor": _add_doctor,
        "enroll": _add_enroll,
        "site": _add_site,
        "status": _add_status,
        "swap": _add_swap,
        "town": _add_town,
    }
    loaders |= {entry.name: partial(_add_part, entry=entry) for entry in entry_points(group=PARTS_GROUP)}
    for name, load in loaders.items():
        if wanted is not None and wanted not in loaders:
            if missing := _missing_of(name):
                _add_missing(app, name, missing)
            else:
                add_outline(app, (), name)
        elif wanted in (None, name):
            try:
                load(app)
            except ModuleNotFoundError as error:
                _add_missing(app, name, str(error.name))

    @app.callback(invoke_without_command=True)
    def top(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
        if show_version:
            print(version("commonwatt"))
            raise typer.Exit

    return app


def _add_demo(app: typer.Typer) -> None:
    from commonwatt.demo.cli import demo

    app.command()(demo)


def _add_audit(app: typer.Typer) -> None:
    from commonwatt.audit.command import audit_command

    app.command("audit")(audit_command)


def _add_config(app: typer.Typer) -> None:
    app.add_typer(config_app, name="config")


def _add_dead_letters(app: typer.Typer) -> None:
    @app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    @flowing
    def dead_letters(
        context: typer.Context,
        config: Annotated[Path, typer.Option("--config", "-c", help="The file (TOML) of a gateway or the utility.")],
    ) -> None:
        """List the dead letters of a gateway or the utility: content, sender and reason.

        The table in the file selects the part. The options are those of `commonwatt gateway dead-letters` or
        `commonwatt utility dead-letters`, such as --since 24h --counts.
        """
        with errors_reported():
            part = check_file(config)
            if part not in _DEAD_LETTERS_OF:
                raise ConfigError(
                    f"{config}: is of {part}, which keeps no dead letters; give a gateway's or the utility's file"
                )
        entry = next(entry for entry in entry_points(group=PARTS_GROUP) if entry.name == part)
        of_part = typer.Typer()
        try:
            _add_part(of_part, entry)
        except ModuleNotFoundError as error:
            _add_missing(of_part, part, str(error.name))
        of_part([part, "dead-letters", "--config", str(config), *context.args])


def _add_doctor(app: typer.Typer) -> None:
    from commonwatt.cli.doctor import doctor

    app.command()(doctor)


def _add_enroll(app: typer.Typer) -> None:
    from commonwatt.cli.enroll import app as enroll_app

    app.add_typer(enroll_app, name="enroll")


def _add_site(app: typer.Typer) -> None:
    from commonwatt.cli.site import app as site_app

    app.add_typer(site_app, name="site")


def _add_swap(app: typer.Typer) -> None:
    from commonwatt.cli.swap import app as swap_app

    known = {command.name for command in swap_app.registered_commands}
    for entry in entry_points(group=SWAPS_GROUP):
        if entry.name not in known:
            try:
                swap_app.command(entry.name)(entry.load())
            except ModuleNotFoundError as error:
                _add_missing(swap_app, entry.name, str(error.name))
    app.add_typer(swap_app, name="swap")


def _add_town(app: typer.Typer) -> None:
    from commonwatt.cli.town import app as town_app

    app.add_typer(town_app, name="town")


def _add_status(app: typer.Typer) -> None:
    from commonwatt.cli.status import status

    app.command()(status)


def _add_part(app: typer.Typer, entry: EntryPoint) -> None:
    app.add_typer(entry.load(), name=entry.name)


def _missing_of(name: str) -> str | None:
    """Return the package that a part's command needs and that is not installed, without loading the part."""
    for entry in entry_points(group=PARTS_GROUP):
        needed = _NEEDED.get(entry.module.partition(".")[0])
        if entry.name == name and needed is not None and not _is_there(needed):
            return needed
    return None


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _add_missing(app: typer.Typer, name: str, missing: str) -> None:
    """Add a stand-in for a command whose packages are missing; it names the package to install."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}

    @app.command(name, context_settings=settings, help=f"Not installed here: {missing} is missing.")
    def not_installed() -> None:
        raise typer.BadParameter(
            f"{name} needs {missing}, which is not installed; install commonwatt with its extra, or with all: "
            "pip install 'commonwatt[all]'"
        )


def main() -> None:
    """Run the command line; the files that it writes are readable by their owner alone."""
    os.umask(0o077)
    words = sys.argv[1:]
    try:
        shown = group_in_outline(words[0]) if words[1:] == ["--help"] else None
        (shown or make_app(next((word for word in words if not word.startswith("-")), "")))()
    finally:
        # At its end the interpreter searches all objects for cycles, several times: 0.2 s of a core for the utility.
        gc.freeze()
