"""A service that ends again and again waits before it starts; one that ended once starts at once."""

from pathlib import Path

import pytest

from commonwatt.runtime.starts import OFTEN, WAIT_S, wait_if_often


def waits(path: Path, starts: int) -> list[float]:
    waited: list[float] = []
    for _ in range(starts):
        wait_if_often(path, waited.append)
    return waited


def test_the_fifth_start_of_a_minute_waits_and_each_one_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "1")
    assert waits(tmp_path / "gateway.toml", OFTEN + 2) == [WAIT_S] * 3


def test_a_start_by_hand_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert waits(tmp_path / "gateway.toml", 20) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_of_starts_or_none_that_can_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "1")
    (tmp_path / "gateway.starts").write_text("[1, ")
    assert waits(tmp_path / "gateway.toml", 1) == []
    assert waits(tmp_path / "no such folder" / "gateway.toml", 1) == [WAIT_S], "it can't count, so it waits"
