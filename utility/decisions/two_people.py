"""The rule of two people: what one person proposed or checked, another one approves or issues."""

from commonwatt.model.exceptions import ConfigError
from utility.access.actor import Actor


def require_second(actor: Actor, first: str, did: str) -> None:
    """Refuse the same person.

    Args:
        actor: The person who acts.
        first: The person who acted before.
        did: What that person did, such as "proposed it".

    Raises:
        ConfigError: Both are the same person.
    """
    if actor.name == first:
        raise ConfigError(f"{first} {did}; a second person has to approve it")
