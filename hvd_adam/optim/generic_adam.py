"""Generic Adam (Chen et al. 2022, p. 4) as a torch optimizer: any alpha_t, beta_t, theta_t."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Callable, Iterable, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from hvd_adam import schedules
from hvd_adam.errors import ConfigError
from hvd_adam.optim import kernel
from hvd_adam.optim.kernel import Rule, Tensors
from hvd_adam.schedules import Schedule, as_schedule

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
_TORCHS_CHOICES = ("foreach", "capturable", "differentiable", "fused")  # of torch's kernel: no options here

# torch keeps its compiler away from this method by a wrapper that imports the compiler: as long as the rest of torch
_add_param_group = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)

_SCHEDULES: list[Any] = [v for v in vars(schedules).values() if isinstance(v, type) and issubclass(v, Schedule)]
torch.serialization.add_safe_globals(_SCHEDULES)  # torch.load(weights_only=True) meets them


class Rates(NamedTuple):
    """The values that the coming step uses."""

    lr: float
    beta1: float
    beta2: float


class GenericAdam(Optimizer):
    """Generic Adam: with its default conventions a drop-in for torch.optim.Adam.

        v_t = theta_t v_{t-1} + (1 - theta_t) g_t^2
        m_t = beta_t  m_{t-1} + (1 - beta_t)  g_t
        x_{t+1} = x_t - alpha_t m_t / sqrt(v_t)

    | here    | paper   | torch  |
    |---------|---------|--------|
    | lr      | alpha_t | lr     |
    | betas   | beta_t, theta_t | betas |
    | v0      | epsilon | none (0) |
    | eps     | none (0) | eps   |

    Args:
        params: parameters or groups, as any torch optimizer takes them; each option below per group too.
        lr: alpha_t >= 0: a number, a Schedule or an expression such as "0.001/sqrt(t)".
        betas: beta_t in [0, 1) and theta_t; constants in (0, 1) for theta, schedules may start at 0.
        eps: added to the root of v; scaled as torch does where bias correction is on.
        weight_decay: l2 by default, decoupled (AdamW) with `decoupled_weight_decay`.
        amsgrad: divide by the largest v so far (Reddi et al. 2018).
        maximize: ascend.
        bias_correction: as torch has it; for scheduled betas 1 - prod theta_i over the steps that the
            parameter took part in. Off in the paper.
        eps_in: "denominator", torch's; "v0", the paper's: eps is not used, and 0/0 counts as 0.
        v0: start of v, >= 0; `algorithms` resolves "1/(s d)" to a number.

    Schedules follow `group["t"]`, the steps this optimizer has taken; bias correction follows each
    parameter's own count, as in torch. Everything lives in param_groups and state, so that
    `hvd.DistributedOptimizer`, which rebuilds an optimizer from its param_groups, keeps it.

    Raises:
        ConfigError: an argument out of its range; a sparse or complex gradient; a torch LR scheduler
            on top of a schedule; a state_dict of another shape.
    """

    _step_supports_amp_scaling = True
    run: Callable[..., None] = staticmethod(kernel.run)  # one update of a list of tensors; see `divided`
    end: Callable[[], None] = staticmethod(lambda: None)  # called when all are updated

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Schedule | str = 1e-3,
        betas: tuple[float | Schedule | str, float | Schedule | str] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        eps_in: str = "denominator",
        v0: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "bias_correction": bias_correction,
            "eps_in": eps_in,
            "v0": v0,
            "t": 0,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group and creates its state: a fresh optimizer is complete before its first step."""
        _add_param_group(self, param_group)
        group = self.param_groups[-1]
        try:
            _check_and_read(group)
        except ConfigError:
            self.param_groups.pop()
            raise
        for parameter in group["params"]:
            if parameter.requires_grad:
                self.state[parameter] = _fresh_state(parameter, group)

    @property
    def kernel(self) -> str:
        """ "fused" or "foreach": what the first parameter's update runs on."""
        parameter = self.param_groups[0]["params"][0]
        return "fused" if kernel.fused_available(parameter.device.type, parameter.dtype) else "foreach"

    def rates(self) -> list[Rates]:
        """lr, beta1 and beta2 that each group's coming step uses."""
        return [_rates(group, group["t"] + 1) for group in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters that have a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return loss
        for group in self.param_groups:
            _refuse_scheduler_on_schedule(group)
            _refuse_gradients(group)
        for group, rates in zip(self.param_groups, self.rates(), strict=True):
            group["t"] += 1
            for tensors, corrections in self._collect(group, rates):
                for some in kernel.by_layout(tensors):
                    _update(self.run, some, group, rates, corrections, grad_scale)
        self.end()
        return loss

    def _collect(self, group: dict[str, Any], rates: Rates) -> list[tuple[Tensors, tuple[float, float] | None]]:
        """The group's parameters with gradients, by device, dtype and, for scheduled betas, correction."""
        lists: dict[Any, Tensors] = {}
        track, amsgrad = _tracks_products(group), group["amsgrad"]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            device, dtype = parameter.device, parameter.dtype
            state = self._state_of(parameter, group, device, dtype)
            products = tuple(state["products"].tolist()) if track else None
            key = (device, dtype, gradient.dtype, products)
            found = lists.get(key)
            if found is None:
                found = lists[key] = Tensors([], [], [], [], [], [])
            found.parameters.append(parameter)
            found.gradients.append(gradient)
            found.first.append(state["exp_avg"])
            found.second.append(state["exp_avg_sq"])
            found.steps.append(state["step"])
            if amsgrad:
                found.largest.append(state["max_exp_avg_sq"])
            if track:
                state["products"] *= torch.tensor([rates.beta1, rates.beta2], dtype=torch.float64)
        return [(tensors, key[-1]) for key, tensors in lists.items()]

    def _state_of(
        self, parameter: Tensor, group: dict[str, Any], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:  # requires_grad was turned on later
            state.update(_fresh_state(parameter, group))
        first = state["exp_avg"]
        if first.dtype is not dtype or first.device != device:
            for name in MOMENTS:
                if name in state:
                    state[name] = state[name].to(parameter)
            state["step"] = state["step"].to(device)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state, of this class or of torch.optim.Adam, and its groups' options.

        Raises:
            ConfigError: groups or tensor shapes that do not match this optimizer's.
        """
        _check_shapes(self.param_groups, state_dict)
        super().load_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for parameter, number in zip(group["params"], saved["params"], strict=True):
                if "step" in self.state.get(parameter, {}):  # torch's unfused Adam counts on the CPU
                    step = torch.as_tensor(self.state[parameter]["step"], dtype=torch.float32)
                    self.state[parameter]["step"] = step.to(parameter.device)
                products = state_dict["state"].get(number, {}).get("products")
                if products is not None:  # torch casts state to the parameter's dtype: these stay as they were
                    self.state[parameter]["products"] = products.clone()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in _TORCHS_CHOICES:  # a group that has read a file keeps the keys that it has on the other
                group.pop(name, None)  # ranks: hvd.broadcast_optimizer_state sends option by option
            for name, value in self.defaults.items():
                if name != "t" and name not in _TORCHS_CHOICES:
                    group.setdefault(name, value)
            group.setdefault("lr_is_schedule", isinstance(group["lr"], Schedule))
            if "t" not in group:
                steps = [self.state[p]["step"] for p in group["params"] if "step" in self.state.get(p, {})]
                group["t"] = int(max((float(step) for step in steps), default=0))


def complete_state(optimizer: GenericAdam) -> None:
    """Gives fresh state to parameters that have none: unfrozen since, or never stepped in what was loaded."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and not optimizer.state[parameter]:
                optimizer.state[parameter].update(_fresh_state(parameter, group))


def _fresh_state(parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
    start = torch.full_like(parameter, group["v0"], memory_format=torch.preserve_format).detach()
    state: dict[str, Any] = {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format).detach(),
        "exp_avg_sq": start,
    }
    if group["amsgrad"]:
        state["max_exp_avg_sq"] = start.clone()
    if _tracks_products(group):
        state["products"] = torch.ones(2, dtype=torch.float64)
    return state


def _tracks_products(group: dict[str, Any]) -> bool:
    return group["bias_correction"] and any(isinstance(beta, Schedule) for beta in group["betas"])


def _rates(group: dict[str, Any], t: int) -> Rates:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    rates = Rates(*(value(t) if isinstance(value, Schedule) else float(value) for value in (lr, beta1, beta2)))
    if not (0 <= rates.lr < math.inf and 0 <= rates.beta1 < 1 and 0 <= rates.beta2 < 1):
        raise ConfigError(
            f"at t = {t}: lr {rates.lr:g}, beta1 {rates.beta1:g}, beta2 {rates.beta2:g}",
            f"a step needs a finite lr >= 0 and betas in [0, 1), and lr is {lr}, betas are {beta1} and {beta2}",
            "bound them, for instance with max(..., 0), or start them later (t + 1 in place of t)",
        )
    return rates


def _update(
    run: Callable[..., None],
    tensors: Tensors,
    group: dict[str, Any],
    rates: Rates,
    products: tuple[float, float] | None,
    grad_scale: Tensor | None,
) -> None:
    first = tensors.parameters[0]
    fused = kernel.fused_available(first.device.type, first.dtype)
    fused = fused and tensors.alike and tensors.gradients[0].dtype == first.dtype
    torch._foreach_add_(tensors.steps, 1)
    eps = group["eps"] if group["eps_in"] == "denominator" else 0.0
    lr, eps = rates.lr, eps or kernel.floor_for(first.dtype)  # 0/0 counts as 0
    decay = group["weight_decay"]
    own_correction = group["bias_correction"] and products is None and fused
    if group["bias_correction"] and not own_correction:
        if products is None:
            _correct_each(run, tensors, group, rates, grad_scale)
            return
        done1, done2 = products[0] * rates.beta1, products[1] * rates.beta2
        root = math.sqrt(1.0 - done2)
        lr, eps = rates.lr * root / (1.0 - done1), eps * root
        if group["decoupled_weight_decay"] and lr > 0:
            decay = decay * rates.lr / lr
    rule = Rule(
        lr, rates.beta1, rates.beta2, eps, decay, group["decoupled_weight_decay"], group["amsgrad"], group["maximize"]
    )
    if fused and not own_correction:
        tensors.steps = [_endless(first.device)] * len(tensors.steps)
    run(tensors, rule, fused, grad_scale)


def _correct_each(
    run: Callable[..., None], tensors: Tensors, group: dict[str, Any], rates: Rates, grad_scale: Tensor | None
) -> None:
    """Constant betas without the fused kernel: parameters of the same age together."""
    ages: dict[float, list[int]] = {}
    for place, step in enumerate(tensors.steps):
        ages.setdefault(float(step), []).append(place)
    for age, places in ages.items():
        some = tensors.at(places)
        torch._foreach_sub_(some.steps, 1)
        _update(run, some, group, rates, (rates.beta1 ** (age - 1), rates.beta2 ** (age - 1)), grad_scale)


_ENDLESS: dict[torch.device, Tensor] = {}


def _endless(device: torch.device) -> Tensor:
    if device not in _ENDLESS:
        _ENDLESS[device] = torch.tensor(kernel.NO_CORRECTION, device=device)
    return _ENDLESS[device]


def _check_and_read(group: dict[str, Any]) -> None:
    """Checks a group's options, and turns expressions into schedules."""
    betas = group["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ConfigError(f"betas: {betas}", "there are two: beta_t and theta_t", "betas: (0.9, 0.999) is usual")
    lr = group["lr"] = _rate("lr", group["lr"], "0.001")
    group["betas"] = betas = _rate("beta1", betas[0], "0.9"), _rate("beta2", betas[1], "0.999")
    group["lr_is_schedule"] = isinstance(lr, Schedule)
    if not isinstance(lr, Schedule) and not (math.isfinite(lr) and lr >= 0):
        raise ConfigError(f"lr: {lr}", "a learning rate is finite and >= 0", "lr: 0.001 is Adam's usual start")
    if not isinstance(betas[0], Schedule) and not 0 <= betas[0] < 1:
        raise ConfigError(f"beta1: {betas[0]}", "beta_t must lie in [0, 1)", "beta1: 0.9 is usual")
    if not isinstance(betas[1], Schedule) and not 0 < betas[1] < 1:
        raise ConfigError(f"beta2: {betas[1]}", "a constant theta must lie in (0, 1)", "beta2: 0.999 is usual")
    for name in ("eps", "weight_decay", "v0"):
        group[name] = _number(name, group[name], "a number", "1e-8")
        if not (math.isfinite(group[name]) and group[name] >= 0):
            raise ConfigError(f"{name}: {group[name]}", "it must be finite and >= 0", f"{name}: 0 turns it off")
    if group["eps_in"] not in ("denominator", "v0"):
        raise ConfigError(f"eps_in: {group['eps_in']}", "epsilon has two places", "say denominator or v0")


def _rate(name: str, value: Any, usual: str) -> float | Schedule:
    """A number or a schedule; an expression without t is the number that it comes to."""
    if isinstance(value, str):
        schedule = as_schedule(value)
        return schedule.value if isinstance(schedule, schedules.Constant) else schedule
    if isinstance(value, Schedule):
        return value
    return _number(name, value, "a number, a Schedule or an expression", usual)


def _number(name: str, value: Any, kinds: str, usual: str) -> float:
    if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1):
        return float(value)
    raise ConfigError(f"{name}: {value!r}", f"it is {kinds} here", f"write the number, as in {name}={usual}")


def _refuse_scheduler_on_schedule(group: dict[str, Any]) -> None:
    if group.get("lr_is_schedule") and "initial_lr" in group:  # which every torch scheduler leaves behind
        raise ConfigError(
            f"a torch LR scheduler on an optimizer whose lr is a schedule; lr is now {group['lr']}",
            "both would set the learning rate, and the scheduler cannot multiply a schedule",
            "keep one: lr as a number with the torch scheduler, or the schedule alone",
        )


def _refuse_gradients(group: dict[str, Any]) -> None:
    """All groups are looked at before the first moves."""
    for parameter in group["params"]:
        gradient = parameter.grad
        if gradient is not None and (gradient.is_sparse or parameter.is_complex()):
            kind = "sparse" if gradient.is_sparse else "complex"
            raise ConfigError(
                f"a {kind} gradient of shape {tuple(parameter.shape)}",
                f"GenericAdam's moments are dense and real: {kind} gradients have none",
                "embed with sparse=False" if gradient.is_sparse else "use torch.view_as_real",
            )


def _check_shapes(groups: list[dict[str, Any]], state_dict: dict[str, Any]) -> None:
    saved = state_dict["param_groups"]
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved]:
        raise ConfigError(
            f"a state_dict with groups of {[len(g['params']) for g in saved]} parameters",
            f"this optimizer has groups of {[len(g['params']) for g in groups]}",
            "load it into an optimizer of the model that it was saved from",
        )
    for group, other in zip(groups, saved, strict=True):
        for parameter, number in zip(group["params"], other["params"], strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                if name in MOMENTS and tuple(value.shape) != tuple(parameter.shape):
                    raise ConfigError(
                        f"a state_dict whose parameter {number} has {name} of shape {tuple(value.shape)}",
                        f"the parameter here has shape {tuple(parameter.shape)}",
                        "load it into an optimizer of the model that it was saved from",
                    )
