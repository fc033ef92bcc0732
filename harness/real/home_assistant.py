"""Home Assistant's own code in an environment of its own: what it makes of our messages and automations.

The newest release that Python 3.13.0 can install. Of it ``home_assistant.txt`` has what the templates, MQTT's schemas
and entities, and scripts need: 40 packages without their dependencies, half a minute, once.
"""

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL
from tempfile import mkdtemp
from typing import Any

import pytest

from harness.docs.marked import DOCS
from harness.real import parts

PINS = Path(__file__).with_name("home_assistant.txt")
PROGRAM = Path(__file__).with_name("inside_home_assistant.py")
PYTHON = "3.13"
NEEDED = f"Python {PYTHON} (python{PYTHON}-venv of Debian 13, or pyenv install {PYTHON})"


def environment() -> Path:
    """Return the Python of the environment; make it if it is not there. Without Python 3.13 skip, and in CI fail."""
    if not parts.are_allowed:
        pytest.fail("this test needs Home Assistant: mark it with @pytest.mark.real")
    made = DOCS.parent / ".venv" / f"home-assistant-{zlib.crc32(PINS.read_bytes()):08x}"
    if not made.exists():
        new = Path(mkdtemp(dir=made.parent, prefix="home-assistant-new-"))
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]
        try:
            _run(python() or parts.miss(f"needs {NEEDED}"), "-m", "venv", str(new))
            _run(str(new / "bin" / "python"), *install, "-r", str(PINS))
            # Another process may have made it meanwhile.
            if not made.exists():
                new.rename(made)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return made / "bin" / "python"


def ask(questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Home Assistant's answer to each question (``inside_home_assistant``)."""
    command = [str(environment()), str(PROGRAM)]
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def python() -> str | None:
    """Return the path of a Python that Home Assistant runs on; ``None``: there is none."""
    found = [shutil.which(f"python{PYTHON}"), *Path.home().glob(f".pyenv/versions/{PYTHON}.*/bin/python{PYTHON}")]
    # A shim of pyenv may stand for no Python.
    working = (
        str(path)
        for path in found
        if path and not subprocess.run([path, "-c", ""], check=False, stderr=DEVNULL).returncode
    )
    return next(working, None)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        parts.miss(f"needs Home Assistant's packages from PyPI: {' '.join(command)} failed")
