"""A person pins a meter to brokers, or releases it; the API and the command call these functions."""

from collections.abc import Sequence

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds, MeterId
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.collection import store
from utility.database.database import Database
from utility.outbox.store import tell


def pin(
    database: Database, actor: Actor, meter: MeterId, brokers: Sequence[ControllerId], why: str, now: EpochSeconds
) -> None:
    """Let a meter send to these brokers, the first one first, whatever their load; none: the service decides again.

    A broker that is lost may be named: the meter goes to the next one in use by itself.
    """
    with database.writes.begin() as connection:
        known = store.one_meter(connection, meter)
        able = known.collected.installed
        if strange := [name for name in brokers if name not in able]:
            raise ConfigError(f"meter {meter} has no broker of {strange[0]}; it has {', '.join(able)}")
        if len(set(brokers)) < len(brokers):
            raise ConfigError("a broker is named twice")
        rest = (name for name in able if name not in brokers)
        order = (*brokers, *rest) if brokers else ()
        before, words = known.collected.order, why or ("pinned" if brokers else "released")
        store.give(connection, {known.no: (order, words)}, now, person=actor.name, pinned=bool(brokers))
        record(connection, actor, now, "collection.pin", f"meter {meter}", list(before), list(brokers))
        tell(connection, store.wanted_orders(connection, now), now)
