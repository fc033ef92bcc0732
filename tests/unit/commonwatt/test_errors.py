"""The text of an error is never empty: neither of our own classes, nor of errors of others that have none."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import commonwatt
import utility
from commonwatt.model.exceptions import CommonwattError, text_of


def every(base: type[CommonwattError]) -> Iterator[type[CommonwattError]]:
    for package in (commonwatt, utility):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "exceptions" in module.name or module.name.endswith(("altered", "client")):
                import_module(module.name)
    found = [base]
    while found:
        error = found.pop()
        yield error
        found += error.__subclasses__()


def test_no_error_class_of_ours_has_an_empty_text() -> None:
    # One that makes its words of its fields has them always.
    ours = [error for error in every(CommonwattError) if error is CommonwattError or "__str__" not in vars(error)]
    assert [error for error in ours if not str(error.__new__(error))] == []


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError(), EOFError(), OSError(" "), ValueError("odd")])
def test_an_error_without_words_is_called_by_its_class(error: Exception) -> None:
    assert text_of(error) in (type(error).__name__, "odd")
