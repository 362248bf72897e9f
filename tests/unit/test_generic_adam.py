"""GenericAdam against torch's own optimizers and against the written-out reference."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hvd_adam.algorithms import MEMBERS, named
from hvd_adam.errors import ConfigError
from hvd_adam.optim import kernel
from hvd_adam.optim.generic_adam import GenericAdam
from hvd_adam.optim.reference import Reference
from hvd_adam.schedules import PolynomialTheta, Power

STEPS = 300
SHAPES = [(7, 3), (5,), (4,), (2, 2)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in SHAPES]


def set_gradients(groups: list[list[nn.Parameter]], step: int) -> None:
    """The same for each list: the third has none every third step, the last never, some entries are zero."""
    generator = torch.Generator().manual_seed(step)
    for i, shape in enumerate(SHAPES):
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        gradient.view(-1)[0] = 0.0
        missing = i == 3 or (i == 2 and step % 3 == 0)
        for group in groups:
            group[i].grad = None if missing else gradient.to(group[i].dtype)


def follow(mine: torch.optim.Optimizer, theirs: torch.optim.Optimizer, steps: int = STEPS) -> float:
    """The largest difference after the run, relative to the tensor's largest entry."""
    lists = [[p for g in o.param_groups for p in g["params"]] for o in (mine, theirs)]
    for step in range(1, steps + 1):
        set_gradients(lists, step)
        mine.step()
        theirs.step()
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*lists, strict=True))


def grouped(p: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": p[:2]}, {"params": p[2:], "lr": 0.02}]


EQUAL = {
    "Adam": (torch.optim.Adam, {}, {}),
    "Adam with l2": (torch.optim.Adam, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "AMSGrad": (torch.optim.Adam, {"amsgrad": True}, {"amsgrad": True}),
    "maximize": (torch.optim.Adam, {"maximize": True}, {"maximize": True}),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", EQUAL)
def test_equals_torchs_for_loop(name: str, dtype: torch.dtype) -> None:
    cls, theirs, mine = EQUAL[name]
    difference = follow(
        GenericAdam(grouped(parameters(dtype)), lr=0.01, **mine),
        cls(grouped(parameters(dtype)), lr=0.01, foreach=False, **theirs),
    )
    assert difference <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EQUAL)
def test_equals_torchs_fused_kernel_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    cls, theirs, mine = EQUAL[name]
    assert (
        follow(
            GenericAdam(grouped(parameters(dtype)), lr=0.01, **mine),
            cls(grouped(parameters(dtype)), lr=0.01, fused=True, **theirs),
        )
        == 0.0
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_torchs_rmsprop_without_epsilon_and_correction(dtype: torch.dtype) -> None:
    mine = GenericAdam(parameters(dtype), lr=0.01, betas=(0.0, 0.9), eps=1e-8, bias_correction=False)
    theirs = torch.optim.RMSprop(parameters(dtype), lr=0.01, alpha=0.9, eps=1e-8)
    assert follow(mine, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_adagrad_is_torchs_where_every_step_has_a_gradient(dtype: torch.dtype) -> None:
    p, q = parameters(dtype)[:2], parameters(dtype)[:2]
    arguments = named("adagrad", lr=0.05).optimizer_arguments(batch=1, dim=1, steps=STEPS)
    mine, theirs = GenericAdam(p, **arguments), torch.optim.Adagrad(q, lr=0.05, eps=1e-30)
    for step in range(1, STEPS + 1):
        generator = torch.Generator().manual_seed(step)
        for a, b in zip(p, q, strict=True):
            a.grad = torch.randn(a.shape, generator=generator, dtype=torch.float64).to(dtype)
            b.grad = a.grad.clone()
        mine.step()
        theirs.step()
    assert max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(p, q, strict=True)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_equals_the_reference(
    name: str, dtype: torch.dtype, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(kernel, "fused_available", lambda device, dtype: False)
    arguments = named(name).optimizer_arguments(batch=4, dim=20, steps=STEPS)
    p = parameters(dtype)
    truth = [Reference(q.detach().double().numpy().copy(), **arguments) for q in p]
    optimizer = GenericAdam(p, **arguments)
    assert optimizer.kernel == ("fused" if fused else "foreach")
    for step in range(1, STEPS + 1):
        set_gradients([p], step)
        optimizer.step()
        for q, reference in zip(p, truth, strict=True):
            reference.step(None if q.grad is None else q.grad.double().numpy())
    for q, reference in zip(p, truth, strict=True):
        assert np.abs(q.detach().double().numpy() - reference.x).max() <= TOLERANCE[dtype] * np.abs(reference.x).max()


def test_scheduled_betas_are_corrected_by_their_products() -> None:
    arguments: dict[str, Any] = {"lr": Power(0.1, 0.5), "betas": (0.9, "1 - 0.9/t^0.5"), "weight_decay": 0.1}
    for decoupled in (False, True):
        p = parameters(torch.float64)
        truth = [Reference(q.detach().numpy().copy(), decoupled_weight_decay=decoupled, **arguments) for q in p]
        optimizer = GenericAdam(p, decoupled_weight_decay=decoupled, **arguments)
        for step in range(1, STEPS + 1):
            set_gradients([p], step)
            optimizer.step()
            for q, reference in zip(p, truth, strict=True):
                reference.step(None if q.grad is None else q.grad.numpy())
        for q, reference in zip(p, truth, strict=True):
            assert np.allclose(q.detach().numpy(), reference.x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_over_zero_counts_as_zero(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = GenericAdam([p], betas=(0.9, PolynomialTheta(1.0, 1.0)), bias_correction=False, eps_in="v0", lr=0.1)
    p.grad = torch.tensor([0.0, 1.0, 1e-30], dtype=dtype)
    optimizer.step()
    assert p[0].item() == 1.0 and torch.isfinite(p).all()
    assert p[1].item() == pytest.approx(1.0 - 0.1 * 0.1)
    assert abs(p[2].item() - 1.0) <= 0.1 * 0.1 + 1e-6


def test_the_kernel_keeps_theta_close_to_1_in_float32() -> None:
    p = nn.Parameter(torch.zeros(1))
    optimizer = GenericAdam([p], betas=(0.0, 1 - 1e-9), bias_correction=False, eps_in="v0")
    p.grad = torch.ones(1)
    optimizer.step()
    assert optimizer.state[p]["exp_avg_sq"].item() == pytest.approx(1e-9, rel=1e-6)


def test_state_goes_to_and_from_torchs_adam() -> None:
    p, q = parameters(torch.float64), parameters(torch.float64)
    mine, theirs = GenericAdam(p, lr=0.01), torch.optim.Adam(q, lr=0.01)
    follow(mine, theirs, steps=10)
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert mine.param_groups[0]["t"] == 10
    assert follow(mine, theirs, steps=10) <= 1e-12
    theirs.load_state_dict(copy.deepcopy({**theirs.state_dict(), "state": mine.state_dict()["state"]}))
    assert follow(mine, theirs, steps=10) <= 1e-12


def test_state_with_schedules_passes_through_a_safe_file(tmp_path: Path) -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p, lr="0.1/sqrt(t)", betas=(0.9, "1 - 0.5/t^0.5"))
    set_gradients([p], 1)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state")
    q = [nn.Parameter(x.detach().clone()) for x in p]
    other = GenericAdam(q, lr="0.1/sqrt(t)", betas=(0.9, "1 - 0.5/t^0.5"))
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert other.rates() == optimizer.rates()
    assert follow(optimizer, other, steps=10) == 0.0


@pytest.mark.parametrize("through", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_and_pickles_go_on_alike(through: Any) -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p, lr="0.1/sqrt(t)")
    set_gradients([p], 1)
    optimizer.step()
    other = through(optimizer)
    assert follow(optimizer, other, steps=5) == 0.0


def test_a_torch_scheduler_moves_a_float_lr_and_is_refused_on_a_schedule() -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    set_gradients([p], 1)
    optimizer.step()
    scheduler.step()
    assert optimizer.rates()[0].lr == 0.05


SCHEDULERS = [
    lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
    lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch),
    lambda o: torch.optim.lr_scheduler.LinearLR(o),
    lambda o: torch.optim.lr_scheduler.ConstantLR(o),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 10, cycle_momentum=False),  # these two put a number
    lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.1, 0.2, cycle_momentum=False),  # in the schedule's place
]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_torch_scheduler_is_refused_on_a_schedule(scheduler: Any) -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p, lr="0.1/sqrt(t)")
    set_gradients([p], 1)
    with pytest.raises(ConfigError, match=r"[Kk]eep one"):
        made = scheduler(optimizer)
        optimizer.step()
        made.step()
        optimizer.step()


def test_reduce_on_plateau_lowers_a_float_lr_and_is_refused_where_it_would_lower_a_schedule() -> None:
    def lowered(lr: Any) -> float:
        optimizer = GenericAdam(parameters(torch.float32), lr=lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        for _ in range(3):
            scheduler.step(1.0)  # the first is the best, and one more is borne
        return optimizer.rates()[0].lr

    assert lowered(0.5) == 0.05
    with pytest.raises(ConfigError, match=r"the schedule 0\.1/sqrt\(t\), taken for a number[^$]*Keep one of the two"):
        lowered("0.1/sqrt(t)")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"lr": "0.1 - 0.06*t"}, r"at t = 2: lr -0.02"),
        ({"betas": (0.9, "1.2 - 0.1*t")}, r"at t = 1: .*beta2 1.1"),
        ({"betas": ("2/t", 0.9)}, r"at t = 1: .*beta1 2"),
        ({"lr": "exp(1000*t)"}, r"at t = 1: lr inf"),
    ],
)
def test_a_schedule_that_leaves_its_domain_ends_at_that_step(arguments: dict[str, Any], text: str) -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p, **arguments)
    with pytest.raises(ConfigError, match=text):
        for step in range(1, 4):
            set_gradients([p], step)
            optimizer.step()
    assert all(torch.isfinite(q).all() for q in p)


def test_a_gradscaler_unscales_and_skips_as_with_torchs_adam() -> None:
    lists, optimizers = [parameters(torch.float32), parameters(torch.float32)], []
    optimizers = [GenericAdam(lists[0], lr=0.01), torch.optim.Adam(lists[1], lr=0.01, fused=True)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0) for _ in lists]
    for step in range(1, 8):
        set_gradients(lists, step)
        for group, optimizer, scaler in zip(lists, optimizers, scalers, strict=True):
            scaler.scale(torch.zeros(1))
            for p in group:
                if p.grad is not None:
                    p.grad.mul_(scaler.get_scale())
                    if step == 4:
                        p.grad.view(-1)[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(*lists, strict=True))
    assert optimizers[0].param_groups[0]["t"] == 6


def test_closures_hooks_and_groups_added_later() -> None:
    p = parameters(torch.float32)
    optimizer = GenericAdam(p[:1], lr=0.1)
    optimizer.add_param_group({"params": p[1:2], "lr": 0.2})
    assert [rates.lr for rates in optimizer.rates()] == [0.1, 0.2] and p[1] in optimizer.state
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    set_gradients([p], 1)
    assert optimizer.step(lambda: 3.0) == 3.0 and seen == [1]


REFUSED = [
    ({"lr": -1.0}, "lr: -1.0"),
    ({"lr": float("nan")}, "lr: nan"),
    ({"betas": (1.0, 0.9)}, "beta1: 1.0"),
    ({"betas": (0.9, 1.0)}, "beta2: 1.0"),
    ({"betas": (0.9, 0.0)}, "beta2: 0.0"),
    ({"eps": -1.0}, "eps: -1.0"),
    ({"v0": -1.0}, "v0: -1.0"),
    ({"weight_decay": float("inf")}, "weight_decay: inf"),
    ({"eps_in": "nowhere"}, "eps_in: nowhere"),
    ({"betas": 0.9}, "betas: 0.9"),
    ({"v0": "1/(s d)"}, "write|Write the number"),
    ({"lr": None}, "lr: None[^$]*a number, a Schedule or an expression[^$]*as in lr=0.001"),
    ({"lr": [0.1]}, r"lr: \[0.1\]"),
    ({"lr": torch.ones(2)}, "lr: tensor"),
    ({"betas": (None, 0.9)}, "beta1: None[^$]*as in beta1=0.9"),
    ({"betas": (0.9, {})}, "beta2: {}[^$]*as in beta2=0.999"),
    ({"eps": None}, "eps: None[^$]*a number here[^$]*as in eps=1e-8"),
    ({"weight_decay": Power(0.1, 0.5)}, "weight_decay: Power[^$]*a number here"),
    ({"v0": None}, "v0: None"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        GenericAdam(parameters(torch.float32), **arguments)


def test_sparse_and_complex_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ConfigError, match="sparse=False"):
        GenericAdam(embedding.parameters()).step()
    dense = nn.Parameter(torch.ones(2))
    dense.grad = torch.ones(2)
    both = GenericAdam([{"params": [dense]}, {"params": embedding.parameters()}])
    with pytest.raises(ConfigError, match="sparse=False"):
        both.step()
    assert dense.tolist() == [1.0, 1.0] and both.param_groups[0]["t"] == 0  # nothing has moved
    number = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    number.grad = torch.ones_like(number)
    with pytest.raises(ConfigError, match="view_as_real"):
        GenericAdam([number]).step()


def test_a_state_of_another_shape_is_refused() -> None:
    state = GenericAdam([nn.Parameter(torch.zeros(3))]).state_dict()
    with pytest.raises(ConfigError, match=r"shape \(3,\)"):
        GenericAdam([nn.Parameter(torch.zeros(4))]).load_state_dict(state)
    with pytest.raises(ConfigError, match="groups of"):
        GenericAdam(parameters(torch.float32)).load_state_dict(state)


def laid_out(values: torch.Tensor, how: str) -> torch.Tensor:
    """The same values, contiguous, with channels last, or with gaps between them."""
    if how == "gaps":
        return torch.stack([values] * 2, -1)[..., 0]
    return values.to(memory_format=torch.channels_last if how == "channels last" else torch.contiguous_format)


@pytest.mark.parametrize("parameters", ["contiguous", "channels last", "gaps"])
@pytest.mark.parametrize("gradients", ["contiguous", "channels last", "gaps"])
def test_memory_in_any_order_takes_the_same_step(parameters: str, gradients: str) -> None:
    """Torch's fused kernel goes through memory, whatever the strides: a number would get another one's gradient."""
    draw = torch.Generator().manual_seed(1)
    ends = []
    for how, of_gradients, kind in (
        (parameters, gradients, GenericAdam),
        ("contiguous", "contiguous", torch.optim.Adam),
    ):
        draw.manual_seed(1)
        start = torch.randn(4, 3, 5, 5, generator=draw), torch.randn(7, generator=draw)
        image, plain = nn.Parameter(laid_out(start[0], how)), nn.Parameter(start[1])
        optimizer = kind([image, plain], lr=0.1, betas=(0.5, 0.9))
        for _ in range(4):
            gradient = torch.randn(4, 3, 5, 5, generator=draw)
            image.grad, plain.grad = laid_out(gradient, of_gradients), torch.randn(7, generator=draw)
            optimizer.step()
        assert image.stride() == laid_out(start[0], how).stride()
        ends.append([image.detach(), plain.detach()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_model_that_turns_to_channels_last_later_takes_the_same_steps() -> None:
    image, other = nn.Parameter(torch.ones(4, 3, 5, 5)), nn.Parameter(torch.ones(4, 3, 5, 5))
    ours, theirs = GenericAdam([image]), torch.optim.Adam([other])
    for step in range(4):
        if step == 2:
            image.data = image.data.to(memory_format=torch.channels_last)
        gradient = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        image.grad, other.grad = gradient.to(memory_format=torch.channels_last), gradient
        ours.step()
        theirs.step()
        torch.testing.assert_close(image, other, rtol=1e-6, atol=1e-7)
