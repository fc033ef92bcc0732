"""The utility's rooms: what is a rule stays arithmetic; SQL, web and commands stand in files of their names."""

import ast

import grimp

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
    "readings.ingest.ingest",
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
    assert len(rules) > 100
    opening = {
        name
        for name in rules
        if any(other in graph.modules and graph.find_shortest_chain(name, other) for other in FORBIDDEN)
    }
    assert {name.removeprefix("utility.") for name in opening} == NOT_YET


TERMINALS = ("cli", "assembly", "database", "exports")  # rooms and files whose errors only a terminal shows


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


def test_what_checks_a_database_knows_the_tables_of_all_rooms() -> None:
    graph = grimp.build_graph("utility")
    for name in ("cli", "upkeep", "backup.backup", "recovery.examination"):
        assert graph.find_shortest_chain(f"utility.assembly.{name}", "utility.assembly.tables"), name
