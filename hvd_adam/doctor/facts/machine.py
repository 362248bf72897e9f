"""This host: cores, names, interfaces, GPUs, and Slurm where it is."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Mapping

from hvd_adam.doctor.environment import Gpus, Job, Machine
from hvd_adam.doctor.facts.places import Places
from hvd_adam.doctor.probes import Answer

# What a report may show: these only, since variables can hold secrets.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "LD_PRELOAD"),
    *(
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
    ),
    *("OMPI_MCA_mpi_yield_when_idle", "OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy"),
    *(
        "OMPI_ALLOW_RUN_AS_ROOT",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
        "OMPI_MCA_btl_tcp_if_include",
        "OMPI_MCA_oob_tcp_if_include",
    ),
    *("OMPI_MCA_btl", "OMPI_MCA_pml", "OMPI_MCA_rmaps_base_oversubscribe"),
    *("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "HOROVOD_GLOO_IFACE", "UCX_NET_DEVICES", "CUDA_VISIBLE_DEVICES"),
    *("HOROVOD_CYCLE_TIME", "HOROVOD_FUSION_THRESHOLD", "HVD_ADAM_SUMS", "HVD_ADAM_DATA", "HVD_ADAM_PMI", "TMPDIR"),
    *("SLURM_MPI_TYPE", "SLURM_CPU_BIND", "PMIX_RANK", "PMI_RANK", "PMI_FD"),
)


def questions(places: Places) -> dict[str, list[str]]:
    """The programs to ask, by name."""
    path = places.environ.get("PATH", "")
    programs = {
        "srun": ["srun", "--mpi=list"],
        "gpus": ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
        "address": ["getent", "hosts", socket.gethostname()],  # a program: a name server may not answer
    }
    return {
        name: [found, *words[1:]] for name, words in programs.items() if (found := shutil.which(words[0], path=path))
    }


def machine(places: Places, answers: Mapping[str, Answer]) -> Machine:
    """This host and this process."""
    address = answers.get("address")
    words = address.text.split() if address and address.code == 0 else []
    return Machine(
        host=socket.gethostname(),
        address=words[0] if words else None,
        root=os.geteuid() == 0,
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)),
        quota=_quota(places),
        variables={name: places.environ[name] for name in VARIABLES if name in places.environ},
        interfaces=_interfaces(places),
        now=time.time(),
        installed_at=_installed_at(places),
    )


def gpus(places: Places, answers: Mapping[str, Answer]) -> Gpus:
    """From nvidia-smi, else from the driver's own files."""
    said = answers.get("gpus")
    rows = [line.rpartition(",") for line in said.text.splitlines() if "," in line] if said and said.code == 0 else []
    if rows:
        return Gpus(tuple(name.strip() for name, _, _ in rows), rows[0][2].strip())
    files = sorted((places.root / "proc/driver/nvidia/gpus").glob("*/information"))
    texts = [places.read(str(file.relative_to(places.root))) or "" for file in files]
    models = [re.search(r"Model:\s*(.+)", text) for text in texts]
    version = re.search(r"Kernel Module\D*?(\d+\.[\d.]+)", places.read("/proc/driver/nvidia/version") or "")
    return Gpus(tuple(model[1].strip() if model else "GPU" for model in models), version[1] if version else None)


def job(places: Places, answers: Mapping[str, Answer]) -> Job:
    """Slurm's allocation, as its variables tell it."""
    environ = places.environ
    step = places.number("SLURM_STEP_ID")
    in_step = step is not None and step < 0xFFFFFFF0  # Slurm numbers its own steps (batch, interactive) from here up
    return Job(
        srun=shutil.which("srun", path=environ.get("PATH", "")),
        pmi=_pmi(answers.get("srun")),
        job_id=environ.get("SLURM_JOB_ID"),
        nodes=places.number("SLURM_JOB_NUM_NODES") or places.number("SLURM_NNODES") or 1,
        tasks=places.number("SLURM_NTASKS"),
        tasks_per_node=environ.get("SLURM_TASKS_PER_NODE", ""),
        cpus_per_task=places.number("SLURM_CPUS_PER_TASK"),
        gpus_on_node=environ.get("SLURM_GPUS_ON_NODE", ""),
        step_tasks=places.number("SLURM_STEP_NUM_TASKS") if in_step else None,
        under_mpirun="OMPI_COMM_WORLD_SIZE" in environ,
    )


def _pmi(answer: Answer | None) -> tuple[str, ...] | None:
    """The kinds of PMI from srun's list: one a line, below or behind a line that ends in "are..."."""
    if answer is None or answer.code != 0:
        return None
    lines = [line.removeprefix("srun:").strip() for line in answer.text.splitlines()]
    kinds = [word.strip() for line in lines if "types are" not in line for word in line.rpartition(":")[2].split(",")]
    return tuple(dict.fromkeys(kind for kind in kinds if re.fullmatch(r"[\w./-]+", kind)))


def _quota(places: Places) -> float | None:
    """Cores' worth of time that the control group allows: version 2's file, else version 1's."""
    words = (places.read("/sys/fs/cgroup/cpu.max") or "").split()
    if len(words) != 2:
        period = places.read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or ""
        words = [places.read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "", period]
    if all(word.isdigit() for word in words) and int(words[1]) > 0:
        return int(words[0]) / int(words[1])
    return None


def _interfaces(places: Places) -> tuple[str, ...]:
    folder = places.root / "sys/class/net"
    return tuple(sorted(os.listdir(folder))) if folder.is_dir() else ()


def _installed_at(places: Places) -> float | None:
    found = [places.find(f"{name}/__init__.py") for name in ("torch", "horovod", "mpi4py")]
    return max((path.stat().st_mtime for path in found if path), default=None)
