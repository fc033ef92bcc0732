"""``commonwatt do``: every action of the API by its own description; wrong names and fields; commands of before."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commonwatt.cli.main import instead_of, main
from harness.commands import WHO, run_as
from harness.furnished import furnished
from tests.unit.utility.conftest import NOW


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    with furnished(folder, NOW):
        pass
    (folder / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{folder / "utility.db"}"\n')
    return folder / "utility.toml"


@pytest.fixture
def told(town: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Print in a terminal of 160 columns as anna, a clerk; return what is printed, or the error."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> str:
        try:
            return run_as(town, "do", *words, WHO, "anna")
        except SystemExit:
            return capsys.readouterr().err

    return run


def test_without_a_name_all_names_are_listed_with_their_fields(told: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in told().splitlines() if line.strip()}
    assert {"jobs/{name}/pause", "entries", "runs/{number}/issue", "assignments/meters/{meter}"} <= lines.keys()
    assert "month (needed)" in lines["runs"]
    assert "(clerk)" in told(), "who may do it"
    assert not {"console/jobs/{name}/pause", "gaps"} & lines.keys()


def test_an_action_is_done_as_the_person_and_its_answer_is_shown(told: Callable[..., str], tmp_path: Path) -> None:
    made = told("entries", "kind=goodwill", "subject=1", "amount=4.50", "reason=meter late = sorry")
    shown = dict(line.split(maxsplit=1) for line in made.splitlines()[3:] if line.strip())
    assert (shown["cents"].strip(), shown["reason"].strip()) == ("-450", "meter late = sorry")
    assert "entered by  anna" in made
    (tmp_path / "reason").write_text("a long one\n")
    assert "a long one" in told("/entries/", "kind=fee", "subject=1", "amount=1", f"reason=@{tmp_path / 'reason'}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("entriez",), "entriez: nothing has this name; near: entries"),
        (("entriez",), "all names: commonwatt do"),
        (("entries", "amout=3"), "amout: no field of entries; near: amount; it has: kind, subject, amount, reason"),
        (("entries", "kind=gift", "subject=1", "reason=x"), "kind: Input should be"),
        (("runs",), "month: Field required"),
        (("jobs/gaps/pause",), "this needs the role admin"),
        (("corrections/decide", "action=approve", "chosen.methd=balance"), "methd: no field of corrections/decide"),
        (("corrections", "decide", "action=approve", "chosen.method=balance"), "nothing to approve"),
        (("findings", "close", "numbers=98,99", "why=guests"), "98"),
        (("runs", "month=2026-12"), "bills of 2026-12 are issued"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_near(told: Callable[..., str], words: tuple[str, ...], says: str) -> None:
    assert says in told(*words)


def test_a_command_of_before_says_what_is_typed_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["commonwatt", "utility", "jobs", "pause", "gaps"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "utility jobs is no command any more; type: commonwatt do jobs/NAME/run" in capsys.readouterr().err
    assert instead_of(["utility", "run"]) == instead_of(["show", "jobs"]) == ""
    said = instead_of(["research", "release", "homes", "--from=2026-06", "--shuffle-days"])
    assert said.startswith("research release --shuffle-days is no option any more; type: commonwatt research release")
    assert instead_of(["research", "release", "homes", "--round", "100"]) == ""
