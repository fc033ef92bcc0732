"""Decides that a place must not be cut, or may be again: a clerk asks, an approver who is apart decides."""

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.registry.store import statements
from utility.registry.store.accounts import load_registry_around


def ask(database: Database, account: AccountNumber, actor: Actor, now: EpochSeconds, *, wanted: bool) -> None:
    """Ask for a flag, or for its end.

    Raises:
        ConfigError: There is no such account with a meter.
    """
    with database.writes.begin() as connection:
        if not load_registry_around(connection, account).meters:
            raise ConfigError(f"account {account}: there is none with a meter")
        statements.ask(connection, account, actor.name, now, wanted=wanted)
        record(connection, actor, now, "spared.ask", f"account {account}", None, {"not cut": wanted})


def decide(database: Database, account: AccountNumber, second: Second, *, agrees: bool, wanted: bool) -> None:
    """Agree with what was asked for, or refuse it, as the second person.

    Args:
        wanted: What the person was shown to be asked for.

    Raises:
        ConfigError: Nothing is asked for, or the person may not be the second one.
    """
    with second_person(database, second, f"account {account}") as connection:
        found = statements.spared_places(connection).get(account)
        if found is None or found.wanted is not wanted:
            raise ConfigError(f"account {account}: this is not asked for any more; look again")
        require_second(connection, second, {found.asked_by: "asked for it"})
        statements.decide(connection, found, second.actor.name, second.now, agrees=agrees)
        after = {"not cut": found.wanted if agrees else found.is_spared}
        record(connection, second.actor, second.now, "spared.decide", f"account {account}", None, after)
