"""The tests of a file run in one process: a town, a server or a browser is started once for all of them."""

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it has no types

from tests.conftest import Groups, group_of


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("integration/test_town.py::test_a", "integration/test_town.py::test_b[x::y]", True),
        ("integration/test_town.py::test_a", "integration/test_kill.py::test_a", False),
        ("unit/gateway/test_page.py::test_a", "unit/utility/test_page.py::test_a", False),
        ("browser/test_pages.py::test_a[/console/]", "browser/test_roles.py::test_a", True),
        ("world/test_small_world.py::test_a[1]", "world/test_small_world.py::test_a[2]", True),
        ("world/test_energy.py::test_a[1]", "world/test_energy.py::test_a[2]", False),
    ],
)
def test_groups_are_files_but_for_browsers_and_worlds(one: str, other: str, together: bool) -> None:
    assert (group_of(f"tests/{one}") == group_of(f"tests/{other}")) is together


def test_xdist_divides_by_these_groups(request: pytest.FixtureRequest) -> None:
    hook = request.config.pluginmanager.hook.pytest_xdist_make_scheduler
    assert any(impl.function.__module__ == "tests.conftest" for impl in hook.get_hookimpls())
    assert Groups._split_scope is not LoadScopeScheduling._split_scope
    assert hasattr(LoadScopeScheduling, "_split_scope")
