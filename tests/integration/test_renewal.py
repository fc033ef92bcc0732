"""A gateway's certificate has ended: the gateway renews it by itself at the utility, and is connected again."""

import shutil
from pathlib import Path

from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Kind
from commonwatt.identity.enrolment_authority import ENROLMENT_FILE
from harness.network.waiting import eventually, free_port
from harness.real.enrolled import certificate, now
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
RENEWALS = 'commonwatt_gateway_renewals_total{{result="{}"}}'


def renewals(site: Site, result: str) -> float:
    return site.metric("r001 gateway", RENEWALS.format(result))


def test_a_gateway_whose_certificate_has_ended_renews_it_and_sends_what_it_kept(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=1, plain_text=False) as site:
        care = f"127.0.0.1:{free_port()}"
        site.add_setting("utility", f'care = "{care}"\ncare_certificate = "../head-end/broker.pem"')
        site.add_setting("r001 gateway", f'care = "{care}"')
        authority = Authority.load(site.folder)
        certificate(authority, Kind.DEVICE, "r001", lifetime_s=-60, file="r001/gateway.pem")
        authority.enrol({"r001": (("r001",), ("127.0.0.1", "localhost"))}, now())
        shutil.copy(site.folder / "authority" / ENROLMENT_FILE, site.folder / "utility")
        site.start(*PARTS)
        refused = 'commonwatt_broker_refused_connects_total{reason="expired"}'
        eventually(lambda: site.metric("head-end", refused) > 0)
        eventually(lambda: renewals(site, "renewed") == 1)
        eventually(lambda: (site.status("r001 gateway") or {})["connected"]["head_end"])
        expires = 'commonwatt_gateway_certificate_expiry_timestamp_seconds{use="mqtt"}'
        eventually(lambda: site.metric("r001 gateway", expires) > now() + 89 * 86_400)
        assert site.metric("utility", 'commonwatt_utility_care_requests_total{path="renew",result="done"}') == 1
        # A revoked one gets no other, and the utility says so in an alarm.
        authority = Authority.load(site.folder)
        certificate(authority, Kind.DEVICE, "r001", lifetime_s=-60, file="r001/gateway.pem")
        authority.revoke("r001", "stolen", now())
        site.stop("r001 gateway")
        site.start("r001 gateway")
        eventually(lambda: renewals(site, "refused") == 1)
        assert "not renewed: device r001" in site.log("r001 gateway")
        alarm = 'commonwatt_utility_alarms{alarm="RenewalRefused",severity="warning"}'
        eventually(lambda: site.metric("utility", alarm) == 1)
        site.stop(*reversed(PARTS))
