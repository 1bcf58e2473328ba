"""A small Debian booted by systemd in a container, for as long as a test needs it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv")
BOOT_SECONDS = 90.0


class MachineError(Exception):
    """The machine did not come up, or a command failed in it; the text is what was printed."""


def why_not() -> str | None:
    """Say why no machine can be booted here, or None where one can."""
    if os.geteuid() != 0:
        return "booting systemd in a container needs root"
    for program in ("debootstrap", "systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def base_system() -> Path:
    """Folder of a minimal Debian or Ubuntu like the host, made once with debootstrap and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamdet-tests"
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    folder = cache / f"{release}-{'-'.join(PACKAGES)}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release, str(partial)]
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        partial.rename(folder)
    return folder


class Machine:
    """Boots the base system; ``run`` runs commands inside of it, and what they write lies in memory until it ends.

    Args:
        log: file for what the machine prints while it boots.
        binds: host folders that show up read-only at the given paths.
    """

    def __init__(self, log: Path, *, binds: dict[Path, str]) -> None:
        self._log = log
        # Nothing of the host's network; a session of its own, so that a Ctrl-C meant for the tests does not reach it.
        command = ["systemd-nspawn", "--quiet", f"--directory={base_system()}", "--volatile=overlay", "--boot"]
        command += ["--private-network", "--register=no", "--keep-unit", "--console=pipe"]
        command += [f"--bind-ro={host}:{inside}" for host, inside in binds.items()]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._leader = self._wait_for_leader()
        self._wait_for_boot()

    def run(self, *command: str, check: bool = True, timeout: float = 120.0, text: str = "") -> str:
        """Run a command inside, with ``text`` on its standard input, and return what it printed.

        Raises:
            MachineError: it failed and ``check`` is set.
        """
        inside = ["nsenter", "-t", str(self._leader), "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        done = subprocess.run(
            [*inside, *command],
            check=False,
            timeout=timeout,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if check and done.returncode != 0:
            raise MachineError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'cat > "$0"', path, text=text)

    def property(self, unit: str, name: str) -> str:
        """One property of a unit, as ``systemctl show`` gives it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def log(self, unit: str, *options: str) -> str:
        """The unit's journal."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *options)

    def close(self) -> None:
        """Pull the plug: what it wrote is gone with it, so there is nothing to shut down in order."""
        os.kill(self._leader, signal.SIGKILL)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()

    def _wait_for_leader(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
            time.sleep(0.1)
        raise self._failed("systemd did not start")

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            state = self.run("systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise self._failed("systemd did not finish booting")

    def _failed(self, what: str) -> MachineError:
        self._process.kill()
        self._process.wait()
        return MachineError(f"{what}:\n{self._log.read_text(errors='replace')[-4000:]}")


def wheels_for(python: str, *, project: Path, folder: Path, pip: Sequence[str]) -> None:
    """Fill ``folder`` with the project's wheel and all it needs, for CPython ``python`` such as ``3.12``."""
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", project], check=True)
    wheel = next(folder.glob("streamdet-*.whl"))
    options = [f"--python-version={python}", "--only-binary=:all:", f"--dest={folder}"]
    subprocess.run([*pip, "download", "--quiet", *options, wheel], check=True)
