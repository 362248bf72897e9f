"""A step that the ranks of a machine divide, against the same step that each makes whole: equal bit for bit."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import maps, open_world
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World, shared
from hvd_adam.comm.protocol import Seen
from hvd_adam.errors import RunError
from hvd_adam.optim import divided, generic_adam

SIZES = [(1,), (63,), (64,), (65, 3), (0, 4), (40, 50), (129,)]  # a cut falls into some, and beside others


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of small models are divided, too, and their parts made in many pieces."""
    monkeypatch.setattr(divided, "SMALLEST", 1)
    monkeypatch.setattr(divided, "_PIECE", 192)


def sharing() -> World:
    return open_world("horovod")


def weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(size, generator=draw, dtype=torch.float64).to(dtype)) for size in SIZES]


def wrapped(parameters: list[nn.Parameter], whole: bool = False, **options: Any) -> DistributedOptimizer:
    of_averaging = ("clip_norm", "check_every", "determinism", "share_weights")
    averaging = {name: options.pop(name) for name in of_averaging if name in options}
    with pytest.MonkeyPatch.context() as patch:
        if whole:
            patch.setattr(divided, "SMALLEST", 1 << 60)
        made = DistributedOptimizer(GenericAdam(parameters, **options), sharing(), bucket_mb=0.005, **averaging)
    assert (made._mean._divided is None) is (whole or sharing().size == 1)
    return made


def steps(optimizer: DistributedOptimizer, parameters: list[nn.Parameter], numbers: range) -> None:
    """Every rank gives its own gradients; the fourth parameter has none in each second step."""
    for step in numbers:
        draw = torch.Generator().manual_seed(100 * step + sharing().rank)
        optimizer.zero_grad()
        for place, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            if place != 3 or step % 2:
                parameter.grad = gradient.to(parameter.dtype)
        assert not optimizer.step().skipped


def state(optimizer: DistributedOptimizer) -> Iterator[torch.Tensor]:
    for one in optimizer.optimizer.state.values():
        yield from (value for _, value in sorted(one.items()))


def assert_equal(one: DistributedOptimizer, other: DistributedOptimizer) -> None:
    for a, b in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(a, b) and a.shape == b.shape
    for a, b in zip(state(one), state(other), strict=True):
        assert torch.equal(a, b) and a.shape == b.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True, "weight_decay": 0.1},
        {"betas": ("1 - 0.1/t", "1 - 0.5/(t + 1)"), "decoupled_weight_decay": True, "weight_decay": 0.1},
        {"bias_correction": False, "eps_in": "v0", "v0": 0.3, "lr": "0.1/sqrt(t)", "maximize": True},
        {"clip_norm": 0.5},
        {"determinism": "exact"},
    ],
    ids=str,
)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
@pytest.mark.parametrize("share_weights", [True, False], ids=["one memory", "own memory"])
def test_ranks_that_divide_a_step_make_the_same_one(
    dtype: torch.dtype, options: dict[str, Any], fused: bool, share_weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(generic_adam.kernel, "fused_available", lambda *kind: False)
    one, other = weights(dtype), weights(dtype)
    among_ranks, whole = wrapped(one, share_weights=share_weights, **options), wrapped(other, whole=True, **options)
    for step in range(1, 6):
        steps(among_ranks, one, range(step, step + 1))
        steps(whole, other, range(step, step + 1))
        assert_equal(among_ranks, whole)
    assert not torch.equal(one[5], weights(dtype)[5])


def test_every_rank_updates_about_as_much_and_no_number_is_left_out() -> None:
    world, parameters = sharing(), weights()
    if world.size == 1:
        pytest.skip("one rank has nobody to divide a step with")
    parts = wrapped(parameters)._mean._divided._parts
    mine = json.dumps([(part.here.start, part.here.stop) for part in parts.values()])
    spans = [json.loads(text) for text in world.allgather_bytes(mine.encode())]
    for place, parameter in enumerate(parameters):
        ends = [span[place] for span in spans]
        assert ends[0][0] == 0 and ends[-1][1] == parameter.numel()
        assert all(before[1] == after[0] for before, after in pairwise(ends))
        assert all(end % 64 == 0 or end == parameter.numel() for pair in ends for end in pair)
    each = [sum(end - begin for begin, end in span) for span in spans]
    assert max(each) - min(each) <= 2 * 64


@pytest.mark.parametrize("share_weights", [True, False], ids=["one memory", "own memory"])
def test_moments_are_one_memory_and_weights_each_ranks_own_unless_they_are_shared(share_weights: bool) -> None:
    world, parameters = sharing(), weights()
    optimizer = wrapped(parameters, share_weights=share_weights)
    steps(optimizer, parameters, range(1, 3))
    moment, before = optimizer.optimizer.state[parameters[5]]["exp_avg"], parameters[5].detach().clone()
    world.barrier()
    if world.rank == world.size - 1:
        with torch.no_grad():
            moment[0, 0], parameters[5][0, 0] = 77.0, 88.0
    world.barrier()
    assert moment[0, 0] == 77.0
    assert torch.equal(parameters[5], before) is not (share_weights or world.rank == world.size - 1)
    world.barrier()


@pytest.mark.parametrize("share_weights", [True, False], ids=["one memory", "own memory"])
def test_no_rank_goes_on_before_all_have_written(share_weights: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world, parameters, others = sharing(), weights(), weights()
    optimizer, whole = wrapped(parameters, share_weights=share_weights), wrapped(others, whole=True)
    update = divided.kernel.run

    def late(*given: Any) -> None:
        time.sleep(0.02)
        update(*given)

    if world.rank == world.size - 1:
        monkeypatch.setattr(divided.kernel, "run", late)
    for step in range(1, 4):
        steps(optimizer, parameters, range(step, step + 1))
        seen = [parameter.detach().clone() for parameter in parameters]
        steps(whole, others, range(step, step + 1))
        assert all(torch.equal(a, b) for a, b in zip(seen, others, strict=True))


def test_what_was_saved_goes_on_as_if_nothing_had_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded into a new optimizer, and over one that has gone elsewhere."""
    parameters, straight = weights(), weights()
    optimizer, whole = wrapped(parameters), wrapped(straight, whole=True)
    steps(optimizer, parameters, range(1, 4))
    file = io.BytesIO()
    torch.save({"weights": parameters, "optimizer": optimizer.state_dict()}, file)
    assert len(file.getvalue()) < 3 * 4 * sum(p.numel() for p in parameters) + 30_000  # and not the memory around them
    kept = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    steps(optimizer, parameters, range(7, 9))
    with torch.no_grad():
        for parameter, saved in zip(parameters, kept["weights"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(deepcopy(kept["optimizer"]))
    fresh = weights()
    for parameter, saved in zip(fresh, kept["weights"], strict=True):
        parameter.data = saved.detach().clone()
    another = wrapped(fresh)
    another.load_state_dict(kept["optimizer"])
    for parameter in fresh:  # elsewhere, as some ways of loading leave them; a step that is divided brings them back
        copies = torch.stack([parameter.detach()] * 2, -1)
        parameter.data = copies[..., 0] if sharing().size > 1 else copies[..., 0].contiguous()
    steps(whole, straight, range(1, 6))
    for one, its in ((optimizer, parameters), (another, fresh)):
        steps(one, its, range(4, 6))
        assert_equal(one, whole)


def test_who_makes_the_step_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another optimizer, strided weights, a small model, and ranks that do not see each other's memory."""
    world = sharing()

    def is_divided(optimizer: torch.optim.Optimizer) -> bool:
        made = DistributedOptimizer(optimizer, world)
        optimizer.param_groups[0]["params"][0].grad = torch.ones_like(optimizer.param_groups[0]["params"][0])
        made.step()
        return made._mean._divided is not None

    assert is_divided(GenericAdam([nn.Parameter(torch.ones(4, 2))])) is (world.size > 1)
    assert not is_divided(torch.optim.Adam([nn.Parameter(torch.ones(4, 2))]))
    assert not is_divided(GenericAdam([nn.Parameter(torch.ones(4, 2).t())]))
    mixed = torch.ones(2, 4, 2)[..., 0] if world.rank == world.size - 1 else torch.ones(2, 4)
    assert not is_divided(GenericAdam([nn.Parameter(mixed)]))
    with monkeypatch.context() as patch:
        patch.setattr(divided, "SMALLEST", 9)
        assert not is_divided(GenericAdam([nn.Parameter(torch.ones(4, 2))]))
    if world.rank == world.size - 1:
        monkeypatch.setattr(shared._Memory, "of_another", lambda memory, address: None)
    assert not is_divided(GenericAdam([nn.Parameter(torch.ones(4, 2))]))
    assert not is_divided_without_sharing()


def is_divided_without_sharing() -> bool:
    made = DistributedOptimizer(GenericAdam(weights()), open_world("mpi"))
    return made._mean._divided is not None


def test_a_rank_with_other_options_is_named_since_weights_no_longer_show_it() -> None:
    world, parameters = sharing(), weights()
    if world.size == 1:
        pytest.skip("one rank agrees with itself")
    optimizer = wrapped(parameters, check_every=2)
    steps(optimizer, parameters, range(1, 2))
    if world.rank == world.size - 1:
        optimizer.param_groups[0]["lr"] = 0.5
    said = "lr of parameter group 0 is .* on rank" if world.size == 2 else f'is "0.5" on rank {world.size - 1}'
    with pytest.raises(RunError, match=said):
        steps(optimizer, parameters, range(2, 3))


def test_ranks_are_compared_when_all_sums_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum may wait for all ranks, and ranks do not start them at the same place: nothing else comes between."""
    world, parameters = sharing(), weights()
    calls: list[str] = []
    for name in ("start_allreduce", "wait", "allgather_bytes", "meet"):
        original = getattr(world, name)
        monkeypatch.setattr(world, name, lambda *a, _o=original, _n=name, **k: (calls.append(_n), _o(*a, **k))[1])
    optimizer = wrapped(parameters, check_every=1)
    calls.clear()
    steps(optimizer, parameters, range(1, 2))
    buckets = optimizer.bucket_count
    compared = ["allgather_bytes"] * 2 + ["meet"] if world.size > 1 else []
    assert calls == ["start_allreduce"] * buckets + ["wait"] * buckets + compared + ["allgather_bytes"]


def test_a_model_that_was_converted_after_the_wrapping_is_refused() -> None:
    parameters = weights()
    if sharing().size == 1:
        pytest.skip("one rank has nobody who writes to where the weights were")
    optimizer = wrapped(parameters)
    for parameter in parameters:
        parameter.data = parameter.data.double()
    with pytest.raises(RunError, match=r"became one of 1, torch\.float64 on cpu"):
        steps(optimizer, parameters, range(1, 2))


def test_outside_of_the_averaging_the_optimizer_steps_as_ever() -> None:
    parameters, alone = weights(), weights()
    optimizer, plain = wrapped(parameters), GenericAdam(alone)
    copied = deepcopy(optimizer.optimizer)
    for one, other in zip(copied.param_groups[0]["params"], alone, strict=True):
        one.grad, other.grad = torch.ones_like(one), torch.ones_like(other)
    copied.step()
    plain.step()
    for one, other in zip(copied.param_groups[0]["params"], alone, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(parameters[5], weights()[5])  # a copy shares nothing


@pytest.mark.parametrize("share_weights", [True, False], ids=["one memory", "own memory"])
def test_models_that_are_gone_leave_no_memory_behind(share_weights: bool) -> None:
    def train() -> int:
        parameters = weights()
        steps(wrapped(parameters, share_weights=share_weights), parameters, range(1, 3))
        return maps()

    before = maps()
    assert train() > before or sharing().size == 1
    assert maps() == before


def test_all_see_what_one_writes_after_they_have_met(world: World) -> None:
    memory = world.seen(1000)
    world.meet()
    if memory is None:
        assert world.size == 1 or world._sums not in ("shared", "hierarchical")
        return
    ranks = world._here.Get_size()
    assert len(memory.everyones) == ranks
    assert not any(one.any() for one in memory.everyones)
    world.meet()
    for place, one in enumerate(memory.everyones):
        one[memory.own] = 10 * place + memory.own
    world.meet()
    for place, one in enumerate(memory.everyones):
        assert one.tolist() == [10 * place + rank for rank in range(ranks)] + [0] * (1000 - ranks)


def test_nobody_has_memory_where_one_wants_none() -> None:
    world = sharing()
    assert world.seen(0 if world.rank == world.size - 1 else 500) is None


def test_a_rank_that_is_alone_on_its_machine_updates_all(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, others = weights(), weights()
    whole = wrapped(others, whole=True)
    monkeypatch.setattr(sharing(), "seen", lambda size: Seen([torch.zeros(size, dtype=torch.uint8)], 0))
    optimizer = wrapped(parameters)
    for one, its in ((optimizer, parameters), (whole, others)):
        steps(one, its, range(1, 4))
    assert_equal(optimizer, whole)


@pytest.mark.parametrize("share_weights", [True, False], ids=["one memory", "own memory"])
def test_a_storage_that_torch_moves_is_brought_back(share_weights: bool) -> None:
    parameters, others = weights(), weights()
    optimizer, whole = wrapped(parameters, share_weights=share_weights), wrapped(others, whole=True)
    for step in range(1, 5):
        for one, its in ((optimizer, parameters), (whole, others)):
            steps(one, its, range(step, step + 1))
        assert_equal(optimizer, whole)
        if sharing().rank == 0:
            parameters[5].data.share_memory_()
            optimizer.optimizer.state[parameters[5]]["exp_avg"].share_memory_()


def test_parameters_without_state_get_a_fresh_one() -> None:
    """Unfrozen before the wrapping, or never stepped in a state of torch's Adam."""
    torchs, parameters, others = weights(), weights(), weights()
    lazy = torch.optim.Adam(torchs)
    torchs[5].grad = torch.ones_like(torchs[5])
    lazy.step()
    made = []
    for its, whole in ((parameters, False), (others, True)):
        its[0].requires_grad_(False)
        adam = GenericAdam(its)
        its[0].requires_grad_(True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(divided, "SMALLEST", 1 << 60 if whole else 1)
            made.append(DistributedOptimizer(adam, sharing()))
        steps(made[-1], its, range(1, 3))
        made[-1].load_state_dict(deepcopy(lazy.state_dict()))
        steps(made[-1], its, range(3, 5))
    assert_equal(*made)


def test_a_state_with_other_moments_is_refused() -> None:
    if sharing().size == 1:
        pytest.skip("one rank shares moments with nobody")
    parameters, others = weights(), weights()
    optimizer, other = wrapped(parameters), GenericAdam(others, amsgrad=True)
    optimizer.load_state_dict(other.state_dict())
    with pytest.raises(RunError, match="has exp_avg, exp_avg_sq, max_exp_avg_sq, and had exp_avg, exp_avg_sq when"):
        steps(optimizer, parameters, range(1, 2))


def test_hooks_see_whole_steps_and_what_they_change_counts_once() -> None:
    parameters, others = weights(), weights()
    seen: list[list[torch.Tensor]] = [[], []]
    made = [wrapped(parameters), wrapped(others, whole=True)]
    for place, its in enumerate((parameters, others)):

        def before(*given: Any, its: list[nn.Parameter] = its) -> None:
            time.sleep(0.01 * sharing().rank)
            with torch.no_grad():
                torch._foreach_mul_(its, 0.5)

        def after(*given: Any, its: list[nn.Parameter] = its, place: int = place) -> None:
            seen[place] += [one.detach().clone() for one in its]

        made[place].optimizer.register_step_pre_hook(before)
        made[place].optimizer.register_step_post_hook(after)
    for step in range(1, 4):
        for one, its in zip(made, (parameters, others), strict=True):
            steps(one, its, range(step, step + 1))
    assert len(seen[0]) == 3 * len(parameters)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_tied_weights_and_subclasses_are_updated_whole() -> None:
    class Mine(GenericAdam):
        """With a step of its own, perhaps."""

    tied = nn.Parameter(torch.ones(100))
    assert DistributedOptimizer(GenericAdam([tied, nn.Parameter(tied.data)]), sharing())._mean._divided is None
    assert DistributedOptimizer(Mine(weights()), sharing())._mean._divided is None
