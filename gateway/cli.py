"""The command ``commonwatt gateway``."""

import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.blocks import join
from commonwatt.config import GatewaySettings, load_settings
from commonwatt.dumps import block_lines, event_lines
from commonwatt.exceptions import StoreError
from commonwatt.packing import unpack
from commonwatt.service import errors_told, only_one, run_service
from gateway.changes import Part
from gateway.shell import run_gateway
from gateway.store import Store

app = typer.Typer(
    no_args_is_help=True, help="A microgrid's gateway: collects, keeps sharing fair, relays to the utility."
)

Config = Annotated[Path, typer.Option("--config", "-c", help="Its TOML file; see: commonwatt config example gateway")]


@app.command()
def run(config: Config) -> None:
    """Run the gateway until SIGTERM. It needs neither broker nor network to start, and waits for both."""
    with errors_told():
        settings = load_settings(config, "gateway", GatewaySettings)
        with only_one(settings.store, "another gateway"):
            run_service(lambda stop: run_gateway(settings, stop))


@app.command()
def dump(
    config: Config,
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only what the utility has not (exactly).")
    ] = False,
) -> None:
    """Print what the gateway's store holds, as JSON lines: blocks, then events. Works while the gateway runs."""
    with errors_told():
        settings = load_settings(config, "gateway", GatewaySettings)
        try:
            _dump(settings.store, unsent_only=unacknowledged)
        except sqlite3.Error as error:
            raise StoreError(f"{settings.store}: can't be read: {error}") from error


def _dump(path: Path, *, unsent_only: bool) -> None:
    store = Store(path, read_only=True)
    parts: list[Part] = list(store.all_parts(unsent_only=unsent_only))
    blocks = join([unpack([part.key for part in parts], [part.payload for part in parts])])
    for line in block_lines(blocks):
        sys.stdout.write(line + "\n")
    for line in event_lines(store.all_events(unsent_only=unsent_only)):
        sys.stdout.write(line + "\n")
    store.close()
