"""Long work that people start: in turn, bounded by kind and person, with its progress.

A fault is shown and stops no other work; a person cancels the own ones.
"""

from threading import Event
from typing import Any

import pytest

from commonwatt.model.exceptions import ConfigError
from harness.network.waiting import eventually
from utility.billing.run import Progress
from utility.webkit.works import MAX_KEPT, MAX_OPEN, Kind, State, Work, Works

NOW = 1_800_000_000
WAIT_S = 20


class Bench:
    """Works whose jobs end on command."""

    def __init__(self) -> None:
        self.works = Works()
        self.order: list[str] = []

    def start(
        self, name: str, go: Event, result: Any = None, kind: Kind = Kind.REPLAY, person: str = "anna"
    ) -> tuple[Work, Event]:
        done = Event()

        def job(progress: Progress) -> tuple[str, Any]:
            self.order.append(name)
            progress(1, 3)
            assert go.wait(WAIT_S)
            progress(2, 3)
            done.set()
            if isinstance(result, Exception):
                raise result
            return "/result/{id}", result

        return self.works.start(kind, name, person, NOW, job), done

    def ended(self, work: Work) -> Work:
        """Wait until a work has ended: the one after it has begun then, or none is open."""
        eventually(lambda: (found := self.works.find(work.id)) is not None and not found.is_open)
        found = self.works.find(work.id)
        assert found is not None
        return found


def test_works_of_a_kind_run_in_turn_and_too_many_are_refused() -> None:
    bench, go = Bench(), Event()
    works = [bench.start(f"work {n}", go, n, person=f"person {n}")[0] for n in range(MAX_OPEN)]
    with pytest.raises(ConfigError, match=f"{MAX_OPEN} other people have a replay in work; try again when one is done"):
        bench.start("one more", go)
    eventually(lambda: bench.order)
    first = bench.works.find(works[0].id)
    assert first is not None
    assert first.state in (State.WAITING, State.RUNNING)
    go.set()
    ended = [bench.ended(work) for work in works]
    assert bench.order == [work.what for work in works]
    assert [(one.result, one.path, one.done, one.whole) for one in ended] == [
        (n, f"/result/{work.id}", 2, 3) for n, work in enumerate(works)
    ]


def test_replays_of_others_keep_nobody_from_making_bills() -> None:
    bench, never, go = Bench(), Event(), Event()
    go.set()
    replays = [bench.start(f"replay {n}", never, person=f"person {n}")[0] for n in range(MAX_OPEN)]
    bills, _ = bench.start("bills", go, kind=Kind.BILLS)
    assert bench.ended(bills).state is State.DONE
    assert [work.is_open for work in bench.works.newest()[1:]] == [True] * MAX_OPEN
    assert all(bench.works.find(work.id) is not None for work in replays)
    never.set()


def test_a_person_has_one_open_work_of_a_kind_and_cancels_it() -> None:
    bench, go = Bench(), Event()
    running, done = bench.start("first", go)
    eventually(lambda: bench.order)
    with pytest.raises(ConfigError, match=f"your replay of before, first, .*wait.*/console/works/{running.id}"):
        bench.start("second", go)
    waiting, _ = bench.start("of ben", go, person="ben")
    for work, person in ((running, "ben"), (waiting, "anna")):
        with pytest.raises(ConfigError, match="by the person who started it"):
            bench.works.cancel(work.id, person)
    bench.works.cancel(waiting.id, "ben")
    assert bench.ended(waiting).fault == "ben cancelled it"
    again, _ = bench.start("of ben again", go, person="ben")
    bench.works.cancel(running.id, "anna")
    assert bench.works.newest()[2].state is State.RUNNING, "it goes on until its next step"
    go.set()
    assert (bench.ended(running).fault, done.is_set()) == ("anna cancelled it", False)
    assert bench.ended(again).state is State.DONE
    assert bench.order == ["first", "of ben again"], "what was cancelled before its turn never began"
    with pytest.raises(ConfigError, match="while it waits or runs"):
        bench.works.cancel(running.id, "anna")


def test_fault_is_told_and_the_next_work_is_done(caplog: pytest.LogCaptureFixture) -> None:
    bench, go = Bench(), Event()
    go.set()
    told = bench.ended(bench.start("refused", go, ConfigError("no such month"))[0])
    assert (told.state, told.fault, told.path) == (State.FAILED, "no such month", "")
    broken = bench.ended(bench.start("broken", go, KeyError("x"))[0])
    assert (broken.state, broken.fault) == (State.FAILED, "the service failed; its log says why")
    assert "a work failed" in caplog.text
    assert bench.ended(bench.start("good", go)[0]).state is State.DONE


def test_old_results_are_forgotten() -> None:
    bench, go = Bench(), Event()
    go.set()
    works = []
    for n in range(MAX_KEPT + 3):
        works.append(bench.start(str(n), go)[0])
        bench.ended(works[-1])
        assert sum(bench.works.find(work.id) is not None for work in works) == min(n + 1, MAX_KEPT)
    assert [bench.works.find(work.id) is not None for work in works] == [False] * 3 + [True] * MAX_KEPT
    assert [work.what for work in bench.works.newest()][:2] == [works[-1].what, works[-2].what]
