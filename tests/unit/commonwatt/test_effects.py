"""The delivery guarantee: what is published was durable before."""

import asyncio

import pytest

from commonwatt.model.effects import Effect, Publish, Write, perform

ACK = Publish("cw1/r001/77/d/ack", b"ack")


class Shell:
    """Notes the orders it gets, in order."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[object] = []
        self.error = error

    async def commit(self, writes: list[str]) -> None:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.done.append(writes)

    def run(self, effects: list[Effect[str]]) -> list[object]:
        asyncio.run(perform(effects, self.commit, self.done.append))
        return self.done


def test_all_writes_are_committed_at_once_before_anything_is_published() -> None:
    again = Publish("other", b"", qos=0)
    assert Shell().run([ACK, Write("a"), again, Write("b")]) == [["a", "b"], ACK, again]


def test_nothing_is_published_when_the_commit_fails() -> None:  # req: M6
    shell = Shell(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        shell.run([Write("a"), ACK])
    assert shell.done == []


def test_store_is_not_touched_without_writes() -> None:
    assert Shell(OSError("not asked")).run([ACK]) == [ACK]
    assert Shell().run([]) == []


def test_what_must_arrive_is_sent_at_qos_1_unless_said_otherwise() -> None:
    assert ACK.qos == 1
