"""Controllers are told what is wanted once, whatever they answer, and again by one policy."""

import json

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

from harness.surroundings import databases
from utility.database.database import Database
from utility.outbox.store import AGAIN_S, SENT_S, Wanted, repeat_commands, tell, to_tell, told_of
from utility.outbox.tables import command, told
from utility.registry.tables import controller

kind = databases.both_kinds

NOW = 1_800_000_000
OFTEN_S = AGAIN_S // 4
# After how many seconds a controller is told the same again, without and with the wish for it, by the command's state
# and result; ``None``: never.
AGAIN = {
    ("open", None): (None, None),
    ("done", "done"): (None, OFTEN_S),
    ("done", "refused"): (AGAIN_S, OFTEN_S),
    ("done", "unsupported"): (AGAIN_S, OFTEN_S),
    ("expired", None): (0, 0),
    ("superseded", None): (0, 0),
}


def wanted(meters: list[str], now: int = NOW, name: str = "r001", again_s: int | None = None) -> Wanted:
    fields = {"cmd": "spare", "spared": meters}
    return Wanted(controller=name, topic="spare", fields=fields, content=meters, until=now + SENT_S, again_s=again_s)


STEPS = st.tuples(
    st.sampled_from([1, OFTEN_S - 1, OFTEN_S, AGAIN_S]),
    st.sampled_from([[], ["1"], ["1", "2"]]),
    st.sampled_from(list(AGAIN)),
)


@given(steps=st.lists(STEPS, max_size=8), often=st.booleans())
def test_a_controller_is_told_what_changes_and_the_same_only_by_the_policy(
    steps: list[tuple[int, list[str], tuple[str, str | None]]], often: bool
) -> None:
    engine, now, count, last, time = create_engine("sqlite://", poolclass=NullPool), NOW, 0, list[str](), NOW
    with engine.begin() as connection:
        for table in (controller, command, told):
            table.create(connection)
        connection.execute(controller.insert().values(id="r001", number=1, kind="residential", address="10.0.0.1"))
        for passed_s, meters, (state, result) in steps:
            now += passed_s
            connection.execute(command.update().where(command.c.state == "open").values(state=state, result=result))
            known = connection.execute(select(command.c.state, command.c.result).order_by(command.c.created.desc()))
            again_s = AGAIN[tuple(newest)][often] if (newest := known.first()) is not None else None
            is_due = meters != last or (again_s is not None and now >= time + again_s)
            new = wanted(meters, now, again_s=OFTEN_S if often else None)
            assert to_tell(connection, [new], now) == [new] * is_due
            tell(connection, [new], now)
            assert to_tell(connection, [new], now) == [], "once"
            if is_due:
                count, last, time = count + 1, meters, now
            rows = connection.execute(select(command).order_by(command.c.created.desc())).all()
            assert len(rows) == count
            assert [json.loads(row.message)["spared"] for row in rows[:1]] == [last] * bool(count)
            assert not any(row.state == "open" for row in rows[1:]), "the earlier one is not sent any more"


def test_a_command_that_a_new_manager_did_not_do_is_told_again(database: Database) -> None:
    with database.writes.begin() as connection:
        tell(connection, [wanted(["1"])], NOW)
        connection.execute(command.update().values(state="done", result="done"))
        repeat_commands(connection, "r001", "-e1-2", NOW + 1)
        connection.execute(command.update().where(command.c.id.endswith("-e1-2")).values(state="expired", result=None))
        assert to_tell(connection, [wanted(["1"])], NOW + 2) == [wanted(["1"])]


def test_what_is_over_is_told_no_more(database: Database) -> None:
    with database.writes.begin() as connection:
        assert to_tell(connection, [wanted(["1"])], NOW + SENT_S) == []


def test_what_was_told_is_listed_by_controller_and_topic(database: Database) -> None:
    with database.writes.begin() as connection:
        tell(connection, [wanted(["1"], name=name) for name in ("r002", "r001")], NOW)
        connection.execute(command.update().where(command.c.controller == "r001").values(state="done", result="done"))
        found = told_of(connection, "spare")
        assert [(one.controller, one.content, one.time, one.state) for one in found] == [
            ("r001", ["1"], NOW, "done"),
            ("r002", ["1"], NOW, "open"),
        ]
        assert [one.controller for one in told_of(connection, "spare", limit=1, skipped=1)] == ["r002"]
        assert told_of(connection, "spar") == told_of(connection, "%") == []
        connection.execute(command.delete())
        assert to_tell(connection, [wanted(["1"])], NOW + 9 * AGAIN_S) == [], "an old command may be forgotten"
