"""A resident gets nothing of another household, with whatever ids of it in the path, the query, a form or JSON.

Every route that a resident may use is asked, with every parameter it has and with those that it might have.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.responses import PlainTextResponse
from sqlalchemy import or_, select

from harness.furnished import AFTER, APARTMENT, BEFORE, HOUSE, MONTH, furnished, token_of, visited
from harness.routes import Ruled, Visitors, all_routes, ruled
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.tables import api_token, session
from utility.assembly.tables import metadata
from utility.database.database import Database
from utility.registry.tables import holding, meter
from utility.webkit.rights import USES_CONSOLE

RESIDENT = frozenset({Role.RESIDENT})
ROUTES = [route for route in all_routes() if route.roles is not None and route.allows(RESIDENT)]
PEOPLE = {f"resident-of-{account}": account for account in (HOUSE, BEFORE, AFTER, APARTMENT)}

# Values of parameters that name nobody.
OWN_WORDS = {"month": MONTH, "day": "2027-01-03", "start": "2026-12-30", "end": "2027-01-06", "version": "x"}
# The resident who asks, and the one whose data is asked for: also those before and after a move into one house.
PAIRS = [(HOUSE, APARTMENT), (APARTMENT, HOUSE), (AFTER, BEFORE), (BEFORE, AFTER)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with furnished(tmp_path_factory.mktemp("others"), NOW) as made:
        yield made


@pytest.fixture(scope="module")
def visitors(database: Database) -> Iterator[Visitors]:
    with visited(database, NOW) as made:
        for name, account in PEOPLE.items():
            made.add(name, RESIDENT, account)
            made.session(name)
            token_of(database, name, "resident", NOW)
        yield made


def ids_of(database: Database, account: int) -> dict[str, list[str]]:
    """Return everything that names a resident, by the kind of parameter."""
    name = f"resident-of-{account}"
    with database.reads.begin() as connection:
        joined = holding.join(meter, meter.c.id == holding.c.meter)
        meters = connection.execute(
            select(meter.c.id, meter.c.no).select_from(joined).where(holding.c.account == account)
        ).all()
        sessions = connection.execute(select(session.c.digest).where(session.c.person == name)).scalars().all()
        tokens = connection.execute(select(api_token.c.no).where(api_token.c.person == name)).scalars().all()
    return {
        "account": [str(account)],
        "accounts": [str(account)],
        "meter": [str(int(row.id)) for row in meters],
        "meter_no": [str(row.no) for row in meters],
        "person": [name],
        "name": [name],
        "username": [name],
        "session": list(sessions),
        "digest": list(sessions),
        "token": [str(no) for no in tokens],
        "number": [str(no) for no in tokens],
        "no": [str(no) for no in tokens],
        "id": [str(account), name],
    }


def rows_about(database: Database, account: int) -> list[str]:
    """Return all stored rows that name a resident, but how often they were used."""
    name, found = f"resident-of-{account}", []
    with database.reads.begin() as connection:
        for table in metadata.sorted_tables:
            conditions = [table.c[key] == account for key in ("account",) if key in table.c]
            conditions += [table.c[key] == name for key in ("person", "name", "made_by", "subject") if key in table.c]
            if conditions and table.name != "audit":
                rows = connection.execute(table.select().where(or_(*conditions)))
                found += [f"{table.name} {tuple(row)}" for row in rows]
    return sorted(found)


def words_of(answer: httpx.Response) -> set[str]:
    """Return the telling words of an answer: numbers, names and codes of six characters or more."""
    text = answer.content.decode("latin-1")
    return {word for word in re.findall(r"[\w.:$-]{6,}", text) if any(letter.isdigit() for letter in word)}


def sent(visitors: Visitors, route: Ruled, headers: Mapping[str, str], put: dict[str, Any]) -> list[httpx.Response]:
    """Ask a route with some values in its parameters, or as further ones: in the query, a form and JSON."""
    address = route.address(OWN_WORDS | {key: value for key, value in put.items() if key in route.in_path})
    own = {key: OWN_WORDS[key] for key in (*route.in_query, *route.in_body) if key in OWN_WORDS}
    if route.is_safe:
        return [visitors.ask(route.method, address, headers, params=own | put)]
    return [
        visitors.ask(route.method, address, headers, params=put, data=own | put),
        visitors.ask(route.method, address, headers, params=put, json=own | put),
    ]


@pytest.fixture(scope="module")
def shown(visitors: Visitors) -> dict[int, set[str]]:
    """Return the telling words of each resident's pages, by account."""
    return {account: own_words(visitors, visitors.session(name)) for name, account in PEOPLE.items()}


def own_words(visitors: Visitors, headers: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for route in ROUTES:
        if route.is_safe:
            for day in ("2027-01-03", "2027-01-14", "2027-01-15") if "day" in route.in_query else ("",):
                query = {key: value for key, value in (OWN_WORDS | {"day": day}).items() if key in route.in_query}
                found |= words_of(visitors.ask("GET", route.address(OWN_WORDS), headers, params=query))
    return found


def leaks(
    visitors: Visitors, routes: list[Ruled], headers: Mapping[str, str], ids: dict[str, list[str]], secret: set[str]
) -> list[str]:
    """Return where a person's secret words are shown to another person who puts that person's ids everywhere."""
    found = []
    for route in routes:
        if route.path == "/console/logout":
            continue  # It would end the session.
        named = {*route.in_path, *route.in_query, *route.in_body} & set(ids)
        tried: list[dict[str, Any]] = [{key: values[0] for key, values in ids.items() if values and key not in named}]
        tried += [{key: value} for key in named for value in ids[key]]
        tried += [{key: values} for key, values in ids.items() if len(values) > 1]
        for put in tried:
            said = {str(value) for value in put.values()} | {value for values in put.values() for value in values}
            for answer in sent(visitors, route, headers, put):
                told = {word for word in words_of(answer) & secret if word not in said}
                if told or answer.status_code >= 500:
                    found.append(f"{route.method} {route.path} with {put}: {answer.status_code}, {sorted(told)[:5]}")
    return found


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_ids_of_another_household_give_nothing_and_change_nothing(
    visitors: Visitors, database: Database, shown: dict[int, set[str]], mine: int, theirs: int
) -> None:
    headers, secret = visitors.session(f"resident-of-{mine}"), shown[theirs] - shown[mine]
    assert len(secret) > 20, "the other resident's pages show nothing of their own"
    ids, before = ids_of(database, theirs), rows_about(database, theirs)
    assert len(before) > 5
    assert leaks(visitors, ROUTES, headers, ids, secret) == []
    assert rows_about(database, theirs) == before


@pytest.mark.parametrize("path", ["/console/planted/{account}", "/console/planted", "/console/planted/{number}"])
def test_a_route_that_trusts_its_parameters_is_found(
    database: Database, shown: dict[int, set[str]], path: str, visitors: Visitors
) -> None:
    """The test above must be able to fail."""
    secret = shown[APARTMENT] - shown[HOUSE]
    ids = ids_of(database, APARTMENT)

    def planted(request: Request) -> PlainTextResponse:
        told = {**request.query_params, **request.path_params}
        is_theirs = told.get("account") == str(APARTMENT) or told.get("number") in ids["number"]
        return PlainTextResponse(" ".join(secret) if is_theirs else "nothing")

    route = Ruled(
        method="GET", path=path, roles=RESIDENT, in_path=tuple(re.findall("{(.*)}", path)), in_query=(), in_body=()
    )
    visitors.app.add_api_route(path, planted, dependencies=[USES_CONSOLE])
    assert leaks(visitors, [route], visitors.session(f"resident-of-{HOUSE}"), ids, secret)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_nobody_but_administrators_changes_what_others_log_in_with(
    visitors: Visitors, database: Database, role: Role
) -> None:
    ids, before = ids_of(database, HOUSE), rows_about(database, HOUSE)
    before = [
        row for row in before if row.split()[0] in ("person", "person_role", "session", "api_token", "invitation")
    ]
    headers = visitors.session(role.value)
    for route in ruled(visitors.app):
        if route.roles is not None and role in route.roles and not route.is_safe and route.path != "/console/logout":
            named = {*route.in_path, *route.in_query, *route.in_body} & set(ids)
            for put in [{key: value} for key in named for value in ids[key]]:
                sent(visitors, route, headers, put)
    assert set(before) <= set(rows_about(database, HOUSE))


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_further_parameters_are_ignored(visitors: Visitors, database: Database, mine: int, theirs: int) -> None:
    """An account, meter or name that a route does not ask for makes no difference."""
    headers, ids = visitors.session(f"resident-of-{mine}"), ids_of(database, theirs)
    for route in ROUTES:
        if route.is_safe:
            put = {key: values for key, values in ids.items() if key not in (*route.in_path, *route.in_query)}
            (plain,), (more,) = sent(visitors, route, headers, {}), sent(visitors, route, headers, put)
            assert (plain.status_code, plain.headers.get("location")) == (
                more.status_code,
                more.headers.get("location"),
            )
            if "pdf" not in plain.headers.get("content-type", ""):  # It has the time at which it was made.
                assert plain.text == more.text, f"{route.path} with {put}"


def test_residents_use_no_other_routes(visitors: Visitors) -> None:
    """The routes with ids of any household are for other roles."""
    mine = {route.path for route in ROUTES}
    assert not [path for path in mine if "{account}" in path or "{meter}" in path or "{microgrid}" in path]
