"""Kept gradients that come in pieces, are set or changed by hand, or lie in memory that is not backward's alone."""

from __future__ import annotations

import pytest
import torch
from test_divided import assert_equal, sharing, small, weights
from test_kept import both, in_buckets, keeping, mean_over_ranks, scaled, tiny
from torch import nn
from torch.utils.checkpoint import checkpoint

from hvd_adam import DistributedOptimizer, GenericAdam

__all__ = ["small", "tiny"]  # fixtures that each test takes


@pytest.mark.parametrize("reentrant", [False, True], ids=["two calls", "reentrant checkpoints"])
def test_backward_may_come_in_pieces(reentrant: bool) -> None:
    """As of two losses, or of blocks that are computed again."""
    pairs = both()
    for _ in range(3):
        for optimizer, its in pairs:
            optimizer.zero_grad()
            halves = [its[:3], its[3:]]
            if reentrant:
                begin = torch.ones((), requires_grad=True)
                losses = [
                    checkpoint(lambda one, half=half: one * scaled(half), begin, use_reentrant=True) for half in halves
                ]
                torch.stack(losses).sum().backward()
            else:
                for half in halves:
                    scaled(half).backward()
            optimizer.step()
        assert_equal(pairs[0][0], pairs[1][0])


def change(parameter: nn.Parameter, how: str) -> None:
    """What a user may do to a gradient between backward and step."""
    gradient = parameter.grad
    assert gradient is not None
    rank, last = sharing().rank, sharing().size - 1
    if how == "seen transposed":
        parameter.grad = gradient.view(parameter.shape[::-1]).t()
    elif how == "changed in place":
        gradient.mul_(2.0 + rank)
    elif how == "replaced":
        parameter.grad = gradient * (5.0 + rank)
    elif how == "expanded":
        parameter.grad = torch.full((1, 1), 2.0 + rank).expand(parameter.shape)
    elif how == "transposed":
        parameter.grad = (gradient * (1.0 + rank)).t().contiguous().t()
    elif how == "with a graph":
        parameter.grad = torch.full(parameter.shape, 2.0 + rank, requires_grad=True) * 2.0
    elif how == "taken away everywhere" or (how == "taken away on the last rank" and rank == last):
        parameter.grad = None


@pytest.mark.parametrize("place", [3, 5], ids=["of one rank", "of several"])
@pytest.mark.parametrize(
    "how",
    [
        "changed in place",
        "replaced",
        "expanded",
        "transposed",
        "seen transposed",
        "with a graph",
        "taken away everywhere",
        "taken away on the last rank",
        "left",
    ],
)
def test_what_is_done_to_a_gradient_after_backward_counts(how: str, place: int) -> None:
    if sharing().size == 1:
        pytest.skip("one rank keeps none")
    kept_ones, others = weights(), weights()
    one, other = keeping(kept_ones), DistributedOptimizer(GenericAdam(others), sharing())  # one bucket: none has left
    for step in range(2):
        for optimizer, its in ((one, kept_ones), (other, others)):
            optimizer.zero_grad()
            scaled(its).backward()
            if step:
                change(its[place], how)
            before = its[place].detach().clone()
            optimizer.step()
        assert_equal(one, other)
    assert torch.equal(its[place], before) is (how == "taken away everywhere")


def test_one_tensor_as_the_gradient_of_two_counts_for_each() -> None:
    one, other = (nn.Parameter(torch.ones(300)) for _ in range(2))  # the first rank updates both
    parameters = [one, other, nn.Parameter(torch.ones(600 * (sharing().size - 1)))]
    optimizer = DistributedOptimizer(GenericAdam(parameters, lr=0.1, eps=1.0), sharing(), share_weights=True)
    one.grad = other.grad = torch.full((300,), 1.0 + sharing().rank)
    optimizer.step()
    assert torch.equal(one, other)
    mean = mean_over_ranks()
    torch.testing.assert_close(one.detach(), torch.full((300,), 1 - 0.1 * mean / (mean + 1.0)))


def test_a_gradient_set_by_hand_stays_as_it_was() -> None:
    parameters = weights()
    optimizer = keeping(parameters)
    mine = [torch.full_like(one, 1.0 + sharing().rank) for one in parameters]
    for _ in range(3):
        optimizer.zero_grad()
        for parameter, gradient in zip(parameters, mine, strict=True):
            parameter.grad = gradient
        assert not optimizer.step().skipped
        assert all(one.eq(1.0 + sharing().rank).all() for one in mine)


def test_gradients_that_autograd_leaves_in_one_memory_count_for_each() -> None:
    """Backward of views gives views of one gradient; a part of it is here the user's own."""
    sizes = [(40, 10), (10, 40), (400,)]
    pairs = [
        (make(its), its) for make in (keeping, in_buckets) for its in ([nn.Parameter(torch.ones(n)) for n in sizes],)
    ]
    flat = torch.linspace(1, 2, 800) * (1 + sharing().rank)
    before = flat.clone()
    for optimizer, (one, other, third) in pairs:
        (one.view(-1) * 3.0 + other.view(-1)).pow(2).sum().backward()
        torch.cat([(one.view(-1) + other.view(-1)), third]).backward(flat)
        optimizer.step()
        assert torch.equal(flat, before)
    assert_equal(pairs[0][0], pairs[1][0])


def test_zeros_that_a_user_keeps_as_gradients_are_added_to() -> None:
    pairs = both()
    for _ in range(3):
        for optimizer, its in pairs:
            optimizer.zero_grad(set_to_none=False)
            scaled(its).backward()
            optimizer.step()
    assert_equal(pairs[0][0], pairs[1][0])
