"""docs/guides/town.md, step by step, with the folder of a street."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.config.files import load_settings, read_toml
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import digest
from commonwatt.site.bundle import OF_CARE
from commonwatt.site.draft import SiteDraft
from commonwatt.site.places import load_site
from commonwatt.street.folder import apply, first_site
from gateway.store.recovery import open_checked
from harness.care.certificates import now
from harness.docs.generate import blocks_of
from harness.docs.marked import DOCS
from harness.real import forks
from harness.real.deploy import STATE, machine_root
from tests.unit.commonwatt.test_site_draft import BATTERY, grid
from utility.care.api.routes import enrolment_ends
from utility.database.database import open_database, read_setting
from utility.database.town_zone import TOWN
from utility.settings import UtilitySettings

PAGE = (DOCS / "guides" / "town.md").read_text()
CHANGES, MICROGRID = (content for kind, content in blocks_of(PAGE) if kind == "toml")
LABEL, LEAVE, UTILITY, AFTER = (content.splitlines() for kind, content in blocks_of(PAGE) if kind == "sh")


@pytest.fixture(autouse=True)
def _forked() -> Iterator[None]:
    forks.run([sys.executable, "-c", "pass"], check=True)
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        yield


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a street of one home, whose battery shares, and which has run."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.toml").write_text(first_site(8080, lan=False))
    draft = SiteDraft(site)
    draft.use_broker("street", address="192.168.1.2", user="mqtt", password="secret")
    draft.place("street", grid("one"), home="Home 1", role="grid")
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    draft.save()
    monkeypatch.chdir(tmp_path)
    # The examples' addresses are this machine's.
    monkeypatch.setattr("commonwatt.street.folder._is_here", lambda _: True)
    assert apply(Path("site")) == ""
    (site / "utility" / "office-key").write_text("a key")
    with closing(open_checked(site / "street" / "gateway.db", now())[0]):
        pass
    return tmp_path


def commonwatt(words: str) -> str:
    name, *rest = shlex.split(words)
    done = CliRunner().invoke(make_app(name), [name, *rest])
    assert done.exit_code == 0, done.output
    return done.output


def followed(lines: list[str], root: Path) -> str:
    """Do what lines of the page say; what they install, on the machine of the folder ``root``."""
    said = ""
    for line in lines:
        fingerprint = digest(Path("site/authority/ca.pem").read_bytes())
        words = shlex.split(line.replace("FINGERPRINT", f"{fingerprint} --root {root}"))
        if words[0] == "commonwatt" or words[:2] == ["sudo", "commonwatt"]:
            said += commonwatt(shlex.join(words[words.index("commonwatt") + 1 :]))
            continue
        assert words[:2] == ["sudo", "install"], line
        *files, target = [word for word in words if "/" in word or "." in word or word == "office-key"]
        folder = root / target[1:] if target.startswith("/") else Path(target)
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
    return said


def change(before: str, after: str) -> None:
    path = Path("site/site.toml")
    assert path.read_text().count(before) == 1, before
    path.write_text(path.read_text().replace(before, after))


def secrets_of(folder: Path) -> dict[str, str]:
    """Return the tokens and the registry of the street's devices."""
    names = ("gateway-tokens", "meter-tokens", "adapter-tokens", "registry")
    return {name: (folder / f"{name}.json").read_text() for name in names}


def facts_of(url: str) -> tuple[int, str]:
    """Return a store's id, and the microgrid that its town has alone."""
    with closing(open_database(url, create=False, check=True)) as database, database.reads.begin() as connection:
        return database.store_id, json.loads(read_setting(connection, TOWN) or "")["street"]


def test_each_step_from_a_street_to_a_town(office: Path, tmp_path: Path) -> None:
    before, database = secrets_of(office / "site/street"), f"sqlite:///{office}/site/utility/utility.db"
    store_id, alone = facts_of(database)
    assert alone == "street"
    # A second microgrid.
    for table in CHANGES.split("\n\n"):
        header, *keys = table.splitlines()
        for key in keys:
            name = key.split(" = ")[0]
            old = read_toml(Path("site/site.toml"))[header.strip("[]")].get(name)
            change(f'{name} = "{old}"' if old else f"{header}\n", key if old else f"{header}\n{key}\n")
    with Path("site/site.toml").open("a") as file:
        file.write(f"\n{MICROGRID}\n")
    assert apply(Path("site")) == "", "what the running street does"
    assert secrets_of(office / "site/street") == before
    assert facts_of(database) == (store_id, ""), "the console has the pages of several microgrids"
    assert read_toml(Path("site/street/gateway.toml"))["gateway"]["head_end"] == "192.168.1.10:8883"
    beats = [read_toml(Path(f"site/{one}.toml")).popitem()[1]["beats"] for one in ("utility/utility", "street/gateway")]
    assert len(set(beats)) == 2, "both are on one machine"
    broker = next(one for one in Authority.load(Path("site")).current() if one.file == "head-end/broker.pem")
    assert broker.addresses == ("192.168.1.10", "127.0.0.1")
    said = followed(LABEL, tmp_path / "none")
    assert "1 new label" in said
    assert "Next:" not in said, "the utility runs out of this folder"
    assert SiteDraft(Path("site")).microgrids == ["street", "mill"], "pages place the devices of both"
    assert not [meter for meter in load_site(Path("site/site.toml"))[1].meters if meter.microgrid == "mill"]
    assert "mill" in Path("site/labels.html").read_text()
    assert enrolment_ends(load_settings(Path("site/utility/utility.toml"), "utility", UtilitySettings)) is not None
    carried = {name: Path("site/utility", name).read_bytes() for name in OF_CARE}
    commonwatt("site pack mill")
    # Services of the packages.
    change('site = ".."\n', "")
    change('utility = "192.168.1.10"  # was 127.0.0.1', 'utility = "utility.example"')
    change('address = "127.0.0.1"', 'address = "192.168.1.30"')
    assert "parts, events and dead letters in it that wait for the utility: 0" in followed(LEAVE, tmp_path / "none")
    shutil.copy("site/utility/office-key", "office-key")
    machine, controller = machine_root(tmp_path / "utility"), machine_root(tmp_path / "controller")
    said = followed(UTILITY, machine)
    state = machine / STATE[1:]
    assert "enable commonwatt-broker@head-end.service commonwatt-utility.service commonwatt-backup.timer" in said
    assert "of them new: 0 and 0" in commonwatt(
        f"utility register --town {state}/utility/town.toml --config {state}/utility/utility.toml"
    )
    assert facts_of(f"sqlite:///{state}/utility/utility.db") == (store_id, "")
    for name in OF_CARE:
        assert (state / "utility" / name).read_bytes()[:60] == carried[name][:60], "what an unpacked bundle puts there"
    folder = controller / STATE[1:] / "street"
    folder.mkdir(parents=True)
    shutil.copy("copy/gateway.db", folder)
    followed(["sudo commonwatt site unpack street.bundle --authority FINGERPRINT"], controller)
    assert read_toml(folder / "gateway.toml")["gateway"]["head_end"] == "utility.example:8883"
    assert BATTERY["meter"]["source"] in (folder / "adapter.toml").read_text()
    with closing(open_checked(folder / "gateway.db", now())[0]):
        pass
    # PostgreSQL when it is time.
    change('database = "sqlite:///utility.db"\n', "")
    followed(["commonwatt site init", "commonwatt site pack utility"], tmp_path / "none")
    assert "commonwatt-backup.timer" not in followed(UTILITY[-1:], machine)
    assert read_toml(state / "utility/utility.toml")["utility"]["database"].startswith("postgresql")
    assert AFTER == ['sudo -u postgres psql commonwatt -c "REASSIGN OWNED BY you TO commonwatt"']  # as test_move
