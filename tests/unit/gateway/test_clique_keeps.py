"""A gateway commands a microgrid under a new epoch once its store has it, however long that takes."""

import asyncio
from pathlib import Path

import pytest

from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.sqlite.damage import SqliteError
from gateway.changes import Change, Setting
from gateway.clique.clique import Clique
from gateway.takeover.effects import Kept
from harness.network.waiting import become, cancelled
from tests.unit.gateway.test_revoked import clique_of, hooks_of

EPOCH = (9, 1)
METER: MeterId = 4
COMMAND = Publish(meter_down("r003", METER, COMMANDS), b"")


def grant(clique: Clique) -> None:
    """Let the clique have r003 from now on, as after the utility's grant."""
    clique._perform(clique._group_of["r003"], clique.members["r003"]._hold(EPOCH, "granted"))


@pytest.mark.parametrize("error", [None, SqliteError("disk I/O error"), SqliteError()])
def test_a_microgrid_is_commanded_after_its_epoch_is_durable_and_not_if_the_store_fails(
    tmp_path: Path, error: SqliteError | None
) -> None:
    clique = clique_of(tmp_path)
    began: list[str] = []
    asked: list[list[Change]] = []

    async def play() -> None:
        answers = asyncio.Event()

        async def keep(changes: list[Change]) -> SqliteError | None:
            if len(changes) > 1:
                return None  # those of the start
            asked.append(changes)
            await answers.wait()
            return error

        running = asyncio.create_task(clique.run(hooks_of(keep=keep, begin=began.append)))
        await become(lambda: clique._epochs.are_kept)
        clique.members["r003"].now = clique._now()
        grant(clique)
        await become(lambda: asked)
        assert began == []
        assert not clique.permits(COMMAND), "a disk that hangs must not let it command"
        answers.set()
        await become(lambda: clique._keeping is None)
        await cancelled(running)
        clique.leave()

    asyncio.run(play())
    assert asked == [[Setting("clique:r003", Kept(EPOCH, EPOCH).text())]]
    member = clique.members["r003"]
    if error is None:
        assert began == ["r003"]
        assert member.commands
        assert clique.permits(COMMAND)
    else:
        assert began == []
        assert member.kept.highest < EPOCH
        assert not clique.permits(COMMAND)
