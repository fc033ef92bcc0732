"""The files of the bench's town: the office's, those of the emulated meters, and settings for a small machine."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from commonwatt.config.database_url import sqlite_url
from commonwatt.config.files import toml_table
from commonwatt.protocol.topics import UTILITY
from commonwatt.site.office import make_site, register
from commonwatt.site.places import FILE, TOWN_FILE
from commonwatt.town.town import Town
from harness.real import forks

HOUSES = 3  # of each microgrid, with two meters each, of which one has a battery; two more are at the boundary
PORT = 8883
registering = threading.Lock()  # towns are made by several threads, and the patch of ``subprocess`` is for all of them

_SITE = """
[site]
utility = "{address}"
mosquitto = false

[utility]
database = "sqlite:///utility.db"
second_factor = "optional"
clock_is_right = true
"""
_MICROGRID = """
[[microgrid]]
id = "{name}"
kind = "residential"
houses = {houses}
push_share = 1
address = "{address}"
"""


def registered(folder: Path, addresses: Mapping[str, str]) -> Town:
    """Make all files of a town in a folder.

    Args:
        folder: The folder; made.
        addresses: The addresses of the controllers, the utility and the fleet, by their names.
    """
    names = [name for name in addresses if name.startswith("r")]
    (folder / "logs").mkdir(parents=True)
    site = _SITE.format(address=addresses[UTILITY])
    site += "".join(_MICROGRID.format(name=name, houses=HOUSES, address=addresses[name]) for name in names)
    (folder / FILE).write_text(site)
    with registering, patch("commonwatt.site.office.subprocess.run", forks.run):
        town, _ = make_site(folder, int(time.time()))
        register(folder / TOWN_FILE, folder, sqlite_url((folder / UTILITY / "utility.db").resolve()))
    (folder / "meters").mkdir()
    everything = {"microgrids": names, "town": "../town.toml", "http": "127.0.0.1:9102"}
    (folder / "meters" / "meters.toml").write_text(toml_table("[meters]", everything))
    for rank, name in enumerate(names, 1):
        (folder / name / "meters.toml").write_text(_meters(names, name, rank, addresses))
    return town


def _meters(names: list[str], name: str, rank: int, addresses: Mapping[str, str]) -> str:
    """Return the settings of a microgrid's meters: silent sessions with all brokers of the clique."""
    keys = {
        "microgrid": name,
        "town": "../town.toml",
        "broker": f"{addresses[name]}:{PORT}",
        "broker_ca": "ca.pem",
        "broker_rank": rank,
        "clique": names,
        "failures_per_day": 0,
    }
    at = names.index(name)
    others = [*names[at + 1 :], *names[:at]]
    tables = [
        {"name": other, "address": f"{addresses[other]}:{PORT}", "rank": names.index(other) + 1, "warm": True}
        for other in others
    ]
    return "\n".join([toml_table("[meters]", keys), *(toml_table("[[brokers]]", one) for one in tables)])
