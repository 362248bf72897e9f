"""What started this process, read from the environment in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

from hvd_adam.errors import ConfigError

SUMS = ("shared", "direct", "mpi", "horovod")  # how ranks may make them on the CPU; the first where they can
_STEP_OF_A_BATCH_SCRIPT = 0xFFFFFFF0  # Slurm numbers its own steps (batch, extern) from here up


@dataclass(frozen=True)
class Launch:
    """A launcher's name, the ranks that it was asked for, and what to change where they do not meet."""

    name: str
    ranks: int
    cure: str


def detect(environ: Mapping[str, str]) -> Launch | None:
    """The launcher that started this process, or None where it was started alone.

    mpirun inside a Slurm allocation sets its own variables beside Slurm's: it is asked first.
    """
    if "OMPI_COMM_WORLD_SIZE" in environ:
        cure = "build mpi4py and Horovod against the MPI whose mpirun you use: make setup"
        return Launch("mpirun", int(environ["OMPI_COMM_WORLD_SIZE"]), cure)
    if "HOROVOD_SIZE" in environ:
        return Launch("horovodrun", int(environ["HOROVOD_SIZE"]), "start it as: horovodrun --mpi -np RANKS ...")
    if "PMI_SIZE" in environ and "SLURM_STEP_ID" not in environ:
        cure = "build mpi4py and Horovod against the MPI whose mpiexec you use: make setup"
        return Launch("mpiexec", int(environ["PMI_SIZE"]), cure)
    step = environ.get("SLURM_STEP_ID", "")
    if step.isdigit() and int(step) < _STEP_OF_A_BATCH_SCRIPT and "SLURM_STEP_NUM_TASKS" in environ:
        cure = "say srun --mpi=pmix (srun --mpi=list shows what there is), or start it with launchers/mpirun"
        return Launch("srun", int(environ["SLURM_STEP_NUM_TASKS"]), cure)
    return None


def sums_by(environ: Mapping[str, str]) -> str:
    """How ranks are to make sums on the CPU, one of `SUMS`.

    Raises:
        ConfigError: HVD_ADAM_SUMS names somebody else.
    """
    asked = environ.get("HVD_ADAM_SUMS") or SUMS[0]
    if asked not in SUMS:
        raise ConfigError(f"HVD_ADAM_SUMS={asked}", "nobody makes sums in that way", f"set one of {', '.join(SUMS)}")
    return asked


def way_of_sums(wish: str, local_sizes: Sequence[int]) -> str:
    """How sums on the CPU are made, one of `SUMS` or "hierarchical".

    Args:
        wish: as `sums_by` has it; "shared" stands for what suits where the ranks are.
        local_sizes: of each rank, how many there are on its machine.

    >>> [way_of_sums("shared", sizes) for sizes in ([2, 2], [1, 1], [2, 2, 2, 2], [2, 2, 1])]
    ['shared', 'direct', 'hierarchical', 'horovod']
    """
    if wish != "shared" or local_sizes[0] == len(local_sizes):
        return wish
    if len(set(local_sizes)) > 1:
        return "horovod"
    return "direct" if local_sizes[0] == 1 else "hierarchical"


def slurm_job(environ: Mapping[str, str]) -> str:
    """This job as Slurm writes it: 71, or 71_3 for an element of an array; empty outside of one."""
    array, job = (environ.get(name, "") for name in ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"))
    return f"{array}_{environ.get('SLURM_ARRAY_TASK_ID', '')}" if array else job
