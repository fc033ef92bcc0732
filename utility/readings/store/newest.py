"""The newest quarters that senders have committed."""

from sqlalchemy import Connection, select

from commonwatt.model.units import ControllerId, Quarter
from utility.readings.tables import compacted, part, tally
from utility.registry.store.registry import controller_numbers

_SEVERAL = 0  # the number in blocks whose parts several controllers sent


def newest_of_two(connection: Connection) -> dict[ControllerId, Quarter]:
    """Return the newest quarter of the two senders with the newest data; of fewer, if fewer have sent."""
    names = {number: name for name, number in controller_numbers(connection).items()}
    # Where one controller has sent all, the search for a second would read every block.
    senders = len(connection.execute(select(tally.c.controller).where(tally.c.blocks > 0).limit(2)).all())
    found: dict[int, Quarter] = {}
    for _ in range(senders):
        newest = [
            tuple(row)
            for c in (part.c, compacted.c)
            for row in connection.execute(
                select(c.quarter, c.sender_no)
                .where(c.sender_no.not_in([_SEVERAL, *found]))
                .order_by(c.quarter.desc())
                .limit(1)
            )
        ]
        if newest:
            quarter, sender = max(newest)
            found[sender] = quarter
    return {names[number]: quarter for number, quarter in found.items() if number in names}
