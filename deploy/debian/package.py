"""A package: control files and a tree, as one file by dpkg-deb; the same input gives the same bytes."""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.debian.environment import complete, settle
from deploy.debian.wheels import PROJECT, SITE_PACKAGES, project_table

DEPLOY = PROJECT / "deploy"
SYSCTL = "60-commonwatt.conf"  # the kernel's settings of a controller

_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
_SCHEMAS = {
    "GATEWAY_SCHEMA": ("gateway/store/tables.py", "SCHEMA_VERSION"),
    "ADAPTER_SCHEMA": ("commonwatt/device/tables.py", "SCHEMA"),
}
"""By placeholder of the scripts: the module and the name of a store's newest schema."""

# Python 3.11 or 3.13, as ``PYTHONS``; Debian's dependencies know no other way to say it.
_PYTHON = ("python3 (>= 3.11)", "python3 (<< 3.12) | python3 (>= 3.13)", "python3 (<< 3.14)")
_NEEDS = (*_PYTHON, "libc6 (>= 2.36)", "libgcc-s1", "libstdc++6", "systemd", "tzdata", "zlib1g")


@dataclass(frozen=True, kw_only=True)
class Release:
    """What packages are made of, and for."""

    version: str  # their version
    architecture: str  # Debian's name of the processor
    epoch: int  # the modification time of all files, epoch seconds
    compression: tuple[str, ...] = ("-Zxz",)  # dpkg-deb's options


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package to make."""

    name: str  # its name
    extras: str  # the extras of the project that it has, separated by commas
    other: str  # the package that it can't be beside: both have the same paths
    recommends: tuple[str, ...]  # packages that are installed with it unless unwanted
    without: tuple[str, ...] = ()  # the project's folders that it does not have; their commands say which package has
    describes: str  # its description, one line

    def control(self, release: Release, installed_kib: int) -> str:
        """Return the control file."""
        fields = {
            "Package": self.name,
            "Version": release.version,
            "Architecture": release.architecture,
            "Maintainer": "Commonwatt",
            "Installed-Size": str(installed_kib),
            "Depends": ", ".join(_NEEDS),
            "Recommends": ", ".join(self.recommends),
            "Conflicts": self.other,
            "Section": "misc",
            "Priority": "optional",
            "Description": self.describes,
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


CONTROLLER = Package(
    name="commonwatt-controller",
    extras="adapter,broker,gateway,sparkplug",
    other="commonwatt-utility",
    recommends=("systemd-timesyncd | time-daemon",),
    without=("commonwatt/demo", "commonwatt/street", "meter_sim", "scenarios", "utility"),
    describes="Commonwatt on a microgrid's controller: broker, gateway, adapter",
)

UTILITY = Package(
    name="commonwatt-utility",
    extras="adapter,broker,gateway,utility",
    other="commonwatt-controller",
    recommends=("mosquitto", "postgresql", "systemd-timesyncd | time-daemon"),
    describes="Commonwatt at the utility: head-end broker, service, backups; or one's own street with all parts",
)


def version() -> str:
    """Return the project's version as Debian writes it: one in development comes before the release."""
    return str(project_table()["project"]["version"]).replace(".dev", "~dev")


def finish_tree(package: Package, root: Path, epoch: int) -> None:
    """Make a package's files of a root folder that has the wheels' files: environment, units, user, licence.

    Each package has all units, as an installation by pip has: `site unpack` chooses those of the place.
    """
    shutil.copytree(DEPLOY / "systemd", root / "usr/lib/systemd/system")
    _install(DEPLOY / "sysusers" / "commonwatt.conf", root / "usr/lib/sysusers.d/commonwatt.conf")
    if package is CONTROLLER:
        _want_units(root)
        _install(DEPLOY / "sysctl" / SYSCTL, root / "usr/lib/sysctl.d" / SYSCTL)
    else:
        shutil.copytree(DEPLOY / "pgbackrest", root / "usr/share/commonwatt/deploy/pgbackrest")
    for folder in package.without:
        shutil.rmtree(root / SITE_PACKAGES / folder)
    _install(PROJECT / "LICENSE", root / "usr/share/doc" / package.name / "copyright")
    complete(root, epoch)


def _want_units(root: Path) -> None:
    """Have a controller's machine join, upgrade and unpack from boot on; these units are root's, without settings."""
    wants = root / "usr/lib/systemd/system/multi-user.target.wants"
    wants.mkdir()
    own = ("join-commonwatt.service", "upgrade-commonwatt.path", "upgrade-commonwatt.service", "unpack-commonwatt.path")
    for unit in own:
        (wants / unit).symlink_to(f"../{unit}")
    (root / "var/lib/commonwatt-upgrade").mkdir(parents=True)


def build(package: Package, release: Release, root: Path, folder: Path) -> Path:
    """Add control files to a finished tree, and write its package into ``folder``, without root; return its path."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    sums = "".join(f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(root)}\n" for p in files)  # noqa: S324 - dpkg's
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(package.control(release, _installed_kib(root)))
    (control / "md5sums").write_text(sums)
    for name in _SCRIPTS:
        (control / name).write_text(_script(name, release.version))
    settle(control, release.epoch)
    for name in _SCRIPTS:
        (control / name).chmod(0o755)
    os.utime(root, (release.epoch, release.epoch))
    path = folder / f"{package.name}_{release.version}_{release.architecture}.deb"
    # An interrupted build leaves an earlier package whole, and no half one under its name.
    unfinished = path.with_name(f"{path.name}.unfinished")
    words = ["dpkg-deb", "--root-owner-group", *release.compression, "--build", str(root), str(unfinished)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(release.epoch)}
    try:
        subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
        return unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _installed_kib(root: Path) -> int:
    """Return the installed size as Debian counts it: each file in whole KiB, everything else one."""
    parts = [path.lstat() for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return sum(-(-part.st_size // 1024) or 1 for part in parts) + sum(path.is_dir() for path in root.rglob("*"))


def _script(name: str, version: str) -> str:
    text = (DEPLOY / "debian" / "scripts" / name).read_text().replace("@VERSION@", version)
    for placeholder, (module, constant) in _SCHEMAS.items():
        match = re.search(rf"^{constant} = (\d+)\b", (PROJECT / module).read_text(), re.MULTILINE)
        assert match is not None, module
        text = text.replace(f"@{placeholder}@", match[1])
    return text


def _install(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
