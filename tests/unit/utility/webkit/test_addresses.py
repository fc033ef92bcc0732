"""Addresses that people type: a page without its query shows the present, and one that does not exist is a page."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from harness.console import Browser
from utility.access.roles import Role

Browsers = Callable[..., Browser]


def test_no_page_of_the_console_needs_a_query(app: FastAPI, browser: Browsers) -> None:
    people = [browser(*(role for role in Role if role is not Role.RESIDENT)), browser(Role.RESIDENT, account=5)]
    routes = [route for route in app.routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())]
    paths = [r.path for r in routes if r.path.startswith("/console/") and "{" not in r.path and "events" not in r.path]
    assert len(paths) > 40
    answers = [(path, one.get(path)) for path in paths for one in people]
    unregistered = "account: 5 is not registered"
    assert [p for p, answer in answers if answer.status_code == 422 and unregistered not in answer.text] == []


@pytest.mark.parametrize(
    "path", ["/console/nothing", "/console/home/nothing", "/console/microgrids/none/nothing", "/console/x.html"]
)
@pytest.mark.parametrize("role", [Role.VIEWER, None])
def test_an_address_without_a_page_is_a_page_that_leads_back(browser: Browsers, path: str, role: Role | None) -> None:
    answer = browser(*([] if role is None else [role])).get(path)
    assert answer.status_code == 404
    assert '<html lang="en"' in answer.text
    assert "<title>There is nothing here" in answer.text
    assert 'href="/console/"' in answer.text
