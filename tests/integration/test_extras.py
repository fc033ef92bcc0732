"""Each extra separately: the command works with its packages, and names the extras that the rest needs.

A clean environment for each would take minutes. Here a separate process runs with the modules of all other
distributions hidden, which is equivalent.
"""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from harness.real.extras import brought_by

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
from commonwatt.__main__ import main
for words in sys.argv[2:]:
    sys.argv = ["commonwatt", *words.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print("\\f", flush=True)
"""
"""Runs several commands in turn, until one fails."""


def hidden_without(*extras: str) -> str:
    brought = brought_by(*extras)
    modules = packages_distributions()
    return ",".join(
        sorted(m for m, names in modules.items() if not any(canonicalize_name(name) in brought for name in names))
    )


@pytest.mark.parametrize("extras", [("",), ("broker",), ("gateway",), ("utility",), ("sim",), ("gateway", "broker")])
def test_the_command_works_with_what_an_extra_brings(extras: tuple[str, ...]) -> None:
    there = {part for extra in extras for part in PARTS[extra]}
    commands = ["--version", "--help", *(f"{part} --help" for part in there)]
    command = [sys.executable, "-c", HIDING, hidden_without(*extras), *commands]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    version, shown, *helps = done.stdout.split("\f")[:-1]
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
def test_meters_run_without_its_extra_says_what_is_missing(extras: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "meters.toml"
    command = [sys.executable, "-c", HIDING, hidden_without(*extras), f"meters run --config {file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "not installed" in done.stderr or f"{file}: No such file" in done.stderr
