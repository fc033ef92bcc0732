"""The gateway's renewals: due, retried, kept when they connect, back when they do not; clocks that leap."""

import logging
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.care.connection import CareRefused, CareUnreachable
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Purpose, details_of
from commonwatt.model.time import Now, Trust
from commonwatt.network.http_server import HttpServer
from commonwatt.network.tls import ClientTls, stamp
from commonwatt.runtime.files import replace_file
from gateway.care.renewal import (
    AGAIN_S,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    LOOK_S,
    TRIAL_LOOK_S,
    TRIAL_S,
    Renewal,
    renewals_of,
)
from harness.care.certificates import DAY_S, CareTown, now
from harness.care.years import run
from harness.network.mqtt import link_of
from harness.network.waiting import free_port

T = 1_790_000_000


class Controller:
    """A controller whose looks are made at once: hours are literals."""

    def __init__(self, folder: Path) -> None:
        self.town = CareTown(folder, ["r001"], T)
        self.trust = Trust.NETWORK
        self.clock_off_s = 0
        self.connects = True
        self.error: Exception | None = None
        self.asked = 0
        self.renewal = Renewal(self.town.file("r001"), self.post, self.now, lambda: self.connects)

    def now(self) -> Now:
        return Now(self.town.now + self.clock_off_s, self.trust)

    def post(self, path: str, content: dict[str, object]) -> dict[str, object]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.town.post(path, content)

    def look(self, after_s: float = 0) -> float:
        """Look once, that many seconds later; return until when."""
        self.town.now += int(after_s)
        return self.renewal.look(float(self.town.now))

    @property
    def ends(self) -> int:
        return details_of(self.renewal.file.path.read_bytes())[0].ends


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_nothing_is_asked_before_two_thirds_of_the_life(controller: Controller) -> None:
    assert (controller.look(59 * DAY_S), controller.asked) == (LOOK_S, 0)


def test_a_new_certificate_is_kept_once_it_has_connected(controller: Controller) -> None:
    controller.connects = False
    assert controller.look(70 * DAY_S) == TRIAL_LOOK_S
    assert (controller.look(TRIAL_LOOK_S), controller.renewal.file.is_on_trial) == (TRIAL_LOOK_S, True)
    controller.connects = True
    assert controller.look(TRIAL_LOOK_S) == AGAIN_S
    assert (controller.renewal.file.is_on_trial, controller.ends > T + 159 * DAY_S) == (False, True)
    assert (controller.look(AGAIN_S), controller.asked, controller.renewal.results) == (LOOK_S, 1, {"renewed": 1})


def test_without_a_connection_the_old_certificate_comes_back_and_is_renewed_later(controller: Controller) -> None:
    controller.connects = False
    controller.look(70 * DAY_S)
    assert controller.look(TRIAL_S - 1) == TRIAL_LOOK_S
    assert (controller.look(1), controller.ends) == (FIRST_RETRY_S, T + 90 * DAY_S)
    controller.connects = True
    assert controller.look(FIRST_RETRY_S) == TRIAL_LOOK_S
    assert controller.look(TRIAL_LOOK_S) == AGAIN_S
    assert controller.renewal.results == {"went_back": 1, "renewed": 1}


def test_a_restart_within_the_trial_gives_it_its_whole_time(controller: Controller) -> None:
    controller.connects = False
    controller.look(70 * DAY_S)
    controller.renewal = Renewal(controller.renewal.file, controller.post, controller.now, lambda: controller.connects)
    assert controller.look(TRIAL_S) == TRIAL_LOOK_S
    assert controller.look(TRIAL_S) == FIRST_RETRY_S


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (CareUnreachable("no route"), "unreachable"),
        (CareRefused("r001 was revoked"), "refused"),
        (OSError(28, "full"), "failed"),
    ],
)
def test_failures_are_counted_and_tried_again_with_a_growing_pause(
    controller: Controller, error: Exception, result: str
) -> None:
    controller.error = error
    controller.town.now += 70 * DAY_S
    waits = [controller.look() for _ in range(8)]
    assert waits[:4] == [60, 120, 240, 480]
    assert max(waits) == LAST_RETRY_S
    assert controller.renewal.results == {result: 8}


def test_after_120_days_without_the_utility_the_first_answer_renews(controller: Controller) -> None:
    controller.error = CareUnreachable("no route")
    until = T + 120 * DAY_S
    wait_s = 0.0
    while controller.town.now < until:
        wait_s = controller.look(wait_s)
    assert controller.ends < until
    controller.error, controller.connects = None, False
    assert wait_s <= LAST_RETRY_S
    controller.look(wait_s)
    # The old one has ended: it does not come back, however long the connection takes.
    assert controller.look(2 * TRIAL_S) == TRIAL_LOOK_S
    controller.connects = True
    assert (controller.look(TRIAL_LOOK_S), controller.ends > until + 89 * DAY_S) == (AGAIN_S, True)


def test_a_clock_that_started_in_1970_renews_when_there_is_no_connection(controller: Controller) -> None:
    controller.town.now += 100 * DAY_S
    controller.clock_off_s, controller.trust, controller.connects = -controller.town.now, Trust.NONE, False
    assert (controller.look(), controller.asked) == (LOOK_S, 0)
    assert (controller.look(LOOK_S), controller.asked) == (TRIAL_LOOK_S, 1)
    controller.connects = True
    assert controller.look(TRIAL_LOOK_S) == AGAIN_S


def test_a_clock_that_started_in_1970_renews_nothing_while_it_is_connected(controller: Controller) -> None:
    controller.clock_off_s, controller.trust = -controller.town.now, Trust.NONE
    assert [controller.look(LOOK_S) for _ in range(50)] == [LOOK_S] * 50
    assert controller.asked == 0


def test_a_clock_that_leapt_ahead_renews_once_a_day_at_most(controller: Controller) -> None:
    controller.clock_off_s = 300 * DAY_S
    wait_s = 0.0
    while controller.town.now < T + 3 * DAY_S:
        wait_s = controller.look(wait_s)
    assert (controller.asked, set(controller.renewal.results)) == (4, {"renewed"})


def test_a_brokers_certificate_counts_once_the_broker_shows_it(tmp_path: Path) -> None:
    town = CareTown(tmp_path, ["r001"], now() - 300 * DAY_S)
    device, broker = town.file("r001"), town.file("r001", Purpose.BROKER)
    address = f"127.0.0.1:{free_port()}"
    settings = GatewaySettings(
        microgrid="r001",
        broker=address,
        broker_ca=broker.ca,
        head_end_ca=device.ca,
        certificate=device.path,
        care=("127.0.0.1:1",),
    )
    town.now = now()
    _, renewal = renewals_of(settings, lambda: Now(town.now, Trust.NETWORK), lambda: True)
    renewal.post = town.post
    before = tmp_path / "before.pem"
    shutil.copy(broker.path, before)
    assert renewal.look(0) == TRIAL_LOOK_S
    assert renewal.look(1) == TRIAL_LOOK_S, "nothing listens"
    for certificate, wait_s in ((before, TRIAL_LOOK_S), (broker.path, AGAIN_S)):
        server = HttpServer(address, CollectorRegistry(), dict, certificate=certificate)
        server.start()
        assert renewal.look(2) == wait_s
        server.stop()


def test_a_gateway_without_care_renews_nothing(tmp_path: Path) -> None:
    town = CareTown(tmp_path, ["r001"], T)
    file = town.file("r001")
    settings = GatewaySettings(microgrid="r001", head_end_ca=file.ca, certificate=file.path)
    assert not list(renewals_of(settings, lambda: Now(T, Trust.NETWORK), lambda: True))


def test_a_connection_with_the_replaced_certificate_proves_nothing(tmp_path: Path) -> None:
    file = CareTown(tmp_path, ["r001"], T).file("r001")
    link = link_of("127.0.0.1:1", subscribe="x", tls=ClientTls(file.ca, file.path))
    assert not link.is_current()
    link._shown, link.connected = stamp(file.path), True
    assert link.is_current()
    replace_file(file.path, file.path.read_bytes())
    assert not link.is_current()


def test_no_certificate_ends_while_the_utility_can_be_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    figures = run(tmp_path, controllers=3)
    assert figures.results["renewed"] >= 3 * 5
    assert (figures.ended, figures.ended_away, figures.visits) == (0, 1, 0)
    assert figures.longest_s <= 3_600
