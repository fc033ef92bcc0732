"""SQL of the care of controllers."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds
from utility.care.tables import used_code
from utility.database.database import insert_or


@dataclass(frozen=True, kw_only=True)
class Use:
    """The use of a code."""

    lookup: str  # under which the utility finds the code
    place: str  # the controller that it is of
    keys: str  # digest of the public keys that asked
    address: str  # where the request came from
    used: EpochSeconds  # when, machine's epoch seconds


def use_code(connection: Connection, use: Use) -> Use:
    """Store the use of a code, unless it was used before; return its first use."""
    connection.execute(insert_or(connection, used_code).on_conflict_do_nothing(), vars(use))
    row = connection.execute(select(used_code).where(used_code.c.lookup == use.lookup)).one()
    return Use(lookup=row.lookup, place=row.place, keys=row.keys, address=row.address, used=row.used)
