"""Slots that no store has, where several controllers may have a microgrid's data (R14)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, select

from commonwatt.model.ids import MeterId, signed64
from commonwatt.model.units import QUARTER_S, ControllerId, EpochSeconds
from utility.database.database import insert_or
from utility.database.keys import is_one_of, listed
from utility.readings.gaps import WHY_WORDS, Why, absent_at_all, excuse
from utility.readings.store.parts import chunks
from utility.readings.tables import absent_at, gap, gateway_seen
from utility.registry.store.registry import closed_microgrids, stores_of
from utility.registry.tables import meter

Key = tuple[int, int, int]  # (number of the meter, record type, quarter)
Said = dict[Key, dict[ControllerId, int]]  # the slots that stores are known not to have, by block and controller


def note_absent(
    connection: Connection, controller: ControllerId, blocks: Iterable[tuple[MeterId, int, int, int]], why: Why
) -> None:
    """Record (meter, record type, quarter, slots) that a controller's store lacks; what all lack is asked no more."""
    places: dict[MeterId, tuple[int, frozenset[ControllerId]] | None] = {}
    for which, record_type, quarter, mask in blocks:
        if which not in places:
            places[which] = _stores_of(connection, which)
        place = places[which]
        if place is None:
            continue
        number, stores = place
        key = (number, record_type, quarter)
        if len(stores) > 1:
            add_absent(connection, [(key, controller, mask, why)])
            mask = absent_at_all(said_of(connection, [key]).get(key, {}), stores)
        conclude(connection, {key: mask})


def add_absent(connection: Connection, rows: Iterable[tuple[Key, ControllerId, int, Why]]) -> None:
    """Add slots to those that controllers' stores do not have."""
    values = [
        dict(zip(_KEY, key, strict=True)) | {"controller": controller, "mask": mask, "why": why}
        for key, controller, mask, why in rows
    ]
    if values:
        statement = insert_or(connection, absent_at)
        both = absent_at.c.mask.bitwise_or(statement.excluded.mask)
        changed = {"mask": both, "why": statement.excluded.why}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(absent_at.primary_key), set_=changed), values
        )


def said_of(connection: Connection, keys: Sequence[Key]) -> Said:
    """Return the slots that stores are known not to have."""
    found: Said = defaultdict(dict)
    for some in chunks(keys):
        for row in connection.execute(_SAID, listed(some)):
            found[row.meter_no, row.record_type, row.quarter][row.controller] = row.mask
    return found


def reasons_of(connection: Connection, keys: Sequence[Key]) -> dict[Key, dict[ControllerId, str]]:
    """Return why stores are known not to have slots of blocks, for people, by block and controller."""
    found: dict[Key, dict[ControllerId, str]] = defaultdict(dict)
    for some in chunks(keys):
        for row in connection.execute(_SAID, listed(some)):
            found[row.meter_no, row.record_type, row.quarter][row.controller] = WHY_WORDS[row.why]
    return found


def conclude(connection: Connection, absent: Mapping[Key, int]) -> None:
    """Request these slots of gaps no more."""
    if rows := [of_gap(key) | {"more": mask} for key, mask in absent.items() if mask]:
        connection.execute(_CONCLUDE, rows)


def of_gap(key: Key) -> dict[str, int]:
    """Return the parameters of ``IS_GAP``."""
    return dict(zip(("of_no", "of_type", "of_quarter"), key, strict=True))


def excused(connection: Connection, now: EpochSeconds) -> dict[ControllerId, Why]:
    """Return the controllers that need not be asked for what they may have, with the reason."""
    closed = closed_microgrids(connection)
    rows = connection.execute(select(gateway_seen.c.controller, gateway_seen.c.time))
    seen = {row.controller: row.time for row in rows}
    newest = min(now, max(seen.values(), default=now))
    reasons = {
        name: excuse(seen.get(name), newest, is_closed=name in closed and closed[name] <= now // QUARTER_S)
        for name in seen | closed
    }
    return {name: why for name, why in reasons.items() if why is not None}


def left_to_ask(
    mask: int, said: Mapping[ControllerId, int], stores: Collection[ControllerId]
) -> dict[ControllerId, int]:
    """Return the slots to request of each controller."""
    return {name: left for name in sorted(stores) if (left := mask & ~said.get(name, 0))}


def forget(connection: Connection, keys: Sequence[Key]) -> None:
    """Delete what is known of blocks that miss nothing any more."""
    for some in chunks(keys):
        connection.execute(_FORGET, listed(some))


_KEY = ("meter_no", "record_type", "quarter")
_KEY_COLUMNS = tuple(absent_at.c[name] for name in _KEY)
_SAID = select(absent_at).where(is_one_of(_KEY_COLUMNS))
_FORGET = delete(absent_at).where(is_one_of(_KEY_COLUMNS))
IS_GAP = (
    (gap.c.meter_no == bindparam("of_no"))
    & (gap.c.record_type == bindparam("of_type"))
    & (gap.c.quarter == bindparam("of_quarter"))
)
_MORE = gap.c.absent.bitwise_or(bindparam("more"))
_CONCLUDE = gap.update().where(IS_GAP).values(absent=_MORE, is_open=gap.c.mask.bitwise_and(_MORE.bitwise_not()) != 0)


def _stores_of(connection: Connection, which: MeterId) -> tuple[int, frozenset[ControllerId]] | None:
    """Return the number of a meter, and the controllers that may have its data; ``None``: it is not registered."""
    row = connection.execute(select(meter.c.no, meter.c.microgrid).where(meter.c.id == signed64(which))).first()
    return None if row is None else (row.no, stores_of(connection, row.microgrid).get(row.microgrid, frozenset()))
