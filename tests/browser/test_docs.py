"""The page of the API in a real browser: offline, by group, with schemas and examples, within its content policy."""

from collections.abc import Callable

from playwright.sync_api import expect

from harness.browser import Visit
from utility.access.roles import Role


def test_a_program_writer_finds_a_route_with_its_schema_and_tries_it(window: Callable[..., Visit]) -> None:
    viewer = window(Role.VIEWER)
    viewer.open("/docs")
    page = viewer.page
    page.locator("[id^=operations-assembly-status_] .opblock-summary-control").click()
    block = page.locator(".opblock.is-open")
    expect(block).to_contain_text("curl -X GET")
    expect(block).to_contain_text("httpx.get(")
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table")).to_contain_text("head_end_connected")
    assert viewer.faults == []
