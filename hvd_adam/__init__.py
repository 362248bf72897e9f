"""Generic Adam over Horovod and MPI: will it converge, how many nodes pay off, is the speed-up linear."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvd_adam.comm import World, init
    from hvd_adam.optim.averaging import DistributedOptimizer, Outcome
    from hvd_adam.optim.generic_adam import GenericAdam
    from hvd_adam.tasks.samplers import Sampler
    from hvd_adam.training.trace import Trace

__version__ = "0.1.0"

_HOMES = {
    "init": "hvd_adam.comm",
    "World": "hvd_adam.comm",
    "DistributedOptimizer": "hvd_adam.optim.averaging",
    "Outcome": "hvd_adam.optim.averaging",
    "GenericAdam": "hvd_adam.optim.generic_adam",
    "Sampler": "hvd_adam.tasks.samplers",
    "Trace": "hvd_adam.training.trace",
}

__all__ = ["DistributedOptimizer", "GenericAdam", "Outcome", "Sampler", "Trace", "World", "__version__", "init"]


def __getattr__(name: str) -> Any:
    """Loads torch only when something that needs it is asked for: `hvd-adam --help` does not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hvd_adam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
