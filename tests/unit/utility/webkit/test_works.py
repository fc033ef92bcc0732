"""Long work that people start: in turn, bounded, with its progress; a fault is shown and stops no other work."""

from threading import Event
from typing import Any

import pytest

from commonwatt.model.exceptions import ConfigError
from utility.billing.run import Progress
from utility.webkit.works import MAX_KEPT, MAX_OPEN, State, Work, Works

NOW = 1_800_000_000
WAIT_S = 20


class Bench:
    """Works whose jobs end on command."""

    def __init__(self) -> None:
        self.works = Works()
        self.order: list[str] = []

    def start(self, name: str, go: Event, result: Any = None) -> tuple[Work, Event]:
        done = Event()

        def job(progress: Progress) -> tuple[str, Any]:
            self.order.append(name)
            progress(1, 3)
            assert go.wait(WAIT_S)
            done.set()
            if isinstance(result, Exception):
                raise result
            return "/result/{id}", result

        return self.works.start(name, "anna", NOW, job), done

    def ended(self, work: Work) -> Work:
        """Wait until a work has ended: the one after it has begun then, or none is open."""
        while True:
            found = self.works.find(work.id)
            assert found is not None
            if not found.is_open:
                return found


def test_works_run_in_turn_and_too_many_are_refused() -> None:
    bench, go = Bench(), Event()
    works = [bench.start(f"work {n}", go, n)[0] for n in range(MAX_OPEN)]
    with pytest.raises(ConfigError, match=f"{MAX_OPEN} works are being done; try again"):
        bench.start("one more", go)
    while not bench.order:
        pass
    first = bench.works.find(works[0].id)
    assert first is not None
    assert first.state in (State.WAITING, State.RUNNING)
    go.set()
    ended = [bench.ended(work) for work in works]
    assert bench.order == [work.what for work in works]
    assert [(one.result, one.path, one.done, one.whole) for one in ended] == [
        (n, f"/result/{work.id}", 1, 3) for n, work in enumerate(works)
    ]


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
