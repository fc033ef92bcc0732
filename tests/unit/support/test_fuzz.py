"""Thousands of bad messages at the doors of all cores, on real stores; the broker's fuzzer sends as many outside."""

import os
import random
from pathlib import Path

import pytest

from gateway.core import HostedMicrogrid
from harness.fuzz import messages as fuzz
from harness.fuzz.messages import Fuzz, FuzzError

CASES = int(os.environ.get("BAD_MESSAGES", "2500"))


def test_bad_messages_stop_nothing_and_leave_nothing_growing(tmp_path: Path) -> None:
    tally = fuzz.run(tmp_path, cases=CASES, seed=1)
    assert sum(tally.cases.values()) == CASES
    assert tally.good == 2 * CASES // fuzz.GOOD_EVERY
    assert min(tally.dead_letters.values()) >= 90, "it did not come to what is to be bounded"


def test_the_same_seed_makes_the_same_messages(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    made = []
    for name in ("a", "b"):
        one = Fuzz(tmp_path / name, 5)
        made.append([one.sources[n % 12].case(random.Random(f"5/{n}")) for n in range(200)])
        one.close()
    assert made[0] == made[1]


def test_a_core_that_fails_on_a_message_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = HostedMicrogrid.from_meter

    def fragile(self: HostedMicrogrid, topic: str, payload: bytes, now: int) -> object:
        if payload.endswith(b"\xff\xff"):
            raise KeyError(payload)
        return real(self, topic, payload, now)

    monkeypatch.setattr(HostedMicrogrid, "from_meter", fragile)
    with pytest.raises(FuzzError, match="seed 1, case"):
        fuzz.run(tmp_path, cases=2_000, seed=1)


def test_a_core_that_remembers_every_stranger_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = HostedMicrogrid.from_meter

    def forgetless(self: HostedMicrogrid, topic: str, payload: bytes, now: int) -> object:
        self.manager.counts.outcomes[topic] += 1
        return real(self, topic, payload, now)

    monkeypatch.setattr(HostedMicrogrid, "from_meter", forgetless)
    with pytest.raises(AssertionError, match="outcomes"):
        fuzz.run(tmp_path, cases=2_000, seed=1)
