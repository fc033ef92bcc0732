"""Asks a controller what devices its adapter hears; the audit log has no line of it, as it changes nothing."""

from secrets import token_hex

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.control.store import kinds_of
from utility.database.database import Database
from utility.database.engines import Lock, take
from utility.discovery.store import drop_earlier, is_open
from utility.outbox.store import send
from utility.outbox.tables import DISCOVERY

VALID_S = 60  # seconds for which a controller is asked


def ask(database: Database, microgrid: MicrogridId, now: EpochSeconds) -> bool:
    """Ask a controller, unless it was asked and may still answer; return whether it was asked now.

    Raises:
        ConfigError: It is not registered.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        if microgrid not in kinds_of(connection):
            raise ConfigError(f"{microgrid}: is no registered controller")
        if is_open(connection, microgrid, now):
            return False
        drop_earlier(connection, microgrid)
        message = ControllerCommand(id=f"{DISCOVERY}{token_hex(8)}", cmd=Action.DISCOVER, until=now + VALID_S)
        send(connection, microgrid, message, now)
    return True
