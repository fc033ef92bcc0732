"""The people who propose and approve: ``--as PERSON`` of commands, checked against the utility's file."""

from typing import Annotated

import typer

from commonwatt.config.utility import BillingSettings
from commonwatt.model.exceptions import ConfigError

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


def other_person(settings: BillingSettings, name: str, first: str, did: str) -> str:
    """Return the name of a person who may act on what another person did.

    Args:
        settings: The people.
        name: The person who acts.
        first: The person who acted before.
        did: What that person did, such as "proposed it".

    Raises:
        ConfigError: The file does not list the person, or both are the same person.
    """
    if person_of(settings, name) == first:
        raise ConfigError(f"--as {name}: {first} {did}; a second person has to approve it")
    return name
