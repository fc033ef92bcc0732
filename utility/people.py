"""The people who act by commands: ``--as PERSON``, checked against the utility's file."""

from typing import Annotated

import typer

from commonwatt.config.utility import BillingSettings
from commonwatt.model.exceptions import ConfigError
from utility.access.actor import Actor, Via

AsOption = Annotated[str, typer.Option("--as", help="The person who acts, of `people` in the utility's file.")]


def person_of(settings: BillingSettings, name: str) -> str:
    """Return the name of a person who may act.

    Raises:
        ConfigError: The utility's file does not list the person.
    """
    if name in settings.people:
        return name
    listed = ", ".join(settings.people) or "nobody"
    raise ConfigError(f"--as {name}: not in `people` of [utility.billing] in the utility's file, which lists {listed}")


def actor_of(settings: BillingSettings, name: str) -> Actor:
    """Return the person who acts by a command on the utility's machine.

    Raises:
        ConfigError: The utility's file does not list the person.
    """
    return on_machine(person_of(settings, name))


def on_machine(name: str) -> Actor:
    """Return a person who acts by a command on the utility's machine, where no session proves the name."""
    return Actor(name=name, roles=frozenset(), account=None, via=Via.MACHINE, address="")
