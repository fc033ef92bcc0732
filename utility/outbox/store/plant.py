"""What the town's plant said and was asked: its last report, its finished quarters, the outcomes of purchases."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import EpochSeconds, Quarter
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from commonwatt.protocol.topics import PLANT
from utility.database.database import insert_or, upsert
from utility.outbox.changes import Change, ClosePurchase, KeepPlantQuarters, OpenCommand, SawPlant
from utility.outbox.tables import plant_quarter, plant_seen, purchase


def write_plant(connection: Connection, changes: Sequence[Change]) -> None:
    """Write the plant's changes among some changes of the core."""
    for seen in [change for change in changes if isinstance(change, SawPlant)][-1:]:
        row = {"one": 1, "time": seen.time, "report": seen.report.pack().decode()}
        connection.execute(upsert(connection, plant_seen, "time", "report"), row)
    keeping = [change for change in changes if isinstance(change, KeepPlantQuarters)]
    if keeping:
        _keep_quarters(connection, [row for one in keeping for row in one.quarters])
        oldest = max(one.oldest for one in keeping)
        connection.execute(plant_quarter.delete().where(plant_quarter.c.quarter < oldest))
    for closing in [change for change in changes if isinstance(change, ClosePurchase)]:
        ours = (purchase.c.id == closing.id) & (purchase.c.state == "open")
        connection.execute(purchase.update().where(ours).values(state=closing.state, outcome=closing.outcome))


def last_report(connection: Connection) -> tuple[EpochSeconds, PlantReport] | None:
    """Return the time of receipt and the plant's last report; ``None``: there is none that can be read."""
    row = connection.execute(select(plant_seen)).first()
    if row is None:
        return None
    try:
        return row.time, unpack_json(PlantReport, row.report.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.


def _keep_quarters(connection: Connection, rows: Iterable[PlantQuarter]) -> None:
    """Store finished quarters; of a quarter the row with most slots stays."""
    statement = insert_or(connection, plant_quarter)
    new = statement.excluded
    changed = {name: new[name] for name in PlantQuarter._fields if name != "quarter"}
    kept = statement.on_conflict_do_update(
        index_elements=[plant_quarter.c.quarter], set_=changed, where=new.slots > plant_quarter.c.slots
    )
    best: dict[Quarter, PlantQuarter] = {}
    for row in rows:
        if row.quarter not in best or best[row.quarter].slots < row.slots:
            best[row.quarter] = row
    if best:
        connection.execute(kept, [row._asdict() for row in best.values()])


_OPEN_PURCHASES = (
    select(purchase.c.id, purchase.c.message, purchase.c.until)
    .where(purchase.c.state == "open")
    .order_by(purchase.c.quarter)
)


def open_purchases(connection: Connection) -> list[OpenCommand]:
    """Return the purchases without an outcome yet, oldest first, as commands to the plant."""
    rows = connection.execute(_OPEN_PURCHASES)
    return [OpenCommand(id=row.id, controller=PLANT, message=row.message, until=row.until) for row in rows]
