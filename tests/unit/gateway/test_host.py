"""A host of several controllers: its files, its controllers that fail, and what it shows of them."""

import asyncio
from pathlib import Path

import pytest

import gateway.host.host as module
from commonwatt.config.files import load_settings
from commonwatt.config.settings import GatewaySettings, HostSettings
from commonwatt.doctor.checks import Level
from commonwatt.identity.devices import save_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import wall_clock
from commonwatt.runtime.metric_families import registry_of
from commonwatt.runtime.service import only_one
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.registry import RegisteredController, Registry, save_registry
from gateway.host.doctor import judge
from gateway.host.host import HostedController, host_metrics, hosted, status
from gateway.store.store import Store
from harness.network.waiting import become, free_port
from harness.surroundings.gateway import registered


def make(folder: Path, *names: str, **more: str) -> Path:
    """Write the files of a host and of its controllers; ``more`` are further lines of a controller's file."""
    for number, name in enumerate(names, 1):
        own = folder / name
        own.mkdir()
        save_tokens(own / "gateway-tokens.json", {name: "a token"})
        meters = (registered(number),)
        save_registry(
            own / "registry.json",
            Registry(microgrid=name, controller=RegisteredController(number=number, address="10.0.0.1"), meters=meters),
        )
        nowhere = f'broker = "127.0.0.1:{free_port()}"\nhead_end = "127.0.0.1:{free_port()}"\n'
        (own / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{name}"\n{nowhere}{more.get(name, "")}\n')
    (folder / "host").mkdir()
    config = folder / "host" / "host.toml"
    config.write_text(f"[host]\ncontrollers = {list(names)}\n")
    return config


def files_of(config: Path) -> dict[str, GatewaySettings]:
    return hosted(config, load_settings(config, "host", HostSettings))


def test_each_controller_has_its_own_file_as_it_would_run_alone(tmp_path: Path) -> None:
    found = files_of(make(tmp_path, "r001", "r002"))
    assert {name: one.store for name, one in found.items()} == {
        name: tmp_path / name / "gateway.db" for name in ("r001", "r002")
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('store = "../r001/gateway.db"', "is the store of r001 too"),
        ('clock = "clock.json"', "its clock is another file than the clock of"),
    ],
)
def test_controllers_that_can_not_share_a_process_are_refused(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        files_of(make(tmp_path, "r001", "r002", r002=line))


def test_a_file_of_another_controller_is_refused(tmp_path: Path) -> None:
    config = make(tmp_path, "r001", "r002")
    (tmp_path / "r002" / "gateway.toml").write_text('[gateway]\nmicrogrid = "r009"\n')
    with pytest.raises(ConfigError, match=r"is of r009, but .* names it for r002"):
        files_of(config)


def controllers(config: Path) -> dict[str, HostedController]:
    watchdog = Watchdog(Notifier({}))
    return {name: HostedController(one, wall_clock(), watchdog, 0.0) for name, one in files_of(config).items()}


def test_a_controller_that_can_not_start_is_tried_again_while_the_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    each = controllers(make(tmp_path, "r001", "r002"))
    registry = tmp_path / "r002" / "registry.json"
    text = registry.read_text()
    registry.unlink()

    async def play() -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(one.keep(stop)) for one in each.values()]
        await become(lambda: each["r001"].state == "running" and each["r002"].stops > 2)
        lines = status(each)["controllers"]
        assert isinstance(lines, dict)
        assert lines["r001"]["state"] == "running"
        assert (lines["r002"]["state"], str(registry) in lines["r002"]["why"]) == ("stopped", True)
        registry.write_text(text)
        await become(lambda: each["r002"].state == "running")
        with (
            pytest.raises(ConfigError, match="another gateway"),
            only_one(each["r002"].settings.store, "another gateway"),
        ):
            pass
        stop.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())
    assert each["r001"].stops == 0
    for one in each.values():  # The stores are closed: each can be used again.
        with only_one(one.settings.store, "another gateway"):
            pass


def test_a_controller_that_ends_while_it_begins_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each further try has one more connection to the broker, and one more open store."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    opened: list[Store] = []
    open_store = Store.open

    def opening(path: Path) -> Store:
        opened.append(open_store(path))
        return opened[-1]

    monkeypatch.setattr(Store, "open", opening)
    # Its own registry is there; the registry of the microgrid that it collects is missing.
    (one,) = controllers(make(tmp_path, "r001", r001='collects = ["r002"]')).values()

    async def play() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(one.keep(stop))
        await become(lambda: one.stops > 2)
        stop.set()
        await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
    assert "r002" in one.why
    assert len(opened) > 2
    assert all(store.closed for store in opened)


def test_metrics_name_the_controllers(tmp_path: Path) -> None:
    each = controllers(make(tmp_path, "r001", "r002"))
    each["r002"].stops = 3
    registry = registry_of(lambda: host_metrics(each))
    assert registry.get_sample_value("commonwatt_host_up", {"controller": "r001"}) == 0
    assert registry.get_sample_value("commonwatt_host_stops_total", {"controller": "r002"}) == 3
    assert registry.get_sample_value("commonwatt_host_lag_seconds", {"controller": "r002"}) == 0


def test_the_verdict_names_what_is_stopped_and_what_is_slow() -> None:
    line = {"stops": 0, "lag_s": 0.0, "why": ""}
    good = {"r001": line | {"state": "running"}, "r002": line | {"state": "running"}}
    assert [(found.level, found.found) for found in judge({"controllers": good})] == [(Level.GOOD, "2 controllers run")]
    mixed = good | {
        "r002": line | {"state": "stopped", "why": "no space"},
        "r003": line | {"state": "slow", "lag_s": 9.0},
    }
    assert [(found.level, found.check, found.found) for found in judge({"controllers": mixed})] == [
        (Level.BAD, "r002", "stopped: no space"),
        (Level.WARNING, "r003", "its work is 9 s late"),
    ]
