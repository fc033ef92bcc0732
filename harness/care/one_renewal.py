"""Renew one certificate file, for a recorder of its file operations: ``python -m harness.care.one_renewal``."""

import sys
from pathlib import Path

from commonwatt.identity.authority import EnrolmentAuthority
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.renewing import CertificateFile


def main(path: str, ca: str, authority: str, now: str, ends: str) -> None:
    """Renew ``path`` by a town's enrolment authority; then, as ``ends`` says, ``confirm`` or ``go_back``."""
    file = CertificateFile(Path(path), Path(ca), "r001")
    request = str(file.request()["request"]).encode()
    file.take(
        {
            "certificate": EnrolmentAuthority.load(Path(authority)).issue(
                request, Purpose.DEVICE, "r001", (), int(now), 90
            )
        }
    )
    if ends == "confirm":
        file.confirm()
    else:
        assert file.go_back(int(now))


if __name__ == "__main__":
    main(*sys.argv[1:])
