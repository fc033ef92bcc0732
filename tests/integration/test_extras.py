"""Each extra separately: the command works with its packages, and names the extras that the rest needs.

A clean environment for each would take minutes. Here a separate process runs with the modules of all other
distributions hidden, which is equivalent.
"""

import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from harness.real.packages import brought_by

PARTS = {"": (), "broker": ("broker",), "gateway": ("gateway",), "utility": ("utility",), "sim": ("meters",)}
ALL_PARTS = {"broker", "gateway", "utility", "meters"}

HIDING = """
import sys
hidden = set(sys.argv[1].split(","))
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""
"""Hides the modules that the first argument names."""

RUNNING = f"""{HIDING}
from commonwatt.__main__ import main
for words in sys.argv[2:]:
    sys.argv = ["commonwatt", *words.split()]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    print(f"\\f{{code}}\\f", flush=True)
"""
"""Runs several commands in turn, and prints the exit code after each."""

NO_FILE = "/there/is/none/meters.toml"


def hidden_without(*extras: str) -> str:
    brought = brought_by(*extras)
    modules = packages_distributions()
    return ",".join(
        sorted(m for m, names in modules.items() if not any(canonicalize_name(name) in brought for name in names))
    )


@cache
def said(*extras: str) -> tuple[list[tuple[str, int]], str]:
    """Return the output and the exit code of each command, with what extras bring, and all errors."""
    there = {part for extra in extras for part in PARTS[extra]}
    commands = ["--version", "--help", *(f"{part} --help" for part in there), f"meters run --config {NO_FILE}"]
    command = [sys.executable, "-c", RUNNING, hidden_without(*extras), *commands]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = done.stdout.split("\f")[:-1]
    return list(zip(outputs[::2], map(int, outputs[1::2]), strict=True)), done.stderr


@pytest.mark.parametrize("extras", [("",), ("broker",), ("gateway",), ("utility",), ("sim",), ("gateway", "broker")])
def test_the_command_works_with_what_an_extra_brings(extras: tuple[str, ...]) -> None:
    there = {part for extra in extras for part in PARTS[extra]}
    outputs, errors = said(*extras)
    assert {code for _, code in outputs[:-1]} == {0}, errors
    version, shown, *helps = (text for text, _ in outputs[:-1])
    assert version.strip()
    missing = {
        part
        for part in ALL_PARTS
        if any(part in line.split()[1:2] and "Not installed here" in line for line in shown.splitlines())
    }
    assert not missing & there, shown
    assert len(helps) == len(there)
    assert not any("Not installed" in text for text in helps)
    if extras == ("",):
        assert missing == ALL_PARTS, "the missing part and the reason must be shown"


@pytest.mark.parametrize("extras", [("",), ("broker",), ("gateway",), ("sim",)])
def test_meters_run_without_its_extra_says_what_is_missing(extras: tuple[str, ...]) -> None:
    outputs, errors = said(*extras)
    assert outputs[-1][1] == 2
    assert "Traceback" not in errors
    assert "not installed" in errors or f"{NO_FILE}: No such file" in errors


def test_a_worker_of_a_dask_cluster_needs_the_extra_analysis_alone() -> None:
    script = f"{HIDING}\nimport distributed, utility.towns.analysis.store.closed"
    command = [sys.executable, "-c", script, hidden_without("analysis")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
