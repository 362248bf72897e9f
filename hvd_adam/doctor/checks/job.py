"""Slurm: what it offers, what an allocation gives, and whether its ranks will find each other."""

from __future__ import annotations

from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.findings import Finding, fault, note, ok

_SHARED = (
    "nfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "fuse",
    "panfs",
    "wekafs",
    "afs",
    "cifs",
    "smb",
    "9p",
    "virtiofs",
    "orangefs",
    "pvfs",
)


def srun_speaks_pmi(env: Environment) -> Finding | None:
    """srun tells each rank who it is by PMI; Open MPI understands PMIx."""
    job = env.job
    if job.srun is None:
        return None
    if job.pmi is None:
        return note(
            "srun --mpi=list gave no answer", "Slurm's controller may be down, or slow", "srun --mpi=list; sinfo"
        )
    library = env.mpi.horovod or env.mpi.mpi4py
    open_mpi = library is None or not library.version or library.version.startswith("Open MPI")
    wanted = ("pmix",) if open_mpi else ("pmix", "pmi2", "cray_shasta")
    chosen = env.machine.variables.get("HVD_ADAM_PMI", "pmix")
    if not any(kind.startswith(wanted) for kind in job.pmi):
        name = (library.version if library else None) or "Open MPI"
        return note(
            f"srun offers {', '.join(job.pmi) or 'no PMI'}, and {name} needs {wanted[0]}",
            "srun would start N jobs of size 1",
            "start with launchers/mpirun inside the allocation",
        )
    if chosen not in job.pmi:
        kind = next(kind for kind in job.pmi if kind.startswith(wanted))
        return note(
            f"launchers/srun says --mpi={chosen}, and srun offers {', '.join(job.pmi)}",
            "srun refuses a kind that it does not have",
            f"export HVD_ADAM_PMI={kind}",
        )
    by_default = env.machine.variables.get("SLURM_MPI_TYPE", "")
    bare = "" if by_default.startswith(wanted) else "; a bare srun needs the same flag"
    return ok(f"srun offers {', '.join(job.pmi)}: launchers/srun says --mpi={chosen}{bare}")


def step_has_pmi(env: Environment) -> Finding | None:
    """This process is one of an srun's tasks, and nobody has told it which."""
    job, variables = env.job, env.machine.variables
    if job.step_tasks is None or job.step_tasks < 2 or job.under_mpirun:
        return None
    if "PMIX_RANK" in variables:
        return ok(f"srun started {job.step_tasks} tasks with PMIx: one job")
    if "PMI_RANK" in variables or "PMI_FD" in variables:
        return note(
            f"srun started {job.step_tasks} tasks with PMI-1 or PMI-2",
            "Open MPI as a rule understands PMIx alone: each task would be a job of size 1",
            "srun --mpi=pmix",
        )
    return fault(
        f"srun started {job.step_tasks} tasks without PMI",
        f"the tasks do not know of each other: {job.step_tasks} jobs of size 1, each writing the same run",
        "srun --mpi=pmix, or launchers/srun, or launchers/mpirun inside the allocation",
    )


def allocation(env: Environment) -> Finding | None:
    """What Slurm has given, and how to use all of it."""
    job = env.job
    if job.job_id is None:
        return None
    counts = [_count(job.nodes, "node"), _count(job.tasks, "task"), _count(job.cpus_per_task, "cpu", " a task")]
    given = ", ".join(filter(None, [*counts, f"GPUs a node: {job.gpus_on_node}" if job.gpus_on_node else ""]))
    if "," in job.tasks_per_node:
        return note(
            f"Slurm job {job.job_id} gives {given}, packed as {job.tasks_per_node}",
            "the nodes carry unequal numbers of ranks, and the fullest sets the pace",
            "sbatch --nodes=N --ntasks-per-node=M instead of --ntasks",
        )
    share = job.cpus_per_task or 1
    if env.machine.usable_cores < share:
        return fault(
            f"Slurm job {job.job_id} gives {share} cpus a task, and this process may use {env.machine.usable_cores}",
            "the ranks' threads would share what one is bound to",
            "srun --cpu-bind=none, or launchers/mpirun; and pass --cpus-per-task to srun too",
        )
    return ok(f"Slurm job {job.job_id} gives {given}: launchers/mpirun -n {job.tasks or job.nodes}")


def nodes_share_the_files(env: Environment) -> Finding | None:
    """The other nodes must see the same software and the same runs; one node can only look at its own mounts."""
    storage = env.storage
    if env.job.nodes < 2:
        return None
    rows = ((storage.software, storage.software_kind), (storage.runs.path, storage.runs.kind))
    local = [f"{path} ({kind})" for path, kind in rows if kind and not kind.startswith(_SHARED)]
    cure = f"srun --nodes={env.job.nodes} --ntasks-per-node=1 ls -d {storage.software}/bin/python {storage.runs.path}"
    if local:
        return note(
            f"{', '.join(local)}: not on a file system that nodes share, as it seems",
            "every node needs the environment at the same path; that cannot be seen from one of them",
            cure,
        )
    kinds = ", ".join(dict.fromkeys(kind for _, kind in rows if kind))
    return ok(f"software and runs lie on shared file systems ({kinds or 'unknown'})")


def _count(number: int | None, noun: str, behind: str = "") -> str:
    return "" if number is None else f"{number} {noun}{'' if number == 1 else 's'}{behind}"


CHECKS = (srun_speaks_pmi, step_has_pmi, allocation, nodes_share_the_files)
