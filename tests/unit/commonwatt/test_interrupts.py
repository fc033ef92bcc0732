"""Commands that a person may stop: their exit code and last message (commonwatt.runtime.interrupts)."""

import pytest

from commonwatt.runtime.interrupts import EXIT_STOPPED, stop_told


def test_an_interruption_is_reported_as_one_although_cleaning_up_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("the connection is closed")

    with pytest.raises(SystemExit) as ended, stop_told("stopped; nothing changed"):
        work()
    assert ended.value.code == EXIT_STOPPED
    assert capsys.readouterr().err == "stopped; nothing changed\n"


def test_an_error_of_its_own_is_not_an_interruption() -> None:
    with pytest.raises(OSError, match="full"), stop_told("stopped"):
        raise OSError("full")
