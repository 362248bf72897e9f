"""One Adam update of a list of tensors: torch's fused kernel where there is one, foreach elsewhere.

Lists go through the fused kernel as fast as one flat buffer does (hvd-adam bench optimizer), so
parameters may lie anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

NO_CORRECTION = 1e30  # a step count at which the kernel's own bias correction is exactly 1
_FLOORS = {torch.float64: 2.0**-537, torch.bfloat16: 2.0**-66, torch.float16: 2.0**-12}


@dataclass(frozen=True, slots=True)
class Rule:
    """The numbers of one update; lr and eps already carry what bias correction asks of them."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    amsgrad: bool
    maximize: bool


@dataclass(slots=True)
class Tensors:
    """Parameters of one device and dtype with their state, in the same order throughout."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    largest: list[Tensor]
    steps: list[Tensor]
    alike: bool = True  # those of one parameter lie in one order, without gaps

    def at(self, places: list[int]) -> Tensors:
        """Those of the parameters at these places."""

        def chosen(values: list[Tensor]) -> list[Tensor]:
            return [values[place] for place in places] if values else []

        return Tensors(
            chosen(self.parameters),
            chosen(self.gradients),
            chosen(self.first),
            chosen(self.second),
            chosen(self.largest),
            chosen(self.steps),
            self.alike,
        )

    def in_float32(self) -> Tensors:
        """Copies, but for the step counts."""
        lists = self.parameters, self.gradients, self.first, self.second, self.largest
        parameters, gradients, first, second, largest = ([one.float() for one in some] for some in lists)
        return Tensors(parameters, gradients, first, second, largest, self.steps, self.alike)

    @property
    def changed(self) -> list[Tensor]:
        """What an update writes to."""
        return [*self.parameters, *self.first, *self.second, *self.largest]


@lru_cache(maxsize=64)
def fused_available(device_type: str, dtype: torch.dtype) -> bool:
    """Whether torch's fused Adam works on this device and dtype: tried once, on one element."""
    try:
        one = [torch.zeros(1, device=device_type, dtype=dtype) for _ in range(4)]
        step = torch.zeros((), device=device_type)
        run_fused(
            Tensors([one[0]], [one[1]], [one[2]], [one[3]], [], [step]),
            Rule(0.1, 0.9, 0.99, 1e-8, 0.0, False, False, False),
        )
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    return True


def by_layout(tensors: Tensors) -> list[Tensors]:
    """Those that the fused kernel can take, and the others: it goes through memory, and asks for no strides."""
    if all(map(Tensor.is_contiguous, (*tensors.parameters, *tensors.gradients, *tensors.first))):
        return [tensors]
    found: dict[bool, list[int]] = {True: [], False: []}
    for place, together in enumerate(zip(tensors.parameters, tensors.gradients, tensors.first, strict=True)):
        found[_lie_alike(*together)].append(place)
    return [replace(tensors.at(places), alike=alike) for alike, places in found.items() if places]


def _lie_alike(parameter: Tensor, *others: Tensor) -> bool:
    """Whether their elements come in one order, without gaps."""
    strides, *rest = (
        [stride for stride, size in zip(one.stride(), one.shape, strict=True) if size > 1]
        for one in (parameter, *others, torch.empty_like(parameter, device="meta"))
    )
    return all(one == strides for one in rest)


def run(tensors: Tensors, rule: Rule, fused: bool, grad_scale: Tensor | None = None) -> None:
    """One update by either kernel; the fused one corrects for bias by `steps`."""
    if fused:
        run_fused(tensors, rule, grad_scale)
        return
    if grad_scale is not None:
        torch._foreach_div_(tensors.gradients, grad_scale.to(tensors.parameters[0].device))
    run_foreach(tensors, rule)


def run_fused(tensors: Tensors, rule: Rule, grad_scale: Tensor | None = None, found_inf: Tensor | None = None) -> None:
    """One pass over memory: unscale, decay, both moments, step. `steps` drive its bias correction."""
    kernel = torch._fused_adamw_ if rule.decoupled else torch._fused_adam_
    kernel(
        tensors.parameters,
        tensors.gradients,
        tensors.first,
        tensors.second,
        tensors.largest,
        tensors.steps,
        lr=rule.lr,
        beta1=rule.beta1,
        beta2=rule.beta2,
        weight_decay=rule.weight_decay,
        eps=rule.eps,
        amsgrad=rule.amsgrad,
        maximize=rule.maximize,
        grad_scale=grad_scale,
        found_inf=found_inf,
    )


def run_foreach(tensors: Tensors, rule: Rule) -> None:
    """The same update in plain torch operations, without bias correction of its own.

    Below 32 bits it is made in float32, as the fused kernel makes it: 1e-8 is 0 in float16.
    """
    if tensors.parameters[0].dtype.itemsize < 4:
        wide = tensors.in_float32()
        run_foreach(wide, rule)
        torch._foreach_copy_(tensors.changed, wide.changed)
        return
    gradients = tensors.gradients
    if rule.maximize:
        gradients = list(torch._foreach_neg(gradients))
    if rule.weight_decay:
        if rule.decoupled:
            torch._foreach_mul_(tensors.parameters, 1.0 - rule.lr * rule.weight_decay)
        else:
            gradients = list(torch._foreach_add(gradients, tensors.parameters, alpha=rule.weight_decay))
    torch._foreach_lerp_(tensors.first, gradients, 1.0 - rule.beta1)
    torch._foreach_mul_(tensors.second, rule.beta2)
    torch._foreach_addcmul_(tensors.second, gradients, gradients, 1.0 - rule.beta2)
    second = tensors.second
    if rule.amsgrad:
        torch._foreach_maximum_(tensors.largest, tensors.second)
        second = tensors.largest
    denominators = torch._foreach_sqrt(second)
    torch._foreach_add_(denominators, rule.eps)
    torch._foreach_addcdiv_(tensors.parameters, tensors.first, denominators, -rule.lr)


def floor_for(dtype: torch.dtype) -> float:
    """The epsilon that stands for "none": the root of the smallest positive number of the dtype.

    0/0 becomes 0, and where g^2 underflows, m / sqrt(v) keeps the order of 1 that it would have had.
    """
    return _FLOORS.get(dtype, 2.0**-74)
