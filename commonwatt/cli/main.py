"""The command ``commonwatt``: the parts' commands by entry point, those about all parts, and their outline."""

import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from commonwatt.cli.options import Commands
from commonwatt.config.files import check_file, check_named_files, example, load_settings, notes_on, place_of
from commonwatt.config.settings import PARTS, Settings, command_of, settings_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import server_context

FILE = Path(__file__).with_name("outline.json")

Outline: TypeAlias = dict[str, Any]  # ``help``; of a group also ``commands``: the outlines of its commands, in order


@cache
def outline() -> Outline:
    """Return the outline of ``commonwatt``."""
    found: Outline = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def group_in_outline(name: str) -> typer.Typer | None:
    """Return a program that only shows the help of one group; ``None``: there is none, or it has options of its own."""
    if not outline()["commands"].get(name, {}).get("commands"):
        return None
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    add_outline(app, (), name)
    return app


def add_outline(app: typer.Typer, group: tuple[str, ...], name: str) -> None:
    """Add a command, or a group with its commands, that shows the help's line and does nothing.

    Args:
        group: The groups that it is in, below ``commonwatt``.
    """
    found = outline()
    for word in (*group, name):
        found = found["commands"].get(word, {"help": None})
    if "commands" not in found:
        app.command(name, help=found["help"])(lambda: None)
        return
    inner = typer.Typer(no_args_is_help=True, help=found["help"])
    for each in found["commands"]:
        add_outline(inner, (*group, name), each)
    app.add_typer(inner, name=name)


_BROKER_CAS = ("ca", "broker_ca", "head_end_ca")
"""Settings with the authority of a broker, to which a part shows its own certificate."""

# The commands about all parts, and where each stands.
_OF_ALL_PARTS = {
    "demo": "commonwatt.demo.cli:demo",
    "audit": "commonwatt.audit.command:audit_command",
    "config": "commonwatt.cli.main:config_app",
    "doctor": "commonwatt.cli.status:doctor",
    "enroll": "commonwatt.cli.enroll:app",
    "join": "commonwatt.cli.site:join_command",
    "site": "commonwatt.cli.site:app",
    "status": "commonwatt.cli.status:status",
    "street": "commonwatt.street.cli:street",
    "town": "commonwatt.cli.town:app",
}
PARTS_GROUP = "commonwatt.commands"  # entry points of the parts' commands, so that this package imports no service
# The first package that each part's code loads and that only its extra brings.
_NEEDED = {
    "adapters": "paho",
    "broker": "amqtt",
    "gateway": "apscheduler",
    "meter_sim": "paho",
    "scenarios": "sqlalchemy",
    "utility": "sqlalchemy",
}
# Commands of before, and a command's options, and what is typed instead.
_INSTEAD = {
    **dict.fromkeys(
        [f"audit --{option}" for option in ("truth", "meters", "gateways", "utility", "by-meter")],
        "audit --data PATH; with --json it has one line for each meter and type",
    ),
    "bills approve": "do entries/NO/approve",
    "bills check": "do runs/NO/check",
    "bills enter": "do entries kind=goodwill subject=ACCOUNT amount=4.50 reason=TEXT",
    "bills issue": "do runs/NO/issue",
    "bills run": "do runs month=2026-11",
    "corrections close": "do findings/close numbers=17 why=TEXT",
    "corrections edit": "do corrections/edit meter=METER start=TIME until=TIME energy_kwh=4.25 why=TEXT",
    "corrections": "do corrections/decide action=approve chosen.method=balance",
    "fleet set": "utility command kind:residential schedule relay_s=900; to put it back: do commands/NO/put-back",
    "fleet status": "show fleet/rollouts",
    "fleet upgrade": "do fleet/rollouts release=VERSION first=r001; or do fleet/rollouts/approve no=1, or stop",
    "join --file": "join WORDS, the label's text; or put it into commonwatt-join.txt on the boot partition",
    "research agreement": "do agreements name=NAME until=TIME",
    "research approve": "do releases/ID/approve why=TEXT",
    "research release --shuffle-days": "research release homes --round 100, or --noise 100",
    "scenario run --against": "scenario run NAME --policy aces --policy spec",
    "show --watch": "show NAME, again; the console's pages follow by themselves",
    "tariff approve": "do tariffs/NAME/VERSION/approve",
    "utility cancel": "do commands/NO/cancel",
    "utility dead-letters": "do dead-letters/decide numbers=17 decision=released why=TEXT",
    "utility pin": "do assignments/meters/METER brokers=r002; to release it: brokers=",
    "utility put-back": "do commands/NO/put-back",
    "utility jobs": "do jobs/NAME/run; or pause, resume, reset, change at=02:30, change every_s=900",
}
config_app = Commands(no_args_is_help=True, help="Check a part's TOML file, or print an example of one.")


def check_certificates(path: Path, part: str) -> None:
    """Check that each certificate of a part has its key in its file, and is used."""
    faults = [
        f"{place_of(path, part, *keys)}: {why}" for keys, why in _faults(load_settings(path, part, settings_of(part)))
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _faults(settings: Settings) -> Iterator[tuple[tuple[int | str, ...], str]]:
    for keys, one in settings.inside():
        yield from (((*keys, *rest), why) for rest, why in _faults(one))
    cas = [ca for reach in settings.reaches if (ca := reach.tls_key) is not None and ca in _BROKER_CAS]
    has_tls = not cas or any(getattr(settings, ca) is not None for ca in cas)
    for key, value in settings:
        if key in ("certificate", "certificates") and value is not None and not has_tls:
            yield (key,), f"needs {' or '.join(cas)}: without it the connection is plain text"
        elif key in ("certificate", "http_certificate") and value is not None:
            try:
                server_context(value)
            except ConfigError as error:
                yield (key,), str(error)


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="A TOML file of one part.")]) -> None:
    """Check every key of FILE, the files that it names, and an adapter's presets; print each fault with its line."""
    part = check_file(file)
    check_named_files(file, part)
    check_certificates(file, part)
    _check_by_part(file, part)
    for note in notes_on(file, part):
        print(f"note: {note}")
    print(f"{file}: good, for: {command_of(part)} --config {file}")


def _check_by_part(file: Path, part: str) -> None:
    from commonwatt.doctor.running import check_settings

    try:
        check_settings(part, load_settings(file, part, settings_of(part)), partial(place_of, file))
    except ModuleNotFoundError as error:
        print(f"note: {error.name} is not installed: {part} can't run here, and only keys and files were checked")


@config_app.command("example")
def config_example(part: Annotated[str, typer.Argument(help=", ".join([*PARTS, "site"]))]) -> None:
    """Print an example file for PART with every key, its default and its meaning; for `site` a town's `site.toml`."""
    if part not in (*PARTS, "site"):
        raise typer.BadParameter(f"{part!r} is no part; choose one of: {', '.join(PARTS)}, site")
    if part == "site":
        from commonwatt.site.places import EXAMPLE  # Not at the top: it would take memory in each service.

        sys.stdout.write(EXAMPLE)
    else:
        sys.stdout.write(example(part))


def make_app(wanted: str | None = None) -> typer.Typer:
    """Build the command line from the installed parts.

    Args:
        wanted: The one command that will run; no other command is loaded, which saves each process of a
            demonstration a second and memory. Empty, or no command: none is loaded. ``None``: load all commands.
    """
    app = Commands(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Commonwatt: metering and sharing for community microgrids. Start with: commonwatt demo",
    )
    entries = {name: EntryPoint(name, place, PARTS_GROUP) for name, place in _OF_ALL_PARTS.items()}
    entries |= {entry.name: entry for entry in entry_points(group=PARTS_GROUP)}
    for name, entry in entries.items():
        if wanted is not None and wanted not in entries:
            if missing := _missing_of(entry):
                _add_missing(app, name, missing)
            else:
                add_outline(app, (), name)
        elif wanted in (None, name):
            _add(app, entry)

    @app.callback(invoke_without_command=True)
    def top(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
        if show_version:
            print(version("commonwatt"))
            raise typer.Exit

    return app


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    """Add a command or a group of commands, or what tells that its packages are missing."""
    try:
        loaded = entry.load()
    except ModuleNotFoundError as error:
        _add_missing(app, entry.name, str(error.name))
        return
    if not isinstance(loaded, typer.Typer):
        app.command(entry.name)(loaded)
        return
    app.add_typer(loaded, name=entry.name)


def _missing_of(entry: EntryPoint) -> str | None:
    """Return what a command needs and what is not installed, without loading it: our own folder, or a library."""
    top = entry.module.partition(".")[0]
    own = ".".join(entry.module.split(".")[:2]) if top == "commonwatt" else top
    needed = (own, _NEEDED.get(top, own))
    return next((each for each in needed if not _is_there(each)), None)


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
        if missing.partition(".")[0] in ("commonwatt", *_NEEDED):
            raise typer.BadParameter(
                f"{name} is not in the controller's package; the package commonwatt-utility has it, for another machine"
            )
        raise typer.BadParameter(
            f"{name} needs {missing}, which is not installed; install commonwatt with its extra, or with all: "
            "pip install 'commonwatt[all]'"
        )


def instead_of(words: Sequence[str]) -> str:
    """Return what is typed instead of a command or an option of before; empty: the words name none."""
    named = [word for word in words if not word.startswith("-")]
    given = {word.partition("=")[0] for word in words}
    for old, new in _INSTEAD.items():
        command, _, option = old.partition(" --")
        if named[: command.count(" ") + 1] == command.split() and (not option or f"--{option}" in given):
            gone = f"{old} is no option" if option else f"{' '.join(named[:2])} is no command"
            return f"{gone} any more; type: commonwatt {new}"
    return ""


def main() -> None:
    """Run the command line; the files that it writes are readable by their owner alone."""
    os.umask(0o077)
    words = sys.argv[1:]
    if told := instead_of(words):
        print(f"error: {told}", file=sys.stderr)
        raise SystemExit(2)
    try:
        shown = group_in_outline(words[0]) if words[1:] == ["--help"] else None
        app = shown or make_app(next((word for word in words if not word.startswith("-")), ""))
        gc.freeze()  # What was loaded stays.
        gc.enable()
        app()
    finally:
        # At its end the interpreter searches all objects for cycles, several times: 0.2 s of a core for the utility.
        gc.freeze()
