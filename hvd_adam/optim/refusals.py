"""What cannot be done to averaged gradients, said before a rank waits for another."""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import NoReturn

import torch

from hvd_adam.errors import ConfigError, RunError


def refuse_newcomers(optimizer: torch.optim.Optimizer, known: Container[int]) -> None:
    """Raises RunError where a parameter was added, or unfrozen, since the optimizer was wrapped.

    Args:
        known: ids of the parameters whose gradients are averaged.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and id(parameter) not in known:
                raise RunError(
                    f"a parameter of shape {tuple(parameter.shape)} that was added or unfrozen after the wrapping",
                    "its gradient is not averaged, and each rank would step by its own",
                    "wrap the optimizer again: hvd_adam.DistributedOptimizer(optimizer, world, ...)",
                )


def refuse_late(parameter: torch.Tensor, passes: int) -> NoReturn:
    """Raises RunError: a worker has made more than `passes` backward passes."""
    raise RunError(
        f"a gradient of shape {tuple(parameter.shape)} came after its sum had begun",
        f"a worker has accumulation = {passes} backward passes a step, and made more",
        "set accumulation to the number of backward passes, or add the losses and call backward once",
    )


def refuse_missing_workers(done: int, here: range, passes: int, apart: bool) -> None:
    """Raises RunError where a step is to be taken before all workers of this rank have made their passes.

    Args:
        done: so many have been gone through and left.
        here: all of them.
        passes: of the others, for so many workers.
        apart: something is asked for of each, so that passes alone do not do.
    """
    left = len(here) - done
    if left > 1 and (apart or passes < left):
        refuse_other_workers(done + 1, here)


def refuse_other_workers(made: int, here: range) -> NoReturn:
    """Raises RunError: a step has gradients of `made` workers, and this rank plays those of `here`."""
    raise RunError(
        f"a step with {made} {'worker' if made == 1 else 'workers'} on a rank that plays {len(here)}",
        "its mean, and what each worker starts from, count on all of them, and on no others",
        "for worker in optimizer.workers(step): one backward pass or `accumulation` each; then optimizer.step()",
    )


def refuse_replaced(parameter: torch.Tensor) -> NoReturn:
    """Raises RunError."""
    raise RunError(
        f"the gradient of shape {tuple(parameter.shape)} was replaced after backward",
        "its bucket had left for the other ranks by then",
        "use clip_norm, or change gradients in a hook during backward",
    )


def refuse_late_change() -> NoReturn:
    """Raises RunError."""
    raise RunError(
        "gradients were changed in place after backward",
        "they had left for the other ranks by then: what is changed is no longer this rank's own, nor yet the mean",
        "use clip_norm in place of clip_grad_norm_, or change gradients in a hook during backward",
    )


def refuse_remaining() -> NoReturn:
    """Raises RunError."""
    raise RunError(
        "the gradients of the step before are still there",
        "a step would count them twice",
        "call optimizer.zero_grad() after optimizer.step()",
    )


def kind_of(tensor: torch.Tensor) -> tuple[torch.dtype, int, torch.device]:
    """Precision, size and device."""
    return tensor.dtype, tensor.numel(), tensor.device


def refuse_changed(parameter: torch.Tensor, was: tuple[torch.dtype, int, torch.device]) -> None:
    """Raises RunError where a parameter is not of the kind that it `was` when it was wrapped."""
    if kind_of(parameter) != was:
        dtype, numbers, device = was
        raise RunError(
            f"a parameter of {numbers} numbers, {dtype} on {device}, became one of {parameter.numel()}, "
            f"{parameter.dtype} on {parameter.device}",
            "it was changed after the wrapping, which has laid out memory for what it was",
            "move or convert the model first, then wrap its optimizer",
        )


def refuse_other_buffer(name: str, was: torch.Tensor, now: torch.Tensor | None) -> NoReturn:
    """Raises RunError."""
    became = "nothing" if now is None else f"{tuple(now.shape)}, {now.dtype} on {now.device}"
    raise RunError(
        f"the model's buffer {name} of {tuple(was.shape)}, {was.dtype} on {was.device}, became {became}",
        "buffers are averaged over workers as they were when the optimizer was wrapped",
        "wrap it again after such a change; or hand in no model, and no buffer is averaged",
    )


def refuse_written(parameter: torch.Tensor) -> NoReturn:
    """Raises RunError."""
    raise RunError(
        f"weights of shape {tuple(parameter.shape)} that were written to beside the optimizer's step",
        "ranks of this machine have them in one memory, and what each of them writes there, all have",
        "set share_weights to false, and each rank has its own; or load them before the optimizer is wrapped",
    )


def refuse_other_moments(now: Collection[str], before: Collection[str]) -> None:
    """Raises RunError where an optimizer's state has other moments than when it was wrapped."""
    if set(now) != set(before):
        raise RunError(
            f"an optimizer whose state has {', '.join(sorted(now))}, and had {', '.join(sorted(before))} when wrapped",
            "ranks of this machine share memory for those that it had then",
            "load such a state, or set amsgrad, before hvd_adam.DistributedOptimizer(optimizer, world, ...)",
        )


def refuse_sparse(parameter: torch.Tensor) -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        f"a sparse gradient of shape {tuple(parameter.shape)}",
        "buckets are dense: a sparse gradient has no place of its own in them",
        "embed with sparse=False",
    )


def refuse_closure() -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        "step(closure)",
        "the gradients were averaged while backward ran, and a closure would make others",
        "call backward first, then step()",
    )


def refuse_scaler_around() -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        "scaler.step(optimizer) around an averaged optimizer",
        "each rank would decide from its own gradients whether to step, and the others would wait",
        "hand it in: hvd_adam.DistributedOptimizer(..., scaler=scaler), then optimizer.step()",
    )
