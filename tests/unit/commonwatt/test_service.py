"""Exit codes: a script can tell a wrong file from what could not be done."""

import gc

import pytest

import commonwatt.__main__
from commonwatt.model.exceptions import CommonwattError, ConfigError, ProtocolError, StoreError
from commonwatt.runtime.service import EXIT_FAILED, EXIT_USAGE, errors_reported


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("a.toml: line 3"), EXIT_USAGE, "a.toml: line 3\n"),
        (StoreError("gateway.db is damaged"), EXIT_FAILED, "error: gateway.db is damaged\n"),
        (ProtocolError(1, "cut short"), EXIT_FAILED, "error: cut short\n"),
        (CommonwattError("could not"), EXIT_FAILED, "error: could not\n"),
        (OSError("address in use"), EXIT_FAILED, "error: address in use\n"),
        (PermissionError(1, "Not permitted"), EXIT_FAILED, "error: [Errno 1] Not permitted\n"),
        (FileNotFoundError(2, "No such file", "no.csv"), EXIT_USAGE, "no.csv: No such file\n"),
        (IsADirectoryError(21, "Is a directory", "site"), EXIT_USAGE, "site: Is a directory\n"),
        (ConfigError("two\nlines \x1b[2J\r"), EXIT_USAGE, "two\nlines \\x1b[2J\\x0d\n"),
        (CommonwattError("\x9b2J"), EXIT_FAILED, "error: \\x9b2J\n"),
        (FileNotFoundError(2, "No such file", "a\x07"), EXIT_USAGE, "a\\x07: No such file\n"),
        (OSError(28, "No space left on device", "a"), EXIT_FAILED, "error: [Errno 28] No space left on device: 'a'\n"),
    ],
)
def test_error_is_told_in_one_line_with_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, told: str
) -> None:
    with pytest.raises(SystemExit) as caught, errors_reported():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr() == ("", told)


def test_what_is_our_own_fault_shows_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_reported():
        raise ZeroDivisionError


def test_exit_codes_stay_what_scripts_rely_on() -> None:
    assert (EXIT_FAILED, EXIT_USAGE) == (1, 2)
    with errors_reported():
        pass


def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("commonwatt.cli.main.main", pressed)
    with pytest.raises(SystemExit) as ended:
        commonwatt.__main__.main()
    gc.enable()  # What it disables while modules load, a command enables.
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"
