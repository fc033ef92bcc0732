"""What a visitor of the demonstration is told: links to log in, one of each role."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from commonwatt.config.utility import FIRST_LOGIN
from commonwatt.demo.layout import Layout
from commonwatt.model.exceptions import ConfigError

SEES = {
    "admin": "people and their roles, devices, the audit log",
    "operator": "gives commands, tunes schedules, silences alarms",
    "clerk": "proposes tariffs, makes and checks bills",
    "approver": "the second person: approves tariffs, issues bills",
    "researcher": "gets releases of data",
    "resident": "one household: its energy and its bills",
    "viewer": "sees the town, changes nothing",
}
"""What each role does in the console, in the order of the links."""


TRIES = 3  # of the command that invites people


@contextmanager
def invited(layout: Layout) -> Iterator[dict[str, str]]:
    """Have the utility invite people while the parts start; the links by role are there at the end of the context.

    Raises:
        ConfigError: The utility's command failed.
    """
    links: dict[str, str] = {}
    config = layout.part("utility").config
    command = [sys.executable, "-m", "commonwatt", "utility", "people", "demonstration", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        yield links
        answer, fault = asking.communicate()
    code, tries = asking.returncode, 1
    while code and tries < TRIES:  # A visitor may have killed it together with the utility, which starts again.
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        answer, fault, code, tries = again.stdout, again.stderr, again.returncode, tries + 1
    if code:
        why = fault.strip() or f"the command ended with {code}"
        raise ConfigError(f"the demonstration's people could not be invited: {why}")
    links.update((each["role"], each["link"]) for each in json.loads(answer))


def welcome(layout: Layout, links: dict[str, str]) -> str:
    """Return where the console is, and the links of those who did not log in yet."""
    utility = layout.part("utility")
    first = utility.config.with_name(FIRST_LOGIN)
    links = links | ({"admin": first.read_text().strip()} if first.exists() else {})
    page = f"the utility's console: http://{utility.http}/"
    tour = f"eight things to try: http://{utility.http}/console/tour, or commonwatt demo --tour --data {layout.data}"
    if not links:
        return f"{page}\n{tour}"
    # Each link on a line of its own, so that it can be copied.
    rows = [f"{role}: {sees}\n{links[role]}" for role, sees in SEES.items() if role in links]
    return "\n".join([f"{page}, with a password of your choice; each link works once, for seven days:", *rows, tour])
