"""Fetches Debian's Slurm into a folder: nothing is installed, and no root is needed.

    python tests/slurm/packages.py build/slurm

The packages that are missing on this machine, with what they need, are downloaded by apt and unpacked there. A
Slurm that the machine has is left alone, and not used: the tests want one version.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WANTED = (
    "slurmd", "slurmctld", "slurm-client", "slurm-wlm-basic-plugins", "slurmdbd", "munge", "libpmix2",
    "iproute2", "openssh-server", "mariadb-server-core",
)  # fmt: skip
STAMP = "unpacked.txt"


def main(folder: Path) -> int:
    """Downloads and unpacks; returns an exit code."""
    wanted = "\n".join(WANTED)
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return 0
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    try:
        names = _with_needs()
        _say(f"{len(names)} packages of Debian's Slurm, as a rule 20 s")
        _run("apt-get", "download", *names, where=packages)
    except (OSError, subprocess.CalledProcessError) as error:
        return _fail(error)
    for package in sorted(packages.glob("*.deb")):
        _run("dpkg", "-x", str(package.resolve()), str((folder / "root").resolve()))
        package.unlink()
    for program in (folder / "root" / "usr").glob("*bin/*-wlm"):  # Debian's own links are made by its installer
        link = program.with_name(program.name.removesuffix("-wlm"))
        link.unlink(missing_ok=True)
        link.symlink_to(program.name)
    _tell_where_pmix_is(folder / "root" / "usr/lib/x86_64-linux-gnu")
    stamp.write_text(wanted)
    return 0


def _tell_where_pmix_is(libraries: Path) -> None:
    """Slurm's plugin opens PMIx by a path that was compiled in: it is made to look in /run, which a cluster owns."""
    compiled_in = b"/usr/lib/x86_64-linux-gnu/pmix2/lib\0"
    for plugin in (libraries / "slurm-wlm").glob("mpi_pmix_v*.so"):
        plugin.write_bytes(plugin.read_bytes().replace(compiled_in, b"/run/pmix".ljust(len(compiled_in), b"\0")))
    link = libraries / "pmix2/lib/libpmix.so"
    link.unlink(missing_ok=True)
    link.symlink_to("libpmix.so.2")


def _with_needs() -> list[str]:
    """The wanted packages, and of what they need what the machine lacks."""
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        _run("apt-get", "update", "-qq")
    shown = _run("apt-get", "install", "--simulate", "-y", "--no-install-recommends", *WANTED)
    missing = [line.split()[1] for line in shown.splitlines() if line.startswith("Inst ")]
    return sorted({*missing, *WANTED})


def _run(*command: str, where: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=where, env=environment).stdout


def _fail(error: Exception) -> int:
    said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
    _say(f"Debian's Slurm cannot be fetched: {said[-1] if said else error}")
    _say("The tests in tests/slurm need it. On Debian or Ubuntu, as root: apt-get update; then: make slurm")
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"slurm: {text}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
