"""What a broker makes of certificates: only what its authority issued, that has not expired and was not revoked."""

import ssl
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.connect import AdmissionError, ConnectRefusal
from broker.embedded import EmbeddedBroker
from broker.metrics import BrokerMetrics
from broker.packets import Cut
from broker.tls import BrokerTls, Files
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Purpose
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import ClientTls
from harness.care.certificates import DAY_S, authority, certificate, now

NAMES = ("r001", "r002")

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.sampled_from(NAMES), st.sampled_from([DAY_S, -10])),
        st.tuples(st.just("revoke"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("renew"), st.just(""), st.just(0)),
    ),
    max_size=8,
)


class Shown:
    """A stream's writer, as far as certificates are looked at."""

    def __init__(self, peer: object, context: ssl.SSLContext) -> None:
        self._known = {"peercert": peer, "ssl_object": Mock(context=context)}

    def get_extra_info(self, name: str) -> object:
        return self._known[name]

    def is_closing(self) -> bool:
        return False


class Listener:
    """A broker's TLS, with handshakes in memory."""

    def __init__(self, made: Authority) -> None:
        broker = certificate(made, Purpose.BROKER, "b", file="b/broker.pem")
        self.ca = broker.with_name("ca.pem")
        self.files = Files(broker, self.ca, broker.with_name("revoked.pem"))
        self.metrics = BrokerMetrics()
        self.tls = BrokerTls(self.files, self.metrics)
        self.tls.load()

    def judge(self, device: Path) -> str | ConnectRefusal:
        """Return whose certificate it is, or why it is refused."""
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ClientTls(self.ca, device).context().wrap_bio(down, up, server_hostname="127.0.0.1")
        server = self.tls._context.wrap_bio(up, down, server_side=True)
        try:
            for _ in range(4):
                for side in (client, server):
                    try:
                        side.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
        except ssl.SSLError:
            return ConnectRefusal.CERTIFICATE
        return self.proved(server.getpeercert())

    def proved(self, peer: object, context: ssl.SSLContext | None = None) -> str | ConnectRefusal:
        try:
            return self.tls.proved(cast("Any", Shown(peer, context or self.tls._context))) or ""
        except AdmissionError as refused:
            return refused.reason


@settings(max_examples=10, deadline=None)
@given(steps=STEPS)
def test_only_what_was_issued_and_has_neither_expired_nor_been_revoked_gets_in(
    steps: list[tuple[str, str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        made = authority(Path(folder) / "out")
        listener = Listener(made)
        expected: list[tuple[Path, str, str | ConnectRefusal]] = []
        for number, (step, name, lifetime_s) in enumerate(steps):
            if step == "issue":
                path = certificate(made, Purpose.DEVICE, name, lifetime_s=lifetime_s, file=f"{number}/device.pem")
                expected.append((path, name, name if lifetime_s > 0 else ConnectRefusal.EXPIRED))
            elif step == "revoke":
                made.revoke(name, "lost", now())
                gone = [(p, n, ConnectRefusal.REVOKED if n == name else v) for p, n, v in expected]
                expected = list(gone)
            else:
                renewed = {made.out / entry.file for entry in made.renew(now(), 0)}
                # What had expired is valid now, but only as long as it would have been: these ended before they began.
                assert renewed <= {made.out / "b/broker.pem"} | {
                    p for p, _, v in expected if v is ConnectRefusal.EXPIRED
                }
            listener.tls.refresh()
        assert [listener.judge(path) for path, *_ in expected] == [verdict for *_, verdict in expected]


def test_a_microgrids_broker_accepts_a_certificate_for_half_a_year_after_its_end_and_the_head_end_does_not(
    tmp_path: Path,
) -> None:
    made = authority(tmp_path / "out", at=now() - 400 * DAY_S)
    head_end, own = Listener(made), Listener(made)
    own.tls = BrokerTls(replace(own.files, ended_s=180 * DAY_S), own.metrics)
    own.tls.load()
    # The gateway of 120 days without the utility: its certificate of 90 days ended 30 days ago.
    at = now() - 120 * DAY_S
    path = certificate(made, Purpose.DEVICE, "r001", lifetime_s=90 * DAY_S, at=at)
    assert (own.judge(path), head_end.judge(path)) == ("r001", ConnectRefusal.EXPIRED)
    old = certificate(made, Purpose.DEVICE, "r002", lifetime_s=90 * DAY_S, at=now() - 271 * DAY_S)
    assert own.judge(old) == ConnectRefusal.EXPIRED
    made.revoke("r001", "stolen", now())
    own.tls.refresh()
    assert own.judge(path) == ConnectRefusal.REVOKED


def test_another_authoritys_certificate_does_not_get_in(tmp_path: Path) -> None:
    listener = Listener(authority(tmp_path / "out"))
    assert (
        listener.judge(certificate(authority(tmp_path / "other"), Purpose.DEVICE, "r001")) is ConnectRefusal.CERTIFICATE
    )


@pytest.mark.parametrize(
    "peer",
    [
        None,
        {},
        {"subject": ()},
        {"subject": ((("organizationName", "r001"),),)},
        {"subject": ((("commonName", "r001"), ("commonName", "r002")),)},
    ],
)
def test_a_certificate_that_names_nobody_proves_nothing(tmp_path: Path, peer: object) -> None:
    assert Listener(authority(tmp_path / "out")).proved(peer) is ConnectRefusal.CERTIFICATE


def test_a_torn_list_of_revocations_leaves_the_one_before(tmp_path: Path) -> None:
    made = authority(tmp_path / "out")
    listener = Listener(made)
    device = certificate(made, Purpose.DEVICE, "r001")
    made.revoke("r001", "lost", now())
    listener.tls.refresh()
    assert listener.judge(device) is ConnectRefusal.REVOKED
    assert listener.files.clients_revoked is not None
    other = authority(tmp_path / "other")
    for content in ("", "nonsense", (other.out / "authority" / "revoked.pem").read_text()):
        listener.files.clients_revoked.write_text(content)
        listener.tls.refresh()
        assert listener.judge(device) is ConnectRefusal.REVOKED
    assert listener.metrics.value("commonwatt_broker_tls_file_errors_total") == 3
    with pytest.raises(ConfigError, match=r"revoked\.pem: the list of revocations is not signed by this authority"):
        BrokerTls(listener.files, BrokerMetrics()).load()


def test_those_connected_are_judged_even_if_the_look_at_the_files_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(authority(tmp_path / "out"))
    broker = EmbeddedBroker("127.0.0.1:0", tmp_path / "devices.json", listener.metrics, tls=listener.files)
    writer = Mock()
    broker._connections["r001"] = Mock(stream=Shown(None, listener.tls._context), writer=writer)
    monkeypatch.setattr(BrokerTls, "refresh", Mock(side_effect=ValueError("a fault of ours")))
    with pytest.raises(ValueError, match="a fault of ours"):
        broker._check()
    writer.cut.assert_called_once_with(Cut.EXPIRED, "no certificate")


def test_a_connection_that_closes_does_not_keep_the_others_from_being_judged(tmp_path: Path) -> None:
    listener = Listener(authority(tmp_path / "out"))
    broker = EmbeddedBroker("127.0.0.1:0", tmp_path / "devices.json", listener.metrics, tls=listener.files)
    # As asyncio answers for a TLS connection that is closed twice.
    gone = Mock(is_closing=lambda: True, get_extra_info=Mock(side_effect=AttributeError))
    writer = Mock()
    broker._connections["r001"] = Mock(stream=gone)
    broker._connections["r002"] = Mock(stream=Shown(None, listener.tls._context), writer=writer)
    broker._cut_unproved()
    writer.cut.assert_called_once_with(Cut.EXPIRED, "no certificate")


def test_where_no_certificates_are_asked_for_none_is_proved(tmp_path: Path) -> None:
    listener = Listener(authority(tmp_path / "out"))
    tls = BrokerTls(Files(listener.files.certificate), BrokerMetrics())
    tls.load()
    assert tls.proved(cast("Any", Shown(None, tls._context))) is None
