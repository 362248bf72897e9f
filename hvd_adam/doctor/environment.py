"""The facts that the checks judge: values only, gathered once by `gather`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that hvd_adam asks for: its bounds (">=8.1,<9"), and the version that is installed."""

    name: str
    bounds: str
    installed: str | None


@dataclass(frozen=True, slots=True)
class Software:
    """Versions, as the packages' own files state them; None where a package is not installed."""

    python: str
    requirements: tuple[Requirement, ...] = ()
    torch: str | None = None  # torch/version.py: what an import gets, build included ("2.15.0+cu132")
    torch_installed: str | None = None  # the version that pip knows
    torch_cuda: str | None = None  # the CUDA that torch was built with
    torch_fused_adam: bool | None = (
        None  # offers the fused kernel with the arguments that we pass; None: not to be seen
    )
    torchvision: str | None = None
    torchvision_wants: str = ""  # its bounds on torch
    horovod: str | None = None
    horovod_built_against: str | None = None  # torch's version when Horovod was compiled
    horovod_extension: str | None = None  # file name of its compiled part for torch
    horovod_extension_fits: bool = False  # that file is for this Python
    mpi4py: str | None = None
    numpy: str | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """A libmpi: the name asked for, the file that the loader takes, its own version ("Open MPI 4.1.8")."""

    soname: str
    path: str | None
    version: str | None
    trouble: str | None = None  # why it could not be loaded


@dataclass(frozen=True, slots=True)
class Program:
    """An executable, and what it says of its version."""

    path: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Mpi:
    """Who is linked with which MPI, and what starts ranks."""

    horovod: Library | None = None
    horovod_nccl: bool = False
    mpi4py: Library | None = None
    mpi4py_trouble: str | None = None  # why mpi4py could not be loaded
    mpirun: Program | None = None  # the one that launchers/mpirun starts
    mpirun_by_hand: str | None = None  # the one that a bare `mpirun` starts
    horovodrun: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """This host, this process, and the variables that ranks would inherit."""

    host: str
    address: str | None = None  # what the host's own name resolves to
    root: bool = False
    cores: int = 1
    usable_cores: int = 1  # the affinity of this process
    quota: float | None = None  # cores' worth of time that a container allows
    variables: Mapping[str, str] = field(default_factory=dict)
    interfaces: tuple[str, ...] = ()
    now: float = 0.0  # seconds since 1970
    installed_at: float | None = None  # when the newest package was put here


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs of this host, and the driver's version."""

    names: tuple[str, ...] = ()
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Slurm, as far as it is here; job_id None outside an allocation."""

    srun: str | None = None
    pmi: tuple[str, ...] | None = None  # what srun --mpi=list shows; None: it did not answer
    job_id: str | None = None
    nodes: int = 1
    tasks: int | None = None
    tasks_per_node: str = ""  # Slurm's notation: "4,1(x2)"
    cpus_per_task: int | None = None
    gpus_on_node: str = ""
    step_tasks: int | None = None  # this process is one of so many tasks of an srun
    under_mpirun: bool = False  # this process is a rank of an mpirun


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, and what came of writing one byte into it."""

    path: str
    trouble: str | None = None  # the system's words; None: it worked
    free: int = 0  # bytes
    size: int = 0  # bytes of the whole file system
    kind: str = ""  # of the file system: ext4, nfs4, lustre
    clock_ahead: float = 0.0  # seconds by which the file system's clock is ahead of this host's


@dataclass(frozen=True, slots=True)
class Storage:
    """Where runs, data and temporary files go, and where the software lies."""

    runs: Folder
    data: Folder
    temporary: Folder
    shared_memory: Folder
    software: str = ""
    software_kind: str = ""
    sets: Mapping[str, bool] = field(default_factory=dict)  # data set -> fetched


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one operation, repeated n times: median, first and third quartile."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of two ranks that were started with one engine."""

    engine: str
    command: str
    seconds: float
    code: int | None  # None: it hung and was ended
    reached: str = "nothing"  # the last phase that rank 0 reported
    size: int = 0
    hosts: tuple[str, ...] = ()
    right: bool = False  # the sum was right on every rank
    small: Timing | None = None  # allreduce of 4 B
    large: Timing | None = None  # allreduce of 4 MB
    fused: Mapping[str, bool] = field(default_factory=dict)  # "cpu float32" -> fused kernel works
    lines: tuple[str, ...] = ()  # of its output, where it failed: the first and the last


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that was gathered."""

    software: Software
    mpi: Mpi
    machine: Machine
    gpus: Gpus
    job: Job
    storage: Storage
    trials: tuple[Trial, ...] = ()
