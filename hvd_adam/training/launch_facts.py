"""What this launch is: hosts, versions, threads, and the environment variables that change a run's speed or result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

import hvd_adam
from hvd_adam.comm import World
from hvd_adam.config import RunConfig, identity
from hvd_adam.optim.agreement import agree

TELLING = (
    "OMP_",
    "MKL_",
    "OMPI_MCA_",
    "MALLOC_",
    "LD_PRELOAD",
    "HOROVOD_",
    "HVD_ADAM_SUMS",
    "CUDA_VISIBLE_",
    "SLURM_JOB_",
    "SLURM_NNODES",
)


@cache
def code_hash() -> str:
    """A hash of all files of this package as they were first seen, 16 hexadecimal digits."""
    code, home = hashlib.sha256(), Path(hvd_adam.__file__).parent
    for file in sorted(home.rglob("*.py")):
        code.update(str(file.relative_to(home)).encode() + b"\0" + file.read_bytes())
    return code.hexdigest()[:16]


def agree_before_step_1(world: World, config: RunConfig, steps: int) -> None:
    """Checks that all ranks run the same code and config for the same number of steps.

    Raises:
        RunError: names the key, the ranks and their values.
    """
    facts = {
        "the number of steps": steps,
        **identity(config),
        "the code of hvd_adam": code_hash(),
        "torch's version": torch.__version__,
        "Python's version": platform.python_version(),
        "the kind of device": world.device.type,
    }
    if config.determinism == "exact":
        facts.update(arithmetic(world.device))
    agree(world, facts)


def arithmetic(device: torch.device) -> dict[str, Any]:
    """What the last bits of a sum depend on, beside the order that exact mode fixes."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the processor's vector instructions": torch.backends.cpu.get_cpu_capability(),
        "the GPU": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def place(world: World) -> str:
    """The engine, and the device where it is not the CPU or could have been another."""
    if world.device.type == "cuda":
        return f"{world.engine}, {torch.cuda.get_device_name(world.device)}"
    if torch.cuda.is_available():
        return f"{world.engine}, on the CPU: this Horovod takes no GPU's tensors, make setup GPU=1 builds one that does"
    return world.engine


def launch_facts(world: World, config: RunConfig) -> dict[str, Any]:
    """For the first line of the trace; a collective, since every rank tells its host."""
    hosts = world.allgather_bytes(json.dumps(world.host).encode())
    return {
        "run": config.name,
        "identity": config.identity(),
        "engine": world.engine,
        "ranks": world.size,
        "workers": config.workers,
        "hosts": [json.loads(host) for host in hosts],
        "threads": torch.get_num_threads(),
        "determinism": config.determinism,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "device": str(world.device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "code": code_hash(),
        "versions": {
            "hvd_adam": hvd_adam.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(TELLING)},
    }
