"""The command ``commonwatt street``."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.service import lock_file
from commonwatt.street.folder import PARTS_FILE, link_of, pages_of, prepare


def street(
    site: Annotated[
        Path, typer.Option("--site", help="The street's folder, with all of its files and secrets.")
    ] = Path("site"),
    lan: Annotated[
        bool, typer.Option("--lan", help="Serve the pages, and a broker of our own, to the home network in plain text.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Print where the pages are, and start nothing.")] = False,
) -> None:
    """Run your own street on this machine: brokers, gateway, adapter and utility; the rest is done in the browser.

    It prints a link that opens the pages. Ctrl-C ends all; the same command starts again where it was.
    """
    if link:
        if not (site / PARTS_FILE).exists():
            raise ConfigError(f"{site}: no street is there; start it by the same command without --link")
        print(link_of(site))
        return
    try:
        site.mkdir(parents=True, exist_ok=True)
        lock = lock_file(site / "street", shared=False)
    except BlockingIOError as error:
        where = f"commonwatt street --link --site {shlex.quote(str(site))}"
        raise ConfigError(f"{site}: this street runs already; where its pages are: {where}") from error
    prepare(site, lan=lan, say=print)
    # A small process takes this one's place, and its lock.
    os.set_inheritable(lock.fileno(), True)
    sys.stdout.flush()
    command = [sys.executable, "-m", "commonwatt.street.keeper", str(site.resolve()), pages_of(site)]
    os.execv(sys.executable, command)  # noqa: S606 - our own command
