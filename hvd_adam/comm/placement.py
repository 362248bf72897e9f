"""Which device a rank computes on."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")


def device_for(local_rank: int, carried: bool = True) -> torch.device:
    """The GPU of this rank's number on its host, modulo those that are visible; the CPU where there is none.

    Args:
        local_rank: this rank's number among those of its host.
        carried: whether the engine takes tensors that lie on a GPU.
    """
    if not carried or not torch.cuda.is_available():
        return CPU
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def set_seed(device: torch.device, value: int) -> None:
    """Sets the random states of the CPU and of that device.

    torch.manual_seed writes down who called it, for each kind of device that is not there: longer than a small step.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(value)
        return
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)


def settle(device: torch.device) -> None:
    """Returns when the device has done what it was given: a clock that is read now tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
