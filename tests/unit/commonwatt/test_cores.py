"""Cores run anywhere: importing one loads nothing that opens files, waits, talks to a network or to a terminal."""

import subprocess
import sys

import pytest

# Not socket: pydantic loads importlib.metadata, which loads it by way of email. The linter keeps it from our own code.
NEVER = "alembic apscheduler asyncio fastapi paho pandas prometheus_client pvlib rich sqlalchemy sqlite3 ssl typer"


def test_a_fleet_loads_no_library_of_tables_or_of_the_sun() -> None:
    code = "import sys, meter_sim.fleet; print(*sys.modules.keys() & {'pandas', 'scipy', 'pvlib'})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


@pytest.mark.parametrize("part", ["broker.cli", "gateway.cli"])
def test_a_controllers_part_loads_no_certificate_library_before_it_has_a_certificate(part: str) -> None:
    code = f"import sys, {part}; print(*sys.modules.keys() & {{'cryptography'}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


@pytest.mark.parametrize(
    ("part", "never"),
    [("broker.cli", "numpy commonwatt.config.utility"), ("gateway.cli", "numpy.random commonwatt.config.utility")],
)
def test_a_controllers_part_loads_nothing_of_the_other_parts(part: str, never: str) -> None:
    code = f"import sys, {part}; print(*sorted(sys.modules.keys() & set({never!r}.split())))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


@pytest.mark.parametrize(
    "core", ["adapters.core", "gateway.controller", "utility.readings.core", "commonwatt.device.meter"]
)
def test_core_loads_neither_database_nor_network_nor_terminal(core: str) -> None:
    code = f"import sys, {core}; print(*sorted(sys.modules.keys() & set({NEVER!r}.split())))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
