"""A real Slurm of several nodes on one machine: namespaces that die with the process that asked for them.

    with Cluster(Path("build/slurm/root"), nodes=4) as cluster:
        print(cluster.run("sinfo").stdout)

Each node has its own host name, address, /tmp, /dev/shm and process tree, and MPI between them goes over TCP. The
whole lives in mount, pid, net, uts and ipc namespaces: as root, without systemd, two clusters at a time.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from able import NAMESPACES

BOX = Path(__file__).resolve().parent / "box"
HOME = Path("/var/tmp")
PREFIX = "hvd_adam-slurm-"
_NO_ACCOUNTS = "AccountingStorageType=accounting_storage/none"
_ACCOUNTED = (
    "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=ctl\n"
    "AccountingStoragePass={folder}/munge/socket\nJobAcctGatherType=jobacct_gather/none"
)
PATIENCE = 20.0  # seconds until all nodes must be idle


class Cluster:
    """A context within which a cluster runs.

    Args:
        root: where Debian's packages were unpacked.
        nodes: 1 to 50.
        cpus: of each node, as Slurm counts them.
        accounting: whether slurmdbd keeps an account of jobs, so that sacct answers.
        shared: folders under /tmp that all nodes see; all else outside /tmp is shared.
    """

    def __init__(
        self, root: Path, nodes: int = 4, cpus: int = 4, shared: Sequence[Path] = (), accounting: bool = False
    ) -> None:
        self.root, self.nodes, self.cpus, self.accounting = root.resolve(), nodes, cpus, accounting
        self.shared = [Path(path).resolve() for path in shared]
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=HOME))
        self._box: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        self._write_files()
        self._box = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", BOX / "init.sh", self.folder, str(self.nodes), self.root],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log" / "init").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            self.wait_until_idle()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends every process of the cluster and removes its folder."""
        if self._box is not None:
            inner = self._inner(self._box.pid)
            if inner:
                os.kill(inner, signal.SIGKILL)  # the first process of its namespace: all others end with it
            self._box.kill()
            self._box.wait()
            self._box = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, *command: str | Path, node: str | None = None, where: Path | None = None, timeout: float = 60, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the controller, which is the login node too, or on a node.

        Args:
            more: environment variables beside those of `environment`.
        """
        return subprocess.run(
            [*self.enter(node, where), *map(str, command)],
            env={**self.environment(), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Jobs are taken, and start only afterwards."""
        self.run("scontrol", "update", "PartitionName=main", "State=DOWN")
        try:
            yield
        finally:
            self.run("scontrol", "update", "PartitionName=main", "State=UP")

    def power_off(self, node: str) -> None:
        """A node loses its power: all its processes end at once."""
        os.kill(int(self.enter(node)[2]), signal.SIGKILL)

    def power_on(self, node: str) -> None:
        """Starts it again, with an empty /tmp."""
        self.run("sh", BOX / "power_on.sh", self.folder, node)

    def start_slurmd(self, node: str) -> None:
        """A node's slurmd again, after it was killed and nothing else there was."""
        done = self.run("sh", "-c", f'slurmd -N {node} -d "$(command -v slurmstepd)"', node=node, where=Path("/"))
        if done.returncode:
            raise RuntimeError(f"slurmd on {node}: {done.stderr.strip()}")

    def enter(self, node: str | None = None, where: Path | None = None) -> list[str]:
        """The words before a command that make it run inside."""
        assert self._box is not None, "the cluster is not running"
        outer = self._box.pid if node is None else self._outside(int((self.folder / "pids" / node).read_text()))
        inner = self._inner(outer)
        if not inner:
            raise RuntimeError(f"{node or 'the controller'} is not running")
        return ["nsenter", "-t", str(inner), "-m", "-u", "-i", "-n", "-p", f"--wd={where or Path.cwd()}"]

    def environment(self) -> dict[str, str]:
        """Of everything inside: Slurm's programs on PATH, its libraries, its config; nothing inherited from a job."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "OMPI_", "PMIX_"))}
        library = self.root / "usr/lib/x86_64-linux-gnu"
        paths = [str(self.folder / "bin"), *(str(self.root / part) for part in ("usr/bin", "usr/sbin", "bin", "sbin"))]
        return {
            **kept,
            "PATH": os.pathsep.join([*paths, "/usr/sbin", "/sbin", kept.get("PATH", "/usr/bin:/bin")]),
            "LD_LIBRARY_PATH": f"{library}:{library / 'slurm-wlm'}",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
        }

    def _write_files(self) -> None:
        for name in ("log", "munge", "state", "pids", "hold", "tmp", "spool", "ssh", "bin"):
            (self.folder / name).mkdir()
        (self.folder / "munge" / "key").write_bytes(os.urandom(128))
        (self.folder / "munge" / "key").chmod(0o600)
        names = [f"n{k}" for k in range(1, self.nodes + 1)]
        for name in names:
            (self.folder / "tmp" / name).mkdir()
            (self.folder / "spool" / name).mkdir()
        hosts = ["127.0.0.1 localhost", "10.77.0.254 ctl", *(f"10.77.0.{k + 1} {n}" for k, n in enumerate(names))]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        (self.folder / "resolv.conf").write_text("")
        (self.folder / "shared").write_text("".join(f"{path}\n" for path in self.shared))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self._fill(BOX / "slurm.conf", self.folder / "slurm.conf")
        if self.accounting:
            self._fill(BOX / "slurmdbd.conf", self.folder / "slurmdbd.conf")
            (self.folder / "slurmdbd.conf").chmod(0o600)  # it refuses one that others may read
            (self.folder / "database").mkdir()
        self._write_ssh()

    def _write_ssh(self) -> None:
        """A throw-away key with which every node reaches every other."""
        for name in ("ssh_config", "sshd_config"):
            self._fill(BOX / name, self.folder / "ssh" / name)
        key = self.folder / "ssh" / "key"
        keygen = [self.root / "usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]
        subprocess.run(keygen, check=True, capture_output=True, env=self.environment())
        ssh = self.folder / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {self.root}/usr/bin/ssh -F "{self.folder}/ssh/ssh_config" "$@"\n')
        ssh.chmod(0o755)
        users = Path("/etc/passwd").read_text()
        own = "" if "sshd:" in users else "sshd:x:109:65534::/run/sshd:/usr/sbin/nologin\n"
        (self.folder / "passwd").write_text(users + own)

    def _fill(self, template: Path, target: Path) -> None:
        text = template.read_text()
        for key, value in {
            "folder": str(self.folder),
            "nodes": str(self.nodes),
            "cpus": str(self.cpus),
            "plugins": str(self.root / "usr/lib/x86_64-linux-gnu/slurm-wlm"),
            "accounting": _ACCOUNTED.format(folder=self.folder) if self.accounting else _NO_ACCOUNTS,
        }.items():
            text = text.replace(f"@{key}@", value)
        target.write_text(text)

    def wait_until_idle(self) -> None:
        """Returns when every node is up and has nothing to do."""
        deadline = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < deadline:
            assert self._box is not None
            if self._box.poll() is not None:
                raise RuntimeError(
                    f"the cluster ended at its start: {(self.folder / 'log' / 'init').read_text()[-2000:]}"
                )
            if (self.folder / "up").exists():
                shown = self.run("sinfo", "-h", "-p", "main", "-o", "%T %D")
                said = shown.stdout + shown.stderr
                if shown.stdout.strip() == f"idle {self.nodes}":
                    return
            time.sleep(0.1)
        logs = "".join(f"\n{f.name}: {f.read_text()[-1500:]}" for f in sorted((self.folder / "log").iterdir()))
        raise RuntimeError(f"the nodes were not idle within {PATIENCE:g} s: {said}{logs}")

    def _inner(self, outer: int) -> int:
        """The first process inside the namespaces that `outer`, an unshare, has made; 0 where there is none yet."""
        try:
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def _outside(self, inside: int) -> int:
        """The number that a process of the box has out here."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                numbers = next(x for x in status.read_text().splitlines() if x.startswith("NSpid:")).split()[1:]
            except (OSError, StopIteration):
                continue
            if len(numbers) == 2 and int(numbers[1]) == inside and self._belongs(int(numbers[0])):
                return int(numbers[0])
        raise RuntimeError(f"process {inside} of the box is not running")

    def _belongs(self, pid: int) -> bool:
        assert self._box is not None
        inner = self._inner(self._box.pid)
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{inner}/ns/pid")


def sweep() -> None:
    """Removes folders whose cluster has ended with a process that could not remove them itself."""
    for folder in HOME.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
