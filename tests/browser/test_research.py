"""A researcher's main job in a browser, by keys and by touch: what there is, a release, its dictionary, its data."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from commonwatt.model.time.times import parse_time
from harness.browser import Visit, press
from tests.browser.conftest import NOW
from utility.access.roles import Role
from utility.database.database import Database
from utility.research import store as store
from utility.research.documents import Facts, data_columns, name_columns
from utility.research.jobs.files import Block, DataFile, write_release
from utility.research.release import Asked, Tier
from utility.research.shown import made_rows

RELEASE = "aa11"


@pytest.fixture(scope="module")
def released(application: FastAPI) -> Path:
    """An open release of made rows, written as each release is."""
    asked = Asked(tier=Tier.OPEN, start=NOW - 172_800, end=NOW - 86_400)
    attack = {"attack": "group by bills", "attacker": "has all bills", "success": 0.02, "by_guessing": 0.018}
    kept = store.Kept(
        id=RELEASE, tier=Tier.OPEN, since=asked.start // 900, until=asked.end // 900, options=asked.options,
        attacks=[attack], groups={}, state="released", asked=NOW, asked_by="anna",
    )  # fmt: skip
    facts = Facts(
        id=RELEASE, town="Centertown", asked=asked, version="0.3.0", homes=20, left_out=0, known_percent=100, attacks=[]
    )
    database: Database = application.state.gate.database
    with database.writes.begin() as connection:
        store.save_release(connection, kept)
    folder: Path = application.state.console.api.settings.research.releases / RELEASE
    folder.mkdir(parents=True)
    rows = made_rows(Tier.OPEN)
    values = [np.array([[1000 * int(row[place]) for row in rows]]) for place in (2, 3)]
    times = np.array([parse_time(row[1], "start") for row in rows])
    block = Block(names=["house-01"], times=times, values=values, shown=[np.ones_like(one, bool) for one in values])
    files = [
        DataFile(stem="groups", columns=name_columns(Tier.OPEN), rows=[("house-01", "house", 20)]),
        DataFile(stem="sums", columns=data_columns(Tier.OPEN), blocks=lambda: [block]),
    ]
    write_release(folder, facts, files)
    return folder


@pytest.mark.parametrize("is_touched", [False, True], ids=["keys", "touch"])
def test_researcher_finds_a_release_reads_its_dictionary_and_downloads_it(
    window: Callable[..., Visit], released: Path, tmp_path: Path, *, is_touched: bool
) -> None:
    seen = window(Role.RESEARCHER, width=390 if is_touched else 1280, touch=is_touched)
    page = seen.page

    seen.open("/console/research")
    assert seen.check() == []
    press(page.get_by_role("link", name="homes", exact=True), is_touched)
    expect(page.get_by_text("Made up, of no home")).to_be_visible()
    expect(page.get_by_role("heading", name="How to get it")).to_be_visible()
    expect(page.locator(".plot canvas").first).to_be_visible()
    assert seen.check() == []
    press(page.get_by_role("link", name="All releases"), is_touched)
    press(page.get_by_role("link", name=RELEASE), is_touched)
    expect(page.get_by_role("rowheader", name="used_wh")).to_be_visible()
    expect(page.get_by_text("succeeds in 2.0% of its trials")).to_be_visible()
    expect(page.locator(".plot canvas").first).to_be_visible()
    assert seen.check() == []
    with page.expect_download() as download:
        press(page.get_by_role("button", name="Download sums.csv"), is_touched)
    download.value.save_as(tmp_path / "sums.csv")
    content = (tmp_path / "sums.csv").read_bytes()
    assert content == (released / "sums.csv").read_bytes()
    expect(page.get_by_text(hashlib.sha256(content).hexdigest())).to_be_visible()
    assert download.value.suggested_filename == f"{RELEASE}-sums.csv"


def test_release_fits_a_phone_by_night(window: Callable[..., Visit], released: Path) -> None:
    del released
    seen = window(Role.RESEARCHER, width=360, dark=True)
    for path in ("", "/kinds/open", "/kinds/homes", f"/{RELEASE}"):
        seen.open(f"/console/research{path}")
        assert seen.check() == []
