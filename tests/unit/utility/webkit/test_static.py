"""What pages load: a first visit is small, and each icon that is named is there."""

import re
from pathlib import Path

import pytest

from utility.access.actor import Actor, Via
from utility.access.roles import PEOPLE, Role
from utility.webkit.console.navigation import NAVIGATION, entries_for, groups_of
from utility.webkit.console.rendering import FLOW_ICONS
from utility.webkit.console.static_files import load_static

ROOMS = Path(__file__).resolve().parents[4] / "utility"
PAGES = {path: path.read_text() for path in ROOMS.glob("*/templates/*.html")}
MOST_BYTES = 150_000  # of the files that a first visit loads


def test_first_visit_loads_little() -> None:
    base = next(text for path, text in PAGES.items() if path.name == "base.html")
    names = set(re.findall(r"static\('([^']+)'\)", base)) | {"icons.svg"}
    files = load_static().files
    sizes = {
        name: len(files[name].content if name.endswith("woff2") else files[name].compressed)
        for name in names - {"app.webmanifest", "worker.js"}
    }
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_each_icon_that_is_named_is_in_the_picture_of_icons() -> None:
    shown = set(re.findall(r'<symbol id="([^"]+)"', load_static().files["icons.svg"].content.decode()))
    named = {name for text in PAGES.values() for name in re.findall(r'icon\("([^"]+)"\)', text)}
    named |= {group.icon for group in groups_of(NAVIGATION)} | set(FLOW_ICONS.values())
    assert named <= shown
    assert shown <= named, "an icon that no page shows"


@pytest.mark.parametrize("role", sorted(PEOPLE))
def test_a_role_is_offered_as_many_entries_as_a_phones_bar_has_room_for(role: Role) -> None:
    actor = Actor(name="one", roles=frozenset({role}), account=None, via=Via.SESSION, address="")
    assert 1 <= len(groups_of(entries_for(actor, is_demonstration=True))) <= 5
