"""Meters with certificates renew them; their gateway passes the requests on to the utility (docs/security.md)."""

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from commonwatt.identity.renewing import CertificateFile
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from commonwatt.protocol.topics import CERTIFICATES, meter_up
from commonwatt.runtime.clock import machine_s

FIRST_LOOK_S, LOOK_S = 10.0, 3_600.0  # real seconds until the first look at the certificates, and between two

log = logging.getLogger(__name__)


class MeterRenewals:
    """The certificate files of one program's meters.

    Args:
        links: Each meter's connections, by broker.
    """

    def __init__(self, microgrid: MicrogridId, links: Mapping[MeterId, Mapping[str, MqttLink]]) -> None:
        self._microgrid = microgrid
        self._links = links
        self._files: dict[MeterId, CertificateFile] = {}

    def add(self, meter: MeterId, certificate: Path, tls: ClientTls) -> None:
        """Renew a meter's certificate from now on, and its revocation lists with it."""
        self._files[meter] = CertificateFile(certificate, tls.ca, str(meter), tls.revoked)

    async def run(self) -> None:
        """Look at each certificate, and again, until cancelled."""
        wait_s = FIRST_LOOK_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = LOOK_S
            for meter in self._files:
                self.look(meter, machine_s())

    def look(self, meter: MeterId, now: EpochSeconds) -> None:
        """Ask for a new certificate when one is due; keep one that has connected since, or go back to the old one."""
        file, links = self._files[meter], self._links[meter].values()
        try:
            file.settle()
            if not file.is_on_trial:
                if now >= file.due():
                    topic, request = meter_up(self._microgrid, meter, CERTIFICATES), file.request()
                    for link in [link for link in links if link.connected][:1]:
                        link.publish(Publish(topic, json.dumps(request).encode()))
            elif any(link.is_current() for link in links):
                file.confirm()
            elif file.go_back(now):
                log.warning("%s: no connection was made with the new certificate: the old one is used", file.path)
        except (ConfigError, OSError) as error:
            log.warning("%s: not renewed: %s", file.path, error)

    def answered(self, meter: MeterId, payload: bytes) -> None:
        """Put an answered certificate in place."""
        try:
            self._files[meter].take(json.loads(payload))
        except (KeyError, AttributeError, ValueError, RecursionError, ConfigError, OSError) as error:
            log.warning("meter %d: the answer is no certificate of it: %s", meter, error)
