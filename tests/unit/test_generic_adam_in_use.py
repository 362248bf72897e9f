"""GenericAdam where people put it: compiled models, clipping, files read on one rank, no epsilon at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam.optim import generic_adam
from hvd_adam.optim.generic_adam import GenericAdam


def train(build: Any, compiled: bool, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    model: Any = torch.compile(network, backend="aot_eager") if compiled else network
    optimizer = build(model.parameters(), lr=0.01, **options)
    for step in range(20):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), (inputs.sum(1) > 0).long()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return network


@pytest.mark.parametrize("compiled", [False, True])
def test_clipping_and_compiled_models_give_what_torchs_adam_gives(compiled: bool) -> None:
    mine, theirs = train(GenericAdam, compiled), train(torch.optim.Adam, compiled, fused=True)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("source", [GenericAdam, torch.optim.Adam])
def test_a_loaded_state_leaves_the_groups_keys_as_they_were(source: Any) -> None:
    """Else hvd.broadcast_optimizer_state fails where only rank 0 has read the file."""
    p = nn.Parameter(torch.ones(2))
    optimizer = GenericAdam([p])
    before = set(optimizer.param_groups[0])
    p.grad = torch.ones(2)
    other = source([p])
    other.step()
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    assert set(optimizer.param_groups[0]) == before


def test_a_step_count_saved_as_a_number_goes_on() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = GenericAdam([p])
    p.grad = torch.ones(2)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["step"] = 1  # as old releases of torch wrote it
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 2


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_zero_over_zero_counts_as_zero_with_no_epsilon_anywhere(
    dtype: torch.dtype, correction: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(generic_adam.kernel, "fused_available", lambda *_: False)
    p = nn.Parameter(torch.ones(2, dtype=dtype))
    optimizer = GenericAdam([p], lr=0.5, eps=0.0, bias_correction=correction)
    p.grad = torch.tensor([0.0, 1.0], dtype=dtype)
    optimizer.step()
    assert p[0].item() == 1.0 and torch.isfinite(p).all() and p[1].item() != 1.0


@pytest.mark.parametrize("layout", ["transposed gradient", "parameter with gaps"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"amsgrad": True, "maximize": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_any_layout_takes_the_step_of_torchs_fused_kernel(
    dtype: torch.dtype, options: dict[str, Any], layout: str
) -> None:
    """Which is made in float32: in float16 the usual eps is 0, and what has no gradient would become nan."""
    start = torch.linspace(-1, 1, 24, dtype=dtype).view(6, 4)
    gapped = torch.stack([start] * 2, -1)[..., 0]
    ours, theirs = (
        nn.Parameter(gapped if layout == "parameter with gaps" else start.clone()),
        nn.Parameter(start.clone()),
    )
    mine, truth = GenericAdam([ours], lr=0.1, **options), torch.optim.Adam([theirs], lr=0.1, fused=True, **options)
    for step in range(5):
        gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(step)).to(dtype)
        gradient[0], gradient[1] = 0.0, 1e-4
        theirs.grad = gradient
        ours.grad = gradient.t().contiguous().t() if layout == "transposed gradient" else gradient.clone()
        mine.step()
        truth.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_without_epsilon_a_gradient_whose_square_is_no_number_any_more_moves_no_further_than_one(
    dtype: torch.dtype,
) -> None:
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    p = nn.Parameter(torch.zeros(1, dtype=dtype))
    optimizer = GenericAdam([p], lr=1.0, betas=(0.0, 0.5), eps_in="v0", bias_correction=False)
    p.grad = torch.full((1,), 0.5 * smallest**0.5, dtype=dtype)
    optimizer.step()
    assert -1.0 <= p.item() <= -0.25


def test_without_correction_theta_next_to_1_is_not_corrected() -> None:
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = GenericAdam([p], lr=1e-6, betas=(0.0, 1 - 1e-9), bias_correction=False, eps_in="v0")
    p.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    assert p.item() == pytest.approx(-1e-6 / 1e-9**0.5, rel=1e-6)
