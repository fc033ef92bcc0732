"""The utility's rooms: what is a rule stays arithmetic; SQL, web and commands stand in files of their names."""

import ast
import re
import subprocess
import sys
import tomllib

import grimp
import pytest

from harness.docs.marked import DOCS

# Names of the files and folders of a room that open, ask or serve; every other module is a rule.
FACETS = {"tables", "store", "decisions", "api", "cli", "pages", "jobs", "metrics"}
LOWEST_AND_TOP = {"database", "webkit", "assembly"}  # rooms without rules

FORBIDDEN = [
    *("asyncio", "concurrent", "logging", "multiprocessing", "select", "selectors", "socket", "sqlite3", "ssl"),
    *("subprocess", "threading", "alembic", "apscheduler", "fastapi", "paho", "prometheus_client", "psycopg", "rich"),
    *("sqlalchemy", "starlette", "typer", "uvicorn"),
]

NOT_YET = {
    "access.passwords",
    "jobs.runner",
    "readings.ingest",
}
"""Modules that open or ask although their names don't say so: to be moved or cut, and nothing is added."""


def test_every_rule_of_the_utility_is_arithmetic() -> None:
    graph = grimp.build_graph("utility", "commonwatt", include_external_packages=True)
    # It is loaded only to check a database's address.
    graph.remove_import(importer="commonwatt.config.database_url", imported="sqlalchemy")
    rules = [
        name
        for name in graph.modules
        if len(parts := name.split(".")) > 2
        and parts[0] == "utility"
        and parts[1] not in LOWEST_AND_TOP
        and not FACETS & set(parts[2:])
    ]
    assert len(rules) > 60
    opening = {
        name
        for name in rules
        if any(other in graph.modules and graph.find_shortest_chain(name, other) for other in FORBIDDEN)
    }
    assert {name.removeprefix("utility.") for name in opening} == NOT_YET


TERMINALS = ("cli", "assembly", "database", "exports", "settings")  # rooms and files whose errors only a terminal shows


def test_errors_that_a_page_may_show_have_no_words_of_a_command_line() -> None:
    found = []
    for path in (DOCS.parent / "utility").rglob("*.py"):
        if set(TERMINALS) & set(path.relative_to(DOCS.parent).with_suffix("").parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                words = [each.value for each in ast.walk(node.exc.args[0]) if isinstance(each, ast.Constant)]
                if any(isinstance(word, str) and ("commonwatt " in word or "--" in word) for word in words):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == [], "give the command that helps as the error's second argument"


def test_the_page_has_all_rooms_in_the_order_of_the_linter() -> None:
    contracts = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == ["utility"] and "layers" in each)
    section = (DOCS / "architecture.md").read_text().split("### Rooms of the utility")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)(?:/|\.py)` \|", section, re.MULTILINE) == layers[::-1]


def test_pages_ask_what_a_person_may_do_and_not_for_roles() -> None:
    """So that a right is given to another role in one place, ``RIGHTS``: also its buttons follow."""
    pages = (DOCS.parent / "utility").rglob("templates/*.html")
    assert [path.name for path in pages if re.search(r"actor\.has\(\s*['\"]", path.read_text())] == []


def test_what_checks_a_database_knows_the_tables_of_all_rooms() -> None:
    graph = grimp.build_graph("utility")
    for name in ("cli", "backup.backup", "backup.move", "backup.program", "recovery"):
        assert graph.find_shortest_chain(f"utility.assembly.{name}", "utility.assembly.tables"), name


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
    [("broker.cli", "numpy utility.settings"), ("gateway.cli", "numpy.random utility.settings")],
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
