"""DistributedOptimizer against one process that sees the whole batch (Proposition 22), and its contract."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.agreement import agree, digest, refuse_drift, share_from_root

WORKERS, LOCAL = 4, 8
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)


def batch(step: int, worker: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + worker)
    inputs = torch.randn(LOCAL, 6, generator=generator, dtype=torch.float64)
    return inputs.to(dtype), (inputs.sum(1) > 0).long()


def run(world: World, dtype: torch.dtype, steps: int = 30, workers: int = WORKERS, **options: Any) -> nn.Module:
    model = network(dtype)
    optimizer = DistributedOptimizer(
        GenericAdam(model.parameters(), lr=0.01), world, model=model, workers=workers, **{"bucket_mb": 1e-4, **options}
    )
    accumulation = options.get("accumulation", 1)
    for step in range(1, steps + 1):
        for worker in optimizer.workers(step):
            inputs, labels = batch(step, worker, dtype)
            for x, y in zip(inputs.chunk(accumulation), labels.chunk(accumulation), strict=True):
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.add(loss, len(y))
        outcome = optimizer.step()
        optimizer.zero_grad()
        assert outcome.samples == workers * LOCAL and not outcome.skipped and not outcome.stop_asked
    return model


def whole_batch(dtype: torch.dtype, steps: int = 30) -> nn.Module:
    model = network(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(1, steps + 1):
        parts = [batch(step, worker, dtype) for worker in range(WORKERS)]
        inputs, labels = (torch.cat(x) for x in zip(*parts, strict=True))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"accumulation": 2}, {"determinism": "exact"}], ids=str)
def test_many_workers_equal_one_process_with_the_whole_batch(
    world: World, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert largest_difference(run(world, dtype, **options), whole_batch(dtype)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("workers", [WORKERS, 12])  # one node of the tree a rank, and several
def test_exact_mode_equals_one_rank_bit_for_bit(world: World, workers: int) -> None:
    here = run(world, torch.float32, workers=workers, determinism="exact")
    alone = run(SoloWorld(), torch.float32, workers=workers, determinism="exact")
    assert digest(here.parameters()) == digest(alone.parameters())


def test_exact_mode_clips_to_the_same_bits_in_buckets_of_any_size(world: World) -> None:
    options = {"determinism": "exact", "clip_norm": 0.05}
    found = [digest(run(world, torch.float32, bucket_mb=mb, **options).parameters()) for mb in (4.0, 3e-4, 1e-4)]
    assert len(set(found)) == 1


def test_half_precision_on_the_wire_stays_close(world: World) -> None:
    assert largest_difference(run(world, torch.float32, wire="fp16"), whole_batch(torch.float32)) < 0.02


@pytest.mark.parametrize("options", [{}, {"determinism": "exact"}, {"wire": "fp16"}, {"noise_every": 1}], ids=str)
def test_channels_last_changes_where_weights_lie_and_not_what_they_become(
    world: World, options: dict[str, Any]
) -> None:
    models = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1)).double().to(memory_format=layout)
        optimizer = DistributedOptimizer(GenericAdam(model.parameters(), lr=0.01), world, workers=WORKERS, **options)
        for step in range(1, 5):
            for worker in optimizer.workers(step):
                images = torch.randn(2, 3, 6, 6, dtype=torch.float64).to(memory_format=layout)
                loss = (model(images) ** 2).mean() * (worker + 1)
                loss.backward()
                optimizer.add(loss, 2)
            optimizer.step()
            optimizer.zero_grad()
        models.append(model)
    assert models[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert largest_difference(*models) < (1e-3 if "wire" in options else 1e-12)


def test_a_parameter_with_a_gradient_on_one_worker_only_is_averaged_over_all(world: World) -> None:
    used = nn.Parameter(torch.zeros(2))
    never = nn.Parameter(torch.ones(3))
    some = nn.Parameter(torch.zeros(2))
    optimizer = DistributedOptimizer(torch.optim.SGD([used, never, some], lr=1.0, weight_decay=0.5), world, workers=4)
    for step in range(1, 21):
        used.data.zero_()
        some.data.zero_()
        for worker in optimizer.workers(step):
            loss = (used * 2).sum()
            if worker == step % 4:
                loss = loss + (some * 8 * step).sum()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(used, torch.full((2,), -2.0))
        assert torch.equal(some, torch.full((2,), -2.0 * step))
        assert torch.equal(never, torch.ones(3)) and never.grad is None


def test_hooks_in_another_order_on_each_rank_do_not_mix_buckets(world: World) -> None:
    weights = [nn.Parameter(torch.zeros(300)) for _ in range(6)]
    optimizer = DistributedOptimizer(torch.optim.SGD(weights, lr=1.0), world, bucket_mb=1e-3)
    assert optimizer.bucket_count > 3
    for step in range(1, 21):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(100 * step + world.rank)).tolist()
        for weight in weights:
            weight.data.zero_()
        chain = torch.zeros(())
        for i in order:  # a chain fixes the order in which backward reaches the weights
            chain = chain * 1.0 + (weights[i] * (i + 1)).sum()
        chain.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert all(torch.equal(w, torch.full((300,), -(i + 1.0))) for i, w in enumerate(weights))


def test_one_collective_a_bucket_and_none_beyond(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("start_allreduce", "alltoall", "allgather", "broadcast", "allgather_bytes", "barrier"):
        original = getattr(world, name)
        monkeypatch.setattr(world, name, lambda *a, _o=original, _n=name, **k: (calls.append(_n), _o(*a, **k))[1])
    in_order = world.adds_in_order(world.zeros(1, torch.float64, world.device))
    for options, wanted in [({}, 1), ({"determinism": "exact"}, 1 if in_order else 2)]:
        model = network()
        optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world, model=model, bucket_mb=1e-4, **options)
        calls.clear()
        inputs, labels = batch(1, world.rank, torch.float64)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        assert len(calls) == wanted * optimizer.bucket_count


def test_weights_of_any_size_layout_and_kind_become_those_of_rank_0(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    original = world.broadcast
    monkeypatch.setattr(world, "broadcast", lambda tensor: (sent.append(tensor.nbytes), original(tensor))[1])

    def drawn(seed: int) -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(seed)
        large, small = torch.randn(3_000_001, generator=draw), [torch.randn(n, generator=draw) for n in (1, 300, 0)]
        strided = torch.randn(40, 30, generator=draw).t()
        images = torch.randn(2, 3, 900, 900, generator=draw).contiguous(memory_format=torch.channels_last)
        counts = torch.randint(0, 9, (), generator=draw)
        return [small[0], large, *small[1:], counts, strided, large.double(), images, small[1].half()]

    mine, roots = drawn(world.rank), drawn(0)
    share_from_root(world, mine)
    assert all(torch.equal(one, root) for one, root in zip(mine, roots, strict=True))
    assert mine[-2].is_contiguous(memory_format=torch.channels_last)
    in_place = [size for size in sent if size != mine[-2].nbytes]
    assert max(in_place) == 4 << 20 and len(sent) < 20


def test_a_sum_that_is_made_inside_of_backward_counts_as_waiting(world: World) -> None:
    """Else a rank that waits for a slow one would seem to be slow in backward itself."""
    model, said = network(), []
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world, bucket_mb=1e-4)
    optimizer.tell = said.append
    late = world.rank == world.size - 1 and world.size > 1
    time.sleep(0.5 if late else 0)
    started = time.perf_counter()
    model(torch.ones(1, 6, dtype=torch.float64)).sum().backward()
    backward = time.perf_counter() - started
    outcome = optimizer.step()
    assert said and said[::2] == ["wait"] * (len(said) // 2) and said[1::2] == ["backward"] * (len(said) // 2)
    assert 0 <= outcome.wait_in_backward <= min(outcome.wait_seconds, backward)
    if world.size > 1 and not late:
        assert outcome.wait_seconds > 0.3


def test_gradients_that_are_changed_by_hand_before_the_step_of_a_single_rank_count(world: World) -> None:
    model = network()
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), SoloWorld(), bucket_mb=1e-4)
    (model(torch.ones(1, 6, dtype=torch.float64)).sum() * 100).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert norm > 1 and optimizer.step().grad_norm == pytest.approx(1.0, rel=1e-6)


def test_a_stop_asked_for_on_one_rank_is_known_to_all(world: World) -> None:
    model = network()
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world)
    model(torch.ones(1, 6, dtype=torch.float64)).sum().backward()
    assert optimizer.step(stop=world.rank == world.size - 1).stop_asked


def test_a_nan_on_one_rank_makes_all_skip(world: World) -> None:
    model = network()
    before = digest(model.parameters())
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world)
    scale = float("nan") if world.rank == world.size - 1 else 1.0
    (model(torch.ones(1, 6, dtype=torch.float64)).sum() * scale).backward()
    assert optimizer.step().skipped
    assert digest(model.parameters()) == before


def test_clipping_bounds_the_averaged_gradient(world: World) -> None:
    weight = nn.Parameter(torch.zeros(4))
    optimizer = DistributedOptimizer(torch.optim.SGD([weight], lr=1.0), world, clip_norm=1.0)
    (weight * 10).sum().backward()
    assert optimizer.step().grad_norm == pytest.approx(20.0)
    assert weight.norm().item() == pytest.approx(1.0)


def test_ranks_start_from_rank_0s_weights(world: World) -> None:
    weight = nn.Parameter(torch.full((4,), float(world.rank)))
    DistributedOptimizer(torch.optim.SGD([weight], lr=1.0), world)
    assert torch.equal(weight, torch.zeros(4))


def test_frozen_weights_of_the_model_start_from_rank_0s_too_and_are_compared(world: World) -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight.requires_grad_(False), float(world.rank))
    optimizer = DistributedOptimizer(torch.optim.SGD([model.bias], lr=1.0), world, model=model, check_every=1)
    assert model.weight.eq(0.0).all()
    model.weight += float(world.rank == world.size - 1)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RunError, match="differ") if world.size > 1 else nullcontext():
        optimizer.step()


def test_ranks_that_froze_other_weights_are_told_of_which(world: World) -> None:
    model = nn.Linear(2, 2 + world.rank)
    model.weight.requires_grad_(False)
    some = nn.Parameter(torch.zeros(1))
    with pytest.raises(RunError, match="other weight 0 of the model is") if world.size > 1 else nullcontext():
        DistributedOptimizer(torch.optim.SGD([some], lr=1.0), world, model=model)


def test_batch_norm_takes_the_mean_over_workers_and_counts_a_step_once(world: World) -> None:
    model = nn.BatchNorm1d(2, momentum=1.0)
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), world, model=model, workers=4)
    for worker in optimizer.workers(1):
        model(torch.tensor([[worker, 0.0], [worker, 0.0]])).sum().backward()
    optimizer.step()
    assert model.running_mean is not None and model.num_batches_tracked is not None
    assert model.running_mean.tolist() == [1.5, 0.0]
    assert model.num_batches_tracked.item() == 1


def test_gradients_of_the_step_before_are_refused(world: World) -> None:
    model = network()
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world)
    inputs = torch.ones(1, 6, dtype=torch.float64)
    model(inputs).sum().backward()
    optimizer.step()
    with pytest.raises(RunError, match=r"Call optimizer\.zero_grad"):
        model(inputs).sum().backward()


def test_workers_that_ranks_cannot_share_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="workers: 0"):
        DistributedOptimizer(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), world, workers=0)


def test_a_drifted_rank_is_named(world: World) -> None:
    if world.size < 3:
        refuse_drift(world, [torch.ones(2)], "now")
        return
    with pytest.raises(RunError, match=f"rank {world.size - 1} differ"):
        refuse_drift(world, [torch.full((2,), float(world.rank == world.size - 1))], "now")


def test_different_facts_are_found_before_step_1(world: World) -> None:
    agree(world, {"the config": "same"})
    if world.size > 1:
        with pytest.raises(RunError, match="the number of steps is"):
            agree(world, {"the number of steps": world.rank})


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [None, 8.0], ids=["plain losses", "scaled losses"])
@pytest.mark.parametrize("options", [{}, {"accumulation": 2}, {"determinism": "exact"}, {"wire": "fp16"}], ids=str)
def test_every_workers_own_gradient_is_measured_before_it_joins_the_sum(
    world: World, dtype: torch.dtype, options: dict[str, Any], scale: float | None
) -> None:
    accumulation = options.get("accumulation", 1)
    model = network(dtype)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3) if scale else None
    adam = GenericAdam(model.parameters(), lr=0.01)
    optimizer = DistributedOptimizer(
        adam, world, model=model, workers=WORKERS, bucket_mb=1e-4, noise_every=3, scaler=scaler, **options
    )
    for step in range(1, 8):
        losses = []
        for worker in range(WORKERS):
            parts = [batch(10 * step + i, worker, dtype) for i in range(accumulation)]
            losses.append([nn.functional.cross_entropy(model(x), y) for x, y in parts])
        wanted = [torch.autograd.grad(sum(one) / accumulation, list(model.parameters())) for one in losses]  # type: ignore
        square = sum(float(g.double().square().sum()) for one in wanted for g in one) / WORKERS
        for worker in optimizer.workers(step):
            for i in range(accumulation):
                x, y = batch(10 * step + i, worker, dtype)
                loss = nn.functional.cross_entropy(model(x), y)
                (scaler.scale(loss) if scaler else loss).backward()
        outcome = optimizer.step()
        optimizer.zero_grad()
        if (step - 1) % 3:
            assert outcome.worker_square is None
        else:
            assert outcome.worker_square == pytest.approx(square, rel=1e-5)
            assert outcome.worker_square > outcome.grad_norm**2


def test_a_worker_without_a_gradient_of_a_parameter_counts_it_as_zero(world: World) -> None:
    some, all_ = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    optimizer = DistributedOptimizer(torch.optim.SGD([some, all_], lr=1.0), world, workers=4, noise_every=1)
    for step in (1, 2):
        for worker in optimizer.workers(step):
            loss = (all_ * (worker + 1)).sum()
            if worker == 1:
                loss = loss + (some * 8).sum()
            loss.backward()
        outcome = optimizer.step()
        optimizer.zero_grad()
        assert outcome.worker_square == pytest.approx((3 * (1 + 4 + 9 + 16) + 2 * 64) / 4)
        assert outcome.grad_norm**2 == pytest.approx(3 * 2.5**2 + 2 * 2**2)


@pytest.mark.parametrize("options", [{}, {"determinism": "exact"}], ids=str)
def test_measuring_changes_no_weight(world: World, options: dict[str, Any]) -> None:
    plain, measured = (run(world, torch.float32, noise_every=k, **options) for k in (0, 2))
    assert digest(plain.parameters()) == digest(measured.parameters())


def test_the_noise_scale_of_one_worker_is_refused(world: World) -> None:
    if world.size == 1:
        with pytest.raises(ConfigError, match="Set workers to 2 or more"):
            DistributedOptimizer(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), world, noise_every=1)
    else:
        DistributedOptimizer(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), world, noise_every=1)


@pytest.mark.parametrize("kind", [GenericAdam, torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("watched", [False, True])
def test_gradients_hold_the_mean_however_it_is_divided(world: World, kind: Any, watched: bool) -> None:
    """A fused step divides on its way; one that is watched by a hook finds the mean there before it begins."""
    weight = nn.Parameter(torch.zeros(5))
    seen: list[float] = []
    optimizer = kind([weight], lr=1.0) if kind is GenericAdam else kind([weight], lr=1.0, fused=True)
    if watched:
        optimizer.register_step_pre_hook(
            lambda inner, *_: seen.append(inner.param_groups[0]["params"][0].grad[0].item())
        )
    averaged = DistributedOptimizer(optimizer, world, workers=2 * world.size, clip_norm=100.0)
    for worker in averaged.workers(1):
        (weight * (worker + 1)).sum().backward()
    outcome = averaged.step()
    mean = (2 * world.size + 1) / 2
    assert weight.grad is not None and weight.grad.tolist() == [mean] * 5
    assert outcome.grad_norm == pytest.approx(mean * 5**0.5)
    assert seen == [mean] * watched
    assert not hasattr(optimizer, "grad_scale")
