"""The model of a disk that power cuts are replayed on."""

import random

from hypothesis import example, given
from hypothesis import strategies as st

from harness.powercut.disk import SECTOR, Disk, File, Kind, Record

WRITES = st.tuples(st.just("write"), st.integers(0, 5 * SECTOR), st.binary(min_size=1, max_size=3 * SECTOR))
CUTS = st.tuples(st.just("cut"), st.integers(0, 6 * SECTOR), st.just(b""))
STEPS = st.lists(st.one_of(WRITES, CUTS), max_size=8)


def run(file: File, steps: list[tuple[str, int, bytes]]) -> None:
    for what, number, data in steps:
        if what == "write":
            file.write(number, data)
        else:
            file.cut(number)


def expected(steps: list[tuple[str, int, bytes]]) -> list[bytes]:
    """Return what reads see before and after each step."""
    states = [b""]
    for what, number, data in steps:
        before = states[-1]
        if what == "write":
            states.append(before[:number].ljust(number, b"\0") + data + before[number + len(data) :])
        else:
            states.append(before[:number].ljust(number, b"\0"))
    return states


@given(STEPS, STEPS, st.integers())
def test_what_is_synced_is_certain(
    steps: list[tuple[str, int, bytes]], more: list[tuple[str, int, bytes]], seed: int
) -> None:
    file = File()
    run(file, steps)
    run(file, more)
    file.sync()
    assert file.after_cut(random.Random(seed)) == expected(steps + more)[-1]


# After a cut inside a sector, that is written or not as a whole.
@example([("write", 1, b'"' * 513)], [("cut", 1, b""), ("write", 2, b"**")], 901944)
@example([("write", 0, b"a" * 1100)], [("write", 1, b"b" * 512), ("cut", 3, b""), ("write", 512, b"c" * 10)], 965175)
@given(STEPS, STEPS, st.integers())
def test_each_sector_is_of_some_moment_since_the_sync(
    steps: list[tuple[str, int, bytes]], more: list[tuple[str, int, bytes]], seed: int
) -> None:
    file = File()
    run(file, steps)
    file.sync()
    run(file, more)
    states = expected(steps + more)[len(steps) :]
    left = file.after_cut(random.Random(seed))
    assert len(left) in {len(state) for state in states}
    for at in range(0, len(left), SECTOR):
        sector = left[at : at + SECTOR]
        possible = {state[at : at + SECTOR][: len(sector)].ljust(len(sector), b"\0") for state in states}
        assert sector in possible | {bytes(len(sector))}


def test_every_outcome_of_a_cut_comes_about() -> None:
    outcomes = set()
    for seed in range(300):
        file = File(b"a" * 2 * SECTOR)
        file.write(0, b"b" * 2 * SECTOR)
        left = file.after_cut(random.Random(seed))
        outcomes.add((left[:1], left[SECTOR : SECTOR + 1]))
    assert outcomes == {(a, b) for a in (b"a", b"b") for b in (b"a", b"b")}


def test_what_a_failed_sync_lost_is_read_but_no_later_sync_writes_it() -> None:
    left = set()
    for seed in range(50):
        file = File(b"a" * SECTOR)
        file.write(0, b"b" * SECTOR)
        file.fail_sync(random.Random(seed))
        assert bytes(file.seen) == b"b" * SECTOR
        file.write(SECTOR, b"c" * SECTOR)
        file.sync()
        left.add(file.after_cut(random.Random(seed)))
    assert b"a" * SECTOR + b"c" * SECTOR in left
    file.write(0, b"b")
    file.sync()
    assert file.after_cut(random.Random(1)) == b"b" * SECTOR + b"c" * SECTOR


def test_names_are_certain_only_when_their_folder_is_synced() -> None:
    disk = Disk({"/f/old": b"1"}, seed=1)
    disk.feed(Record(kind=Kind.OPENED, inode=5, offset=0, path="/f/new", data=b""))
    disk.feed(Record(kind=Kind.WRITTEN, inode=5, offset=0, path="", data=b"2"))
    disk.feed(Record(kind=Kind.SYNCED, inode=5, offset=0, path="", data=b""))
    disk.feed(Record(kind=Kind.RENAMED, inode=0, offset=0, path="/f/new\0/f/old", data=b""))
    assert disk.seen() == {"/f/old": b"2"}
    left = [disk.after_cut(random.Random(seed)) for seed in range(50)]
    assert {frozenset(files.items()) for files in left} == {
        frozenset({("/f/old", b"1")}),
        frozenset({("/f/old", b"1"), ("/f/new", b"2")}),
        frozenset({("/f/old", b"2")}),
    }
    disk.feed(Record(kind=Kind.FOLDER_SYNCED, inode=1, offset=0, path="/f", data=b""))
    assert [disk.after_cut(random.Random(seed)) for seed in range(5)] == [{"/f/old": b"2"}] * 5
